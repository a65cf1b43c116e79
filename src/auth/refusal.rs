//! How an authentication server refuses a request.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use http_auth::ChallengeRef;

use crate::config::limits;
use crate::types::ScopeSet;

/// A 401 or 403 of an authentication server, with its `WWW-Authenticate` (RFC 9110 section 11.6.1). Fields that cannot
/// be parsed, and fields beyond [`limits::CHALLENGE_BYTES`] in total, are not passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// True for 403: the server knows the caller, but refuses the request.
    pub forbidden: bool,
    /// `error` of the `Bearer` challenge (RFC 6750 section 3).
    pub error: Option<String>,
    /// `error_description` of the `Bearer` challenge.
    pub description: Option<String>,
    /// `scope` of the `Bearer` challenge: the scopes that the client should request.
    pub scopes: ScopeSet,
    /// The challenges of other schemes.
    pub others: Vec<HeaderValue>,
}

/// The URLs of metadata in a `WWW-Authenticate` field (RFC 9728 section 5.1). `None` if the field may have some that cannot be
/// read.
pub fn announced_metadata(field: &HeaderValue) -> Option<Vec<String>> {
    const NAME: &[u8] = b"resource_metadata";
    if !field.as_bytes().windows(NAME.len()).any(|text| text.eq_ignore_ascii_case(NAME)) {
        return Some(Vec::new());
    }
    let challenges = http_auth::parse_challenges(field.to_str().ok()?).ok()?;
    let params = challenges.iter().flat_map(|challenge| &challenge.params);
    let urls = params.filter(|(name, _)| name.eq_ignore_ascii_case("resource_metadata"));
    Some(urls.map(|(_, value)| value.to_unescaped()).collect())
}

impl Refusal {
    /// Reads the header fields of the answer.
    pub(super) fn read(forbidden: bool, headers: &HeaderMap) -> Self {
        let mut refusal = Self { forbidden, ..Self::default() };
        let mut room = limits::CHALLENGE_BYTES;
        for field in headers.get_all(WWW_AUTHENTICATE) {
            let Some(left) = room.checked_sub(field.len()) else { break };
            room = left;
            let challenges = field.to_str().ok().and_then(|field| http_auth::parse_challenges(field).ok());
            for challenge in challenges.into_iter().flatten() {
                refusal.add(&challenge);
            }
        }
        refusal
    }

    fn add(&mut self, challenge: &ChallengeRef<'_>) {
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            self.others.extend(to_header_value(challenge));
            return;
        }
        // `resource_metadata` is left out, because the edge adds its own: the resource is the route, not the
        // authentication server.
        for (name, value) in &challenge.params {
            let value = value.to_unescaped();
            match name.to_ascii_lowercase().as_str() {
                "error" if is_quotable(&value) => self.error = Some(value),
                "error_description" if is_quotable(&value) => self.description = Some(value),
                "scope" => self.scopes = value.split(' ').filter_map(|scope| scope.parse().ok()).collect(),
                _ => {}
            }
        }
    }
}

/// True for a text that `error` and `error_description` may contain (RFC 6750 section 3). It cannot end a quoted
/// string.
fn is_quotable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

fn to_header_value(challenge: &ChallengeRef<'_>) -> Option<HeaderValue> {
    let params: Vec<String> = challenge
        .params
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("resource_metadata"))
        .map(|(name, value)| format!("{name}=\"{}\"", value.as_escaped()))
        .collect();
    let text = format!("{} {}", challenge.scheme, params.join(", "));
    HeaderValue::from_str(text.trim_end()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&'static str]) -> Refusal {
        let fields = fields.iter().map(|field| (WWW_AUTHENTICATE, HeaderValue::from_static(field)));
        Refusal::read(true, &fields.collect())
    }

    #[test]
    fn a_bearer_challenge_is_taken_apart_and_others_are_passed_on() {
        let refusal = read(&[
            r#"Basic realm="a \"b\"", Bearer error=insufficient_scope, scope="b a", error_description="no, really", resource_metadata="http://internal/""#,
            "DPoP algs=\"ES256\", resource_metadata=\"http://internal/\"",
        ]);
        assert!(refusal.forbidden);
        assert_eq!(refusal.error.as_deref(), Some("insufficient_scope"));
        assert_eq!(refusal.description.as_deref(), Some("no, really"));
        assert_eq!(refusal.scopes.to_string(), "a b");
        assert_eq!(refusal.others, [r#"Basic realm="a \"b\"""#, r#"DPoP algs="ES256""#]);
    }

    #[test]
    fn texts_that_would_end_a_quoted_string_are_left_out() {
        let refusal = read(&[r#"Bearer error="a\"b", error_description="", scope="a\"b c""#]);
        assert_eq!((refusal.error, refusal.description, refusal.scopes.to_string().as_str()), (None, None, "c"));
    }

    #[test]
    fn challenges_that_are_too_large_or_cannot_be_parsed_are_left_out() {
        let long: &'static str = format!("Basic realm=\"{}\"", "x".repeat(limits::CHALLENGE_BYTES)).leak();
        assert_eq!(read(&[long, "Bearer error=\"x\""]), Refusal { forbidden: true, ..Refusal::default() });
        assert_eq!(read(&["=, ="]), Refusal { forbidden: true, ..Refusal::default() });
    }
}
