//! HTTP/1 messages on a wire (RFC 9112), without I/O: heads, how long a body is, and its bytes.
//!
//! Heads are parsed by `httparse`. What could be framed in two ways is never framed here: a request is left to somebody
//! who can refuse it politely, and an answer ends its exchange.

mod body;
mod framing;
mod head;

pub use body::{BodyReader, BodyWriter, Step};
pub use framing::{BodyLength, keeps_alive};
pub use head::{RequestParse, encode_head, parse_request, parse_response};
