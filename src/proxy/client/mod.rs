//! The connections of clients, and one request with its answer on them.

pub(super) mod alarm;
pub(super) mod http1_connection;
pub(super) mod http1_session;
pub(super) mod session;
pub(super) mod stream;
pub(super) mod watch;
