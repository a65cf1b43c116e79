//! Authenticates the requests of a route with the providers that the route names.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

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

/// In place of the instance of a provider, in keys of tokens that none has been chosen for.
const NO_PROVIDER: u64 = u64::MAX;

/// Whom a credential was taken to, and where the cache has the answer. It follows from the fields of a request, the
/// certificate of its connection and the providers of its route alone. There is none where a certificate has decided, or a
/// server that sees more of a request.
#[derive(Clone, Copy, Debug)]
pub struct CachedLookup {
    /// Its place on the route.
    provider: usize,
    /// So that no other provider is ever taken for it.
    instance: u64,
    key: TokenKey,
}

/// What a request shows.
enum Credential<'a> {
    /// Behind `Authorization: Bearer`: of any kind.
    Token(&'a str),
    /// In the field for API keys of a provider: of no other kind.
    Key(&'a str, &'a Arc<Provider>),
}

/// Who can tell the caller of a request.
enum Choice<'a> {
    Holder(&'a Provider, &'a ClientCertificate),
    /// With the token, which is empty where other fields are looked at.
    Ask(&'a Arc<Provider>, &'a str),
}

/// The providers of a route. Which one is asked is told by what the credential looks like, never by trying them in turn.
#[derive(Clone, Debug)]
pub struct Authenticator {
    providers: Arc<[Arc<Provider>]>,
    choices: Arc<Choices>,
    cache: Arc<TokenCache>,
    settings: CacheSettings,
}

impl Authenticator {
    /// At least one provider.
    pub fn new(providers: Vec<Arc<Provider>>, cache: Arc<TokenCache>, settings: CacheSettings) -> Self {
        let choices = Arc::new(Choices::among(providers.len()));
        Self { providers: providers.into(), choices, cache, settings }
    }

    /// The authorization servers that clients are pointed to.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().filter_map(|provider| provider.issuer())
    }

    /// What operators have taken back.
    pub fn revocations(&self) -> &Revocations {
        self.cache.revocations()
    }

    /// Who sent `request`. Where a provider of certificates stands first, a certificate decides, whatever else is sent;
    /// where it stands behind others, it decides when nothing else is sent. `asked` is what was given back for a request with
    /// the same fields on the same connection, by the same authenticator.
    ///
    /// # Errors
    /// No credential, one that is not valid, or a provider that cannot tell.
    pub async fn authenticate(
        &self,
        request: &OriginalRequest<'_>,
        asked: Option<CachedLookup>,
    ) -> Result<(Arc<Principal>, Option<CachedLookup>), AuthError> {
        if let Some(known) = asked
            && let Some(provider) = self.providers.get(known.provider)
            && provider.instance() == known.instance
            && let Some(principal) = self.cache.get(known.key).await
        {
            return self.decided(provider, Ok(principal)).map(|principal| (principal, asked));
        }
        match self.choose(request)? {
            Choice::Holder(provider, certificate) => {
                self.holder(provider, certificate).map(|principal| (principal, None))
            }
            Choice::Ask(provider, token) => self.ask(provider, token, request).await,
        }
    }

    /// True when a server tells who sent `request` that wants to know what its message is about.
    pub fn asks_about_operation(&self, request: &OriginalRequest<'_>) -> bool {
        let sees = |provider: &Provider| provider.lookup().is_some_and(LookupValidator::sees_operation);
        self.find(sees).is_some() && matches!(self.choose(request), Ok(Choice::Ask(provider, _)) if sees(provider))
    }

    fn choose<'a>(&'a self, request: &OriginalRequest<'a>) -> Result<Choice<'a>, AuthError> {
        let certified = self.find(Provider::is_mtls).zip(request.certificate);
        if let Some((provider, certificate)) = certified
            && self.providers.first().is_some_and(|first| first.is_mtls())
        {
            return Ok(Choice::Holder(provider, certificate));
        }
        match self.credential(request.headers)? {
            Some(Credential::Token(token)) => match self.provider_for(token) {
                // It is shown other fields, and never sees this one.
                Some(provider) if provider.lookup().is_some_and(|lookup| !lookup.shows(&AUTHORIZATION)) => self
                    .by_other_credential(request)
                    .map(|provider| Choice::Ask(provider, ""))
                    .ok_or(AuthError::Missing),
                Some(provider) => Ok(Choice::Ask(provider, token)),
                None => Err(AuthError::Denied("no provider of this route knows such a token")),
            },
            Some(Credential::Key(key, provider)) => Ok(Choice::Ask(provider, key)),
            // An authentication server may look at other fields than Authorization.
            None => match (certified, self.by_other_credential(request)) {
                (Some((provider, certificate)), _) => Ok(Choice::Holder(provider, certificate)),
                (None, Some(provider)) => Ok(Choice::Ask(provider, "")),
                (None, None) => Err(AuthError::Missing),
            },
        }
    }

    /// True for the fields of requests that may carry a credential, beside `Authorization`. Like that, they are for the edge.
    pub fn reads(&self, name: &HeaderName) -> bool {
        let of_keys = |provider: &Provider| provider.api_keys().is_some_and(|keys| keys.header() == Some(name));
        let of_lookup = |provider: &Provider| provider.lookup().is_some_and(|lookup| lookup.headers().contains(name));
        self.find(|provider| of_keys(provider) || of_lookup(provider)).is_some()
    }

    /// True for the fields that authentication servers are shown: they decide on them, so the upstream must see the same.
    pub fn shows(&self, name: &HeaderName) -> bool {
        self.find(|provider| provider.lookup().is_some_and(|lookup| lookup.shows(name))).is_some()
    }

    /// The fields that authentication servers are shown, and that go on to the upstream.
    pub fn context_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.providers.iter().filter_map(|provider| provider.lookup()).flat_map(LookupValidator::context_headers)
    }

    /// The one credential of a request.
    fn credential<'a>(&'a self, headers: &'a HeaderMap) -> Result<Option<Credential<'a>>, AuthError> {
        let token = match bearer(headers) {
            Ok(token) => Some(token),
            Err(BearerError::Missing) => None,
            Err(BearerError::Ambiguous) => {
                return Err(AuthError::BadRequest("there is more than one Authorization field"));
            }
            Err(BearerError::Malformed) => {
                return Err(AuthError::Denied("the Authorization field holds no bearer token"));
            }
        };
        let mut key: Option<(&str, &Arc<Provider>)> = None;
        for (provider, name) in
            self.providers.iter().filter_map(|provider| Some((provider, provider.api_keys()?.header()?)))
        {
            let mut fields = headers.get_all(name).iter();
            let Some(field) = fields.next() else { continue };
            if fields.next().is_some() {
                return Err(AuthError::BadRequest("there is more than one field with an API key"));
            }
            let Ok(field) = bearer::token(field.as_bytes()) else {
                return Err(AuthError::Denied("the field of the API key holds none"));
            };
            if token.or(key.map(|(key, _)| key)).is_some_and(|other| other != field) {
                return Err(AuthError::BadRequest("there are different credentials in several fields"));
            }
            let knows = |provider: &Arc<Provider>| {
                let id = api_key_id(field);
                id.is_some_and(|id| provider.api_keys().is_some_and(|keys| keys.knows(id)))
            };
            // Several providers may share a field: the one with the entry counts.
            if key.is_none_or(|(_, other)| !knows(other)) {
                key = Some((field, provider));
            }
        }
        Ok(match (token, key) {
            (Some(token), _) => Some(Credential::Token(token)),
            (None, Some((key, provider))) => Some(Credential::Key(key, provider)),
            (None, None) => None,
        })
    }

    fn by_other_credential(&self, request: &OriginalRequest<'_>) -> Option<&Arc<Provider>> {
        let sees =
            |provider: &&Arc<Provider>| provider.lookup().is_some_and(|lookup| lookup.has_credential(request.headers));
        self.providers.iter().find(sees)
    }

    fn provider_for(&self, token: &str) -> Option<&Arc<Provider>> {
        let mut known_by_token = self.providers.iter().filter(|provider| !provider.is_mtls());
        if let (Some(only), None) = (known_by_token.next(), known_by_token.next()) {
            return Some(only);
        }
        let key = self.cache.key(NO_PROVIDER, [token.as_bytes()]);
        if let Some(chosen) = self.choices.get(key) {
            return self.providers.get(chosen);
        }
        let chosen = self.by_key(token).or_else(|| self.by_issuer(token)).or_else(|| self.find(Provider::is_opaque))?;
        // The token and the providers decide, and the providers stay as they are.
        if let Some(number) = self.providers.iter().position(|provider| Arc::ptr_eq(provider, chosen)) {
            self.choices.put(key, number);
        }
        Some(chosen)
    }

    /// A key belongs to the provider with its id; one that nobody knows is denied by any of them.
    fn by_key(&self, token: &str) -> Option<&Arc<Provider>> {
        let id = api_key_id(token)?;
        let knows = |provider: &Provider| provider.api_keys().is_some_and(|keys| keys.knows(id));
        self.find(knows).or_else(|| self.find(|provider| provider.api_keys().is_some()))
    }

    fn by_issuer(&self, token: &str) -> Option<&Arc<Provider>> {
        let issuer = claimed_issuer(token)?;
        self.find(|provider| provider.issues(&issuer))
    }

    fn find(&self, fits: impl Fn(&Provider) -> bool) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| fits(provider))
    }

    async fn ask(
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
        let place = self.providers.iter().position(|known| Arc::ptr_eq(known, provider));
        let asked = place.filter(|_| provider.lookup().is_none());
        let asked = asked.map(|place| CachedLookup { provider: place, instance: provider.instance(), key });
        Ok((principal, asked))
    }

    /// Nothing is remembered: the connection has its certificate at hand.
    fn holder(&self, provider: &Provider, certificate: &ClientCertificate) -> Result<Arc<Principal>, AuthError> {
        self.decided(provider, provider.holder(certificate).map(Arc::new))
    }

    /// What `provider` said, unless operators have taken it back.
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
