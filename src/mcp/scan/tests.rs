use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod reference;

fn scan(message: &[u8]) -> Scanned {
    let mut scan = MessageScan::default();
    scan.push(message);
    scan.finish()
}

const OK: Scanned = Scanned::Result { is_error: false };
const FAILED: Scanned = Scanned::Result { is_error: true };

const TABLE: &[(&str, Scanned)] = &[
    (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, OK),
    (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}"#, OK),
    (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, FAILED),
    ("\r\n{ \"result\" :\t{ \"isError\" : true , \"x\" : 1 } , \"id\" : 1 } \n", FAILED),
    (r#"{"result":{"\u0069sError":true}}"#, FAILED),
    (r#"{"\u0072\u0065\u0073\u0075\u006C\u0074":{"isError":true}}"#, FAILED),
    (r#"{"result":{"caf\u00e9\n":1,"is\u0130Error":true}}"#, OK),
    (r#"{"result":{"isError":"true"}}"#, OK),
    (r#"{"result":{"isErrorr":true,"sError":true}}"#, OK),
    (r#"{"result":{"content":[{"isError":true}],"structuredContent":{"isError":true}}}"#, OK),
    (r#"{"result":{"structuredContent":{"result":{"isError":true}}}}"#, OK),
    (r#"{"x":{"isError":true},"result":{}}"#, OK),
    (r#"{"isError":true,"result":{}}"#, OK),
    (r#"{"result":{"content":[{"text":"\"isError\":true}}\\"}]},"isError":true}"#, OK),
    (r#"{"result":{"x":"]}\\\""}}"#, OK),
    (r#"{"result":null}"#, OK),
    (r#"{"result":[{"isError":true}]}"#, OK),
    (r#"{"result":7,"error":null}"#, OK),
    (r#"{"result":{},"method":null}"#, OK),
    (r#"{"result":null,"error":{"code":1}}"#, Scanned::Error),
    (r#"{"error":{"code":-32601,"message":"result"},"id":1}"#, Scanned::Error),
    (r#"{"error":"x"}"#, Scanned::Error),
    (r#"{"method":"notifications/progress","params":{}}"#, Scanned::Progress),
    (r#"{"params":{"method":"x"},"method":"notifications\/progres\u0073"}"#, Scanned::Progress),
    (r#"{"method":"notifications/progress","result":{},"error":1}"#, Scanned::Progress),
    (r#"{"method":"notifications/progresss"}"#, Scanned::Request),
    (r#"{"id":1,"method":"ping"}"#, Scanned::Request),
    (r#"{"id":1,"error":{},"method":""}"#, Scanned::Request),
    (r#"{"method":[]}"#, Scanned::Request),
    (
        r#"{"method":"notifications/progress__________________________________________________________"}"#,
        Scanned::Request,
    ),
    (r#"{"jsonrpc":"2.0","id":1}"#, Scanned::Unknown),
    (r#"[{"result":{}}]"#, Scanned::Unknown),
    (r#"{"result":{}"#, Scanned::Unknown),
    (r#"{"result":{}}}"#, Scanned::Unknown),
    (r#"{"result":{}} {}"#, Scanned::Unknown),
    (r#"{"result":{},}"#, Scanned::Unknown),
    (r#"{,"result":{}}"#, Scanned::Unknown),
    (r#"{"result" {}}"#, Scanned::Unknown),
    (r#"{"result":}"#, Scanned::Unknown),
    (r#"{"result":{}]"#, Scanned::Unknown),
    (r#"{"result":{"\x":1}}"#, Scanned::Unknown),
    (r#"{"result":{"\u00g0":1}}"#, Scanned::Unknown),
    (r#"{"result":{},"result":{}}"#, Scanned::Unknown),
    (r#"{"result":{"isError":true,"\u0069sError":false}}"#, Scanned::Unknown),
    (r#"{"result":{"isError":true"#, Scanned::Unknown),
    ("{}", Scanned::Unknown),
    ("", Scanned::Unknown),
    ("\u{feff}{\"result\":{}}", Scanned::Unknown),
    ("<html>", Scanned::Unknown),
];

#[test]
fn messages() {
    for (message, expected) in TABLE {
        assert_eq!(scan(message.as_bytes()), *expected, "{message}");
    }
}

#[test]
fn a_scan_can_be_used_again() {
    let mut scan = MessageScan::default();
    for (message, expected) in TABLE {
        for byte in message.as_bytes() {
            scan.push(&[*byte]);
        }
        assert_eq!(scan.finish(), *expected, "{message}");
    }
}

#[test]
fn depth_needs_no_memory() {
    let deep = 1_000_000;
    let message = format!(r#"{{"result":{{"x":{}{},"isError":true}}}}"#, "[".repeat(deep), "]".repeat(deep));
    assert_eq!(scan(message.as_bytes()), FAILED);
    assert_eq!(scan("[".repeat(deep).as_bytes()), Scanned::Unknown);
    assert_eq!(scan(r#"{"":"#.repeat(deep).as_bytes()), Scanned::Unknown);
    assert!(size_of::<MessageScan>() <= 80);
}

fn expected(message: &Value) -> Scanned {
    let Value::Object(message) = message else { return Scanned::Unknown };
    let has = |key| message.get(key).is_some_and(|value: &Value| !value.is_null());
    match message.get("result") {
        _ if message.get("method") == Some(&json!("notifications/progress")) => Scanned::Progress,
        _ if has("method") => Scanned::Request,
        _ if has("error") => Scanned::Error,
        Some(result) => Scanned::Result { is_error: result["isError"] == true },
        None => Scanned::Unknown,
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("notifications/progress".to_owned()),
        "(result|error|isError|method)",
        "[a-z\"\\\\{}\\[\\]:,é\n]{0,12}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn it_agrees_with_a_parser(message in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_vec_pretty(&message) } else { serde_json::to_vec(&message) };
        prop_assert_eq!(scan(&text.expect("a value")), expected(&message));
    }

    #[test]
    fn pieces_make_no_difference(
        bytes in prop_oneof![
            proptest::sample::select(TABLE).prop_map(|(message, _)| message.as_bytes().to_vec()),
            proptest::collection::vec(proptest::sample::select(b"{}[]\":,\\untr1 \xff".as_slice()), 0..40),
            proptest::collection::vec(any::<u8>(), 0..60),
        ],
        cuts in proptest::collection::vec(0..60_usize, 0..6),
    ) {
        let mut split = MessageScan::default();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            split.push(&bytes[piece[0]..piece[1]]);
        }
        prop_assert_eq!(split.finish(), scan(&bytes));
    }

    /// However the text is divided into pieces, the result is the same as byte by byte.
    #[test]
    fn it_agrees_with_the_reference(
        text in prop_oneof![
            r#"[ \n]?\{("result"|"error"|"method"|"m\\u0065thod"|"isError"|"id"|"[a-z]{0,40}"|"\\[nux/]"|"notifications/progress"|"\\u002[fF]"|[{}\[\]:,] ?|true|null|-1.5e3|truer|\\|"|\t){0,24}"#,
            r#"\{"(result|error|method)" ?: ?(\{("(isError|is\\u0045rror|a)":(true|false|null|"x\\"y"|\[1,"\]"\]|\{\}),?){0,3}\}|"notifications(/|\\/)progress"|null|nullx|7)[ ,}]?("(result|error|method|id)":(null|1|"a\\\\")[},]?){0,2}\}?\n?"#,
        ],
        cuts in proptest::collection::vec(0..120_usize, 0..6),
    ) {
        let mut reference = reference::MessageScan::default();
        reference.push(text.as_bytes());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let mut split = MessageScan::default();
        for piece in cuts.windows(2) {
            split.push(&text.as_bytes()[piece[0]..piece[1]]);
        }
        prop_assert_eq!(split.finish(), reference.finish(), "{:?}", text);
    }
}
