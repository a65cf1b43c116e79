//! Authentication: tokens, API keys, client certificates, authentication servers, and the credentials that upstreams
//! get.

mod api_keys;
mod client_certificates;
mod clocks;
mod forged_tokens;
mod identity_provider;
mod introspection;
mod key_discovery;
mod key_sets;
mod lookup;
mod lookup_operations;
mod outbound;
mod own_fields;
mod provider_examples;
mod revocation;
mod token_cache;
mod tokens;
mod upstream_credentials;
