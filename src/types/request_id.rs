//! The id of one request in logs, errors and requests to upstreams.

use std::fmt;

use http::HeaderValue;

/// 128 random bits as 32 lower-case hex digits, or what a trusted proxy has called the request. The id identifies a request. It
/// must not be used to authenticate anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Text);

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Digits([u8; 32]),
    Given(Box<str>),
}

/// The longest id that is taken from a proxy.
const GIVEN_BYTES: usize = 128;

impl RequestId {
    /// A new id, from a fast random generator that is not cryptographically secure.
    pub fn generate() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bits = fastrand::u128(..);
        Self(Text::Digits(std::array::from_fn(|digit| HEX[(bits >> (4 * digit)) as usize & 0xF])))
    }

    /// The id that a proxy has given the request. `None` if it is not well-formed: 1 to 128 letters, digits and `-._~:+/=@`.
    pub fn given(text: &[u8]) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:+/=@".contains(byte);
        let is_well_formed = (1..=GIVEN_BYTES).contains(&text.len()) && text.iter().all(is_plain);
        let text = std::str::from_utf8(text).ok().filter(|_| is_well_formed)?;
        Some(Self(Text::Given(text.into())))
    }

    /// The text, in ASCII.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Digits(digits) => std::str::from_utf8(digits).expect("hex digits are ASCII"),
            Text::Given(text) => text,
        }
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Digits(digits) => digits,
            Text::Given(text) => text.as_bytes(),
        }
    }

    /// The text as a header value.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).expect("the text has only letters, digits and a few signs")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_from_a_proxy_is_taken_if_it_is_well_formed() {
        for good in
            ["4bf92f3577b34da6a3ce929d0e0e4736", "Root=1-67891233-abcdef012345678912345678", "a", &"x".repeat(128)]
        {
            let id = RequestId::given(good.as_bytes()).expect("well-formed");
            assert_eq!((id.as_str(), id.to_header().as_bytes()), (good, good.as_bytes()));
        }
        for bad in ["", "a b", "a\"b", "a,b", "é", "a\nb", &"x".repeat(129)] {
            assert!(RequestId::given(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert_eq!(RequestId::generate().as_str().len(), 32);
    }
}
