use super::*;
use proptest::prelude::*;
use serde_json::value::RawValue;

/// The text of the one value in `text`.
fn whole(text: &str) -> Result<&str, Flaw> {
    let mut cursor = Cursor::new(text);
    let value = cursor.value()?;
    cursor.end().map(|()| value)
}

fn members(text: &str) -> Result<Vec<(&str, &str)>, Flaw> {
    let (mut all, mut cursor) = (Vec::new(), Cursor::new(text));
    cursor.members(|cursor, key| {
        all.push((key, cursor.passed(|cursor| cursor.value().map(drop))?));
        Ok(())
    })?;
    cursor.end().map(|()| all)
}

fn items(text: &str) -> Result<Vec<&str>, Flaw> {
    let (mut all, mut cursor) = (Vec::new(), Cursor::new(text));
    cursor.items(|item| all.push(item))?;
    cursor.end().map(|()| all)
}

/// Checks that all ways to read `text` agree with serde_json.
fn agrees(text: &str) -> Result<(), TestCaseError> {
    let raw = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
    prop_assert_eq!(whole(text).ok(), raw, "{:?}", text);
    let begins = |bracket| raw.is_some_and(|raw| raw.starts_with(bracket));
    prop_assert_eq!(members(text).is_ok(), begins('{'), "{:?}", text);
    prop_assert_eq!(items(text).is_ok(), begins('['), "{:?}", text);
    let all = serde_json::from_str::<Vec<&RawValue>>(text).ok();
    prop_assert_eq!(items(text).ok(), all.map(|all| all.into_iter().map(RawValue::get).collect()), "{:?}", text);
    Ok(())
}

#[test]
fn keys_and_values_are_as_written() {
    let members = members(" {\"a\" : 1.50 ,\"\\u0061\":[ 1 ],\n\"\":{\"a\" :\"\\u0061\"} }\t").expect("an object");
    assert_eq!(members, [("\"a\"", "1.50"), ("\"\\u0061\"", "[ 1 ]"), ("\"\"", "{\"a\" :\"\\u0061\"}")]);
    assert_eq!(items("[ 1e999 ,{ } ,[]]"), Ok(vec!["1e999", "{ }", "[]"]));
    assert_eq!((items("[ ]"), whole(" \"\\ud800\" ")), (Ok(vec![]), Ok("\"\\ud800\"")));
}

#[test]
fn invalid_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "}",
        "]",
        "{]",
        "[}",
        "{}}",
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{1:1}",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "[{]}",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123",
        "\"\n\"",
        "\"\u{0}\"",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "tru",
        "truee",
        "NaN",
        "1\u{a0}",
        "\u{feff}1",
        "1 2",
        "//",
    ] {
        assert_eq!(whole(text), Err(Flaw::NotJson), "{text:?}");
        assert!(serde_json::from_str::<&RawValue>(text).is_err(), "{text:?}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        [("[", "]"), ("{\"a\":", "}")].map(|(open, close)| format!("{}1{}", open.repeat(depth), close.repeat(depth)))
    };
    for text in nested(limits::MESSAGE_DEPTH) {
        assert_eq!(whole(&text), Ok(&*text));
        assert!(members(&text).is_ok() || items(&text).is_ok());
    }
    for text in nested(limits::MESSAGE_DEPTH + 1) {
        assert_eq!(whole(&text), Err(Flaw::TooDeep));
        assert!(members(&text) == Err(Flaw::TooDeep) || items(&text) == Err(Flaw::TooDeep));
    }
    let side_by_side = format!("[{}1]", "[[]],{\"a\":[]},".repeat(limits::MESSAGE_DEPTH));
    assert!(whole(&side_by_side).is_ok() && items(&side_by_side).is_ok());
}

#[test]
fn of_any_depth_has_no_limit() {
    for depth in [63, 64, 65, 127, 128, 129, 1_000] {
        for rhythm in 1..8 {
            let is_object = |level: usize| level.is_multiple_of(rhythm) || level % 5 == 1;
            let open = |level| if is_object(level) { "{\"a\":[],\"b\":" } else { "[{}," };
            let close = |level| if is_object(level) { "}" } else { "]" };
            let open: String = (0..depth).map(open).collect();
            let close: String = (0..depth).rev().map(close).collect();
            let text = format!("{open}1{close}");
            let read = |text: &str| Cursor::of_any_depth(text).value().map(str::len);
            assert_eq!(read(&text), Ok(text.len()), "{text}");
            // A closing bracket of the wrong kind is refused at any depth.
            for (at, bracket) in close.char_indices() {
                let mut wrong = text.clone();
                let at = open.len() + 1 + at;
                wrong.replace_range(at..=at, if bracket == '}' { "]" } else { "}" });
                assert_eq!(read(&wrong), Err(Flaw::NotJson), "{wrong}");
            }
        }
    }
}

/// Values of all kinds, with white space.
fn json() -> impl Strategy<Value = String> {
    let text = r#""([a-zé\u{2028}\u{10000} {}\[\],:]|\\["\\/bfnrtu]|\\u[0-9a-fA-F]{4}){0,12}""#;
    let number = "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,2})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![text, number, "true|false|null"];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let member = ("[ \n]?", "\"[a-c]{0,9}\"", "[ \t]?", inner.clone());
        let member = member.prop_map(|(before, key, behind, value)| format!("{before}{key}{behind}:{behind}{value}"));
        let joined = |all: Vec<String>| all.join(",");
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(move |all| format!("[{}]", joined(all))),
            proptest::collection::vec(member, 0..5).prop_map(move |all| format!("{{{} }}\r", joined(all))),
        ]
    })
}

proptest! {
    #[test]
    fn it_takes_what_serde_json_takes(text in json()) {
        agrees(&text)?;
    }

    #[test]
    fn it_refuses_what_serde_json_refuses(
        text in json(), at in any::<prop::sample::Index>(), cut in 0..3_usize, put in "[\\PC\u{0}-\u{1f}]{0,2}",
    ) {
        let mut signs: Vec<char> = text.chars().collect();
        let at = at.index(signs.len() + 1);
        signs.splice(at..(at + cut).min(signs.len()), put.chars());
        agrees(&String::from_iter(signs))?;
    }

    #[test]
    fn any_text_is_read_as_by_serde_json(text in r#"([\[\]{}:,"\\ \n0-9eE.+u-]|true|null|"a"|"a":|\u{0}|é){0,16}"#) {
        agrees(&text)?;
    }
}
