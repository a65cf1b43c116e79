//! An invented stock market: the same ticker and time always give the same price.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest number of rows. A range with more rows is refused.
const MAX_ROWS: usize = 10_000;

/// The time one row covers.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Timespan {
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
}

impl Timespan {
    fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        })
    }
}

/// The prices within one timespan.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Row {
    /// When the timespan begins, in UTC.
    pub(crate) time: String,
    /// The first price.
    pub(crate) open: f64,
    /// The highest price.
    pub(crate) high: f64,
    /// The lowest price.
    pub(crate) low: f64,
    /// The last price.
    pub(crate) close: f64,
    /// Shares traded.
    pub(crate) volume: u32,
}

/// The rows from the first date to the last one, both like 2026-01-31 and both included.
pub(crate) fn rows(ticker: &str, from: &str, to: &str, timespan: Timespan) -> Result<Vec<Row>, String> {
    let (first, last) = (midnight(from)?, midnight(to)?);
    if last < first {
        return Err(format!("the range ends ({to}) before it begins ({from})"));
    }
    let step = timespan.duration();
    let mut rows = Vec::new();
    let mut time = first;
    while time <= last {
        if rows.len() == MAX_ROWS {
            return Err(format!("the range from {from} to {to} has more than {MAX_ROWS} rows"));
        }
        rows.push(row(ticker, time, step));
        time += step;
    }
    Ok(rows)
}

/// The rows as a text table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<20} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "time", "open", "high", "low", "close", "volume");
    for Row { time, open, high, low, close, volume } in rows {
        text += &format!("{time:<20} {open:>9.2} {high:>9.2} {low:>9.2} {close:>9.2} {volume:>9}\n");
    }
    text
}

fn midnight(date: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(&format!("{date}T00:00:00Z"))
        .map_err(|error| format!("{date:?} is not a date like 2026-01-31: {error}"))
}

fn row(ticker: &str, time: SystemTime, step: Duration) -> Row {
    let (mut dice, open) = (dice(ticker, time), price(ticker, time));
    // A row closes where the next one opens.
    let close = price(ticker, time + step);
    let spread = open.max(close) * 0.02;
    Row {
        time: humantime::format_rfc3339_seconds(time).to_string(),
        open,
        high: cents(open.max(close) + spread * dice.f64()),
        low: cents(open.min(close) - spread * dice.f64()),
        close,
        volume: dice.u32(1_000..1_000_000),
    }
}

/// The ticker's usual price, give or take 5 percent.
fn price(ticker: &str, time: SystemTime) -> f64 {
    let usual = 20.0 + (seed(ticker) % 480) as f64;
    // The second random number is used, because the first ones of neighbouring seeds are too similar.
    let mut dice = dice(ticker, time);
    dice.f64();
    cents(usual * (0.95 + 0.1 * dice.f64()))
}

fn cents(amount: f64) -> f64 {
    (amount * 100.0).round() / 100.0
}

fn dice(ticker: &str, time: SystemTime) -> fastrand::Rng {
    let second = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    fastrand::Rng::with_seed(seed(ticker) ^ second)
}

/// FNV-1a, which unlike the standard library's hash is the same in every build.
fn seed(ticker: &str) -> u64 {
    ticker.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_repeatable_continuous_and_include_both_dates() {
        let rows = rows("ACME", "2026-01-01", "2026-01-31", Timespan::Day).expect("a valid range");
        assert_eq!(rows.len(), 31);
        assert_eq!(rows[0].time, "2026-01-01T00:00:00Z");
        assert!(rows.windows(2).all(|pair| pair[0].close == pair[1].open));
        assert!(rows.iter().all(|row| row.low <= row.open.min(row.close) && row.high >= row.open.max(row.close)));
        assert_eq!(rows, super::rows("ACME", "2026-01-01", "2026-01-31", Timespan::Day).expect("a valid range"));
    }

    #[test]
    fn invalid_ranges_are_refused() {
        assert!(rows("ACME", "2026-01-02", "2026-01-01", Timespan::Day).is_err());
        assert!(rows("ACME", "yesterday", "2026-01-01", Timespan::Day).is_err());
        assert!(rows("ACME", "1980-01-01", "2026-01-01", Timespan::Hour).is_err());
    }
}
