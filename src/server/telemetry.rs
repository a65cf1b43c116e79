//! Log lines. The thread that logs makes the line, and a separate thread writes it. When standard output is blocked,
//! lines are dropped and counted, so requests never wait.

use std::fmt::Write;
use std::sync::OnceLock;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use prometheus::IntCounter;
use serde_json::json;

use super::log_queue::LogQueue;
use crate::config::{LogFormat, limits};
use crate::proxy::{ACCESS_LOG, LineMemory, escaped_json};

thread_local!(static MEMORY: LineMemory = const { LineMemory::new() });

/// The logger of the process.
static LOGGER: OnceLock<Telemetry> = OnceLock::new();

/// Writes lines to standard output.
pub struct Telemetry {
    format: LogFormat,
    queue: LogQueue,
    dropped: IntCounter,
}

impl Telemetry {
    /// Installs the logger of the process. A second call changes nothing. `dropped` counts lines that were not written.
    ///
    /// # Errors
    /// The thread that writes lines cannot be started.
    pub fn install(format: LogFormat, dropped: IntCounter) -> std::io::Result<()> {
        let logger = LOGGER.get_or_init(|| Self { format, queue: LogQueue::default(), dropped });
        // An error means that there is already a logger.
        if log::set_logger(logger).is_ok() {
            let write = || logger.queue.write_to(std::io::stdout());
            std::thread::Builder::new().name("log".into()).spawn(write)?;
            log::set_max_level(LevelFilter::Info);
        }
        Ok(())
    }

    /// Waits until all lines so far are written, but at most for [`limits::LOG_FLUSH`].
    pub fn flush() {
        if let Some(logger) = LOGGER.get() {
            logger.queue.flush(limits::LOG_FLUSH);
        }
    }

    fn line(&self, record: &Record<'_>) -> String {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let (level, message) = (record.level().as_str(), record.args().to_string());
        match self.format {
            LogFormat::Json => {
                json!({"time": time, "level": level, "target": record.target(), "message": message}).to_string()
            }
            LogFormat::Text => {
                format!("time={time} level={level} message={}", escaped_json(&json!(message).to_string()))
            }
        }
    }
}

impl Log for Telemetry {
    /// Of Pingora's own lines, only warnings and errors are logged. Its other lines describe each connection, and some
    /// contain raw bytes of requests.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = if metadata.target().starts_with("pingora") { Level::Warn } else { Level::Info };
        metadata.level() <= most
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let taken = match record.args().as_str() {
            _ if record.target() != ACCESS_LOG => self.queue.add(&self.line(record)),
            Some(line) => self.queue.add(line),
            // The line is formatted before the queue is locked, because formatting runs code of the arguments, which
            // may do anything.
            None => {
                let write = |text: &mut String| {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{}", record.args());
                    self.queue.add(text)
                };
                MEMORY.with(|memory| memory.with(write))
            }
        };
        if !taken {
            self.dropped.inc();
        }
    }

    fn flush(&self) {
        Self::flush();
    }
}
