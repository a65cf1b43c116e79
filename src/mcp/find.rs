//! The search that the scanners spend their time in.

/// The place of the first byte that is `a` or `b`: eight bytes at a time, since mostly it is near or there is none.
pub(super) fn find_either(bytes: &[u8], a: u8, b: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (LOW * u64::from(a))) | zeros(word ^ (LOW * u64::from(b)));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&byte| byte == a || byte == b).map(|at| words.len() * 8 + at)
}

/// The lowest bit of each byte.
const LOW: u64 = u64::from_le_bytes([1; 8]);

/// The highest bit of each byte that is zero. Of those behind the first zero byte some may be marked that are not.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & (LOW << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_first() {
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
}
