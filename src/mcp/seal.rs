//! Seals session ids. The id that a client sees encrypts the upstream's own session id and the endpoint that knows it.
//!
//! A sealed id is `base64url(key id | nonce | AES-256-GCM(said | endpoint | upstream's id))`, where *said* is what the
//! client's `initialize` said, on routes whose sessions resume. The route and the principal are
//! authenticated with the id but not stored in it: an id opens only for the principal that it was given to, on the
//! route that it was given on. So any edge with the same keys serves any session without shared state. An id does not
//! prove who the caller is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::limits;
use crate::types::{Principal, Secret};

/// The length of the key id at the beginning of a sealed id, in bytes.
const KEY_ID: usize = 4;

/// The first byte of the text of a session whose id carries what its client said. Other texts begin with 4 or 6.
const SAID: u8 = 8;

/// The keys that seal and open session ids.
#[derive(Clone)]
pub struct KeyRing(Arc<[Key]>);

struct Key {
    id: [u8; KEY_ID],
    aead: LessSafeKey,
}

/// The route and the principal that a session belongs to.
#[derive(Clone, Copy, Debug)]
pub struct SessionOwner<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The principal; `None` on an open route.
    pub principal: Option<&'a Principal>,
}

/// What a sealed id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSession {
    /// The endpoint and the id there.
    pub target: SessionTarget,
    /// The client's `initialize`, packed ([`pack`](super::pack)); empty if it is not in the id.
    pub said: Vec<u8>,
}

/// The endpoint that has a session, and the session's id there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTarget {
    /// The endpoint. It is identified by its address, so sessions survive reloads and restarts.
    pub endpoint: SocketAddr,
    /// The upstream's own id of the session.
    pub id: String,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({})", self.0.len())
    }
}

impl KeyRing {
    /// A ring of `keys`: the first key seals, all keys open. `None` when `keys` is empty, which the checks of the
    /// configuration prevent.
    pub fn new(keys: &[Secret]) -> Option<Self> {
        let keys: Option<Vec<Key>> = keys.iter().map(|secret| Key::derive(secret.expose())).collect();
        keys.filter(|keys| !keys.is_empty()).map(|keys| Self(keys.into()))
    }

    /// A ring of one random key, which is lost when the process ends. `None` when the system has no random bytes.
    pub fn generate() -> Option<Self> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).ok()?;
        Key::derive(&secret).map(|key| Self([key].into()))
    }

    /// The sealed id of the session `target` for `owner`. `said`: the client's `initialize`, packed; empty if it need not be in the
    /// id. `None` when the upstream's id is longer than [`limits::SESSION_ID_BYTES`], or when the system has no random bytes.
    pub fn seal(&self, target: &SessionTarget, said: &[u8], owner: SessionOwner<'_>) -> Option<String> {
        if target.id.len() > limits::SESSION_ID_BYTES || said.len() > limits::SESSION_SAID_BYTES {
            return None;
        }
        let mut text = Vec::with_capacity(22 + said.len() + target.id.len() + 16);
        if !said.is_empty() {
            text.push(SAID);
            text.extend_from_slice(&(said.len() as u16).to_be_bytes());
            text.extend_from_slice(said);
        }
        match target.endpoint.ip() {
            IpAddr::V4(ip) => {
                text.push(4);
                text.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                text.push(6);
                text.extend_from_slice(&ip.octets());
            }
        }
        text.extend_from_slice(&target.endpoint.port().to_be_bytes());
        text.extend_from_slice(target.id.as_bytes());
        self.seal_text(text, owner)
    }

    /// `text`, sealed for `owner`. `None` when the system has no random bytes. The texts of sessions begin with 4, 6 or
    /// 8; others must begin with another byte.
    pub fn seal_text(&self, mut text: Vec<u8>, owner: SessionOwner<'_>) -> Option<String> {
        let key = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let aad = Aad::from(owner.bytes());
        key.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&key.id[..], &nonce[..], &text[..]].concat()))
    }

    /// The session that `sealed` stands for. `None` unless a key of this ring sealed it for `owner`.
    pub fn open(&self, sealed: &str, owner: SessionOwner<'_>) -> Option<SealedSession> {
        // Limits the work that an invalid id can cause.
        if sealed.len() > 2 * (limits::SESSION_ID_BYTES + limits::SESSION_SAID_BYTES) {
            return None;
        }
        let text = self.open_text(sealed, owner)?;
        let (said, rest) = match text.strip_prefix(&[SAID]) {
            Some(rest) => {
                let (length, rest) = rest.split_first_chunk()?;
                rest.split_at_checked(u16::from_be_bytes(*length).into())?
            }
            None => (&[][..], &text[..]),
        };
        Some(SealedSession { target: SessionTarget::read(rest)?, said: said.to_vec() })
    }

    /// The text that `sealed` stands for. `None` unless a key of this ring sealed it for `owner`.
    pub fn open_text(&self, sealed: &str, owner: SessionOwner<'_>) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (id, rest) = bytes.split_at_checked(KEY_ID)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        self.0.iter().filter(|key| key.id == id).find_map(|key| {
            let mut text = text.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let length = key.aead.open_in_place(nonce, Aad::from(owner.bytes()), &mut text).ok()?.len();
            text.truncate(length);
            Some(text)
        })
    }
}

impl SessionTarget {
    fn read(text: &[u8]) -> Option<Self> {
        let (ip, rest): (IpAddr, &[u8]) = match text.split_first()? {
            (4, rest) => rest.split_first_chunk::<4>().map(|(ip, rest)| ((*ip).into(), rest))?,
            (6, rest) => rest.split_first_chunk::<16>().map(|(ip, rest)| ((*ip).into(), rest))?,
            _ => return None,
        };
        let (port, id) = rest.split_first_chunk::<2>()?;
        let endpoint = SocketAddr::new(ip, u16::from_be_bytes(*port));
        Some(Self { endpoint, id: String::from_utf8(id.to_vec()).ok()? })
    }
}

impl SessionOwner<'_> {
    /// The owner as data to authenticate. Each part follows its length, so that different owners give different bytes.
    fn bytes(self) -> Vec<u8> {
        let (provider, subject) =
            self.principal.map_or(("", ""), |principal| (&**principal.provider(), principal.subject()));
        let mut bytes = Vec::with_capacity(32 + self.route.len() + provider.len() + subject.len());
        bytes.push(u8::from(self.principal.is_some()));
        for part in [self.route, provider, subject] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

impl Key {
    fn derive(secret: &[u8]) -> Option<Self> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mcp-edge session id");
        let prk = salt.extract(secret);
        let okm = prk.expand(&[b"AES-256-GCM v1"], &AES_256_GCM).ok()?;
        let mut name = [0; 32];
        prk.expand(&[b"key id v1"], hkdf::HKDF_SHA256).ok()?.fill(&mut name).ok()?;
        let id = *name.first_chunk()?;
        Some(Self { id, aead: LessSafeKey::new(UnboundKey::from(okm)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScopeSet;

    fn ring(keys: &[&str]) -> KeyRing {
        let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(key.repeat(32).into_bytes())).collect();
        KeyRing::new(&keys).expect("there is a key")
    }

    fn principal(provider: &str, subject: &str) -> Principal {
        Principal::new(subject, ScopeSet::default(), provider.into(), None).expect("legal")
    }

    fn target() -> SessionTarget {
        SessionTarget { endpoint: "[2001:db8::1]:8001".parse().expect("an address"), id: "e5c1-\u{fc}".to_owned() }
    }

    fn session() -> SealedSession {
        SealedSession { target: target(), said: Vec::new() }
    }

    #[test]
    fn an_id_can_carry_what_its_client_said() {
        let (ring, owner) = (ring(&["a"]), SessionOwner { route: "r", principal: None });
        let sealed = ring.seal(&target(), b"hello", owner).expect("sealed");
        assert_eq!(ring.open(&sealed, owner), Some(SealedSession { said: b"hello".to_vec(), ..session() }));
        assert_eq!(ring.seal(&target(), &[0; limits::SESSION_SAID_BYTES + 1], owner), None);
    }

    #[test]
    fn an_id_opens_only_for_its_owner_on_its_route() {
        let (ring, alice) = (ring(&["a"]), principal("corp", "alice"));
        let owner = SessionOwner { route: "/fininfo/", principal: Some(&alice) };
        let sealed = ring.seal(&target(), b"", owner).expect("sealed");
        assert!(sealed.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(ring.open(&sealed, owner), Some(session()));
        for (route, other) in [
            ("/mcpgw/", Some(principal("corp", "alice"))),
            ("/fininfo/", Some(principal("corp", "bob"))),
            ("/fininfo/", Some(principal("other", "alice"))),
            ("/fininfo/", None),
        ] {
            assert_eq!(ring.open(&sealed, SessionOwner { route, principal: other.as_ref() }), None);
        }
        assert_ne!(ring.seal(&target(), b"", owner), Some(sealed), "each sealing has its own nonce");
    }

    #[test]
    fn made_up_and_damaged_ids_do_not_open() {
        let ring = ring(&["a"]);
        let owner = SessionOwner { route: "r", principal: None };
        let sealed = ring.seal(&target(), b"", owner).expect("sealed");
        let mut bytes = sealed.clone().into_bytes();
        for index in 0..bytes.len() - 1 {
            let original = bytes[index];
            bytes[index] = if original == b'A' { b'B' } else { b'A' };
            assert_eq!(ring.open(std::str::from_utf8(&bytes).expect("ASCII"), owner), None, "{index}");
            bytes[index] = original;
        }
        for text in ["", "x", "e5c1", &sealed[..20], &"A".repeat(100_000), "not/base64=="] {
            assert_eq!(ring.open(text, owner), None);
        }
    }

    #[test]
    fn keys_rotate() {
        let owner = SessionOwner { route: "r", principal: None };
        let old = ring(&["a"]).seal(&target(), b"", owner).expect("sealed");
        let both = ring(&["b", "a"]);
        assert_eq!(both.open(&old, owner), Some(session()));
        let new = both.seal(&target(), b"", owner).expect("sealed");
        assert_eq!(ring(&["b"]).open(&new, owner), Some(session()), "the first key seals");
        assert_eq!(ring(&["a"]).open(&new, owner), None);
        assert_eq!(ring(&["b"]).open(&old, owner), None, "a key that is gone opens nothing");
    }

    #[test]
    fn long_ids_are_not_sealed() {
        let target = SessionTarget { id: "x".repeat(limits::SESSION_ID_BYTES + 1), ..target() };
        assert_eq!(ring(&["a"]).seal(&target, b"", SessionOwner { route: "r", principal: None }), None);
    }
}
