//! Decides what the types of the crates `qapi-qmp` and `qapi-qga` are here: commands, and events that can be read.

use std::fmt;

use qemu_machine_core::{Command, Event, Value, json};
use serde::{Deserialize, Serialize};

/// The crate `qapi-qmp`: QEMU's commands, replies and events as Rust types, made of the schema of one QEMU.
pub use qapi_qmp as qmp;
/// The crate `qapi-spec`: what the types of a schema have in common.
pub use qapi_spec as spec;

/// A command of the crate `qapi-qmp`, or of `qapi-qga` for the agent in a guest: answered by the type that stands there.
///
/// ```no_run
/// # use qemu_machine_blocking::{Config, Vm};
/// use qemu_machine_blocking::qapi::{Qapi, qmp};
///
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
/// let status = vm.execute(Qapi(qmp::query_status {}))?;
/// assert_eq!(status.status, qmp::RunState::running);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The types are those of one QEMU, and yours may be another. A reply with a word that they do not know is
/// [`CommandError::Unexpected`](crate::CommandError::Unexpected) for that one command, and has the reply as it came;
/// nothing else is the worse for it. Whether your QEMU knows the command, and each argument, says its
/// [`Schema`](crate::Schema), which checks these commands like others.
#[derive(Clone, Copy, Debug)]
pub struct Qapi<T>(pub T);

impl<C: spec::Command> Command for Qapi<C> {
    type Reply = C::Ok;

    fn name(&self) -> &str {
        C::NAME
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(&self.0)
    }
}

impl Qapi<qmp::Event> {
    /// Reads an event as one of the crate `qapi-qmp`.
    ///
    /// Where QEMU could not tell the time (-1 here), it is 0 there, which knows no time before 1970.
    ///
    /// # Errors
    ///
    /// When it is not known there, or not with these data.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use qemu_machine_blocking::{Config, Vm, Wait};
    /// use qemu_machine_blocking::qapi::{Qapi, qmp};
    ///
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
    /// for event in vm.events([Wait::any_event()])? {
    ///     match Qapi::event(&event) {
    ///         Ok(qmp::Event::RESET { data, .. }) => println!("reset: {:?}", data.reason),
    ///         Ok(other) => println!("{other:?}"),
    ///         Err(unknown) => println!("{unknown}"), // And `event` has it all.
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn event(event: &Event) -> Result<qmp::Event, UnknownEvent> {
        let unknown = |reason: String| UnknownEvent { name: event.name().into(), reason };
        let time = event.timestamp();
        let (seconds, microseconds) = (time.seconds.max(0), time.microseconds.max(0));
        let mut message = json!({
            "event": event.name(),
            "timestamp": {"seconds": seconds, "microseconds": microseconds},
        });
        if event.data().is_some() {
            message["data"] = event.read_data::<Value>().map_err(|error| unknown(error.to_string()))?;
        }
        qmp::Event::deserialize(message).map_err(|error| unknown(error.to_string()))
    }
}

/// Why an event is none of the crate `qapi-qmp`: it is not known there, or looks different.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownEvent {
    /// Its name.
    pub name: String,
    /// What is not known of it.
    pub reason: String,
}

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event {} is not as qapi-qmp knows it: {}", self.name, self.reason)
    }
}

impl std::error::Error for UnknownEvent {}
