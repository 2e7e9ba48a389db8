//! Adapter that executes the types of the crates `qapi-qmp` and `qapi-qga`, and converts events to them.

use std::fmt;

use qemu_machine_core::{Command, Event, UntrustedText, Value, json};
use serde::{Deserialize, Serialize};

/// The crate `qapi-qmp`: QEMU's commands, replies and events as Rust types, generated from the schema of one QEMU
/// version.
pub use qapi_qmp as qmp;
/// The crate `qapi-spec`: the traits that all types of a schema implement.
pub use qapi_spec as spec;

/// Command of the crate `qapi-qmp`, or of `qapi-qga` for the guest agent. Its reply is the type that the crate
/// declares.
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
/// The types are those of one QEMU version, and the QEMU that runs may be another. A reply that does not fit the type
/// is [`CommandError::Unexpected`](qemu_machine_core::CommandError::Unexpected) for that command, with the reply as it
/// was received; other commands are not affected. [`Schema::check`](qemu_machine_core::Schema::check) checks whether
/// the QEMU that runs knows the command and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Qapi<T>(pub T);

impl<C: spec::Command<Ok: 'static>> Command for Qapi<C> {
    type Reply = C::Ok;

    fn name(&self) -> &str {
        C::NAME
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(&self.0)
    }
}

impl Qapi<qmp::Event> {
    /// Converts an event to one of the crate `qapi-qmp`.
    ///
    /// A time that QEMU could not determine is -1 in the event (`docs/interop/qmp-spec.rst`, Asynchronous events), and
    /// 0 in the result, whose type has no negative times.
    ///
    /// # Errors
    ///
    /// [`UnknownEvent`] when the crate does not know the event, or when the data of the event do not fit its type.
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
    ///         Err(unknown) => println!("{unknown}"), // `event` still has all of its data.
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn event(event: &Event) -> Result<qmp::Event, UnknownEvent> {
        let unknown = |reason: String| UnknownEvent { name: event.name().into(), reason: reason.into() };
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

/// Event that the crate `qapi-qmp` does not know, or whose data do not fit the type of the crate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownEvent {
    /// The name of the event.
    pub name: UntrustedText,
    /// Where it differs from the types of the crate.
    pub reason: UntrustedText,
}

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event {} does not fit the types of the crate qapi-qmp: {}", self.name, self.reason)
    }
}

impl std::error::Error for UnknownEvent {}
