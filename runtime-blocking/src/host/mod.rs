//! Decides how the core's orders are carried out on a Linux host. All runtimes share it.
//!
//! A [`Host`] belongs to one machine. It owns what it makes for it: the private directory, the log, the sockets as
//! long as they carry nothing any more, and the process. What differs between runtimes, how they wait, is behind
//! [`Watch`].

mod channels;
mod child;
mod consumer;
mod dial;
mod given;
mod identity;
mod keeper;
mod place;
mod play;
mod prepare;
mod socket;
mod trace;
mod verbs;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qemu_machine_core::{
    Channel, Config, Deadline, Descriptor, Effect, HostFault, Input, Machine, Misuse, Moment, Peer, Port, Signal, Spawn,
};
use rustix::event::{PollFd, PollFlags, poll};

use child::Child;
use given::{Given, Lending};
pub use identity::{IdentityError, identity};
pub(crate) use keeper::{Keeper, Kept, Next, Wake, timespec};
use place::Place;
pub use play::play;
use prepare::Ours;
use socket::Socket;
use trace::Trace;
#[doc(hidden)]
pub use verbs::try_lock;

/// How a runtime watches the descriptors of one machine. It owns none of them, and reads and writes none.
///
/// They do not block. A runtime that is told of edges (readiness that is told once) reads until there is no more.
pub trait Watch {
    /// Begins to watch a channel for bytes to read.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; the channel is then reported as failed.
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>) -> io::Result<()>;

    /// Watches a channel for room to write as well, or no longer. That it takes no more was found just now.
    fn want_room(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool);

    /// Stops watching a channel. Its socket is closed when nobody holds it any more.
    fn close(&mut self, channel: Channel, socket: &Arc<OwnedFd>);

    /// Begins to watch the process: its descriptor is readable when it has ended, and then [`Host::reap`] is due.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; the process is then ended, and reported as not started.
    fn born(&mut self, process: &Arc<OwnedFd>) -> io::Result<()>;

    /// Stops watching the process: it is reaped.
    fn buried(&mut self, process: &Arc<OwnedFd>);
}

/// How long ending a machine on the spot waits for the kernel to let the process go.
const DROP: Duration = Duration::from_secs(2);

/// The host side of one machine.
#[derive(Debug, Default)]
pub struct Host {
    place: Option<Place>,
    /// Made, not opened yet.
    ours: Vec<(Channel, Ours)>,
    /// What the process inherits, until it is started.
    theirs: Vec<OwnedFd>,
    /// Our ends of the ports.
    ports: Vec<Lending>,
    sockets: Vec<Socket>,
    child: Option<Child>,
    trace: Trace,
}

/// A clock for machines: it tells how long it is since it was made, and never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// When a moment is, for timers that know nothing of it; none for one that is too far away to come.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Option<Instant> {
        self.0.checked_add(moment.since(Moment::ORIGIN))
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::new(self.0.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
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
            Effect::Release => {
                self.release(watch);
                Input::Released
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
                watch.buried(child.descriptor());
            }
            self.trace.report(machine, now, Input::Exited(status));
        }
    }

    fn spawn(&mut self, spawn: Spawn, watch: &mut impl Watch) -> Result<u32, HostFault> {
        let program = spawn.arguments.first().map(|program| String::from_utf8_lossy(program)).unwrap_or_default();
        let program = program.into_owned();
        let failed = |error| fault(format!("execute `{program}`"), &error);
        let log = self.place.as_ref().map(Place::log).transpose().map_err(failed)?;
        let inherited = std::mem::take(&mut self.theirs);
        let Spawn { arguments, share_terminal, outlives, .. } = spawn;
        let request = child::Request { arguments, inherited, log, share_terminal, outlives };
        let child = Keeper::get().and_then(|keeper| keeper.run(|| request.start())?).map_err(failed)?;
        // A child that is dropped is killed and reaped.
        watch.born(child.descriptor()).map_err(failed)?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }

    /// How to attach to a port of the machine. One at a time: two would read each other's replies.
    ///
    /// The device tester is given away: its connection is closed with whoever attaches to it, since QEMU would wait for
    /// a reader of what it still has to say. The port of a guest agent is lent, again and again.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoPort`] when the machine has no such port, or not any more; [`Misuse::PortInUse`].
    pub fn port(&mut self, port: Port) -> Result<Config, Misuse> {
        let index = self.ports.iter().position(|lending| lending.port == port).ok_or(Misuse::NoPort(port))?;
        let descriptor = match port {
            Port::Qtest => Given::new(self.ports.swap_remove(index).ours),
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
    /// seconds, and reaped by the keeper whenever it ends.
    pub fn end(&mut self, machine: &mut Machine, clock: Clock) {
        self.end_watched(machine, clock, &mut Blind);
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
            // Whoever waits gets an answer. The keeper reaps the process when it ends.
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
        let Some(place) = &self.place else { return Ok(Vec::new()) };
        place.read_log(limit).map_err(|error| fault("read the log".into(), &error))
    }

    /// Leaves the process, and what was made for it, to others. While we live, the keeper reaps it.
    fn release(&mut self, watch: &mut impl Watch) {
        if let Some(child) = self.child.take() {
            watch.buried(child.descriptor());
            child.release();
        }
        if let Some(place) = &mut self.place {
            place.release();
        }
    }

    fn remove(&mut self) -> Result<(), HostFault> {
        self.ours.clear();
        self.theirs.clear();
        self.ports.clear();
        self.place.as_mut().map_or(Ok(()), Place::remove)
    }
}

/// Watches nothing: whoever ends a machine waits for it by itself.
struct Blind;

impl Watch for Blind {
    fn open(&mut self, _: Channel, _: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(())
    }

    fn want_room(&mut self, _: Channel, _: &Arc<OwnedFd>, _: bool) {}

    fn close(&mut self, _: Channel, _: &Arc<OwnedFd>) {}

    fn born(&mut self, _: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(())
    }

    fn buried(&mut self, _: &Arc<OwnedFd>) {}
}

/// An open descriptor for a machine: a file, a socket, one end of a pipe. What it is made of is closed when nobody holds
/// it any more.
#[must_use]
pub fn descriptor(what: impl Into<OwnedFd>) -> Descriptor {
    Descriptor::new(Given::new(what.into()))
}

/// The deadline that passes at this time, for calls that share one: ask for it anew with each of them, since a deadline
/// counts from its call. A time that is over leaves a call no time, and takes what is there already.
///
/// ```no_run
/// # use qemu_machine_blocking::{Config, Vm, Wait};
/// use std::time::{Duration, Instant};
///
/// use qemu_machine_blocking::until;
///
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
/// let end = Instant::now() + Duration::from_secs(60); // For all that follows.
/// let start = vm.mark();
/// vm.execute_by("system_reset", until(end))?;
/// vm.wait_any(&start, [Wait::text("tty", "login: ")], until(end))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn until(time: Instant) -> Deadline {
    Deadline::after(time.saturating_duration_since(Instant::now()))
}

/// What the operating system says about an operation, which reads behind "cannot".
#[must_use]
pub fn fault(operation: String, error: &io::Error) -> HostFault {
    HostFault { operation, errno: error.raw_os_error().unwrap_or_default(), reason: error.to_string() }
}
