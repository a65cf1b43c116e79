//! Checks `api_keys` of a provider, and the file of keys that it names.

use std::collections::BTreeMap;
use std::path::Path;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use serde::Deserialize;

use super::resolver::{Resolver, is_reserved};
use crate::config::checked::auth::{ApiKey, ApiKeysProvider};
use crate::config::limits;
use crate::config::read::left_out::path_text;
use crate::config::read::place::Place;
use crate::config::read::problems::Problems;
use crate::config::text::tree::{Content, Node, Position};
use crate::config::text::yaml;
use crate::config::written::api_keys::{ApiKeyEntry, ApiKeys};
use crate::types::{KeyHash, Principal, ScopeSet, is_api_key_id};

impl Resolver<'_> {
    pub(crate) fn api_keys(&mut self, written: &ApiKeys, place: &Place) -> Option<ApiKeysProvider> {
        let header = written.header.as_ref().map(|header| &header.0);
        if let Some(name) = header.filter(|name| is_reserved(name) || [HOST, AUTHORIZATION, COOKIE].contains(name)) {
            self.problems
                .add(&place.key("header"), format!("`{name}` has another meaning: write a name such as `X-API-Key`"));
        }
        let folder = self.folder(place.file);
        let place = place.key("file");
        let bytes = self.materials.bytes(&folder, &written.file, &place, &mut self.problems)?;
        let file = KeyFile { path: &folder.join(&written.file), place: &place, problems: &mut self.problems };
        let keys = file.read(bytes)?;
        Some(ApiKeysProvider { keys, header: header.cloned() })
    }
}

/// A file of keys while it is read. Its errors are reported at the configuration key that names the file. Each message
/// says where in the file the error is.
struct KeyFile<'a> {
    path: &'a Path,
    place: &'a Place,
    problems: &'a mut Problems,
}

impl KeyFile<'_> {
    fn read(mut self, bytes: Vec<u8>) -> Option<BTreeMap<String, ApiKey>> {
        let Ok(text) = String::from_utf8(bytes) else {
            self.problems.add(self.place, format!("`{}` is not UTF-8: save it as UTF-8", self.path.display()));
            return None;
        };
        let (tree, flaws) = yaml::parse(&text);
        for flaw in &flaws {
            self.wrong(flaw.at, &flaw.path, &flaw.message);
        }
        let tree = tree.map_err(|flaw| self.wrong(flaw.at, "", &flaw.message)).ok()?;
        let Content::List(items) = &tree.content else {
            self.wrong(
                tree.at,
                "",
                "is not a list of keys: write each key as `- {id: ID, hash: HASH, subject: NAME, scopes: [SCOPE]}`, \
                 or `[]` for none",
            );
            return None;
        };
        // An empty list is allowed, so that an operator can remove the last key.
        if items.len() > limits::API_KEYS {
            let message = format!("has {} keys: write at most {}", items.len(), limits::API_KEYS);
            self.wrong(tree.at, "", &message);
        }
        let mut keys = BTreeMap::new();
        for (index, item) in items.iter().enumerate().take(limits::API_KEYS) {
            match ApiKeyEntry::deserialize(item) {
                Ok(entry) => self.entry(&tree, index, entry, &mut keys),
                Err(wrong) => {
                    let path = path_text(&wrong.path());
                    let dot = if path.is_empty() { "" } else { "." };
                    self.wrong_at(&tree, &format!("[{index}]{dot}{path}"), &wrong.message);
                }
            }
        }
        Some(keys)
    }

    fn entry(&mut self, tree: &Node, index: usize, entry: ApiKeyEntry, keys: &mut BTreeMap<String, ApiKey>) {
        let path = |key: &str| format!("[{index}].{key}");
        if !is_api_key_id(&entry.id) {
            let id = entry.id.escape_debug();
            let longest = limits::API_KEY_ID_BYTES;
            let message = format!(
                "`{id}` is not a valid id: use lower-case letters, digits and hyphens, at most {longest} characters"
            );
            self.wrong_at(tree, &path("id"), &message);
        }
        let hash = entry.hash.parse::<KeyHash>().map_err(|error| {
            self.wrong_at(tree, &path("hash"), &error.to_string());
        });
        let expires = entry.expires_at().map_err(|message| self.wrong_at(tree, &path("expires"), &message));
        let scopes: ScopeSet = entry.scopes.iter().map(|scope| scope.0.clone()).collect();
        if let Err(error) = Principal::new(&entry.subject, scopes.clone(), "".into(), None) {
            self.wrong_at(tree, &path("subject"), &format!("cannot be sent to an upstream ({error}): write a name"));
        }
        let (Ok(hash), Ok(expires)) = (hash, expires) else { return };
        let key = ApiKey { hash, subject: entry.subject, scopes, expires };
        if keys.insert(entry.id.clone(), key).is_some() {
            self.wrong_at(
                tree,
                &path("id"),
                &format!("`{}` is also the id of another key: keep one of the two", entry.id),
            );
        }
    }

    fn wrong_at(&mut self, tree: &Node, path: &str, message: &str) {
        self.wrong(tree.locate(path).unwrap_or(tree.at), path, message);
    }

    fn wrong(&mut self, at: Position, path: &str, message: &str) {
        let (line, column) = at;
        let colon = if path.is_empty() { "" } else { ": " };
        let file = self.path.display();
        self.problems.add(self.place, format!("`{file}:{line}:{column}`: {path}{colon}{message}"));
    }
}
