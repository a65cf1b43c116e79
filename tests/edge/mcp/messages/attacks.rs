//! Requests that try to do more than is allowed: rows 56 to 61 of the fault matrix. A refused request never reaches the
//! origin. An allowed request reaches the origin byte for byte.

use serde_json::{Value, json};

use super::guarded::*;
use crate::harness::{Origin, exchange, request};

/// Row 56 of the fault matrix.
#[tokio::test]
async fn batches_pass_only_in_old_revisions_and_each_message_is_authorized() {
    let guarded = Guarded::start().await;
    let batch = |tools: &[&str]| format!("[{}]", tools.iter().map(|tool| call(tool)).collect::<Vec<_>>().join(", "));
    for version in [None, Some("2024-11-05"), Some("2025-03-26")] {
        let headers: Vec<_> =
            version.map(|version| ("MCP-Protocol-Version", version)).into_iter().chain([IS_JSON]).collect();
        let what = format!("{version:?}");
        guarded.passes(&headers, batch(&["get"])).await;
        guarded.passes(&headers, format!(" {}\n", batch(&["get", "free", "get"]))).await;
        for position in 0..3 {
            let mut tools = ["get", "free", "get"];
            tools[position] = "place";
            assert_denied(&guarded.refused(&headers, batch(&tools)).await, "base read trade", &what);
            tools[position] = "unknown";
            let reply = guarded.refused(&headers, batch(&tools)).await;
            assert_eq!((reply.status, reply.header("www-authenticate")), (403, None), "{what}: {reply:?}");
        }
        assert_denied(&guarded.refused(&headers, batch(&["place", "report"])).await, "audit base read trade", &what);
        let with = |message: &str| format!("[{},{message}]", call("get"));
        let notification = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"place"}}"#;
        assert_denied(&guarded.refused(&headers, with(notification)).await, "base read trade", &what);
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call","params":{"name":"place"}}}"#;
        guarded.passes(&headers, with(answer)).await;
        for bad in [
            "[]".to_owned(),
            "[[]]".to_owned(),
            format!("[{}]", batch(&["get"])),
            with("1"),
            with("null"),
            with(r#"{"jsonrpc":"2.0","id":2,"method":"initialize","params":{}}"#),
            with(&call("get").replace(r#""method""#, r#""Method":"x","method""#)),
            batch(&["get"; 101]),
        ] {
            assert_error(&guarded.refused(&headers, &bad).await, 400, -32600, &Value::Null, &excerpt(bad.as_bytes()));
        }
        guarded.passes(&headers, batch(&["get"; 100])).await;
    }
    let new = format!("[{}]", stateless("get"));
    let repeated = [IS_JSON, ("Mcp-Method", "tools/call"), ("Mcp-Name", "get")];
    for version in ["2025-06-18", "2025-11-25", "2026-07-28", "2099-01-01", "garbage"] {
        let headers = [&repeated[..], &[("MCP-Protocol-Version", version)]].concat();
        for body in [batch(&["get"]), batch(&["get", "free"]), new.clone()] {
            assert_error(&guarded.refused(&headers, body).await, 400, -32600, &Value::Null, version);
        }
    }
    // The header names no version, or the revision with batches. The message names the newest revision.
    for headers in [&repeated[..], &[&repeated[..], &[("MCP-Protocol-Version", "2025-03-26")]].concat()] {
        assert_error(&guarded.refused(headers, &new).await, 400, -32600, &Value::Null, "_meta");
    }
    let doubled = [IS_JSON, ("MCP-Protocol-Version", "2025-03-26"), ("MCP-Protocol-Version", "2025-06-18")];
    assert_eq!(guarded.refused(&doubled, batch(&["get"])).await.status, 400);
}

/// Row 57 of the fault matrix.
#[tokio::test]
async fn keys_that_two_parsers_read_differently_are_refused() {
    let guarded = Guarded::start().await;
    let refused = async |body: String, id: Value| {
        assert_error(&guarded.refused(&[IS_JSON], &body).await, 400, -32600, &id, &body);
    };
    // At the top level of the message.
    for more in [
        r#""method":"tools/list""#,
        r#""Method":"tools/call""#,
        r#""METHOD":null"#,
        r#""m\u0065thod":"tools/call""#,
        r#""\u006D\u0065\u0074\u0068\u006f\u0064":"tools/call""#,
        r#""params":{"name":"place"}"#,
        r#""Params":{"name":"place"}"#,
        r#""param\u0073":{"name":"place"}"#,
        r#""paramſ":{"name":"place"}"#,
        r#""PARAMſ":{"name":"place"}"#,
        r#""param\u017f":{"name":"place"}"#,
        r#""id":2"#,
        r#""ID":2"#,
        r#""Id":2"#,
        r#""i\u0064":2"#,
        r#""jsonrpc":"2.0""#,
        r#""JSONRPC":"1.0""#,
        r#""jſonrpc":"1.0""#,
        r#""result":{}"#,
        r#""Result":{}"#,
        r#""reſult":{}"#,
        r#""error":{}"#,
        r#""Error":{}"#,
    ] {
        let before = call("get").replacen('{', &format!("{{{more},"), 1);
        let after = format!("{},{more}}}", call("get").strip_suffix('}').expect("an object"));
        for body in [before, after] {
            let reply = guarded.refused(&[IS_JSON], &body).await;
            // With a result or an error beside the method, the id can still be read.
            let id =
                if more.starts_with(r#""result"#) || more.starts_with(r#""error"#) { json!(1) } else { Value::Null };
            assert_error(&reply, 400, -32600, &id, &body);
        }
    }
    // In the part of `params` that the policy reads.
    let params =
        |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":"a","method":"{method}","params":{params}}}"#);
    for (method, text) in [
        ("tools/call", r#"{"name":"get","name":"place"}"#),
        ("tools/call", r#"{"name":"place","name":"get"}"#),
        ("tools/call", r#"{"name":"get","name":"get"}"#),
        ("tools/call", r#"{"name":"get","Name":"place"}"#),
        ("tools/call", r#"{"NAME":"place","name":"get"}"#),
        ("tools/call", r#"{"name":"get","n\u0061me":"place"}"#),
        ("tools/call", r#"{"n\u0061me":"get"}"#),
        ("tools/call", r#"{"Name":"get"}"#),
        ("tools/call", r#"{"name":"get","arguments":{},"arguments":{}}"#),
        ("tools/call", r#"{"name":"get","arguments":{},"Arguments":{}}"#),
        ("tools/call", r#"{"name":"get","argumentſ":{}}"#),
        ("tools/call", r#"{"name":"get","_meta":{},"_meta":{}}"#),
        ("tools/call", r#"{"name":"get","_Meta":{}}"#),
        ("tools/call", r#"{"name":"get","_m\u0065ta":{}}"#),
        (
            "tools/call",
            r#"{"name":"get","_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25","io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
        ),
        ("tools/call", r#"{"name":"get","_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}}"#),
        ("tools/call", r#"{"name":"get","_meta":{"io.modelcontextprotocol/protocolVerſion":"2026-07-28"}}"#),
        ("tools/call", r#"{"name":"get","_meta":{"io.modelcontextprotocol\/protocolVersion":"2026-07-28"}}"#),
        ("prompts/get", r#"{"name":"hello","name":"secret"}"#),
        ("resources/read", r#"{"uri":"file://open/a","URI":"file://secret"}"#),
        ("resources/read", r#"{"uri":"file://open/a","\u0075ri":"file://secret"}"#),
        ("tasks/get", r#"{"taskId":"a","tasKId":"b"}"#),
        ("tasks/get", "{\"taskId\":\"a\",\"tas\u{212a}Id\":\"b\"}"),
        ("tasks/get", r#"{"taskId":"a","ta\u017fkId":"b"}"#),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"hello"},"ref":{"type":"ref/prompt","name":"secret"}}"#,
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"hello"},"Ref":{"type":"ref/prompt","name":"secret"}}"#,
        ),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"hello","name":"secret"}}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"hello","Name":"secret"}}"#),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","type":"ref/resource","name":"hello","uri":"file://secret"}}"#,
        ),
        ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"file://open/a","Uri":"file://secret"}}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/tool","name":"hello"}}"#),
        ("subscriptions/listen", r#"{"notifications":{},"notifications":{"resourceSubscriptions":["file://secret"]}}"#),
        ("subscriptions/listen", r#"{"notifications":{},"notificationſ":{"resourceSubscriptions":["file://secret"]}}"#),
        (
            "subscriptions/listen",
            r#"{"notifications":{"resourceSubscriptions":[],"ReſourceSubscriptions":["file://secret"]}}"#,
        ),
        // `params` is an array or another value that is not an object.
        ("tools/call", r#"["get"]"#),
        ("tools/call", r#"["place",{}]"#),
        ("tools/call", "[]"),
        ("tools/call", r#""get""#),
        ("tools/call", "1"),
        ("tools/list", r#"["x"]"#),
        ("tools/call", r#"{"name":"get","_meta":["2026-07-28"]}"#),
        ("completion/complete", r#"{"ref":["ref/prompt","hello"]}"#),
        // Names that are not valid strings.
        ("tools/call", r#"{"name":["get"]}"#),
        ("tools/call", r#"{"name":null}"#),
        ("tools/call", r#"{"name":"\ud800"}"#),
        ("tools/call", r#"{"name":"get","\udc00":1}"#),
        ("resources/read", r#"{"uri":{"uri":"file://open/a"}}"#),
    ] {
        refused(params(method, text), json!("a")).await;
    }
    // Escapes in values have only one meaning. Keys that the policy does not read are not checked.
    for body in [
        params("tools\\/call", r#"{"name":"get"}"#),
        params("tools/call", r#"{"name":"g\u0065t"}"#),
        params(
            "tools/call",
            "\r\n\t{ \"arguments\" : {\"name\":\"place\",\"Name\":1,\"name\":2} , \"name\" : \"get\" }",
        ),
        params("tools/call", r#"{"name":"get","title":"a","Title":"b","_meta":{"traceparent":"x"}}"#),
        params(
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"hello","ref":{"name":"secret"}},"argument":{"name":"a"}}"#,
        ),
    ] {
        guarded.passes(&[IS_JSON], body).await;
    }
    for name in ["pl\\u0061ce", "\\u0070lace"] {
        assert_denied(&guarded.refused(&[IS_JSON], call(name)).await, "base read trade", name);
    }
}

/// Row 58 of the fault matrix.
#[tokio::test]
async fn header_fields_must_match_the_body_and_are_ignored_in_old_revisions() {
    let guarded = Guarded::start().await;
    const VERSION: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");
    const METHOD: (&str, &str) = ("Mcp-Method", "tools/call");
    const NAME: (&str, &str) = ("Mcp-Name", "get");
    let get = stateless("get");
    for headers in [
        vec![VERSION, METHOD, NAME],
        vec![NAME, ("mcp-protocol-version", "2026-07-28"), ("MCP-METHOD", "tools/call")],
        vec![VERSION, METHOD, ("Mcp-Name", "=?base64?Z2V0?=")],
        vec![VERSION, METHOD, NAME, ("Mcp-Param-Region", "eu")],
    ] {
        let arrived = guarded.passes(&[&headers[..], &[IS_JSON]].concat(), &get).await;
        for (name, value) in headers {
            assert_eq!(
                arrived.headers(name),
                [value],
                "the fields are passed on, because the origin checks them again"
            );
        }
    }
    // The body names no version, so it cannot contradict the header.
    guarded.passes(&[VERSION, METHOD, NAME, IS_JSON], call("get")).await;
    for (what, headers) in [
        ("nothing", vec![]),
        ("no version", vec![METHOD, NAME]),
        ("no method", vec![VERSION, NAME]),
        ("no name", vec![VERSION, METHOD]),
        ("another method", vec![VERSION, ("Mcp-Method", "tools/list"), NAME]),
        ("another name", vec![VERSION, METHOD, ("Mcp-Name", "place")]),
        ("an empty method", vec![VERSION, ("Mcp-Method", ""), NAME]),
        ("an empty name", vec![VERSION, METHOD, ("Mcp-Name", "")]),
        ("the method's case", vec![VERSION, ("Mcp-Method", "Tools/Call"), NAME]),
        ("the name's case", vec![VERSION, METHOD, ("Mcp-Name", "Get")]),
        ("two methods", vec![VERSION, METHOD, METHOD, NAME]),
        ("two names", vec![VERSION, METHOD, NAME, NAME]),
        ("two other names", vec![VERSION, METHOD, NAME, ("Mcp-Name", "place")]),
        ("two versions", vec![VERSION, VERSION, METHOD, NAME]),
        ("two other versions", vec![("MCP-Protocol-Version", "2025-11-25"), VERSION, METHOD, NAME]),
        ("names in a list", vec![VERSION, METHOD, ("Mcp-Name", "get, get")]),
        ("methods in a list", vec![VERSION, ("Mcp-Method", "tools/call,tools/list"), NAME]),
        ("another name in base64", vec![VERSION, METHOD, ("Mcp-Name", "=?base64?cGxhY2U=?=")]),
        ("invalid base64", vec![VERSION, METHOD, ("Mcp-Name", "=?base64?%%%?=")]),
        ("base64 without its end", vec![VERSION, METHOD, ("Mcp-Name", "=?base64?Z2V0")]),
        ("base64 in another case", vec![VERSION, METHOD, ("Mcp-Name", "=?BASE64?Z2V0?=")]),
        ("base64 of bytes", vec![VERSION, METHOD, ("Mcp-Name", "=?base64?/w==?=")]),
        ("a method in base64", vec![VERSION, ("Mcp-Method", "=?base64?dG9vbHMvY2FsbA==?="), NAME]),
        ("a name in quotes", vec![VERSION, METHOD, ("Mcp-Name", "\"get\"")]),
        ("bytes", vec![VERSION, METHOD, ("Mcp-Name", "gét")]),
        ("an older version", vec![("MCP-Protocol-Version", "2025-11-25"), METHOD, NAME]),
        ("a newer version", vec![("MCP-Protocol-Version", "2027-01-01"), METHOD, NAME]),
        ("an invalid version", vec![("MCP-Protocol-Version", "garbage"), METHOD, NAME]),
        ("an empty version", vec![("MCP-Protocol-Version", ""), METHOD, NAME]),
    ] {
        let reply = guarded.refused(&[&headers[..], &[IS_JSON]].concat(), &get).await;
        assert_error(&reply, 400, -32020, &json!(1), what);
    }
    // The other way round: the header names the newest revision, and the body names another one.
    for meta in ["2025-11-25", "2027-01-01", "", "2026-07-28 "] {
        let reply = guarded.refused(&[VERSION, METHOD, NAME, IS_JSON], get.replace("2026-07-28", meta)).await;
        assert_error(&reply, 400, -32020, &json!(1), meta);
    }
    // In other methods, another parameter must match `Mcp-Name`.
    for (method, name, params) in [
        ("resources/read", "file://open/a", r#"{"uri":"file://open/a"}"#),
        ("prompts/get", "hello", r#"{"name":"hello"}"#),
        ("tasks/get", "t1", r#"{"taskId":"t1"}"#),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{method}","params":{params}}}"#);
        guarded.passes(&[VERSION, ("Mcp-Method", method), ("Mcp-Name", name), IS_JSON], &body).await;
        for wrong in [vec![], vec![("Mcp-Name", "other")]] {
            let headers = [&[VERSION, ("Mcp-Method", method), IS_JSON], &wrong[..]].concat();
            assert_error(&guarded.refused(&headers, &body).await, 400, -32020, &json!("x"), method);
        }
    }
    // A notification has no id, so the error has the id `null`.
    let notification = get.replace(r#""id":1,"#, "");
    let reply = guarded.refused(&[VERSION, METHOD, IS_JSON], notification).await;
    assert_error(&reply, 400, -32020, &Value::Null, "a notification");
    // Fields that match the body do not allow a call that is denied.
    for name in ["place", "=?base64?cGxhY2U=?="] {
        let reply = guarded.refused(&[VERSION, METHOD, ("Mcp-Name", name), IS_JSON], stateless("place")).await;
        assert_denied(&reply, "base read trade", name);
        assert_error(&reply, 403, -32001, &json!(1), name);
    }
    // In older revisions only the body decides.
    for version in [None, Some("2025-03-26"), Some("2025-06-18"), Some("2025-11-25")] {
        let version: Vec<_> = version.map(|version| ("MCP-Protocol-Version", version)).into_iter().collect();
        let lies = [&version[..], &[IS_JSON, ("Mcp-Method", "ping"), NAME]].concat();
        assert_denied(&guarded.refused(&lies, call("place")).await, "base read trade", "a lie");
        let lies =
            [&version[..], &[IS_JSON, ("Mcp-Method", "evil"), ("Mcp-Name", "place"), ("Mcp-Name", "x")]].concat();
        guarded.passes(&lies, call("get")).await;
    }
}

/// Row 59 of the fault matrix.
#[tokio::test]
async fn bodies_that_are_not_valid_json_rpc_are_refused() {
    let guarded = Guarded::start().await;
    let get = call("get");
    let nested = |depth: usize| {
        // The message and `params` are two levels.
        let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
        get.replace(r#""name""#, &format!(r#""arguments":{open}{close},"name""#))
    };
    let with_id = |id: &str| get.replace(r#""id":1"#, &format!(r#""id":{id}"#));
    let bytes = |text: &[u8]| {
        let at = get.find("get").expect("the message contains the tool's name");
        [&get.as_bytes()[..at], text, &get.as_bytes()[at..]].concat()
    };
    let utf16 = |to_bytes: fn(u16) -> [u8; 2]| get.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
    for body in [
        nested(65).into_bytes(),
        nested(100_000).into_bytes(),
        "[".repeat(200_000).into_bytes(),
        r#"{"a":"#.repeat(100_000).into_bytes(),
        with_id("NaN").into_bytes(),
        with_id("Infinity").into_bytes(),
        with_id("-Infinity").into_bytes(),
        with_id("01").into_bytes(),
        with_id("+1").into_bytes(),
        with_id("0x1").into_bytes(),
        with_id("1.").into_bytes(),
        with_id("-").into_bytes(),
        with_id("'a'").into_bytes(),
        bytes(b"\xff"),
        bytes(b"\xc0\x80"),
        bytes(b"\xc1\xa7"),
        bytes(b"\xed\xa0\x80"),
        bytes(b"\xf4\x90\x80\x80"),
        bytes(b"\0"),
        bytes(b"\n"),
        [b"\xef\xbb\xbf", get.as_bytes()].concat(),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [&b"\xff\xfe"[..], &utf16(u16::to_le_bytes)].concat(),
        [&b"\xfe\xff"[..], &utf16(u16::to_be_bytes)].concat(),
        format!("{get}x").into_bytes(),
        format!("{get}{get}").into_bytes(),
        format!("{get}\n{}", call("place")).into_bytes(),
        format!("{get},").into_bytes(),
        format!("{get}\0").into_bytes(),
        format!("\0{get}").into_bytes(),
        format!("{get}\u{a0}").into_bytes(),
        format!("{get}\u{feff}").into_bytes(),
        format!("{get}// a comment").into_bytes(),
        format!("/* a comment */{get}").into_bytes(),
        format!(")]}}',\n{get}").into_bytes(),
        format!("data: {get}\n\n").into_bytes(),
        get.replace("}}", ",}}").into_bytes(),
        get.replace('"', "'").into_bytes(),
        get.replace(r#""id""#, "id").into_bytes(),
        get.as_bytes()[..get.len() - 1].to_vec(),
        get.replace("get", "g\\x65t").into_bytes(),
        get.replace("get", "g\\u65t").into_bytes(),
        b"\x1f\x8b\x08\0\0\0\0\0".to_vec(),
        b"message=get".to_vec(),
        b" \r\n\t".to_vec(),
        Vec::new(),
    ] {
        assert_error(&guarded.refused(&[IS_JSON], &body).await, 400, -32700, &Value::Null, &excerpt(&body));
    }
    for (body, id) in [
        (with_id(&"9".repeat(1_025)), Value::Null),
        (with_id(&format!("\"{}\"", "x".repeat(1_023))), Value::Null),
        (with_id("null"), Value::Null),
        (with_id("{}"), Value::Null),
        (with_id("[1]"), Value::Null),
        (with_id("true"), Value::Null),
        (get.replace("2.0", "1.0"), Value::Null),
        (get.replace("2.0", "2.0 "), Value::Null),
        (get.replace("2.0", "2.\\u0030"), Value::Null),
        (get.replace("\"2.0\"", "2.0"), Value::Null),
        (get.replace(r#""jsonrpc":"2.0","#, ""), Value::Null),
        (get.replace(r#""tools/call""#, "null"), json!(1)),
        (get.replace(r#""tools/call""#, r#"["tools/call"]"#), json!(1)),
        (get.replace(r#""method":"tools/call","#, ""), json!(1)),
        ("{}".to_owned(), Value::Null),
        ("null".to_owned(), Value::Null),
        ("1".to_owned(), Value::Null),
        ("\"tools/call\"".to_owned(), Value::Null),
    ] {
        assert_error(&guarded.refused(&[IS_JSON], &body).await, 400, -32600, &id, &excerpt(body.as_bytes()));
    }
    for body in [
        nested(64),
        with_id(&"9".repeat(1_024)),
        with_id(&format!("\"{}\"", "x".repeat(1_022))),
        with_id("1e400"),
        with_id("-0.5"),
        with_id(r#""\ud800""#),
        format!("\r\n\t {get} \n"),
        get.replace("\"get\"", "\"get\",\"arguments\":{\"a\":\"\\\"}{[[[\\\\\"}"),
    ] {
        guarded.passes(&[IS_JSON], body).await;
    }
    // Errors repeat an id exactly as it was written.
    for id in ["123456789012345678901234567890", r#""\u0022,\"error\":1""#, "1.0"] {
        let reply = guarded.refused(&[IS_JSON], call("place").replace(r#""id":1"#, &format!(r#""id":{id}"#))).await;
        assert!(reply.status == 403 && reply.body.contains(&format!(r#""id":{id},"error""#)), "{reply:?}");
    }
}

/// Row 60 of the fault matrix.
#[tokio::test]
async fn a_message_must_be_json_in_utf_8_without_content_encoding() {
    let guarded = Guarded::start().await;
    for headers in [
        vec![("Content-Type", "application/json")],
        vec![("Content-Type", "Application/JSON")],
        vec![("Content-Type", "application/json; charset=utf-8")],
        vec![("Content-Type", "application/json;Charset=\"UTF-8\"")],
        vec![("Content-Type", " application/json ")],
        vec![IS_JSON, ("Content-Encoding", "identity")],
    ] {
        guarded.passes(&headers, call("get")).await;
    }
    for headers in [
        vec![],
        vec![("Content-Type", "")],
        vec![("Content-Type", "text/plain")],
        vec![("Content-Type", "text/json")],
        vec![("Content-Type", "application/jsonx")],
        vec![("Content-Type", "application/x-www-form-urlencoded")],
        vec![("Content-Type", "multipart/form-data; boundary=application/json")],
        vec![("Content-Type", "application/cbor")],
        vec![("Content-Type", "application/json, text/plain")],
        vec![("Content-Type", "application/json; charset=utf-16")],
        vec![("Content-Type", "application/json; charset=utf-16le")],
        vec![("Content-Type", "application/json; charset=UTF-7")],
        vec![("Content-Type", "application/json; charset=iso-8859-1")],
        vec![("Content-Type", "application/json; charset=")],
        vec![("Content-Type", "application/json; charset=utf-8; charset=utf-16")],
        vec![("Content-Type", "application/json; charset=utf-16; charset=utf-8")],
        vec![("Content-Type", "application/json; CHARSET = utf-16")],
        vec![IS_JSON, IS_JSON],
        vec![IS_JSON, ("Content-Type", "text/plain")],
        vec![("Content-Type", "text/plain"), IS_JSON],
        vec![IS_JSON, ("Content-Encoding", "gzip")],
        vec![IS_JSON, ("Content-Encoding", "br")],
        vec![IS_JSON, ("Content-Encoding", "deflate")],
        vec![IS_JSON, ("Content-Encoding", "zstd")],
        vec![IS_JSON, ("Content-Encoding", "x-custom")],
        vec![IS_JSON, ("Content-Encoding", "identity, gzip")],
        vec![IS_JSON, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")],
        vec![IS_JSON, ("content-encoding", "gzip"), ("Content-Encoding", "identity")],
    ] {
        for body in [call("get"), call("place")] {
            let reply = guarded.refused(&headers, body).await;
            let error = reply.json();
            assert_eq!((reply.status, &error["error"]), (415, &json!("unsupported_media_type")), "{headers:?}");
        }
    }
    // GET, DELETE and OPTIONS must not have a body. All other methods are refused.
    let alice = ("Authorization", &*guarded.alice);
    for method in ["GET", "DELETE", "OPTIONS"] {
        for (coding, body) in [("Content-Length", call("place")), ("Transfer-Encoding", chunked(&call("place")))] {
            let length = body.len().to_string();
            let framing = (coding, if coding == "Content-Length" { &*length } else { "chunked" });
            let text = request(method, "/guarded/mcp", &[alice, IS_JSON, framing], "") + &body;
            let reply = exchange(guarded.edge.address, text).await;
            assert_eq!((reply.status, &reply.json()["error"]), (400, &json!("bad_request")), "{method} {coding}");
        }
    }
    for method in ["PUT", "PATCH", "QUERY", "post", "PROPFIND"] {
        for body in ["", &*call("get")] {
            let reply = exchange(guarded.edge.address, request(method, "/guarded/mcp", &[alice, IS_JSON], body)).await;
            assert_eq!(reply.status, 405, "{method}: {reply:?}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD, POST, DELETE, OPTIONS"), "{method}");
        }
    }
    assert_eq!(guarded.origin.count(), 6, "only the first six requests passed");
    for method in ["GET", "DELETE", "OPTIONS"] {
        let text = request(method, "/guarded/mcp", &[alice], "");
        assert_eq!(exchange(guarded.edge.address, text).await.status, 200, "{method}");
        assert_eq!(guarded.origin.last().line(), format!("{method} /mcp HTTP/1.1"));
    }
}

/// A chunked body with one chunk.
fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// Row 61 of the fault matrix.
#[tokio::test]
async fn operations_that_no_rule_allows_are_denied_and_not_listed() {
    const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"never"},{"name":"get","title":"Ü"},{"name":"place"},{"name":"free2"},{"name":"unknown"},{"name":"report"}],"nextCursor":"c"}}"#;
    let origin = Origin::answering(|request| {
        if !request.body.windows(12).any(|window| window == b"\"tools/list\"") {
            return answer(request);
        }
        let (kind, body) = if request.header("accept") == Some("text/event-stream") {
            ("text/event-stream", format!("event: message\ndata: {LIST}\n\n"))
        } else {
            ("application/json", LIST.to_owned())
        };
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    });
    let guarded = Guarded::start_with("", origin.await).await;
    let message =
        |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#);
    for (method, params, scopes) in [
        ("tools/call", r#"{"name":"place"}"#, "base read trade"),
        ("tools/call", r#"{"name":"report"}"#, "audit base"),
        ("tools/call", r#"{"name":"never"}"#, ""),
        ("tools/call", r#"{"name":"unknown"}"#, ""),
        ("tools/call", r#"{"name":"Get"}"#, ""),
        ("tools/call", r#"{"name":"GET"}"#, ""),
        ("tools/call", r#"{"name":"get "}"#, ""),
        ("tools/call", r#"{"name":" get"}"#, ""),
        ("tools/call", r#"{"name":"get\u0000"}"#, ""),
        ("tools/call", r#"{"name":"get\u200b"}"#, ""),
        ("tools/call", r#"{"name":"ɡet"}"#, ""),
        ("tools/call", r#"{"name":"a/get"}"#, ""),
        ("tools/call", r#"{"name":"*"}"#, ""),
        ("tools/call", r#"{"name":""}"#, ""),
        ("tools/call", "{}", ""),
        ("tools/call", r#"{"arguments":{"name":"get"}}"#, ""),
        ("tools/Call", r#"{"name":"get"}"#, ""),
        ("tools/call ", r#"{"name":"get"}"#, ""),
        ("tools/call/", r#"{"name":"get"}"#, ""),
        ("/tools/call", r#"{"name":"get"}"#, ""),
        ("tools.call", r#"{"name":"get"}"#, ""),
        ("tools/execute", r#"{"name":"get"}"#, ""),
        ("rpc.discover", "{}", ""),
        ("", "{}", ""),
        ("prompts/get", r#"{"name":"secret"}"#, ""),
        ("prompts/get", "{}", ""),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"secret"}}"#, ""),
        ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"file://secret"}}"#, ""),
        ("completion/complete", "{}", ""),
        ("resources/read", r#"{"uri":"file://secret"}"#, ""),
        ("resources/read", r#"{"uri":"FILE://open/a"}"#, ""),
        ("resources/read", "{}", ""),
        ("resources/subscribe", r#"{"uri":"file://secret"}"#, ""),
        ("resources/unsubscribe", r#"{"uri":"file://secret"}"#, ""),
        ("resources/directory/read", r#"{"uri":"file://secret"}"#, ""),
        (
            "subscriptions/listen",
            r#"{"notifications":{"resourceSubscriptions":["file://open/a","file://secret"]}}"#,
            "",
        ),
    ] {
        let body = message(method, params);
        let reply = guarded.refused(&[IS_JSON], &body).await;
        assert_denied(&reply, scopes, &body);
        assert_eq!(reply.json()["id"], 7, "{body}");
        // A notification is denied as well. It has no id, so the answer is not a JSON-RPC error.
        let reply = guarded.refused(&[IS_JSON], body.replace(r#""id":7,"#, "")).await;
        assert_denied(&reply, scopes, &body);
        if !scopes.is_empty() {
            assert_eq!(reply.json()["error"], "insufficient_scope", "{body}");
        }
    }
    for (method, params) in [
        ("tools/call", r#"{"name":"get"}"#),
        ("tools/call", r#"{"name":"free"}"#),
        ("tools/call", r#"{"name":"free/2"}"#),
        ("ping", "{}"),
        ("initialize", "{}"),
        ("logging/setLevel", r#"{"level":"debug"}"#),
        ("notifications/anything", "{}"),
        ("prompts/get", r#"{"name":"hello"}"#),
        ("prompts/list", "{}"),
        ("resources/read", r#"{"uri":"file://open/a"}"#),
        ("tasks/get", r#"{"taskId":"place"}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"file://open/{a}"}}"#),
    ] {
        guarded.passes(&[IS_JSON], message(method, params)).await;
    }
    // The list shows exactly what may be called.
    let expected =
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get","title":"Ü"},{"name":"free2"}],"nextCursor":"c"}}"#;
    let reply = guarded.post(&[IS_JSON], message("tools/list", "{}")).await;
    assert_eq!((reply.status, &*reply.body), (200, expected));
    let reply = guarded.post(&[IS_JSON, ("Accept", "text/event-stream")], message("tools/list", "{}")).await;
    assert_eq!((reply.status, &*reply.body), (200, &*format!("event: message\ndata: {expected}\n\n")));
    // On a route without rules, all methods and tools are allowed.
    let headers = [IS_JSON, ("Authorization", &*guarded.alice)];
    for body in [message("vendor/method", "{}"), call("unknown"), message("tools/list", "{}")] {
        let reply = guarded.exchange(&post("/plain/mcp", &headers, body.as_bytes())).await;
        assert_eq!((reply.status, guarded.origin.last().body), (200, body.clone().into_bytes()), "{body}");
    }
}
