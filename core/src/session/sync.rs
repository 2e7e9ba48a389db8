//! Synchronisation state of a guest agent.

use crate::time::Moment;

/// How far a guest agent is in step with us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sync {
    /// The number that was asked for last.
    pub(super) number: u64,
    /// Its answer is due.
    pub(super) due: bool,
    /// When it was asked for.
    pub(super) asked: Moment,
    /// The delimiter came, and the next line is an answer.
    pub(super) delimited: bool,
    /// It was in step once: the handshake is over.
    pub(super) once: bool,
}

impl Sync {
    /// The agent reads numbers as signed ones; the lowest bits leave room to count on.
    pub(super) fn new(nonce: u64) -> Self {
        Self { number: nonce >> 16 << 8, ..Self::default() }
    }
}
