//! Time zones, as fixed offsets from UTC.

use std::time::{Duration, SystemTime};

/// The zones that are known by name, with their standard offsets in minutes.
const ZONES: [(&str, i64); 14] = [
    ("UTC", 0),
    ("GMT", 0),
    ("Z", 0),
    ("Europe/London", 0),
    ("Europe/Berlin", 60),
    ("Europe/Paris", 60),
    ("Europe/Vienna", 60),
    ("Asia/Kolkata", 330),
    ("Asia/Shanghai", 480),
    ("Asia/Tokyo", 540),
    ("Australia/Sydney", 600),
    ("America/New_York", -300),
    ("America/Chicago", -360),
    ("America/Los_Angeles", -480),
];

/// A fixed offset from UTC, in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(i64);

impl Offset {
    /// The offset of a zone known by name, or one written like `+02:00`.
    pub(crate) fn of(zone: &str) -> Result<Self, String> {
        let known = ZONES.iter().find(|(name, _)| name.eq_ignore_ascii_case(zone)).map(|(_, minutes)| *minutes);
        known.or_else(|| numeric(zone)).map(Self).ok_or_else(|| {
            let names = ZONES.map(|(name, _)| name).join(", ");
            format!("{zone:?} is neither an offset like +02:00 nor one of {names}")
        })
    }

    /// The time at this offset, like `2026-01-31T12:00:00+02:00`.
    pub(crate) fn format(self, time: SystemTime) -> String {
        let shift = Duration::from_secs(self.0.unsigned_abs() * 60);
        let shifted = if self.0 < 0 { time - shift } else { time + shift };
        let utc = humantime::format_rfc3339_seconds(shifted).to_string();
        let sign = if self.0 < 0 { '-' } else { '+' };
        let minutes = self.0.unsigned_abs();
        format!("{}{sign}{:02}:{:02}", utc.trim_end_matches('Z'), minutes / 60, minutes % 60)
    }
}

fn numeric(text: &str) -> Option<i64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str, limit: i64| -> Option<i64> {
        let two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| two_digits && *number < limit)
    };
    Some(sign * (number(hours, 24)? * 60 + number(minutes, 60)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_become_offsets() {
        for (zone, minutes) in [("utc", 0), ("Europe/Vienna", 60), ("+02:00", 120), ("-03:30", -210), ("+00:00", 0)] {
            assert_eq!(Offset::of(zone), Ok(Offset(minutes)), "{zone}");
        }
        for nonsense in ["", "Mars/Olympus", "+2:00", "+24:00", "+01:60", "02:00", "+-1:00", "é+02:00"] {
            assert!(Offset::of(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn times_shift_by_the_offset() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(43_200);
        assert_eq!(Offset(0).format(noon), "1970-01-01T12:00:00+00:00");
        assert_eq!(Offset(330).format(noon), "1970-01-01T17:30:00+05:30");
        assert_eq!(Offset(-480).format(noon), "1970-01-01T04:00:00-08:00");
    }
}
