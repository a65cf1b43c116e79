//! Checks `introspection` of a provider.

use super::resolver::Resolver;
use crate::config::checked::auth::{ClientKey, ClientProof, IntrospectionProvider};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::units::SecretSource;
use crate::config::written::introspection::{Introspection, PrivateKey};

impl Resolver<'_> {
    pub(crate) fn introspection(&mut self, written: &Introspection, place: &Place) -> Option<IntrospectionProvider> {
        if written.client_id.is_empty() {
            self.problems.add(&place.key("client_id"), "is empty: write the id that the server gave to the edge");
        }
        if written.issuer.as_ref().is_some_and(String::is_empty) {
            self.problems.add(&place.key("issuer"), "is empty: write where clients get tokens, or take this out");
        }
        self.audiences(written.audiences.as_deref(), &place.key("audiences"));
        self.leeway(&written.leeway, place);
        self.auth_timeout(&written.timeout, place);
        self.reachable(&written.url.0, &place.key("url"));
        let claims =
            self.claim_names(&written.subject_claim, written.scopes_claim.as_deref(), &written.groups_claim, place);
        let (secret, key) = (written.client_secret.as_ref(), written.private_key.as_ref());
        let proof = self.client_proof(secret, key, written.issuer.as_deref(), place)?;
        Some(IntrospectionProvider {
            url: written.url.0.clone(),
            client_id: written.client_id.clone(),
            proof,
            issuer: written.issuer.clone(),
            audiences: written.audiences.clone(),
            audience_optional: written.audience_optional,
            leeway: written.leeway.0,
            claims,
            timeout: written.timeout.0,
        })
    }

    /// Checks that exactly one of `client_secret` and `private_key` is written, and reads it. `server` is the default
    /// `audience` of signatures.
    pub(crate) fn client_proof(
        &mut self,
        secret: Option<&SecretSource>,
        key: Option<&PrivateKey>,
        server: Option<&str>,
        place: &Place,
    ) -> Option<ClientProof> {
        match (secret, key) {
            (Some(secret), None) => {
                let folder = self.folder(place.file);
                let place = place.key("client_secret");
                self.materials.secret(&folder, secret, &place, &mut self.problems).map(ClientProof::Secret)
            }
            (None, Some(key)) => self.client_key(key, server, &place.key("private_key")).map(ClientProof::Key),
            _ => {
                self.problems.add(place, "the edge authenticates to the server in exactly one way: write `client_secret: {env: NAME}`, `client_secret: {file: PATH}` or `private_key: {file: PATH}`");
                None
            }
        }
    }

    fn client_key(&mut self, written: &PrivateKey, issuer: Option<&str>, place: &Place) -> Option<ClientKey> {
        let audience = written.audience.as_deref().or(issuer).filter(|audience| !audience.is_empty());
        if audience.is_none() {
            self.problems.add(place, "the signature has no audience: write `audience` with the issuer or the token endpoint of the server, or write `issuer` beside `private_key`");
        }
        if written.id.as_ref().is_some_and(String::is_empty) {
            self.problems.add(&place.key("id"), "is empty: write the `kid` of the key, or take this out");
        }
        let folder = self.folder(place.file);
        let key = self.materials.signing_key(&folder, &written.file, &place.key("file"), &mut self.problems)?;
        Some(ClientKey { key, id: written.id.clone(), audience: audience?.to_owned() })
    }

    /// Checks `audiences` of a provider or a route.
    pub(crate) fn audiences(&mut self, written: Option<&[String]>, place: &Place) {
        if written.is_some_and(<[String]>::is_empty) {
            self.problems.add(place, "is empty, so tokens for any service would be accepted: write what `aud` must be");
        }
        let empty = written.into_iter().flatten().enumerate().filter(|(_, audience)| audience.is_empty());
        for (index, _) in empty {
            self.problems.add(&place.item(index), "is empty: write what `aud` must be");
        }
    }

    pub(crate) fn leeway(&mut self, written: &crate::config::units::Span, place: &Place) {
        if written.0 > limits::LEEWAY {
            self.problems.add(&place.key("leeway"), "is more than 30s: write at most `30s`");
        }
    }

    pub(crate) fn auth_timeout(&mut self, written: &crate::config::units::Span, place: &Place) {
        let place = place.key("timeout");
        if written.0 > limits::AUTH_TIMEOUT {
            self.problems.add(&place, "is more than 2s: write at most `2s`");
        }
        self.not_zero(&place, written);
    }
}
