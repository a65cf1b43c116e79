//! nginx directives that are not converted. Some are not needed in the edge, the others get a note.

use std::sync::Arc;

use super::gate::{copies_body, is_harmless};
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

/// Directives for something that the edge does anyway, or for internals of nginx.
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

/// Adds a note for each directive of `block` and of its inner blocks that no other file of this module reads. The
/// parser limits how deep blocks are nested.
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

/// The text of the note for one directive. `None`: the directive needs no note.
fn about(line: &Directive) -> Option<String> {
    let name = line.name.as_str();
    if READ.contains(&name) || NEEDLESS.contains(&name) || copies_body(line) {
        return None;
    }
    Some(match name {
        "include" if is_harmless(line) => return None,
        "include" => {
            format!(
                "`include {}` is not followed: replace it with the contents of the file, and import again",
                excerpt(line.arg(0))
            )
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
        "stream" | "mail" => format!("`{name}` is left out: it is not HTTP"),
        _ => format!("`{}` is not supported", excerpt(name)),
    })
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
        assert_eq!(notes, [(vec![2], "`include x.con"), (vec![4, 6], "`error_page` i"), (vec![7], "`strange` is n")]);
    }

    #[test]
    fn no_directive_is_in_both_lists() {
        assert!(READ.iter().all(|name| !NEEDLESS.contains(name)));
    }
}
