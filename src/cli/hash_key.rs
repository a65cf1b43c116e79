//! `mcp-edge hash-key`: makes API keys, and the entries for them in a file of keys.

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Args;

use super::exit::{EXIT_USAGE, report};
use crate::config::{ApiKeyEntry, limits};
use crate::types::{KeyHash, Principal, Scope, ScopeSet, api_key_id, is_api_key_id, new_api_key};

/// The fields of the entry.
#[derive(Debug, Args)]
pub struct HashKey {
    /// The key's id: small letters, digits and hyphens
    #[arg(long, value_parser = id)]
    id: String,
    /// The subject of requests with the key
    #[arg(long, value_parser = subject)]
    subject: String,
    /// A scope of the key; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// When the key expires: a date (0:00 UTC) such as 2027-01-31, or a date and time (RFC 3339)
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// Hash with Argon2id, for keys that a person has chosen; for random keys, SHA-256 is enough
    #[arg(long)]
    argon2: bool,
    /// Hash the key on standard input, `mcpe_ID_SECRET`, instead of making a new key
    #[arg(long)]
    stdin: bool,
}

fn id(text: &str) -> Result<String, String> {
    if is_api_key_id(text) {
        Ok(text.to_owned())
    } else {
        Err("use small letters, digits and hyphens, at most 64 characters".to_owned())
    }
}

fn subject(text: &str) -> Result<String, String> {
    let made = Principal::new(text, ScopeSet::default(), "".into(), None);
    made.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl HashKey {
    /// Prints the entry on standard output, so that it can be appended to a file of keys. Prints a new key on standard
    /// error: it is shown only this once.
    pub fn run(self) -> ExitCode {
        match self.make() {
            Ok((key, entry)) => {
                let shown = key.map_or(Ok(()), |key| writeln!(std::io::stderr(), "{key}"));
                match shown.and_then(|()| write!(std::io::stdout(), "{entry}")) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(_) => ExitCode::FAILURE,
                }
            }
            Err(message) => {
                report(&message);
                ExitCode::from(EXIT_USAGE)
            }
        }
    }

    /// The key, if it is new, and the entry.
    fn make(self) -> Result<(Option<String>, String), String> {
        let no_random = "the system gives no random numbers";
        let key = if self.stdin { read_key(&self.id)? } else { new_api_key(&self.id).ok_or(no_random)? };
        let hash = if self.argon2 { KeyHash::argon2(&key).ok_or(no_random)? } else { KeyHash::sha256(&key) };
        let entry = ApiKeyEntry {
            id: self.id,
            hash: hash.to_string(),
            subject: self.subject,
            scopes: self.scopes.into_iter().map(Into::into).collect(),
            expires: self.expires,
        };
        entry.expires_at().map_err(|message| format!("--expires {message}"))?;
        let text = serde_yaml::to_string(&[&entry]).map_err(|error| error.to_string())?;
        Ok(((!self.stdin).then_some(key), text))
    }
}

/// Reads a key from standard input. Error messages must not repeat the key.
fn read_key(id: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().take(limits::STDIN_KEY_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("standard input cannot be read ({error})"))?;
    let key = text.trim_end_matches(['\r', '\n']);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if api_key_id(key) != Some(id) || !key.bytes().all(legal) {
        return Err(format!(
            "standard input is not a key with the id `{id}`: write `mcpe_{id}_` and at least 22 letters, digits, `-`, `_` or `.`"
        ));
    }
    Ok(key.to_owned())
}
