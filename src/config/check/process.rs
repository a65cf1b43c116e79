//! Checks the sections that may be written only once: `limits`, `identity`, `sessions`, `auth.cache`, `admin`.

use http::header::{AUTHORIZATION, COOKIE, HOST};

use super::resolver::{Resolver, is_reserved};
use crate::config::checked::{Admin, Sessions};
use crate::config::limits::{self, Limits};
use crate::config::read::place::Place;
use crate::config::read::source::Source;
use crate::config::units::Size;
use crate::config::written::auth::Cache;
use crate::config::written::server::Identity;
use crate::types::Secret;

impl Resolver<'_> {
    pub(super) fn limits(&mut self) -> Limits {
        let limits = self.only("limits", |source| source.file.limits.clone()).unwrap_or_default();
        let place = Place::new(self.file_of(|source| source.file.limits.is_some()), "limits");
        let (least, most) = limits::HEADER_BYTES.into_inner();
        if !(least..=most).contains(&limits.header_bytes.0) {
            let message = format!("is out of range: write a size from {} to {}", Size(least), Size(most));
            self.problems.add(&place.key("header_bytes"), message);
        }
        let (least, most) = limits::HEADER_COUNT.into_inner();
        if !(least..=most).contains(&limits.header_count) {
            let message = format!("is out of range: write a number from {least} to {most}");
            self.problems.add(&place.key("header_count"), message);
        }
        let least = Size(limits::URI_BYTES);
        if limits.uri_bytes.0 < least.0 {
            let message = format!("is out of range: write a size from {least} to `header_bytes`");
            self.problems.add(&place.key("uri_bytes"), message);
        }
        if limits.uri_bytes.0 > limits.header_bytes.0 {
            let (uri, header) = (&limits.uri_bytes, &limits.header_bytes);
            self.problems.add(&place.key("uri_bytes"), format!("is {uri}, but `header_bytes` is only {header}, and the URI is part of the header: write at most `{header}`"));
        }
        let least = Size(limits::HELD_BYTES);
        if limits.held_bytes.0 < least.0 {
            self.problems.add(&place.key("held_bytes"), format!("is less than {least}: write at least `{least}`"));
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

    pub(super) fn identity(&mut self) -> Identity {
        let identity = self.only("identity", |source| source.file.identity.clone()).unwrap_or_default();
        let place = Place::new(self.file_of(|source| source.file.identity.is_some()), "identity");
        let Identity { subject_header, scopes_header, provider_header } = &identity;
        let fields = [
            ("subject_header", &subject_header.0),
            ("scopes_header", &scopes_header.0),
            ("provider_header", &provider_header.0),
        ];
        for (at, (key, name)) in fields.into_iter().enumerate() {
            if is_reserved(name) || [HOST, AUTHORIZATION, COOKIE].contains(name) {
                self.problems
                    .add(&place.key(key), format!("`{name}` has another meaning: write a name such as `X-User`"));
            }
            if let Some((other, _)) = fields[..at].iter().find(|(_, other)| *other == name) {
                self.problems.add(&place.key(key), format!("`{name}` is also the `{other}`: write another name"));
            }
        }
        identity
    }

    pub(super) fn sessions(&mut self) -> Sessions {
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

    pub(super) fn cache(&mut self) -> Cache {
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
                "is more than 5s: a new permission would not work for too long; write at most `5s`",
            );
        }
        self.not_zero(&place.key("ttl"), &cache.ttl);
        if cache.refresh_ahead.as_ref().is_some_and(|ahead| ahead.0 > cache.ttl.0 / 2) {
            let message =
                "is more than half of `ttl`: credentials would be validated all the time; write less, such as `30s`";
            self.problems.add(&place.key("refresh_ahead"), message);
        }
        if cache.stale_if_error.as_ref().is_some_and(|stale| stale.0 > limits::STALE_IF_ERROR) {
            let message =
                "is more than 60s: a caller that lost its access would be accepted for too long; write at most `60s`";
            self.problems.add(&place.key("stale_if_error"), message);
        }
        for (key, span) in [("refresh_ahead", &cache.refresh_ahead), ("stale_if_error", &cache.stale_if_error)] {
            if let Some(span) = span {
                self.not_zero(&place.key(key), span);
            }
        }
        cache
    }

    pub(super) fn admin(&mut self) -> Admin {
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
}
