//! The credential that a route sends to its upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;

use super::assertion::Signer;
use super::endpoint::TokenEndpoint;
use super::error::UpstreamTokenError;
use super::token::{Token, field};
use super::tokens::UpstreamTokens;
use crate::auth::bearer::{bearer, own_field};
use crate::auth::outbound::client::OutboundClient;
use crate::auth::revocation::credential_digest;
use crate::config;
use crate::config::{CredentialKind, SubjectTokenType, TokenGrant};
use crate::metrics::{Metrics, UpstreamTokenResult};
use crate::types::Principal;

const NO_CALLER: UpstreamTokenError = UpstreamTokenError::Refused(
    "the upstream needs an assertion about the caller, but the caller is not authenticated",
);
const UNWRITABLE_ASSERTION: UpstreamTokenError =
    UpstreamTokenError::Unavailable("the assertion cannot be written as a header field");
const NO_BEARER_TOKEN: UpstreamTokenError = UpstreamTokenError::Refused(
    "the upstream needs a token that is exchanged for the caller's bearer token, but the caller did not authenticate \
     with one: send a token as `Authorization: Bearer TOKEN`",
);

/// Makes the credentials that a route sends to its upstream. An instance survives reloads, and keeps its tokens, as
/// long as its configuration stays the same.
#[derive(Debug)]
pub struct UpstreamCredential {
    settings: config::Credential,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Secret(HeaderValue),
    Tokens(Box<TokenSource>),
    Assertion(Box<Signer>),
}

/// Gets tokens from a token endpoint.
#[derive(Debug)]
struct TokenSource {
    /// Distinguishes this instance from all others of the process in cache keys.
    instance: u64,
    endpoint: TokenEndpoint,
    /// For an exchange: the providers whose callers have a bearer token that can be exchanged, and the request fields that carry it.
    providers: Option<Vec<(Arc<str>, HeaderName)>>,
    tokens: Arc<UpstreamTokens>,
    hits: IntCounter,
    issued: IntCounter,
    refused: IntCounter,
    unavailable: IntCounter,
}

/// The credential that one request carries to its upstream.
#[derive(Clone, Debug)]
pub struct ShownCredential {
    /// The name of the header field.
    pub header: HeaderName,
    /// The whole value of the header field, marked as sensitive.
    pub value: HeaderValue,
    token: Option<Token>,
}

impl ShownCredential {
    /// Must be called when the upstream has refused the credential. A cached token is then not sent again, unless it is
    /// a token of the edge itself that is younger than
    /// [`limits::UPSTREAM_TOKEN_SPEND`](config::limits::UPSTREAM_TOKEN_SPEND).
    pub fn was_refused(&self) {
        if let Some(token) = &self.token {
            token.spend();
        }
    }
}

impl UpstreamCredential {
    /// Creates the credential of `route`, with no tokens yet.
    pub fn new(
        route: &Arc<str>,
        settings: &config::Credential,
        tokens: &Arc<UpstreamTokens>,
        client: &OutboundClient,
        metrics: &Metrics,
    ) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        let source = |grant: &TokenGrant, subject: Option<SubjectTokenType>, providers| {
            let count = |result| metrics.upstream_token_requests(route, result);
            Source::Tokens(Box::new(TokenSource {
                instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
                endpoint: TokenEndpoint::new(route, &settings.header, grant, subject, client),
                providers,
                tokens: Arc::clone(tokens),
                hits: count(UpstreamTokenResult::Hit),
                issued: count(UpstreamTokenResult::Ok),
                refused: count(UpstreamTokenResult::Refused),
                unavailable: count(UpstreamTokenResult::Unavailable),
            }))
        };
        let source = match &settings.kind {
            CredentialKind::Secret(value) => Source::Secret(value.clone()),
            CredentialKind::Exchange(exchange) => {
                source(&exchange.grant, Some(exchange.subject_token_type), Some(exchange.providers.clone()))
            }
            CredentialKind::ClientCredentials(grant) => source(grant, None, None),
            CredentialKind::Assertion(assertion) => Source::Assertion(Box::new(Signer::new(assertion))),
        };
        Self { settings: settings.clone(), source }
    }

    /// The settings from which this credential was made.
    pub fn settings(&self) -> &config::Credential {
        &self.settings
    }

    /// Makes the credential for one request with these `headers`, which was permitted for `principal`.
    ///
    /// # Errors
    /// There is no credential for this caller, or no credential is available now.
    pub async fn show(
        &self,
        principal: Option<&Arc<Principal>>,
        headers: &HeaderMap,
    ) -> Result<ShownCredential, UpstreamTokenError> {
        let scheme = &self.settings.scheme;
        let (value, token) = match &self.source {
            Source::Secret(value) => (value.clone(), None),
            Source::Assertion(signer) => {
                let value = field(scheme, &signer.sign(principal.ok_or(NO_CALLER)?)?);
                (value.ok_or(UNWRITABLE_ASSERTION)?, None)
            }
            Source::Tokens(source) => {
                let token = source.token(scheme, principal, headers).await?;
                (token.value.clone(), Some(token))
            }
        };
        Ok(ShownCredential { header: self.settings.header.clone(), value, token })
    }
}

impl TokenSource {
    async fn token(
        &self,
        scheme: &str,
        principal: Option<&Arc<Principal>>,
        headers: &HeaderMap,
    ) -> Result<Token, UpstreamTokenError> {
        let (owner, subject_token) = match &self.providers {
            Some(providers) => {
                let own = principal.and_then(|principal| own_token(principal, providers, headers));
                let (owner, token) = own.ok_or(NO_BEARER_TOKEN)?;
                (Some(owner), token)
            }
            None => (None, ""),
        };
        let key = self.tokens.key(self.instance, owner.and_then(|owner| owner.credential()));
        let mut fetched = false;
        let fetch = async || {
            fetched = true;
            let requested_at = Instant::now();
            let issued = self.endpoint.ask(subject_token).await;
            match &issued {
                Ok(_) => self.issued.inc(),
                Err(UpstreamTokenError::Refused(_)) => self.refused.inc(),
                Err(UpstreamTokenError::Unavailable(_)) => self.unavailable.inc(),
            }
            issued?.into_token(scheme, owner, requested_at)
        };
        let token = self.tokens.get(key, fetch).await;
        if !fetched {
            self.hits.inc();
        }
        token
    }
}

/// The bearer token with which `principal` authenticated, if it did so with a bearer token of one of `providers`.
fn own_token<'a>(
    principal: &'a Arc<Principal>,
    providers: &[(Arc<str>, HeaderName)],
    headers: &'a HeaderMap,
) -> Option<(&'a Arc<Principal>, &'a str)> {
    let (_, field) = providers.iter().find(|(name, _)| name == principal.provider())?;
    let token = match *field == AUTHORIZATION {
        true => bearer(headers).ok()?,
        false => own_field(headers.get(field)?.as_bytes()).ok()?,
    };
    // Only the token that was validated counts, not another one that the request may also carry.
    let is_own = principal.credential() == Some(&credential_digest(token.as_bytes()));
    is_own.then_some((principal, token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScopeSet;

    #[test]
    fn only_the_token_that_was_validated_is_the_callers_own() {
        let principal = |provider: &str| Principal::new("alice", ScopeSet::default(), provider.into(), None);
        let alice =
            |provider: &str| Arc::new(principal(provider).expect("legal").with_credential(credential_digest(b"hers")));
        let headers = |fields: &[&'static str]| -> HeaderMap {
            fields.iter().map(|field| (http::header::AUTHORIZATION, HeaderValue::from_static(field))).collect()
        };
        let providers = ["corp", "opaque"].map(|name| (name.into(), AUTHORIZATION));
        let own = |principal: &Arc<Principal>, fields: &[&'static str]| {
            own_token(principal, &providers, &headers(fields)).map(|(_, token)| token.to_owned())
        };
        assert_eq!(own(&alice("corp"), &["Bearer hers"]).as_deref(), Some("hers"));
        assert_eq!(own(&alice("opaque"), &["bearer hers"]).as_deref(), Some("hers"));
        assert_eq!(own(&alice("corp"), &["Bearer another"]), None, "this token was not validated");
        assert_eq!(own(&alice("robots"), &["Bearer hers"]), None, "an API key");
        for fields in [&[][..], &["Basic hers"], &["Bearer hers", "Bearer hers"]] {
            assert_eq!(own(&alice("corp"), fields), None, "{fields:?}");
        }
        let without_token = Arc::new(principal("corp").expect("legal"));
        assert_eq!(own(&without_token, &["Bearer hers"]), None, "the caller did not authenticate with a token");
    }
}
