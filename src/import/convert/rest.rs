//! nginx directives that are not converted. Some are not needed in the edge, the others get a note.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pool::blocks;
use super::restriction::{copies_body, is_harmless, leads_to_https};
use super::rewritten::redirects;
use crate::import::draft::Draft;
use crate::import::nginx::Directive;
use crate::types::excerpt;

/// Directives that other files of this module read, or that only matter for a location that is left out.
const READ: &[&str] = &[
    "add_header",
    "alias",
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_jwt",
    "auth_request",
    "auth_request_set",
    "client_max_body_size",
    "deny",
    "http",
    "internal",
    "limit_except",
    "listen",
    "location",
    "proxy_connect_timeout",
    "proxy_hide_header",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_set_header",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
    "proxy_ssl_name",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_verify",
    "real_ip_header",
    "return",
    "rewrite",
    "root",
    "satisfy",
    "server",
    "server_name",
    "set_real_ip_from",
    "ssl",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_trusted_certificate",
    "ssl_verify_client",
    "try_files",
    "upstream",
];

/// Directives for something that the edge does anyway, or for internals of nginx. They get one note together.
const NEEDLESS: &[&str] = &[
    "absolute_redirect",
    "access_log",
    "charset",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_header_buffer_size",
    "daemon",
    "default_type",
    "error_log",
    "etag",
    "events",
    "expires",
    "gzip",
    "gzip_types",
    "http2",
    "index",
    "keepalive_requests",
    "keepalive_timeout",
    "large_client_header_buffers",
    "log_format",
    "log_not_found",
    "lua_package_path",
    "lua_shared_dict",
    "pid",
    "port_in_redirect",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_pass_request_body",
    "proxy_pass_request_headers",
    "proxy_request_buffering",
    "proxy_socket_keepalive",
    "proxy_ssl_protocols",
    "proxy_ssl_server_name",
    "proxy_ssl_session_reuse",
    "resolver",
    "resolver_timeout",
    "sendfile",
    "server_name_in_redirect",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_tokens",
    "ssl_ciphers",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "ssl_stapling",
    "ssl_stapling_verify",
    "stub_status",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "user",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
    "worker_connections",
    "worker_processes",
    "worker_rlimit_nofile",
];

/// The note for the directives in [`NEEDLESS`].
const NOT_NEEDED: &str =
    "these directives are not imported: the edge does the same without a setting, or has nothing like it";

/// Adds a note for each directive of the file that no other file of this module reads.
pub(crate) fn note(file: &Arc<str>, root: &[Directive], draft: &mut Draft) {
    inside(file, root, "", draft);
    let mut targets = BTreeSet::new();
    passes(root, &mut targets);
    for (name, block) in blocks(root) {
        if !targets.contains(name) {
            let text = format!("`upstream {}` is left out: no `proxy_pass` names it", excerpt(name));
            draft.note(file, block.at, text);
        }
    }
}

/// Adds the notes for `block`, which is the block of the directive `outer`, and for its inner blocks. The parser limits
/// how deep blocks are nested.
fn inside(file: &Arc<str>, block: &[Directive], outer: &str, draft: &mut Draft) {
    let any = block.iter().any(|line| line.name == "satisfy" && line.arg(0) == "any");
    for line in block {
        let name = line.name.as_str();
        if matches!(name, "http" | "server" | "location") {
            inside(file, line.children(), name, draft);
        } else if any && matches!(name, "allow" | "deny" | "satisfy") {
            draft.note(
                file,
                line.at,
                "`satisfy any` is not supported: callers must authenticate, also from addresses that nginx let in",
            );
        } else if let Some(text) = about(line, outer) {
            draft.note(file, line.at, text);
        }
    }
}

/// Adds the hosts in all `proxy_pass` of `block` and its inner blocks to `targets`.
fn passes<'a>(block: &'a [Directive], targets: &mut BTreeSet<&'a str>) {
    for line in block {
        if line.name == "proxy_pass" {
            let host = line.arg(0).split_once("://").and_then(|(_, rest)| rest.split('/').next());
            targets.extend(host);
        }
        passes(line.children(), targets);
    }
}

/// The text of the note for one directive in a block of the directive `outer`. `None`: the directive needs no note.
fn about(line: &Directive, outer: &str) -> Option<String> {
    let name = line.name.as_str();
    if let Some(text) = in_block(line, outer) {
        return Some(text.to_owned());
    }
    if NEEDLESS.contains(&name) {
        return Some(NOT_NEEDED.to_owned());
    }
    if READ.contains(&name) || copies_body(line) || is_harmless(line) && name == "include" {
        return None;
    }
    Some(match name {
        "include" => {
            format!(
                "`include {}` is not followed: replace it with the contents of the file, and import again",
                excerpt(line.arg(0))
            )
        }
        "if" if leads_to_https(line) => {
            "nginx redirected requests in cleartext to HTTPS: the listeners of this server without TLS are left out".to_owned()
        }
        "if" if line.args.iter().any(|arg| arg.contains("$request_method")) => {
            "`if` is not supported: to answer OPTIONS of web pages, write `cors: {origins: [ORIGIN]}`".to_owned()
        }
        "if" => "`if` is not supported: a route treats all requests in the same way".to_owned(),
        "map" | "geo" | "split_clients" | "set" => {
            format!("`{name}` sets a variable, and the edge does not support variables")
        }
        "error_page" => {
            "`error_page` is not supported: errors are JSON with `error`, `message` and `request_id`".to_owned()
        }
        "proxy_send_timeout" | "client_body_timeout" => {
            format!("`{name}` is not imported: write `limits.body_timeout`, which applies to all routes")
        }
        "client_header_timeout" => "`client_header_timeout` is not imported: write `limits.header_timeout`".to_owned(),
        "send_timeout" => "`send_timeout` is not imported: write `limits.write_timeout`".to_owned(),
        "proxy_next_upstream" | "proxy_next_upstream_tries" | "proxy_next_upstream_timeout" => {
            format!("`{name}` is not supported: the edge retries only requests that are safe to repeat")
        }
        "limit_req" | "limit_req_zone" | "limit_conn" | "limit_conn_zone" | "limit_rate" => {
            format!("`{name}` is not supported: the edge does not limit the rate of callers")
        }
        "more_clear_input_headers" | "more_set_input_headers" => {
            format!("`{name}`: routes remove the fields that it names from requests, and set none of them")
        }
        "proxy_cache" if line.arg(0) == "off" => NOT_NEEDED.to_owned(),
        "proxy_cache" => {
            "`proxy_cache` is not supported: the edge caches only decisions of authentication servers".to_owned()
        }
        "proxy_redirect" if matches!(line.arg(0), "default" | "off") => NOT_NEEDED.to_owned(),
        "proxy_redirect" => {
            "`proxy_redirect` is not imported: the edge maps `Location` of answers back to the path of the route by itself".to_owned()
        }
        "ssl_protocols" => "`ssl_protocols` is not imported: listeners accept TLS 1.2 and TLS 1.3".to_owned(),
        "stream" | "mail" => format!("`{name}` is left out: it is not HTTP"),
        _ => format!("`{}` is not supported", excerpt(name)),
    })
}

/// The text of the note for a directive that other files of this module do not read in this block.
fn in_block(line: &Directive, outer: &str) -> Option<&'static str> {
    match (line.name.as_str(), outer) {
        ("rewrite", "server") if redirects(line) => Some(
            "`rewrite` of a server redirected some requests, and the edge does not redirect: they go to the routes of their paths",
        ),
        ("real_ip_header" | "set_real_ip_from", "location") => {
            Some("the edge trusts proxies for a whole listener: write `trusted_proxies` there")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx;

    #[test]
    fn each_directive_has_one_note_with_its_lines() {
        let text = "include mime.types;\ninclude x.conf;\nserver {\n error_page 401 = @a;\n location / {\n error_page 403 = @b;\n strange 1;\n gzip on;\n }\n}";
        let mut draft = Draft::default();
        note(&"n".into(), &nginx::parse(text).expect("valid input"), &mut draft);
        let notes: Vec<(Vec<usize>, &str)> =
            draft.notes.iter().map(|note| (note.lines.clone(), &note.text[..14])).collect();
        let expected = [
            (vec![2], "`include x.con"),
            (vec![4, 6], "`error_page` i"),
            (vec![7], "`strange` is n"),
            (vec![8], "these directiv"),
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn directives_that_are_converted_only_elsewhere_have_a_note() {
        let of = |text: &str| {
            let mut draft = Draft::default();
            note(&"n".into(), &nginx::parse(text).expect("valid input"), &mut draft);
            draft.notes.len()
        };
        for text in [
            "server { rewrite ^/a /b permanent; }",
            "server { satisfy any; }",
            "server { location / { set_real_ip_from 10.0.0.0/8; } }",
            "upstream u { server a; } server { location / { proxy_pass http://v/; } }",
            "server { proxy_redirect http://a/ /; }",
            "server { proxy_redirect off; }",
            "server { proxy_cache zone; }",
            "server { ssl_protocols TLSv1.3; }",
            "server { if ($request_method = OPTIONS) { return 204; } }",
            "server { more_clear_input_headers X-A; }",
        ] {
            assert_eq!(of(text), 1, "{text}");
        }
        for text in [
            "server { satisfy all; set_real_ip_from 10.0.0.0/8; }",
            "upstream u { server a; } server { location / { proxy_pass http://u/; } }",
            "http { upstream u { server a; } server { location / { if ($a) { proxy_pass https://u; } } } }",
        ] {
            assert_eq!(of(text), usize::from(text.contains("if")), "{text}");
        }
    }

    #[test]
    fn no_directive_is_in_both_lists() {
        assert!(READ.iter().all(|name| !NEEDLESS.contains(name)));
    }
}
