//! Tape of choices: one byte for each choice, read in order, so that a fuzzer can relate its bytes to the effects.

/// Bytes that are read as choices. After the last byte, every read returns 0.
pub(super) struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Returns a number of two bytes.
    pub(super) fn number(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    /// Returns a number below this bound.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Returns some bytes. The first byte on the tape is their number.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.next(length)
    }

    /// Returns bytes whose number, before them, has two bytes.
    pub(super) fn long_bytes(&mut self) -> &'a [u8] {
        let length = self.number();
        self.next(length)
    }

    fn next(&mut self, most: usize) -> &'a [u8] {
        let length = most.min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    pub(super) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// Returns all remaining bytes.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
}

/// Returns a stream in pieces of these sizes, repeated cyclically.
pub(super) fn cut<'a>(mut stream: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while let (Some(size), false) = (sizes.next(), stream.is_empty()) {
        let (piece, rest) = stream.split_at((*size).clamp(1, stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}
