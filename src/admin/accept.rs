//! `POST /catalog/accept`: reads which definitions of tools an operator accepts.

use serde::Deserialize;

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    /// The name of the server's route, as `/catalog` shows it.
    pub(super) route: String,
    /// The server's own name of one tool. Without it, all tools of the server are meant.
    pub(super) tool: Option<String>,
}

/// Reads the body of a request.
///
/// # Errors
/// The message says what to write instead.
pub(super) fn read(body: &[u8]) -> Result<Accepted, &'static str> {
    let message = r#"write {"route": "NAME"} or {"route": "NAME", "tool": "NAME"}, as `/catalog` shows them"#;
    serde_json::from_slice(body).map_err(|_| message)
}
