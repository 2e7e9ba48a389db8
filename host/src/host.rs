//! Host side of one machine: carries out its effects, and reports the results as inputs.
#![deny(clippy::wildcard_enum_match_arm, reason = "an effect that is not carried out leaves the machine waiting")]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use qemu_machine_core::{
    Channel, Config, Descriptor, Effect, HostFault, Input, Machine, Misuse, Moment, Peer, Service, Signal, Spawn, State,
};

use crate::child::{Child, program};
use crate::companion_process::CompanionProcess;
use crate::fault::fault;
use crate::file_operation::FileOperation;
use crate::identity::drafted;
use crate::local_end::LocalEnd;
use crate::log_pipe::LogPipe;
use crate::panic::{CaughtPanic, store};
use crate::qemu_process::QemuProcess;
use crate::readers::Readers;
use crate::scratch_dir::ScratchDir;
use crate::shared_fd::{ServiceLease, SharedFd};
use crate::socket::Socket;
use crate::sys::{GuardProcess, GuardSpec, Os, OtherProcess as _, ProcessSpec, System};
use crate::trace::Trace;
use crate::watch::Watch;
use crate::wire::Wire;

/// Host side of one machine. It owns the process, its guard, and everything that is created for it: the scratch
/// directory, the log, the sockets. Dropping it kills the process, QEMU behind it and the companions, and removes the
/// directory.
#[derive(Debug, Default)]
pub struct Host {
    // The processes are dropped first, in this order: what is alive must not create a file in a directory that is being
    // removed.
    pub(crate) child: Option<Child>,
    /// QEMU, where it is not the process that was started but one behind it.
    pub(crate) qemu: Option<QemuProcess>,
    /// The companions, in the order of the configuration. They are killed and reaped like the process.
    pub(crate) companions: Vec<CompanionProcess>,
    /// `None` means that nothing was created on a file system. Boxed, since an attached machine has none.
    pub(crate) scratch: Option<Box<ScratchDir>>,
    /// The local ends of channels that are not opened yet, or may be opened again.
    pub(crate) local: Vec<(Channel, LocalEnd)>,
    /// The descriptors that the process inherits, until it is started.
    pub(crate) inherited: Vec<OwnedFd>,
    /// The local ends of the services.
    pub(crate) services: Vec<ServiceLease>,
    /// The log, if it is followed. Boxed, since it mostly is not.
    pub(crate) log_pipe: Option<Box<LogPipe>>,
    pub(crate) sockets: Vec<Socket>,
    /// The readers of consoles. Boxed, since most machines have none.
    pub(crate) readers: Option<Box<Readers>>,
    /// The inode of the end of the monitor that the process inherits. `None` means that it inherits none.
    pub(crate) monitor_inode: Option<u64>,
    /// Whether any process may connect to a channel that listens.
    pub(crate) trusts_peer: bool,
    /// The process that kills those of the machine, and removes its files, when this program ends before. It is that of a
    /// companion if all processes ended before QEMU was started. `None` means that there is nothing for it to do.
    pub(crate) guard: Option<<Os as System>::Guard>,
    /// The user id of the process. `None` means that of this program.
    pub(crate) uid: Option<u32>,
    /// Whether the process outlives this program.
    pub(crate) outlives: bool,
    /// Whether a machine that outlives this program has become ready here.
    pub(crate) is_owner: bool,
    /// The file operation in progress. Boxed, since it is mostly absent.
    pub(crate) files: Option<Box<FileOperation>>,
    pub(crate) trace: Trace,
    /// The observers of the monitor's bytes.
    pub(crate) wire: Wire,
}

impl Host {
    /// Carries out all effects of the machine, reports their results, and sends what is outgoing, as much as the
    /// sockets accept. Call it after every request to the machine and after every input; otherwise commands stay
    /// unsent.
    pub fn serve(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        self.finish_dialling(machine, now, watch);
        self.trace.look(machine);
        while let Some(effect) = machine.poll_effect() {
            let _inside = self.trace.effect(&effect);
            self.carry_out(effect, machine, now, watch);
        }
        self.drop_local(machine);
        self.own(machine);
        self.resume_consoles(machine, now, watch);
        let Self { sockets, trace, wire, .. } = self;
        let _inside = trace.enter();
        sockets.iter_mut().for_each(|socket| socket.flush(machine, trace, wire, watch));
    }

    /// Becomes the owner of a process that an earlier program started, once the machine is resumed. Before that, the machine
    /// runs on when this is dropped.
    #[inline]
    fn own(&mut self, machine: &Machine) {
        if self.outlives && !self.is_owner && machine.state() == State::Running {
            self.is_owner = true;
            self.child.iter_mut().for_each(Child::own);
            self.qemu.iter_mut().for_each(QemuProcess::own);
            if machine.is_attached() {
                self.scratch.iter_mut().for_each(|scratch| scratch.own());
                self.register(machine);
            }
        }
    }

    /// Registers a machine that outlives this program. One with a path that is not UTF-8 has no identity.
    fn register(&mut self, machine: &Machine) {
        let (Ok(Some(identity)), Some(scratch)) = (drafted(machine), self.scratch.as_deref_mut()) else { return };
        scratch.register(identity);
    }

    /// Effects are rare, and commands are not: kept apart, this does not push the code of a command out of the cache.
    #[inline(never)]
    fn carry_out(&mut self, effect: Effect, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        let log;
        let input = match effect {
            Effect::Prepare(wanted) => match self.begin_to_prepare(wanted, watch) {
                Ok(Some(prepared)) => Input::Prepared(prepared),
                // It is reported by `reap` when it is complete.
                Ok(None) => return,
                Err(fault) => Input::PrepareFailed(fault),
            },
            Effect::Spawn(spawn) => match self.spawn(spawn, watch) {
                // It is reported by `reap` when the program is executed.
                Ok(()) => return,
                Err(fault) => Input::SpawnFailed(fault),
            },
            Effect::Open(channel) => match self.open(channel, machine, now, watch) {
                // It is reported when the channel is connected, which may be later.
                Ok(()) => return,
                Err(fault) => Input::OpenFailed(channel, fault),
            },
            Effect::Close(channel) => {
                if channel == Channel::Monitor {
                    self.end_holders();
                }
                return self.close(channel, Input::Closed(channel), machine, now, watch);
            }
            Effect::Signal(signal) => Input::Signalled(signal, self.signal(signal)),
            Effect::ReadLog { limit } => {
                log = match self.begin_to_read_log(limit, watch) {
                    Some(log) => log,
                    // It is reported by `reap` when it is complete.
                    None => return,
                };
                Input::LogRead(&log)
            }
            Effect::Detach => {
                self.detach(watch);
                Input::Detached
            }
            Effect::Remove => match self.begin_to_remove(machine, now, watch) {
                Ok(true) => Input::Removed(Ok(())),
                // It is reported by `reap` when it is complete.
                Ok(false) => return,
                Err(fault) => Input::Removed(Err(fault)),
            },
            Effect::Companion(index, effect) => match self.apply_companion_effect(index, effect, watch) {
                Some(input) => Input::Companion(index, input),
                // It is reported by `reap`, or needs no report.
                None => return,
            },
        };
        self.report(machine, now, input);
    }

    /// Returns whether an observer of the wire or a subscriber of `tracing`, which the host called, has panicked, and the
    /// panic was not taken. The host went on, so no byte was lost. `false` in a thread that is unwinding: it cannot resume
    /// another panic.
    #[must_use]
    pub fn has_panicked(&self) -> bool {
        (self.wire.has_panicked() || self.trace.has_panicked()) && !thread::panicking()
    }

    /// Returns the panic that [`has_panicked`](Self::has_panicked) reports, once. Take it in the call in which it occurred,
    /// before the lock of the machine is released; resume it after that, when the machine has a driver again. Otherwise a
    /// later call of another caller resumes it.
    pub fn take_panic(&mut self) -> Option<CaughtPanic> {
        let mut taken = self.wire.take_panic();
        self.trace.take_panic().into_iter().for_each(|panic| store(&mut taken, panic));
        if thread::panicking() {
            taken.take().into_iter().for_each(CaughtPanic::leak);
        }
        taken
    }

    /// Calls these functions with the bytes that are sent and received on the monitor from now on, in place of earlier
    /// ones. They are called where the bytes are sent or received: before the machine handles an input. Their panics are
    /// [stored](Self::take_panic).
    pub fn observe_wire(
        &mut self,
        sent: impl FnMut(&[u8]) + Send + 'static,
        received: impl FnMut(&[u8]) + Send + 'static,
    ) {
        self.replace_wire(Wire::observed(sent, received));
    }

    /// Replaces the observers of the wire, and returns the earlier ones.
    pub(crate) fn replace_wire(&mut self, wire: Wire) -> Wire {
        let before = std::mem::replace(&mut self.wire, wire);
        before.move_panic_to(&mut self.wire)
    }

    /// Reports an input to the machine. The tracer reads the input before, and the machine after.
    pub(crate) fn report(&mut self, machine: &mut Machine, now: Moment, input: Input<'_>) {
        self.trace.input(machine, &input);
        self.wire.input(&input);
        machine.handle(now, input);
        self.trace.look(machine);
    }

    /// Reports that time passed, if the deadline of the machine has passed. Call it after a wait: without it, a driver
    /// observes deadlines only when something else happens. Every other input applies due deadlines as well.
    pub fn check_deadline(&mut self, machine: &mut Machine, now: Moment) {
        if machine.deadline().is_some_and(|(due, _)| due <= now) {
            self.report(machine, now, Input::TimePassed);
        }
    }

    /// Reports that the files of the run are prepared or removed, if they are; that the process executes its program, if
    /// it does; reaps it and reports its end, if it has ended; and the same of the companions. Call it when the descriptor of
    /// a process is readable.
    pub fn reap(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        // A QEMU that cannot reach a companion ends as well. Later, a companion that ends because QEMU has ended is not
        // reported before.
        if matches!(machine.state(), State::Launching(_)) {
            self.reap_companions(machine, now, watch);
        }
        self.reap_process(machine, now, watch);
        self.reap_companions(machine, now, watch);
    }

    fn reap_process(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        self.finish_files(machine, now, watch);
        self.finish_start(machine, now, watch);
        let Some(ended) = Child::finish(&mut self.child, self.guard.as_ref(), watch) else { return };
        let input = ended.map_or_else(Input::SpawnFailed, Input::Exited);
        // The run ends with the process that was started, so QEMU must not outlive it.
        self.qemu = None;
        self.report(machine, now, input);
    }

    /// Reports which process is at the other end of the monitor. A process other than the child must end with the child,
    /// which may have ended already.
    pub(crate) fn note_peer(&mut self, pid: u32, machine: &mut Machine, now: Moment) {
        let mut arguments = Os::arguments(pid);
        // Those of a wrapper precede them. A copy of secrets more would be in a record.
        if machine.command_line().arguments().ends_with(&arguments) {
            arguments.clear();
        }
        self.report(machine, now, Input::PeerProcess { pid, arguments });
        // Without a child, what still holds the monitor is killed when that is closed.
        let Some(started) = self.child.as_ref().map(Child::pid) else { return };
        if started != pid {
            // It sent some time ago, so another process may have its id by now.
            let opened = QemuProcess::new(pid);
            let is_meant = Os::belongs(pid, started, self.monitor_inode);
            let qemu = opened.and_then(|qemu| qemu.verified(is_meant));
            let is_resumed = machine.is_attached();
            self.qemu = qemu.map(|qemu| if is_resumed { qemu.not_owned() } else { qemu });
        }
        self.guard_peer(pid);
    }

    /// Starts a guard for a QEMU that the kernel would not kill with this program. Without one, such as at the limit of
    /// processes, QEMU may survive this program.
    fn guard_peer(&mut self, pid: u32) {
        if self.qemu.is_some() || !Os::ends_with_parent(pid, self.uid) {
            let guarded = self.scratch.as_deref().map(ScratchDir::guarded).unwrap_or_default();
            let started = self.start_guard(&guarded);
            let added = self.qemu.iter().zip(&self.guard).try_for_each(|(qemu, guard)| qemu.add_to(guard));
            if let Err(error) = started.and(added) {
                self.trace.fault(&fault("guard the process".into(), &error));
            }
        }
    }

    /// Kills the processes that still hold the monitor when the process that was started has ended: a wrapper may have
    /// started some outside of the process group.
    fn end_holders(&mut self) {
        let Some(inode) = self.monitor_inode.filter(|_| self.child.is_none()) else { return };
        for holder in Os::holders(inode) {
            let _ = holder.signal(Signal::Kill);
        }
    }

    fn finish_start(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        let program = program(machine.command_line().arguments());
        let Some(executed) = Child::executed(&mut self.child, self.guard.as_ref(), &program, watch) else { return };
        let is_started = executed.is_ok();
        let input = match executed {
            Ok(pid) => {
                self.guard_peer(pid);
                Input::Spawned { pid }
            }
            Err(fault) => Input::SpawnFailed(fault),
        };
        self.report(machine, now, input);
        // Also if this program dies before the machine is ready, the machine is listed.
        if is_started && self.outlives {
            self.register(machine);
        }
    }

    fn spawn(&mut self, spawn: Spawn, watch: &mut dyn Watch) -> Result<(), HostFault> {
        let Spawn { arguments, share_terminal, outlives, attributes, guarded: guarded_by_core } = spawn;
        (self.uid, self.outlives, self.is_owner) = (attributes.uid, outlives, false);
        self.guard = None;
        let program = program(&arguments);
        let failed = |error| fault(format!("start `{program}`"), &error);
        let log = match &mut self.log_pipe {
            Some(pipe) => pipe.inherited.take().map(File::from),
            None => self.scratch.as_deref().map(ScratchDir::log).transpose().map_err(failed)?,
        };
        let inherited = std::mem::take(&mut self.inherited);
        let namespace = SharedFd::copy_of(attributes.network_namespace.as_ref()).map_err(failed)?;
        let spec = ProcessSpec { arguments, inherited, namespace, log, share_terminal, outlives, attributes };
        let child = Child::start(spec).map_err(failed)?;
        // On failure the child is dropped, which kills and reaps it.
        watch.watch_completion(child.descriptor()).map_err(failed)?;
        self.child = Some(child);
        let guarded = self.scratch.as_deref().map(ScratchDir::guarded).unwrap_or_default();
        let is_guarded =
            !Os::KILLS_ORPHANS || guarded_by_core || !guarded.files.is_empty() || guarded.directory.is_some();
        if let Err(error) = if is_guarded { self.start_guard(&guarded) } else { Ok(()) } {
            // Dropping the child kills it.
            self.child.take().iter().for_each(|child| watch.unwatch_completion(child.descriptor()));
            return Err(failed(error));
        }
        Ok(())
    }

    fn start_guard(&mut self, guarded: &GuardSpec) -> io::Result<()> {
        let Some(child) = self.child.as_ref().filter(|_| !self.outlives && self.guard.is_none()) else { return Ok(()) };
        self.guard = Some(child.guard(guarded)?);
        Ok(())
    }

    /// Returns the configuration that attaches to a service of the machine. A service has one client at a time: two
    /// would read each other's replies.
    ///
    /// qtest is given away, and its connection is closed with its client. Left open and unread it would block QEMU,
    /// which writes qtest output with `qemu_chr_fe_write_all` (QEMU, `system/qtest.c`, `qtest_server_char_be_send`).
    /// The guest agent is lent, and can be attached to again.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the service, when it was given away before, or
    /// when the machine has ended; [`Misuse::ServiceInUse`] while another client is attached to it.
    pub fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        let index = self.services.iter().position(|lease| lease.service == service);
        let index = index.ok_or(Misuse::NoService(service))?;
        let descriptor = match service {
            Service::Qtest => self.services.swap_remove(index).give(),
            Service::GuestAgent => self.services[index].lend()?,
        };
        Ok(Config::attach(Peer::Connected(Descriptor::new(descriptor))).speaking(service.dialect()))
    }

    fn signal(&mut self, signal: Signal) -> Result<(), HostFault> {
        let Some(child) = &self.child else { return Ok(()) };
        if signal == Signal::Kill {
            self.guard.iter().for_each(GuardProcess::outlive_group);
        }
        let signal_qemu = || self.qemu.iter().for_each(|qemu| qemu.signal(signal, child.pid()));
        let sent = if signal == Signal::Kill {
            // The wrapper first: one that sees the end of QEMU may exit by itself before it is killed, and its exit would
            // count as the cause.
            let sent = child.signal(signal);
            signal_qemu();
            sent
        } else {
            signal_qemu();
            child.signal(signal)
        };
        sent.map_err(|error| fault(format!("send {signal:?} to process {}", child.pid()), &error))
    }

    /// Leaves the process, and everything that was created for it, to other programs. The supervisor reaps the process
    /// if it ends while this program runs.
    fn detach(&mut self, watch: &mut dyn Watch) {
        let bounds = self.scratch.as_deref_mut().map(ScratchDir::detach).unwrap_or_default();
        if let Some(child) = self.child.take() {
            watch.unwatch_completion(child.descriptor());
            child.detach(bounds);
        }
        self.qemu.take().into_iter().for_each(QemuProcess::detach);
        self.guard = None;
        self.monitor_inode = None;
    }
}
