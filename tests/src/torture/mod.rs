//! Peers that misbehave, each with the transcript that a client must report.
//!
//! The client's procedure is the same for all ([`Step`]), so that only the peer makes two transcripts differ. The
//! client's deadlines are long, but for the steps at which the peer does not answer.

mod bytes;
mod deaths;
mod ends;
mod events;
mod handshake;
mod heavy;
mod replies;
mod stalls;

use std::time::Duration;

use qemu_machine_core::Config;

pub use deaths::{in_a_reply, in_an_event, in_the_handshake};

use crate::scripted::Script;

/// The event that the client waits for. Most peers send it after their misbehaviour. It is an event of QEMU, as are all
/// events here that are not meant to be unknown: some clients know no others.
pub const DONE: &str = "RESUME";

/// The deadline of a step at which the peer does not answer.
pub const SHORT: Duration = Duration::from_millis(50);

/// A step of the client, in this order. Once the connection is lost, the client sends no more commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client launches the peer.
    Launch,
    /// The client sends `first`, and reads the reply.
    First,
    /// The client sends `second` as a raw command, and reads the reply.
    Second,
    /// The client waits for [`DONE`], which may have arrived before.
    Event,
    /// The client sends `last`, and reads the reply.
    Last,
    /// The client shuts the peer down: `quit`, then SIGTERM, then SIGKILL.
    Shutdown,
}

/// A peer that misbehaves.
#[derive(Clone, Debug)]
pub struct Torture {
    /// The name of the story. It begins with the number of the promise that the story tests, if there is one.
    pub name: &'static str,
    /// A description of the misbehaviour, in one sentence.
    pub plays: &'static str,
    /// The script of the peer.
    pub script: Script,
    /// The transcript that a client must report, one line for each thing that happens.
    pub tells: Vec<String>,
    /// The steps with a short deadline, and that deadline.
    impatient: Vec<(Step, Duration)>,
    /// The name of the first command. A name of a megabyte does not fit into the buffer of a socket.
    first: String,
    with: fn(Config) -> Config,
}

/// The end of the transcript of a peer that ends on `quit`.
const QUIT: [&str; 2] = ["end: ended by the caller (quit)", "end: exit status 0"];
/// The end of the transcript of a peer that SIGTERM has to end.
const TERMINATED: [&str; 2] = ["end: ended by the caller (SIGTERM)", "end: signal 15 (SIGTERM)"];
/// The end of the transcript of a running peer whose launch fails.
const KILLED: [&str; 2] = ["end: killed because its launch had failed", "end: signal 9 (SIGKILL)"];
const SECOND: &str = r#"reply: {"return":2}"#;
const HAPPENED: &str = "event: RESUME";
const LAST: &str = "reply: {}";
const LATE: &str = "no reply within the deadline, after the command was sent";
const LOST: &str = "the monitor was closed after the command was sent";
const BROKEN: &str = "broken: not a QMP message";

impl Torture {
    fn new(name: &'static str, plays: &'static str, script: Script) -> Self {
        let first = "first".into();
        Self { name, plays, script, tells: Vec::new(), impatient: Vec::new(), first, with: |config| config }
    }

    /// A peer that misbehaves at its first command, and then behaves. The first line of `told` is the result of that
    /// command; the others precede the end.
    fn once(name: &'static str, plays: &'static str, misbehaviour: Script, told: &[&str]) -> Self {
        let script = Script::launched().hear().and(misbehaviour).hear().reply("2").event(DONE).obey();
        let (first, counted) = told.split_first().map_or(("", &[][..]), |(first, counted)| (*first, counted));
        let before = ["launched", first, SECOND, HAPPENED, LAST];
        Self::new(name, plays, script).tells(&[&before, counted, &QUIT].concat())
    }

    /// A peer that misbehaves instead of its greeting, and then does nothing until it is killed.
    fn instead_of_greeting(name: &'static str, plays: &'static str, script: Script, failure: &str) -> Self {
        let told = format!("not launched: {failure}");
        Self::new(name, plays, script.then(crate::scripted::Action::Stall)).tells(&[&[&*told], &KILLED[..]].concat())
    }

    fn tells(mut self, lines: &[&str]) -> Self {
        self.tells = lines.iter().map(ToString::to_string).collect();
        self
    }

    fn impatient(mut self, steps: &[Step]) -> Self {
        self.impatient.extend(steps.iter().map(|step| (*step, SHORT)));
        self
    }

    /// Sets the deadline of the launch. It must be long enough for the peer to start.
    fn launched_within(mut self, limit: Duration) -> Self {
        self.impatient.push((Step::Launch, limit));
        self
    }

    fn first_is(mut self, command: &str) -> Self {
        self.first = command.into();
        self
    }

    fn with(mut self, with: fn(Config) -> Config) -> Self {
        self.with = with;
        self
    }

    /// Returns the name of the first command.
    #[must_use]
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Returns the short deadline of a step; `None` means that the client uses its long one.
    #[must_use]
    pub fn patience(&self, step: Step) -> Option<Duration> {
        self.impatient.iter().find(|(other, _)| *other == step).map(|(_, limit)| *limit)
    }

    /// Adds to a configuration the limits that this peer needs.
    #[must_use]
    pub fn adapt(&self, config: Config) -> Config {
        (self.with)(config)
    }

    /// Returns the configuration that launches this peer.
    #[must_use]
    pub fn config(&self, program: &str) -> Config {
        let config = self.adapt(self.script.config(program));
        match self.patience(Step::Launch) {
            Some(limit) => config.launch_within(limit),
            None => config,
        }
    }
}

/// Returns the peers that are only for the matrix of clients (`tests/peers`).
#[must_use]
pub fn heavy() -> Vec<Torture> {
    heavy::all()
}

/// Returns all peers but [`heavy`] ones, and those that exit at a given byte ([`in_the_handshake`], [`in_a_reply`],
/// [`in_an_event`]).
#[must_use]
pub fn all() -> Vec<Torture> {
    [stalls::all(), handshake::all(), replies::all(), bytes::all(), events::all(), ends::all()].concat()
}
