//! The Model Context Protocol (MCP): reads, checks and rewrites messages, without I/O.

mod bad_message;
mod claims;
mod cursor;
mod fields;
mod find;
mod gateway;
mod jsonrpc;
mod list;
mod members;
mod message;
mod packed;
mod probe;
mod scan;
mod seal;
mod sse;

pub use bad_message::BadMessage;
pub use claims::{Era, Misfit, VERSION_HEADER, encoded};
pub(crate) use find::find_in_string;
pub use gateway::{
    IdRestore, ListItem, ListPage, ServerFacts, ServerMark, Splice, ToolText, answers_another, best_tools, encode_text,
    is_response_to, is_short_form, marked_answer, negotiated_version, response_of, shown_name,
};
pub use jsonrpc::{
    HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, MessageId, PARSE_ERROR, error_message,
    error_with_data,
};
pub use list::{ListError, ListKind, filter_list, listed_tools};
pub use message::{Message, Messages};
pub use packed::{pack, unpack};
pub use probe::{ProbeAnswer, probe_headers, probe_request};
pub use scan::{MessageScan, Scanned};
pub use seal::{KeyRing, SealedSession, SessionOwner, SessionTarget};
pub use sse::{EventRewrite, EventScan, EventTooLong, Verdict};
