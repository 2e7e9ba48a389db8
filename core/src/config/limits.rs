//! Limits of a machine: how much it keeps in memory, and what happens beyond each bound.

/// Limits on the memory that a machine keeps. Sizes are in bytes. Set single ones on [`Limits::default`].
///
/// Each kind of loss has a count:
///
/// | dropped | count |
/// |---|---|
/// | events and console output that the history evicted before a wait could search them | [`Hit::missed`](crate::Hit::missed) |
/// | events that did not fit the queue of a subscription | `missed` of the subscription ([`Machine::missed_events`](crate::Machine::missed_events)) |
/// | events that were evicted between the mark of a subscription and its start | `evicted` of the subscription ([`Machine::evicted_events`](crate::Machine::evicted_events)) |
/// | replies that are late, and messages that are unreadable or too large | [`Counters`](crate::session::Counters) |
///
/// Sizes count the memory that is kept, so that small data which arrived together with large data costs no more. With
/// the defaults these are at most 1 MiB of events, 1 MiB for each subscription, and for each console 1 MiB of
/// output and 1 MiB of input. A message that is still incomplete takes up to 64 MiB, and results that no caller has
/// claimed take what they contain. QEMU's log is a file; by default its size is not bounded: see
/// [`Config::log_limit`](crate::Config::log_limit).
///
/// ```
/// use qemu_machine_core::{Config, Limits};
///
/// let mut limits = Limits::default();
/// limits.console = 8 << 20;
/// let config = Config::new("qemu-system-x86_64").limits(limits);
/// # assert!(config.command_line().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Size of one message from the monitor. Default: 64 MiB, as much as QEMU accepts in a command (QEMU,
    /// `qobject/json-streamer.c`, `MAX_TOKEN_SIZE`); what QEMU sends has no bound. A larger message is skipped and
    /// counted. Its content is unknown, so it is taken for the reply to the oldest command without one, which fails
    /// with [`ProtocolError::TooLarge`](crate::ProtocolError::TooLarge). If the message was an event, that command
    /// fails wrongly, and its own reply is counted as late.
    pub message: usize,
    /// Size of the event history, each event with its [`OVERHEAD`](crate::Event::OVERHEAD). Default: 1 MiB, which is
    /// about three thousand events. Beyond it the oldest events are evicted and counted.
    pub events: usize,
    /// Size of the largest event that the history keeps, counted as [`events`](Self::events). Default: 64 KiB; QEMU's own
    /// have a few hundred bytes, or some kilobytes. A larger event still reaches the waits that are pending and the
    /// subscriptions that exist when it arrives. A later wait from a mark before it counts it as missed.
    pub event: usize,
    /// Size of the queue of one subscription, counted as [`events`](Self::events). Default: 1 MiB, so that a new
    /// subscription can hold the whole history. Beyond it the oldest events are dropped and counted, in this
    /// subscription only.
    pub subscription: usize,
    /// Number of subscriptions that exist at once. Default: 64, which is 64 MiB if all queues are full. Every event is
    /// matched against each of them. A further subscription is refused with
    /// [`Misuse::TooManySubscriptions`](crate::Misuse::TooManySubscriptions).
    pub subscriptions: usize,
    /// Size of the kept output of one console. Default: 1 MiB, which is a long boot. Beyond it the oldest bytes are
    /// evicted and counted.
    pub console: usize,
    /// Size of the input that is queued for one console. Default: 1 MiB. Further input is refused with
    /// [`Misuse::ConsoleInputFull`](crate::Misuse::ConsoleInputFull).
    pub console_input: usize,
    /// Number of commands without a reply, or with a reply that is not claimed yet. Default: 10,000. There is no limit
    /// on the size of all of them together. A further command is refused with
    /// [`Misuse::TooManyCommands`](crate::Misuse::TooManyCommands).
    pub commands: usize,
    /// Number of waits that are pending, or complete and not claimed yet. Default: 10,000. A further wait is refused
    /// with [`Misuse::TooManyWaits`](crate::Misuse::TooManyWaits). A wait for the end alone is never refused.
    pub waits: usize,
    /// Size of the end of each console in an [`Outcome`](crate::Outcome). Default: 8 KiB, which is a few screens.
    pub last_words: usize,
    /// Size of the end of the log in an [`Outcome`](crate::Outcome), and so in the error of a launch, and of the log of each
    /// [companion](crate::Config::companion). Default: 8 KiB. With
    /// `usize::MAX` it is the whole log, however large the process made it: [`Config::log_limit`](crate::Config::log_limit)
    /// bounds that. Of a log that is [followed](crate::Config::follow_log), [`console`](Self::console) bytes are kept.
    pub log: usize,
    /// Size of a record, if the machine is [recorded](crate::Config::recorded). Default: 4 MiB. A launch with its
    /// negotiation takes some kilobytes, a command with its reply a few hundred bytes.
    #[cfg(feature = "record")]
    pub record: usize,
}

impl Limits {
    /// Default of [`last_words`](Self::last_words) and of [`log`](Self::log).
    pub(crate) const LAST_WORDS: usize = 8 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 64 << 20,
            events: 1 << 20,
            event: 64 << 10,
            subscription: 1 << 20,
            subscriptions: 64,
            console: 1 << 20,
            console_input: 1 << 20,
            commands: 10_000,
            waits: 10_000,
            last_words: Self::LAST_WORDS,
            log: Self::LAST_WORDS,
            #[cfg(feature = "record")]
            record: 4 << 20,
        }
    }
}
