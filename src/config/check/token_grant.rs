//! Checks `exchange` and `client_credentials` of a route's credential: where a token comes from.

use super::resolver::Resolver;
use crate::config::checked::credential::TokenGrant as Checked;
use crate::config::read::place::Place;
use crate::config::written::token_grant::TokenGrant;

impl Resolver<'_> {
    pub(crate) fn token_grant(&mut self, written: &TokenGrant, place: &Place) -> Option<Checked> {
        if written.client_id.is_empty() {
            self.problems.add(&place.key("client_id"), "is empty: write the id that the server gave to the edge");
        }
        if written.audience.as_ref().is_some_and(String::is_empty) {
            self.problems.add(&place.key("audience"), "is empty: write the upstream's name at the server");
        }
        // `resource` is not parsed into a URL, because servers compare the text exactly.
        let is_resource = |uri: &String| {
            uri.bytes().all(|byte| byte.is_ascii_graphic())
                && reqwest::Url::parse(uri).is_ok_and(|uri| uri.fragment().is_none())
        };
        if written.resource.as_ref().is_some_and(|uri| !is_resource(uri)) {
            let message = "is not an absolute URI without a fragment (RFC 8707 section 2): write one such as `https://server.internal/mcp`";
            self.problems.add(&place.key("resource"), message);
        }
        self.auth_timeout(&written.timeout, place);
        self.reachable(&written.token_url.0, &place.key("token_url"));
        let (secret, key) = (written.client_secret.as_ref(), written.private_key.as_ref());
        let proof = self.client_proof(secret, key, Some(written.token_url.0.as_str()), place)?;
        Some(Checked {
            url: written.token_url.0.clone(),
            client_id: written.client_id.clone(),
            proof,
            audience: written.audience.clone(),
            resource: written.resource.clone(),
            scopes: written.scopes.iter().map(|scope| scope.0.clone()).collect(),
            timeout: written.timeout.0,
        })
    }
}
