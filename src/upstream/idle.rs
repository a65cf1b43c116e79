//! The idle HTTP/1 connections of one replica.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use socket2::SockRef;
use thread_local::ThreadLocal;
use tokio::io::AsyncReadExt;

use super::wire::Wire;
use crate::config::limits;

/// A list of idle connections for each thread. A thread keeps the connections that it used last, because its event loop
/// gets their events. The connection that was released last is taken first, so that the others grow old and are closed.
#[derive(Default)]
pub(super) struct IdleConnections(ThreadLocal<Mutex<VecDeque<Idle>>>);

struct Idle {
    stream: Wire,
    since: Instant,
}

impl IdleConnections {
    /// Takes a connection that was released less than `timeout` ago, and that the replica has neither closed nor
    /// written to. If this thread has no such connection, takes one from another thread.
    pub(super) fn take(&self, timeout: Duration) -> Option<Wire> {
        let own = self.0.get_or_default();
        // `pop_own` and `pop_movable` are closures, so that no connection is checked or closed while the lock is held.
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

    /// Keeps `stream`, on which an exchange has ended. When this thread has too many connections, the oldest is closed.
    pub(super) fn put(&self, stream: Wire) {
        let mut idle = lock(self.0.get_or_default());
        let oldest = if idle.len() >= limits::IDLE_PER_ENDPOINT { idle.pop_front() } else { None };
        idle.push_back(Idle { stream, since: Instant::now() });
        drop(idle);
        // The oldest connection is closed here, outside the lock.
        drop(oldest);
    }

    /// Closes connections that were released `timeout` ago or earlier, and connections that the replica has closed or
    /// written to.
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
            // Connections that were released in the meantime are younger.
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

/// True when nothing has arrived: neither the end of the connection, nor bytes that would be read as the next response.
fn is_quiet(stream: &mut Wire) -> bool {
    if let Wire::Tcp(stream) = stream {
        // The event loop may not have noticed yet what has arrived. The kernel knows.
        let peeked = SockRef::from(&*stream).peek(&mut [MaybeUninit::uninit()]);
        return peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    }
    // With TLS, the kernel would also show records that do not belong to an answer, such as session tickets. So TLS itself is
    // asked.
    let mut byte = [0; 1];
    // `unconstrained`, because a read that has used up Tokio's cooperative budget returns `Pending`, as if nothing had
    // arrived.
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
        let edge = TcpStream::connect(listener.local_addr().expect("the listener is bound")).await.expect("it listens");
        let (replica, _) = listener.accept().await.expect("a client");
        (Wire::Tcp(edge), replica)
    }

    fn id(wire: &Wire) -> std::net::SocketAddr {
        let Wire::Tcp(stream) = wire else { panic!("the connection is cleartext") };
        stream.local_addr().expect("the stream is connected")
    }

    #[tokio::test]
    async fn the_connection_released_last_is_taken_first_and_old_ones_are_closed() {
        let idle = IdleConnections::default();
        let ((first, _one), (second, _two)) = (connected().await, connected().await);
        let ids = [id(&first), id(&second)];
        idle.put(first);
        idle.put(second);
        assert_eq!(idle.take(LONG).as_ref().map(id), Some(ids[1]));
        assert!(idle.take(Duration::ZERO).is_none(), "the connection is too old");
        assert!(idle.take(LONG).is_none(), "the connection was closed");
    }

    #[tokio::test]
    async fn a_connection_that_the_replica_closed_or_wrote_to_is_not_taken() {
        for replica_writes in [true, false] {
            let idle = IdleConnections::default();
            let (stream, mut replica) = connected().await;
            idle.put(stream);
            match replica_writes {
                true => replica.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("the edge is there"),
                false => drop(replica),
            }
            // The event loop has not run since then.
            assert!(idle.take(LONG).is_none());
        }
    }

    #[tokio::test]
    async fn a_sweep_closes_old_and_dead_connections_and_keeps_the_others() {
        let idle = IdleConnections::default();
        let ((dead, replica), (good, _open)) = (connected().await, connected().await);
        let kept = id(&good);
        idle.put(dead);
        idle.put(good);
        drop(replica);
        idle.sweep(LONG);
        assert_eq!(idle.0.iter().find_map(|list| lock(list).front().map(|idle| id(&idle.stream))), Some(kept));
        idle.sweep(Duration::ZERO);
        assert_eq!(idle.count(), 0);
    }

    #[tokio::test]
    async fn a_thread_takes_its_own_connections_first_and_then_moves_those_of_other_threads() {
        let idle = IdleConnections::default();
        let (stream, _replica) = connected().await;
        let own = id(&stream);
        idle.put(stream);
        let elsewhere = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
            let (good, replica) = runtime.block_on(connected());
            idle.put(good);
            // That event loop never notices that this connection has ended.
            let (ended, _) = runtime.block_on(connected());
            idle.put(ended);
            (runtime, replica.into_std().expect("the connection is open"))
        };
        // The event loop of the other thread still exists, but it does not run any more.
        let (runtime, mut replica) =
            std::thread::scope(|scope| scope.spawn(elsewhere).join()).expect("the thread has not panicked");
        assert_eq!(idle.take(LONG).as_ref().map(id), Some(own));
        let mut moved = idle.take(LONG).expect("the connection of the other thread");
        std::io::Write::write_all(&mut replica, b"x").expect("the connection is open");
        let read = tokio::time::timeout(Duration::from_secs(10), moved.read_u8()).await;
        assert_eq!(read.expect("the event loop notices").expect("a byte"), b'x');
        assert!(idle.take(LONG).is_none());
        runtime.shutdown_background();
    }
}
