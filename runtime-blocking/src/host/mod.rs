//! Decides how the core's orders are carried out on a Linux host. All runtimes share it.
//!
//! A [`Host`] belongs to one machine. It owns what it makes for it: the private directory, the log, the sockets as
//! long as they carry nothing any more, and the process. What differs between runtimes, how they wait, is behind
//! [`Watch`].

mod child;
mod consumer;
mod keeper;
mod place;
mod socket;
mod verbs;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qemu_machine_core::{Channel, Effect, HostFault, Input, Machine, Moment, Preparation, Prepared, Signal, Spawn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use child::Child;
pub(crate) use keeper::{Keeper, Kept, Next, Wake, timespec};
use place::Place;
use socket::{Received, Socket};

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
    /// Made, not opened yet: our ends.
    ours: Vec<(Channel, OwnedFd)>,
    /// The ends of the process, until it is started.
    theirs: Vec<OwnedFd>,
    sockets: Vec<Socket>,
    child: Option<Child>,
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
        while let Some(effect) = machine.poll_effect() {
            match effect {
                Effect::Prepare(wanted) => {
                    let result = self.prepare(&wanted);
                    machine.handle(now, result.map_or_else(Input::PrepareFailed, Input::Prepared));
                }
                Effect::Spawn(spawn) => {
                    let result = self.spawn(spawn, watch);
                    machine.handle(now, result.map_or_else(Input::SpawnFailed, |pid| Input::Spawned { pid }));
                }
                Effect::Open(channel) => {
                    let result = self.open(channel, watch);
                    let failed = |error| Input::OpenFailed(channel, fault(format!("open the {channel}"), &error));
                    machine.handle(now, result.map_or_else(failed, |()| Input::Opened(channel)));
                }
                Effect::Close(channel) => self.close(channel, machine, now, watch),
                Effect::Signal(signal) => machine.handle(now, Input::Signalled(signal, self.signal(signal))),
                Effect::ReadLog { limit } => {
                    // What cannot be read is empty: the outcome does without it.
                    machine.handle(now, Input::LogRead(&self.read_log(limit).unwrap_or_default()));
                }
                Effect::Remove => machine.handle(now, Input::Removed(self.remove())),
                // An order that this version does not know: the core and the runtimes are released together.
                _ => {}
            }
        }
        self.sockets.iter_mut().for_each(|socket| socket.flush(machine, watch));
    }

    /// Reads from a channel once, as much as a socket holds, and reports what came. Whether there may be more.
    pub fn receive(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) -> bool {
        let Some(socket) = self.sockets.iter().find(|socket| socket.channel == channel) else { return false };
        match socket.receive(machine, now) {
            Received::Some => true,
            Received::Nothing => false,
            Received::End => {
                self.close(channel, machine, now, watch);
                false
            }
        }
    }

    /// Reports the end of the process, if it has ended.
    pub fn reap(&mut self, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        if let Some(status) = self.child.as_mut().and_then(Child::reap) {
            if let Some(child) = self.child.take() {
                watch.buried(child.descriptor());
            }
            machine.handle(now, Input::Exited(status));
        }
    }

    fn prepare(&mut self, wanted: &Preparation) -> Result<Prepared, HostFault> {
        let place = Place::make(wanted)?;
        let pair = |channel: &Channel| -> Result<_, HostFault> {
            let (ours, theirs) = socket_pair().map_err(|error| fault(format!("make the {channel}"), &error))?;
            Ok((*channel, ours, theirs))
        };
        let pairs = match wanted.channels.iter().map(pair).collect::<Result<Vec<_>, _>>() {
            Ok(pairs) => pairs,
            Err(made) => return Err(place.removed_after(made)),
        };
        let prepared = Prepared {
            directory: place.directory(),
            log: Some(place.log_path()),
            descriptors: pairs.iter().map(|(channel, _, theirs)| (*channel, theirs.as_raw_fd())).collect(),
        };
        self.place = Some(place);
        for (channel, ours, theirs) in pairs {
            self.ours.push((channel, ours));
            self.theirs.push(theirs);
        }
        Ok(prepared)
    }

    fn spawn(&mut self, spawn: Spawn, watch: &mut impl Watch) -> Result<u32, HostFault> {
        let program = spawn.arguments.first().map(|program| String::from_utf8_lossy(program)).unwrap_or_default();
        let program = program.into_owned();
        let failed = |error| fault(format!("execute `{program}`"), &error);
        let log = self.place.as_ref().map(Place::log).transpose().map_err(failed)?;
        let request = child::Request { arguments: spawn.arguments, inherited: std::mem::take(&mut self.theirs), log };
        let child = Keeper::get().and_then(|keeper| keeper.run(|| request.start())?).map_err(failed)?;
        // A child that is dropped is killed and reaped.
        watch.born(child.descriptor()).map_err(failed)?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }

    fn open(&mut self, channel: Channel, watch: &mut impl Watch) -> io::Result<()> {
        let index = self.ours.iter().position(|(other, _)| *other == channel);
        let (_, socket) = index.map(|index| self.ours.swap_remove(index)).ok_or(io::ErrorKind::NotFound)?;
        let socket = Socket::new(channel, socket);
        watch.open(channel, &socket.descriptor)?;
        self.sockets.push(socket);
        Ok(())
    }

    fn close(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        if let Some(index) = self.sockets.iter().position(|socket| socket.channel == channel) {
            watch.close(channel, &self.sockets.swap_remove(index).descriptor);
        }
        machine.handle(now, Input::Closed(channel));
    }

    fn signal(&mut self, signal: Signal) -> Result<(), HostFault> {
        let Some(child) = &self.child else { return Ok(()) };
        child.signal(signal).map_err(|error| fault(format!("send {signal:?} to process {}", child.pid()), &error))
    }

    /// Ends a machine whose last owner goes away: kills the process, reads its last words, and cleans up, on the
    /// spot. That takes the kernel some milliseconds. A process that it does not let go is given up after two
    /// seconds, and reaped by the keeper whenever it ends.
    pub fn end(&mut self, machine: &mut Machine, clock: Clock) {
        let watch = &mut Blind;
        let given_up = clock.now().after(DROP);
        // It fails only for a machine that was never launched, and then there is nothing to end.
        let _ = machine.kill(clock.now());
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

    fn remove(&mut self) -> Result<(), HostFault> {
        self.ours.clear();
        self.theirs.clear();
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

/// Two connected sockets, ours of which does not block. Neither is inherited by any process unless it is told to.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    // Where our own standard streams are closed, the number could be one that the process needs for its own.
    let theirs = if theirs.as_raw_fd() > 2 { theirs } else { rustix::io::fcntl_dupfd_cloexec(&theirs, 3)? };
    Ok((ours, theirs))
}

/// What the operating system says about an operation, which reads behind "cannot".
#[must_use]
pub fn fault(operation: String, error: &io::Error) -> HostFault {
    HostFault { operation, errno: error.raw_os_error().unwrap_or_default(), reason: error.to_string() }
}
