//! Every limit of the edge, with its default. Limits that an operator may set are fields of [`Limits`].

mod gateway;

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Size, Span};
pub use crate::types::bounds::*;
pub use gateway::*;

// Configuration files

/// The largest configuration file, in bytes: enough for 10,000 routes, too little to fill the memory. The values that
/// aliases repeat may take as much again.
pub const CONFIG_FILE_BYTES: u64 = 16 << 20;
/// How many files one configuration may have.
pub const CONFIG_FILES: usize = 1_000;
/// How deep lists and maps may be nested in a configuration file.
pub const CONFIG_DEPTH: usize = 32;
/// How many errors of a configuration are reported at once.
pub const CONFIG_ERRORS: usize = 100;
/// The largest certificate, key, secret or key-set file, in bytes.
pub const MATERIAL_FILE_BYTES: u64 = 1 << 20;
/// How many replicas an upstream may have.
pub const ENDPOINTS_PER_UPSTREAM: usize = 1_024;
/// How many rules one of the lists `methods`, `tools`, `prompts` and `resources` of a route may have.
pub const RULES_PER_LIST: usize = 1_000;
/// How many keys section `sessions` may have.
pub const SESSION_KEYS: usize = 8;
/// The shortest key of section `sessions`, in bytes.
pub const SESSION_KEY_BYTES: usize = 32;
/// How long a browser may remember the answer to a CORS preflight.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(86_400);
/// The shortest `sse_keepalive`.
pub const SSE_KEEPALIVE: Duration = Duration::from_secs(1);
/// The largest weight of an endpoint.
pub const WEIGHT: u16 = 256;
/// The longest name of a route, in bytes.
pub const ROUTE_NAME_BYTES: usize = 128;
/// The longest name of an upstream or provider, in bytes.
pub const NAME_OF_PART_BYTES: usize = 64;
/// The shortest secret with which tokens are signed (HS256), in bytes (RFC 7518 section 3.2).
pub const JWT_SECRET_BYTES: usize = 32;
/// The most threads that section `threads` may ask for.
pub const THREADS: usize = 1_024;
/// What `limits.header_bytes` may be.
pub const HEADER_BYTES: RangeInclusive<u64> = 256..=1 << 20;
/// What `limits.header_count` may be.
pub const HEADER_COUNT: RangeInclusive<usize> = 1..=HEAD_FIELDS;
/// The least that `limits.uri_bytes` may be.
pub const URI_BYTES: u64 = 16;
/// The least that `limits.held_bytes` may be.
pub const HELD_BYTES: u64 = 1 << 20;

// Reloads

/// How much of the path of a refused request is logged, in characters.
pub const LOGGED_PATH: usize = 1024;
/// How often files are looked at without any event: network file systems send none.
pub const WATCH_POLL: Duration = Duration::from_secs(30);
/// How long files must be quiet before a change of them is read.
pub const SETTLED: Duration = Duration::from_millis(250);
/// How long a change may wait for files that are still written to, before it is read anyway.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(5);

// `mcp-edge import` and `mcp-edge hash-key`

/// The largest file that `mcp-edge import` reads, in bytes.
pub const IMPORT_FILE_BYTES: u64 = 4 << 20;
/// How deep blocks may be nested in an nginx configuration that is imported.
pub const IMPORT_DEPTH: usize = 32;
/// How many parts of an imported configuration may be taken back because `check` refuses them.
pub const IMPORT_REPAIRS: usize = 1_000;
/// How many header fields an imported route removes because of other locations. With more fields, it is closed.
pub const IMPORT_REMOVED_FIELDS: usize = 64;
/// How many lines of a file one note names.
pub const NOTE_LINES: usize = 8;
/// The longest API key that `hash-key --stdin` reads, in bytes.
pub const STDIN_KEY_BYTES: u64 = 4 << 10;

// Connections of clients

/// How many connections may wait to be accepted on one address. The system may allow fewer.
pub const LISTEN_QUEUE: i32 = 4_096;
/// How long a connection is idle before TCP asks whether the other side is still there.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long TCP waits before it asks again, and how often it asks.
pub const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How often TCP asks before the connection counts as broken.
pub const TCP_KEEPALIVE_RETRIES: u32 = 4;
/// How long the other side may not acknowledge what TCP has sent (RFC 5482).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(120);
/// How many descriptors are kept for the admin listener, health checks, providers and files.
pub const RESERVED_DESCRIPTORS: u64 = 96;
/// How many descriptors a thread that serves connections takes.
pub const THREAD_DESCRIPTORS: u64 = 8;
/// How many connections of clients are served at once, however few descriptors there are.
pub const LEAST_CONNECTIONS: usize = 8;
/// How long a new connection waits for an idle one to make room, before another idle one is asked.
pub const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// How long accepting pauses after it failed, mostly for lack of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections the admin listener has at once.
pub const ADMIN_CONNECTIONS: usize = 64;
/// The largest body of a request to the admin listener, in bytes.
pub const ADMIN_BODY_BYTES: usize = 8 << 10;
/// How many HTTP/2 streams a client may have open on one connection.
pub const CLIENT_H2_STREAMS: u32 = 128;
/// How much a client may send on one HTTP/2 stream before the edge has used it, in bytes (RFC 9113 section 6.9). With HTTP/2's own 64 KiB,
/// an upload over 20 ms of round trip is limited to 3 MB/s; docs/performance.md has the measurement.
pub const CLIENT_H2_STREAM_WINDOW: u32 = 256 << 10;
/// The same for all streams of a connection together: the most that one client makes the edge hold.
pub const CLIENT_H2_CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of an answer one HTTP/2 stream of a client holds before it waits for the client, in bytes.
pub const CLIENT_H2_SEND_BYTES: usize = 64 << 10;
/// How many streams of one connection a client may make the edge reset by errors of its own, before the connection is closed.
/// Clients without faults cause few: only streams above [`CLIENT_H2_STREAMS`] that a client has opened before it knows that limit
/// (MadeYouReset, CVE-2025-8671).
pub const CLIENT_H2_RESETS: usize = 100;
/// The longest method of a request, in bytes. The longest registered one has 17.
pub const METHOD_BYTES: usize = 32;
/// How many fields the head of a request or an answer may have, whatever `limits.header_count` says.
pub const HEAD_FIELDS: usize = 256;
/// The largest head that is kept for the next request on its connection, in bytes.
pub const KEPT_HEAD_BYTES: usize = 8 << 10;
/// The longest line with the size of a chunk, in bytes, including its extensions.
pub const CHUNK_LINE_BYTES: usize = 256;
/// How many bytes the extensions of all chunks of one body may have together.
pub const CHUNK_EXTENSION_BYTES: usize = 16 << 10;
/// The largest trailer of a body, in bytes. It is read and dropped.
pub const TRAILER_BYTES: usize = 8 << 10;
/// Room for one read of a connection, in bytes: most messages fit.
pub const READ_BYTES: usize = 4 << 10;
/// Room for one read of a body that is known to be large, in bytes.
pub const READ_MORE_BYTES: usize = 64 << 10;
/// The largest piece of a body that is copied behind its head or framing, in bytes, so that both go out in one packet.
pub const COPIED_PIECE_BYTES: usize = 16 << 10;
/// How much of a client's next requests is read while one is served, in bytes. When a client has sent more, its disconnect
/// cannot be noticed any more.
pub const READ_AHEAD_BYTES: usize = 16 << 10;
/// The same where Pingora reads the connection, and those bytes are lost.
pub const STRAY_BYTES: usize = 4 << 10;
/// The largest buffer for answers that a connection keeps, in bytes.
pub const KEPT_OUTPUT_BYTES: usize = 2 << 10;
/// How long a client that was refused may be silent while the edge reads, and drops, what it still sends. A connection that is
/// closed with unread bytes is reset, and the client may lose the answer.
pub const LINGER: Duration = Duration::from_secs(1);
/// How long the edge reads what such a client still sends, if it is never silent.
pub const LINGER_TIME: Duration = Duration::from_secs(30);
/// How often the edge looks whether a client has left that has sent more than is read ahead.
pub const DISCONNECT_CHECK: Duration = Duration::from_secs(1);
/// How long a client that has closed its side of the connection may wait for the head of its answer, where leaving cancels the
/// request.
pub const HALF_CLOSED: Duration = Duration::from_secs(1);
/// How long the end of a TLS connection may take.
pub const GOODBYE: Duration = Duration::from_millis(500);
/// `Retry-After` of a 503: about one interval of health checks.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

// Messages and answers

/// A request body up to this size is always read: it does not count against the memory for large bodies, and when a request is
/// refused, the rest of it is read so that the connection can be kept. In bytes.
pub const SMALL_BODY_BYTES: usize = 64 << 10;
/// The messages of one caller, and the lists of one upstream, together take at most this part of `limits.held_bytes`: one half.
pub const HELD_DIVISOR: u64 = 2;
/// How long the edge holds one message, request body or list, however slowly it comes.
pub const HELD_TIME: Duration = Duration::from_secs(300);
/// How slowly a client may send a message, in bytes per second, beside `limits.body_timeout`.
pub const MESSAGE_RATE: u64 = 1 << 10;
/// How slowly a client may send the body of any other request before its answer begins, in bytes per second, beside
/// `limits.body_timeout`.
pub const UPLOAD_RATE: u64 = 100;
/// How deep a message of a client may be nested.
pub const MESSAGE_DEPTH: usize = 64;
/// The longest id of a message that is repeated in an error, in bytes.
pub const MESSAGE_ID_BYTES: usize = 1_024;
/// How many messages a batch may have.
pub const BATCH_MESSAGES: usize = 100;
/// How many resources one message may subscribe to.
pub const MESSAGE_RESOURCES: usize = 1_000;
/// The longest name of a tool, prompt or resource that a rule may match, in bytes.
pub const NAME_BYTES: usize = 8 << 10;
/// The longest names of one message together, if there are rules for them, in bytes.
pub const NAMES_BYTES: usize = 64 << 10;
/// The longest session id of an upstream, in bytes. The sealed id is a third longer.
pub const SESSION_ID_BYTES: usize = 2 << 10;
/// The largest head of an MCP upstream's answer, in bytes.
pub const ANSWER_HEAD_BYTES: usize = 64 << 10;
/// How long an upstream that stops reading a request may take to answer it.
pub const EARLY_ANSWER: Duration = Duration::from_secs(1);
/// The largest list that is filtered, in bytes. The edge holds no larger one.
pub const LIST_BYTES: usize = 8 << 20;
/// The largest `endpoint` event of the 2024-11-05 transport, in bytes.
pub const ENDPOINT_EVENT_BYTES: usize = 8 << 10;
/// How much of one answer is scanned for the outcome of the call, in bytes.
pub const SCAN_BYTES: u64 = 8 << 20;
/// How long the answer to a client that has left is read on, when leaving does not cancel the request.
pub const ABANDONED_TIME: Duration = Duration::from_secs(600);
/// How many answers of one caller are read on like this at once; further ones are cancelled.
pub const ABANDONED_OF_CALLER: usize = 32;
/// How many answers of all callers are read on like this at once.
pub const ABANDONED: usize = 4_096;
/// How long an event that has begun may go on when the time of its stream is over.
pub const EVENT_GRACE: Duration = Duration::from_secs(1);

// Sessions that resume

/// How much of a session's id may be what the client's `initialize` said, compressed, in bytes. What is longer stays in memory.
pub const SESSION_SAID_BYTES: usize = 1 << 10;
/// The most that this may be when it is not compressed any more, in bytes.
pub const SESSION_SAID_WHOLE_BYTES: usize = 64 << 10;

/// The largest `initialize` that is kept for `sessions: {resume: true}`, in bytes.
pub const RESUME_MESSAGE_BYTES: usize = 16 << 10;
/// Memory for all that are kept, in bytes. The least used are forgotten.
pub const RESUME_BYTES: u64 = 32 << 20;
/// How many sessions are remembered as moved to another endpoint.
pub const RESUMED_SESSIONS: u64 = 100_000;
/// How long a kept `initialize`, or a move, is remembered without use.
pub const RESUME_IDLE: Duration = Duration::from_secs(24 * 3_600);
/// How long a repeated `initialize` may take.
pub const RESUME_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer to a repeated `initialize`, in bytes.
pub const RESUME_RESPONSE_BYTES: usize = 256 << 10;

// Upstreams

/// How many endpoints one request may try.
pub const ATTEMPTS: usize = 3;
/// The same for an `initialize`.
pub const INITIALIZE_ATTEMPTS: usize = 2;
/// How many points of the hash ring are looked at before the ring is given up: several rounds of a large pool.
pub const HASH_RING_STEPS: usize = 65_536;
/// How many idle HTTP/1 connections of MCP routes each thread keeps for each endpoint.
pub const IDLE_PER_ENDPOINT: usize = 256;
/// How often idle connections that are too old are closed.
pub const IDLE_SWEEP: Duration = Duration::from_secs(1);
/// How many other idle upstream connections are kept for each thread.
pub const POOL_PER_THREAD: usize = 128;
/// How many requests may share one HTTP/2 connection to an upstream.
pub const UPSTREAM_H2_STREAMS: usize = 100;
/// How often an HTTP/2 connection to an upstream is asked for a sign of life while requests wait on it.
pub const UPSTREAM_H2_PING: Duration = Duration::from_secs(10);
/// How long the answer to a request of the edge itself must have been awaited before its HTTP/2 connection is left as dead.
pub const DEAD_CONNECTION: Duration = Duration::from_secs(1);
/// The largest answer of a health check that is read, in bytes.
pub const PROBE_RESPONSE_BYTES: usize = 64 << 10;
/// How long a name may take to resolve.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

// Credentials and the token cache

/// How far clocks may differ when a token's times are checked (RFC 7519 section 4.1.4 asks for "a few minutes" at most).
pub const LEEWAY: Duration = Duration::from_secs(30);
/// The longest bearer token, in bytes. Longer ones are refused unread.
pub const TOKEN_BYTES: usize = 16 << 10;
/// How long a denied token may be remembered as denied.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How many denied tokens are remembered.
pub const NEGATIVE_ENTRIES: u64 = 10_000;
/// How many different grants (scopes and audiences) principals share.
pub const SHARED_GRANTS: u64 = 1_024;
/// How many entries of the token cache are in the table of recent entries.
pub const RECENT_ENTRIES: u64 = 1_000_000;
/// For how many tokens a route with several providers remembers which one to ask.
pub const PROVIDER_CHOICES: usize = 1_024;
/// How long an earlier allow may be used while its provider cannot answer.
pub const STALE_IF_ERROR: Duration = Duration::from_secs(60);
/// How long it is used before the provider is asked again.
pub const STALE_RETRY: Duration = Duration::from_secs(1);
/// How long after a failed refresh the next one may be tried.
pub const REFRESH_RETRY: Duration = Duration::from_secs(1);
/// How many refreshes may wait. Entries without room end as they would without a refresh.
pub const REFRESH_QUEUE: usize = 1_024;
/// How many refreshes run at the same time.
pub const REFRESHERS: usize = 16;
/// How many revocations are remembered one by one. Open streams that missed more of them end.
pub const REVOCATIONS: usize = 256;
/// How many revoked credentials and subjects are refused at the same time.
pub const REFUSALS: usize = 1_000;
/// How long a revocation may refuse what its provider would allow.
pub const REFUSAL_TIME: Duration = Duration::from_secs(30 * 86_400);
/// How many API keys one file may have.
pub const API_KEYS: usize = 10_000;
/// How many Argon2 hashes are verified at the same time. Further requests wait for [`AUTH_TIMEOUT`], then get 503.
pub const SLOW_HASHES: usize = 2;

// Servers that providers ask

/// How long the edge waits for an authentication server.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer of an authentication server or key set, in bytes.
pub const AUTH_RESPONSE_BYTES: usize = 256 << 10;
/// The largest `WWW-Authenticate` of an authentication server that is passed on, in bytes.
pub const CHALLENGE_BYTES: usize = 2 << 10;
/// How many requests one provider's server gets at once. Cached callers need none.
pub const LOOKUPS: usize = 64;
/// How long a request may wait for its turn to ask.
pub const LOOKUP_WAIT: Duration = Duration::from_secs(1);
/// The longest name or URI that an authentication server is told, in bytes.
pub const LOOKUP_NAME_BYTES: usize = 2 << 10;
/// Memory for all messages whose senders are not known yet (`lookup.operation`), in bytes. Those of up to
/// [`SMALL_BODY_BYTES`] have as much again for themselves.
pub const EARLY_BYTES: u64 = 32 << 20;
/// How many networks `auth.outbound.allow` may list.
pub const OUTBOUND_NETWORKS: usize = 1_000;
/// How long an idle connection to such a server is kept.
pub const OUTBOUND_IDLE: Duration = Duration::from_secs(4);
/// How many keys of a key set are kept.
pub const JWKS_KEYS: usize = 128;
/// The shortest time between two fetches of one key set.
pub const JWKS_REFETCH: Duration = Duration::from_secs(10);
/// How long keys are used when their source cannot be reached.
pub const JWKS_MAX_STALE: Duration = Duration::from_secs(3_600);
/// How long an assertion with which the edge proves who it is can be used (RFC 7523 section 3).
pub const CLIENT_ASSERTION: Duration = Duration::from_secs(55);

// Tokens for upstreams

/// Memory for the tokens that upstreams are shown, in bytes. The least used are forgotten. Each is at most [`TOKEN_BYTES`]
/// long.
pub const UPSTREAM_TOKENS: u64 = 64 << 20;
/// How long a token is valid whose server does not say it (RFC 6749 section 5.1 only recommends `expires_in`).
pub const UPSTREAM_TOKEN_DEFAULT: Duration = Duration::from_secs(60);
/// How long a token is kept at most, however long it is valid.
pub const UPSTREAM_TOKEN_MAX: Duration = Duration::from_secs(3_600);
/// How long before its end a token is replaced: this or a fifth of its life, whichever is less, and at random up to half as much
/// again.
pub const UPSTREAM_TOKEN_MARGIN: Duration = Duration::from_secs(20);
/// How long a token that is still valid is used when its server could not replace it, before the server is asked again.
pub const UPSTREAM_TOKEN_RETRY: Duration = Duration::from_secs(1);
/// How old a token of the edge itself must be before an upstream's 401 replaces it: the 401 may be about the caller.
pub const UPSTREAM_TOKEN_SPEND: Duration = Duration::from_secs(10);
/// How many keys section `assertions` may have.
pub const ASSERTION_KEYS: usize = 8;
/// The shortest time for which an assertion for an upstream can be used.
pub const ASSERTION_MIN: Duration = Duration::from_secs(5);
/// The longest.
pub const ASSERTION_MAX: Duration = Duration::from_secs(300);

// Metrics and logs

/// How many tools of a route have metrics of their own.
pub const TOOL_LABELS: usize = 200;
/// How many names of one list may become labels.
pub const LISTED_LABELS: usize = 1_000;
/// The longest name that may become a label, in bytes.
pub const LABEL_BYTES: usize = 128;
/// The largest list of tools that is copied to find their names, in bytes.
pub const TOOL_LIST_COPY_BYTES: usize = 256 << 10;
/// How many bytes of lines may wait for standard output before lines are dropped.
pub const LOG_BYTES: usize = 2 << 20;
/// How long lines are collected between two writes.
pub const LOG_PACE: Duration = Duration::from_millis(20);
/// How long the end of the process waits for standard output.
pub const LOG_FLUSH: Duration = Duration::from_secs(1);
/// Memory that each thread keeps for writing lines, in bytes: most lines are much shorter.
pub const KEPT_LINE_BYTES: usize = 4 << 10;
/// How much of a tool's name a line of the log has, in characters: as much as a rule may name.
pub const LOGGED_NAME: usize = 256;

// The process

/// How many threads there are for background work, beside those that serve connections.
pub const BACKGROUND_THREADS: usize = 2;
/// How long work that cannot be interrupted may delay the end of the process.
pub const LAST_BREATH: Duration = Duration::from_millis(200);
/// How soon a timer of each thread goes off. It is shorter than the usual deadlines of requests.
pub const TICK: Duration = Duration::from_secs(1);

/// Section `limits`: what a client may ask of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest request header section (default 64KiB, at most 1MiB); more is answered 431.
    pub header_bytes: Size,
    /// How many header fields a request may have (default 100, at most 256); more is answered 431.
    pub header_count: usize,
    /// The longest request target (default 8KiB); more is answered 414.
    pub uri_bytes: Size,
    /// The largest request body (default 4MiB); more is answered 413. A route may set its own.
    pub body_bytes: Size,
    /// Memory for MCP messages of more than 64KiB that are held, request bodies until they are sent and lists until they
    /// are filtered, over all requests (default 256MiB, at least 1MiB); more is answered 503.
    pub held_bytes: Size,
    /// How long a client may take for a whole request header, and for a TLS handshake (default 10s).
    pub header_timeout: Span,
    /// How long a client may be silent within a request body (default 10s). A body must also come at a rate, on average: 1 KiB a
    /// second on MCP routes, 100 bytes a second on others. For gRPC and other requests that wait for a stream, the route's `idle`
    /// counts instead.
    pub body_timeout: Span,
    /// How long a client may take to accept a piece of a response (default 30s).
    pub write_timeout: Span,
    /// How long an idle client connection is kept open (default 60s).
    pub keepalive_timeout: Span,
    /// How many client connections may be open at once (default 65536, or as many as the process's limit of open files allows).
    /// When all are, the one that has been idle for the longest time is closed; further ones wait in the kernel's queue.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: Size(64 << 10),
            header_count: 100,
            uri_bytes: Size(8 << 10),
            body_bytes: Size(4 << 20),
            held_bytes: Size(256 << 20),
            header_timeout: Span(Duration::from_secs(10)),
            body_timeout: Span(Duration::from_secs(10)),
            write_timeout: Span(Duration::from_secs(30)),
            keepalive_timeout: Span(Duration::from_secs(60)),
            connections: 65_536,
        }
    }
}
