//! Lists of servers, read into items that a gateway can put together in another order and under other names.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::splice::encode_text;
use crate::mcp::cursor::{Cursor, Flaw};
use crate::mcp::fields::text;
use crate::mcp::list::ListKind;
use crate::mcp::members::{Named, named};

/// An item of a list: a tool, a prompt, a resource or a template.
#[derive(Clone, Debug, PartialEq)]
pub struct ListItem {
    /// The name, or the URI, by which requests refer to it.
    pub name: String,
    /// The whole item, as the server has written it.
    json: String,
    /// Where the name stands in `json`, with its quotes.
    name_place: Range<usize>,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListPage {
    /// The items in the server's order, without those whose name is missing or that can be read in two ways.
    pub items: Vec<ListItem>,
    /// Asks for the next page.
    pub next_cursor: Option<String>,
    /// How long the list may be kept (MCP 2026-07-28, `ttlMs`).
    pub ttl: Option<Duration>,
    /// True when the list is the same for all callers (MCP 2026-07-28, `cacheScope: public`).
    pub is_public: bool,
}

impl ListItem {
    /// The item as the server has written it.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Appends the item under the name `name`.
    pub fn write_as(&self, name: &str, out: &mut String) {
        if name == self.name {
            out.push_str(&self.json);
            return;
        }
        out.push_str(&self.json[..self.name_place.start]);
        out.push_str(&encode_text(name));
        out.push_str(&self.json[self.name_place.end..]);
    }
}

/// The result in `message`, a JSON-RPC response, or the error in it. `None` when it is neither.
pub fn response_of(message: &[u8]) -> Option<Result<&RawValue, &RawValue>> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let response: Response<'_> = serde_json::from_slice(message).ok()?;
    match (response.result, response.error) {
        (Some(result), None) => Some(Ok(result)),
        (_, Some(error)) => Some(Err(error)),
        (None, None) => None,
    }
}

/// True when `message` is the response to the request with the id `id`, in JSON.
pub fn is_response_to(message: &[u8], id: &str) -> bool {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let response: Option<Response<'_>> = serde_json::from_slice(message).ok();
    response_of(message).is_some() && response.and_then(|response| response.id).is_some_and(|own| own.get() == id)
}

/// True when `message` is the response to another request than the one with the id `id`, in JSON. Ids are compared by what they mean:
/// a server may write them in another way.
pub fn answers_another(message: &[u8], id: &str) -> bool {
    #[derive(Deserialize)]
    struct Response {
        id: Option<serde_json::Value>,
    }
    if response_of(message).is_none() {
        return false;
    }
    let own: Option<serde_json::Value> = serde_json::from_str(id).ok();
    let response: Option<Response> = serde_json::from_slice(message).ok();
    match (response.and_then(|response| response.id), own) {
        (Some(other), Some(own)) => other != own && (own.as_f64().is_none() || other.as_f64() != own.as_f64()),
        // An error may have no id.
        _ => false,
    }
}

impl ListPage {
    /// Reads the result of a request for a list of this kind. `None` when it has no such list, or has it twice.
    pub fn read(result: &str, kind: ListKind) -> Option<Self> {
        let mut page = Self::default();
        let mut lists = 0;
        let mut cursor = Cursor::of_any_depth(result);
        if cursor.peek() != Some(b'{') {
            return None;
        }
        cursor
            .members(|cursor, key| {
                if named(key, kind.list_key()) == Named::This && cursor.peek() == Some(b'[') {
                    lists += 1;
                    return cursor.entries(|cursor| {
                        page.items.extend(item(cursor, kind)?);
                        Ok(())
                    });
                }
                let value = cursor.value()?;
                match key {
                    "\"nextCursor\"" => page.next_cursor = text(value).map(Cow::into_owned),
                    "\"ttlMs\"" => page.ttl = value.parse().ok().map(Duration::from_millis),
                    "\"cacheScope\"" => page.is_public = value == "\"public\"",
                    _ => {}
                }
                Ok(())
            })
            .ok()?;
        (lists == 1).then_some(page)
    }
}

fn item(cursor: &mut Cursor<'_>, kind: ListKind) -> Result<Option<ListItem>, Flaw> {
    if cursor.peek() != Some(b'{') {
        return cursor.value().map(|_| None);
    }
    let (mut name, mut is_ambiguous) = (None, false);
    let json = cursor.passed(|cursor| {
        cursor.members(|cursor, key| {
            let value = cursor.value()?;
            match named(key, kind.name_key()) {
                Named::Other => {}
                Named::This => is_ambiguous |= name.replace(value).is_some(),
                Named::Lookalike | Named::Unreadable => is_ambiguous = true,
            }
            Ok(())
        })
    })?;
    let read = || {
        let written = name.filter(|_| !is_ambiguous)?;
        let start = written.as_ptr().addr() - json.as_ptr().addr();
        Some(ListItem {
            name: text(written)?.into_owned(),
            json: json.to_owned(),
            name_place: start..start + written.len(),
        })
    };
    Ok(read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_request_is_known_by_what_its_id_means() {
        let answer = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        for (id, asked, is_other) in [
            ("7", "7", false),
            ("7.0", "7", false),
            (r#""\u0061""#, r#""a""#, false),
            ("8", "7", true),
            (r#""7""#, "7", true),
            ("null", "7", false),
        ] {
            assert_eq!(answers_another(answer(id).as_bytes(), asked), is_other, "{id} {asked}");
        }
        let notification = br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
        assert!(!answers_another(notification, "7"));
    }

    #[test]
    fn a_page_is_read_and_written_under_other_names() {
        let result = r#"{"resultType":"complete","tools":[{"description":"d","name" : "a","x":{"name":"y"}},{"name":"b","name":"c"},{"Name":"d"},1,{"name":"\u0065"}],"nextCursor":"n","ttlMs":1500,"cacheScope":"public"}"#;
        let page = ListPage::read(result, ListKind::Tools).expect("a list");
        let names: Vec<&str> = page.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["a", "e"], "items that can be read in two ways are left out");
        assert_eq!((page.next_cursor.as_deref(), page.ttl), (Some("n"), Some(Duration::from_millis(1_500))));
        assert!(page.is_public);
        let mut out = String::new();
        page.items[0].write_as("fin_a", &mut out);
        assert_eq!(out, r#"{"description":"d","name" : "fin_a","x":{"name":"y"}}"#);
        out.clear();
        page.items[1].write_as("e", &mut out);
        assert_eq!(out, r#"{"name":"\u0065"}"#, "an unchanged name stays as it is written");
    }

    #[test]
    fn junk_is_no_list() {
        for junk in ["", "[]", "{}", r#"{"tools":{}}"#, r#"{"tools":[],"tools":[]}"#, r#"{"tools":["#] {
            assert!(ListPage::read(junk, ListKind::Tools).is_none(), "{junk}");
        }
    }

    #[test]
    fn a_response_has_a_result_or_an_error() {
        let is = |message: &str| response_of(message.as_bytes()).map(|response| response.is_ok());
        assert_eq!(is(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Some(true));
        assert_eq!(is(r#"{"jsonrpc":"2.0","id":1,"error":{}}"#), Some(false));
        assert_eq!((is(r#"{"method":"x"}"#), is("x")), (None, None));
    }
}
