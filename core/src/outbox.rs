//! Decides which bytes still wait to be sent, and which descriptors go with them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::descriptor::Descriptor;

/// Bytes that wait to be sent, some of them with a descriptor. It is mostly one: the next is held back until the peer has
/// answered. But a peer may answer what was not sent yet, and then each still goes with its own byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// The descriptors, each with the index of the byte that it goes with, in their order.
    carried: VecDeque<(usize, Descriptor)>,
}

impl Outbox {
    /// What is still to be sent, up to the byte that a descriptor goes with, which is sent by itself from there on.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..self.end()).unwrap_or_default()
    }

    fn end(&self) -> usize {
        let next = self.carried.iter().map(|(at, _)| *at).find(|at| *at > self.sent);
        next.unwrap_or(self.bytes.len())
    }

    /// The descriptor that goes with the first byte of [`waiting`](Self::waiting).
    pub(crate) fn descriptor(&self) -> Option<&Descriptor> {
        self.carried.front().filter(|(at, _)| *at == self.sent).map(|(_, descriptor)| descriptor)
    }

    /// So many bytes were sent, and the descriptor with the first.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.end());
        self.carried.retain(|(at, _)| *at >= self.sent);
        if self.sent == self.bytes.len() {
            self.clear();
        }
    }

    /// The next byte that is written takes this descriptor along.
    pub(crate) fn carry(&mut self, descriptor: Descriptor) {
        let at = self.writer().len();
        self.carried.push_back((at, descriptor));
    }

    /// Where to write what is to be sent.
    pub(crate) fn writer(&mut self) -> &mut Vec<u8> {
        if self.sent > 0 {
            self.bytes.drain(..self.sent);
            for (at, _) in &mut self.carried {
                *at -= self.sent;
            }
            self.sent = 0;
        }
        &mut self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.carried.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_descriptor_goes_with_the_byte_that_it_was_given_before() {
        let mut outbox = Outbox::default();
        outbox.writer().extend_from_slice(b"abc");
        outbox.sent(1);
        outbox.carry(Descriptor::new(()));
        outbox.writer().extend_from_slice(b"de");
        assert_eq!((outbox.waiting(), outbox.descriptor()), (b"bc".as_slice(), None));
        outbox.sent(9);
        assert_eq!(outbox.waiting(), b"de");
        assert!(outbox.descriptor().is_some());
        outbox.sent(0);
        assert!(outbox.descriptor().is_some(), "nothing was sent yet");
        outbox.sent(1);
        assert_eq!((outbox.waiting(), outbox.descriptor()), (b"e".as_slice(), None));
    }
}
