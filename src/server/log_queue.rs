//! Lines on their way to standard output. Those who log only append; one thread writes, many lines at a time, and is
//! woken only when it has had nothing to do.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::limits;

#[derive(Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// For the writer.
    wake: Condvar,
    /// For those who wait until lines are written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Lines that have come in, and of these those that were written.
    lines: u64,
    lines_written: u64,
    /// The writer waits without a limit.
    idle: bool,
}

impl LogQueue {
    /// Appends a line without its end. False when there is no room for it.
    pub(super) fn add(&self, line: &str) -> bool {
        let mut state = self.state();
        if state.bytes.len() + line.len() >= limits::LOG_BYTES {
            return false;
        }
        state.bytes.extend_from_slice(line.as_bytes());
        state.bytes.push(b'\n');
        state.lines += 1;
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.wake.notify_one();
        }
        true
    }

    /// Waits until all lines that have come in are written, or `patience` is at its end.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        let lines = state.lines;
        while state.lines_written < lines {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes lines to `out` for ever.
    #[expect(clippy::disallowed_methods, reason = "it has a thread of its own")]
    pub(super) fn write_to(&self, mut out: impl Write) {
        let mut bytes = Vec::new();
        let mut state = self.state();
        loop {
            while state.bytes.is_empty() {
                state.idle = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle = false;
            std::mem::swap(&mut state.bytes, &mut bytes);
            let lines = state.lines;
            drop(state);
            // A closed standard output loses lines; there is no place to say so.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            bytes.clear();
            bytes.shrink_to(limits::SMALL_BODY_BYTES);
            self.state().lines_written = lines;
            self.written.notify_all();
            std::thread::sleep(limits::LOG_PACE);
            state = self.state();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Hands on what is written, piece by piece, when it is told to.
    struct Gated(Receiver<()>, Sender<String>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.recv().map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            self.1.send(String::from_utf8_lossy(bytes).into_owned()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Arc<LogQueue>, Sender<()>, Receiver<String>) {
        let queue = Arc::new(LogQueue::default());
        let ((open, gate), (sender, written)) = (channel(), channel());
        std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.write_to(Gated(gate, sender))
        });
        (queue, open, written)
    }

    #[test]
    fn lines_are_written_in_order_and_together_when_they_come_together() {
        let (queue, open, written) = start();
        assert!(queue.add("one"));
        open.send(()).expect("the writer is there");
        assert_eq!(written.recv().expect("it writes"), "one\n", "the first does not wait for others");
        for line in ["two", "three"] {
            assert!(queue.add(line));
        }
        open.send(()).expect("the writer is there");
        queue.flush(Duration::from_secs(10));
        assert_eq!(written.try_recv().expect("it was written before `flush` was done"), "two\nthree\n");
    }

    #[test]
    fn what_finds_no_room_is_refused_and_nobody_waits() {
        let (queue, open, written) = start();
        let line = "x".repeat(1 << 10);
        let mut taken = 0;
        while queue.add(&line) {
            taken += 1;
        }
        // The writer may have taken the first ones out before it was blocked.
        let room = limits::LOG_BYTES / (line.len() + 1);
        assert!((room..=2 * room).contains(&taken), "{taken}");
        let begun = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50));
        drop(open);
        queue.flush(Duration::from_secs(10));
        assert!(written.try_recv().is_err());
        assert!(queue.add(&line), "there is room again");
    }
}
