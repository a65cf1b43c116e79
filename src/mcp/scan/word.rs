//! A string that a scan reads in pieces.

/// A string of up to 32 bytes. Of a longer string, only the length is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    bytes: [u8; Self::BYTES],
    pub(super) length: usize,
}

impl Word {
    /// More than the longest word that is looked for, `notifications/progress`.
    const BYTES: usize = 32;

    pub(super) fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let length = self.length.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.length..length) {
            place.copy_from_slice(bytes);
        }
        self.length = length;
    }

    /// The string. A string that is too long gives some other 32 bytes, which equal none of the words looked for.
    pub(super) fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}
