//! Closed sets of label values.

/// A label value that is known when the edge is built.
pub trait Label: Copy {
    /// The value in the exposition.
    fn label(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, so that their series exist from the start.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl Label for $name {
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}

labels! {
    /// Why the edge answered a request itself.
    RejectionReason {
        /// The request is not what HTTP, or the edge, can read without doubt.
        BadRequest = "bad_request",
        /// Too long a target.
        UriTooLong = "uri_too_long",
        /// Too many or too large header fields.
        HeadersTooLarge = "headers_too_large",
        /// Too large a body.
        BodyTooLarge = "body_too_large",
        /// The body did not come in time.
        BodyTimeout = "body_timeout",
        /// A host that the listener does not answer to.
        Misdirected = "misdirected",
        /// No route.
        NotFound = "not_found",
        /// A method that the edge does not carry.
        MethodNotAllowed = "method_not_allowed",
        /// No credential.
        Unauthenticated = "unauthenticated",
        /// A credential that is not valid here.
        InvalidToken = "invalid_token",
        /// Scopes are missing.
        InsufficientScope = "insufficient_scope",
        /// There is no token for the upstream in exchange for this caller's.
        CredentialRefused = "credential_refused",
        /// A provider did not answer, or the server that gives tokens for the upstream.
        AuthUnavailable = "auth_unavailable",
        /// No endpoint is healthy.
        NoEndpoint = "no_endpoint",
        /// The upstream could not be reached, or broke off.
        UpstreamFailed = "upstream_failed",
        /// The upstream did not answer in time.
        UpstreamTimeout = "upstream_timeout",
        /// A body that is no MCP message, or could be read in two ways.
        InvalidMessage = "invalid_message",
        /// A header field says something else than the body.
        HeaderMismatch = "header_mismatch",
        /// A body of another kind than JSON where it has to be read.
        UnsupportedMediaType = "unsupported_media_type",
        /// A session that is not the caller's, or that is gone.
        UnknownSession = "unknown_session",
        /// A web page that may not call.
        ForbiddenOrigin = "forbidden_origin",
        /// There is no memory for another large body.
        Overloaded = "overloaded",
        /// An error of the edge itself.
        Internal = "internal",
    }
}

labels! {
    /// What became of an MCP call.
    CallOutcome {
        /// A result.
        Ok = "ok",
        /// A result, as far as the status tells: the answer came on another stream, or was too long or encoded to look at.
        OkUnscanned = "ok_unscanned",
        /// A result with `isError: true`.
        ToolError = "tool_error",
        /// A JSON-RPC error.
        RpcError = "rpc_error",
        /// The policy said no, or the server that gives tokens for the upstream.
        Denied = "denied",
        /// The client left before the answer.
        Cancelled = "cancelled",
        /// No answer, or one that is no MCP.
        Failed = "failed",
    }
}

labels! {
    /// What a provider decided.
    AuthResult {
        /// It is valid.
        Allowed = "allowed",
        /// It is not.
        Denied = "denied",
        /// The provider could not tell.
        Unavailable = "unavailable",
    }
}

labels! {
    /// How a fetch of a provider's keys ended. Whatever went wrong, the old keys stay.
    KeyFetchResult {
        /// There are keys.
        Ok = "ok",
        /// What was answered holds no key that can be used, or is metadata that leads to none.
        Invalid = "invalid",
        /// There was no answer, or one with another status than 200.
        Unavailable = "unavailable",
    }
}

labels! {
    /// What the token cache knew.
    CacheResult {
        /// A principal.
        Hit = "hit",
        /// An earlier allow, in place of a provider that could not tell.
        StaleHit = "stale_hit",
        /// A denial.
        NegativeHit = "negative_hit",
        /// Nothing.
        Miss = "miss",
    }
}

labels! {
    /// Where a token for an upstream came from, or why there is none.
    UpstreamTokenResult {
        /// Nobody was asked for this request: it was remembered, or another request had asked.
        Hit = "hit",
        /// The token endpoint gave it.
        Ok = "ok",
        /// The token endpoint refuses the caller's token.
        Refused = "refused",
        /// The token endpoint gives none now.
        Unavailable = "unavailable",
    }
}

labels! {
    /// What became of a credential that was to be validated anew without a request that waits.
    RefreshResult {
        /// It was allowed again.
        Refreshed = "refreshed",
        /// It was refused, and is from now on.
        Denied = "denied",
        /// The provider could not tell.
        Unavailable = "unavailable",
        /// There was no room for it.
        Dropped = "dropped",
    }
}

labels! {
    /// How a request to an endpoint went.
    EndpointResult {
        /// It answered with a status below 500.
        Ok = "ok",
        /// It answered with a status of 500 or more.
        ServerError = "server_error",
        /// No connection.
        ConnectError = "connect_error",
        /// It broke off, or answered what is no HTTP.
        Failed = "failed",
        /// It did not answer in time.
        Timeout = "timeout",
        /// The client left first.
        Cancelled = "cancelled",
    }
}

labels! {
    /// How a reload ended.
    ReloadResult {
        /// The new snapshot is in use.
        Success = "success",
        /// Nothing had changed.
        Unchanged = "unchanged",
        /// The old snapshot stays.
        Failure = "failure",
    }
}
