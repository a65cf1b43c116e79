//! Authenticates the requests of a route with the providers that the route names.

use std::sync::Arc;

use super::bearer::{BearerError, bearer};
use super::cache::TokenCache;
use super::error::AuthError;
use super::jwt::claimed_issuer;
use super::lookup::OriginalRequest;
use super::provider::Provider;
use crate::config::Cache as CacheSettings;
use crate::types::Principal;

/// The providers of a route. Which one is asked is told by what the credential looks like, never by trying them in turn.
#[derive(Clone, Debug)]
pub struct Authenticator {
    providers: Arc<[Arc<Provider>]>,
    cache: Arc<TokenCache>,
    settings: CacheSettings,
}

impl Authenticator {
    /// At least one provider.
    pub fn new(providers: Vec<Arc<Provider>>, cache: Arc<TokenCache>, settings: CacheSettings) -> Self {
        Self { providers: providers.into(), cache, settings }
    }

    /// The authorization servers that clients are pointed to.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().filter_map(|provider| provider.issuer())
    }

    /// Who sent `request`.
    ///
    /// # Errors
    /// No credential, one that is not valid, or a provider that cannot tell.
    pub async fn authenticate(&self, request: &OriginalRequest<'_>) -> Result<Arc<Principal>, AuthError> {
        let token = match bearer(request.headers) {
            Ok(token) => token,
            Err(BearerError::Ambiguous) => {
                return Err(AuthError::BadRequest("there is more than one Authorization field"));
            }
            Err(BearerError::Malformed) => {
                return Err(AuthError::Denied("the Authorization field holds no bearer token"));
            }
            // An authentication server may look at other fields than Authorization.
            Err(BearerError::Missing) => match self.by_other_credential(request) {
                Some(provider) => return self.ask(provider, "", request).await,
                None => return Err(AuthError::Missing),
            },
        };
        match self.provider_for(token) {
            Some(provider) => self.ask(provider, token, request).await,
            None => Err(AuthError::Denied("no provider of this route knows such a token")),
        }
    }

    fn by_other_credential(&self, request: &OriginalRequest<'_>) -> Option<&Arc<Provider>> {
        let sees =
            |provider: &&Arc<Provider>| provider.lookup().is_some_and(|lookup| lookup.has_credential(request.headers));
        self.providers.iter().find(sees)
    }

    fn provider_for(&self, token: &str) -> Option<&Arc<Provider>> {
        if let [only] = &*self.providers {
            return Some(only);
        }
        let issuer = claimed_issuer(token);
        let issued = issuer.and_then(|issuer| self.providers.iter().find(|provider| provider.issues(&issuer)));
        issued.or_else(|| self.providers.iter().find(|provider| provider.is_opaque()))
    }

    async fn ask(
        &self,
        provider: &Arc<Provider>,
        token: &str,
        request: &OriginalRequest<'_>,
    ) -> Result<Arc<Principal>, AuthError> {
        let key = match provider.lookup() {
            Some(lookup) => self.cache.key(provider.instance(), lookup.key_parts(request)),
            None => self.cache.key(provider.instance(), [token.as_bytes()]),
        };
        let outcome = self.cache.get_or_validate(key, &self.settings, || provider.validate(token, request)).await;
        provider.decided(&outcome);
        outcome
    }
}
