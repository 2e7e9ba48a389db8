//! Decides how the core's orders are carried out on a Linux host. All runtimes share it.
//!
//! A [`Host`] belongs to one machine. It owns what it makes for it: the private directory, the log, the sockets until
//! they are opened, and the process. What differs between runtimes, how they wait for a socket, is behind [`Wires`].

mod child;
mod keeper;
mod place;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use qemu_machine_core::{
    Channel, Effect, ExitStatus, HostFault, Input, Machine, Moment, Preparation, Prepared, Signal, Spawn,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use child::Child;
pub(crate) use keeper::{Keeper, Kept, Next, Wake, timespec};
use place::Place;

/// Where a runtime watches the descriptors of one machine.
pub trait Wires {
    /// Begins to watch a channel. The socket does not block.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; the channel is then reported as failed.
    fn open(&mut self, channel: Channel, socket: OwnedFd) -> io::Result<()>;

    /// Drops the socket of a channel, if it is open.
    fn close(&mut self, channel: Channel);

    /// Begins to watch the process: the descriptor is readable when it ended, and [`Host::reap`] is due.
    ///
    /// # Errors
    ///
    /// When it cannot be watched; the process is then ended, and reported as not started.
    fn born(&mut self, process: BorrowedFd<'_>) -> io::Result<()>;

    /// The process was reaped: its descriptor is about to be closed.
    fn buried(&mut self, process: BorrowedFd<'_>);
}

/// The host side of one machine.
#[derive(Debug, Default)]
pub struct Host {
    place: Option<Place>,
    /// Our end and the process's end of each channel, until it is opened and the process is started.
    pairs: Vec<(Channel, OwnedFd, OwnedFd)>,
    ours: Vec<(Channel, OwnedFd)>,
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
    /// Carries out all orders that a machine has, and reports each.
    pub fn serve(&mut self, machine: &mut Machine, now: Moment, wires: &mut impl Wires) {
        while let Some(effect) = machine.poll_effect() {
            match effect {
                Effect::Prepare(wanted) => {
                    let result = self.prepare(&wanted);
                    machine.handle(now, result.map_or_else(Input::PrepareFailed, Input::Prepared));
                }
                Effect::Spawn(spawn) => {
                    let result = self.spawn(spawn, wires);
                    machine.handle(now, result.map_or_else(Input::SpawnFailed, |pid| Input::Spawned { pid }));
                }
                Effect::Open(channel) => {
                    let result = self.open(channel, wires);
                    let failed = |error| Input::OpenFailed(channel, fault(format!("open the {channel}"), &error));
                    machine.handle(now, result.map_or_else(failed, |()| Input::Opened(channel)));
                }
                Effect::Close(channel) => {
                    wires.close(channel);
                    machine.handle(now, Input::Closed(channel));
                }
                Effect::Signal(signal) => machine.handle(now, Input::Signalled(self.signal(signal))),
                Effect::ReadLog { limit } => {
                    // What cannot be read is empty: the outcome does without it.
                    machine.handle(now, Input::LogRead(&self.read_log(limit).unwrap_or_default()));
                }
                Effect::Remove => machine.handle(now, Input::Removed(self.remove())),
                // An order that this version does not know: the core and the runtimes are released together.
                _ => {}
            }
        }
    }

    fn prepare(&mut self, wanted: &Preparation) -> Result<Prepared, HostFault> {
        let place = Place::make(wanted)?;
        let pair = |channel: &Channel| -> Result<_, HostFault> {
            let (ours, theirs) = socket_pair().map_err(|error| fault(format!("make the {channel}"), &error))?;
            Ok((*channel, ours, theirs))
        };
        let pairs = wanted.channels.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let prepared = Prepared {
            directory: place.directory(),
            log: Some(place.log_path()),
            descriptors: pairs.iter().map(|(channel, _, theirs)| (*channel, theirs.as_raw_fd())).collect(),
        };
        (self.place, self.pairs) = (Some(place), pairs);
        Ok(prepared)
    }

    fn spawn(&mut self, spawn: Spawn, wires: &mut impl Wires) -> Result<u32, HostFault> {
        let program = String::from_utf8_lossy(&spawn.arguments[0]).into_owned();
        let failed = |error| fault(format!("execute `{program}`"), &error);
        let mut theirs = Vec::new();
        for (channel, ours, their) in self.pairs.drain(..) {
            self.ours.push((channel, ours));
            theirs.push(their);
        }
        let log = self.place.as_ref().map(Place::log).transpose().map_err(failed)?;
        let request = child::Request { arguments: spawn.arguments, inherited: theirs, log };
        let child = Keeper::get().and_then(|keeper| keeper.fork(request)).map_err(failed)?;
        // A child that is dropped is killed and reaped.
        wires.born(child.descriptor()).map_err(failed)?;
        let pid = child.pid();
        self.child = Some(child);
        Ok(pid)
    }

    fn open(&mut self, channel: Channel, wires: &mut impl Wires) -> io::Result<()> {
        let index = self.ours.iter().position(|(other, _)| *other == channel);
        let (_, socket) = index.map(|index| self.ours.swap_remove(index)).ok_or(io::ErrorKind::NotFound)?;
        wires.open(channel, socket)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), HostFault> {
        let Some(child) = &self.child else { return Ok(()) };
        child.signal(signal).map_err(|error| fault(format!("send {signal:?} to process {}", child.pid()), &error))
    }

    /// Reports the end of the process, if it has ended.
    pub fn reap(&mut self, machine: &mut Machine, now: Moment, wires: &mut impl Wires) {
        if let Some(status) = self.exit_status() {
            if let Some(child) = self.child.take() {
                wires.buried(child.descriptor());
            }
            machine.handle(now, Input::Exited(status));
        }
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.reap()
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
        self.pairs.clear();
        self.ours.clear();
        self.place.as_mut().map_or(Ok(()), Place::remove)
    }
}

/// Two connected sockets, ours of which does not block. Neither is inherited by any process unless it is told to.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// What the operating system says about an operation.
fn fault(operation: String, error: &io::Error) -> HostFault {
    HostFault { operation, errno: error.raw_os_error().unwrap_or_default(), reason: error.to_string() }
}
