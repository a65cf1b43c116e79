//! Log lines: made where they arise, written by a thread of their own. When standard output is blocked, lines are
//! dropped and counted; requests never wait.

use std::fmt::Write;
use std::sync::OnceLock;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use prometheus::IntCounter;
use serde_json::json;

use super::log_queue::LogQueue;
use crate::config::{LogFormat, limits};
use crate::proxy::{ACCESS_LOG, LineMemory};

thread_local!(static MEMORY: LineMemory = const { LineMemory::new() });

/// The process's logger.
static LOGGER: OnceLock<Telemetry> = OnceLock::new();

/// Writes lines to standard output.
pub struct Telemetry {
    format: LogFormat,
    queue: LogQueue,
    dropped: IntCounter,
}

impl Telemetry {
    /// Makes it the process's logger; a second call changes nothing. `dropped` counts lines that were not written.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn install(format: LogFormat, dropped: IntCounter) -> std::io::Result<()> {
        let logger = LOGGER.get_or_init(|| Self { format, queue: LogQueue::default(), dropped });
        // An error says that there is a logger already.
        if log::set_logger(logger).is_ok() {
            let write = || logger.queue.write_to(std::io::stdout());
            std::thread::Builder::new().name("log".into()).spawn(write)?;
            log::set_max_level(LevelFilter::Info);
        }
        Ok(())
    }

    /// Waits until what was logged is written, or standard output has been blocked for a second.
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
            LogFormat::Text => format!("time={time} level={level} message={}", json!(message)),
        }
    }
}

impl Log for Telemetry {
    /// Pingora's own lines below warnings describe each connection, and some hold raw bytes of requests.
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
            // It is copied before the queue is locked: what arguments do when they are written is their own affair.
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
