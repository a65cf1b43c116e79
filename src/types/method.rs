//! The methods of MCP's revisions.

/// Methods that every session needs; `notifications/*` belong to them.
const COMMON: &[&str] = &["initialize", "logging/setLevel", "ping", "server/discover"];

/// All others that a client may call.
const FEATURES: &[&str] = &[
    "completion/complete",
    "prompts/get",
    "prompts/list",
    "resources/directory/read",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// What is known of a method by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownMethod {
    /// Part of every session.
    Common(&'static str),
    /// A feature of servers.
    Feature(&'static str),
    /// No revision has it.
    Unknown,
}

impl KnownMethod {
    /// Looks `method` up.
    pub fn of(method: &str) -> Self {
        let find = |names: &'static [&'static str]| names.iter().find(|name| **name == method).copied();
        if method.starts_with("notifications/") {
            return Self::Common("notifications/*");
        }
        match (find(COMMON), find(FEATURES)) {
            (Some(name), _) => Self::Common(name),
            (None, Some(name)) => Self::Feature(name),
            (None, None) => Self::Unknown,
        }
    }

    /// The value of a metric's label: never a client's own text.
    pub fn label(self) -> &'static str {
        match self {
            Self::Common(name) | Self::Feature(name) => name,
            Self::Unknown => "other",
        }
    }

    /// True for methods that only read and may safely be sent again when no answer was seen.
    pub fn only_reads(method: &str) -> bool {
        matches!(
            method,
            "ping" | "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list"
        )
    }
}
