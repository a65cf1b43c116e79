//! The threads that serve connections.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::limits;

/// The threads that serve connections. Each thread has its own event loop, and a connection stays on the thread where
/// it started. So the data of a request is in the caches of one processor, and no other thread has to be woken for it.
/// With two threads that steal tasks from each other, a request took a quarter more time (docs/performance.md).
///
/// When this is dropped, the threads end, and so do the connections that they serve.
pub struct Workers {
    threads: Vec<Handle>,
    /// Where the next search for the least busy thread begins.
    turn: AtomicUsize,
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
                    let _ = runtime.block_on(stopping.changed());
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
        Self { threads, turn: AtomicUsize::new(0), open: TaskTracker::new(), stop }
    }

    /// Serves a connection on the thread with the fewest tasks. A task is a connection, or an HTTP/2 stream.
    pub(super) fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) {
        // Threads that are equally busy take turns.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        let (before, after) = self.threads.split_at(turn);
        let tasks = |thread: &&Handle| thread.metrics().num_alive_tasks();
        let least = after.iter().chain(before).min_by_key(tasks).unwrap_or(&self.threads[turn]);
        self.open.spawn_on(serving, least);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};
    use std::thread::ThreadId;
    use tokio::sync::{Barrier, oneshot};

    #[tokio::test]
    async fn connections_go_to_the_thread_with_the_fewest() {
        let workers = Workers::start(3).expect("the threads start");
        let seen = Arc::new(Mutex::new(HashMap::<ThreadId, usize>::new()));
        for _ in 0..30 {
            let seen = Arc::clone(&seen);
            workers.spawn(async move {
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
        assert_eq!(seen.lock().expect("no thread has panicked").values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    }

    #[tokio::test]
    async fn threads_run_at_the_same_time_and_stop_ends_their_connections() {
        let workers = Workers::start(2).expect("the threads start");
        let barrier = Arc::new(Barrier::new(2));
        let mut dropped = Vec::new();
        for _ in 0..2 {
            let (barrier, (sender, receiver)) = (Arc::clone(&barrier), oneshot::channel::<()>());
            dropped.push(receiver);
            workers.spawn(async move {
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
