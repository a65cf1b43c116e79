//! Checks `lookup` of a provider.

use super::resolver::{Resolver, is_reserved};
use crate::config::checked::auth::LookupProvider;
use crate::config::read::place::Place;
use crate::config::written::lookup::{Lookup, LookupOperation};
use crate::types::is_edge_field;

impl Resolver<'_> {
    pub(crate) fn lookup(&mut self, written: &Lookup, place: &Place) -> LookupProvider {
        if written.headers.is_empty() {
            self.problems.add(
                &place.key("headers"),
                "is empty, so the server would not see any credential: write `[Authorization]`",
            );
        }
        for (key, names) in [("headers", &written.headers), ("context_headers", &written.context_headers)] {
            for (index, name) in names.iter().enumerate() {
                let place = place.key(key).item(index);
                if is_reserved(&name.0) || name.0 == http::header::HOST {
                    let message = format!(
                        "`{}` belongs to the client's own request and cannot be sent to the server: take it out",
                        name.0
                    );
                    self.problems.add(&place, message);
                }
                if key == "context_headers" && (is_edge_field(name.0.as_str()) || name.0.as_str().contains('_')) {
                    let message = format!(
                        "`{}` of clients does not reach upstreams, so the server would decide by what the upstream does not see: take it out",
                        name.0
                    );
                    self.problems.add(&place, message);
                }
                if key == "context_headers" && written.headers.contains(name) {
                    self.problems.add(&place, format!("`{}` is also in `headers`: take one of the two out", name.0));
                }
            }
        }
        let operation = written.operation.as_ref();
        if let Some(operation) = operation {
            self.lookup_operation(operation, written, &place.key("operation"));
        }
        if written.subject_headers.is_empty() {
            self.problems.add(
                &place.key("subject_headers"),
                "is empty: write which field of the response names the caller, such as `[X-User]`",
            );
        }
        if written.issuer.as_deref() == Some("") {
            self.problems
                .add(&place.key("issuer"), "is empty: write the URL where clients get tokens, or take this out");
        }
        self.auth_timeout(&written.timeout, place);
        self.reachable(&written.url.0, &place.key("url"));
        LookupProvider {
            url: written.url.0.clone(),
            headers: written.headers.iter().map(|header| header.0.clone()).collect(),
            anonymous: written.anonymous,
            context_headers: written.context_headers.iter().map(|header| header.0.clone()).collect(),
            operation: operation.map(|operation| (operation.method.0.clone(), operation.name.0.clone())),
            original_uri: written.original_uri,
            subject_headers: written.subject_headers.iter().map(|header| header.0.clone()).collect(),
            scopes_header: written.scopes_header.0.clone(),
            groups_header: written.groups_header.0.clone(),
            issuer: written.issuer.clone(),
            timeout: written.timeout.0,
        }
    }

    fn lookup_operation(&mut self, operation: &LookupOperation, lookup: &Lookup, place: &Place) {
        const ORIGINAL: &[&str] = &["x-original-uri", "x-original-method", "x-original-url"];
        for (key, name) in [("method", &operation.method), ("name", &operation.name)] {
            let place = place.key(key);
            let is_taken = lookup.headers.contains(name) || lookup.context_headers.contains(name);
            if is_reserved(&name.0) || name.0 == http::header::HOST || ORIGINAL.contains(&name.0.as_str()) {
                self.problems
                    .add(&place, format!("`{}` has another meaning: write a name such as `Mcp-Method`", name.0));
            } else if is_taken {
                let message = format!(
                    "`{}` is already sent with the client's value: take it out of `headers` or `context_headers`, \
                     or write another name",
                    name.0
                );
                self.problems.add(&place, message);
            }
        }
        if operation.method == operation.name {
            self.problems.add(&place.key("name"), "is also the field of `method`: write another name");
        }
    }
}
