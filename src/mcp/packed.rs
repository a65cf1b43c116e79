//! What a client's `initialize` said, small enough to travel in the id of its session.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::config::limits;

/// `text`, compressed. `None` when it takes more than [`limits::SESSION_SAID_BYTES`].
pub fn pack(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing to a vector cannot fail.
    let packed = encoder.write_all(text).and_then(|()| encoder.finish()).ok()?;
    (packed.len() <= limits::SESSION_SAID_BYTES).then_some(packed)
}

/// The text that [`pack`] has compressed. `None` when it is damaged, or longer than any `initialize` that is kept.
pub fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let limit = limits::SESSION_SAID_WHOLE_BYTES as u64;
    DeflateDecoder::new(packed).take(limit + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= limit).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_comes_back() {
        let hello = br#"{ "jsonrpc":"2.0","id" : 0, "method":"initialize"}"#;
        assert_eq!(unpack(&pack(hello).expect("it fits")).as_deref(), Some(&hello[..]));
        let noise: Vec<u8> = (0..4_000).map(|_| fastrand::u8(..)).collect();
        assert_eq!(pack(&noise), None);
        let bomb = pack(&vec![b' '; limits::SESSION_SAID_WHOLE_BYTES + 1]).expect("it is small");
        assert_eq!((unpack(&bomb), unpack(b"\xff\xff")), (None, None));
    }
}
