//! Finds the fields of an authentication server's answer that tell who the caller is.

use std::collections::HashMap;

use http::HeaderName;

use crate::config::written::{Header, Lookup};
use crate::import::nginx::site::{Chain, Site};

/// The fields in which upstreams expect the caller's subject; the first one is the best known.
const SUBJECT: [&str; 7] = [
    "x-user",
    "x-username",
    "x-auth-request-user",
    "x-forwarded-user",
    "x-remote-user",
    "remote-user",
    "x-webauth-user",
];
/// The fields in which upstreams expect the caller's groups.
const GROUPS: [&str; 4] = ["x-groups", "x-auth-request-groups", "x-forwarded-groups", "remote-groups"];
/// The field in which upstreams expect the caller's scopes.
const SCOPES: [&str; 1] = ["x-scopes"];

/// The names of the variables that `auth_request_set` sets where `chain` applies, each with the field of the answer.
pub(crate) fn variables<'a>(chain: &Chain<'a>) -> HashMap<&'a str, Option<Header>> {
    let field = |value: &str| value.strip_prefix("$upstream_http_")?.replace('_', "-").parse::<HeaderName>().ok();
    let lines = chain.effective("auth_request_set").into_iter();
    lines.map(|line| (line.arg(0), field(line.arg(1)).map(Header))).collect()
}

/// The fields of an authentication server's answer that upstreams get.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnsweredFields {
    subject: Vec<Header>,
    groups: Option<Header>,
    scopes: Option<Header>,
}

impl AnsweredFields {
    /// Reads the locations of `site` with `auth_request URI`.
    pub(crate) fn of(site: &Site<'_>, uri: &str) -> Self {
        let mut sent: Vec<(String, Header)> = Vec::new();
        let chains = site.locations.iter().map(|location| &location.chain);
        for chain in chains.filter(|chain| chain.value("auth_request") == Some(uri)) {
            let variables = variables(chain);
            for line in chain.effective("proxy_set_header") {
                let name = line.arg(0).to_ascii_lowercase();
                if let Some(Some(field)) = variables.get(line.arg(1))
                    && !sent.iter().any(|(other, same)| *other == name && same == field)
                {
                    sent.push((name, field.clone()));
                }
            }
        }
        let of = |names: &[&str]| {
            let mut fields: Vec<Header> = Vec::new();
            let in_order = names.iter().flat_map(|name| sent.iter().filter(move |(sent, _)| sent == name));
            for (_, field) in in_order {
                if !fields.contains(field) {
                    fields.push(field.clone());
                }
            }
            fields
        };
        Self { subject: of(&SUBJECT), groups: of(&GROUPS).into_iter().next(), scopes: of(&SCOPES).into_iter().next() }
    }

    /// Sets the fields of `lookup` that tell who the caller is.
    pub(crate) fn apply(&self, lookup: &mut Lookup) {
        if self.subject.iter().any(|field| !lookup.subject_headers.contains(field)) {
            lookup.subject_headers.clone_from(&self.subject);
        }
        if let Some(field) = &self.groups {
            lookup.groups_header = field.clone();
        }
        if let Some(field) = &self.scopes {
            lookup.scopes_header = field.clone();
        }
    }
}
