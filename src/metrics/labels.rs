//! Label values that are closed sets.

/// A label value from a closed set.
pub trait Label: Copy {
    /// The value in the metrics.
    fn label(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All values, so that their series can exist from the start.
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
        /// The request is malformed, or two servers could read it differently.
        BadRequest = "bad_request",
        /// The request target is too long.
        UriTooLong = "uri_too_long",
        /// The header fields are too many or too large.
        HeadersTooLarge = "headers_too_large",
        /// The request body is too large.
        BodyTooLarge = "body_too_large",
        /// The request body did not come in time.
        BodyTimeout = "body_timeout",
        /// The listener does not serve the host of the request.
        Misdirected = "misdirected",
        /// No route matches the request.
        NotFound = "not_found",
        /// The edge does not forward the method.
        MethodNotAllowed = "method_not_allowed",
        /// The request has no credential.
        Unauthenticated = "unauthenticated",
        /// The credential is not valid on this route.
        InvalidToken = "invalid_token",
        /// The caller does not have the scopes that the route or its policy requires.
        InsufficientScope = "insufficient_scope",
        /// The authorization server gives no token for the upstream in exchange for the caller's token.
        CredentialRefused = "credential_refused",
        /// A provider, or the token endpoint for the upstream, is unavailable.
        AuthUnavailable = "auth_unavailable",
        /// No endpoint of the upstream is healthy.
        NoEndpoint = "no_endpoint",
        /// The edge could not connect to the upstream, or the upstream broke off its answer.
        UpstreamFailed = "upstream_failed",
        /// The upstream does not accept the credential that the edge has shown.
        UpstreamRefused = "upstream_refused",
        /// The upstream did not answer in time.
        UpstreamTimeout = "upstream_timeout",
        /// The body is not an MCP message, or two readers could read it differently.
        InvalidMessage = "invalid_message",
        /// A header field contradicts the body.
        HeaderMismatch = "header_mismatch",
        /// The body has to be read, but it is not plain JSON.
        UnsupportedMediaType = "unsupported_media_type",
        /// The MCP session is unknown, or belongs to another caller.
        UnknownSession = "unknown_session",
        /// The web page that sent the request is not allowed to.
        ForbiddenOrigin = "forbidden_origin",
        /// There is no memory for another large message.
        Overloaded = "overloaded",
        /// The edge itself failed.
        Internal = "internal",
    }
}

labels! {
    /// The outcome of an MCP call.
    CallOutcome {
        /// The response is a result, or a message without a response was accepted.
        Ok = "ok",
        /// The status is a success, but the edge has not seen the result: it came on another stream, or was too long or
        /// encoded.
        OkUnscanned = "ok_unscanned",
        /// The response is a result with `isError: true`.
        ToolError = "tool_error",
        /// The response is a JSON-RPC error.
        RpcError = "rpc_error",
        /// The policy, or the server that issues tokens for the upstream, refused the call.
        Denied = "denied",
        /// The client disconnected before the answer.
        Cancelled = "cancelled",
        /// There was no answer, or the answer was not MCP, or the edge refused the call for another reason.
        Failed = "failed",
    }
}

labels! {
    /// The decision of a provider on a credential.
    AuthResult {
        /// The credential is valid.
        Allowed = "allowed",
        /// The credential is not valid.
        Denied = "denied",
        /// The provider is unavailable.
        Unavailable = "unavailable",
    }
}

labels! {
    /// The result of fetching a provider's keys. Unless it is `ok`, the old keys stay in use.
    KeyFetchResult {
        /// The answer has keys that can be used.
        Ok = "ok",
        /// The answer has no key that can be used, is too large, or is metadata that leads to no keys.
        Invalid = "invalid",
        /// There was no answer, or its status was not 200.
        Unavailable = "unavailable",
    }
}

labels! {
    /// The result of a lookup in the token cache.
    CacheResult {
        /// The cache has a principal.
        Hit = "hit",
        /// The provider is unavailable, so the cache used an earlier decision to allow.
        StaleHit = "stale_hit",
        /// The cache has a decision to deny.
        NegativeHit = "negative_hit",
        /// The cache has nothing.
        Miss = "miss",
    }
}

labels! {
    /// Where a token for an upstream came from, or why there is none.
    UpstreamTokenResult {
        /// This request did not ask the token endpoint: the answer was cached, or another request was fetching it.
        Hit = "hit",
        /// The token endpoint issued a token.
        Ok = "ok",
        /// The token endpoint refused the caller's token.
        Refused = "refused",
        /// The token endpoint is unavailable.
        Unavailable = "unavailable",
    }
}

labels! {
    /// The result of validating a cached credential again in the background.
    RefreshResult {
        /// The credential is still valid.
        Refreshed = "refreshed",
        /// The provider refused the credential, which is refused from now on.
        Denied = "denied",
        /// The provider is unavailable.
        Unavailable = "unavailable",
        /// The queue was full, so the credential was not validated.
        Dropped = "dropped",
    }
}

labels! {
    /// The result of a request to an endpoint.
    EndpointResult {
        /// The endpoint answered with a status below 500.
        Ok = "ok",
        /// The endpoint answered with a status of 500 or more.
        ServerError = "server_error",
        /// The edge could not connect to the endpoint.
        ConnectError = "connect_error",
        /// The endpoint broke off, or its answer was not HTTP.
        Failed = "failed",
        /// The endpoint did not answer in time.
        Timeout = "timeout",
        /// The client disconnected first.
        Cancelled = "cancelled",
    }
}

labels! {
    /// The result of a reload.
    ReloadResult {
        /// The new snapshot is in use.
        Success = "success",
        /// The configuration has not changed.
        Unchanged = "unchanged",
        /// The old snapshot stays in use.
        Failure = "failure",
    }
}
