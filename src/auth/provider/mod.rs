//! One configured provider at work.

pub(super) mod api_key;
pub(super) mod claims;
pub(super) mod discovery;
pub(super) mod introspection;
pub(super) mod jwks;
pub(super) mod jwt;
pub(super) mod lookup;
pub(super) mod members;
pub(super) mod mtls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
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

/// Everything that a provider has to know to validate a credential, apart from the request that brought it. It has no
/// `Debug`, because it holds the credential.
pub(super) struct Question {
    /// Empty where other fields are looked at.
    token: String,
    /// What a `lookup` sends.
    fields: HeaderMap,
}

/// Validates credentials as its configuration says. As long as that stays the same, an instance lives on through
/// reloads, with its keys and with its entries in the cache.
#[derive(Debug)]
pub struct Provider {
    settings: Arc<config::Provider>,
    /// Distinguishes this instance from all others of the process in cache keys.
    instance: u64,
    validator: Validator,
    /// Turns of those who ask a server.
    turns: Semaphore,
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
    /// A provider without remembered answers.
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
            turns: Semaphore::new(limits::LOOKUPS),
            allowed: metrics.auth_decisions(name, AuthResult::Allowed),
            denied: metrics.auth_decisions(name, AuthResult::Denied),
            unavailable: metrics.auth_decisions(name, AuthResult::Unavailable),
            duration: metrics.auth_lookup_duration(name),
        }
    }

    /// What it was made from.
    pub fn settings(&self) -> &Arc<config::Provider> {
        &self.settings
    }

    /// The authorization server that clients are pointed to.
    pub fn issuer(&self) -> Option<&str> {
        match &self.settings.kind {
            ProviderKind::Jwt(jwt) => Some(&jwt.issuer),
            ProviderKind::Lookup(lookup) => lookup.issuer.as_deref(),
            ProviderKind::Introspection(introspection) => introspection.issuer.as_deref(),
            ProviderKind::ApiKeys(_) | ProviderKind::Mtls(_) => None,
        }
    }

    /// Background work, until dropped: keys are fetched again.
    pub async fn run(&self) {
        if let Validator::Jwt(jwt) = &self.validator {
            jwt.keep_fresh().await;
        }
    }

    pub(super) fn instance(&self) -> u64 {
        self.instance
    }

    /// The lookup validator, when this is one.
    pub(super) fn lookup(&self) -> Option<&LookupValidator> {
        match &self.validator {
            Validator::Lookup(lookup) => Some(lookup),
            _ => None,
        }
    }

    /// The validator of API keys, when this is one.
    pub(super) fn api_keys(&self) -> Option<&ApiKeyValidator> {
        match &self.validator {
            Validator::ApiKeys(keys) => Some(keys),
            _ => None,
        }
    }

    /// True when it asks a server about tokens that say nothing to the edge.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.validator, Validator::Lookup(_) | Validator::Introspection(_))
    }

    /// True when it validates JWTs of `issuer`.
    pub(super) fn issues(&self, issuer: &str) -> bool {
        matches!(&self.validator, Validator::Jwt(jwt) if jwt.issuer() == issuer)
    }

    /// What has to be known to validate `token`.
    pub(super) fn question(&self, token: &str, request: &OriginalRequest<'_>) -> Question {
        let fields = self.lookup().map(|lookup| lookup.question(request)).unwrap_or_default();
        Question { token: token.to_owned(), fields }
    }

    /// Validates without the cache.
    pub(super) async fn validate(&self, question: Question) -> Result<Principal, AuthError> {
        let Question { token, fields } = question;
        let token = token.as_str();
        let timer = self.duration.start_timer();
        let claims = match &self.validator {
            Validator::Jwt(jwt) => jwt.validate(token).await?,
            Validator::ApiKeys(keys) => keys.validate(token).await?,
            Validator::Mtls(_) => return Err(AuthError::Denied("this provider knows certificates only")),
            Validator::Introspection(introspection) => {
                let _turn = self.turn().await?;
                introspection.validate(&self.settings.name, token).await?
            }
            Validator::Lookup(lookup) => {
                let _turn = self.turn().await?;
                lookup.validate(&self.settings.name, fields).await?
            }
        };
        timer.observe_duration();
        let principal = self.principal(claims)?;
        match token {
            "" => Ok(principal),
            token => Ok(principal.with_credential(credential_digest(token.as_bytes()))),
        }
    }

    /// True when it knows callers by their certificates.
    pub(super) fn is_mtls(&self) -> bool {
        matches!(self.validator, Validator::Mtls(_))
    }

    /// Who has shown `certificate`, when that is what this provider knows.
    pub(super) fn holder(&self, certificate: &ClientCertificate) -> Result<Principal, AuthError> {
        match &self.validator {
            Validator::Mtls(mtls) => self.principal(mtls.validate(certificate)?),
            _ => Err(AuthError::Denied("this provider knows no certificates")),
        }
    }

    fn principal(&self, claims: Claims) -> Result<Principal, AuthError> {
        let Claims { subject, scopes, groups, expires_at, audiences, token_id } = claims;
        let scopes = self.scopes(&scopes, &groups);
        Principal::new(&subject, Grant::new(scopes, audiences), Arc::clone(&self.settings.name), expires_at)
            .map(|principal| principal.with_token_id(token_id))
            .map_err(|_| AuthError::Denied("the credential's subject cannot stand in a header"))
    }

    /// A turn to ask a server. Made-up tokens can come in any number: they must not become as many questions at once.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, AuthError> {
        match tokio::time::timeout(limits::LOOKUP_WAIT, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(AuthError::Unavailable("the provider is asked more than it can answer")),
        }
    }

    /// Its own scopes, and those that its groups give. What is no scope token is no permission either.
    fn scopes(&self, scopes: &[String], groups: &[String]) -> ScopeSet {
        let own = scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok());
        let given = groups.iter().filter_map(|group| self.settings.groups.get(group)).flat_map(ScopeSet::iter).cloned();
        own.chain(given).collect()
    }

    /// Counts a decision, wherever it came from.
    pub(super) fn decided<T>(&self, outcome: &Result<T, AuthError>) {
        match outcome {
            Ok(_) => self.allowed.inc(),
            Err(AuthError::Unavailable(_)) => self.unavailable.inc(),
            Err(_) => self.denied.inc(),
        }
    }
}
