//! Lists show only what the caller may use. Nothing else in them changes.

use super::*;
use crate::harness::{answer, call, message, post_stateless, request};

const RULES: &str = "tools: [{match: 'get_*', scopes: [read]}, {match: free}], \
                     prompts: [{match: 'get_*', scopes: [read]}, {match: free}], \
                     resources: [{match: 'get_*', scopes: [read]}, {match: free}]";

/// The four lists: the method, the list's key, the key of a name.
const LISTS: [(&str, &str, &str); 4] = [
    ("tools/list", "tools", "name"),
    ("prompts/list", "prompts", "name"),
    ("resources/list", "resources", "uri"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate"),
];

fn list(method: &str) -> String {
    message("7", method, "{}")
}

/// An answer with three items, and the same answer without the second item, `secret`.
fn whole_and_filtered(list: &str, name: &str) -> (String, String) {
    let begin = format!(
        r#" {{ "jsonrpc":"2.0" ,"id":7,"result":{{"nextCursor":"c\/1","{list}":[ {{"{name}":"get_a","n":1.0e+2,"title":"\u00fc"}}"#
    );
    let secret = format!(r#" , {{"{name}":"secret","x":[{{"{name}":"free"}}]}}"#);
    let end = format!(
        "\n,{{\"other\":\"secret-free\",\"{name}\":\"free\"}}],\"_meta\":{{\"k\":[1, 2.50]}},\"ttlMs\":1E3,\"new\":null}},\"more\":0}}"
    );
    (format!("{begin}{secret}{end}"), format!("{begin}{end}"))
}

async fn saying(content_type: &'static str, body: String) -> Origin {
    Origin::answering(move |_| answer("200 OK", content_type, &body)).await
}

/// An origin that sends an event stream in pieces of `size` bytes.
async fn streaming(stream: String, size: usize) -> Origin {
    Origin::answering(move |_| {
        let mut bytes = crate::http::streaming::EVENTS.as_bytes().to_vec();
        for piece in stream.as_bytes().chunks(size) {
            bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            bytes.extend(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    })
    .await
}

#[tokio::test]
async fn a_json_list_loses_what_is_denied_and_nothing_else() {
    for (method, key, name) in LISTS {
        let (whole, filtered) = whole_and_filtered(key, name);
        let origin = saying("application/json; charset=utf-8", whole.clone()).await;
        let edge = edge(&origin, RULES).await;
        let reply = ask(&edge, "read", &list(method)).await;
        assert_eq!((reply.status, &reply.body), (200, &filtered), "{method}");
        assert_eq!(reply.header("Content-Length"), Some(filtered.len().to_string().as_str()), "{method}");
        assert_eq!(reply.header("Transfer-Encoding"), None);
        assert!(reply.complete);
        let poor = ask(&edge, "other", &list(method)).await;
        assert!(!poor.body.contains("get_a") && poor.body.contains("free"), "{}", poor.body);
        assert_eq!(poor.json()["result"]["nextCursor"], "c/1");

        // Without rules the list is unchanged.
        let open = open_edge(&origin, "").await;
        assert_eq!(exchange(open.address, post("/", &[], &list(method))).await.body, whole, "{method}");
    }
}

#[tokio::test]
async fn a_list_in_events_loses_what_is_denied_and_nothing_else() {
    for (method, key, name) in LISTS {
        let (whole, filtered) = whole_and_filtered(key, name);
        // A data line contains no line break.
        let (whole, filtered) = (whole.replace('\n', " "), filtered.replace('\n', " "));
        for ending in ["\n", "\r\n", "\r"] {
            let stream = |data: &str| {
                let lines = [
                    "\u{feff}: a comment first",
                    "",
                    "id: 3_1",
                    "data: ",
                    "",
                    "retry: 500",
                    "",
                    "event: message",
                    r#"data:{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"secret"}}"#,
                    "",
                    ": between",
                    "event: message",
                    "id: 3_2",
                    &format!("data: {data}"),
                    "unknown: field",
                    "",
                    ": behind",
                    "",
                    r#"data: {"jsonrpc":"2.0","id":99,"method":"ping"}"#,
                    "",
                    "",
                ];
                lines.join(ending)
            };
            for size in [1, 7, usize::MAX] {
                let origin = streaming(stream(&whole), size).await;
                let edge = edge(&origin, RULES).await;
                let reply = ask(&edge, "read", &list(method)).await;
                assert_eq!(reply.status, 200);
                assert_eq!(reply.body, stream(&filtered), "{method} {ending:?} in pieces of {size}");
                assert!(reply.complete);
            }
        }
    }
}

#[tokio::test]
async fn an_event_with_several_data_lines_is_one_message() {
    let stream = "data: {\"jsonrpc\":\"2.0\",\"id\":7,\ndata: \"result\":{\"tools\":[{\"name\":\"get_a\"},\ndata: \
                  {\"name\":\"sec\\u0072et\"}]}}\nid: 1\n\n";
    let origin = streaming(stream.to_owned(), 5).await;
    let edge = edge(&origin, RULES).await;
    let reply = ask(&edge, "read", &list("tools/list")).await;
    let data: Vec<&str> = reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let message: serde_json::Value = serde_json::from_str(&data.join("\n")).expect("JSON");
    assert_eq!(message["result"]["tools"], serde_json::json!([{"name": "get_a"}]));
    assert!(reply.body.contains("id: 1\n"), "{}", reply.body);
}

#[tokio::test]
async fn a_filtered_result_is_private() {
    for (scope, old, new) in [
        (r#","cacheScope":"public""#, r#","cacheScope":"private""#, r#","cacheScope":"private""#),
        (r#","cacheScope": "private""#, r#","cacheScope": "private""#, r#","cacheScope": "private""#),
        // Revisions before 2026-07-28 do not have this field.
        ("", "", r#","cacheScope":"private""#),
    ] {
        let result =
            |scope: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{{"name":"free"}}]{scope}}}}}"#);
        let event = |scope: &str| format!("data: {}\n\n", result(scope));
        let json = saying("application/json", result(scope)).await;
        let events = streaming(event(scope), 9).await;
        let authorization = bearer("any");
        let headers = [("Authorization", authorization.as_str())];
        for (origin, write) in [(&json, &result as &dyn Fn(&str) -> String), (&events, &event)] {
            let edge = edge(origin, RULES).await;
            let before = exchange(edge.address, post("/", &headers, &list("tools/list"))).await;
            assert_eq!(before.body, write(old), "{scope}");
            let now = exchange(edge.address, post_stateless("/", &headers, &list("tools/list"))).await;
            assert_eq!(now.body, write(new), "{scope}");
        }
    }
    // Nothing was filtered, so the result keeps the scope that the upstream set.
    let public = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[],"cacheScope":"public"}}"#;
    let origin = saying("application/json", public.to_owned()).await;
    let edge = open_edge(&origin, "").await;
    assert_eq!(exchange(edge.address, post_stateless("/", &[], &list("tools/list"))).await.body, public);
}

#[tokio::test]
async fn lists_in_the_answer_to_a_batch_are_filtered() {
    let (whole, filtered) = whole_and_filtered("tools", "name");
    let other = r#"{"jsonrpc":"2.0","id":8,"result":{"content":[{"type":"text","text":"secret-free"}]}}"#;
    let batch = format!("[{},{}]", list("tools/list"), call("8", "free"));
    let authorization = bearer("read");
    let headers = [("Authorization", authorization.as_str()), ("MCP-Protocol-Version", "2025-03-26")];
    let one_line = |text: &str| text.replace('\n', " ");
    for (content_type, sent, expected) in [
        ("application/json", format!("[{whole},{other}]"), format!("[{filtered},{other}]")),
        (
            "text/event-stream",
            format!("data: [{},{other}]\n\n", one_line(&whole)),
            format!("data: [{},{other}]\n\n", one_line(&filtered)),
        ),
        (
            "text/event-stream",
            format!("data: {other}\n\ndata: {}\n\n", one_line(&whole)),
            format!("data: {other}\n\ndata: {}\n\n", one_line(&filtered)),
        ),
    ] {
        let origin = saying(content_type, sent).await;
        let edge = edge(&origin, RULES).await;
        let reply = exchange(edge.address, post("/", &headers, &batch)).await;
        assert_eq!((reply.status, reply.body), (200, expected), "{content_type}");
    }
    for (content_type, fields) in [("text/plain", ""), ("application/json", "Content-Encoding: gzip\r\n")] {
        let origin = Origin::answering(move |_| {
            let length = r#"[{"id":7,"result":{"tools":[{"name":"secret"}]}}]"#;
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Type: {content_type}\r\n");
            format!("{head}Content-Length: {}\r\n\r\n{length}", length.len()).into_bytes()
        })
        .await;
        let edge = edge(&origin, RULES).await;
        let reply = exchange(edge.address, post("/", &headers, &batch)).await;
        assert_eq!(reply.status, 502, "{content_type} {fields}");
        assert!(!reply.body.contains("secret"), "{reply:?}");
        // If the batch does not request a list, its answer needs no filter.
        let reply = exchange(edge.address, post("/", &headers, &format!("[{}]", call("8", "free")))).await;
        assert_eq!(reply.status, 200, "{content_type} {fields}");
    }
}

/// A resumed stream repeats what was lost on another stream.
#[tokio::test]
async fn a_list_that_a_resumed_stream_repeats_is_filtered() {
    let (whole, filtered) = whole_and_filtered("tools", "name");
    let event = |data: &str| format!("id: 9\ndata: {}\n\n: ping\n\n", data.replace('\n', " "));
    let origin = streaming(event(&whole), 3).await;
    let edge = edge(&origin, RULES).await;
    let authorization = bearer("read");
    let headers = [("Authorization", authorization.as_str()), ("Accept", "text/event-stream"), ("Last-Event-ID", "8")];
    let reply = edge.get("/mcp", &headers).await;
    assert_eq!((reply.status, reply.body), (200, event(&filtered)));
    assert_eq!(origin.last().header("last-event-id"), Some("8"));

    let compressed = Origin::answering(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n";
        format!("{head}Content-Length: 6\r\n\r\nsecret").into_bytes()
    })
    .await;
    let edge = self::edge(&compressed, RULES).await;
    let reply = edge.get("/mcp", &headers).await;
    assert_eq!(
        (reply.status, reply.body.contains("secret")),
        (502, false),
        "the edge cannot filter a compressed stream"
    );
}

/// An answer that cannot be read without ambiguity is not passed on.
#[tokio::test]
async fn a_list_that_cannot_be_read_is_502() {
    let good = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"free"},{"name":"secret"}]}}"#;
    let doubled = r#"{"id":7,"result":{"tools":[],"tools":[{"name":"secret"}]}}"#;
    for (fields, body) in [
        ("Content-Type: text/plain\r\n", good),
        ("Content-Type: application/x-ndjson\r\n", good),
        ("", good),
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "secret in gzip"),
        ("Content-Type: application/json\r\nContent-Encoding: br\r\n", good),
        ("Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n", "data: secret\n\n"),
        ("Content-Type: application/json\r\n", &good[..good.len() - 1]),
        ("Content-Type: application/json\r\n", "secret"),
        ("Content-Type: application/json\r\n", &format!("{good} {good}")),
        ("Content-Type: application/json\r\n", doubled),
        ("Content-Type: application/json\r\n", &doubled.replacen("tools", "TOOLS", 1)),
        ("Content-Type: application/json\r\n", &doubled.replacen("tools", r"\u0074ools", 1)),
        ("Content-Type: application/json\r\n", &good.replacen("\"id\"", r#""result":{},"id""#, 1)),
        ("Content-Type: application/json\r\n", &format!("\u{feff}{good}")),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        let origin = Origin::answering(move |_| response.clone().into_bytes()).await;
        let edge = edge(&origin, RULES).await;
        let reply = ask(&edge, "read", &list("tools/list")).await;
        assert_eq!(reply.status, 502, "{fields} {body}");
        let error = reply.json();
        assert_eq!((&error["id"], &error["error"]["code"]), (&7.into(), &(-32002).into()), "{reply:?}");
        assert!(!reply.head.contains("secret") && !reply.body.contains("secret"), "{reply:?}");
    }
}

/// The head of a stream has been sent before the list arrives, so the edge can only break the stream off.
#[tokio::test]
async fn a_stream_with_a_list_that_cannot_be_read_breaks_off() {
    for data in [
        r#"{"id":7,"result":{"tools":[{"name":"secret"}"#,
        r#"{"id":7,"result":{"tools":[],"tools":[{"name":"secret"}]}}"#,
        "secret",
    ] {
        let origin = streaming(format!("data: {{}}\n\ndata: {data}\n\n"), 11).await;
        let edge = edge(&origin, RULES).await;
        let reply = ask(&edge, "read", &list("tools/list")).await;
        assert_eq!((reply.status, reply.complete), (200, false), "{data}");
        assert_eq!(reply.body, "data: {}\n\n", "{data}");
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused() {
    let item = format!(r#"{{"name":"free","title":"{}"}},"#, "x".repeat(1 << 10));
    let list_of = |count: usize| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{}{{"name":"secret"}}]}}}}"#, item.repeat(count))
    };
    let (long, short) = (list_of(8 << 10), list_of(7 << 10));
    assert!(long.len() > 8 << 20 && short.len() < 8 << 20);
    for (body, status) in [(long.clone(), 502), (short, 200)] {
        let origin = saying("application/json", body).await;
        let edge = edge(&origin, RULES).await;
        let reply = ask(&edge, "read", &list("tools/list")).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.json()["id"], 7);
        assert!(!reply.body.contains("secret"));
    }
    let origin = streaming(format!("data: {{}}\n\ndata: {long}\n\n"), 60_000).await;
    let edge = edge(&origin, RULES).await;
    let reply = ask(&edge, "read", &list("tools/list")).await;
    assert_eq!((reply.complete, reply.body.as_str()), (false, "data: {}\n\n"));
}

/// Clients use the bodies of errors to find out which protocol era the server speaks.
#[tokio::test]
async fn errors_of_the_upstream_pass_unchanged() {
    let error = r#"{ "jsonrpc":"2.0","id":7,"error":{"code":-32601 ,"message":"secret tools: \u0041"}}"#;
    for (status, content_type, body) in [
        ("200 OK", "application/json", error),
        ("400 Bad Request", "application/json", error),
        ("404 Not Found", "application/json", error),
        ("404 Not Found", "text/plain", "no such session"),
        ("404 Not Found", "application/json", "no such session"),
        ("404 Not Found", "application/json", ""),
        ("405 Method Not Allowed", "text/html", "<p>no</p>"),
        ("429 Too Many Requests", "application/json", r#"{"error":"slow down"}"#),
        ("500 Internal Server Error", "application/json", "oops"),
    ] {
        let origin = Origin::answering(move |_| answer(status, content_type, body)).await;
        let edge = edge(&origin, RULES).await;
        let reply = ask(&edge, "read", &list("tools/list")).await;
        assert_eq!(
            (format!("HTTP/1.1 {status}").as_str(), reply.body.as_str()),
            (reply.head.lines().next().unwrap_or_default(), body)
        );
        assert_eq!(reply.header("Content-Type"), Some(content_type));
    }
    let stream = format!("event: message\ndata: {error}\n\n");
    let origin = streaming(stream.clone(), 4).await;
    let edge = edge(&origin, RULES).await;
    assert_eq!(ask(&edge, "read", &list("tools/list")).await.body, stream);
}

/// The edge does not filter the answers to requests that do not ask for a list.
#[tokio::test]
async fn only_lists_are_filtered() {
    let (whole, _) = whole_and_filtered("tools", "name");
    let origin = saying("application/json", whole.clone()).await;
    let edge = edge(&origin, RULES).await;
    assert_eq!(ask(&edge, "read", &call("7", "free")).await.body, whole);
    let headers = [("Authorization", bearer("read"))];
    let raw = request("GET", "/mcp", &[("Authorization", &headers[0].1)], "");
    assert_eq!(exchange(edge.address, raw).await.body, whole, "the answer to a GET that is not a stream");
}
