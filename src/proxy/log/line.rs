//! An access line: its fields, and the two formats.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::mcp::find_in_string;
use crate::proxy::text::{push_address, push_number};

/// What is logged of a request.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line<'a> {
    pub(super) time: Time,
    pub(super) request_id: &'a str,
    pub(super) client: IpAddr,
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<&'a str>,
    /// The route of the server that a gateway has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mcp_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mcp_tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<&'static str>,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// True when the answer broke off after its head.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) aborted: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) duration_ms: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream_ms: Option<Millis>,
}

impl Line<'_> {
    /// Appends the line as JSON: the same as serde_json writes (a property test compares them), at a third of the cost.
    pub(super) fn write_json(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        self.time.write(out);
        out.push('"');
        text(out, ",\"request_id\":\"", self.request_id);
        out.push_str(",\"client\":\"");
        push_address(out, self.client);
        out.push('"');
        text(out, ",\"method\":\"", self.method);
        text(out, ",\"host\":\"", self.host);
        text(out, ",\"path\":\"", self.path);
        for (key, value) in [
            (",\"route\":\"", self.route),
            (",\"server\":\"", self.server),
            (",\"endpoint\":\"", self.endpoint),
            (",\"subject\":\"", self.subject),
        ] {
            if let Some(value) = value {
                text(out, key, value);
            }
        }
        label(out, ",\"mcp_method\":\"", self.mcp_method);
        if let Some(tool) = self.mcp_tool {
            text(out, ",\"mcp_tool\":\"", tool);
        }
        label(out, ",\"outcome\":\"", self.outcome);
        out.push_str(",\"status\":");
        push_number(out, self.status.into());
        label(out, ",\"reason\":\"", self.reason);
        if self.aborted {
            out.push_str(",\"aborted\":true");
        }
        out.push_str(",\"bytes_in\":");
        push_number(out, self.bytes_in);
        out.push_str(",\"bytes_out\":");
        push_number(out, self.bytes_out);
        out.push_str(",\"duration_ms\":");
        self.duration_ms.write(out);
        if let Some(span) = self.upstream_ms {
            out.push_str(",\"upstream_ms\":");
            span.write(out);
        }
        out.push('}');
    }

    /// Appends the line as `key=value` pairs. A value with other than plain characters is quoted and escaped as a JSON string.
    pub(super) fn write_text(&self, out: &mut String) {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self) else { return };
        for (index, (key, value)) in fields.into_iter().enumerate() {
            let value = match value {
                serde_json::Value::String(value) if is_plain(&value) => value,
                other => escaped(&other.to_string()).into_owned(),
            };
            let separator = if index > 0 { " " } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(out, "{separator}{key}={value}");
        }
    }
}

/// A moment, to the millisecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(Duration);

impl Time {
    /// The time of the system's clock.
    pub(super) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Appends the time in the format of RFC 3339. Everything except the milliseconds is made once a second.
    fn write(self, out: &mut String) {
        thread_local!(static SECOND: Cell<(u64, String)> = const { Cell::new((u64::MAX, String::new())) });
        let (mut second, mut made) = SECOND.take();
        if second != self.0.as_secs() {
            second = self.0.as_secs();
            made = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
        }
        out.push_str(made.trim_end_matches('Z'));
        out.push('.');
        three_digits(out, self.0.subsec_millis());
        out.push('Z');
        SECOND.set((second, made));
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(UNIX_EPOCH + self.0))
    }
}

/// A span in milliseconds, to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Millis {
    micros: u64,
}

impl Millis {
    /// `span`, rounded.
    pub(super) fn of(span: Duration) -> Self {
        let micros = span.as_secs().saturating_mul(1_000_000);
        Self { micros: micros.saturating_add((u64::from(span.subsec_nanos()) + 500) / 1_000) }
    }

    fn write(self, out: &mut String) {
        push_number(out, self.micros / 1_000);
        out.push('.');
        three_digits(out, (self.micros % 1_000) as u32);
        // At least one digit stays.
        for _ in 0..2 {
            if out.ends_with('0') {
                out.pop();
            }
        }
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.micros as f64 / 1e3)
    }
}

/// Appends a string with its key. `key` includes the opening quote.
fn text(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    match find_in_string(value.as_bytes()) {
        None => out.push_str(value),
        Some(_) => {
            let quoted = serde_json::to_string(value).unwrap_or_default();
            out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
        }
    }
    out.push('"');
}

/// Appends a label with its key, if there is one. Labels are words of this program, so nothing has to be escaped.
fn label(out: &mut String, key: &str, label: Option<&'static str>) {
    if let Some(label) = label {
        out.push_str(key);
        out.push_str(label);
        out.push('"');
    }
}

/// JSON with what a terminal would take for a command, or would show in another order, in its escaped form: C1 controls, and the
/// marks for the direction of text (Unicode TR 36, section 3.2).
pub(crate) fn escaped(json: &str) -> Cow<'_, str> {
    let is_harmful = |sign: char| {
        sign.is_control()
            || matches!(sign, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if json.is_ascii() || !json.contains(is_harmful) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for sign in json.chars() {
        // All of them are in the basic plane, so four digits are enough. Writing to a string cannot fail.
        match is_harmful(sign) {
            true => drop(write!(out, "\\u{:04x}", u32::from(sign))),
            false => out.push(sign),
        }
    }
    Cow::Owned(out)
}

fn three_digits(out: &mut String, value: u32) {
    for place in [100, 10, 1] {
        out.push(char::from(b'0' + (value / place % 10) as u8));
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line<'a>(text: &'a str, other: Option<&'a str>) -> Line<'a> {
        Line {
            time: Time::now(),
            request_id: "r",
            client: IpAddr::from([192, 0, 2, 1]),
            method: "GET",
            host: text,
            path: "/p",
            route: other,
            server: other,
            endpoint: None,
            subject: other,
            mcp_method: None,
            mcp_tool: Some(text),
            outcome: None,
            status: 200,
            reason: None,
            aborted: false,
            bytes_in: 0,
            bytes_out: 0,
            duration_ms: Millis { micros: 1_500 },
            upstream_ms: None,
        }
    }

    #[test]
    fn values_cannot_leave_their_line_or_field() {
        for evil in ["a\nb", "a b=c", "\u{1b}[31m", "\"", "", "\u{9b}31m", "a\u{202e}b", "a\u{2066}b", "\u{7f}é"] {
            let mut text = String::new();
            line("t", Some(evil)).write_text(&mut text);
            let (_, shown) = text.split_once("subject=").expect("a subject");
            let shown = shown.split_once(" time=").expect("a time").0;
            assert_eq!(serde_json::from_str::<String>(shown).ok().as_deref(), Some(evil), "{text}");
            assert!(!text.contains(|sign: char| sign.is_control() || "\u{202e}\u{2066}".contains(sign)), "{text:?}");
        }
    }

    #[test]
    fn spans_are_rounded_to_microseconds() {
        for (nanos, micros) in [(0, 0), (499, 0), (500, 1), (1_234_567_499, 1_234_567), (1_999_999_500, 2_000_000)] {
            assert_eq!(Millis::of(Duration::from_nanos(nanos)), Millis { micros });
        }
        assert_eq!(Millis::of(Duration::MAX).micros, u64::MAX);
    }

    proptest! {
        #[test]
        fn json_is_what_serde_json_writes(
            text in "([a-z/]|[\"\\\\\u{0}-\u{1f}\u{7f}é\u{2028}😀]|\\PC){0,20}", other in proptest::option::of("[a-z\"\\\\]{0,9}"),
            client in any::<IpAddr>(), (status, bytes_in, bytes_out) in any::<(u16, u64, u64)>(), aborted: bool,
            micros in prop_oneof![0..10_000_u64, 0..1_u64 << 50], seconds in 0..100_000_000_000_u64, nanos in 0..1_000_000_000_u32,
        ) {
            let line = Line {
                time: Time(Duration::new(seconds, nanos)),
                client,
                endpoint: other.as_deref(),
                mcp_method: Some("tools/call"),
                outcome: other.as_ref().map(|_| "ok"),
                status,
                reason: other.as_ref().map(|_| "denied"),
                aborted,
                bytes_in,
                bytes_out,
                duration_ms: Millis { micros },
                upstream_ms: other.as_ref().map(|_| Millis { micros: micros / 1_000 * 1_000 }),
                ..line(&text, other.as_deref())
            };
            for time in [line.time, line.time, Time(Duration::ZERO)] {
                let line = Line { time, ..line.clone() };
                let mut written = String::new();
                line.write_json(&mut written);
                prop_assert_eq!(written, serde_json::to_string(&line).expect("it can be written"));
            }
        }
    }
}
