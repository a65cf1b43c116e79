//! What a request asks for. The policy decides on each operation.

/// One operation that a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// One HTTP request without an MCP message: any request on an opaque route; on an MCP route, opening an event
    /// stream or ending a session. Only the scopes of the route decide on it.
    Request,
    /// A client's response to a request of the server. Only an operation that was permitted can have caused that
    /// request.
    Answer,
    /// An MCP method without a target.
    Method(&'a str),
    /// An MCP method and its target.
    Targeted(&'a str, Target<'a>),
}

/// The target of an MCP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A tool, by name.
    Tool(&'a str),
    /// A prompt, by name.
    Prompt(&'a str),
    /// A resource or resource template, by URI.
    Resource(&'a str),
    /// A task, by id. No rules exist for tasks: the session and the upstream know which caller a task belongs to.
    Task(&'a str),
}

impl<'a> Target<'a> {
    /// The name, URI or id.
    pub fn name(self) -> &'a str {
        match self {
            Self::Tool(name) | Self::Prompt(name) | Self::Resource(name) | Self::Task(name) => name,
        }
    }
}

impl<'a> Operation<'a> {
    /// The MCP method.
    pub fn method(self) -> Option<&'a str> {
        match self {
            Self::Request | Self::Answer => None,
            Self::Method(method) | Self::Targeted(method, _) => Some(method),
        }
    }

    /// The name, URI or id of the target.
    pub fn name(self) -> Option<&'a str> {
        self.target().map(Target::name)
    }

    /// The target.
    pub fn target(self) -> Option<Target<'a>> {
        match self {
            Self::Targeted(_, target) => Some(target),
            _ => None,
        }
    }

    /// The name of the tool, if the target is a tool.
    pub fn tool(self) -> Option<&'a str> {
        match self {
            Self::Targeted(_, Target::Tool(name)) => Some(name),
            _ => None,
        }
    }
}
