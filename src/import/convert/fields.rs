//! Converts `proxy_set_header`, `add_header` and `proxy_hide_header` to the header settings of a route.

use http::HeaderName;

use super::answered_fields::variables;
use super::pool::Target;
use super::request_field::{Change, change, is_of_connection, is_usual, taken_out};
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

/// Reads the directives that apply in `chain`. `is_group`: the host of `target` is the name of an `upstream` block.
pub(crate) fn fields(chain: &Chain<'_>, target: &Target, is_group: bool) -> Fields {
    let mut fields = Fields { host: of_proxy(target, is_group), ..Fields::default() };
    let variables = variables(chain);
    for line in chain.effective("proxy_set_header") {
        let (name, value) = (line.arg(0), line.arg(1));
        let answered = value.starts_with("$auth") || variables.contains_key(value);
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if change(&name, value) == Change::Host => fields.host(value, line.at, target, is_group),
            Ok(name) => fields.request_field(&name, value, line.at, answered),
            Err(_) => {
                fields.notes.push((line.at, format!("`{}` is left out: it is not a valid header name", excerpt(name))))
            }
        }
    }
    for name in taken_out(chain) {
        match change(&name, "") {
            Change::Authorization => fields.token = Some(false),
            Change::Removed if !fields.request.set.contains_key(name.as_str()) => fields.remove(&name),
            _ => {}
        }
    }
    for line in chain.effective("add_header") {
        fields.response_field(line.arg(0), line.arg(1), line.at);
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

impl Fields {
    /// Reads `proxy_set_header Host VALUE`.
    fn host(&mut self, value: &str, at: Position, target: &Target, is_group: bool) {
        match value {
            "$host" | "$http_host" | "$host:$server_port" => self.host = Some(HostHeader::Preserve),
            "$proxy_host" => self.host = of_proxy(target, is_group),
            _ if Authority::parse(value).is_ok() => self.host = value.parse().map(HostHeader::Rewrite).ok(),
            _ => self.notes.push((
                at,
                format!(
                    "nginx set the upstream's Host to `{}`, which the edge cannot do: write `host: {{rewrite: NAME}}`",
                    excerpt(value)
                ),
            )),
        }
    }

    /// Reads `proxy_set_header NAME VALUE`. `answered`: the value is a field of an authentication server's answer.
    fn request_field(&mut self, name: &HeaderName, value: &str, at: Position, answered: bool) {
        match change(name, value) {
            Change::Upgrade => self.upgrade = value == "$http_upgrade" || value == "websocket",
            Change::Connection => {
                let plain = value.is_empty() || value == "$http_connection" || value.eq_ignore_ascii_case("close");
                self.is_websocket = !plain && !value.eq_ignore_ascii_case("keep-alive");
            }
            Change::Authorization => self.authorization(value, at),
            Change::ByEdge => {
                let is_identity = matches!(name.as_str(), "x-user" | "x-scopes");
                let is_same = is_usual(name, value) || is_identity && answered;
                if !is_same {
                    let text = format!("nginx sent another value of `{name}`: the edge sets this field itself");
                    self.notes.push((at, text));
                }
            }
            // The edge handles connections itself, and sends all other fields of clients.
            Change::Host | Change::OfConnection | Change::Kept => {}
            Change::Removed => self.remove(name),
            Change::Variable => {
                // nginx has overwritten what clients send in this field.
                self.remove(name);
                let text = match name.as_str() {
                    "x-real-ip" => {
                        "`X-Real-IP` is not sent: upstreams get the client's address in X-Forwarded-For".to_owned()
                    }
                    _ if answered => format!(
                        "`{name}` from the authentication server is not sent to upstreams: they get X-User and X-Scopes (section `identity`)"
                    ),
                    _ => format!("nginx set `{name}` from a variable, which the edge does not support"),
                };
                self.notes.push((at, text));
            }
            Change::Secret => {
                // A client must not be able to set this field instead.
                self.remove(name);
                self.notes.push((at, format!(
                    "the value of `{name}` is not imported because it may be a secret: write `credential: {{secret: {{file: PATH}}, header: {name}}}`"
                )));
            }
            Change::Set(value) => {
                self.request.set.insert(name.to_string(), value);
            }
            Change::Invalid => {
                self.remove(name);
                self.notes.push((at, format!("`{name}` is left out: its value is not a valid header value")));
            }
        }
    }

    fn authorization(&mut self, value: &str, at: Position) {
        self.token = Some(value == "$http_authorization");
        // The value may be a secret, so no note contains it.
        let is_basic = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "));
        let text = match value {
            "" | "$http_authorization" => return,
            _ if is_basic => {
                "`proxy_set_header Authorization` is not imported because its value may be a secret: write `credential: {secret: {file: PATH}, scheme: Basic}`"
            }
            _ if value.contains('$') => {
                "nginx set `Authorization` from a variable, which the edge does not support: see `credential` of routes"
            }
            _ => {
                "`proxy_set_header Authorization` is not imported because its value may be a secret: write `credential: {secret: {file: PATH}}`"
            }
        };
        self.notes.push((at, text.to_owned()));
    }

    /// Reads `add_header NAME VALUE`.
    fn response_field(&mut self, name: &str, value: &str, at: Position) {
        if name.get(..15).is_some_and(|beginning| beginning.eq_ignore_ascii_case("access-control-")) {
            let text = "these fields are for pages of other origins: write `cors: {origins: [ORIGIN]}` instead, so that the edge also answers OPTIONS";
            self.notes.push((at, text.to_owned()));
        }
        match (HeaderName::from_bytes(name.as_bytes()), value.parse::<HeaderText>()) {
            (Ok(name), Ok(value)) if !value.to_string().contains('$') && !is_of_connection(&name) => {
                if self.response.set.insert(name.to_string(), value).is_some() {
                    let text = format!(
                        "`add_header {name}` is repeated, and the edge sets a field once: the last value is used"
                    );
                    self.notes.push((at, text));
                }
            }
            _ => self.notes.push((
                at,
                format!("`add_header {}` is left out: the edge cannot set this header or its value", excerpt(name)),
            )),
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
        assert!(debug.contains("scheme: Basic"));
    }

    #[test]
    fn fields_of_the_edge_have_a_note_unless_the_value_is_the_usual_one() {
        for text in [
            "proxy_set_header X-User service;",
            "proxy_set_header X-User $remote_user;",
            "proxy_set_header X-Forwarded-Proto https;",
            "proxy_set_header X-Forwarded-Proto $http_x_forwarded_proto;",
            "proxy_set_header X-Forwarded-For \"\";",
            "proxy_set_header Authorization \"Bearer $token\";",
            "add_header X-A a; add_header X-A b;",
            "add_header Access-Control-Allow-Origin *;",
        ] {
            let fields = read(text, false);
            assert_eq!(fields.notes.len(), 1, "{text}");
            assert!(!fields.notes[0].1.contains("secret"), "{text}");
        }
        for text in [
            "proxy_set_header X-User $auth_user;",
            "auth_request_set $u $upstream_http_x_user; proxy_set_header X-User $u;",
            "proxy_set_header X-Forwarded-Proto $scheme;",
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        ] {
            assert_eq!(read(text, false).notes, [], "{text}");
        }
    }

    #[test]
    fn fields_that_other_modules_take_out_are_removed() {
        let fields = read(
            "more_clear_input_headers X-A Authorization; more_set_input_headers 'X-B: b'; proxy_set_header X-B c;",
            false,
        );
        assert_eq!(fields.request.remove.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x-a"]);
        assert_eq!((fields.request.set.len(), fields.token), (1, Some(false)));
    }
}
