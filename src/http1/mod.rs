//! HTTP/1 messages on the wire (RFC 9112), without I/O: heads, the lengths of bodies, and their bytes.
//!
//! Heads are parsed by `httparse`. A message whose framing is ambiguous is never accepted: such a request is refused,
//! and such a response ends its exchange.

mod body;
mod framing;
mod head;
mod request_head;

pub use body::{BadBody, BodyReader, BodyWriter, Step};
pub use framing::{BodyLength, keeps_alive};
pub use head::{encode_field, encode_head, parse_response};
pub use request_head::{BadHead, RequestHead, RequestParse};
