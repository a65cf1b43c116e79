//! `discovery: search`: the two tools of a gateway itself, with which clients find all others.

use serde_json::{Value, json};

use crate::config::{Discovery, limits};
use crate::proxy::snapshot::GatewayContext;

/// Finds tools by words.
pub(super) const FIND: &str = "find_tools";
/// Says how one tool is called.
pub(super) const DESCRIBE: &str = "describe_tool";

/// True when the gateway itself has the tool `name`.
pub(super) fn is_own_tool(gateway: &GatewayContext, name: &str) -> bool {
    gateway.settings.discovery == Discovery::Search && (name == FIND || name == DESCRIBE)
}

/// The definitions of both tools.
pub(super) fn own_tools() -> [Value; 2] {
    let most = limits::GATEWAY_FOUND_MOST;
    [
        json!({
            "name": FIND,
            "title": "Find tools",
            "description": "Finds tools by words that say what you want to do. Describe a tool before you call it for the first time.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "Words such as `stock prices` or `send mail`."},
                    "limit": {"type": "integer", "minimum": 1, "maximum": most, "description": "How many tools at most."},
                },
                "required": ["query"],
            },
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        }),
        json!({
            "name": DESCRIBE,
            "title": "Describe a tool",
            "description": "Gives the whole definition of a tool, with the schema of its arguments.",
            "inputSchema": {
                "type": "object",
                "properties": {"name": {"type": "string", "description": "The name that find_tools gives."}},
                "required": ["name"],
            },
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        }),
    ]
}
