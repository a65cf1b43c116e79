//! Checks `credential` of a route: the credential that the upstream gets.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::resolver::{Resolver, Sections, is_reserved, providers_of};
use crate::config::checked::credential::{
    Assertion as CheckedAssertion, Assertions, Credential, CredentialKind, Exchange,
};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::read::source::Source;
use crate::config::units::{Header, SecretSource};
use crate::config::written::credential::{Assertion, Credential as Written};
use crate::config::written::lookup::Lookup;
use crate::config::written::route::{Route, RouteAuth};
use crate::config::written::server::Identity;
use crate::config::written::token_grant::TokenGrant;

impl Resolver<'_> {
    /// Checks `credential` of `route`. Errors are reported.
    pub(crate) fn credential(
        &mut self,
        written: &Written,
        route: &Route,
        place: &Place,
        sections: Sections<'_>,
    ) -> Option<Credential> {
        self.credential_header(&written.header, route, place, sections.identity);
        let default = if written.header.0 == AUTHORIZATION { "Bearer" } else { "" };
        let scheme = written.scheme.as_deref().unwrap_or(default);
        if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.problems
                .add(&place.key("scheme"), "is not a valid scheme: write one word such as `Bearer` or `Basic`");
            return None;
        }
        let Written { secret, exchange, client_credentials, assertion, .. } = written;
        let kind = match (secret, exchange, client_credentials, assertion) {
            (Some(secret), None, None, None) => {
                self.secret_value(secret, scheme, &place.key("secret")).map(CredentialKind::Secret)
            }
            (None, Some(grant), None, None) => {
                self.exchange(grant, &route.auth, &place.key("exchange")).map(CredentialKind::Exchange)
            }
            (None, None, Some(grant), None) => {
                let place = place.key("client_credentials");
                if grant.subject_token_type.is_some() {
                    let message = "has no effect, because no token of the caller is sent: take it out";
                    self.problems.add(&place.key("subject_token_type"), message);
                }
                self.token_grant(grant, &place).map(CredentialKind::ClientCredentials)
            }
            (None, None, None, Some(assertion)) => {
                let place = place.key("assertion");
                self.assertion(assertion, &route.auth, &place, sections.assertions).map(CredentialKind::Assertion)
            }
            _ => {
                self.problems.add(place, "a credential is of exactly one kind: write `secret: {file: PATH}`, `exchange: {...}`, `client_credentials: {...}` or `assertion: {...}`");
                None
            }
        }?;
        Some(Credential { header: written.header.0.clone(), scheme: scheme.to_owned(), kind })
    }

    /// Reports a field that has another meaning, or that another key of the route writes.
    fn credential_header(&mut self, written: &Header, route: &Route, place: &Place, identity: &Identity) {
        let header = &written.0;
        let reserved = identity.names().any(|of_identity| of_identity == header)
            || is_reserved(header)
            || ["host", "cookie", "mcp-session-id"].contains(&header.as_str());
        if reserved {
            let message =
                format!("`{header}` has another meaning: write a name such as `Authorization` or `X-Api-Key`");
            self.problems.add(&place.key("header"), message);
        }
        if route.forward_token && *header == AUTHORIZATION {
            let message = "`forward_token` sends the client's `Authorization`, and this credential would replace it: \
                           take one of the two out, or write another `header`";
            self.problems.add(place, message);
        }
        let changes = &route.request_headers;
        let changed = changes.remove.iter().any(|name| name.0 == *header)
            || changes.set.keys().any(|name| name.eq_ignore_ascii_case(header.as_str()));
        if changed {
            let message = format!(
                "`request_headers` changes `{header}`, which carries this credential: take `{header}` out there, or \
                 write another `header`"
            );
            self.problems.add(place, message);
        }
    }

    /// The whole value of the field: the secret, after the scheme and a space if there is a scheme.
    fn secret_value(&mut self, written: &SecretSource, scheme: &str, place: &Place) -> Option<HeaderValue> {
        let folder = self.folder(place.file);
        let secret = self.materials.secret(&folder, written, place, &mut self.problems)?;
        let space: &[u8] = if scheme.is_empty() { b"" } else { b" " };
        let Ok(mut value) = HeaderValue::from_bytes(&[scheme.as_bytes(), space, secret.expose()].concat()) else {
            self.problems
                .add(place, "has characters that a header field cannot carry: write one line of visible characters");
            return None;
        };
        value.set_sensitive(true);
        Some(value)
    }

    fn exchange(&mut self, written: &TokenGrant, auth: &RouteAuth, place: &Place) -> Option<Exchange> {
        let grant = self.token_grant(written, place);
        let RouteAuth::Required(auth) = auth else {
            self.problems.add(place, "the route is open, so there is no token to exchange: write `auth: {providers: [NAME]}`, or `client_credentials` for a token of the edge itself");
            return None;
        };
        let has_no_token = |name: &String| {
            let mut providers = self.sources.iter().filter_map(providers_of);
            let provider = providers.find_map(|providers| providers.get(name));
            // A `lookup` whose `headers` do not include `Authorization` does not validate a bearer token.
            provider.is_some_and(|provider| {
                let unread = |lookup: &Lookup| !lookup.headers.iter().any(|name| name.0 == AUTHORIZATION);
                provider.api_keys.is_some() || provider.mtls.is_some() || provider.lookup.as_ref().is_some_and(unread)
            })
        };
        let field = |name: &str| {
            let jwt = self.written_provider(name).and_then(|provider| provider.jwt.as_ref());
            jwt.and_then(|jwt| jwt.header.as_ref()).map_or(AUTHORIZATION, |header| header.0.clone())
        };
        let with_token = auth.providers.iter().filter(|name| !has_no_token(name));
        let providers: Vec<(Arc<str>, HeaderName)> =
            with_token.map(|name| (name.as_str().into(), field(name))).collect();
        if providers.is_empty() && !auth.providers.is_empty() {
            self.problems.add(place, "none of the route's providers takes bearer tokens, so there is nothing to exchange: name a provider of kind `jwt` or `introspection`, or a `lookup` with `Authorization` in `headers`, or write `client_credentials` or `assertion`");
        }
        let subject_token_type = written.subject_token_type.unwrap_or_default();
        Some(Exchange { grant: grant?, subject_token_type, providers })
    }

    fn assertion(
        &mut self,
        written: &Assertion,
        auth: &RouteAuth,
        place: &Place,
        assertions: Option<&Assertions>,
    ) -> Option<CheckedAssertion> {
        if *auth == RouteAuth::None {
            self.problems.add(place, "the route is open, so the assertion has no caller to name: write `auth: {providers: [NAME]}`, or `client_credentials` for a token of the edge itself");
        }
        if written.audience.is_empty() {
            self.problems.add(&place.key("audience"), "is empty: write the name that the upstream expects in `aud`");
        }
        if !(limits::ASSERTION_MIN..=limits::ASSERTION_MAX).contains(&written.lifetime.0) {
            self.problems.add(&place.key("lifetime"), "is out of range: write a duration from `5s` to `5m`");
        }
        let is_written = |source: &Source| source.file.assertions.is_some() || source.left_out.touches("assertions");
        if !self.sources.iter().any(is_written) {
            self.problems.add(place, "there is no key to sign an assertion: write a section `assertions: {issuer: https://edge.example, keys: [{file: PATH}]}`");
        }
        let Assertions { issuer, keys } = assertions?;
        Some(CheckedAssertion {
            issuer: issuer.clone(),
            key: keys.first()?.clone(),
            audience: written.audience.clone(),
            lifetime: written.lifetime.0,
        })
    }
}
