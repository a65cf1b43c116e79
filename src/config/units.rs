//! Scalars as written in YAML: durations, sizes, names, header fields. Each parses itself and says what to write instead.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::types::{HostPattern, Scope};

/// A scalar that is written as a string and has one parser.
macro_rules! text_scalar {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:expr, $pattern_doc:literal) => {
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

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&format_args!("{:?}", self.0))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $pattern_doc})
            }
        }
    };
}

text_scalar!(
    /// A length of time: a whole number and a unit.
    Span(Duration),
    parse_duration,
    "a duration such as `500ms`, `30s`, `5m`, `2h` or `1d`"
);
text_scalar!(
    /// A number of bytes: a whole number and a unit.
    Size(u64),
    parse_size,
    "a size such as `100B`, `64KiB`, `4MiB` or `1GiB`"
);
text_scalar!(
    /// A host name or a wildcard of a listener or route.
    Host(HostPattern),
    |text| text.parse().map_err(|error: crate::types::HostError| error.to_string()),
    "a host name such as `edge.example` or `*.example`"
);
text_scalar!(
    /// A scope token.
    ScopeName(Scope),
    |text| text.parse().map_err(|error: crate::types::ScopeError| error.to_string()),
    "a scope such as `fininfo:read`"
);
text_scalar!(
    /// The name of a header field.
    Header(HeaderName),
    |text| HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("`{}` is no header name: write one such as `X-User`", text.escape_debug())),
    "a header name such as `X-User`"
);
text_scalar!(
    /// The value of a header field.
    HeaderText(HeaderValue),
    |text| HeaderValue::from_str(text)
        .map_err(|_| "this is no header value: use visible ASCII characters and spaces".to_owned()),
    "the value of a header"
);
text_scalar!(
    /// An HTTP method.
    Verb(Method),
    |text| match Method::from_bytes(text.as_bytes()) {
        Ok(method) if method != Method::CONNECT && text.bytes().all(|b| b.is_ascii_uppercase()) => Ok(method),
        _ => Err(format!("`{}` is no method for a probe: write one such as `GET`", text.escape_debug())),
    },
    "an HTTP method such as `GET`"
);
text_scalar!(
    /// A network in CIDR form, or one address.
    Cidr(IpNet),
    |text| text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{}` is no network: write one such as `10.0.0.0/8` or `::1`", text.escape_debug())),
    "a network such as `10.0.0.0/8` or an address"
);
text_scalar!(
    /// An absolute http or https URL.
    Url(reqwest::Url),
    |text| match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.username().is_empty()
            && url.password().is_none() => Ok(url),
        _ => Err(format!("`{}` is no URL: write one such as `https://idp.example/jwks`", text.escape_debug())),
    },
    "an absolute URL such as `https://idp.example/jwks`"
);

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || {
        let text = text.escape_debug();
        format!("`{text}` is no duration: write a whole number and a unit, such as `500ms`, `30s`, `5m`, `2h` or `1d`")
    };
    let (number, unit) = split_unit(text).ok_or_else(bad)?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad)
}

fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || {
        let text = text.escape_debug();
        format!("`{text}` is no size: write a whole number and a unit, such as `100B`, `64KiB`, `4MiB` or `1GiB`")
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

/// A socket address of this machine, `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind(pub std::net::SocketAddr);

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            let text = text.escape_debug();
            de::Error::custom(format!("`{text}` is no address to listen on: write one such as `0.0.0.0:8080` or `[::]:8443`"))
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
        "Bind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "an address to listen on, such as `0.0.0.0:8080`"})
    }
}

/// Where a secret comes from: `{env: NAME}` or `{file: PATH}`, never the YAML itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// The name of an environment variable.
    pub env: Option<String>,
    /// A file, relative to the file that names it; a trailing line break is not part of the secret.
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
        for text in ["", "5", "s", "1.5s", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["64", "64K", "64kb", "18446744073709551615GiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
