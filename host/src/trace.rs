//! Log of a machine through the crate `tracing`. Without the feature of that name it does nothing, and costs nothing.
//!
//! The tracer only reads: it is called with each input, each effect and the machine, and changes none of them. The
//! bytes of the channels may be secret: passwords in `set_password`, keys in `object-add`, console input. So they are
//! logged under a target of their own at the lowest level, and no other record contains them.
//!
//! A subscriber is code of the program. Its panics are stored, and resumed when the host has done its work.

#[cfg(not(feature = "tracing"))]
pub(crate) use disabled::Trace;
#[cfg(feature = "tracing")]
pub(crate) use enabled::Trace;

#[cfg(feature = "tracing")]
mod enabled {
    use std::borrow::Cow;
    use std::cell::Cell;

    use qemu_machine_core::{
        Cause, Channel, CompanionInput, Effect, HostFault, Input, LaunchFailure, Machine, UntrustedText,
    };
    use tracing::span::EnteredSpan;
    use tracing::{Span, debug, error_span, field, info, trace, warn};

    use crate::panic::{CaughtPanic, caught, store};

    /// The lifecycle of a run, from level debug on.
    const LIFECYCLE: &str = "qemu_machine::lifecycle";
    /// The bytes of the channels, at level trace only.
    const WIRE: &str = "qemu_machine::wire";

    /// Log of one machine.
    pub(crate) struct Trace {
        /// The span of the present run.
        span: Span,
        logged: Logged,
        /// The first panic of the subscriber that was not resumed yet.
        panic: Cell<Option<CaughtPanic>>,
    }

    /// The span of the run, entered. Dropping it leaves the span.
    pub(crate) struct Inside(Option<EnteredSpan>);

    impl Drop for Inside {
        fn drop(&mut self) {
            // A panic here has no place where it is stored.
            drop(caught(|| drop(self.0.take())));
        }
    }

    /// The decisions of the machine in the present run that are logged already.
    #[derive(Debug, Default)]
    struct Logged {
        /// Whether the machine was prepared and this is not logged yet.
        is_prepared_due: bool,
        ready: bool,
        failed: bool,
        rungs: usize,
        ended: bool,
    }

    impl Default for Trace {
        fn default() -> Self {
            Self { span: Span::none(), logged: Logged::default(), panic: Cell::default() }
        }
    }

    impl std::fmt::Debug for Trace {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Trace").field("span", &self.span).field("logged", &self.logged).finish_non_exhaustive()
        }
    }

    impl Trace {
        /// Returns the first panic of the subscriber that was not resumed yet.
        pub(crate) fn take_panic(&mut self) -> Option<CaughtPanic> {
            self.panic.take()
        }

        /// Returns whether there is such a panic.
        pub(crate) fn has_panicked(&self) -> bool {
            let panic = self.panic.take();
            let has_panicked = panic.is_some();
            self.panic.set(panic);
            has_panicked
        }

        /// Stores a panic, unless one is stored already.
        fn result<T>(&self, caught: Result<T, CaughtPanic>) -> Option<T> {
            caught
                .map_err(|panic| {
                    let mut stored = self.panic.take();
                    store(&mut stored, panic);
                    self.panic.set(stored);
                })
                .ok()
        }

        /// Enters the span of the run. It is left when the result is dropped.
        pub(crate) fn enter(&self) -> Inside {
            Inside(self.result(caught(|| self.span.clone().entered())))
        }

        /// Enters the span for an effect that is about to be carried out. The first effect of a run begins the span.
        pub(crate) fn effect(&mut self, effect: &Effect) -> Inside {
            let begun = caught(|| self.begin_span(effect));
            self.result(begun);
            self.enter()
        }

        fn begin_span(&mut self, effect: &Effect) {
            if let Effect::Prepare(wanted) = effect {
                let name = UntrustedText::from_utf8_lossy(&wanted.name);
                // At level error, so that a subscriber that records only warnings records the span with them.
                self.span = error_span!(target: LIFECYCLE, "machine", %name, pid = field::Empty);
                self.logged = Logged::default();
            }
        }

        /// Logs an input before the machine handles it.
        pub(crate) fn input(&mut self, machine: &Machine, input: &Input<'_>) {
            let logged = caught(|| self.log_input(machine, input));
            self.result(logged);
        }

        #[deny(clippy::wildcard_enum_match_arm, reason = "an input is logged, or is listed as one that is not")]
        fn log_input(&mut self, machine: &Machine, input: &Input<'_>) {
            let _inside = self.enter();
            match input {
                Input::Received(channel, bytes) => {
                    trace!(target: WIRE, channel = name(machine, *channel), text = %shown(bytes), "received");
                }
                Input::Prepared(_) => self.logged.is_prepared_due = true,
                Input::Spawned { pid } => {
                    self.span.record("pid", pid);
                    info!(target: LIFECYCLE, pid, "spawned");
                }
                Input::Exited(status) => debug!(target: LIFECYCLE, %status, "exited"),
                Input::Companion(index, event) => self.companion(machine, *index, event),
                Input::PrepareFailed(fault)
                | Input::SpawnFailed(fault)
                | Input::OpenFailed(_, fault)
                | Input::Signalled(_, Err(fault))
                | Input::Removed(Err(fault)) => self.fault(fault),
                // The effect succeeded, or the machine makes a decision next, which is logged.
                Input::Opened(_)
                | Input::PeerProcess { .. }
                | Input::PeerBusy(_)
                | Input::Closed(_)
                | Input::Signalled(_, Ok(()))
                | Input::LogRead(_)
                | Input::Detached
                | Input::Removed(Ok(()))
                | Input::TimePassed => {}
            }
        }

        fn companion(&self, machine: &Machine, index: usize, event: &CompanionInput) {
            let companion = machine.companion_names().nth(index).unwrap_or_default();
            match event {
                CompanionInput::Started { pid } => info!(target: LIFECYCLE, companion, pid, "companion started"),
                CompanionInput::Exited(status) => info!(target: LIFECYCLE, companion, %status, "companion exited"),
                CompanionInput::StartFailed(fault)
                | CompanionInput::ProbeFailed(fault)
                | CompanionInput::NotSignalled(fault) => self.fault(fault),
                CompanionInput::Probed { .. } | CompanionInput::LogRead(_) => {}
            }
        }

        /// Logs an operation of the host that failed.
        pub(crate) fn fault(&self, fault: &HostFault) {
            self.result(caught(|| warn!(target: LIFECYCLE, %fault, "fault")));
        }

        /// Logs the decisions that the machine made since the last call.
        pub(crate) fn look(&mut self, machine: &Machine) {
            let logged = caught(|| self.log_decisions(machine));
            self.result(logged);
        }

        fn log_decisions(&mut self, machine: &Machine) {
            let _inside = self.enter();
            if std::mem::take(&mut self.logged.is_prepared_due) {
                let (made, command) = (machine.prepared(), machine.command_line());
                let directory = made.directory.as_deref().map(UntrustedText::from_utf8_lossy).map(field::display);
                let log = made.log.as_deref().map(UntrustedText::from_utf8_lossy).map(field::display);
                debug!(target: LIFECYCLE, directory, log, %command, "prepared");
            }
            if !self.logged.ready && machine.lifecycle().is_launched() {
                self.logged.ready = true;
                let version = machine.greeting().map(|greeting| greeting.version.to_string()).unwrap_or_default();
                info!(target: LIFECYCLE, version, "ready");
            }
            if let Some(failure) = machine.launch_failure().filter(|_| !self.logged.failed) {
                self.logged.failed = true;
                info!(target: LIFECYCLE, why = %why(failure), "failed");
            }
            for rung in machine.rungs().get(self.logged.rungs..).unwrap_or_default() {
                self.logged.rungs += 1;
                debug!(target: LIFECYCLE, %rung, "ending");
            }
            if let Some(outcome) = machine.outcome().filter(|_| !self.logged.ended) {
                self.logged.ended = true;
                info!(target: LIFECYCLE, cause = %outcome.cause, "ended");
                if outcome.cause != Cause::Unkillable {
                    // Nothing of this run is logged any more, even while handles of the machine remain.
                    self.span = Span::none();
                }
            }
        }

        /// Logs bytes that were sent.
        pub(crate) fn sent(&self, machine: &Machine, channel: Channel, bytes: &[u8]) {
            self.result(caught(|| {
                trace!(target: WIRE, channel = name(machine, channel), text = %shown(bytes), "sent");
            }));
        }
    }

    fn name(machine: &Machine, channel: Channel) -> &str {
        match channel {
            Channel::Monitor => "monitor",
            Channel::Console(index) => machine.console_names().nth(index).unwrap_or_default(),
        }
    }

    /// Returns why a launch failed, without the bytes of the peer that the error quotes.
    fn why(failure: &LaunchFailure) -> Cow<'static, str> {
        match failure {
            LaunchFailure::Broken(_) => "the monitor broke the protocol".into(),
            LaunchFailure::Refused(_) => "capabilities negotiation failed".into(),
            LaunchFailure::NotSynchronised(_) => "the guest agent cannot be synchronised".into(),
            failure => failure.to_string().into(),
        }
    }

    /// Returns bytes of a channel, as one complete printable line.
    fn shown(bytes: &[u8]) -> String {
        format!("{:#}", UntrustedText::from_utf8_lossy(bytes))
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use qemu_machine_core::{Channel, Effect, HostFault, Input, Machine};

    use crate::panic::CaughtPanic;

    /// Log that is disabled.
    #[derive(Debug, Default)]
    pub(crate) struct Trace;

    /// Span that is disabled.
    pub(crate) struct Inside;

    impl Trace {
        pub(crate) fn take_panic(&mut self) -> Option<CaughtPanic> {
            None
        }

        pub(crate) fn has_panicked(&self) -> bool {
            false
        }

        pub(crate) fn enter(&self) -> Inside {
            Inside
        }

        pub(crate) fn effect(&mut self, _: &Effect) -> Inside {
            Inside
        }

        pub(crate) fn input(&mut self, _: &Machine, _: &Input<'_>) {}

        pub(crate) fn fault(&self, _: &HostFault) {}

        pub(crate) fn look(&mut self, _: &Machine) {}

        pub(crate) fn sent(&self, _: &Machine, _: Channel, _: &[u8]) {}
    }
}
