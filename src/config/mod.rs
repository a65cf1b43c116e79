//! The configuration. `written` has the sections as an operator writes them, and [`Config`] is the checked result.

mod check;
mod checked;
mod error;
pub mod limits;
mod read;
pub(crate) mod text;
mod units;
pub(crate) mod written;

pub use checked::auth::{
    ApiKey, ApiKeysProvider, ClaimNames, ClientKey, ClientProof, IntrospectionProvider, JwtKeys, JwtProvider,
    LookupProvider, MtlsProvider, Provider, ProviderKind, RequiredClaim,
};
pub use checked::credential::{Assertion, Assertions, Credential, CredentialKind, Exchange, TokenGrant};
pub use checked::gateway::{Gateway, GatewayServer, ToolSelection};
pub use checked::key_pair::KeyPair;
pub use checked::outbound::Outbound;
pub use checked::policy::{Access, Cors, Policy, RouteSessions, Rule};
pub use checked::{
    Admin, Authentication, Config, ConfigFile, Destination, Endpoint, HeaderChange, Health, Listener, ListenerTls,
    Probe, Rewrite, Route, RouteAudiences, Sessions, Upstream, UpstreamTls,
};
pub use error::{ConfigError, ConfigErrors};
pub use limits::Limits;
pub use units::Span;
pub use written::TrustedField;
pub use written::api_keys::ApiKeyEntry;
pub use written::auth::{Algorithm, Cache};
pub use written::gateway::{Discovery, WhenServerDown};
pub use written::lookup::Anonymous;
pub use written::mtls::CertificateName;
pub use written::reference::reference;
pub use written::route::{HostHeader, OpenStreams, Protocol, Refusals};
pub use written::schema::json_schema;
pub use written::server::{AccessLog, Identity, Log, LogFormat, Server, Threads};
pub use written::token_grant::SubjectTokenType;
pub use written::upstream::{Balance, Forwarded, HashOn, Revision, Timeouts};
