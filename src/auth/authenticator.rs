//! Authenticates the requests of a route with the providers that the route names.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::bearer::{self, BearerError, bearer};
use super::cache::{TokenCache, TokenKey, Validation};
use super::choices::Choices;
use super::error::AuthError;
use super::provider::Provider;
use super::provider::jwt::claimed_issuer;
use super::provider::lookup::{LookupValidator, OriginalRequest};
use super::revocation::Revocations;
use crate::config::Cache as CacheSettings;
use crate::types::{ClientCertificate, Principal, api_key_id};

/// Stands for the provider instance in the keys of tokens for which no provider has been chosen yet.
const NO_PROVIDER: u64 = u64::MAX;

/// Remembers which provider handled a credential and its cache key, so that a repeat skips provider selection. Both
/// depend only on the header fields of the request, the certificate of the connection and the providers of the route.
/// There is no cached lookup for a decision by certificate, which needs no cache, or by a `lookup` provider, whose
/// answer may depend on other parts of the request.
#[derive(Clone, Copy, Debug)]
pub struct CachedLookup {
    /// The provider's position on the route.
    provider: usize,
    /// The provider's instance, so that another provider at this position is never used instead.
    instance: u64,
    key: TokenKey,
}

/// The credential that a request carries.
enum Credential<'a> {
    /// The value after `Authorization: Bearer`. It may be a credential of any kind.
    Token(&'a str),
    /// The value of a provider's own header field.
    Own(&'a str, &'a Arc<Provider>),
}

/// The provider that decides who the caller of a request is.
enum Choice<'a> {
    /// An mTLS provider decides by the client certificate.
    Certificate(&'a Provider, &'a ClientCertificate),
    /// The provider validates the token. The token is empty if the provider decides by other header fields.
    Token(&'a Arc<Provider>, &'a str),
}

/// Authenticates with the providers of a route. The form of the credential selects one provider. Providers are never
/// tried one after the other.
#[derive(Clone, Debug)]
pub struct Authenticator {
    providers: Arc<[Arc<Provider>]>,
    choices: Arc<Choices>,
    cache: Arc<TokenCache>,
    settings: CacheSettings,
    /// A provider reads `Authorization` and no field of its own.
    takes_authorization: bool,
}

/// True if `provider` is certainly the one for `credential`.
fn knows(provider: &Provider, credential: &str) -> bool {
    match provider.api_keys() {
        Some(keys) => api_key_id(credential).is_some_and(|id| keys.knows(id)),
        None => claimed_issuer(credential).is_some_and(|issuer| provider.issues(&issuer)),
    }
}

impl Authenticator {
    /// `providers` must have at least one provider.
    pub fn new(providers: Vec<Arc<Provider>>, cache: Arc<TokenCache>, settings: CacheSettings) -> Self {
        let choices = Arc::new(Choices::among(providers.len()));
        let takes_authorization =
            providers.iter().any(|provider| provider.reads_authorization() && provider.own_field().is_none());
        Self { providers: providers.into(), choices, cache, settings, takes_authorization }
    }

    /// The authorization servers where clients get tokens for this route.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().filter_map(|provider| provider.issuer())
    }

    /// True when a client may get a token for this route from an authorization server. Keys and certificates come from elsewhere.
    pub fn takes_tokens(&self) -> bool {
        self.providers.iter().any(|provider| provider.api_keys().is_none() && !provider.is_mtls())
    }

    /// The revocations of operators.
    pub fn revocations(&self) -> &Revocations {
        self.cache.revocations()
    }

    /// Finds out who sent `request`. If the first provider of the route is an mTLS provider, a client certificate
    /// decides, whatever else the request carries. If an mTLS provider comes later, a certificate decides only for a
    /// request without a bearer token and without an API key. `cached` is the cached lookup that this authenticator has
    /// returned for an earlier request with the same header fields on the same connection.
    ///
    /// # Errors
    /// The request has no credential, its credential is not valid, or the provider cannot decide now.
    pub async fn authenticate(
        &self,
        request: &OriginalRequest<'_>,
        cached: Option<CachedLookup>,
    ) -> Result<(Arc<Principal>, Option<CachedLookup>), AuthError> {
        if let Some(known) = cached
            && let Some(provider) = self.providers.get(known.provider)
            && provider.instance() == known.instance
            && let Some(principal) = self.cache.get(known.key).await
        {
            return self.decided(provider, Ok(principal)).map(|principal| (principal, cached));
        }
        match self.choose(request)? {
            Choice::Certificate(provider, certificate) => {
                self.holder(provider, certificate).map(|principal| (principal, None))
            }
            Choice::Token(provider, token) => self.validate(provider, token, request).await,
        }
    }

    /// True if a `lookup` provider decides who sent `request`, and its server must be sent the operation of the
    /// message.
    pub fn asks_about_operation(&self, request: &OriginalRequest<'_>) -> bool {
        let sees = |provider: &Provider| provider.lookup().is_some_and(LookupValidator::sees_operation);
        self.find(sees).is_some() && matches!(self.choose(request), Ok(Choice::Token(provider, _)) if sees(provider))
    }

    fn choose<'a>(&'a self, request: &OriginalRequest<'a>) -> Result<Choice<'a>, AuthError> {
        let certified = self.find(Provider::is_mtls).zip(request.certificate);
        if let Some((provider, certificate)) = certified
            && self.providers.first().is_some_and(|first| first.is_mtls())
        {
            return Ok(Choice::Certificate(provider, certificate));
        }
        match self.credential(request.headers)? {
            Some(Credential::Token(token)) => match self.provider_for(token) {
                // This provider sends other header fields to its server, but not `Authorization`.
                Some(provider) if provider.lookup().is_some_and(|lookup| !lookup.shows(&AUTHORIZATION)) => self
                    .by_other_credential(request)
                    .map(|provider| Choice::Token(provider, ""))
                    // The token is for nobody here, so it does not keep a certificate from deciding.
                    .or(certified.map(|(provider, certificate)| Choice::Certificate(provider, certificate)))
                    .ok_or(AuthError::Missing),
                Some(provider) => Ok(Choice::Token(provider, token)),
                None => {
                    Err(AuthError::Denied("no provider of this route accepts tokens of this kind or from this issuer"))
                }
            },
            Some(Credential::Own(value, provider)) => Ok(Choice::Token(provider, value)),
            // An authentication server may decide by other header fields than `Authorization`.
            None => {
                match (certified, self.by_other_credential(request).or_else(|| self.for_requests_without_credential()))
                {
                    (Some((provider, certificate)), _) => Ok(Choice::Certificate(provider, certificate)),
                    (None, Some(provider)) => Ok(Choice::Token(provider, "")),
                    (None, None) => Err(AuthError::Missing),
                }
            }
        }
    }

    /// True for a header field, other than `Authorization`, that may carry a credential. Like `Authorization`, such a
    /// field is meant for the edge and not for the upstream.
    pub fn reads(&self, name: &HeaderName) -> bool {
        let of_lookup = |provider: &Provider| provider.lookup().is_some_and(|lookup| lookup.headers().contains(name));
        self.find(|provider| provider.own_field() == Some(name) || of_lookup(provider)).is_some()
    }

    /// True for a header field that is sent to an authentication server. Its decision depends on the field, so the
    /// upstream must see the same value.
    pub fn shows(&self, name: &HeaderName) -> bool {
        self.find(|provider| provider.lookup().is_some_and(|lookup| lookup.shows(name))).is_some()
    }

    /// The header fields that are sent to authentication servers and also go on to the upstream.
    pub fn context_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.providers.iter().filter_map(|provider| provider.lookup()).flat_map(LookupValidator::context_headers)
    }

    /// True if `Authorization` of a request is meant for the upstream: the credential for the edge came in a field of its own, and
    /// no provider of the route would read it in `Authorization`.
    pub fn leaves_authorization(&self, headers: &HeaderMap) -> bool {
        if self.takes_authorization {
            return false;
        }
        let Ok(own) = self.own_credential(headers) else { return false };
        let asked = self.providers.iter().filter_map(|provider| provider.lookup()).flat_map(LookupValidator::headers);
        let own: Vec<&[u8]> = own
            .map(|(own, _)| own.as_bytes())
            .into_iter()
            .chain(asked.filter_map(|name| headers.get(name)).map(HeaderValue::as_bytes))
            .collect();
        match bearer(headers) {
            _ if own.is_empty() => false,
            Ok(token) => !own.iter().any(|own| own.ends_with(token.as_bytes())) && !self.may_be_key(token),
            Err(BearerError::Ambiguous) => false,
            Err(BearerError::Missing | BearerError::Malformed | BearerError::TooLong) => true,
        }
    }

    /// The one credential of a request, from `Authorization` or a provider's own header field.
    fn credential<'a>(&'a self, headers: &'a HeaderMap) -> Result<Option<Credential<'a>>, AuthError> {
        let own = self.own_credential(headers)?;
        if own.is_none() && !self.providers.iter().any(|provider| provider.reads_authorization()) {
            return Ok(None);
        }
        let token = match bearer(headers) {
            Ok(token) => Some(token),
            Err(BearerError::Missing) => None,
            Err(BearerError::Ambiguous) => {
                return Err(AuthError::BadRequest("there is more than one Authorization field"));
            }
            Err(BearerError::Malformed | BearerError::TooLong) if own.is_some() && !self.takes_authorization => None,
            Err(BearerError::Malformed) => {
                return Err(AuthError::Denied("the bearer token in the Authorization field is malformed"));
            }
            Err(BearerError::TooLong) => {
                return Err(AuthError::Denied("the bearer token in the Authorization field is longer than 16 KiB"));
            }
        };
        match (token, own) {
            (Some(token), Some((own, _))) if token != own && (self.takes_authorization || self.may_be_key(token)) => {
                Err(AuthError::BadRequest("there are different credentials in several fields"))
            }
            (Some(token), Some((own, _))) if token == own && self.takes_authorization => {
                Ok(Some(Credential::Token(token)))
            }
            (_, Some((own, provider))) => Ok(Some(Credential::Own(own, provider))),
            (Some(token), None) => Ok(Some(Credential::Token(token))),
            (None, None) => Ok(None),
        }
    }

    /// True for a token that a provider of API keys may know.
    fn may_be_key(&self, token: &str) -> bool {
        api_key_id(token).is_some() && self.find(|provider| provider.api_keys().is_some()).is_some()
    }

    /// The credential in the own header field of a provider, and the provider that decides on it.
    fn own_credential<'a>(&'a self, headers: &'a HeaderMap) -> Result<Option<(&'a str, &'a Arc<Provider>)>, AuthError> {
        let mut found: Option<(&str, &Arc<Provider>)> = None;
        let with_field = self.providers.iter().filter_map(|provider| Some((provider, provider.own_field()?)));
        for (provider, name) in with_field {
            let mut fields = headers.get_all(name).iter();
            let Some(field) = fields.next() else { continue };
            if fields.next().is_some() {
                return Err(AuthError::BadRequest("a field that carries a credential is sent more than once"));
            }
            let field = bearer::own_field(field.as_bytes()).map_err(|error| match error {
                BearerError::TooLong => AuthError::Denied("the credential in a header field is longer than 16 KiB"),
                _ => AuthError::Denied("the credential in a header field is malformed"),
            })?;
            if found.is_some_and(|(other, _)| other != field) {
                return Err(AuthError::BadRequest("there are different credentials in several fields"));
            }
            // Several providers may share a header field.
            if found.is_none_or(|(_, other)| !knows(other, field)) {
                found = Some((field, provider));
            }
        }
        Ok(found)
    }

    fn by_other_credential(&self, request: &OriginalRequest<'_>) -> Option<&Arc<Provider>> {
        let sees =
            |provider: &&Arc<Provider>| provider.lookup().is_some_and(|lookup| lookup.has_credential(request.headers));
        self.providers.iter().find(sees)
    }

    /// The provider that is asked about requests without a credential.
    fn for_requests_without_credential(&self) -> Option<&Arc<Provider>> {
        self.find(|provider| provider.lookup().is_some_and(LookupValidator::asks_about_anybody))
    }

    /// The provider that decides on a token in `Authorization`.
    fn provider_for(&self, token: &str) -> Option<&Arc<Provider>> {
        let mut known_by_token = self.providers.iter().filter(|provider| provider.reads_authorization());
        if let (Some(only), None) = (known_by_token.next(), known_by_token.next()) {
            return Some(only);
        }
        let key = self.cache.key(NO_PROVIDER, [token.as_bytes()]);
        if let Some(chosen) = self.choices.get(key) {
            return self.providers.get(chosen);
        }
        let chosen = self.by_key(token).or_else(|| self.by_issuer(token)).or_else(|| self.find(Provider::is_opaque))?;
        // The choice depends only on the token and the providers. The providers of an authenticator never change, so
        // the choice can be remembered.
        if let Some(position) = self.providers.iter().position(|provider| Arc::ptr_eq(provider, chosen)) {
            self.choices.put(key, position);
        }
        Some(chosen)
    }

    /// The provider that knows the id of this API key. If no provider knows the id, the first provider of API keys
    /// denies the key.
    fn by_key(&self, token: &str) -> Option<&Arc<Provider>> {
        let id = api_key_id(token)?;
        let knows = |provider: &Provider| provider.api_keys().is_some_and(|keys| keys.knows(id));
        self.find(knows).or_else(|| self.find(|provider| provider.api_keys().is_some()))
    }

    fn by_issuer(&self, token: &str) -> Option<&Arc<Provider>> {
        let issuer = claimed_issuer(token)?;
        self.find(|provider| provider.issues(&issuer) && provider.reads_authorization())
    }

    fn find(&self, fits: impl Fn(&Provider) -> bool) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| fits(provider))
    }

    async fn validate(
        &self,
        provider: &Arc<Provider>,
        token: &str,
        request: &OriginalRequest<'_>,
    ) -> Result<(Arc<Principal>, Option<CachedLookup>), AuthError> {
        let key = match provider.lookup() {
            Some(lookup) => self.cache.key(provider.instance(), lookup.key_parts(request)),
            None => self.cache.key(provider.instance(), [token.as_bytes()]),
        };
        let validate = || provider.validate(provider.question(token, request));
        let again = || -> Validation {
            let (provider, question) = (Arc::clone(provider), provider.question(token, request));
            Box::pin(async move { provider.validate(question).await })
        };
        let outcome = self.cache.get_or_validate(key, &self.settings, validate, again).await;
        let principal = self.decided(provider, outcome)?;
        let position = self.providers.iter().position(|known| Arc::ptr_eq(known, provider));
        let cached = position.filter(|_| provider.lookup().is_none());
        let cached = cached.map(|position| CachedLookup { provider: position, instance: provider.instance(), key });
        Ok((principal, cached))
    }

    /// Nothing is cached here, because the connection keeps its certificate.
    fn holder(&self, provider: &Provider, certificate: &ClientCertificate) -> Result<Arc<Principal>, AuthError> {
        self.decided(provider, provider.holder(certificate).map(Arc::new))
    }

    /// Counts and returns the decision of `provider`. A credential that an operator has revoked is denied.
    fn decided(
        &self,
        provider: &Provider,
        outcome: Result<Arc<Principal>, AuthError>,
    ) -> Result<Arc<Principal>, AuthError> {
        let outcome = outcome.and_then(|principal| match self.cache.revocations().refuses(&principal) {
            true => Err(AuthError::Denied("the credential was revoked")),
            false => Ok(principal),
        });
        provider.decided(&outcome);
        outcome
    }
}
