//! Changes parts of a client's message and leaves every other byte as it is.

use std::ops::Range;

use crate::mcp::cursor::{Cursor, Flaw};

/// A message that [`Messages::read`](crate::mcp::Messages::read) has accepted, so that each key that is looked for here stands in it
/// at most once, and the changes to make.
#[derive(Debug)]
pub struct Splice<'a> {
    text: &'a str,
    parts: Parts<'a>,
    edits: Vec<(Range<usize>, String)>,
}

/// The members of a message that may change, as written.
#[derive(Debug, Default)]
struct Parts<'a> {
    /// The position after the opening bracket of the message.
    inside: usize,
    /// The same for `params`, if it is an object, and whether it has members.
    params: Option<(usize, bool)>,
    /// True when there is a member `params`, whatever its value.
    has_params: bool,
    /// The same for `params._meta`.
    meta: Option<(usize, bool)>,
    /// `_meta`, if its value is something else than an object.
    meta_text: Option<&'a str>,
    /// The members of `_meta`.
    meta_members: Vec<(&'a str, &'a str)>,
    params_text: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    name: Option<&'a str>,
    uri: Option<&'a str>,
    task: Option<&'a str>,
    cursor: Option<&'a str>,
    reference_name: Option<&'a str>,
    reference_uri: Option<&'a str>,
    request_id: Option<&'a str>,
    progress_token: Option<&'a str>,
    meta_progress_token: Option<&'a str>,
    log_level: Option<&'a str>,
}

/// A JSON string with the text `text`.
pub fn encode_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'a> Splice<'a> {
    /// Finds the parts of `message`. `None` when it is not one object.
    pub fn new(message: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let mut parts = Parts::default();
        let mut cursor = Cursor::of_any_depth(text);
        read(text, &mut cursor, &mut parts).ok()?;
        cursor.end().ok()?;
        Some(Self { text, parts, edits: Vec::new() })
    }

    /// `params` as written; `None` if there is none.
    pub fn params(&self) -> Option<&'a str> {
        self.parts.params_text
    }

    /// `id` as written.
    pub fn id(&self) -> Option<&'a str> {
        self.parts.id
    }

    /// `method` as written.
    pub fn method(&self) -> Option<&'a str> {
        self.parts.method
    }

    /// `params.cursor` as written.
    pub fn cursor(&self) -> Option<&'a str> {
        self.parts.cursor
    }

    /// `params.progressToken` of a progress notification, as written.
    pub fn progress_token(&self) -> Option<&'a str> {
        self.parts.progress_token
    }

    /// `params.level` as written.
    pub fn log_level(&self) -> Option<&'a str> {
        self.parts.log_level
    }

    /// Gives the message the id `id`, which is JSON.
    pub fn set_id(&mut self, id: String) {
        self.replace(self.parts.id, id);
    }

    /// Gives `params.requestId` the value `id`, which is JSON.
    pub fn set_request_id(&mut self, change: impl FnOnce(&str) -> String) {
        let changed = self.parts.request_id.map(change);
        self.replace(self.parts.request_id, changed.unwrap_or_default());
    }

    /// Changes the progress token of a request (in `_meta`).
    pub fn set_meta_progress_token(&mut self, change: impl FnOnce(&str) -> String) {
        let changed = self.parts.meta_progress_token.map(change);
        self.replace(self.parts.meta_progress_token, changed.unwrap_or_default());
    }

    /// Gives a progress notification the token `token`, which is JSON.
    pub fn set_progress_token(&mut self, token: String) {
        self.replace(self.parts.progress_token, token);
    }

    /// The message is about the tool or prompt `name`. `in_reference`: it names it in `ref`, as `completion/complete` does. Policy has
    /// read the same place.
    pub fn set_name(&mut self, name: &str, in_reference: bool) {
        let place = if in_reference { self.parts.reference_name } else { self.parts.name };
        self.replace(place, encode_text(name));
    }

    /// The message is about the resource `uri`. `in_reference`: as for [`set_name`](Self::set_name).
    pub fn set_uri(&mut self, uri: &str, in_reference: bool) {
        let place = if in_reference { self.parts.reference_uri } else { self.parts.uri };
        self.replace(place, encode_text(uri));
    }

    /// The message is about the task `id`.
    pub fn set_task(&mut self, id: &str) {
        self.replace(self.parts.task, encode_text(id));
    }

    /// Gives `params._meta` these members, whose values are JSON. Those that it has already get the new values.
    pub fn set_meta(&mut self, members: &[(&str, String)]) {
        let mut added = Vec::new();
        for (key, value) in members {
            match self.parts.meta_members.iter().find(|(known, _)| known.trim_matches('"') == *key) {
                Some((_, old)) => self.replace(Some(old), value.clone()),
                None => added.push(format!("\"{key}\":{value}")),
            }
        }
        if added.is_empty() {
            return;
        }
        let added = added.join(",");
        let comma = |has_members: bool| if has_members { "," } else { "" };
        let (at, text) = match (self.parts.meta, self.parts.meta_text, self.parts.params) {
            (Some((at, has_members)), ..) => (at, format!("{added}{}", comma(has_members))),
            // It is `null`, which means the same as none.
            (None, Some(null), _) => return self.replace(Some(null), format!("{{{added}}}")),
            (None, None, Some((at, has_members))) => (at, format!("\"_meta\":{{{added}}}{}", comma(has_members))),
            // A message always has other members.
            (None, None, None) if !self.parts.has_params => {
                (self.parts.inside, format!("\"params\":{{\"_meta\":{{{added}}}}},"))
            }
            // `params` is `null`.
            (None, None, None) => return self.replace(self.parts.params_text, format!("{{\"_meta\":{{{added}}}}}")),
        };
        self.edits.push((at..at, text));
    }

    /// The message with all changes.
    pub fn finish(mut self) -> Vec<u8> {
        self.edits.sort_by_key(|(place, _)| place.start);
        let more: usize = self.edits.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(self.text.len() + more);
        let mut done = 0;
        for (place, text) in &self.edits {
            out.extend_from_slice(&self.text.as_bytes()[done..place.start]);
            out.extend_from_slice(text.as_bytes());
            done = place.end;
        }
        out.extend_from_slice(&self.text.as_bytes()[done..]);
        out
    }

    fn replace(&mut self, part: Option<&'a str>, with: String) {
        if let Some(part) = part {
            let start = part.as_ptr().addr() - self.text.as_ptr().addr();
            self.edits.push((start..start + part.len(), with));
        }
    }
}

fn read<'a>(text: &'a str, cursor: &mut Cursor<'a>, parts: &mut Parts<'a>) -> Result<(), Flaw> {
    parts.inside = inside(text, cursor).ok_or(Flaw::NotJson)?;
    cursor.members(|cursor, key| {
        match key {
            "\"id\"" => parts.id = Some(cursor.value()?),
            "\"method\"" => parts.method = Some(cursor.value()?),
            "\"params\"" => {
                parts.has_params = true;
                let is_object = inside(text, cursor);
                let mut has_members = false;
                parts.params_text = Some(match is_object {
                    Some(_) => cursor.passed(|cursor| {
                        cursor.members(|cursor, key| {
                            has_members = true;
                            param(text, cursor, key, parts)
                        })
                    })?,
                    None => cursor.value()?,
                });
                parts.params = is_object.map(|at| (at, has_members));
            }
            _ => drop(cursor.value()?),
        }
        Ok(())
    })
}

fn param<'a>(text: &'a str, cursor: &mut Cursor<'a>, key: &str, parts: &mut Parts<'a>) -> Result<(), Flaw> {
    let part = match key {
        "\"name\"" => &mut parts.name,
        "\"uri\"" => &mut parts.uri,
        "\"taskId\"" => &mut parts.task,
        "\"cursor\"" => &mut parts.cursor,
        "\"requestId\"" => &mut parts.request_id,
        "\"progressToken\"" => &mut parts.progress_token,
        "\"level\"" => &mut parts.log_level,
        "\"_meta\"" => {
            let Some(at) = inside(text, cursor) else {
                parts.meta_text = Some(cursor.value()?);
                return Ok(());
            };
            cursor.members(|cursor, key| {
                let value = cursor.value()?;
                if key == "\"progressToken\"" {
                    parts.meta_progress_token = Some(value);
                }
                parts.meta_members.push((key, value));
                Ok(())
            })?;
            parts.meta = Some((at, !parts.meta_members.is_empty()));
            return Ok(());
        }
        "\"ref\"" if inside(text, cursor).is_some() => {
            return cursor.members(|cursor, key| {
                let value = cursor.value()?;
                match key {
                    "\"name\"" => parts.reference_name = Some(value),
                    "\"uri\"" => parts.reference_uri = Some(value),
                    _ => {}
                }
                Ok(())
            });
        }
        _ => return cursor.value().map(drop),
    };
    *part = Some(cursor.value()?);
    Ok(())
}

/// The position after the bracket, if an object comes next.
fn inside(text: &str, cursor: &mut Cursor<'_>) -> Option<usize> {
    let rest = cursor.rest();
    rest.starts_with('{').then(|| text.len() - rest.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(message: &str, edit: impl FnOnce(&mut Splice<'_>)) -> String {
        let mut splice = Splice::new(message.as_bytes()).expect("an object");
        edit(&mut splice);
        String::from_utf8(splice.finish()).expect("UTF-8")
    }

    #[test]
    fn only_what_is_named_changes() {
        let call = r#" {"jsonrpc":"2.0", "id":1,"method":"tools/call","params":{"arguments":{"name":"x","_meta":1}, "name" : "a_b" ,"_meta":{"progressToken":7}}}"#;
        let name = edited(call, |splice| splice.set_name("b\"c", false));
        assert_eq!(name, call.replace(r#""a_b""#, r#""b\"c""#));
        let meta = edited(call, |splice| splice.set_meta(&[("k", "1".to_owned())]));
        assert_eq!(meta, call.replace(r#"{"progressToken""#, r#"{"k":1,"progressToken""#));
        let id = edited(call, |splice| splice.set_id("\"x\"".to_owned()));
        assert_eq!(id, call.replace(r#""id":1"#, r#""id":"x""#));
        let token = edited(call, |splice| splice.set_meta_progress_token(|token| format!("\"m{token}\"")));
        assert_eq!(token, call.replace(r#""progressToken":7"#, r#""progressToken":"m7""#));
    }

    #[test]
    fn metadata_is_added_wherever_there_is_none() {
        for (before, after) in [
            (r#"{"method":"a"}"#, r#"{"params":{"_meta":{"k":1}},"method":"a"}"#),
            (r#"{"method":"a","params":null}"#, r#"{"method":"a","params":{"_meta":{"k":1}}}"#),
            (r#"{"params":{ },"method":"a"}"#, r#"{"params":{"_meta":{"k":1} },"method":"a"}"#),
            (r#"{"params":{"x":[]},"method":"a"}"#, r#"{"params":{"_meta":{"k":1},"x":[]},"method":"a"}"#),
            (r#"{"params":{"_meta":{}},"method":"a"}"#, r#"{"params":{"_meta":{"k":1}},"method":"a"}"#),
            (r#"{"params":{"_meta":null},"method":"a"}"#, r#"{"params":{"_meta":{"k":1}},"method":"a"}"#),
            (r#"{"params":{"_meta":{"x":0,"k":[2]}}}"#, r#"{"params":{"_meta":{"x":0,"k":1}}}"#),
        ] {
            assert_eq!(edited(before, |splice| splice.set_meta(&[("k", "1".to_owned())])), after);
        }
    }

    #[test]
    fn completions_are_about_what_they_refer_to() {
        let message = r#"{"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x"}}}"#;
        assert_eq!(edited(message, |splice| splice.set_name("q", true)), message.replace(r#""p""#, r#""q""#));
        // Policy does not read these two here, and servers may.
        for (other, reference) in [("name", "name"), ("uri", "uri")] {
            let both =
                format!(r#"{{"method":"completion/complete","params":{{"{other}":"x","ref":{{"{reference}":"p"}}}}}}"#);
            let changed = edited(&both, |splice| match reference {
                "name" => splice.set_name("q", true),
                _ => splice.set_uri("q", true),
            });
            assert_eq!(changed, both.replace(r#""p""#, r#""q""#));
        }
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        for bad in ["", "[]", "1", "{", "{} x"] {
            assert!(Splice::new(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
