//! The methods of all revisions of MCP.

/// Methods that every session needs. The methods `notifications/*` count as such too.
const COMMON: &[&str] = &["initialize", "logging/setLevel", "ping", "server/discover"];

/// All other methods that a client may call.
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

/// What the edge knows about a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownMethod {
    /// A method that every session needs.
    Common(&'static str),
    /// A method for a feature of a server.
    Feature(&'static str),
    /// A method that no revision of MCP has.
    Unknown,
}

impl KnownMethod {
    /// Finds `method` in the lists of known methods.
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

    /// The value of the metrics label `method`. It is never a text that a client has chosen.
    pub fn label(self) -> &'static str {
        match self {
            Self::Common(name) | Self::Feature(name) => name,
            Self::Unknown => "other",
        }
    }

    /// True for methods that only read. Such a request can safely be sent again when it got no answer.
    pub fn only_reads(method: &str) -> bool {
        matches!(
            method,
            "ping" | "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list"
        )
    }
}
