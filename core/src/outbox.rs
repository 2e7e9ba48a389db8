//! Decides which bytes still wait to be sent.

use alloc::vec::Vec;

/// Bytes that wait to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// What is still to be sent.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.clear();
        }
    }

    /// Where to write what is to be sent.
    pub(crate) fn writer(&mut self) -> &mut Vec<u8> {
        if self.sent > 0 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Outbox;

    #[test]
    fn an_outbox_gives_its_bytes_in_order_and_once() {
        let mut outbox = Outbox::default();
        outbox.writer().extend_from_slice(b"abc");
        outbox.sent(1);
        outbox.writer().extend_from_slice(b"de");
        assert_eq!(outbox.waiting(), b"bcde");
        outbox.sent(9);
        assert_eq!(outbox.waiting(), b"");
    }
}
