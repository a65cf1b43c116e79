//! The credential of one route at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;

use super::assertion::Signer;
use super::endpoint::TokenEndpoint;
use super::error::UpstreamTokenError;
use super::token::{Token, field};
use super::tokens::UpstreamTokens;
use crate::auth::bearer::bearer;
use crate::auth::outbound::client::OutboundClient;
use crate::auth::revocation::credential_digest;
use crate::config;
use crate::config::{CredentialKind, SubjectTokenType, TokenGrant};
use crate::metrics::{Metrics, UpstreamTokenResult};
use crate::types::Principal;

/// Makes what the upstream of a route is shown. As long as its configuration stays the same, an instance lives on through
/// reloads, with its tokens.
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

/// Tokens that a server gives.
#[derive(Debug)]
struct TokenSource {
    /// Distinguishes this instance from all others of the process in cache keys.
    instance: u64,
    endpoint: TokenEndpoint,
    /// Of an exchange: the providers whose callers have a token.
    providers: Option<Vec<Arc<str>>>,
    tokens: Arc<UpstreamTokens>,
    hits: IntCounter,
    issued: IntCounter,
    refused: IntCounter,
    unavailable: IntCounter,
}

/// What one request shows its upstream.
#[derive(Clone, Debug)]
pub struct ShownCredential {
    /// The field.
    pub header: HeaderName,
    /// Its whole value, marked as sensitive.
    pub value: HeaderValue,
    token: Option<Token>,
}

impl ShownCredential {
    /// The upstream has refused it: a token that is remembered is shown to no further request.
    pub fn was_refused(&self) {
        if let Some(token) = &self.token {
            token.spend();
        }
    }
}

impl UpstreamCredential {
    /// The credential of `route`, without remembered tokens.
    pub fn new(
        route: &Arc<str>,
        settings: &config::Credential,
        (tokens, client, metrics): (&Arc<UpstreamTokens>, &OutboundClient, &Metrics),
    ) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        let source = |grant: &TokenGrant, subject: Option<SubjectTokenType>, providers| {
            let count = |result| metrics.upstream_token_requests(route, result);
            Source::Tokens(Box::new(TokenSource {
                instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
                endpoint: TokenEndpoint::new((route, &settings.header), grant, subject, client),
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

    /// What it was made from.
    pub fn settings(&self) -> &config::Credential {
        &self.settings
    }

    /// What the upstream is shown for a request with these `headers`, which `principal` was permitted.
    ///
    /// # Errors
    /// There is nothing that it could be shown.
    pub async fn show(
        &self,
        principal: Option<&Arc<Principal>>,
        headers: &HeaderMap,
    ) -> Result<ShownCredential, UpstreamTokenError> {
        let scheme = &self.settings.scheme;
        let (value, token) = match &self.source {
            Source::Secret(value) => (value.clone(), None),
            Source::Assertion(signer) => {
                let principal = principal.ok_or(UpstreamTokenError::Refused("there is no caller to speak of"))?;
                let value = field(scheme, &signer.sign(principal)?);
                (value.ok_or(UpstreamTokenError::Unavailable("the assertion fits in no header field"))?, None)
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
                let (owner, token) = principal.and_then(|principal| own_token(principal, providers, headers)).ok_or(
                    UpstreamTokenError::Refused("the upstream wants a token in exchange for the caller's, and the caller has not come with one: use a bearer token"),
                )?;
                (Some(owner), token)
            }
            None => (None, ""),
        };
        let key = self.tokens.key(self.instance, owner.and_then(|owner| owner.credential()));
        let mut asked = false;
        let fetch = async || {
            asked = true;
            let asked_at = Instant::now();
            let issued = self.endpoint.ask(subject_token).await;
            match &issued {
                Ok(_) => self.issued.inc(),
                Err(UpstreamTokenError::Refused(_)) => self.refused.inc(),
                Err(UpstreamTokenError::Unavailable(_)) => self.unavailable.inc(),
            }
            issued?.into_token(scheme, owner, asked_at)
        };
        let token = self.tokens.get(key, fetch).await;
        if !asked {
            self.hits.inc();
        }
        token
    }
}

/// The bearer token by which `principal` came, when that is how it came.
fn own_token<'a>(
    principal: &'a Arc<Principal>,
    providers: &[Arc<str>],
    headers: &'a HeaderMap,
) -> Option<(&'a Arc<Principal>, &'a str)> {
    let token = bearer(headers).ok()?;
    // What was validated, and nothing else that stands in the request.
    let is_own = providers.contains(principal.provider())
        && principal.credential() == Some(&credential_digest(token.as_bytes()));
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
        let providers = ["corp".into(), "opaque".into()];
        let own = |principal: &Arc<Principal>, fields: &[&'static str]| {
            own_token(principal, &providers, &headers(fields)).map(|(_, token)| token.to_owned())
        };
        assert_eq!(own(&alice("corp"), &["Bearer hers"]).as_deref(), Some("hers"));
        assert_eq!(own(&alice("opaque"), &["bearer hers"]).as_deref(), Some("hers"));
        assert_eq!(own(&alice("corp"), &["Bearer another"]), None, "nobody has looked at it");
        assert_eq!(own(&alice("robots"), &["Bearer hers"]), None, "an API key");
        for fields in [&[][..], &["Basic hers"], &["Bearer hers", "Bearer hers"]] {
            assert_eq!(own(&alice("corp"), fields), None, "{fields:?}");
        }
        let nameless = Arc::new(principal("corp").expect("legal"));
        assert_eq!(own(&nameless, &["Bearer hers"]), None, "it came by something else");
    }
}
