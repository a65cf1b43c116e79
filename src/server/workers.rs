//! The threads that serve connections.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::limits;

/// Each thread has an event loop of its own, and a connection stays where it has begun: what one request needs is in one
/// processor's caches, and nobody has to be woken for it. Threads that steal from each other took a quarter more time for
/// a request, with two of them (benches/README.md).
///
/// They end when this is dropped, and what they serve with them.
pub struct Workers {
    threads: Vec<Handle>,
    /// Where the next search for the least busy one begins.
    turn: AtomicUsize,
    /// The connections that are served.
    open: TaskTracker,
    stop: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` threads, and one at least.
    ///
    /// # Errors
    /// The system has no thread or descriptor to give.
    pub fn start(count: usize) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(());
        let start = |number: usize| {
            let (mut stopping, (ready, started)) = (stopping.clone(), mpsc::channel());
            let serve = move || match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = ready.send(Ok(runtime.handle().clone()));
                    // Either way they end; that the receiver is gone tells when this one has.
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

    /// No threads of its own: connections are served by the runtime that this is called on, and end with it.
    pub fn here() -> Self {
        Self::new(vec![Handle::current()], watch::Sender::new(()))
    }

    fn new(threads: Vec<Handle>, stop: watch::Sender<()>) -> Self {
        Self { threads, turn: AtomicUsize::new(0), open: TaskTracker::new(), stop }
    }

    /// Serves a connection on the thread that has the least to do: a task is a connection, or a stream of one.
    pub(super) fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) {
        // Those that are equally busy take turns.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        let (before, after) = self.threads.split_at(turn);
        let tasks = |thread: &&Handle| thread.metrics().num_alive_tasks();
        let least = after.iter().chain(before).min_by_key(tasks).unwrap_or(&self.threads[turn]);
        self.open.spawn_on(serving, least);
    }

    /// How many connections are served.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns when no connection is served. None may come any more.
    pub(super) async fn idle(&self) {
        self.open.close();
        self.open.wait().await;
    }

    /// Ends its own threads, with what is still served there. Returns when all of them have ended.
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
    async fn connections_go_where_the_fewest_are() {
        let workers = Workers::start(3).expect("there are threads");
        let seen = Arc::new(Mutex::new(HashMap::<ThreadId, usize>::new()));
        for _ in 0..30 {
            let seen = Arc::clone(&seen);
            workers.spawn(async move {
                *seen.lock().expect("nobody has panicked").entry(std::thread::current().id()).or_default() += 1;
                std::future::pending().await
            });
        }
        let all_run = || seen.lock().expect("nobody has panicked").values().sum::<usize>() == 30;
        let wait = async {
            while !all_run() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("all of them run");
        assert_eq!(seen.lock().expect("nobody has panicked").values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    }

    #[tokio::test]
    async fn threads_work_at_once_and_stopping_ends_what_they_serve() {
        let workers = Workers::start(2).expect("there are threads");
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
