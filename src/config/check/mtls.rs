//! Checks `mtls` of a provider.

use super::resolver::Resolver;
use crate::config::checked::auth::MtlsProvider;
use crate::config::read::place::Place;
use crate::config::units::ScopeName;
use crate::config::written::mtls::{CertificateName, Mtls, Unlisted};
use crate::types::{Principal, ScopeSet};

impl Resolver<'_> {
    pub(crate) fn mtls(&mut self, written: &Mtls, place: &Place) -> MtlsProvider {
        let asks = self.sources.iter().any(|source| {
            let mut tls = source.file.listeners.iter().filter_map(|listener| listener.tls.as_ref());
            tls.any(|tls| tls.client_ca.is_some()) || source.left_out.touches("listeners")
        });
        if !asks {
            self.problems.add(place, "no listener requests client certificates, so no caller would be accepted: write `client_ca: PATH` in `tls` of a listener");
        }
        if written.unlisted == Some(Unlisted::Deny) && written.subjects.is_empty() {
            self.problems.add(
                &place.key("unlisted"),
                "denies everybody, because there are no `subjects`: list the allowed callers in `subjects`, or \
                 write `allow`",
            );
        }
        let is_dns = written.subject == CertificateName::SanDns;
        let mut seen: Vec<&String> = Vec::new();
        for name in written.subjects.keys() {
            let place = place.key("subjects").key(name);
            if let Some(other) = seen.iter().find(|other| is_dns && other.eq_ignore_ascii_case(name)) {
                self.problems.add(&place, format!("is the same DNS name as `{other}`: keep one of the two"));
            }
            seen.push(name);
            if let Err(error) = Principal::new(name, ScopeSet::default(), "".into(), None) {
                self.problems
                    .add(&place, format!("is not a valid name ({error}): write the name as it is in the certificate"));
            } else if written.subject == CertificateName::SanUri && !name.contains(':') {
                self.problems.add(&place, format!("`{name}` is not a URI, but `subject: san_uri` needs one: write one such as `spiffe://corp.example/robot`"));
            }
        }
        let scopes = |scopes: &[ScopeName]| scopes.iter().map(|scope| scope.0.clone()).collect::<ScopeSet>();
        let subject = |name: &String| if is_dns { name.to_ascii_lowercase() } else { name.clone() };
        let unlisted = if written.subjects.is_empty() { Unlisted::Allow } else { Unlisted::Deny };
        MtlsProvider {
            subject: written.subject,
            scopes: scopes(&written.scopes),
            subjects: written.subjects.iter().map(|(name, own)| (subject(name), scopes(own))).collect(),
            allow_unlisted: written.unlisted.unwrap_or(unlisted) == Unlisted::Allow,
        }
    }
}
