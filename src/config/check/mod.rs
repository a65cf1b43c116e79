//! From files as written to one checked [`Config`].

pub(super) mod api_keys;
pub(super) mod assertions;
pub(super) mod auth;
pub(super) mod credential;
pub(super) mod introspection;
pub(super) mod lookup;
pub(super) mod material;
pub(super) mod mtls;
pub(super) mod policy;
pub(super) mod route;
pub(super) mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

use super::checked::outbound::Outbound;
use super::checked::{Admin, Config, Listener, ListenerTls, Sessions};
use super::error::ConfigErrors;
use super::limits;
use super::limits::Limits;
use super::read::load;
use super::read::load::Source;
use super::read::problems::{Place, Problems};
use super::units::Span;
use super::written::auth::Cache;
use super::written::server::Identity;
use crate::types::Secret;
use material::Materials;

impl Config {
    /// Reads `path` and everything that it includes and names, and checks it.
    ///
    /// # Errors
    /// All that is wrong, each with its place and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let sources = load::load(path, &mut problems)?;
        Self::checked(&sources, problems)
    }

    /// The same with `text` in place of what stands in `path`, which need not exist.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_text(path: &Path, text: String) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let sources = load::load_text(path, text, &mut problems);
        Self::checked(&sources, problems)
    }

    fn checked(sources: &[Source], problems: Problems) -> Result<Self, ConfigErrors> {
        let mut resolver = Resolver::new(sources, problems);
        let config = resolver.resolve();
        if resolver.problems.is_empty() { Ok(config) } else { Err(resolver.problems.into_errors(sources)) }
    }

    /// The files and folders to watch when `path` does not load: those that can be known anyway.
    pub fn known_files(path: &Path) -> Vec<PathBuf> {
        let sources = load::load(path, &mut Problems::default()).unwrap_or_default();
        let mut files: Vec<PathBuf> = sources.into_iter().map(|source| source.path).collect();
        if files.is_empty() {
            files.push(path.to_owned());
        }
        files
    }
}

/// What the resolving functions share.
pub(super) struct Resolver<'a> {
    pub(super) sources: &'a [Source],
    pub(super) materials: Materials,
    pub(super) problems: Problems,
    pub(super) outbound: Outbound,
}

impl<'a> Resolver<'a> {
    fn new(sources: &'a [Source], problems: Problems) -> Self {
        Self { sources, materials: Materials::default(), problems, outbound: Outbound::default() }
    }
}

impl Resolver<'_> {
    fn resolve(&mut self) -> Config {
        for source in self.sources {
            self.materials.remember(source.path.clone(), source.text.as_bytes(), true);
        }
        let server = self.only("server", |source| source.file.server.clone()).unwrap_or_default();
        let limits = self.limits();
        let identity = self.identity();
        let sessions = self.sessions();
        let assertions = self.assertions();
        let log = self.only("log", |source| source.file.log.clone()).unwrap_or_default();
        let cache = self.cache();
        let admin = self.admin();
        let listeners = self.listeners(&admin);
        // Before all that has a URL for it.
        self.outbound = self.outbound();
        let providers = self.providers();
        let upstreams = self.upstreams();
        let routes = self.routes(&limits, &identity, assertions.as_ref());
        let outbound = std::mem::take(&mut self.outbound);
        let files = std::mem::take(&mut self.materials.files);
        let include_folders = self.sources.iter().flat_map(Source::include_folders).collect();
        Config {
            server,
            listeners,
            admin,
            limits,
            identity,
            sessions,
            assertions,
            log,
            cache,
            outbound,
            providers,
            upstreams,
            routes,
            files,
            include_folders,
        }
    }

    /// The folder that relative paths of a file start from.
    pub(super) fn folder(&self, file: usize) -> PathBuf {
        self.sources[file].path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// A section that may stand in one file only.
    pub(super) fn only<T>(&mut self, path: &str, section: impl Fn(&Source) -> Option<T>) -> Option<T> {
        let mut found: Option<(usize, T)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(value) = section(source) else { continue };
            match &found {
                None => found = Some((index, value)),
                Some((first, _)) => {
                    let first = self.sources[*first].path.display();
                    self.problems.add(
                        &Place::new(index, path),
                        format!("this section also stands in `{first}`: keep one of the two"),
                    );
                }
            }
        }
        found.map(|(_, value)| value)
    }

    /// The file in which a section of [`Self::only`] stands.
    pub(super) fn file_of(&self, has: impl Fn(&Source) -> bool) -> usize {
        self.sources.iter().position(has).unwrap_or_default()
    }

    fn limits(&mut self) -> Limits {
        let limits = self.only("limits", |source| source.file.limits.clone()).unwrap_or_default();
        let place = Place::new(self.file_of(|source| source.file.limits.is_some()), "limits");
        if !(256..=1 << 20).contains(&limits.header_bytes.0) {
            self.problems.add(&place.key("header_bytes"), "is out of range: write a size from 256B to 1MiB");
        }
        if !(1..=256).contains(&limits.header_count) {
            self.problems.add(&place.key("header_count"), "is out of range: write a number from 1 to 256");
        }
        if limits.uri_bytes.0 < 16 {
            self.problems.add(&place.key("uri_bytes"), "is out of range: write a size from 16B to `header_bytes`");
        }
        if limits.uri_bytes.0 > limits.header_bytes.0 {
            let (uri, header) = (&limits.uri_bytes, &limits.header_bytes);
            self.problems.add(&place.key("uri_bytes"), format!("is {uri}, but `header_bytes` is only {header}, and the URI is part of the header: write at most `{header}`"));
        }
        if limits.held_bytes.0 < 1 << 20 {
            self.problems.add(&place.key("held_bytes"), "is less than 1MiB: write at least `1MiB`");
        }
        if limits.connections == 0 {
            self.problems.add(&place.key("connections"), "is zero: write how many clients may be connected");
        }
        for (name, span) in [
            ("header_timeout", &limits.header_timeout),
            ("body_timeout", &limits.body_timeout),
            ("write_timeout", &limits.write_timeout),
            ("keepalive_timeout", &limits.keepalive_timeout),
        ] {
            self.not_zero(&place.key(name), span);
        }
        limits
    }

    fn identity(&mut self) -> Identity {
        let identity = self.only("identity", |source| source.file.identity.clone()).unwrap_or_default();
        let place = Place::new(self.file_of(|source| source.file.identity.is_some()), "identity");
        let (subject, scopes) = (&identity.subject_header.0, &identity.scopes_header.0);
        for (key, name) in [("subject_header", subject), ("scopes_header", scopes)] {
            if belongs_to_connection(name) || [HOST, AUTHORIZATION, COOKIE].contains(name) {
                self.problems
                    .add(&place.key(key), format!("`{name}` has another meaning: write a name such as `X-User`"));
            }
        }
        if subject == scopes {
            self.problems.add(
                &place.key("scopes_header"),
                format!("`{scopes}` is the `subject_header` too: write another name"),
            );
        }
        identity
    }

    fn sessions(&mut self) -> Sessions {
        let written = self.only("sessions", |source| source.file.sessions.clone()).unwrap_or_default();
        let file = self.file_of(|source| source.file.sessions.is_some());
        let place = Place::new(file, "sessions").key("keys");
        let folder = self.folder(file);
        if written.keys.len() > limits::SESSION_KEYS {
            let message =
                format!("has more than {} keys: take out the oldest, at the end of the list", limits::SESSION_KEYS);
            self.problems.add(&place, message);
        }
        let mut keys: Vec<(usize, Secret)> = Vec::new();
        for (index, source) in written.keys.iter().enumerate().take(limits::SESSION_KEYS) {
            let item = place.item(index);
            let Some(key) = self.materials.secret(&folder, source, &item, &mut self.problems) else { continue };
            if key.expose().len() < limits::SESSION_KEY_BYTES {
                self.problems.add(
                    &item,
                    format!(
                        "is shorter than {} bytes: make a key with `openssl rand -hex 32`",
                        limits::SESSION_KEY_BYTES
                    ),
                );
            }
            if let Some((first, _)) = keys.iter().find(|(_, other)| *other == key) {
                let first = place.item(*first).path;
                self.problems.add(&item, format!("is the same key as `{first}`: keep one of the two"));
            }
            keys.push((index, key));
        }
        Sessions { keys: keys.into_iter().map(|(_, key)| key).collect() }
    }

    pub(super) fn not_zero(&mut self, place: &Place, span: &Span) {
        if span.0.is_zero() {
            self.problems.add(place, "is zero: write a duration such as `2s`");
        }
    }

    fn cache(&mut self) -> Cache {
        let section = |source: &Source| source.file.auth.as_ref().and_then(|auth| auth.cache.clone());
        let cache = self.only("auth.cache", section).unwrap_or_default();
        let place = Place::new(self.file_of(|source| section(source).is_some()), "auth.cache");
        if cache.capacity == 0 {
            self.problems
                .add(&place.key("capacity"), "is zero: write how many principals may be kept, such as `100000`");
        }
        if cache.negative_ttl.0 > limits::NEGATIVE_TTL {
            self.problems.add(
                &place.key("negative_ttl"),
                "is more than 5s: a new permission would go unseen for too long; write at most `5s`",
            );
        }
        self.not_zero(&place.key("ttl"), &cache.ttl);
        if cache.refresh_ahead.as_ref().is_some_and(|ahead| ahead.0 > cache.ttl.0 / 2) {
            let message =
                "is more than half of `ttl`: credentials would be validated all the time; write less, such as `30s`";
            self.problems.add(&place.key("refresh_ahead"), message);
        }
        if cache.stale_if_error.as_ref().is_some_and(|stale| stale.0 > limits::STALE_IF_ERROR) {
            let message = "is more than 60s: who was locked out meanwhile would pass for too long; write at most `60s`";
            self.problems.add(&place.key("stale_if_error"), message);
        }
        for (key, span) in [("refresh_ahead", &cache.refresh_ahead), ("stale_if_error", &cache.stale_if_error)] {
            if let Some(span) = span {
                self.not_zero(&place.key(key), span);
            }
        }
        cache
    }

    fn admin(&mut self) -> Admin {
        let written = self.only("admin", |source| source.file.admin.clone()).unwrap_or_default();
        let file = self.file_of(|source| source.file.admin.is_some());
        let place = Place::new(file, "admin");
        let folder = self.folder(file);
        let token = written
            .token
            .as_ref()
            .and_then(|source| self.materials.secret(&folder, source, &place.key("token"), &mut self.problems));
        if written.token.is_none() && !written.address.0.ip().is_loopback() {
            self.problems.add(&place, "the admin listener is not on loopback and has no token: write `token: {file: PATH}`, or listen on `127.0.0.1`");
        }
        Admin { address: written.address.0, token }
    }

    fn listeners(&mut self, admin: &Admin) -> Vec<Listener> {
        let mut listeners = Vec::new();
        let mut taken: Vec<(SocketAddr, String)> = Vec::new();
        if self.sources.iter().any(|source| source.file.admin.is_some()) {
            taken.push((admin.address, "`admin`".to_owned()));
        } else if !self.sources.iter().any(|source| source.left_out.touches("admin")) {
            taken.push((admin.address, "`admin`, which has it by default".to_owned()));
        }
        for (file, source) in self.sources.iter().enumerate() {
            for (now, written) in source.file.listeners.iter().enumerate() {
                let place = Place::new(file, "listeners").item(source.left_out.number("listeners", now));
                let address = written.address.0;
                if let Some((other, who)) = taken.iter().find(|(other, _)| clash(*other, address)) {
                    self.problems.add(
                        &place.key("address"),
                        format!("`{address}` cannot be bound beside `{other}` of {who}: choose another port"),
                    );
                }
                taken.push((address, format!("`{}`", place.path)));
                let tls = written.tls.as_ref().and_then(|tls| {
                    let place = place.key("tls");
                    let folder = self.folder(file);
                    if tls.client_optional && tls.client_ca.is_none() {
                        self.problems.add(
                            &place.key("client_optional"),
                            "has no effect without `client_ca`: add it, or take this out",
                        );
                    }
                    let paths = (tls.certificate.as_path(), tls.key.as_path());
                    let identity = self.materials.key_pair(&folder, paths, &place, &mut self.problems);
                    let client_ca = tls.client_ca.as_ref().map(|path| {
                        self.materials.authorities(&folder, path, &place.key("client_ca"), &mut self.problems)
                    });
                    Some(ListenerTls {
                        identity: identity?,
                        client_ca: match client_ca {
                            Some(None) => return None,
                            Some(Some(authorities)) => Some(authorities),
                            None => None,
                        },
                        client_optional: tls.client_optional,
                    })
                });
                listeners.push(Listener {
                    address,
                    hosts: written.hosts.iter().map(|host| host.0.clone()).collect(),
                    tls,
                    trusted_proxies: written.trusted_proxies.iter().map(|network| network.0).collect(),
                    origins: written.origins.iter().map(|origin| origin.0.clone()).collect(),
                });
            }
        }
        let wrong = self.sources.iter().any(|source| source.left_out.touches("listeners"));
        if listeners.is_empty() && !wrong {
            self.problems.add(&Place::new(0, ""), "there is no listener: write `listeners: [{address: 0.0.0.0:8080}]`");
        }
        listeners
    }

    /// All named items of a section over all files: each name once, and names of wrong items as well.
    pub(super) fn named<T>(
        &mut self,
        section: &str,
        items: impl Fn(&Source) -> Option<&BTreeMap<String, T>>,
        mut resolve: impl FnMut(&mut Self, Arc<str>, &T, Place) -> Option<()>,
    ) {
        let mut first: HashMap<String, usize> = HashMap::new();
        for (file, source) in self.sources.iter().enumerate() {
            for (name, item) in items(source).into_iter().flatten() {
                let place = Place::new(file, section).key(name);
                if !is_name(name) {
                    self.problems.add(
                        &place,
                        format!(
                            "`{}` is no name: use letters, digits, `-`, `_` and `.`, at most 64",
                            name.escape_debug()
                        ),
                    );
                }
                if let Some(&other) = first.get(name) {
                    let other = self.sources[other].path.display();
                    self.problems
                        .add(&place, format!("the name `{name}` is also used in `{other}`: rename one of the two"));
                    continue;
                }
                first.insert(name.clone(), file);
                resolve(self, name.as_str().into(), item, place);
            }
        }
    }

    /// True when `name` is defined in `section`, rightly or wrongly.
    pub(super) fn is_defined<T>(
        &self,
        section: &str,
        items: impl Fn(&Source) -> Option<&BTreeMap<String, T>>,
        name: &str,
    ) -> bool {
        self.sources.iter().any(|source| {
            items(source).is_some_and(|items| items.contains_key(name)) || source.left_out.may_define(section, name)
        })
    }
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(legal)
}

/// Header fields that speak of one connection (RFC 9110 section 7.6.1) or frame the message.
pub(super) fn belongs_to_connection(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

/// True when not both can be bound: one is the other, or has it among all its addresses. `[::]` has those of IPv4 too, which
/// the listener sees to.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let (here, there) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0 && a.port() == b.port() && (here == there || covers(here, there) || covers(there, here))
}
