//! Wall-clock time as tokens count it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z without leap seconds: `NumericDate` of RFC 7519 section 2.
pub type UnixSeconds = u64;

/// The present moment; a clock before 1970 reads as 0, so that nothing panics and every token is "not yet valid".
pub fn unix_now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
