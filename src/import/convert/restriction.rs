//! Finds directives with which nginx rejects callers in a way that the edge does not support.

use super::request_field::pattern;
use crate::config::text::Position;
use crate::import::nginx::Directive;
use crate::import::nginx::site::Chain;
use crate::types::excerpt;

/// The position and the reason when nginx may reject callers here in a way that the edge does not support. The route is
/// then closed rather than open. `authenticated`: an `auth_request` applies too, which is enough for `satisfy any`.
/// `with_scopes`: the rules for methods and tools are imported.
pub(crate) fn closed_by(
    site: &Chain<'_>,
    chain: &Chain<'_>,
    authenticated: bool,
    with_scopes: bool,
) -> Option<(Position, String)> {
    let any = authenticated && chain.value("satisfy") == Some("any");
    let because = |line: &Directive| (line.at, format!("`{}` is not supported", excerpt(&line.name)));
    let is_on = |line: &&Directive| {
        let is_spared = any && line.name.starts_with("auth_");
        !is_spared && is_access_module(&line.name) && chain.one(&line.name).is_some_and(|line| line.arg(0) != "off")
    };
    if let Some(line) = chain.all().find(is_on).and_then(|line| chain.one(&line.name)) {
        return Some(because(line));
    }
    if let Some(line) = chain.effective("deny").first().filter(|_| !any) {
        return Some(because(line));
    }
    let keeps_out = |line: &&Directive| match line.name.as_str() {
        "if" => !leads_to_https(line) && line.children().iter().any(keeps_out_in_if),
        name if name.starts_with("access_by_") || name.starts_with("server_rewrite_by_") => true,
        name if name.starts_with("rewrite_by_") => !copies_body(line),
        _ => false,
    };
    if let Some(line) = chain.all().find(keeps_out) {
        return Some(because(line));
    }
    let refuses = |line: &Directive| {
        let is_off = is_access_module(&line.name) && line.arg(0) == "off";
        !is_off && (line.name == "deny" || is_access_module(&line.name) || serves_otherwise(line))
    };
    if let Some(line) = chain.own("limit_except").iter().find(|line| line.children().iter().any(refuses)) {
        return Some(because(line));
    }
    // After such a `rewrite`, nginx looks for another location.
    let leads_away = |line: &&Directive| !["break", "redirect", "permanent"].contains(&line.arg(2));
    if let Some(line) = chain.own("rewrite").into_iter().find(leads_away) {
        return Some((line.at, "`rewrite` sends requests to other locations".to_owned()));
    }
    let is_passed = !chain.own("proxy_pass").is_empty();
    let no_fields = chain.one("proxy_pass_request_headers").filter(|line| is_passed && line.arg(0) == "off");
    if let Some(line) = no_fields {
        let text = "nginx sent no header field of clients to the upstream, and the edge sends them";
        return Some((line.at, text.to_owned()));
    }
    if let Some(at) = pattern(chain) {
        return Some((
            at,
            "nginx removed all fields that match a pattern, and the edge removes single fields".to_owned(),
        ));
    }
    if let Some(line) = chain.all().find(|line| copies_body(line)).filter(|_| authenticated && !with_scopes) {
        let text = "nginx let the authentication server decide about each tool (import with `--scopes`, or write `operation: {method: NAME, name: NAME}` in its `lookup`)";
        return Some((line.at, text.to_owned()));
    }
    let inside = chain.of_site(site).filter(|line| line.name == "include" && !is_harmless(line));
    let outside = chain.around_site(site).filter(|line| line.name == "include" && !is_harmless_outside(line));
    inside.chain(outside).next().map(|line| {
        let text = format!("the file of `include {}` is not imported and may reject callers", excerpt(line.arg(0)));
        (line.at, text)
    })
}

/// True for directives of modules that check callers, unless their argument is `off`.
fn is_access_module(name: &str) -> bool {
    let others = ["auth_request", "auth_request_set", "auth_basic_user_file", "auth_delay"];
    let beginnings = ["auth_", "js_access", "modsecurity", "oidc", "vouch"];
    beginnings.iter().any(|beginning| name.starts_with(beginning))
        && !others.contains(&name)
        && !name.starts_with("auth_http")
}

/// True for a directive in an `if` that treats some callers differently: an error, a redirect, another path or another
/// upstream.
fn keeps_out_in_if(line: &Directive) -> bool {
    match line.name.as_str() {
        "return" => line.arg(0).len() != 3 || !line.arg(0).starts_with('2'),
        "rewrite" | "deny" => true,
        _ => serves_otherwise(line),
    }
}

/// True for a directive in an inner block that answers requests, or that runs a script which may reject callers.
fn serves_otherwise(line: &Directive) -> bool {
    let scripts = ["access_by_", "content_by_", "rewrite_by_"];
    line.name.ends_with("_pass") || scripts.iter().any(|beginning| line.name.starts_with(beginning))
}

/// True for an `if` that redirects requests in cleartext to HTTPS.
pub(crate) fn leads_to_https(line: &Directive) -> bool {
    let condition = line.args.join(" ").replace(['(', ')'], " ");
    let is_cleartext = matches!(
        condition.split_whitespace().collect::<Vec<_>>()[..],
        ["$scheme", "=", "http"] | ["$scheme", "!=", "https"]
    );
    let is_redirect = |line: &&Directive| {
        let to = match line.name.as_str() {
            "return" if line.arg(0).starts_with('3') => line.arg(1),
            "return" => line.arg(0),
            "rewrite" => line.arg(1),
            _ => "",
        };
        to.starts_with("https://")
    };
    let ways: Vec<&Directive> = line.children().iter().filter(|line| keeps_out_in_if(line)).collect();
    line.name == "if" && is_cleartext && !ways.is_empty() && ways.iter().all(is_redirect)
}

/// True for the registry's own script, which copies the body for its authentication server.
pub(crate) fn copies_body(line: &Directive) -> bool {
    line.name == "rewrite_by_lua_file" && line.arg(0).ends_with("capture_body.lua")
}

/// True for an `include` of a file that does not restrict access.
pub(crate) fn is_harmless(line: &Directive) -> bool {
    line.arg(0).ends_with("mime.types")
}

/// True for an `include` outside of all servers whose files usually have modules or whole servers only.
fn is_harmless_outside(line: &Directive) -> bool {
    let is_folder = |name: &str| line.arg(0).split('/').rev().skip(1).any(|part| part == name);
    let has_servers = line.arg(0).contains('*') && (is_folder("conf.d") || is_folder("sites-enabled"));
    is_harmless(line) || is_folder("modules-enabled") || has_servers
}

/// True for a `return` with an error status.
pub(crate) fn is_refusal(line: &Directive) -> bool {
    line.name == "return" && line.arg(0).len() == 3 && line.arg(0).starts_with(['4', '5'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx::{self, site};

    fn closed_with(text: &str, authenticated: bool, with_scopes: bool) -> bool {
        let root = nginx::parse(text).expect("valid input");
        let sites = site::sites(&root);
        closed_by(&sites[0].chain, &sites[0].locations[0].chain, authenticated, with_scopes).is_some()
    }

    fn closed(text: &str, authenticated: bool) -> bool {
        closed_with(text, authenticated, true)
    }

    #[test]
    fn unsupported_restrictions_close_the_route() {
        for text in [
            "location /x { allow 10.0.0.0/8; deny all; }",
            "deny all; location /x { }",
            "location /x { auth_basic realm; }",
            "location /x { auth_gss on; }",
            "location /x { auth_ldap \"realm\"; }",
            "auth_jwt_require $x; location /x { }",
            "location /x { js_access f.check; }",
            "modsecurity on; location /x { }",
            "location /x { oidc on; }",
            "location /x { vouch on; }",
            "location /x { access_by_lua_block { return } }",
            "location /x { limit_except GET { deny all; } }",
            "location /x { limit_except GET { auth_basic realm; } }",
            "location /x { limit_except GET { proxy_pass http://b; } }",
            "location /x { rewrite_by_lua_block { ngx.exit(403) } }",
            "location /x { if ($http_x_key != k) { return 403; } }",
            "location /x { if ($cookie_sid = \"\") { return 302 /login; } }",
            "location /x { if ($client = \"\") { rewrite ^ /login last; } }",
            "location /x { if ($client = \"\") { proxy_pass http://b; } }",
            "location /x { if ($scheme = http) { return 403; } }",
            "location /x { if ($http_x_forwarded_proto = http) { return 301 https://$host; } }",
            "if ($http_x_key != k) { return 444; } location /x { }",
            "location /x { rewrite ^ /y last; }",
            "location /x { proxy_pass http://a; proxy_pass_request_headers off; }",
            "proxy_pass_request_headers off; location /x { proxy_pass http://a; }",
            "location /x { more_clear_input_headers X-*; }",
            "location /x { include more.conf; }",
            "server { include more.conf; location /x { } }",
            "server { include conf.d/*.conf; location /x { } }",
            "include proxy.conf; server { location /x { } }",
            "http { include conf.d/proxy.conf; server { location /x { } } }",
        ] {
            assert!(closed(text, false) && closed(text, true), "{text}");
        }
        for text in [
            "location /x { auth_basic off; auth_basic_user_file f; if ($request_method = OPTIONS) { return 204; } }",
            "auth_basic realm; location /x { auth_basic off; auth_delay 1s; auth_http_header a b; }",
            "location /x { modsecurity off; limit_except GET { auth_basic off; } }",
            "location /x { rewrite_by_lua_file /etc/nginx/lua/capture_body.lua; }",
            "location /x { rewrite ^/x/(.*) /$1 break; include /etc/nginx/mime.types; }",
            "location /x { proxy_pass http://a; proxy_pass_request_headers on; more_clear_input_headers X-A; }",
            "if ($scheme = http) { return 301 https://$host$request_uri; } location /x { }",
            "if ($scheme != \"https\") { rewrite ^ https://$host$request_uri permanent; } location /x { }",
            "include conf.d/*.conf; server { location /x { } }",
            "include modules-enabled/a.conf; http { include sites-enabled/*; server { location /x { } } }",
        ] {
            assert!(!closed(text, false) && !closed(text, true), "{text}");
        }
        let either = "location /x { satisfy any; deny all; auth_basic realm; }";
        assert!(closed(either, false) && !closed(either, true));
    }

    #[test]
    fn decisions_about_tools_need_the_scope_file() {
        let text = "location /x { rewrite_by_lua_file capture_body.lua; }";
        assert!(closed_with(text, true, false) && !closed_with(text, true, true) && !closed_with(text, false, false));
    }
}
