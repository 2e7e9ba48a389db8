//! Decides what is told to the crate `tracing`, and at which level. Without the feature of that name, nothing is.
//!
//! What goes over the channels may be secret: passwords in `set_password`, keys in `object-add`, whatever is typed. So
//! it is told under a target of its own at the lowest level, and nothing else here repeats any of it.

#[cfg(not(feature = "tracing"))]
pub(crate) use disabled::Trace;
#[cfg(feature = "tracing")]
pub(crate) use enabled::Trace;

#[cfg(feature = "tracing")]
mod enabled {
    use std::borrow::Cow;
    use std::fmt::{self, Write};

    use qemu_machine_core::{Cause, Channel, Effect, HostFault, Input, LaunchFailure, Machine, Moment};
    use tracing::span::EnteredSpan;
    use tracing::{Span, debug, error_span, field, info, trace, warn};

    /// What happens in a run, from debug on.
    const LIFECYCLE: &str = "qemu_machine::lifecycle";
    /// What goes over the channels, at trace only.
    const WIRE: &str = "qemu_machine::wire";

    /// What is told of one machine.
    #[derive(Debug)]
    pub(crate) struct Trace {
        /// The present run.
        span: Span,
        logged: Logged,
    }

    /// What was told already of what the machine decided in its present run.
    #[derive(Debug, Default)]
    struct Logged {
        ready: bool,
        failed: bool,
        rungs: usize,
        ended: bool,
    }

    impl Default for Trace {
        fn default() -> Self {
            Self { span: Span::none(), logged: Logged::default() }
        }
    }

    impl Trace {
        /// Enters the run for as long as the result is kept.
        pub(crate) fn enter(&self) -> EnteredSpan {
            self.span.clone().entered()
        }

        /// An order is about to be carried out. The first of a run begins its span.
        pub(crate) fn order(&mut self, effect: &Effect) -> EnteredSpan {
            if let Effect::Prepare(wanted) = effect {
                let name = Shown(&wanted.name);
                // At the highest level, so that it is there for a fault also where nothing but faults is wanted.
                self.span = error_span!(target: LIFECYCLE, "machine", %name, pid = field::Empty);
                self.logged = Logged::default();
            }
            self.enter()
        }

        /// Tells the machine its news, and the world what they are and what the machine made of them.
        pub(crate) fn report(&mut self, machine: &mut Machine, now: Moment, input: Input<'_>) {
            let _inside = self.enter();
            let prepared = matches!(input, Input::Prepared(_));
            self.news(machine, &input);
            machine.handle(now, input);
            if prepared {
                let (made, command) = (machine.prepared(), machine.command_line());
                let directory = made.directory.as_deref().map(Shown).map(field::display);
                let log = made.log.as_deref().map(Shown).map(field::display);
                debug!(target: LIFECYCLE, directory, log, %command, "prepared");
            }
            self.look(machine);
        }

        fn news(&self, machine: &Machine, input: &Input<'_>) {
            match input {
                Input::Received(channel, bytes) => {
                    trace!(target: WIRE, channel = name(machine, *channel), text = %Shown(bytes), "received");
                }
                Input::Spawned { pid } => {
                    self.span.record("pid", pid);
                    info!(target: LIFECYCLE, pid, "spawned");
                }
                Input::Exited(status) => debug!(target: LIFECYCLE, %status, "exited"),
                Input::PrepareFailed(fault)
                | Input::SpawnFailed(fault)
                | Input::OpenFailed(_, fault)
                | Input::Signalled(_, Err(fault))
                | Input::Removed(Err(fault)) => self.fault(fault),
                // What else there is, is an answer as it should be, or follows from what is told.
                _ => {}
            }
        }

        /// The host could not do something.
        pub(crate) fn fault(&self, fault: &HostFault) {
            warn!(target: LIFECYCLE, fault = %Shown(fault.to_string().as_bytes()), "fault");
        }

        /// Tells what the machine has decided since it was last looked at.
        pub(crate) fn look(&mut self, machine: &Machine) {
            let _inside = self.enter();
            if !self.logged.ready && machine.lifecycle().is_launched() {
                self.logged.ready = true;
                let version = machine.greeting().map(|greeting| greeting.version.to_string()).unwrap_or_default();
                info!(target: LIFECYCLE, version = %Shown(version.as_bytes()), "ready");
            }
            if let Some(failure) = machine.launch_failure().filter(|_| !self.logged.failed) {
                self.logged.failed = true;
                info!(target: LIFECYCLE, why = %Shown(why(failure).as_bytes()), "failed");
            }
            for rung in machine.rungs().get(self.logged.rungs..).unwrap_or_default() {
                self.logged.rungs += 1;
                debug!(target: LIFECYCLE, %rung, "ending");
            }
            if let Some(outcome) = machine.outcome().filter(|_| !self.logged.ended) {
                self.logged.ended = true;
                info!(target: LIFECYCLE, cause = %Shown(outcome.cause.to_string().as_bytes()), "ended");
                if outcome.cause != Cause::Unkillable {
                    // Nothing of this run can come any more, even if the machine is kept.
                    self.span = Span::none();
                }
            }
        }

        /// These bytes went out.
        pub(crate) fn sent(&self, machine: &Machine, channel: Channel, bytes: &[u8]) {
            trace!(target: WIRE, channel = name(machine, channel), text = %Shown(bytes), "sent");
        }
    }

    fn name(machine: &Machine, channel: Channel) -> &str {
        match channel {
            Channel::Monitor => "monitor",
            Channel::Console(index) => machine.console_names().nth(index).unwrap_or_default(),
        }
    }

    /// Why a launch failed, without the words of the peer that the error quotes.
    fn why(failure: &LaunchFailure) -> Cow<'static, str> {
        match failure {
            LaunchFailure::Broken(_) => "the monitor broke the protocol".into(),
            LaunchFailure::Refused(_) => "capabilities negotiation failed".into(),
            failure => failure.to_string().into(),
        }
    }

    /// Bytes of others as a line of text that a terminal takes literally.
    struct Shown<'a>(&'a [u8]);

    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for chunk in self.0.utf8_chunks() {
                for character in chunk.valid().chars() {
                    if character.is_control() {
                        write!(f, "{}", character.escape_debug())?;
                    } else {
                        f.write_char(character)?;
                    }
                }
                if !chunk.invalid().is_empty() {
                    f.write_char(char::REPLACEMENT_CHARACTER)?;
                }
            }
            Ok(())
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use qemu_machine_core::{Channel, Effect, HostFault, Input, Machine, Moment};

    /// Nothing, in the words of its other self.
    #[derive(Debug, Default)]
    pub(crate) struct Trace;

    /// What is inside of nothing.
    pub(crate) struct Inside;

    impl Trace {
        pub(crate) fn enter(&self) -> Inside {
            Inside
        }

        pub(crate) fn order(&mut self, _: &Effect) -> Inside {
            Inside
        }

        pub(crate) fn report(&mut self, machine: &mut Machine, now: Moment, input: Input<'_>) {
            machine.handle(now, input);
        }

        pub(crate) fn fault(&self, _: &HostFault) {}

        pub(crate) fn look(&mut self, _: &Machine) {}

        pub(crate) fn sent(&self, _: &Machine, _: Channel, _: &[u8]) {}
    }
}
