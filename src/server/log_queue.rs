//! The queue of log lines for standard output. A thread that logs only appends its line. One writer thread writes many
//! lines at a time, and is woken only when it waits for lines.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::limits;

#[derive(Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Wakes the threads that wait in [`LogQueue::flush`].
    written: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// How many lines were added.
    lines: u64,
    /// How many of them were written.
    lines_written: u64,
    /// Whether the writer waits until it is woken.
    idle: bool,
}

impl LogQueue {
    /// Appends `line` and a newline. Returns false when there is no room for it.
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

    /// Waits until all lines that were added so far are written, but at most for `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        let lines = state.lines;
        while state.lines_written < lines {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes the lines to `out`. It never returns.
    #[expect(clippy::disallowed_methods, reason = "the writer has its own thread")]
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
            // When standard output is closed, the lines are lost. There is no other place to report this.
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

    /// Passes on what is written, one write for each message from the first channel.
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
    fn lines_are_written_in_order_and_lines_added_together_are_written_together() {
        let (queue, open, written) = start();
        assert!(queue.add("one"));
        open.send(()).expect("the writer runs");
        assert_eq!(written.recv().expect("the writer writes"), "one\n", "the first line does not wait for others");
        for line in ["two", "three"] {
            assert!(queue.add(line));
        }
        open.send(()).expect("the writer runs");
        queue.flush(Duration::from_secs(10));
        assert_eq!(written.try_recv().expect("`flush` waits for the lines"), "two\nthree\n");
    }

    #[test]
    fn lines_without_room_are_refused_and_adding_never_waits() {
        let (queue, open, written) = start();
        let line = "x".repeat(1 << 10);
        let mut taken = 0;
        while queue.add(&line) {
            taken += 1;
        }
        // The writer may have taken the first lines out of the queue before it was blocked.
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
