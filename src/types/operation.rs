//! What a request wants to do: the unit that policy decides on.

/// One thing that a caller asks of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// One HTTP request that carries no MCP message: anything on an opaque route, the opening of an event stream and the
    /// end of a session on an MCP route. Only the route's own scopes decide on it.
    Request,
    /// A client's answer to a request of the server, which only a permitted operation can have caused.
    Answer,
    /// An MCP method that names no target.
    Method(&'a str),
    /// An MCP method with what it is about.
    Targeted(&'a str, Target<'a>),
}

/// What an MCP method is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A tool, by name.
    Tool(&'a str),
    /// A prompt, by name.
    Prompt(&'a str),
    /// A resource or resource template, by URI.
    Resource(&'a str),
    /// A task, by id: no rule is about tasks, the session and the upstream know whose they are.
    Task(&'a str),
}

impl<'a> Operation<'a> {
    /// The MCP method.
    pub fn method(self) -> Option<&'a str> {
        match self {
            Self::Request | Self::Answer => None,
            Self::Method(method) | Self::Targeted(method, _) => Some(method),
        }
    }

    /// What the method is about, by name, URI or id.
    pub fn name(self) -> Option<&'a str> {
        match self {
            Self::Targeted(
                _,
                Target::Tool(name) | Target::Prompt(name) | Target::Resource(name) | Target::Task(name),
            ) => Some(name),
            _ => None,
        }
    }

    /// The tool, for a method that is about one.
    pub fn tool(self) -> Option<&'a str> {
        match self {
            Self::Targeted(_, Target::Tool(name)) => Some(name),
            _ => None,
        }
    }
}
