//! The sections of a configuration file as written, one file for each.

pub(super) mod api_keys;
pub(super) mod assertions;
pub(super) mod auth;
pub(super) mod claims;
pub(super) mod credential;
pub(super) mod file;
pub(super) mod gateway;
pub(super) mod introspection;
pub(super) mod lookup;
pub(super) mod mtls;
pub(super) mod outbound;
pub(super) mod policy;
pub(super) mod reference;
pub(super) mod route;
pub(super) mod schema;
pub(super) mod server;
pub(super) mod token_grant;
pub(super) mod upstream;

pub(crate) use super::units::{Bind, Cidr, Header, HeaderText, Host, Name, ScopeName, Size, Span, Url};
pub(crate) use auth::Provider;
pub(crate) use lookup::Lookup;
pub(crate) use policy::Rule;
pub(crate) use route::{HeaderChanges, RequiredAuth, Rewrite, Route, RouteAuth, Upgrade};
pub use server::TrustedField;
pub(crate) use server::{Listener, ListenerTls, SniCertificate};
pub(crate) use upstream::{Endpoint, Upstream, UpstreamTls, default_resolve};
