//! Host side of one machine: carries out its effects and reports what comes of them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use qemu_machine_core::{
    Channel, Config, Descriptor, Effect, HostFault, Input, Machine, Misuse, Moment, Peer, Service, Signal, Spawn,
};
use rustix::event::{PollFd, PollFlags, poll};

use crate::child::{self, Child};
use crate::clock::{Clock, timespec};
use crate::fault::fault;
use crate::prepare::LocalEnd;
use crate::scratch_dir::ScratchDir;
use crate::shared_fd::{ServiceLease, SharedFd};
use crate::socket::Socket;
use crate::supervisor::Supervisor;
use crate::trace::Trace;
use crate::watch::{Unwatched, Watch};

/// How long ending a machine on the spot waits for the kernel to let the process go.
const DROP: Duration = Duration::from_secs(2);

/// The host side of one machine.
#[derive(Debug, Default)]
pub struct Host {
    pub(crate) scratch: Option<ScratchDir>,
    /// Made, not opened yet.
    pub(crate) local: Vec<(Channel, LocalEnd)>,
    /// What the process inherits, until it is started.
    pub(crate) inherited: Vec<OwnedFd>,
    /// Our ends of the ports.
    pub(crate) ports: Vec<ServiceLease>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) child: Option<Child>,
    pub(crate) trace: Trace,
}

impl Host {
    /// Carries out all orders that a machine has, reports each, and sends what it says, as far as the sockets take it.
    pub fn serve(&mut self, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        self.finish_dialling(machine, now, watch);
        self.trace.look(machine);
        while let Some(effect) = machine.poll_effect() {
            let _inside = self.trace.order(&effect);
            self.carry_out(effect, machine, now, watch);
        }
        let Self { sockets, trace, .. } = self;
        let _inside = trace.enter();
        sockets.iter_mut().for_each(|socket| socket.flush(machine, trace, watch));
    }

    fn carry_out(&mut self, effect: Effect, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        let log;
        let answer = match effect {
            Effect::Prepare(wanted) => self.prepare(&wanted).map_or_else(Input::PrepareFailed, Input::Prepared),
            Effect::Spawn(spawn) => {
                self.spawn(spawn, watch).map_or_else(Input::SpawnFailed, |pid| Input::Spawned { pid })
            }
            Effect::Open(channel) => match self.open(channel, machine, now, watch) {
                // Reported when it is so: whoever dials or is dialled takes his time.
                Ok(()) => return,
                Err(fault) => Input::OpenFailed(channel, fault),
            },
            Effect::Close(channel) => return self.close(channel, machine, now, watch),
            Effect::Signal(signal) => Input::Signalled(signal, self.signal(signal)),
            Effect::ReadLog { limit } => {
                // What cannot be read is empty: the outcome does without it.
                log = self.read_log(limit).inspect_err(|fault| self.trace.fault(fault)).unwrap_or_default();
                Input::LogRead(&log)
            }
            Effect::Detach => {
                self.release(watch);
                Input::Detached
            }
            Effect::Remove => Input::Removed(self.remove()),
            // An order that this version does not know: the core and the runtimes are released together.
            _ => return,
        };
        self.trace.report(machine, now, answer);
    }

    /// Reports the end of the process, if it has ended.
    pub fn reap(&mut self, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        if let Some(status) = self.child.as_mut().and_then(Child::reap) {
            if let Some(child) = self.child.take() {
                watch.process_reaped(child.descriptor());
            }
            self.trace.report(machine, now, Input::Exited(status));
        }
    }

    fn spawn(&mut self, spawn: Spawn, watch: &mut impl Watch) -> Result<u32, HostFault> {
        let program = spawn.arguments.first().map(|program| String::from_utf8_lossy(program)).unwrap_or_default();
        let program = program.into_owned();
        let failed = |error| fault(format!("execute `{program}`"), &error);
        let log = self.scratch.as_ref().map(ScratchDir::log).transpose().map_err(failed)?;
        let inherited = std::mem::take(&mut self.inherited);
        let Spawn { arguments, share_terminal, outlives, .. } = spawn;
        let request = child::Request { arguments, inherited, log, share_terminal, outlives };
        let child = Supervisor::get().and_then(|supervisor| supervisor.run(|| request.start())?).map_err(failed)?;
        // A child that is dropped is killed and reaped.
        watch.process_started(child.descriptor()).map_err(failed)?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }

    /// How to attach to a port of the machine. One at a time: two would read each other's replies.
    ///
    /// qtest is given away: its connection is closed with whoever attaches to it, since QEMU would wait for
    /// a reader of what it still has to say. The port of a guest agent is lent, again and again.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine has no such port, or not any more; [`Misuse::ServiceInUse`].
    pub fn service(&mut self, port: Service) -> Result<Config, Misuse> {
        let index = self.ports.iter().position(|lending| lending.port == port).ok_or(Misuse::NoService(port))?;
        let descriptor = match port {
            Service::Qtest => SharedFd::new(self.ports.swap_remove(index).local),
            _ => self.ports[index].lend()?,
        };
        Ok(Config::attach(Peer::Connected(Descriptor::new(descriptor))).speaking(port.dialect()))
    }

    fn signal(&mut self, signal: Signal) -> Result<(), HostFault> {
        let Some(child) = &self.child else { return Ok(()) };
        child.signal(signal).map_err(|error| fault(format!("send {signal:?} to process {}", child.pid()), &error))
    }

    /// Ends a machine whose last owner goes away: kills the process, reads its last words, and cleans up, on the
    /// spot. That takes the kernel some milliseconds. A process that it does not let go is given up after two
    /// seconds, and reaped by the supervisor whenever it ends.
    pub fn end(&mut self, machine: &mut Machine, clock: Clock) {
        self.end_watched(machine, clock, &mut Unwatched);
    }

    /// As [`end`](Self::end), where what is watched is to be told that it is watched no more.
    pub fn end_watched(&mut self, machine: &mut Machine, clock: Clock, watch: &mut impl Watch) {
        let given_up = clock.now().after(DROP);
        machine.abandon(clock.now());
        self.serve(machine, clock.now(), watch);
        while machine.outcome().is_none() && clock.now() < given_up {
            let Some((until, _)) = machine.deadline() else { return };
            let timeout = timespec(until.min(given_up).since(clock.now()));
            let process = self.child.as_ref().map(|child| PollFd::new(child.descriptor(), PollFlags::IN));
            let sockets = self.sockets.iter().map(|socket| PollFd::new(&socket.descriptor, PollFlags::IN));
            // Interrupted by a signal: look at the clock again.
            let _ = poll(&mut process.into_iter().chain(sockets).collect::<Vec<_>>(), Some(&timeout));
            self.reap(machine, clock.now(), watch);
            for channel in machine.channels().to_vec() {
                while clock.now() < given_up && self.receive(channel, machine, clock.now(), watch) {}
            }
            machine.handle(clock.now(), Input::TimePassed);
            self.serve(machine, clock.now(), watch);
        }
        if machine.outcome().is_none() {
            // Whoever waits gets an answer. The supervisor reaps the process when it ends.
            machine.give_up(clock.now());
            self.serve(machine, clock.now(), watch);
        }
    }

    /// The end of what the process has printed, at most `limit` bytes of it. Also after its end.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn read_log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        let Some(scratch) = &self.scratch else { return Ok(Vec::new()) };
        scratch.read_log(limit).map_err(|error| fault("read the log".into(), &error))
    }

    /// Leaves the process, and what was made for it, to others. While we live, the supervisor reaps it.
    fn release(&mut self, watch: &mut impl Watch) {
        if let Some(child) = self.child.take() {
            watch.process_reaped(child.descriptor());
            child.release();
        }
        if let Some(scratch) = &mut self.scratch {
            scratch.release();
        }
    }

    fn remove(&mut self) -> Result<(), HostFault> {
        self.local.clear();
        self.inherited.clear();
        self.ports.clear();
        self.scratch.as_mut().map_or(Ok(()), ScratchDir::remove)
    }
}
