//! The configuration: as written (one file per section), and checked ([`Config`]).

mod api_keys;
mod assertions;
mod auth;
mod checked;
mod checked_auth;
mod checked_credential;
mod checked_policy;
mod claims;
mod credential;
mod error;
mod file;
mod introspection;
pub mod limits;
mod load;
mod lookup;
mod material;
mod mtls;
mod outbound;
mod parse;
mod policy;
mod problems;
mod reader;
mod resolve;
mod resolve_api_keys;
mod resolve_auth;
mod resolve_introspection;
mod resolve_lookup;
mod resolve_mtls;
mod resolve_policy;
mod resolve_route;
mod resolve_upstream;
mod route;
mod schema;
mod server;
mod suggest;
mod token_grant;
mod tree;
mod units;
mod upstream;
mod yaml;

/// The sections as written, for those who write configurations, and the parser of YAML with positions.
pub(crate) mod written {
    pub(crate) use super::auth::Provider;
    pub(crate) use super::lookup::Lookup;
    pub(crate) use super::policy::Rule;
    pub(crate) use super::route::{HeaderChanges, RequiredAuth, Rewrite, Route, RouteAuth, Upgrade};
    pub(crate) use super::server::{Listener, ListenerTls};
    pub(crate) use super::tree::{Content, Node, Position};
    pub(crate) use super::units::{Bind, Cidr, Header, HeaderText, Host, Name, ScopeName, Size, Span, Url};
    pub(crate) use super::upstream::{Endpoint, Upstream, UpstreamTls};
    pub(crate) use super::yaml::parse as parse_yaml;
}

pub use api_keys::ApiKeyEntry;
pub use auth::{Algorithm, Cache};
pub use checked::{
    Admin, Authentication, Config, ConfigFile, Endpoint, HeaderChange, Health, Listener, ListenerTls, Probe, Rewrite,
    Route, RouteAudiences, Sessions, Upstream, UpstreamTls,
};
pub use checked_auth::{
    ApiKey, ApiKeysProvider, ClaimNames, ClientKey, ClientProof, IntrospectionProvider, JwtKeys, JwtProvider,
    LookupProvider, MtlsProvider, Provider, ProviderKind, RequiredClaim,
};
pub use checked_credential::{Assertion, Assertions, Credential, CredentialKind, Exchange, TokenGrant};
pub use checked_policy::{Access, Cors, Policy, RouteSessions, Rule};
pub use error::{ConfigError, ConfigErrors};
pub use limits::Limits;
pub use material::KeyPair;
pub use mtls::CertificateName;
pub use outbound::Outbound;
pub use route::{HostHeader, OpenStreams, Protocol};
pub use schema::json_schema;
pub use server::{AccessLog, Identity, Log, LogFormat, Server, Threads};
pub use token_grant::SubjectTokenType;
pub use units::Span;
pub use upstream::{Balance, HashOn, Revision, Timeouts};
