//! Decides which misbehaviours of a peer are tried, and what a client does with each of them.
//!
//! The client's procedure is the same for all ([`Step`]), so that what differs between two transcripts is the peer's
//! doing. It is patient, unless the peer is known to leave it waiting: then it is not, at just that step.

mod bytes;
mod deaths;
mod ends;
mod events;
mod handshake;
mod replies;
mod stalls;

use std::time::Duration;

use qemu_machine_core::Config;

pub use deaths::{in_a_reply, in_an_event, in_the_handshake};

use crate::scripted::Script;

/// The event for which the client waits. Most peers send it when they have done what they do. Its name is one of QEMU's
/// own, as are the others that are not odd: some clients know no others.
pub const DONE: &str = "RESUME";

/// How long an impatient client waits for what does not come.
pub const SHORT: Duration = Duration::from_millis(50);

/// What the client does, in this order. When the connection is lost, it sends no more commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It launches the peer.
    Launch,
    /// It sends `first`, and reads the reply.
    First,
    /// It sends `second`, as JSON of its own, and reads the reply.
    Second,
    /// It waits for [`DONE`], which may have come long ago.
    Event,
    /// It sends `last`, and reads the reply.
    Last,
    /// It ends the peer: `quit`, then SIGTERM, then SIGKILL.
    Shutdown,
}

/// A peer that misbehaves.
#[derive(Clone, Debug)]
pub struct Torture {
    /// Its name, which begins with the promise that it puts to the test, where there is one.
    pub name: &'static str,
    /// What it plays.
    pub plays: &'static str,
    /// How it plays that.
    pub script: Script,
    /// What a client makes of it: one line for each thing that happens.
    pub tells: Vec<String>,
    /// Where the client is not patient, and for how long it waits there.
    impatient: Vec<(Step, Duration)>,
    /// How the first command is called: one of a megabyte does not fit into a socket.
    first: String,
    with: fn(Config) -> Config,
}

/// What is told of a peer that was ended by `quit`.
const QUIT: [&str; 2] = ["end: ended by the caller (quit)", "end: exit status 0"];
/// What is told of a peer that had to be ended by SIGTERM.
const TERMINATED: [&str; 2] = ["end: ended by the caller (SIGTERM)", "end: signal 15 (SIGTERM)"];
/// What is told of a peer whose launch failed while it lived.
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

    /// A peer that does something about its first command, and then behaves.
    fn once(name: &'static str, plays: &'static str, misbehaviour: Script, told: &[&str]) -> Self {
        let script = Script::launched().hear().and(misbehaviour).hear().reply("2").event(DONE).obey();
        let (first, counted) = told.split_first().map_or(("", &[][..]), |(first, counted)| (*first, counted));
        let before = ["launched", first, SECOND, HAPPENED, LAST];
        Self::new(name, plays, script).tells(&[&before, counted, &QUIT].concat())
    }

    /// A peer that does something instead of its greeting, and then waits for what comes.
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

    /// Impatient at the launch, but not so much that the peer is not even there yet.
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

    /// The name of the first command.
    #[must_use]
    pub fn first(&self) -> &str {
        &self.first
    }

    /// How long the client waits at a step; none where it is patient.
    #[must_use]
    pub fn patience(&self, step: Step) -> Option<Duration> {
        self.impatient.iter().find(|(other, _)| *other == step).map(|(_, limit)| *limit)
    }

    /// A configuration with what this peer needs of it.
    #[must_use]
    pub fn adapt(&self, config: Config) -> Config {
        (self.with)(config)
    }

    /// The configuration that launches it.
    #[must_use]
    pub fn config(&self, program: &str) -> Config {
        let config = self.adapt(self.script.config(program));
        match self.patience(Step::Launch) {
            Some(limit) => config.launch_within(limit),
            None => config,
        }
    }
}

/// All of them, but for those that die at a byte of their choice.
#[must_use]
pub fn all() -> Vec<Torture> {
    [stalls::all(), handshake::all(), replies::all(), bytes::all(), events::all(), ends::all()].concat()
}
