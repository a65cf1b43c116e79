//! The session of a client at a gateway. Its id carries, sealed, what the client said when it initialized and which sessions are
//! open at the servers, so any edge with the same key serves it, and an open session takes no memory.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::config::limits;
use crate::mcp::{KeyRing, ServerMark, SessionOwner, SessionTarget, pack, unpack};
use crate::types::hex;

/// The first byte of a sealed gateway session. The ids of other sessions begin with 4 or 6.
const BEGIN: u8 = b'G';

/// The revisions with sessions, from the newest on. A session refers to them by their position from the end, so that new ones can
/// be added at the begin.
pub(in crate::proxy) const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Tells sessions apart in the memory of an edge. It is random.
pub(in crate::proxy) type SessionKey = [u8; 12];

/// A session at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ServerSession {
    /// The server has no sessions: each request stands alone (MCP 2026-07-28).
    Stateless,
    /// `initialize` has opened it. `target` is `None` when the server gave it no id: then any replica takes its requests.
    Open {
        /// The protocol version that the server chose.
        version: &'static str,
        target: Option<SessionTarget>,
    },
}

/// The session of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct GatewaySession {
    pub(in crate::proxy) key: SessionKey,
    /// `params` of the client's `initialize`, compressed. `None` when they were too long for the id.
    packed: Option<Bytes>,
    /// The sessions that were open when the id was given to the client.
    pub(in crate::proxy) servers: Vec<(ServerMark, ServerSession)>,
}

/// The revision with sessions that is called `version`.
pub(in crate::proxy) fn known_version(version: &str) -> Option<&'static str> {
    VERSIONS.into_iter().find(|known| *known == version)
}

impl GatewaySession {
    /// A new session without sessions at servers.
    pub(in crate::proxy) fn new(params: &str) -> Self {
        let key = std::array::from_fn(|_| fastrand::u8(..));
        Self { key, packed: pack(params.as_bytes()).map(Bytes::from), servers: Vec::new() }
    }

    /// `params` of the client's `initialize`. `None` when they were too long for the id.
    pub(in crate::proxy) fn params(&self) -> Option<String> {
        String::from_utf8(unpack(self.packed.as_ref()?)?).ok()
    }

    /// Tells clients apart that said different things.
    pub(in crate::proxy) fn said(&self) -> &[u8] {
        self.packed.as_deref().unwrap_or_default()
    }

    /// The session at the server with this mark, as it was when the id was given to the client.
    pub(in crate::proxy) fn at(&self, mark: ServerMark) -> Option<&ServerSession> {
        self.servers.iter().find(|(known, _)| *known == mark).map(|(_, session)| session)
    }

    /// The sealed id. Sessions at servers that do not fit are left out: they are opened again when they are needed. Also says
    /// how many did.
    pub(in crate::proxy) fn seal(&self, keys: &KeyRing, owner: SessionOwner<'_>) -> Option<Sealed> {
        let mut text = vec![BEGIN];
        text.extend_from_slice(&self.key);
        let params = self.packed.as_deref().unwrap_or_default();
        text.extend_from_slice(&(params.len() as u16).to_be_bytes());
        text.extend_from_slice(params);
        let mut servers = 0;
        for (mark, session) in &self.servers {
            let before = text.len();
            text.extend_from_slice(&mark.bytes());
            session.write(&mut text);
            if text.len() > limits::GATEWAY_SESSION_BYTES {
                text.truncate(before);
                break;
            }
            servers += 1;
        }
        Some(Sealed { id: keys.seal_text(text, owner)?, servers })
    }

    /// The session with the id `sealed`. `None` unless it was sealed for `owner` with one of the keys.
    pub(in crate::proxy) fn open(sealed: &str, keys: &KeyRing, owner: SessionOwner<'_>) -> Option<Self> {
        if sealed.len() > 2 * limits::GATEWAY_SESSION_BYTES {
            return None;
        }
        let text = keys.open_text(sealed, owner)?;
        let rest = text.strip_prefix(&[BEGIN])?;
        let (key, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (params, mut rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let packed = (!params.is_empty()).then(|| Bytes::copy_from_slice(params));
        let mut servers = Vec::new();
        while !rest.is_empty() {
            let (mark, after) = rest.split_first_chunk()?;
            let (session, after) = ServerSession::read(after)?;
            servers.push((ServerMark::from_bytes(*mark), session));
            rest = after;
        }
        Some(Self { key: *key, packed, servers })
    }
}

/// A sealed session.
#[derive(Debug)]
pub(in crate::proxy) struct Sealed {
    pub(in crate::proxy) id: String,
    /// How many of the sessions at servers the id carries, from the first on.
    pub(in crate::proxy) servers: usize,
}

impl ServerSession {
    fn write(&self, out: &mut Vec<u8>) {
        let Self::Open { version, target } = self else { return out.push(0) };
        let position = VERSIONS.iter().rev().position(|known| known == version).unwrap_or_default() as u8;
        let ip = target.as_ref().map(|target| target.endpoint.ip());
        out.push(match ip {
            None => 1,
            Some(IpAddr::V4(_)) => 4,
            Some(IpAddr::V6(_)) => 6,
        });
        out.push(position);
        let Some(SessionTarget { endpoint, id }) = target else { return };
        match endpoint.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
        out.extend_from_slice(&endpoint.port().to_be_bytes());
        // Most ids are UUIDs, which take 16 bytes in place of 36.
        match packed_uuid(id) {
            Some(uuid) => {
                out.extend_from_slice(&u16::MAX.to_be_bytes());
                out.extend_from_slice(&uuid);
            }
            None => {
                out.extend_from_slice(&(id.len() as u16).to_be_bytes());
                out.extend_from_slice(id.as_bytes());
            }
        }
    }

    fn read(text: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = text.split_first()?;
        if *kind == 0 {
            return Some((Self::Stateless, rest));
        }
        let (position, rest) = rest.split_first()?;
        let version = *VERSIONS.iter().rev().nth(usize::from(*position))?;
        let (ip, rest): (IpAddr, _) = match kind {
            1 => return Some((Self::Open { version, target: None }, rest)),
            4 => rest.split_first_chunk::<4>().map(|(ip, rest)| ((*ip).into(), rest))?,
            6 => rest.split_first_chunk::<16>().map(|(ip, rest)| ((*ip).into(), rest))?,
            _ => return None,
        };
        let (port, rest) = rest.split_first_chunk()?;
        let endpoint = SocketAddr::new(ip, u16::from_be_bytes(*port));
        let (length, rest) = rest.split_first_chunk()?;
        let (id, rest) = match u16::from_be_bytes(*length) {
            u16::MAX => rest.split_first_chunk().map(|(uuid, rest)| (uuid_text(*uuid), rest))?,
            length => {
                let (id, rest) = rest.split_at_checked(length.into())?;
                (String::from_utf8(id.to_vec()).ok()?, rest)
            }
        };
        Some((Self::Open { version, target: Some(SessionTarget { endpoint, id }) }, rest))
    }
}

/// Where the hyphens of a UUID stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// A UUID in lower case as 16 bytes.
fn packed_uuid(id: &str) -> Option<[u8; 16]> {
    let id = id.as_bytes();
    let is_uuid = id.len() == 36
        && id.iter().enumerate().all(|(at, byte)| match HYPHENS.contains(&at) {
            true => *byte == b'-',
            false => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    let mut digits =
        id.iter().filter(|byte| **byte != b'-').map(|byte| char::from(*byte).to_digit(16).unwrap_or(0) as u8);
    let mut next = || digits.next().unwrap_or_default();
    is_uuid.then(|| std::array::from_fn(|_| next() << 4 | next()))
}

fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = hex(&uuid);
    for at in HYPHENS {
        text.insert(at, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: SessionOwner<'static> = SessionOwner { route: "/mcp", principal: None };

    const PARAMS: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;

    fn session(servers: usize) -> GatewaySession {
        let mut session = GatewaySession::new(PARAMS);
        let ids = ["4f1c2a0e-9b7d-4c3e-8f00-0123456789ab", "4F1C2A0E-9b7d-4c3e-8f00-0123456789ab", "x", ""];
        for index in 0..servers {
            let target = |endpoint: &str| {
                let id = ids[index % ids.len()].to_owned();
                Some(SessionTarget { endpoint: endpoint.parse().expect("an address"), id })
            };
            let at = match index % 4 {
                0 => ServerSession::Open { version: VERSIONS[0], target: target("10.0.0.1:8001") },
                1 => ServerSession::Open { version: VERSIONS[3], target: target("[2001:db8::1]:8001") },
                2 => ServerSession::Stateless,
                _ => ServerSession::Open { version: VERSIONS[1], target: None },
            };
            session.servers.push((ServerMark::of_route(&index.to_string()), at));
        }
        session
    }

    #[test]
    fn an_id_carries_the_whole_session() {
        let keys = KeyRing::generate().expect("there are random bytes");
        for servers in [0, 1, 5, 50] {
            let session = session(servers);
            let sealed = session.seal(&keys, OWNER).expect("sealed");
            assert_eq!((sealed.servers, session.params().as_deref()), (servers, Some(PARAMS)));
            assert_eq!(GatewaySession::open(&sealed.id, &keys, OWNER), Some(session));
            let other = SessionOwner { route: "/other", principal: None };
            assert_eq!(GatewaySession::open(&sealed.id, &keys, other), None);
            assert_eq!(keys.open(&sealed.id, OWNER), None, "a path route does not know it");
        }
    }

    #[test]
    fn an_id_stays_small() {
        let keys = KeyRing::generate().expect("there are random bytes");
        let mut large = session(1_000);
        let sealed = large.seal(&keys, OWNER).expect("sealed");
        assert!(sealed.servers < 1_000 && sealed.id.len() < 4_200, "{}", sealed.id.len());
        large.servers.truncate(sealed.servers);
        assert_eq!(GatewaySession::open(&sealed.id, &keys, OWNER), Some(large));
        let noise: String = (0..4_000).map(|_| fastrand::alphanumeric()).collect();
        let long = GatewaySession::new(&noise);
        let sealed = long.seal(&keys, OWNER).expect("sealed");
        assert_eq!(GatewaySession::open(&sealed.id, &keys, OWNER).expect("it opens").params(), None);
    }

    #[test]
    fn uuids_are_packed() {
        let text = "4f1c2a0e-9b7d-4c3e-8f00-0123456789ab";
        assert_eq!(packed_uuid(text).map(uuid_text).as_deref(), Some(text));
        for other in ["", "x", "4F1C2A0E-9b7d-4c3e-8f00-0123456789ab", "4f1c2a0e09b7d-4c3e-8f00-0123456789ab"] {
            assert_eq!(packed_uuid(other), None, "{other}");
        }
    }
}
