//! Scalars as written in YAML: durations, sizes, names, header fields. Each type parses itself, and its errors say what
//! to write instead.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::types::bounds::LONGEST_DURATION;
use crate::types::{HostPattern, NamePattern, OriginPattern, PublicUrl, Scope};

/// Defines a scalar type that is written as a string: with its parser, its display form and its JSON Schema.
macro_rules! text_scalar {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:expr, $show:expr, $schema_name:literal, $pattern_doc:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($pattern_doc)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        /// Shows the value as an operator would write it.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&$inner) -> String = $show;
                f.write_str(&show(&self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema_name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $pattern_doc})
            }
        }
    };
}

text_scalar!(
    /// A duration: a whole number and a unit.
    Span(Duration),
    parse_duration,
    show_duration,
    "Duration",
    "a duration such as `500ms`, `30s`, `5m`, `2h` or `1d`"
);
text_scalar!(
    /// A number of bytes: a whole number and a unit.
    Size(u64),
    parse_size,
    show_size,
    "Size",
    "a size such as `100B`, `64KiB`, `4MiB` or `1GiB`"
);
text_scalar!(
    /// A host name of a listener or route, or a wildcard for host names.
    Host(HostPattern),
    |text| text.parse().map_err(|error: crate::types::HostError| error.to_string()),
    ToString::to_string,
    "Host",
    "a host name such as `edge.example` or `*.example`"
);
text_scalar!(
    /// The name of a method, tool, prompt or resource, or a pattern of such names.
    Name(NamePattern),
    |text| text.parse().map_err(|error: crate::types::NamePatternError| error.to_string()),
    ToString::to_string,
    "NamePattern",
    "a name such as `get_report`, or a pattern in quotes such as `\"get_*\"`, in which `*` matches any characters"
);
text_scalar!(
    /// An origin of web pages (such as `https://app.example`), or a pattern of origins.
    WebOrigin(OriginPattern),
    |text| text.parse().map_err(|error: crate::types::OriginError| error.to_string()),
    ToString::to_string,
    "Origin",
    "an origin such as `https://app.example`, `http://localhost:*` or `https://*.example`, or `\"*\"` for all"
);
text_scalar!(
    /// A scope token.
    ScopeName(Scope),
    |text| text.parse().map_err(|error: crate::types::ScopeError| error.to_string()),
    ToString::to_string,
    "Scope",
    "a scope such as `fininfo:read`"
);
impl From<Scope> for ScopeName {
    fn from(scope: Scope) -> Self {
        Self(scope)
    }
}

text_scalar!(
    /// The name of a header field.
    Header(HeaderName),
    |text| HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("`{}` is not a valid header name: write one such as `X-User`", text.escape_debug())),
    ToString::to_string,
    "HeaderName",
    "a header name such as `X-User`"
);
text_scalar!(
    /// The value of a header field.
    HeaderText(HeaderValue),
    |text| match HeaderValue::from_str(text) {
        Ok(value) if text.is_ascii() => Ok(value),
        _ => Err("is not a valid header value: use visible ASCII characters and spaces".to_owned()),
    },
    |value| value.to_str().unwrap_or_default().to_owned(),
    "HeaderValue",
    "the value of a header"
);
text_scalar!(
    /// An HTTP method.
    Verb(Method),
    |text| match Method::from_bytes(text.as_bytes()) {
        Ok(method) if method != Method::CONNECT && text.bytes().all(|b| b.is_ascii_uppercase()) => Ok(method),
        _ => Err(format!("`{}` is not a valid method for a probe: write one such as `GET`", text.escape_debug())),
    },
    ToString::to_string,
    "Method",
    "an HTTP method such as `GET`"
);
text_scalar!(
    /// A network in CIDR form, or a single address.
    Cidr(IpNet),
    |text| text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| {
            let text = text.escape_debug();
            format!("`{text}` is not a valid network: write one such as `10.0.0.0/8` or `::1`")
        }),
    ToString::to_string,
    "Network",
    "a network such as `10.0.0.0/8` or an address"
);
text_scalar!(
    /// An absolute http or https URL.
    Url(reqwest::Url),
    |text| match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.username().is_empty()
            && url.password().is_none() => Ok(url),
        // The text may contain a password, so the error does not repeat the text.
        _ if text.contains('@') => {
            let message = "is not a valid URL: write one such as `https://server.example/path`, without a user name and a \
                           password";
            Err(message.to_owned())
        }
        _ => {
            let text = text.escape_debug();
            Err(format!("`{text}` is not a valid URL: write one such as `https://server.example/path`"))
        }
    },
    ToString::to_string,
    "Url",
    "an absolute URL such as `https://server.example/path`"
);

text_scalar!(
    /// The URL of a resource as clients know it. `{host}` stands for the host of the request.
    ResourceUrl(PublicUrl),
    |text| text.parse().map_err(|error: crate::types::PublicUrlError| error.to_string()),
    ToString::to_string,
    "ResourceUrl",
    "an absolute URL such as `https://edge.example/fin/mcp`, or `https://{host}/fin/mcp` for each host that is served"
);

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || {
        let text = text.escape_debug();
        format!(
            "`{text}` is not a valid duration: write a whole number and a unit, such as `500ms`, `30s`, `5m`, `2h` or \
             `1d`"
        )
    };
    let (number, unit) = split_unit(text).ok_or_else(bad)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    match number.checked_mul(millis).map(Duration::from_millis) {
        Some(duration) if duration <= LONGEST_DURATION => Ok(duration),
        _ => Err(format!("`{}` is too long: write at most `365d`", text.escape_debug())),
    }
}

fn show_duration(duration: &Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit, _)| millis != 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || {
        let text = text.escape_debug();
        format!(
            "`{text}` is not a valid size: write a whole number and a unit, such as `100B`, `64KiB`, `4MiB` or `1GiB`"
        )
    };
    let (number, unit) = split_unit(text).ok_or_else(bad)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(bad()),
    };
    number.checked_mul(bytes).ok_or_else(bad)
}

fn show_size(bytes: &u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| *bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// A socket address to listen on, `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind(pub std::net::SocketAddr);

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            let text = text.escape_debug();
            de::Error::custom(format!(
                "`{text}` is not a valid address to listen on: write one such as `0.0.0.0:8080` or `[::]:8443`"
            ))
        })
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Bind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "an address to listen on, such as `0.0.0.0:8080`"})
    }
}

/// Where a secret comes from: `{env: NAME}` or `{file: PATH}`. A secret is never written in the YAML itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// The name of the environment variable that has the secret.
    pub env: Option<String>,
    /// The file that has the secret. A relative path starts at the folder of the configuration file that names it. Line
    /// breaks at the end of the file are not part of the secret.
    pub file: Option<std::path::PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        for text in ["", "5", "s", "1.5s", "-1s", "366d", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["64", "64K", "64kb", "18446744073709551615GiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_and_sizes_are_shown_as_written() {
        for text in ["500ms", "30s", "5m", "2h", "365d", "0s"] {
            assert_eq!(parse_duration(text).map(|duration| show_duration(&duration)), Ok(text.to_owned()));
        }
        for text in ["100B", "64KiB", "4MiB", "1GiB", "0B"] {
            assert_eq!(parse_size(text).map(|size| show_size(&size)), Ok(text.to_owned()));
        }
    }
}
