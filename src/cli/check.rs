//! `mcp-edge check`: reads a configuration and reports everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use super::exit::{EXIT_USAGE, print, report};
use crate::config::{Config, Destination, GatewayServer, Route, Rule};
use crate::mcp::shown_name;

/// Loads the configuration at `path`. Its errors are written to standard error.
///
/// # Errors
/// The configuration has errors. The value is the exit code.
pub(super) fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|errors| {
        let count = errors.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        report(&format!("{errors}\n{count} {noun}"));
        ExitCode::from(EXIT_USAGE)
    })
}

/// Checks the configuration at `path` and reports the result.
pub(super) fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            let (routes, upstreams, providers) = (config.routes.len(), config.upstreams.len(), config.providers.len());
            let path = path.display();
            let notes = short_forms(&config);
            print(&format!("{path}: ok: {routes} routes, {upstreams} upstreams, {providers} providers{notes}"))
        }
        Err(code) => code,
    }
}

/// The tools that the configuration names and that gateways show under short forms: a line for each. Of tools that only the servers
/// know, `/status` shows them.
fn short_forms(config: &Config) -> String {
    let routes: BTreeMap<&str, &Route> = config.routes.iter().map(|route| (&*route.name, &**route)).collect();
    let mut lines = String::new();
    for gateway in &config.routes {
        let Destination::Gateway(offer) = &gateway.destination else { continue };
        for server in &offer.servers {
            let rules = routes.get(&*server.route).and_then(|route| route.policy.tools.as_deref());
            for tool in named_tools(server, rules.unwrap_or_default()) {
                let given = server.tools.given_name(tool);
                let shown = shown_name(&server.mark, given);
                if shown != format!("{}{given}", server.mark) {
                    let (gateway, route) = (&gateway.name, &server.route);
                    lines.push_str(&format!("\n{gateway}: the tool `{tool}` of `{route}` is shown as `{shown}`"));
                }
            }
        }
    }
    lines
}

/// The tools of a server that the configuration names, by the server's names. `rules`: those of its route.
fn named_tools<'a>(server: &'a GatewayServer, rules: &'a [Rule]) -> BTreeSet<&'a str> {
    let included = server.tools.include.as_deref().unwrap_or_default();
    let patterns = included.iter().chain(rules.iter().map(|rule| &rule.pattern));
    let exact = patterns.filter(|pattern| pattern.is_exact()).map(|pattern| pattern.as_str());
    let named = exact.chain(server.tools.rename.keys().map(String::as_str));
    named.filter(|tool| server.tools.offers(tool)).collect()
}
