//! Outbox of a channel: the bytes that are still to be sent, and the descriptors that go with them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::descriptor::Descriptor;

/// Bytes to be sent, some of them with a descriptor. Mostly there is one descriptor, since a command with a descriptor
/// waits for the reply to the one before. But a faulty peer may reply to a command that was not sent yet; then each
/// descriptor still goes with its own byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// The descriptors, each with the index of the byte that it goes with, in their order.
    carried: VecDeque<(usize, Descriptor)>,
}

impl Outbox {
    /// Returns the bytes to send next. They end before the next byte that a descriptor goes with, since one message
    /// carries at most one descriptor.
    #[inline]
    pub(crate) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..self.end()).unwrap_or_default()
    }

    #[inline]
    fn end(&self) -> usize {
        if self.carried.is_empty() {
            return self.bytes.len();
        }
        let next = self.carried.iter().map(|(at, _)| *at).find(|at| *at > self.sent);
        next.unwrap_or(self.bytes.len())
    }

    /// Returns the descriptor that goes with the first byte of [`waiting`](Self::waiting).
    pub(crate) fn descriptor(&self) -> Option<&Descriptor> {
        self.carried.front().filter(|(at, _)| *at == self.sent).map(|(_, descriptor)| descriptor)
    }

    /// Removes bytes that were sent, at most those that are [waiting](Self::waiting), and the descriptor that went with the
    /// first of them.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.end());
        if !self.carried.is_empty() {
            self.carried.retain(|(at, _)| *at >= self.sent);
        }
        if self.sent == self.bytes.len() {
            self.clear();
        }
    }

    /// Attaches a descriptor to the next byte that is written.
    pub(crate) fn carry(&mut self, descriptor: Descriptor) {
        let at = self.writer().len();
        self.carried.push_back((at, descriptor));
    }

    /// Returns the buffer to append bytes to.
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
    fn bytes_are_sent_in_order_and_once() {
        let mut outbox = Outbox::default();
        outbox.writer().extend_from_slice(b"abc");
        outbox.sent(1);
        outbox.writer().extend_from_slice(b"de");
        assert_eq!(outbox.waiting(), b"bcde");
        outbox.sent(9);
        assert_eq!(outbox.waiting(), b"");
    }

    #[test]
    fn a_descriptor_goes_with_the_next_byte_that_is_written() {
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
