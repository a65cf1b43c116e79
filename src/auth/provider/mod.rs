//! One configured provider, and what it needs to validate credentials.

pub(super) mod api_key;
pub(super) mod claims;
pub(super) mod discovery;
pub(super) mod introspection;
pub(super) mod jwks;
pub(super) mod jwt;
pub(super) mod lookup;
pub(super) mod members;
pub(super) mod mtls;
mod twin;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use prometheus::{Histogram, IntCounter};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::AuthError;
use super::outbound::client::OutboundClient;
use super::revocation::credential_digest;
use crate::config;
use crate::config::{ProviderKind, limits};
use crate::metrics::{AuthResult, Metrics};
use crate::types::{ClientCertificate, Grant, Principal, Scope, ScopeSet};
use api_key::ApiKeyValidator;
use claims::Claims;
use introspection::IntrospectionValidator;
use jwt::JwtValidator;
use lookup::{LookupValidator, OriginalRequest};
use mtls::MtlsValidator;
use twin::twin;

/// Everything that a provider needs to validate a credential. It owns its parts, so that it can outlive the request. It
/// does not implement `Debug`, because it holds the credential.
pub(super) struct Question {
    /// Empty if the provider decides by other header fields.
    token: String,
    /// The header fields that a `lookup` provider sends to its server.
    fields: HeaderMap,
}

/// Validates credentials according to its configuration. An instance survives reloads, and keeps its keys and its
/// entries in the cache, as long as its configuration stays the same.
#[derive(Debug)]
pub struct Provider {
    settings: Arc<config::Provider>,
    /// Distinguishes this instance from all others of the process in cache keys.
    instance: u64,
    validator: Validator,
    /// Limits how many requests to the provider's server run at the same time.
    permits: Semaphore,
    allowed: IntCounter,
    denied: IntCounter,
    unavailable: IntCounter,
    duration: Histogram,
}

#[derive(Debug)]
enum Validator {
    Jwt(Box<JwtValidator>),
    Lookup(Box<LookupValidator>),
    Introspection(Box<IntrospectionValidator>),
    ApiKeys(ApiKeyValidator),
    Mtls(MtlsValidator),
}

impl Provider {
    /// Creates a provider. No entry of the cache belongs to it yet.
    pub fn new(settings: &Arc<config::Provider>, client: &OutboundClient, metrics: &Metrics) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        let name = &settings.name;
        metrics.forget_keys(name);
        let validator = match &settings.kind {
            ProviderKind::Jwt(jwt) => Validator::Jwt(Box::new(JwtValidator::new(name, jwt, client, metrics))),
            ProviderKind::Lookup(lookup) => Validator::Lookup(Box::new(LookupValidator::new(lookup, client))),
            ProviderKind::Introspection(introspection) => {
                Validator::Introspection(Box::new(IntrospectionValidator::new(introspection, client)))
            }
            ProviderKind::ApiKeys(keys) => Validator::ApiKeys(ApiKeyValidator::new(keys)),
            ProviderKind::Mtls(mtls) => Validator::Mtls(MtlsValidator::new(mtls)),
        };
        Self {
            settings: Arc::clone(settings),
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            validator,
            permits: Semaphore::new(limits::LOOKUPS),
            allowed: metrics.auth_decisions(name, AuthResult::Allowed),
            denied: metrics.auth_decisions(name, AuthResult::Denied),
            unavailable: metrics.auth_decisions(name, AuthResult::Unavailable),
            duration: metrics.auth_lookup_duration(name),
        }
    }

    /// The settings from which this provider was made.
    pub fn settings(&self) -> &Arc<config::Provider> {
        &self.settings
    }

    /// The authorization server where clients get tokens for this provider.
    pub fn issuer(&self) -> Option<&str> {
        match &self.settings.kind {
            ProviderKind::Jwt(jwt) => Some(&jwt.issuer),
            ProviderKind::Lookup(lookup) => lookup.issuer.as_deref(),
            ProviderKind::Introspection(introspection) => introspection.issuer.as_deref(),
            ProviderKind::ApiKeys(_) | ProviderKind::Mtls(_) => None,
        }
    }

    /// Does the provider's background work, which is to fetch keys again. Runs until dropped, or returns at once if
    /// there is nothing to do.
    pub async fn run(&self) {
        if let Validator::Jwt(jwt) = &self.validator {
            jwt.keep_fresh().await;
        }
    }

    pub(super) fn instance(&self) -> u64 {
        self.instance
    }

    /// The validator of a `lookup` provider. `None` for other kinds of provider.
    pub(super) fn lookup(&self) -> Option<&LookupValidator> {
        match &self.validator {
            Validator::Lookup(lookup) => Some(lookup),
            _ => None,
        }
    }

    /// The validator of an `api_keys` provider. `None` for other kinds of provider.
    pub(super) fn api_keys(&self) -> Option<&ApiKeyValidator> {
        match &self.validator {
            Validator::ApiKeys(keys) => Some(keys),
            _ => None,
        }
    }

    /// The request field of its own from which this provider reads its credential. API keys may come in `Authorization` too.
    pub(super) fn own_field(&self) -> Option<&HeaderName> {
        match &self.validator {
            Validator::Jwt(jwt) => jwt.header(),
            Validator::ApiKeys(keys) => keys.header(),
            Validator::Lookup(_) | Validator::Introspection(_) | Validator::Mtls(_) => None,
        }
    }

    /// True if the provider reads a credential in `Authorization`.
    pub(super) fn reads_authorization(&self) -> bool {
        match &self.validator {
            Validator::Jwt(jwt) => jwt.header().is_none(),
            Validator::Mtls(_) => false,
            Validator::Lookup(lookup) => lookup.shows(&AUTHORIZATION),
            Validator::ApiKeys(_) | Validator::Introspection(_) => true,
        }
    }

    /// True if a server validates the tokens, because the edge cannot read them.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.validator, Validator::Lookup(_) | Validator::Introspection(_))
    }

    /// True if the provider validates JWTs of `issuer`.
    pub(super) fn issues(&self, issuer: &str) -> bool {
        matches!(&self.validator, Validator::Jwt(jwt) if jwt.issuer() == issuer)
    }

    /// Collects what is needed to validate `token`.
    pub(super) fn question(&self, token: &str, request: &OriginalRequest<'_>) -> Question {
        let fields = self.lookup().map(|lookup| lookup.question(request)).unwrap_or_default();
        Question { token: token.to_owned(), fields }
    }

    /// Validates a credential, without the cache.
    pub(super) async fn validate(&self, question: Question) -> Result<Principal, AuthError> {
        let Question { token, fields } = question;
        let token = token.as_str();
        let timer = self.duration.start_timer();
        let claims = match &self.validator {
            Validator::Jwt(jwt) => jwt.validate(token).await?,
            Validator::ApiKeys(keys) => keys.validate(token).await?,
            Validator::Mtls(_) => return Err(AuthError::Denied("this provider only accepts client certificates")),
            Validator::Introspection(introspection) => {
                let _permit = self.permit().await?;
                introspection.validate(&self.settings.name, token).await?
            }
            Validator::Lookup(lookup) => {
                let _permit = self.permit().await?;
                lookup.validate(&self.settings.name, fields).await?
            }
        };
        timer.observe_duration();
        let principal = self.principal(claims)?;
        match token {
            "" => Ok(principal),
            token => {
                let twin = twin(token).map(|twin| credential_digest(twin.as_bytes()));
                Ok(principal.with_credential(credential_digest(token.as_bytes())).with_twin(twin))
            }
        }
    }

    /// True for an `mtls` provider, which identifies callers by their client certificates.
    pub(super) fn is_mtls(&self) -> bool {
        matches!(self.validator, Validator::Mtls(_))
    }

    /// The principal that this `mtls` provider finds for `certificate`. Other kinds of provider deny it.
    pub(super) fn holder(&self, certificate: &ClientCertificate) -> Result<Principal, AuthError> {
        match &self.validator {
            Validator::Mtls(mtls) => self.principal(mtls.validate(certificate)?),
            _ => Err(AuthError::Denied("this provider does not accept client certificates")),
        }
    }

    fn principal(&self, claims: Claims) -> Result<Principal, AuthError> {
        let Claims { subject, scopes, groups, expires_at, audiences, token_id } = claims;
        let scopes = self.scopes(&scopes, &groups);
        Principal::new(&subject, Grant::new(scopes, audiences), Arc::clone(&self.settings.name), expires_at)
            .map(|principal| principal.with_token_id(token_id))
            .map_err(|_| {
                AuthError::Denied(
                    "the credential's subject is empty, has control characters, or begins or ends with white space",
                )
            })
    }

    /// Waits until one more request to the provider's server may run. Clients can send any number of made-up tokens,
    /// which must not become as many requests at the same time.
    async fn permit(&self) -> Result<SemaphorePermit<'_>, AuthError> {
        match tokio::time::timeout(limits::LOOKUP_WAIT, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(AuthError::Unavailable("too many requests are waiting for the provider's server")),
        }
    }

    /// The scopes of the credential, and the scopes that the configuration gives to its groups. A value that is not a
    /// valid scope grants nothing.
    fn scopes(&self, scopes: &[String], groups: &[String]) -> ScopeSet {
        let own = scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok());
        let given = groups.iter().filter_map(|group| self.settings.groups.get(group)).flat_map(ScopeSet::iter).cloned();
        own.chain(given).collect()
    }

    /// Counts a decision, whether it comes from the cache or not.
    pub(super) fn decided<T>(&self, outcome: &Result<T, AuthError>) {
        match outcome {
            Ok(_) => self.allowed.inc(),
            Err(AuthError::Unavailable(_)) => self.unavailable.inc(),
            Err(_) => self.denied.inc(),
        }
    }
}
