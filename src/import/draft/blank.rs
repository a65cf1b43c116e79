//! Routes, upstreams and listeners with default settings, and closed routes, which reject all requests.

use std::net::SocketAddr;

use crate::config::written::{
    Bind, Endpoint, HeaderChanges, Listener, RequiredAuth, Rewrite, Route, RouteAuth, ScopeName, TrustedField,
    Upstream, default_resolve,
};
use crate::config::{Balance, Forwarded, Protocol, Timeouts};
use crate::types::{Scope, canonical_path};

/// A scope that no caller has. A route that requires it rejects all requests.
pub(crate) const CLOSED: &str = "closed-by-import";

/// True when a route can have `path`.
pub(crate) fn is_path(path: &str) -> bool {
    !path.contains(['*', '?', '#']) && canonical_path(path.as_bytes()).is_ok()
}

/// `provider` must authenticate the caller, who must have all of `scopes`.
pub(crate) fn required(provider: &str, scopes: &[ScopeName]) -> RouteAuth {
    RouteAuth::Required(RequiredAuth {
        providers: vec![provider.to_owned()],
        scopes: scopes.to_vec(),
        public_url: None,
        audiences: None,
        open_streams: Default::default(),
    })
}

/// Closes `route`: it rejects all requests. Its other settings stay.
pub(crate) fn shut(route: &mut Route, provider: &str) {
    let scope: Option<Scope> = CLOSED.parse().ok();
    let scopes: Vec<ScopeName> = scope.map(ScopeName).into_iter().collect();
    route.auth = required(provider, &scopes);
}

/// Closes `route`, and resets its settings except path, name, hosts and upstream.
pub(crate) fn close(route: &mut Route, provider: &str) {
    let (path, name, hosts) = (route.path.clone(), route.name.take(), std::mem::take(&mut route.hosts));
    *route =
        Route { hosts, name, ..blank_route(&path, route.upstream.as_deref().unwrap_or_default(), RouteAuth::None) };
    shut(route, provider);
}

/// An upstream with a placeholder endpoint. Names below `.invalid` never resolve (RFC 6761).
pub(crate) fn unknown_upstream() -> Upstream {
    blank_upstream(vec![Endpoint { address: "server.invalid:8000".to_owned(), weight: 1 }])
}

/// A route with default settings.
pub(crate) fn blank_route(path: &str, upstream: &str, auth: RouteAuth) -> Route {
    Route {
        credential: None,
        path: path.to_owned(),
        hosts: Vec::new(),
        name: None,
        upstream: Some(upstream.to_owned()),
        gateway: None,
        protocol: Protocol::default(),
        rewrite: Rewrite::default(),
        auth,
        forward_token: false,
        methods: None,
        tools: None,
        prompts: None,
        resources: None,
        sessions: None,
        sse_keepalive: None,
        cancel_on_disconnect: None,
        refusals: None,
        cors: None,
        upgrade: Vec::new(),
        host: None,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        body_bytes: None,
        idle: None,
    }
}

/// An upstream with default settings.
pub(crate) fn blank_upstream(endpoints: Vec<Endpoint>) -> Upstream {
    Upstream {
        endpoints,
        balance: Balance::default(),
        health: None,
        timeouts: Timeouts::default(),
        tls: None,
        http2: false,
        forwarded: Forwarded::default(),
        resolve: default_resolve(),
    }
}

/// A listener that serves any host.
pub(crate) fn blank_listener(address: SocketAddr) -> Listener {
    Listener {
        address: Bind(address),
        hosts: Vec::new(),
        tls: None,
        trusted_proxies: Vec::new(),
        trusted_fields: TrustedField::defaults(),
        underscores_in_headers: false,
        origins: Vec::new(),
    }
}
