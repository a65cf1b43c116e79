//! What `/status` shows.

use serde_json::{Value, json};

use super::control::Control;

/// The running snapshot and the last reload. Nothing in it is secret: files with secrets are shown without a digest.
pub(super) fn status(control: &dyn Control) -> Value {
    let snapshot = control.snapshot();
    let config = &snapshot.config;
    let files: Vec<Value> = config
        .files
        .iter()
        .map(|file| match file.is_config {
            true => json!({"path": file.path, "sha256": file.sha256}),
            false => json!({"path": file.path}),
        })
        .collect();
    let routes: Vec<Value> = snapshot
        .routes
        .values()
        .map(|route| {
            let settings = &route.route().settings;
            let hosts: Vec<String> = settings.hosts.iter().map(ToString::to_string).collect();
            json!({
                "name": settings.name, "path": format!("{}/", settings.prefix), "hosts": hosts,
                "upstream": settings.upstream(), "open": settings.auth.is_none(),
            })
        })
        .collect();
    let upstreams: serde_json::Map<String, Value> =
        snapshot.upstreams.iter().map(|(name, upstream)| (name.to_string(), json!(upstream.status()))).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": snapshot.generation,
        "files": files,
        "last_reload": control.last_reload(),
        "routes": routes,
        "upstreams": upstreams,
    })
}
