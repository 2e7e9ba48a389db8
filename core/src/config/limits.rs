//! Decides the bounds of what is kept in memory.

/// The bounds of what is kept in memory, each with what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// One message of the monitor, in bytes: 64 MiB, the bound of QEMU's own parser. Beyond it the message is
    /// skipped, and the oldest command fails with [`ProtocolError::TooLarge`](crate::ProtocolError::TooLarge).
    pub message: usize,
    /// The past events, in bytes of memory, each with its [`OVERHEAD`](crate::Event::OVERHEAD): 1 MiB is some three
    /// thousand. Beyond it the oldest are forgotten and counted.
    pub events: usize,
    /// The queue of one subscription, in bytes of memory as well: as much as the history, so that a subscription may begin
    /// with all of it. Beyond it the oldest events are dropped and counted, for that subscription alone.
    pub subscription: usize,
    /// Subscriptions at once: 64 full queues are as much as one message may be. Each looks at every event. Beyond it,
    /// a new one is refused.
    pub subscriptions: usize,
    /// The output of one console, in bytes: 1 MiB is a long boot. Beyond it the oldest bytes are forgotten and
    /// counted.
    pub console: usize,
    /// What waits to be typed on one console, in bytes. Beyond it, typing is refused.
    pub console_input: usize,
    /// Commands that wait for their reply or for its being claimed. Beyond it, commands are refused.
    pub commands: usize,
    /// Waits that are pending, or over and not claimed. Beyond it, waits are refused.
    pub waits: usize,
    /// The end of the log and of each console in an outcome, in bytes: what fits on a few screens.
    pub last_words: usize,
    /// How many bytes of a record are kept, if there is [one](crate::Config::recorded): 4 MiB. A launch with its negotiation
    /// takes some kilobytes, a command with its answer a few hundred bytes.
    #[cfg(feature = "record")]
    pub record: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 64 << 20,
            events: 1 << 20,
            subscription: 1 << 20,
            subscriptions: 64,
            console: 1 << 20,
            console_input: 1 << 20,
            commands: 10_000,
            waits: 10_000,
            last_words: 8 << 10,
            #[cfg(feature = "record")]
            record: 4 << 20,
        }
    }
}
