//! Pending command: what a session knows of a command without a reply, apart from its bytes.

use core::fmt;

use crate::command::{Band, CommandId, CommandTraits};
use crate::time::Moment;

/// A command without a reply, apart from its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingCommand {
    pub(super) owner: Owner,
    pub(super) band: Band,
    pub(super) kind: CommandTraits,
    pub(super) deadline: Option<Moment>,
    /// When half of its time is over. `None` means that it has no deadline.
    pub(super) half: Option<Moment>,
    /// Whether a descriptor goes with it. QEMU keeps only the descriptors that it received last (QEMU,
    /// `chardev/char-socket.c`, `tcp_chr_recv`), so the next such command waits until this one is over. Otherwise the
    /// first command gets the second descriptor, and the second none (measured with QEMU 7.2.22).
    pub(super) carries: bool,
    /// The number of the command on this connection, in the order of issuing.
    pub(super) number: u64,
}

/// The owner of a command, which receives its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The session itself.
    Handshake {
        /// Whether it asked for out-of-band execution.
        out_of_band: bool,
    },
    /// The session itself, to start the guest.
    Startup,
    /// The shutdown ladder.
    Ladder,
    /// The session itself, for a heartbeat.
    Probe,
    /// The caller that holds the ticket.
    Caller(CommandId),
    /// No owner: the caller disowned the command, or its deadline passed. The id stays in use until the reply arrives,
    /// so that the late reply reaches no other caller.
    Disowned,
    /// The reply was unreadable. The id stays in use until a later in-band reply proves that the command is over.
    Unmatched,
}

/// Leaves out the number, which only tells commands apart.
impl fmt::Debug for PendingCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, band, kind, deadline, half, carries, number: _ } = self;
        let mut entry = f.debug_struct("PendingCommand");
        entry.field("owner", owner).field("band", band).field("kind", kind);
        entry.field("deadline", deadline).field("half", half).field("carries", carries).finish()
    }
}

impl Default for PendingCommand {
    fn default() -> Self {
        let (owner, band, kind) = (Owner::Disowned, Band::InBand, CommandTraits::default());
        Self { owner, band, kind, deadline: None, half: None, carries: false, number: 0 }
    }
}

impl PendingCommand {
    /// Returns whether QEMU may hold the command: it is not known to be over.
    fn is_at_work(&self) -> bool {
        self.owner != Owner::Unmatched
    }

    /// Returns whether QEMU may hold the command in its queue of in-band commands.
    pub(super) fn takes_a_place(&self) -> bool {
        self.band == Band::InBand && self.is_at_work()
    }

    /// Returns whether QEMU may still need the descriptor that goes with it.
    pub(super) fn needs_descriptor(&self) -> bool {
        self.carries && self.is_at_work()
    }
}
