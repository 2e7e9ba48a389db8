//! Actions of a world: what a caller, a host, QEMU and the clock can do to a machine.

use core::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use qemu_machine_core::{
    Address, Config, Deadline, Descriptor, Dialect, ExitStatus, FOREVER, HostFault, Input, Limits, Monitor, Peer,
    Shutdown,
};

/// Choices before the first action.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Setup {
    pub(super) way: Way,
    pub(super) autostart: bool,
    pub(super) offers_out_of_band: bool,
    /// Few worlds would have a ready machine by chance, so most begin with one.
    coldness: u8,
    /// Whether the host and QEMU may break the rules. In a world where neither may, every answer is predicted.
    pub(super) is_odd: bool,
    pub(super) ending: Ending,
}

/// What ends a run that the actions have not ended.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(super) enum Ending {
    Caller,
    /// QEMU exits with this code, and may have reported before that the virtual machine shuts down for this reason.
    Qemu(Option<Reason>, u8),
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
        self.coldness >= 32
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
                let config = ours().guest_agent().qtest().add_fd(Descriptor::new(()), 3, "x").keep_fds();
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
    (limits.message, limits.events, limits.console, limits.commands) = (190, 1800, 20, 20);
    (limits.subscription, limits.subscriptions, limits.waits, limits.console_input) = (700, 3, 8, 30);
    limits
}

/// One thing that happens. A number chooses among those that exist, cyclically.
#[derive(Clone, Debug)]
pub(crate) enum Action<'a> {
    Launch,
    /// The caller executes commands, one right after the other.
    Execute(Vec<(How, Within)>),
    Disown(u8),
    Wait(Vec<Thing>, Within),
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
    /// The socket of the monitor accepts this many bytes, and QEMU reads them; `None` means all. Then it accepts all
    /// that is outgoing on the consoles.
    Send(Option<u8>),
    Greet,
    /// QEMU sends messages at once, which are received in pieces of this size.
    Talk(Vec<Message>, usize),
    /// QEMU, or another peer, sends something that it must not send.
    Garble(Garbage<'a>),
    Pass(u8),
    PassToDeadline,
    /// The host completes all effects, and QEMU answers everything, until nothing is left to do.
    Serve,
}

/// A message of QEMU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// The answer of a command that QEMU has read: success, or an error.
    Reply(u8, bool),
    Event(Happening),
}

/// What happens in a world is chosen by weight. A command mostly meets others in flight, and an event several waits; an
/// end comes once in 25 actions, since it answers all commands and waits at once, and so hides a wrong answer.
impl<'a> Arbitrary<'a> for Action<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? {
            0..=47 => Self::Execute(list(u, 5)?),
            48..=79 => Self::Send(u.choose(&[None, None, None, Some(1), Some(30), Some(200)]).copied()?),
            80..=127 => Self::Talk(list(u, 6)?, *u.choose(&[usize::MAX, 40, 7])?),
            128..=159 => Self::Wait(list(u, 3)?, u.arbitrary()?),
            160..=171 => Self::Print(u.choose(&[b"ok".as_slice(), b"o", b"k", b"no\n", b"a line of output"])?),
            172 => Self::Print(u.arbitrary()?),
            173..=178 => Self::Mark,
            179..=184 => Self::NextEvent,
            185..=188 => Self::Subscribe,
            189..=190 => Self::Unsubscribe,
            191..=194 => Self::Disown(u.arbitrary()?),
            195..=197 => Self::DisownWait(u.arbitrary()?),
            198..=200 => Self::Write(u.arbitrary()?),
            201..=206 => Self::Pass(*u.choose(&[0, 1, 2, 5, 9, 17, 40, 63])?),
            207..=209 => Self::PassToDeadline,
            210..=217 => Self::Serve,
            218..=223 => Self::Complete(u.arbitrary()?, Ok(())),
            224 => Self::Complete(u.arbitrary()?, Err(u.arbitrary()?)),
            225..=227 => Self::Greet,
            228..=232 => Self::Launch,
            233..=239 => Self::Garble(u.arbitrary()?),
            240..=245 => Self::Stray(u.arbitrary()?),
            246..=247 => Self::Shutdown(u.arbitrary()?),
            248 => Self::Kill,
            249 => Self::Disconnect,
            250 => Self::Detach,
            251 => Self::Abandon,
            252 => Self::KillOrDisconnect,
            253..=254 => Self::Exit(u.arbitrary()?),
            255 => Self::Close(u.arbitrary()?),
        })
    }
}

/// Returns one element or more, up to `most`.
fn list<'a, T: Arbitrary<'a>>(u: &mut Unstructured<'a>, most: u8) -> Result<Vec<T>> {
    (0..u.int_in_range(1..=most)?).map(|_| u.arbitrary()).collect()
}

impl<'a> Arbitrary<'a> for Message {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? {
            0..=127 => Self::Reply(u.arbitrary()?, true),
            128..=151 => Self::Reply(u.arbitrary()?, false),
            152..=255 => Self::Event(u.arbitrary()?),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    OutOfBand,
    Raw,
    Quit,
    PowerDown,
    WithDescriptor,
    OutOfBandWithDescriptor,
    QtestLine,
}

impl<'a> Arbitrary<'a> for How {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? {
            0..=127 => Self::Plain,
            128..=167 => Self::OutOfBand,
            168..=207 => Self::Raw,
            208..=227 => Self::WithDescriptor,
            228..=239 => Self::OutOfBandWithDescriptor,
            240..=244 => Self::Quit,
            245..=249 => Self::PowerDown,
            250..=255 => Self::QtestLine,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Within {
    Forever,
    Seconds(u8),
}

impl<'a> Arbitrary<'a> for Within {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let seconds = u.arbitrary::<u8>()?;
        Ok(if seconds < 32 { Self::Seconds(seconds) } else { Self::Forever })
    }
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
            Self::Seconds(seconds) => Duration::from_secs(u64::from(seconds)).into(),
        }
    }
}

/// A thing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Stop,
    /// A `RESET` whose number has this remainder when divided by [`KINDS`].
    ResetOf(u64),
    AnyEvent,
    Text,
    End,
    /// The latest subscription.
    Queued,
}

/// The divisor of the numbers of events, whose remainder is in the data of each.
pub(super) const KINDS: u64 = 3;

impl<'a> Arbitrary<'a> for Thing {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        const ALL: [Thing; 10] = [
            Thing::Stop,
            Thing::ResetOf(0),
            Thing::ResetOf(1),
            Thing::ResetOf(2),
            Thing::Text,
            Thing::Text,
            Thing::End,
            Thing::Queued,
            Thing::Stop,
            Thing::AnyEvent,
        ];
        u.choose(&ALL).copied()
    }
}

/// The reason for which a virtual machine shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason(pub(super) &'static str);

impl<'a> Arbitrary<'a> for Reason {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // Members of QEMU's `ShutdownCause` (QEMU, `qapi/run-state.json`).
        const ALL: [&str; 6] =
            ["guest-shutdown", "guest-reset", "guest-panic", "host-qmp-quit", "host-signal", "host-ui"];
        u.choose(&ALL).map(|reason| Self(reason))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Stop,
    Shutdown(Reason),
    Reset,
    Panic,
    PowerDown,
}

impl<'a> Arbitrary<'a> for Happening {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? {
            0..=99 => Self::Stop,
            100..=199 => Self::Reset,
            200..=219 => Self::Shutdown(u.arbitrary()?),
            220..=239 => Self::Panic,
            240..=255 => Self::PowerDown,
        })
    }
}

impl Happening {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::Reset => "RESET",
            Self::Panic => "GUEST_PANICKED",
            Self::PowerDown => "POWERDOWN",
        }
    }

    /// Returns the data of the event with this number, by which it differs from all others.
    pub(super) fn data(self, number: u64) -> String {
        let own = match self {
            Self::Shutdown(Reason(reason)) => format!(", \"guest\": true, \"reason\": \"{reason}\""),
            Self::Panic => ", \"action\": \"pause\"".into(),
            Self::Stop | Self::Reset | Self::PowerDown => String::new(),
        };
        format!("{{\"number\": {number}, \"kind\": {}{own}}}", number % KINDS)
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
