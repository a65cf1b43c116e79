//! Fast byte searches. The scanners of JSON and of event streams spend most of their time here.

/// The position of the first byte that is `a` or `b`.
pub(super) fn find_either(bytes: &[u8], a: u8, b: u8) -> Option<usize> {
    find(bytes, |word| equal(word, a) | equal(word, b), |byte| byte == a || byte == b)
}

/// The position of the first `\n` or `\r`.
pub(super) fn find_line_end(bytes: &[u8]) -> Option<usize> {
    let in_word = |word: u64| {
        // Few other bytes are less than or equal to `\r`. To check for such bytes costs half as much as the exact
        // check, so the exact check runs only when one was found.
        let low = word.wrapping_sub(LOW * u64::from(b'\r' + 1)) & !word & (LOW << 7);
        if low == 0 { 0 } else { equal(word, b'\n') | equal(word, b'\r') }
    };
    find(bytes, in_word, |byte| byte == b'\n' || byte == b'\r')
}

/// The position of the first byte that ends a JSON string (`"`), begins an escape (`\`), or is not allowed in a string
/// (control characters).
pub(crate) fn find_in_string(bytes: &[u8]) -> Option<usize> {
    find(
        bytes,
        // XOR with 2 turns a quote into a space. After that, only quotes and control characters are below `!`.
        |word| (word ^ (LOW * 2)).wrapping_sub(LOW * 0x21) & !word & (LOW << 7) | equal(word, b'\\'),
        |byte| byte == b'"' || byte == b'\\' || byte < 0x20,
    )
}

/// Searches eight bytes at a time, because the match is usually near or there is none. `in_word` sets the highest bit
/// of each matching byte of a word; only the first mark is used. `fits` checks the last bytes one by one.
#[inline(always)]
fn find(bytes: &[u8], in_word: impl Fn(u64) -> u64, fits: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = in_word(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|&byte| fits(byte)).map(|place| at + place)
}

/// The lowest bit of each byte.
const LOW: u64 = u64::from_le_bytes([1; 8]);

/// Sets the highest bit of each byte of `word` that equals `byte`. After the first match, other bytes may be set too.
fn equal(word: u64, byte: u8) -> u64 {
    let word = word ^ (LOW * u64::from(byte));
    word.wrapping_sub(LOW) & !word & (LOW << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_match() {
        for length in 0..70 {
            for at in 0..length {
                let mut bytes = vec![b'x'; length];
                bytes[length - 1] = b'b';
                bytes[at] = b'a';
                assert_eq!(find_either(&bytes, b'a', b'b'), Some(at));
                assert_eq!(find_either(&bytes, b'b', b'a'), Some(at));
            }
            assert_eq!(find_either(&vec![b'x'; length], b'a', b'b'), None);
            assert_eq!(find_either(&vec![b'a' ^ 1; length], b'a', b'\x80'), None);
            assert_eq!(find_either(&vec![0xff; length], 0, 0x7f), None);
        }
    }

    #[test]
    fn finds_line_ends() {
        for length in 1..20 {
            for byte in 0..=u8::MAX {
                for filler in [0, b'\t', 0x0b, 0x0c, 0x0e, b' ', 0x7f, 0x80, 0x8a, 0xff] {
                    let mut bytes = vec![filler; length];
                    assert_eq!(find_line_end(&bytes), None);
                    bytes[length - 1] = byte;
                    let ends = byte == b'\n' || byte == b'\r';
                    assert_eq!(find_line_end(&bytes), ends.then_some(length - 1), "{byte:x} {filler:x}");
                    bytes.push(b'\r');
                    assert_eq!(find_line_end(&bytes), Some(if ends { length - 1 } else { length }));
                }
            }
        }
    }

    #[test]
    fn finds_special_bytes_in_strings() {
        for length in 1..20 {
            for byte in 0..=u8::MAX {
                let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
                for filler in [b' ', b'!', b'#', 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![filler; length];
                    assert_eq!(find_in_string(&bytes), None);
                    bytes[length - 1] = byte;
                    assert_eq!(find_in_string(&bytes), is_special.then_some(length - 1), "{byte:x} {filler:x}");
                    bytes.push(b'"');
                    assert_eq!(find_in_string(&bytes), Some(if is_special { length - 1 } else { length }));
                }
            }
        }
    }
}
