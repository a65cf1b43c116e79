//! HTTP/1 messages on a wire (RFC 9112), without I/O: heads, how long a body is, and its bytes.
//!
//! Heads are parsed by `httparse`. What could be framed in two ways is never framed: a request is refused, and an answer
//! ends its exchange.

mod body;
mod framing;
mod head;
mod request_head;

pub use body::{BodyReader, BodyWriter, Step};
pub use framing::{BodyLength, keeps_alive};
pub use head::{encode_field, encode_head, parse_response};
pub use request_head::{RequestHead, RequestParse};
