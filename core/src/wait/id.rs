//! Ids of waits.

/// Id of a wait, never used twice. It claims the result ([`claim_wait`](crate::Machine::claim_wait)), or disowns the
/// wait ([`disown_wait`](crate::Machine::disown_wait)). A wait that is neither claimed nor disowned counts towards
/// [`Limits::waits`](crate::Limits::waits).
#[must_use = "a wait that is neither claimed nor disowned is kept"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub(crate) u64);
