//! Converts `proxy_set_header`, `add_header` and `proxy_hide_header` to the header settings of a route.

use http::HeaderName;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};

use super::pool::Target;
use crate::config::HostHeader;
use crate::config::text::Position;
use crate::config::written::{HeaderChanges, HeaderText};
use crate::import::nginx::site::Chain;
use crate::types::{Authority, excerpt};

/// What a location does with header fields.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// `None`: the default of the route's protocol.
    pub(crate) host: Option<HostHeader>,
    pub(crate) request: HeaderChanges,
    pub(crate) response: HeaderChanges,
    /// `Upgrade` is sent to the upstream.
    pub(crate) upgrade: bool,
    /// `Connection` is set to `upgrade`, or to a variable that a `map` sets, so the location is for WebSocket.
    pub(crate) is_websocket: bool,
    /// Whether the client's `Authorization` is sent to the upstream. `None`: the location does not set this header, so
    /// nginx sends it.
    pub(crate) token: Option<bool>,
    pub(crate) notes: Vec<(Position, String)>,
}

/// Header fields that the edge sets itself.
const BY_EDGE: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-request-id",
    "x-scopes",
    "x-user",
];

/// Reads the directives that apply in `chain`. `is_group`: the host of `target` is the name of an `upstream` block.
pub(crate) fn fields(chain: &Chain<'_>, target: &Target, is_group: bool) -> Fields {
    let mut fields = Fields { host: of_proxy(target, is_group), ..Fields::default() };
    for line in chain.effective("proxy_set_header") {
        let (name, value) = (line.arg(0), line.arg(1));
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => fields.request_field(&name, value, line.at, target, is_group),
            Err(_) => {
                fields.notes.push((line.at, format!("`{}` is left out: it is not a valid header name", excerpt(name))))
            }
        }
    }
    for line in chain.effective("add_header") {
        let (name, value) = (line.arg(0), line.arg(1));
        match (HeaderName::from_bytes(name.as_bytes()), value.parse::<HeaderText>()) {
            (Ok(name), Ok(value)) if !value.to_string().contains('$') && !is_of_connection(&name) => {
                fields.response.set.insert(name.to_string(), value);
            }
            _ => fields.notes.push((
                line.at,
                format!("`add_header {}` is left out: the edge cannot set this header or its value", excerpt(name)),
            )),
        }
    }
    for line in chain.effective("proxy_hide_header") {
        if let Ok(name) = line.arg(0).parse::<crate::config::written::Header>()
            && !is_of_connection(&name.0)
            && !fields.response.remove.contains(&name)
        {
            fields.response.remove.push(name);
        }
    }
    fields
}

/// The `Host` that nginx sends by default: the host of `proxy_pass`.
fn of_proxy(target: &Target, is_group: bool) -> Option<HostHeader> {
    if !is_group {
        return Some(HostHeader::Endpoint);
    }
    target.authority.parse().map(HostHeader::Rewrite).ok()
}

fn is_of_connection(name: &HeaderName) -> bool {
    let names = ["connection", "content-length", "te", "trailer", "transfer-encoding", "upgrade", "keep-alive"];
    names.contains(&name.as_str()) || name.as_str() == "proxy-connection"
}

/// If the name of a header contains one of these words, its value may be a secret and is not copied into the result.
const SECRET: [&str; 8] = ["auth", "cookie", "credential", "key", "pass", "secret", "session", "token"];

pub(crate) fn may_be_secret(name: &HeaderName) -> bool {
    SECRET.iter().any(|word| name.as_str().contains(word))
}

impl Fields {
    fn request_field(&mut self, name: &HeaderName, value: &str, at: Position, target: &Target, is_group: bool) {
        let note = |text: String| (at, text);
        if *name == HOST {
            match value {
                "$host" | "$http_host" | "$host:$server_port" => self.host = Some(HostHeader::Preserve),
                "$proxy_host" => self.host = of_proxy(target, is_group),
                _ if Authority::parse(value).is_ok() => {
                    self.host = value.parse().map(HostHeader::Rewrite).ok();
                }
                _ => self.notes.push(note(format!(
                    "nginx set the upstream's Host to `{}`, which the edge cannot do: write `host: {{rewrite: NAME}}`",
                    excerpt(value)
                ))),
            }
        } else if *name == UPGRADE {
            self.upgrade = value == "$http_upgrade" || value == "websocket";
        } else if *name == CONNECTION {
            let plain = value.is_empty() || value == "$http_connection" || value.eq_ignore_ascii_case("close");
            self.is_websocket = !plain && !value.eq_ignore_ascii_case("keep-alive");
        } else if *name == AUTHORIZATION {
            match value {
                "" => self.token = Some(false),
                "$http_authorization" => self.token = Some(true),
                _ => {
                    self.token = Some(false);
                    // The value may be a secret, so the note does not contain it.
                    self.notes.push(note(
                        "`proxy_set_header Authorization` is not imported because its value may be a secret: write `credential: {secret: {file: PATH}}`".to_owned(),
                    ));
                }
            }
        } else if BY_EDGE.contains(&name.as_str()) || is_of_connection(name) {
            // The edge sets or removes these fields itself.
        } else if value == format!("$http_{}", name.as_str().replace('-', "_")) {
            // nginx sent the client's own value. The edge does this for all fields.
        } else if value.is_empty() {
            self.remove(name);
        } else if value.contains('$') {
            // nginx has overwritten what clients send in this field.
            self.remove(name);
            let text = match name.as_str() {
                "x-real-ip" => {
                    "`X-Real-IP` is not sent: upstreams get the client's address in X-Forwarded-For".to_owned()
                }
                _ if value.starts_with("$auth") => {
                    format!(
                        "`{name}` from the authentication server is not sent to upstreams: they get X-User and X-Scopes (section `identity`)"
                    )
                }
                _ => format!("nginx set `{name}` from a variable, which the edge does not support"),
            };
            self.notes.push(note(text));
        } else if may_be_secret(name) {
            // A client must not be able to set this field instead.
            self.remove(name);
            self.notes.push(note(format!(
                "the value of `{name}` is not imported because it may be a secret: write `credential: {{secret: {{file: PATH}}, header: {name}}}`"
            )));
        } else {
            match value.parse::<HeaderText>() {
                Ok(value) => {
                    self.request.set.insert(name.to_string(), value);
                }
                Err(_) => {
                    self.remove(name);
                    self.notes.push(note(format!("`{name}` is left out: its value is not a valid header value")));
                }
            }
        }
    }

    /// Takes the field out of the requests of clients.
    fn remove(&mut self, name: &HeaderName) {
        let name = crate::config::written::Header(name.clone());
        if !self.request.remove.contains(&name) {
            self.request.remove.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    fn read(text: &str, is_group: bool) -> Fields {
        let root = nginx::parse(&format!("location /x/ {{ {text} }}")).expect("valid input");
        let sites = site::sites(&root);
        fields(&sites[0].locations[0].chain, &Target::parse("http://pool").expect("valid input"), is_group)
    }

    #[test]
    fn hosts() {
        let rewrite = |name: &str| Some(HostHeader::Rewrite(name.parse().expect("valid input")));
        assert_eq!(read("", false).host, Some(HostHeader::Endpoint));
        assert_eq!(read("", true).host, rewrite("pool"));
        assert_eq!(read("proxy_set_header Host $host;", true).host, Some(HostHeader::Preserve));
        assert_eq!(read("proxy_set_header host a.example;", true).host, rewrite("a.example"));
        assert_eq!(read("proxy_set_header Host $x;", false).notes.len(), 1);
    }

    #[test]
    fn websocket_is_recognized() {
        let of = |text: &str| (read(text, false).upgrade, read(text, false).is_websocket);
        assert_eq!(of(""), (false, false));
        assert_eq!(
            of("proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";"),
            (true, true)
        );
        assert_eq!(
            of("proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"),
            (true, true)
        );
        assert_eq!(
            of("proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;"),
            (true, false)
        );
        assert_eq!(of("proxy_set_header Connection \"\";"), (false, false));
    }

    #[test]
    fn headers_are_set_or_removed_or_noted() {
        let text = "proxy_set_header X-Team blue; proxy_set_header X-Gone \"\"; proxy_set_header X-Real-IP $remote_addr; \
                    proxy_set_header X-User $auth_user; proxy_set_header X-Method $auth_method; \
                    proxy_set_header X-Region $http_x_region; proxy_set_header X-Api-Key hunter2; proxy_set_header Authorization \"Basic c2VjcmV0\"; \
                    add_header X-A b always; add_header X-B $host; proxy_hide_header X-Powered-By;";
        let fields = read(text, false);
        assert_eq!(fields.request.set.keys().collect::<Vec<_>>(), ["x-team"]);
        assert_eq!(
            fields.request.remove.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["x-gone", "x-real-ip", "x-method", "x-api-key"],
            "what nginx has overwritten never comes from clients"
        );
        assert_eq!(fields.response.set.keys().collect::<Vec<_>>(), ["x-a"]);
        assert_eq!(fields.response.remove.len(), 1);
        assert_eq!(fields.token, Some(false));
        assert_eq!(fields.notes.len(), 5, "{:#?}", fields.notes);
        let debug = format!("{fields:?}");
        assert!(!debug.contains("c2VjcmV0") && !debug.contains("hunter2"), "no secret is copied");
    }
}
