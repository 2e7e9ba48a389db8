//! Ids of waits.

/// Id of a wait, never used twice: claim with it what the wait found, or disown the wait.
#[must_use = "a wait that is neither claimed nor disowned is kept"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub(crate) u64);
