//! Splitter of sent bytes into objects of JSON, which follow each other without a line end and may be sent in pieces.

use alloc::vec::Vec;

/// Splitter of one stream. It reads each byte once.
#[derive(Debug, Default)]
pub(super) struct Objects {
    object: Vec<u8>,
    depth: usize,
    within_string: bool,
    is_escaped: bool,
}

impl Objects {
    /// Returns the object that this byte completes.
    pub(super) fn push(&mut self, byte: u8) -> Option<Vec<u8>> {
        if self.depth == 0 && byte != b'{' {
            return None;
        }
        self.object.push(byte);
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.within_string => self.is_escaped = true,
            b'"' => self.within_string = !self.within_string,
            b'{' if !self.within_string => self.depth += 1,
            b'}' if !self.within_string => self.depth -= 1,
            _ => {}
        }
        (self.depth == 0).then(|| core::mem::take(&mut self.object))
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    #[test]
    fn objects_are_split() {
        let mut objects = Objects::default();
        let sent = br#"{"a":"}\"{"}{"b":{"c":{}}} x {"d""#;
        let split: Vec<_> = sent.iter().filter_map(|byte| objects.push(*byte)).collect();
        assert_eq!(split, [br#"{"a":"}\"{"}"#.to_vec(), br#"{"b":{"c":{}}}"#.to_vec()]);
    }
}
