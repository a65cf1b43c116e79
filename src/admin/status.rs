//! What `/status` shows.

use serde_json::{Value, json};

use super::control::Control;
use crate::proxy::{Catalog, Destination, GatewayContext};

/// The running snapshot and the last reload. Nothing in it is secret: files with secrets are shown without a digest.
pub(super) fn status(control: &dyn Control, catalog: &Catalog) -> Value {
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
            let mut shown = json!({
                "name": settings.name, "path": format!("{}/", settings.prefix), "hosts": hosts,
                "upstream": settings.upstream(), "open": settings.auth.is_none(),
            });
            if let Destination::Gateway(gateway) = route {
                shown["gateway"] = gateway_status(gateway, catalog);
            }
            shown
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

fn gateway_status(gateway: &GatewayContext, catalog: &Catalog) -> Value {
    let servers = gateway.servers.iter().map(|server| {
        let settings = &server.settings;
        let mut shown = catalog.server_status(&settings.route);
        shown["route"] = json!(settings.route);
        shown["name"] = json!(settings.name);
        shown["prefix"] = json!(settings.mark);
        shown["path"] = json!(server.target);
        shown
    });
    let names = catalog.names(&gateway.route.settings.name);
    json!({"servers": servers.collect::<Vec<_>>(), "clashes": names.clashes, "short_forms": names.short_forms})
}
