//! Exit codes and output, which the commands share.

use std::io::Write;
use std::process::ExitCode;

/// Wrong arguments, or a configuration that does not load. Nothing was bound, nothing was changed.
pub(super) const EXIT_USAGE: u8 = 2;

/// Writes a line to standard error.
pub(super) fn report(text: &str) {
    // If standard error is closed, the text cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a line to standard output, and returns the exit code for that.
pub(super) fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
