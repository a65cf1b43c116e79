//! Directives of nginx that nothing becomes of: those that an edge needs not, and those that are told.

use std::sync::Arc;

use super::gate::{copies_body, is_harmless};
use crate::import::draft::Draft;
use crate::import::nginx::Directive;
use crate::types::excerpt;

/// Directives that other files of this module read, or that say something about a location that is left out.
const READ: &[&str] = &[
    "add_header",
    "alias",
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_jwt",
    "auth_request",
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
    "ssl_verify_client",
    "try_files",
    "upstream",
];

/// Directives that ask for what the edge does anyway, or that are about nginx's own inside.
const NEEDLESS: &[&str] = &[
    "absolute_redirect",
    "access_log",
    "auth_request_set",
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
    "proxy_cache",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_pass_request_body",
    "proxy_pass_request_headers",
    "proxy_redirect",
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
    "ssl_protocols",
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

/// Notes all directives of `block`, and of the blocks in it (the parser bounds how deep), that nothing else tells about.
pub(crate) fn note(file: &Arc<str>, block: &[Directive], draft: &mut Draft) {
    for line in block {
        let name = line.name.as_str();
        if matches!(name, "http" | "server" | "location") {
            note(file, line.children(), draft);
        } else if let Some(text) = about(line) {
            draft.note(file, line.at, text);
        }
    }
}

/// What is to be said about one directive.
fn about(line: &Directive) -> Option<String> {
    let name = line.name.as_str();
    if READ.contains(&name) || NEEDLESS.contains(&name) || copies_body(line) {
        return None;
    }
    Some(match name {
        "include" if is_harmless(line) => return None,
        "include" => {
            format!("`include {}` was not followed: put its text in place, and import again", excerpt(line.arg(0)))
        }
        "if" => "`if` has no counterpart: a route does the same for all requests".to_owned(),
        "map" | "geo" | "split_clients" | "set" => format!("`{name}` sets a variable, and the edge has none"),
        "error_page" => {
            "`error_page` has no counterpart: errors are JSON with `error`, `message` and `request_id`".to_owned()
        }
        "proxy_send_timeout" | "client_body_timeout" => {
            format!("`{name}` has its counterpart in `limits.body_timeout`, for all routes")
        }
        "client_header_timeout" => "`client_header_timeout` has its counterpart in `limits.header_timeout`".to_owned(),
        "send_timeout" => "`send_timeout` has its counterpart in `limits.write_timeout`".to_owned(),
        "proxy_next_upstream" | "proxy_next_upstream_tries" | "proxy_next_upstream_timeout" => {
            format!("`{name}` has no counterpart: only what is safe to repeat is sent again")
        }
        "limit_req" | "limit_req_zone" | "limit_conn" | "limit_conn_zone" | "limit_rate" => {
            format!("`{name}` has no counterpart: nothing limits the rate of callers")
        }
        "stream" | "mail" => format!("`{name}` is not HTTP"),
        _ => format!("`{}` has no counterpart", excerpt(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nginx;

    #[test]
    fn each_directive_is_told_once_with_its_lines() {
        let text = "include mime.types;\ninclude x.conf;\nserver {\n error_page 401 = @a;\n location / {\n error_page 403 = @b;\n strange 1;\n gzip on;\n }\n}";
        let mut draft = Draft::default();
        note(&"n".into(), &nginx::parse(text).expect("legal"), &mut draft);
        let told: Vec<(Vec<usize>, &str)> =
            draft.notes.iter().map(|note| (note.lines.clone(), &note.text[..14])).collect();
        assert_eq!(told, [(vec![2], "`include x.con"), (vec![4, 6], "`error_page` h"), (vec![7], "`strange` has ")]);
    }

    #[test]
    fn no_directive_stands_in_both_lists() {
        assert!(READ.iter().all(|name| !NEEDLESS.contains(name)));
    }
}
