//! Header fields that clients cannot send to upstreams.

/// What the edge tells upstreams about the client. Routes cannot set these fields.
pub const TOLD_FIELDS: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];

/// True for fields that only the edge, or a proxy that stands for it, may write: servers take addresses, users, hosts and paths from
/// them, and a client could lie. `name` is in lower case, with hyphens.
pub fn is_edge_field(name: &str) -> bool {
    let families = ["x-forwarded-", "x-original-", "x-auth-request-"];
    families.iter().any(|family| name.starts_with(family))
        || matches!(
            name,
            "cf-connecting-ip"
                | "client-ip"
                | "fastly-client-ip"
                | "forwarded"
                | "front-end-https"
                | "remote-addr"
                | "remote-groups"
                | "remote-user"
                | "true-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-forwarded"
                | "x-groups"
                | "x-real-ip"
                | "x-remote-user"
                | "x-request-id"
                | "x-rewrite-url"
                | "x-webauth-user"
        )
}
