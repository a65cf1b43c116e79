//! The limits of gateways.

use std::time::Duration;

/// How many servers one gateway may offer.
pub const GATEWAY_SERVERS: usize = 200;
/// The longest prefix of a server's names, in bytes.
pub const GATEWAY_PREFIX_BYTES: usize = 32;
/// The longest name of a tool or prompt that a gateway shows, in bytes: APIs of models allow 64. A longer one gets a short form.
pub const GATEWAY_NAME_BYTES: usize = 64;
/// The largest session of a gateway, in bytes. The sealed id is a third longer, and proxies in front of the edge must let it pass.
pub const GATEWAY_SESSION_BYTES: usize = 3 << 10;
/// The longest `params` of an `initialize`, in bytes: every server of a gateway gets them.
pub const GATEWAY_PARAMS_BYTES: usize = 64 << 10;
/// How long a server may take to open a session or to say what it is, before a gateway does without it.
pub const GATEWAY_OPEN: Duration = Duration::from_secs(3);
/// How long what a server says about itself is believed.
pub const GATEWAY_FACTS: Duration = Duration::from_secs(300);
/// For how many pairs of server and caller it is remembered.
pub const GATEWAY_FACTS_KEPT: u64 = 20_000;
/// How many servers are remembered.
pub const GATEWAY_KNOWN_SERVERS: u64 = 10_000;
/// How long a server may take for a list, with all its pages.
pub const GATEWAY_LIST: Duration = Duration::from_secs(5);
/// The same while its last list is at hand.
pub const GATEWAY_LIST_AGAIN: Duration = Duration::from_secs(1);
/// The longest event of a server on the stream of a gateway's client, in bytes.
pub const GATEWAY_EVENT_BYTES: usize = 1 << 20;
/// The largest answer of a server to a request of the gateway itself, in bytes.
pub const GATEWAY_RESPONSE_BYTES: usize = 8 << 20;
/// How many pages of one list are read.
pub const GATEWAY_PAGES: usize = 100;
/// How many sessions at servers are remembered that were opened after their client had got its id.
pub const GATEWAY_SESSIONS: u64 = 200_000;
/// How long such a session is remembered without use.
pub const GATEWAY_SESSION_IDLE: Duration = Duration::from_secs(24 * 3_600);
/// Memory for lists of servers, in bytes. The least used are forgotten.
pub const GATEWAY_LISTS_BYTES: u64 = 256 << 20;
/// How long a list is kept whose server does not say it.
pub const GATEWAY_LIST_TTL: Duration = Duration::from_secs(30);
/// How long a list is kept at most, whatever its server says.
pub const GATEWAY_LIST_TTL_MAX: Duration = Duration::from_secs(600);
/// How long the last list of a server is shown that cannot be reached.
pub const GATEWAY_LIST_STALE: Duration = Duration::from_secs(600);
/// How long a server that could not be reached is left alone.
pub const GATEWAY_RETRY: Duration = Duration::from_secs(5);
/// How long a gateway waits for further changes of lists before it tells a client of one.
pub const GATEWAY_CHANGES_GATHER: Duration = Duration::from_millis(50);
/// How often a client is told of changes of lists at most.
pub const GATEWAY_CHANGES: Duration = Duration::from_secs(1);
/// How long a gateway waits before it opens the stream of a server again, the first time.
pub const GATEWAY_STREAM_PAUSE: Duration = Duration::from_millis(500);
/// The same after many times.
pub const GATEWAY_STREAM_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The most bytes of items on one page of a gateway's list.
pub const GATEWAY_PAGE_BYTES: usize = 4 << 20;
/// How many tools of one server are in the catalogue.
pub const CATALOG_TOOLS: usize = 2_000;
/// How many definitions of one tool are told apart.
pub const CATALOG_VARIANTS: usize = 64;
/// The largest definition of a tool there, in bytes.
pub const CATALOG_TOOL_BYTES: usize = 64 << 10;
/// How many tools `find_tools` gives when the client does not say it.
pub const GATEWAY_FOUND: usize = 10;
/// How many it gives at most.
pub const GATEWAY_FOUND_MOST: usize = 50;
