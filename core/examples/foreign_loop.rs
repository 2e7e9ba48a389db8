//! Example of a driver in a foreign event loop: the core alone, with `poll(2)` and the standard library's processes.
//!
//! It leaves out what a runtime must do besides (keep descriptors from other children, end QEMU when this process is
//! killed, write a log, make private files), ends at a fault of the host instead of reporting it, and does not wait for room
//! to write. Otherwise it keeps the contract with the core.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qemu_machine_core::{
    COMMAND_WITHIN, Channel, Config, Effect, ExitStatus, FaultKind, HostFault, Inherited, Input, Machine, Moment,
    Prepared, Shutdown, Signal, SignalName,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open};

/// The host's side of the machine: its sockets and its process.
#[derive(Default)]
struct World {
    monitor: Option<UnixStream>,
    foreign: Option<UnixStream>,
    child: Option<(Child, OwnedFd)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let origin = Instant::now();
    let now = || Moment::new(origin.elapsed());
    let mut world = World::default();
    let mut machine = Machine::new(Config::new("qemu-system-x86_64").args(["-machine", "none"]))?;
    machine.launch(now())?;
    let mut status = None;
    let outcome = loop {
        while let Some(effect) = machine.poll_effect() {
            machine.handle(now(), world.obey(effect)?);
        }
        while machine.poll_notice().is_some() {}
        if status.is_none() && machine.launched() == Some(Ok(())) {
            status = Some(machine.execute(now(), &"query-status", COMMAND_WITHIN)?);
        }
        if let Some(reply) = status.as_ref().and_then(|ticket| machine.claim(ticket)) {
            println!("{}", reply?["status"]);
            machine.shutdown(now(), Shutdown::default())?;
        }
        if let Some(outcome) = machine.outcome() {
            break outcome;
        }
        world.send(&mut machine)?;
        let deadline = machine.deadline().map(|(until, _)| until.since(now()));
        let (readable, ended) = world.wait(deadline)?;
        if readable {
            world.receive(&mut machine, now())?;
        }
        if ended {
            world.reap(&mut machine, now())?;
        }
        if machine.deadline().is_some_and(|(due, _)| due <= now()) {
            machine.handle(now(), Input::TimePassed);
        }
    };
    println!("{outcome}");
    machine.launched().ok_or("the run ended before the launch did")??;
    Ok(())
}

impl World {
    /// Carries out one effect, and returns its result as an input.
    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver that misses an effect must not compile")]
    fn obey(&mut self, effect: Effect) -> Result<Input<'static>, Box<dyn Error>> {
        Ok(match effect {
            Effect::Prepare(_) => {
                let (ours, foreign) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                fcntl_setfd(&foreign, FdFlags::empty())?;
                let descriptors = vec![(Inherited::Channel(Channel::Monitor), foreign.as_raw_fd())];
                (self.monitor, self.foreign) = (Some(ours), Some(foreign));
                Input::Prepared(Prepared { descriptors, ..Prepared::default() })
            }
            Effect::Spawn(spawn) => {
                let line = spawn.arguments.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>()?;
                let child = Command::new(&line[0]).args(&line[1..]).stdin(Stdio::null()).spawn()?;
                // While this process holds a copy of QEMU's end, our end never reports a hang-up (`poll(2)`, POLLHUP).
                self.foreign = None;
                let (pid, ended) = (child.id(), pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?);
                self.child = Some((child, ended));
                Input::Spawned { pid }
            }
            Effect::Open(channel) => Input::Opened(channel),
            Effect::Close(channel) => {
                self.monitor = None;
                Input::Closed(channel)
            }
            Effect::Signal(signal) => Input::Signalled(signal, self.signal(signal)),
            Effect::ReadLog { .. } => Input::LogRead(b""),
            Effect::Remove => Input::Removed(Ok(())),
            // Not reached here: this machine has no companions.
            Effect::Companion(..) => return Err("there are no companions".into()),
            // Not reached here: only a machine that outlives its parent can be detached.
            Effect::Detach => {
                self.child = None;
                Input::Detached
            }
        })
    }

    fn signal(&self, signal: Signal) -> Result<(), HostFault> {
        let Some((child, _)) = &self.child else { return Ok(()) };
        let number = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        kill_process(Pid::from_child(child), number).map_err(|error| HostFault {
            operation: "send a signal".into(),
            kind: FaultKind::Other,
            errno: Some(error.raw_os_error()),
            reason: error.to_string().into(),
        })
    }

    /// Waits for the monitor, the process or the deadline. Returns whether the monitor is readable, and whether the
    /// process has ended: a pidfd becomes readable when its process terminates (`pidfd_open(2)`).
    fn wait(&self, timeout: Option<Duration>) -> Result<(bool, bool), Box<dyn Error>> {
        let timeout = timeout.map(Timespec::try_from).transpose()?;
        let monitor = self.monitor.iter().map(|monitor| (true, PollFd::new(monitor, PollFlags::IN)));
        let process = self.child.iter().map(|(_, ended)| (false, PollFd::new(ended, PollFlags::IN)));
        let (is_monitor, mut sources): (Vec<_>, Vec<_>) = monitor.chain(process).unzip();
        poll(&mut sources, timeout.as_ref())?;
        let ready = |wanted: bool| {
            let mut sources = is_monitor.iter().zip(&sources);
            sources.any(|(is_monitor, source)| *is_monitor == wanted && !source.revents().is_empty())
        };
        Ok((ready(true), ready(false)))
    }

    fn send(&mut self, machine: &mut Machine) -> Result<(), Box<dyn Error>> {
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        // Bytes that the socket does not accept now are sent at the next wake-up. Requests are small, so the replies to
        // the earlier ones cause it soon; a driver of large requests must poll for POLLOUT as well.
        match monitor.write(machine.outgoing(Channel::Monitor)) {
            Ok(sent) => machine.sent(Channel::Monitor, sent),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn receive(&mut self, machine: &mut Machine, now: Moment) -> Result<(), Box<dyn Error>> {
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        let mut buffer = [0; 4096];
        match monitor.read(&mut buffer) {
            Ok(0) => {
                self.monitor = None;
                machine.handle(now, Input::Closed(Channel::Monitor));
            }
            Ok(bytes) => machine.handle(now, Input::Received(Channel::Monitor, &buffer[..bytes])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                self.monitor = None;
                machine.handle(now, Input::Closed(Channel::Monitor));
            }
        }
        Ok(())
    }

    fn reap(&mut self, machine: &mut Machine, now: Moment) -> Result<(), Box<dyn Error>> {
        if let Some((mut child, _)) = self.child.take() {
            let status = child.wait()?;
            machine.handle(
                now,
                Input::Exited(match (status.code(), status.signal()) {
                    (Some(code), _) => ExitStatus::Code(code),
                    (None, number) => {
                        let number = number.unwrap_or_default();
                        ExitStatus::Signal { number, name: signal_name(number), core_dumped: status.core_dumped() }
                    }
                }),
            );
        }
        Ok(())
    }
}

/// Returns the name of a signal. The core needs the names of the two signals that it sends; the numbers differ between
/// systems.
fn signal_name(number: i32) -> SignalName {
    match number {
        _ if number == rustix::process::Signal::TERM.as_raw() => SignalName::Term,
        _ if number == rustix::process::Signal::KILL.as_raw() => SignalName::Kill,
        _ => SignalName::Other,
    }
}
