//! The idle HTTP/1 connections of one replica.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use thread_local::ThreadLocal;
use tokio::io::AsyncReadExt;

use super::wire::Wire;
use crate::config::limits;

/// Each thread keeps those that it has used: its event loop hears of them. Those that were released last are taken first, so
/// that the others grow old and are closed.
#[derive(Default)]
pub(super) struct IdleConnections(ThreadLocal<Mutex<VecDeque<Idle>>>);

struct Idle {
    stream: Wire,
    since: Instant,
}

impl IdleConnections {
    /// One that was released at most `timeout` ago, and that the replica has neither closed nor written to; where this thread
    /// has none, one of another thread's.
    pub(super) fn take(&self, timeout: Duration) -> Option<Wire> {
        let own = self.0.get_or_default();
        // Functions, so that nothing is looked at or closed inside a lock.
        let pop_own = || lock(own).pop_back();
        while let Some(mut idle) = pop_own() {
            if idle.is_good(timeout) {
                return Some(idle.stream);
            }
        }
        let pop_movable = |list: &Mutex<VecDeque<Idle>>| lock(list).pop_back_if(|idle| idle.stream.can_move());
        for list in self.0.iter() {
            while let Some(idle) = pop_movable(list) {
                if idle.is_young(timeout)
                    && let Some(stream) = idle.stream.moved_here()
                {
                    return Some(stream);
                }
            }
        }
        None
    }

    /// Keeps `stream`, on which an exchange has ended; the oldest goes when there are too many.
    pub(super) fn put(&self, stream: Wire) {
        let mut idle = lock(self.0.get_or_default());
        let oldest = if idle.len() >= limits::IDLE_PER_ENDPOINT { idle.pop_front() } else { None };
        idle.push_back(Idle { stream, since: Instant::now() });
        drop(idle);
        // Closed here, outside the lock.
        drop(oldest);
    }

    /// Closes those that were released more than `timeout` ago, and those that the replica has closed.
    pub(super) fn sweep(&self, timeout: Duration) {
        for list in self.0.iter() {
            let all = std::mem::take(&mut *lock(list));
            let (mut kept, mut gone) = (VecDeque::new(), Vec::new());
            for mut idle in all {
                if idle.is_good(timeout) {
                    kept.push_back(idle);
                } else {
                    gone.push(idle);
                }
            }
            let mut idle = lock(list);
            // What was released meanwhile is younger.
            let younger = std::mem::replace(&mut *idle, kept);
            idle.extend(younger);
            drop(idle);
            drop(gone);
        }
    }

    fn count(&self) -> usize {
        self.0.iter().map(|list| lock(list).len()).sum()
    }
}

impl Idle {
    fn is_good(&mut self, timeout: Duration) -> bool {
        self.is_young(timeout) && is_quiet(&mut self.stream)
    }

    fn is_young(&self, timeout: Duration) -> bool {
        self.since.elapsed() < timeout
    }
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for IdleConnections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IdleConnections").field(&self.count()).finish()
    }
}

/// True when nothing has come in: neither the connection's end, nor bytes that would be taken for the next answer.
fn is_quiet(stream: &mut Wire) -> bool {
    let mut byte = [0; 1];
    // Without a budget, which would look like silence when it is used up.
    let read = pin!(tokio::task::unconstrained(stream.read(&mut byte)));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    const LONG: Duration = Duration::from_secs(60);

    /// A connection to a replica, and the replica's side of it.
    async fn connected() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let edge = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("it listens");
        let (replica, _) = listener.accept().await.expect("a client");
        (Wire::Tcp(edge), replica)
    }

    fn id(wire: &Wire) -> std::net::SocketAddr {
        let Wire::Tcp(stream) = wire else { panic!("it is cleartext") };
        stream.local_addr().expect("it is connected")
    }

    #[tokio::test]
    async fn the_last_one_is_taken_first_and_the_old_are_closed() {
        let idle = IdleConnections::default();
        let ((first, _one), (second, _two)) = (connected().await, connected().await);
        let ids = [id(&first), id(&second)];
        idle.put(first);
        idle.put(second);
        assert_eq!(idle.take(LONG).as_ref().map(id), Some(ids[1]));
        assert!(idle.take(Duration::ZERO).is_none(), "its time is over");
        assert!(idle.take(LONG).is_none(), "it was closed");
    }

    #[tokio::test]
    async fn what_has_ended_or_spoken_is_not_taken() {
        for speaks in [true, false] {
            let idle = IdleConnections::default();
            let (stream, mut replica) = connected().await;
            idle.put(stream);
            match speaks {
                true => replica.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("the edge is there"),
                false => drop(replica),
            }
            // Until the event loop has heard of it.
            let heard = async {
                while let Some(stream) = idle.take(LONG) {
                    idle.put(stream);
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), heard).await.expect("it is heard of");
        }
    }

    #[tokio::test]
    async fn a_sweep_closes_what_is_old_or_dead_and_keeps_the_rest() {
        let idle = IdleConnections::default();
        let ((dead, replica), (good, _open)) = (connected().await, connected().await);
        let kept = id(&good);
        idle.put(dead);
        idle.put(good);
        drop(replica);
        let swept = async {
            while idle.count() > 1 {
                idle.sweep(LONG);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), swept).await.expect("it is heard of");
        assert_eq!(idle.0.iter().find_map(|list| lock(list).front().map(|idle| id(&idle.stream))), Some(kept));
        idle.sweep(Duration::ZERO);
        assert_eq!(idle.count(), 0);
    }

    #[tokio::test]
    async fn a_thread_takes_its_own_first_and_then_those_of_others_with_its_own_event_loop() {
        let idle = IdleConnections::default();
        let (stream, _replica) = connected().await;
        let own = id(&stream);
        idle.put(stream);
        let elsewhere = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
            let (good, replica) = runtime.block_on(connected());
            idle.put(good);
            // Of its end that loop never hears.
            let (ended, _) = runtime.block_on(connected());
            idle.put(ended);
            (runtime, replica.into_std().expect("it is open"))
        };
        // That event loop stays, but nobody turns it any more.
        let (runtime, mut replica) =
            std::thread::scope(|scope| scope.spawn(elsewhere).join()).expect("nobody has panicked");
        assert_eq!(idle.take(LONG).as_ref().map(id), Some(own));
        let mut moved = idle.take(LONG).expect("the other thread's");
        std::io::Write::write_all(&mut replica, b"x").expect("it is open");
        let read = tokio::time::timeout(Duration::from_secs(10), moved.read_u8()).await;
        assert_eq!(read.expect("it is heard of").expect("a byte"), b'x');
        assert!(idle.take(LONG).is_none());
        runtime.shutdown_background();
    }
}
