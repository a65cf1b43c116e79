//! Text from outside the edge, made safe to show in an error message.

/// At most 64 characters of `text`. Control characters are escaped, so that the text cannot break a line or change a
/// terminal.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push_str("...");
    }
    shown
}
