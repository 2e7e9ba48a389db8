//! Synchronisation state of a guest agent.

use crate::time::Moment;

/// How far the session is synchronised with a guest agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sync {
    /// The number of the last `guest-sync-delimited`.
    pub(super) number: u64,
    /// The reply to it is due.
    pub(super) due: bool,
    /// When it was sent.
    pub(super) asked: Moment,
    /// A delimiter arrived: the next line is a reply to `guest-sync-delimited`.
    pub(super) delimited: bool,
    /// The session was synchronised once: the handshake is over.
    pub(super) once: bool,
}

impl Sync {
    /// Makes the first number of a nonce. The agent reads it as a signed 64-bit integer (QEMU, `qga/qapi-schema.json`,
    /// `guest-sync-delimited`), so the highest bits are clear; the lowest eight are left for counting.
    pub(super) fn new(nonce: u64) -> Self {
        Self { number: nonce >> 16 << 8, ..Self::default() }
    }
}
