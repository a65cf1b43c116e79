//! Wall-clock time in the form that tokens use.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z without leap seconds: `NumericDate` of RFC 7519 section 2.
pub type UnixSeconds = u64;

/// The current time. A clock that is set before 1970 gives 0 instead of a panic.
pub fn unix_now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
