//! Log lines: made where they arise, written by a thread of their own. When standard output is blocked, lines are
//! dropped and counted; requests never wait.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};
use prometheus::IntCounter;
use serde_json::json;

use crate::config::{LogFormat, limits};

/// The process's logger.
static LOGGER: OnceLock<Telemetry> = OnceLock::new();

enum Message {
    Line(String),
    /// Everything before it was written.
    Flush(SyncSender<()>),
}

/// Writes lines to standard output.
pub struct Telemetry {
    format: LogFormat,
    lines: SyncSender<Message>,
    dropped: IntCounter,
}

impl Telemetry {
    /// Makes it the process's logger; a second call changes nothing. `dropped` counts lines that were not written.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn install(format: LogFormat, dropped: IntCounter) -> std::io::Result<()> {
        let (lines, queue) = sync_channel(limits::LOG_QUEUE);
        std::thread::Builder::new().name("log".into()).spawn(move || write(&queue))?;
        let logger = LOGGER.get_or_init(|| Self { format, lines, dropped });
        // An error says that there is a logger already.
        if log::set_logger(logger).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
        Ok(())
    }

    /// Waits until what was logged is written, or standard output has been blocked for a second.
    pub fn flush() {
        let Some(logger) = LOGGER.get() else { return };
        let (done, written) = sync_channel(1);
        if logger.lines.try_send(Message::Flush(done)).is_ok() {
            // A time-out says that standard output is blocked: there is nobody to tell.
            let _ = written.recv_timeout(Duration::from_secs(1));
        }
    }

    fn line(&self, record: &Record<'_>) -> String {
        if record.target() == crate::proxy::ACCESS_LOG {
            return record.args().to_string();
        }
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
        if self.enabled(record.metadata()) && self.lines.try_send(Message::Line(self.line(record))).is_err() {
            self.dropped.inc();
        }
    }

    fn flush(&self) {
        Self::flush();
    }
}

fn write(queue: &Receiver<Message>) {
    let mut out = std::io::stdout();
    for message in queue {
        // A closed standard output loses lines; there is no place to say so.
        let _ = match message {
            Message::Line(line) => out.write_all((line + "\n").as_bytes()),
            Message::Flush(done) => {
                let _ = done.try_send(());
                out.flush()
            }
        };
    }
}
