//! Scripts for the scripted QEMU, which misbehaves in ways that a real QEMU does not.
//!
//! The program `scripted-qemu` has the actions of its script as arguments, after [`SCRIPT`], and plays them on the
//! monitor that it inherits like every QEMU. A shell wrapper finds the monitor's descriptor on the command line and
//! makes it the standard input, because using a descriptor by its number is `unsafe` in Rust.

use qemu_machine_core::Config;

/// The greeting of the scripted QEMU (`docs/interop/qmp-spec.rst`, Server Greeting).
pub const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 3, "minor": 2, "major": 9}, "package": "scripted"}, "#,
    r#""capabilities": ["oob"]}}"#,
    "\r\n"
);

/// The argument before the actions.
pub const SCRIPT: &str = "--script";

/// The placeholder in the texts of a script for the id of the oldest command without a reply.
pub const ID: &str = "$id";

/// A shell script that runs the program in `$1` with the monitor as its standard input, and with no other descriptor of
/// the monitor, so that the program can close it. A program that must dial its monitor gets `/dev/null`. Core dumps are
/// off, because some scripts abort.
const WRAPPER: &str = r#"
for argument; do
    case $argument in socket,fd=*,id=mon) descriptor=${argument#socket,fd=}; descriptor=${descriptor%%,*} ;; immune) trap '' TERM ;; esac
done
ulimit -c 0
[ -n "$descriptor" ] || exec "$@" </dev/null
exec "$@" <&"$descriptor" {descriptor}>&-
"#;

/// An action of the program. After the last action it exits with 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes this text to the monitor, without a line end. [`ID`] is replaced by the id of a command.
    Say(String),
    /// Writes this text so many times, as [`Say`](Self::Say) does.
    Repeat(usize, String),
    /// Writes this text with one write for each byte.
    Drip(String),
    /// Writes these bytes to the monitor, unchanged.
    Bytes(Vec<u8>),
    /// Reads one whole command.
    Hear,
    /// Replies to the oldest command without a reply, with this value of `return`.
    Reply(String),
    /// Replies to that command with a `GenericError` of this description.
    Refuse(String),
    /// Leaves that command without a reply.
    Ignore,
    /// Writes this line to the standard error.
    Print(String),
    /// Writes so many lines to the standard error and to the standard output.
    Rant(usize),
    /// Writes so many kilobytes that are not UTF-8, without a line feed, to both.
    Rave(usize),
    /// Ignores SIGTERM from the start on. The wrapper sets this.
    Immune,
    /// Replies to all commands with `{}`, and exits with 0 after `quit` or at the end of the monitor.
    Obey,
    /// Closes the monitor, and continues.
    HangUp,
    /// Closes the monitor with unread input, which resets the connection, and continues.
    Reset,
    /// Starts a child that holds the monitor open and writes nothing, and continues.
    Bequeath,
    /// Reads the monitor to its end, without replies.
    Linger,
    /// Does nothing more until it is killed.
    Stall,
    /// Aborts with SIGABRT.
    Abort,
    /// Exits with this code.
    Exit(i32),
}

impl Action {
    fn argument(&self) -> String {
        match self {
            Self::Say(text) => format!("say:{text}"),
            Self::Repeat(times, text) => format!("repeat:{times}:{text}"),
            Self::Drip(text) => format!("drip:{text}"),
            Self::Bytes(bytes) => {
                format!("bytes:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            Self::Hear => "hear".into(),
            Self::Reply(value) => format!("reply:{value}"),
            Self::Refuse(description) => format!("refuse:{description}"),
            Self::Ignore => "ignore".into(),
            Self::Print(line) => format!("print:{line}"),
            Self::Rant(lines) => format!("rant:{lines}"),
            Self::Rave(kilobytes) => format!("rave:{kilobytes}"),
            Self::Immune => "immune".into(),
            Self::Obey => "obey".into(),
            Self::HangUp => "hang-up".into(),
            Self::Reset => "reset".into(),
            Self::Bequeath => "bequeath".into(),
            Self::Linger => "linger".into(),
            Self::Stall => "stall".into(),
            Self::Abort => "abort".into(),
            Self::Exit(code) => format!("exit:{code}"),
        }
    }

    /// Parses an argument; `None` means that it is no action.
    #[must_use]
    pub fn parse(argument: &str) -> Option<Self> {
        let (name, rest) = argument.split_once(':').unwrap_or((argument, ""));
        Some(match name {
            "say" => Self::Say(rest.into()),
            "repeat" => {
                let (times, text) = rest.split_once(':')?;
                Self::Repeat(times.parse().ok()?, text.into())
            }
            "drip" => Self::Drip(rest.into()),
            "bytes" => Self::Bytes(unhex(rest)?),
            "hear" => Self::Hear,
            "reply" => Self::Reply(rest.into()),
            "refuse" => Self::Refuse(rest.into()),
            "ignore" => Self::Ignore,
            "print" => Self::Print(rest.into()),
            "rant" => Self::Rant(rest.parse().ok()?),
            "rave" => Self::Rave(rest.parse().ok()?),
            "immune" => Self::Immune,
            "obey" => Self::Obey,
            "hang-up" => Self::HangUp,
            "reset" => Self::Reset,
            "bequeath" => Self::Bequeath,
            "linger" => Self::Linger,
            "stall" => Self::Stall,
            "abort" => Self::Abort,
            "exit" => Self::Exit(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// Decodes hexadecimal digits: an argument cannot hold a NUL byte, and must be UTF-8 here.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at| text.get(at..at + 2);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(digits(at)?, 16).ok()).collect()
}

/// The actions of a scripted QEMU, from its start to its end.
///
/// ```
/// use qemu_machine_tests::scripted::Script;
///
/// let config = Script::new().greet().hear().print("no more").exit(3).config("target/debug/scripted-qemu");
/// assert!(config.command_line().is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<Action>);

impl Script {
    /// Returns a script without actions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a script with the greeting and the negotiation, as every successful launch has them.
    #[must_use]
    pub fn launched() -> Self {
        Self::new().greet().hear().reply("{}")
    }

    /// Returns the actions in order.
    #[must_use]
    pub fn actions(&self) -> &[Action] {
        &self.0
    }

    /// Appends an action.
    #[must_use]
    pub fn then(mut self, action: Action) -> Self {
        self.0.push(action);
        self
    }

    /// Appends all actions of another script.
    #[must_use]
    pub fn and(mut self, behind: Self) -> Self {
        self.0.extend(behind.0);
        self
    }

    /// [`Action::Say`] with [`GREETING`].
    #[must_use]
    pub fn greet(self) -> Self {
        self.say(GREETING)
    }

    /// [`Action::Say`].
    #[must_use]
    pub fn say(self, text: &str) -> Self {
        self.then(Action::Say(text.into()))
    }

    /// [`Action::Say`] as a line.
    #[must_use]
    pub fn line(self, text: &str) -> Self {
        self.say(&format!("{text}\r\n"))
    }

    /// [`Action::Repeat`].
    #[must_use]
    pub fn repeat(self, times: usize, text: &str) -> Self {
        self.then(Action::Repeat(times, text.into()))
    }

    /// [`Action::Drip`].
    #[must_use]
    pub fn drip(self, text: &str) -> Self {
        self.then(Action::Drip(text.into()))
    }

    /// [`Action::Bytes`].
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.then(Action::Bytes(bytes.into()))
    }

    /// [`Action::Say`] with an event that has no data.
    #[must_use]
    pub fn event(self, name: &str) -> Self {
        let timestamp = r#"{"seconds": 1, "microseconds": 2}"#;
        self.say(&format!("{{\"timestamp\": {timestamp}, \"event\": \"{name}\"}}\r\n"))
    }

    /// [`Action::Hear`].
    #[must_use]
    pub fn hear(self) -> Self {
        self.then(Action::Hear)
    }

    /// [`Action::Reply`].
    #[must_use]
    pub fn reply(self, value: &str) -> Self {
        self.then(Action::Reply(value.into()))
    }

    /// [`Action::Refuse`].
    #[must_use]
    pub fn refuse(self, description: &str) -> Self {
        self.then(Action::Refuse(description.into()))
    }

    /// [`Action::Ignore`].
    #[must_use]
    pub fn ignore(self) -> Self {
        self.then(Action::Ignore)
    }

    /// [`Action::Print`].
    #[must_use]
    pub fn print(self, line: &str) -> Self {
        self.then(Action::Print(line.into()))
    }

    /// [`Action::Obey`].
    #[must_use]
    pub fn obey(self) -> Self {
        self.then(Action::Obey)
    }

    /// [`Action::HangUp`].
    #[must_use]
    pub fn hang_up(self) -> Self {
        self.then(Action::HangUp)
    }

    /// [`Action::Stall`].
    #[must_use]
    pub fn stall(self) -> Self {
        self.then(Action::Stall)
    }

    /// [`Action::Abort`].
    #[must_use]
    pub fn abort(self) -> Self {
        self.then(Action::Abort)
    }

    /// [`Action::Exit`].
    #[must_use]
    pub fn exit(self, code: i32) -> Self {
        self.then(Action::Exit(code))
    }

    /// Returns the configuration that launches this script. Integration tests find the program under
    /// `env!("CARGO_BIN_EXE_scripted-qemu")`. The heartbeat is off, so that the script reads only the commands of its
    /// story.
    #[must_use]
    pub fn config(&self, program: &str) -> Config {
        Config::new(program)
            .autostart()
            .wrapper(["bash", "-c", WRAPPER, "bash"])
            .launch_within(crate::PATIENCE / 2)
            .without_heartbeat()
            .args(self.arguments())
    }

    /// Returns the arguments of the program, for tests that start it themselves, with the monitor as its standard
    /// input.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        [SCRIPT.into()].into_iter().chain(self.0.iter().map(Action::argument)).collect()
    }
}
