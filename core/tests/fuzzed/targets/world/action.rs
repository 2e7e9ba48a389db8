//! Actions of a world: what a caller, a host, QEMU and the clock can do to a machine.

use core::time::Duration;

use arbitrary::Arbitrary;
use qemu_machine_core::{
    Address, Config, Deadline, Descriptor, Dialect, ExitStatus, FOREVER, HostFault, Input, Limits, Monitor, Peer,
    Shutdown,
};

/// What is chosen before the first action.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Setup {
    pub(super) way: Way,
    pub(super) autostart: bool,
    pub(super) offers_out_of_band: bool,
    /// Few worlds would have a ready machine by chance, so most begin with one.
    starts_cold: bool,
    /// Whether the host and QEMU may break the rules. In a world where neither may, every answer is predicted.
    pub(super) is_odd: bool,
}

/// How the machine gets its monitor, and which protocol it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub(crate) enum Way {
    Inherited,
    WithServices,
    Socket,
    At,
    WithoutMonitor,
    /// The machine outlives its parent.
    Outliving,
    Dialled,
    Listening,
    Connected,
    GuestAgent,
    Qtest,
}

impl Setup {
    pub(super) fn begins_ready(&self) -> bool {
        !self.starts_cold
    }

    pub(super) fn config(&self) -> Config {
        let (path, given) = (|| Address::unix("/m"), || Peer::Connected(Descriptor::new(())));
        let ours = || {
            let config = Config::new("qemu").serial("tty");
            if self.autostart { config.autostart() } else { config }
        };
        let config = match self.way {
            Way::Inherited => ours().arg("isa-debug-exit"),
            Way::WithServices => {
                let config = ours().guest_agent().qtest().add_fd(Descriptor::new(()), 3, "x");
                config.console_log("tty", "/l").log_limit(1 << 16)
            }
            Way::Socket => ours().monitor(Monitor::Socket),
            Way::At => ours().monitor(Monitor::At(path())),
            Way::WithoutMonitor => ours().without_monitor(),
            Way::Outliving => ours().outlive_parent(),
            Way::Dialled => Config::attach(Peer::Dial(path())),
            Way::Listening => Config::attach(Peer::Listen(path())),
            Way::Connected => Config::attach(given()),
            Way::GuestAgent => Config::attach(given()).speaking(Dialect::GuestAgent),
            Way::Qtest => Config::attach(given()).speaking(Dialect::Qtest),
        };
        config.limits(limits()).recorded()
    }
}

impl Way {
    /// Returns whether another program launched the machine.
    pub(super) fn is_attached(self) -> bool {
        matches!(self, Self::Dialled | Self::Listening | Self::Connected | Self::GuestAgent | Self::Qtest)
    }

    pub(super) fn speaks_qmp(self) -> bool {
        !matches!(self, Self::WithoutMonitor | Self::GuestAgent | Self::Qtest)
    }
}

/// Limits that a short world exceeds.
pub(super) fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.message, limits.events, limits.console, limits.commands) = (190, 600, 20, 20);
    (limits.subscription, limits.subscriptions, limits.waits, limits.console_input) = (450, 3, 6, 30);
    limits
}

/// One thing that happens. A number chooses among those that exist, cyclically.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) enum Action<'a> {
    Launch,
    Execute(How, Within),
    Disown(u8),
    Wait([Option<Thing>; 3], Within),
    DisownWait(u8),
    Mark,
    Subscribe,
    Unsubscribe,
    NextEvent,
    Write(&'a str),
    Shutdown(Shutdown),
    Kill,
    Disconnect,
    Detach,
    Abandon,
    KillOrDisconnect,
    /// The host completes an outstanding effect: with success, or with a fault.
    Complete(u8, Result<(), HostFault>),
    /// The process ends, if it lives.
    Exit(ExitStatus),
    /// An open channel reaches its end.
    Close(u8),
    Print(&'a [u8]),
    /// The host reports anything, also what cannot be.
    Stray(Input<'a>),
    /// The socket of the monitor accepts this many bytes, and QEMU reads them. Then it accepts all that is outgoing on
    /// the consoles.
    Send(u8),
    Greet,
    /// QEMU answers a command that it has read: with success, or with an error.
    Reply(u8, bool),
    Event(Happening),
    /// QEMU, or another peer, sends something that it must not send.
    Garble(Garbage<'a>),
    Pass(u8),
    PassToDeadline,
    /// The host completes all effects, and QEMU answers everything, until nothing is left to do.
    Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub(crate) enum How {
    Plain,
    OutOfBand,
    Raw,
    Quit,
    PowerDown,
    WithDescriptor,
    OutOfBandWithDescriptor,
    Line,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Within {
    Forever,
    Seconds(u8),
}

impl How {
    pub(super) fn is_out_of_band(self) -> bool {
        matches!(self, Self::OutOfBand | Self::OutOfBandWithDescriptor)
    }
}

impl Within {
    pub(super) fn deadline(self) -> Deadline {
        match self {
            Self::Forever => FOREVER,
            Self::Seconds(seconds) => Duration::from_secs(u64::from(seconds % 32)).into(),
        }
    }
}

/// A thing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub(crate) enum Thing {
    Stop,
    AnyEvent,
    Text,
    End,
    /// The latest subscription.
    Queued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub(crate) enum Happening {
    Stop,
    Shutdown,
    Reset,
    Panic,
    PowerDown,
}

impl Happening {
    pub(super) fn line(self) -> &'static str {
        match self {
            Self::Stop => r#"{"event": "STOP", "data": {"a": 1}}"#,
            Self::Shutdown => r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
            Self::Reset => r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#,
            Self::Panic => r#"{"event": "GUEST_PANICKED", "data": {"action": "pause"}}"#,
            Self::PowerDown => r#"{"event": "POWERDOWN"}"#,
        }
    }
}

#[derive(Clone, Debug, Arbitrary)]
pub(crate) enum Garbage<'a> {
    Bytes(&'a [u8]),
    Line(u8),
    /// A reply with any id.
    Reply(u8),
    TooLong,
}

impl Garbage<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        const LINES: [&str; 8] = [
            r#"{"return": {}}"#,
            r#"{"error": {"class": "C", "desc": "nameless"}}"#,
            "garbage",
            "OK 0x1",
            "FAIL no",
            "IRQ raise 3",
            "{\"torn\": \"",
            "[[[[[[[[[[[[[[[[]",
        ];
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Line(which) => format!("{}\r\n", LINES[usize::from(*which) % LINES.len()]).into_bytes(),
            Self::Reply(id) => format!("{{\"return\": {{}}, \"id\": {}}}\r\n", id % 32).into_bytes(),
            Self::TooLong => [&[b'x'; 200][..], b"\r\n"].concat(),
        }
    }
}
