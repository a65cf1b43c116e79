//! The fields of a client's request that its upstream gets.

use bytes::Bytes;

/// In the form of HTTP/1.1, ready to be written. Some may be secret, so `Debug` shows only how many bytes there are.
pub(crate) struct ClientFields(pub(crate) Bytes);

impl std::fmt::Debug for ClientFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFields").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}
