//! The threads that serve connections.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::config::limits;

/// The threads that serve connections. Each thread has its own event loop and accepts connections itself, and a connection
/// stays on the thread where it started. So the data of a request is in the caches of one processor, and no other thread has to be woken for it.
/// With two threads that steal tasks from each other, a request took a quarter more time (docs/performance.md).
///
/// When this is dropped, the threads end, and so do the connections that they serve.
pub struct Workers {
    threads: Vec<Handle>,
    /// The open connections.
    open: TaskTracker,
    stop: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` threads, but at least one.
    ///
    /// # Errors
    /// The system does not allow another thread or file descriptor.
    pub fn start(count: usize) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(());
        let start = |number: usize| {
            let (mut stopping, (ready, started)) = (stopping.clone(), mpsc::channel());
            let serve = move || match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = ready.send(Ok(runtime.handle().clone()));
                    // The thread ends when a value was sent and also when the sender is gone. `stopping` is dropped
                    // when the thread has ended, which `Workers::stop` waits for.
                    let _ = runtime.block_on(async {
                        tokio::select! {
                            changed = stopping.changed() => changed,
                            never = keep_a_timer() => match never {},
                        }
                    });
                    runtime.shutdown_timeout(limits::LAST_BREATH);
                }
                Err(error) => drop(ready.send(Err(error))),
            };
            std::thread::Builder::new().name(format!("edge-{number}")).spawn(serve)?;
            started.recv().map_err(io::Error::other)?
        };
        let threads = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self::new(threads, stop))
    }

    /// Starts no threads. The runtime that calls this serves the connections, and they end with it.
    pub fn here() -> Self {
        Self::new(vec![Handle::current()], watch::Sender::new(()))
    }

    fn new(threads: Vec<Handle>, stop: watch::Sender<()>) -> Self {
        Self { threads, open: TaskTracker::new(), stop }
    }

    /// How many threads there are.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Runs `task` on a thread.
    pub(super) fn spawn_on(&self, thread: usize, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.threads[thread].spawn(task)
    }

    /// Serves a connection on the thread that calls this.
    pub(super) fn open_here(&self, serving: impl Future<Output = ()> + Send + 'static) {
        self.open.spawn(serving);
    }

    /// Serves a connection on a thread.
    pub(super) fn open_on(&self, thread: usize, serving: impl Future<Output = ()> + Send + 'static) {
        self.open.spawn_on(serving, &self.threads[thread]);
    }

    /// A thread that has so much less to do than `thread` that moving a new connection there pays. The system spreads
    /// connections over the threads without regard to how many they have; a few long ones could all come to the same.
    pub(super) fn less_busy(&self, thread: usize) -> Option<usize> {
        if self.threads.len() == 1 {
            return None;
        }
        // A task is a connection, or an HTTP/2 stream.
        let tasks = |thread: usize| self.threads[thread].metrics().num_alive_tasks();
        let (own, others) = (tasks(thread), (0..self.threads.len()).filter(|other| *other != thread));
        let (least, other) = others.map(|other| (tasks(other), other)).min()?;
        (own > least + own / 4).then_some(other)
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns when no connection is open. After this call, no connection may be added.
    pub(super) async fn idle(&self) {
        self.open.close();
        self.open.wait().await;
    }

    /// Ends the threads that [`Workers::start`] has started, and the connections that they still serve. Returns when
    /// all these threads have ended.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(());
        self.stop.closed().await;
    }
}

/// Keeps a timer that goes off soon. Tokio wakes its event loop with a system call for each timer that is earlier than all
/// others: without this, for a timer of every connection when few are open.
async fn keep_a_timer() -> Infallible {
    loop {
        tokio::time::sleep(limits::TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};
    use std::thread::ThreadId;
    use tokio::sync::{Barrier, oneshot};

    #[tokio::test]
    async fn threads_that_get_all_connections_hand_some_over() {
        let workers = Workers::start(3).expect("the threads start");
        let seen = Arc::new(Mutex::new(HashMap::<ThreadId, usize>::new()));
        for _ in 0..30 {
            let seen = Arc::clone(&seen);
            // The system gives all connections to the first thread.
            let thread = workers.less_busy(0).unwrap_or(0);
            workers.open_on(thread, async move {
                *seen.lock().expect("no thread has panicked").entry(std::thread::current().id()).or_default() += 1;
                std::future::pending().await
            });
        }
        let all_run = || seen.lock().expect("no thread has panicked").values().sum::<usize>() == 30;
        let wait = async {
            while !all_run() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("all tasks run");
        let mut counts: Vec<usize> = seen.lock().expect("no thread has panicked").values().copied().collect();
        counts.sort_unstable();
        assert!(counts.len() == 3 && counts[0] >= 8 && counts[2] <= 13, "{counts:?}");
    }

    #[tokio::test]
    async fn threads_run_at_the_same_time_and_stop_ends_their_connections() {
        let workers = Workers::start(2).expect("the threads start");
        let barrier = Arc::new(Barrier::new(2));
        let mut dropped = Vec::new();
        for thread in 0..2 {
            let (barrier, (sender, receiver)) = (Arc::clone(&barrier), oneshot::channel::<()>());
            dropped.push(receiver);
            workers.open_on(thread, async move {
                let _held = sender;
                barrier.wait().await;
                std::future::pending().await
            });
        }
        workers.stop().await;
        for receiver in &mut dropped {
            assert!(receiver.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        }
        assert_eq!(workers.open(), 0);
    }
}
