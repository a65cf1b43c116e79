//! Checks section `auth.providers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, HOST};

use super::resolver::{Resolver, is_reserved, providers_of};
use crate::config::checked::auth::{ClaimNames, JwtKeys, JwtProvider, Provider, ProviderKind, RequiredClaim};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::units::{ScopeName, Url};
use crate::config::written::auth::{Algorithm, Jwks, Jwt, Provider as Written, default_refresh};
use crate::config::written::claims::RequiredClaims;
use crate::types::ScopeSet;

impl<'a> Resolver<'a> {
    /// Finds a provider, as written, by its name.
    pub(crate) fn written_provider(&self, name: &str) -> Option<&'a Written> {
        self.sources.iter().filter_map(providers_of).find_map(|providers| providers.get(name))
    }

    pub(crate) fn providers(&mut self) -> BTreeMap<Arc<str>, Arc<Provider>> {
        let mut providers = BTreeMap::new();
        self.named("auth.providers", providers_of, |resolver, name, written, place| {
            let kind = resolver.provider_kind(written, &place)?;
            let groups = written
                .groups
                .iter()
                .map(|(group, scopes)| {
                    (group.clone(), scopes.iter().map(|scope| scope.0.clone()).collect::<ScopeSet>())
                })
                .collect();
            providers.insert(Arc::clone(&name), Arc::new(Provider { name, kind, groups }));
            Some(())
        });
        providers
    }

    fn provider_kind(&mut self, written: &Written, place: &Place) -> Option<ProviderKind> {
        let Written { jwt, lookup, introspection, api_keys, mtls, groups } = written;
        match (jwt, lookup, introspection, api_keys, mtls) {
            (Some(jwt), None, None, None, None) => self.jwt(jwt, &place.key("jwt")).map(ProviderKind::Jwt),
            (None, Some(lookup), None, None, None) => {
                Some(ProviderKind::Lookup(self.lookup(lookup, &place.key("lookup"))))
            }
            (None, None, Some(introspection), None, None) => {
                self.introspection(introspection, &place.key("introspection")).map(ProviderKind::Introspection)
            }
            (None, None, None, None, Some(mtls)) => {
                self.no_groups(groups, "certificates", place);
                Some(ProviderKind::Mtls(self.mtls(mtls, &place.key("mtls"))))
            }
            (None, None, None, Some(api_keys), None) => {
                self.no_groups(groups, "API keys", place);
                self.api_keys(api_keys, &place.key("api_keys")).map(ProviderKind::ApiKeys)
            }
            _ => {
                self.problems.add(place, "a provider is of exactly one kind: write `jwt: {...}`, `lookup: {...}`, `introspection: {...}`, `api_keys: {...}` or `mtls: {...}`");
                None
            }
        }
    }

    /// Reports `groups` of a provider whose `credentials`, such as "API keys", have no groups.
    fn no_groups(&mut self, groups: &BTreeMap<String, Vec<ScopeName>>, credentials: &str, place: &Place) {
        if !groups.is_empty() {
            let message =
                format!("has no effect, because {credentials} have no groups: take it out, and write scopes instead");
            self.problems.add(&place.key("groups"), message);
        }
    }

    /// Reports providers of one route that take the same kind of credential. Only the credential decides which provider
    /// of a route validates it, so no two providers may take the same kind.
    pub(crate) fn distinct(&mut self, names: &[String], place: &Place) {
        let mut seen: Vec<(String, &str)> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let mut written = self.sources.iter().filter_map(providers_of);
            let Some(written) = written.find_map(|providers| providers.get(name)) else { continue };
            let Some(credential) = credential(written) else { continue };
            match seen.iter().find(|(other, _)| *other == credential) {
                Some((_, other)) if other != name => {
                    let message = format!(
                        "`{name}` takes {credential}, and so does `{other}`: the edge could \
                         not choose between them, so keep one of the two"
                    );
                    self.problems.add(&place.item(index), message);
                }
                Some(_) => {}
                None => seen.push((credential, name)),
            }
        }
    }

    fn jwt(&mut self, written: &Jwt, place: &Place) -> Option<JwtProvider> {
        if written.issuer.is_empty() {
            self.problems.add(&place.key("issuer"), "is empty: write the value of `iss` in this provider's tokens");
        }
        self.audiences(written.audiences.as_deref(), &place.key("audiences"));
        self.audience_claim(written, place);
        if let Some(header) = &written.header {
            self.credential_field(&header.0, &place.key("header"));
        }
        let claims =
            self.claim_names(&written.subject_claim, written.scopes_claim.as_deref(), &written.groups_claim, place);
        let required_claims = self.required_claims(&written.required_claims, &place.key("required_claims"));
        let types = written.typ.as_ref().map(|types| self.token_types(types, &place.key("typ")));
        self.leeway(&written.leeway, place);
        self.algorithms(written, place);
        let keys = match (&written.jwks, &written.secret) {
            (Some(jwks), None) => self.jwks(jwks, &place.key("jwks")),
            (None, Some(secret)) => {
                let folder = self.folder(place.file);
                let place = place.key("secret");
                let secret = self.materials.secret(&folder, secret, &place, &mut self.problems)?;
                if secret.expose().len() < limits::JWT_SECRET_BYTES {
                    let least = limits::JWT_SECRET_BYTES;
                    let message = format!(
                        "is shorter than {least} bytes (RFC 7518 section 3.2): make one with `openssl rand -hex 32`"
                    );
                    self.problems.add(&place, message);
                }
                Some(JwtKeys::Secret(secret))
            }
            (None, None) => self.discovery(&written.issuer, place),
            (Some(_), Some(_)) => {
                self.problems.add(place, "keys come from exactly one place: write `jwks: {url: ...}`, `jwks: {file: ...}`, `secret: {...}`, or none of them if the metadata of `issuer` says where its keys are");
                None
            }
        }?;
        Some(JwtProvider {
            issuer: written.issuer.clone(),
            audiences: written.audiences.clone().unwrap_or_default(),
            audience_claim: written.audience_claim.as_deref().filter(|claim| *claim != "aud").map(Arc::from),
            header: written.header.as_ref().map(|header| header.0.clone()).filter(|header| *header != AUTHORIZATION),
            keys,
            algorithms: written.algorithms.clone(),
            leeway: written.leeway.0,
            claims,
            required_claims,
            types,
        })
    }

    fn audience_claim(&mut self, written: &Jwt, place: &Place) {
        let Some(claim) = &written.audience_claim else { return };
        let problem = match (claim.as_str(), &written.audiences) {
            ("", _) => "is empty: write the name of a claim, or take this out",
            (_, None) => {
                "needs `audiences`: write which values of this claim are meant for you, such as your client ids"
            }
            _ => return,
        };
        self.problems.add(&place.key("audience_claim"), problem);
    }

    /// Reports a field that cannot carry a credential.
    pub(crate) fn credential_field(&mut self, name: &HeaderName, place: &Place) {
        if is_reserved(name) || [HOST, COOKIE].contains(name) {
            self.problems.add(place, format!("`{name}` has another meaning: write a name such as `X-Edge-Token`"));
        }
    }

    /// Checks `subject_claim`, `scopes_claim` and `groups_claim` of a provider.
    pub(crate) fn claim_names(
        &mut self,
        subject: &str,
        scopes: Option<&str>,
        groups: &str,
        place: &Place,
    ) -> ClaimNames {
        let all = [("subject_claim", Some(subject)), ("scopes_claim", scopes), ("groups_claim", Some(groups))];
        for (key, _) in all.into_iter().filter(|(_, claim)| claim.is_some_and(str::is_empty)) {
            self.problems.add(&place.key(key), "is empty: write the name of a claim, or take this out");
        }
        ClaimNames { subject: subject.to_owned(), scopes: scopes.map(str::to_owned), groups: groups.to_owned() }
    }

    fn required_claims(&mut self, written: &RequiredClaims, place: &Place) -> Vec<RequiredClaim> {
        if written.0.contains_key("") {
            self.problems.add(place, "has a claim with an empty name: write the name of a claim, or take this out");
        }
        let claim = |(name, values): (&String, &Vec<_>)| RequiredClaim {
            name: name.clone(),
            values: values.iter().map(Into::into).collect(),
        };
        written.0.iter().map(claim).collect()
    }

    fn token_types(&mut self, written: &[String], place: &Place) -> Vec<String> {
        if written.is_empty() {
            self.problems.add(place, "is empty, so no token would be accepted: write `[at+jwt]`, or take this out");
        }
        let mut types = Vec::new();
        for (index, typ) in written.iter().enumerate() {
            let plain = typ.to_ascii_lowercase();
            let plain = plain.strip_prefix("application/").unwrap_or(&plain);
            match plain {
                "" => self.problems.add(&place.item(index), "is empty: write a type such as `at+jwt`"),
                "oauth-id-jag+jwt" | "logout+jwt" | "secevent+jwt" | "dpop+jwt" => self.problems.add(
                    &place.item(index),
                    format!(
                        "`{plain}` is not a type of access tokens: write `at+jwt`, or the type of the issuer's access \
                         tokens"
                    ),
                ),
                _ => types.push(plain.to_owned()),
            }
        }
        types
    }

    /// Keys whose URL is in the metadata of the issuer.
    fn discovery(&mut self, issuer: &str, place: &Place) -> Option<JwtKeys> {
        let url = issuer.parse::<Url>().ok().filter(|url| url.0.query().is_none() && url.0.fragment().is_none());
        match url {
            Some(url) => {
                self.reachable(&url.0, &place.key("issuer"));
                Some(JwtKeys::Discovered { issuer: url.0, refresh: default_refresh().0 })
            }
            // An empty `issuer` has been reported already.
            None if issuer.is_empty() => None,
            None => {
                self.problems.add(place, "there are no keys, and `issuer` is not a URL whose metadata could name them: write `jwks: {url: ...}`, `jwks: {file: ...}` or `secret: {...}`");
                None
            }
        }
    }

    fn algorithms(&mut self, written: &Jwt, place: &Place) {
        let place = place.key("algorithms");
        if written.algorithms.is_empty() {
            self.problems.add(&place, "is empty: write the algorithms that the issuer uses, such as `[RS256]`");
        }
        let symmetric = written.algorithms.iter().filter(|algorithm| Algorithm::is_symmetric(**algorithm)).count();
        if written.secret.is_some() && written.jwks.is_none() && symmetric < written.algorithms.len() {
            self.problems.add(
                &place,
                "names an algorithm of public keys, but the provider has a secret: write HS256, HS384 or HS512 only",
            );
        }
        if written.secret.is_none() && symmetric > 0 {
            self.problems.add(&place, "names an algorithm of shared secrets, but the provider has public keys: take HS256, HS384 and HS512 out");
        }
    }

    fn jwks(&mut self, written: &Jwks, place: &Place) -> Option<JwtKeys> {
        match (&written.url, &written.file) {
            (Some(url), None) => {
                if written.refresh.0 < limits::JWKS_REFETCH {
                    self.problems.add(&place.key("refresh"), "is less than 10s: write at least `10s`");
                }
                self.reachable(&url.0, &place.key("url"));
                Some(JwtKeys::Url { url: url.0.clone(), refresh: written.refresh.0 })
            }
            (None, Some(path)) => {
                let folder = self.folder(place.file);
                let place = place.key("file");
                let bytes = self.materials.bytes(&folder, path, &place, &mut self.problems)?;
                match serde_json::from_slice::<jsonwebtoken::jwk::JwkSet>(&bytes) {
                    Ok(set) if !set.keys.is_empty() => Some(JwtKeys::File(set)),
                    Ok(_) => {
                        self.problems.add(
                            &place,
                            format!("`{}` contains no key: give a key set with at least one", path.display()),
                        );
                        None
                    }
                    // The error does not contain the parser's message, which may repeat text of the file.
                    Err(error) => {
                        let (what, line, column) = (
                            if error.is_data() { "is not a valid key set" } else { "is not valid JSON" },
                            error.line(),
                            error.column(),
                        );
                        self.problems.add(&place, format!("`{}` {what} (line {line}, column {column}): give a JSON file such as `{{\"keys\": [...]}}`", path.display()));
                        None
                    }
                }
            }
            _ => {
                self.problems.add(place, "a key set comes from exactly one place: write `{url: ...}` or `{file: ...}`");
                None
            }
        }
    }
}

/// The kind of credential that only one provider of a route may take; `None` when several providers may take it.
fn credential(written: &Written) -> Option<String> {
    match written {
        Written { jwt: Some(jwt), .. } => Some(format!("tokens of the issuer `{}`", jwt.issuer.escape_debug())),
        Written { lookup: Some(_), .. } | Written { introspection: Some(_), .. } => Some("opaque tokens".to_owned()),
        Written { mtls: Some(_), .. } => Some("client certificates".to_owned()),
        _ => None,
    }
}
