//! Checks section `assertions`: the issuer and the keys of the assertions that tell upstreams who the caller is.

use super::resolver::Resolver;
use crate::config::checked::credential::Assertions as Checked;
use crate::config::limits;
use crate::config::read::place::Place;
use crate::types::SigningKey;

impl Resolver<'_> {
    /// `None` when there is no such section, or it has no key that can sign. Errors are reported.
    pub(crate) fn assertions(&mut self) -> Option<Checked> {
        let written = self.only("assertions", |source| source.file.assertions.clone())?;
        let file = self.file_of(|source| source.file.assertions.is_some());
        let place = Place::new(file, "assertions");
        if written.issuer.is_empty() {
            self.problems.add(&place.key("issuer"), "is empty: write what `iss` is, such as `https://edge.example`");
        }
        let (place, folder) = (place.key("keys"), self.folder(file));
        if written.keys.is_empty() {
            self.problems.add(&place, "is empty, so nothing could be signed: write `[{file: PATH}]`, made with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`");
        }
        if written.keys.len() > limits::ASSERTION_KEYS {
            let message =
                format!("has more than {} keys: take out the oldest, at the end of the list", limits::ASSERTION_KEYS);
            self.problems.add(&place, message);
        }
        let mut keys: Vec<(usize, SigningKey)> = Vec::new();
        for (index, written) in written.keys.iter().enumerate().take(limits::ASSERTION_KEYS) {
            let item = place.item(index);
            let key = self.materials.signing_key(&folder, &written.file, &item.key("file"), &mut self.problems);
            let Some(key) = key else { continue };
            if let Some((first, _)) = keys.iter().find(|(_, other)| *other == key) {
                let first = place.item(*first).path;
                self.problems.add(&item, format!("is the same key as `{first}`: keep one of the two"));
            }
            keys.push((index, key));
        }
        let keys: Vec<SigningKey> = keys.into_iter().map(|(_, key)| key).collect();
        (!keys.is_empty()).then_some(Checked { issuer: written.issuer, keys })
    }
}
