//! What a scan remembers of a string that comes in pieces.

/// A short string; of a longer one only that it is longer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    bytes: [u8; Self::BYTES],
    pub(super) length: usize,
}

impl Word {
    /// Enough for the longest word that is looked for, `notifications/progress`.
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

    /// One that is too long is none of those that are looked for.
    pub(super) fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}
