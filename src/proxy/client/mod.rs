//! The client's side: its connection, and one request with its answer on it.

pub(super) mod alarm;
pub(super) mod downstream;
pub(super) mod http1_connection;
pub(super) mod http1_downstream;
mod http2_downstream;
mod pingora_downstream;
pub(super) mod stream;
pub(super) mod transfer;
pub(super) mod watch;
