//! Clients of the runtimes of this repository without async, each used as its documentation shows.

use std::hint::black_box;
use std::io;
use std::path::Path;

use qemu_machine_core::{Address, CommandError, Config, Mark, Payload, Peer, Value, Wait, WithRawReply};
use qemu_machine_mio::EventLoop;

use super::{Client, LONG, QUIET, keep, other};
use crate::plan::Reading;

pub const STATUS: WithRawReply<&str> = WithRawReply("query-status");

/// Returns the commands of a batch.
pub fn batch(depth: usize) -> impl Iterator<Item = WithRawReply<&'static str>> {
    std::iter::repeat_n(STATUS, depth)
}

pub fn config(address: &Path) -> Config {
    let address = Address::unix(address.as_os_str().as_encoded_bytes());
    Config::attach(Peer::Dial(address)).launch_within(LONG)
}

/// `qemu-machine-blocking`, with blocking calls.
pub struct Threads(qemu_machine_blocking::Vm);

impl Threads {
    pub fn connect(address: &Path) -> io::Result<Self> {
        qemu_machine_blocking::Vm::launch(config(address)).map(Self).map_err(other)
    }
}

impl Client for Threads {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.0.execute(STATUS).map(|reply| drop(black_box(reply))).map_err(other))
    }

    /// Uses one thread for each command in flight.
    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let ask = || (0..count / depth).try_for_each(|_| self.0.execute(STATUS).map(drop).map_err(other));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..depth).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| other("a thread panicked"))?)
        })
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        let mut all = self.0.events([Wait::any_event()]).map_err(other)?;
        self.0.execute(WithRawReply("flood")).map_err(other)?;
        let mut seen = 0;
        while seen < events && all.next(QUIET).map(black_box).is_ok() {
            seen += 1;
        }
        Ok(seen)
    }

    fn large(&mut self, command: &'static str, reading: Reading) -> io::Result<()> {
        match reading {
            Reading::WithRawReply => self.0.execute_by(WithRawReply(command), LONG).map(|reply| drop(black_box(reply))),
            Reading::Value => self.0.execute_by(command, LONG).map(|reply| drop(black_box(reply))),
        }
        .map_err(other)
    }
}

/// `qemu-machine-blocking`, with batches.
pub struct Batches(Threads);

impl Batches {
    pub fn connect(address: &Path) -> io::Result<Self> {
        Threads::connect(address).map(Self)
    }
}

impl Client for Batches {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        self.in_flight(1, count)
    }

    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let Self(Threads(vm)) = self;
        (0..count / depth).try_for_each(|_| all_answered(vm.execute_all(batch(depth))))
    }
}

/// Drops the results of a batch, or returns the first error.
pub fn all_answered(replies: Vec<Result<Payload, CommandError>>) -> io::Result<()> {
    replies.into_iter().try_for_each(|reply| reply.map(keep).map_err(other))
}

/// `qemu-machine-mio`, in an event loop.
pub struct Loop {
    event_loop: EventLoop,
    vm: qemu_machine_mio::Vm,
}

impl Loop {
    pub fn connect(address: &Path) -> io::Result<Self> {
        let mut event_loop = EventLoop::new()?;
        let (registry, tokens) = event_loop.parts();
        let mut vm = qemu_machine_mio::Vm::launch(config(address), registry, tokens).map_err(other)?;
        event_loop.run(std::slice::from_mut(&mut vm), |vms| vms[0].launched())?.map_err(other)?;
        Ok(Self { event_loop, vm })
    }
}

impl Client for Loop {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        self.in_flight(1, count)
    }

    /// Uses one ticket for each command in flight.
    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let Self { event_loop, vm } = self;
        let vms = std::slice::from_mut(vm);
        let mut tickets = Vec::with_capacity(depth);
        for _ in 0..count / depth {
            for _ in 0..depth {
                tickets.push(vms[0].execute(STATUS).map_err(other)?);
            }
            let mut done = 0;
            event_loop.run(vms, |vms| {
                // In-band replies arrive in the order of their commands (`docs/interop/qmp-spec.rst`, Out-of-band
                // execution).
                while let Some(reply) = tickets.get(done).and_then(|ticket| vms[0].claim(ticket)) {
                    black_box(reply.is_ok());
                    done += 1;
                }
                (done == depth).then_some(())
            })?;
            tickets.clear();
        }
        Ok(())
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        let Self { event_loop, vm } = self;
        let all = vm.subscribe(&Mark::default(), [Wait::any_event()]).map_err(other)?;
        let _answer = vm.execute(WithRawReply("flood")).map_err(other)?;
        let mut seen = 0;
        event_loop.run(std::slice::from_mut(vm), |vms| {
            while let Some(event) = vms[0].next_event(all) {
                black_box(event);
                seen += 1;
            }
            (seen + vms[0].missed_events(all) as usize >= events).then_some(())
        })?;
        Ok(seen)
    }

    fn large(&mut self, command: &'static str, reading: Reading) -> io::Result<()> {
        let Self { event_loop, vm } = self;
        let ticket = vm.execute_by(WithRawReply(command), LONG).map_err(other)?;
        let reply: Payload = event_loop.run(std::slice::from_mut(vm), |vms| vms[0].claim(&ticket))?.map_err(other)?;
        read(&reply, reading)
    }
}

/// `qemu-machine-mio`, with batches.
pub struct LoopBatches(Loop);

impl LoopBatches {
    pub fn connect(address: &Path) -> io::Result<Self> {
        Loop::connect(address).map(Self)
    }
}

impl Client for LoopBatches {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        self.in_flight(1, count)
    }

    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let Self(Loop { event_loop, vm }) = self;
        let vms = std::slice::from_mut(vm);
        for _ in 0..count / depth {
            let mut batch = vms[0].execute_all(batch(depth));
            all_answered(event_loop.run(vms, |vms| vms[0].claim_all(&mut batch))?)?;
        }
        Ok(())
    }
}

pub fn read(reply: &Payload, reading: Reading) -> io::Result<()> {
    if reading == Reading::Value {
        drop(black_box(reply.read::<Value>()?));
    }
    Ok(())
}
