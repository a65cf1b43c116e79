//! Words of others, made fit to be shown in an error.

/// At most 64 characters of `text`, without any that could change a line or a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push_str("...");
    }
    shown
}
