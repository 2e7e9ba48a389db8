//! Host of a world: carries out effects, and checks that each effect is valid when it is issued.

use qemu_machine_core::{Channel, Effect, ExitStatus, FaultKind, HostFault, Inherited, Input, Prepared, Signal};

use super::World;
use super::plan::Fate;
use super::qemu::Qemu;
use super::scene::{LocalEnd, Scene, Wire};
use super::timeline::What;

/// The host side of the current run.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The effects of this run, each with whether it has completed.
    effects: Vec<(Effect, bool)>,
    pub(super) prepared: Option<bool>,
    pub(super) spawned: Option<bool>,
    pub(super) exited: Option<ExitStatus>,
    log: Option<Vec<u8>>,
    removed: bool,
    /// The number of host faults that the outcome must list.
    pub(super) faults: usize,
    /// Whether a host fault has failed the launch.
    pub(super) broke_launch: bool,
    pub(super) monitor_failed: bool,
    opened: usize,
    /// Whether the process was killed before it executed its program.
    killed_at_start: bool,
    /// Whether the prepared directory exists.
    has_place: bool,
}

pub(super) fn fault(operation: &str) -> HostFault {
    HostFault {
        operation: operation.into(),
        kind: FaultKind::Other,
        errno: Some(5),
        reason: "Input/output error".into(),
    }
}

/// Returns a short form for the transcript: sizes instead of bytes.
pub(super) fn describe(input: &Input<'_>) -> String {
    match input {
        Input::Received(channel, bytes) => format!("received {} bytes of {channel}", bytes.len()),
        Input::LogRead(bytes) => format!("log of {} bytes", bytes.len()),
        Input::Prepared(_) => "prepared".into(),
        other => format!("{other:?}"),
    }
}

pub(super) fn describe_effect(effect: &Effect) -> String {
    match effect {
        Effect::Prepare(_) => "Prepare".into(),
        Effect::Spawn(_) => "Spawn".into(),
        other => format!("{other:?}"),
    }
}

impl Host {
    pub(super) fn ordered(&self, wanted: &Effect) -> bool {
        self.effects.iter().any(|(effect, _)| effect == wanted)
    }

    pub(super) fn is_killing(&self) -> bool {
        self.ordered(&Effect::Signal(Signal::Kill))
    }

    /// Returns whether the process is being started.
    fn is_starting(&self) -> bool {
        let is_spawn = |(effect, answered): &(Effect, bool)| matches!(effect, Effect::Spawn(_)) && !answered;
        self.effects.iter().any(is_spawn)
    }

    /// Checks that an effect is valid now.
    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver that forgets an effect does not compile")]
    fn check(&self, effect: &Effect, scene: &Scene) -> Result<(), String> {
        let local = |channel: &Channel| scene.wires.get(channel).map(|wire| wire.local);
        let all_closed = || scene.wires.values().all(|wire| matches!(wire.local, LocalEnd::Made | LocalEnd::Closed));
        let is_gone = self.exited.is_some() || self.spawned != Some(true) || self.is_killing();
        let makes_sense = match effect {
            Effect::Prepare(_) => self.effects.is_empty(),
            Effect::Spawn(_) => self.prepared == Some(true),
            Effect::Open(channel) => self.spawned == Some(true) && local(channel) == Some(LocalEnd::Made),
            Effect::Close(channel) => matches!(local(channel), Some(LocalEnd::Opening | LocalEnd::Open)),
            Effect::Signal(signal) => {
                let is_late = *signal == Signal::Terminate && self.is_killing();
                // A process that is being started has no handler for SIGTERM.
                let is_starting = self.is_starting() && *signal == Signal::Kill;
                is_starting || self.spawned == Some(true) && self.exited.is_none() && !is_late
            }
            Effect::ReadLog { .. } => is_gone && all_closed() && self.is_settled(),
            Effect::Remove => self.log.is_some(),
            // No machine of these worlds outlives its parent.
            Effect::Detach => false,
            // Nor has one companions.
            Effect::Companion(..) => false,
        };
        if self.ordered(effect) {
            return Err(format!("{effect:?} was issued twice"));
        }
        if self.ordered(&Effect::Remove) || !makes_sense {
            return Err(format!("{effect:?} is not valid now"));
        }
        Ok(())
    }

    /// Returns whether every effect has completed but signals, whose results change nothing, and a preparation, which a
    /// run that ends does not wait for.
    fn is_settled(&self) -> bool {
        self.effects.iter().all(|(effect, answered)| *answered || is_not_waited_for(effect))
    }

    /// Returns what is left of this run: the process, or an effect that has not completed.
    pub(super) fn left(&self) -> Option<String> {
        let is_alive = self.spawned == Some(true) && self.exited.is_none();
        let order = self.effects.iter().find(|(_, answered)| !answered).map(|(effect, _)| describe_effect(effect));
        if is_alive { Some("the process".into()) } else { order }
    }

    /// Checks what must be true at the end of a run.
    pub(super) fn check_end(&self, scene: &Scene) -> Result<(), String> {
        let open: Vec<_> = self.effects.iter().filter(|(_, answered)| !answered).map(|(effect, _)| effect).collect();
        if !open.iter().all(|effect| is_not_waited_for(effect)) {
            return Err(format!("the run ended before {open:?} completed"));
        }
        if !self.removed || self.has_place {
            return Err("the run ended before the prepared directory was removed".into());
        }
        if scene.wires.values().any(|wire| matches!(wire.local, LocalEnd::Opening | LocalEnd::Open)) {
            return Err("the run ended while a channel is open".into());
        }
        if self.spawned == Some(true) && self.exited.is_none() && !self.is_killing() {
            return Err("the run ended while the process runs".into());
        }
        Ok(())
    }

    /// Marks `Close` as completed: the end of a channel completes it, whatever the cause.
    fn close_is_answered(&mut self, channel: Channel) {
        let is_close = |effect: &Effect| *effect == Effect::Close(channel);
        self.effects.iter_mut().filter(|(effect, _)| is_close(effect)).for_each(|(_, answered)| *answered = true);
    }

    pub(super) fn log_text(&self, limit: usize) -> String {
        let log = self.log.as_deref().unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(limit)..]).into_owned()
    }
}

fn is_not_waited_for(effect: &Effect) -> bool {
    matches!(effect, Effect::Signal(_) | Effect::Prepare(_))
}

impl World {
    /// Starts an effect. It completes now or later.
    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver carries out each effect")]
    pub(super) fn start(&mut self, effect: Effect) {
        self.scene.tell(format!("<- {}", describe_effect(&effect)));
        if matches!(effect, Effect::Prepare(_)) && self.host.removed {
            self.scene.fail("an effect was issued after the end of the run");
        }
        let sense = self.host.check(&effect, &self.scene);
        self.scene.check(sense);
        match effect {
            Effect::Open(channel) => self.set_local(channel, LocalEnd::Opening),
            Effect::Signal(Signal::Kill) => self.bounds.killed_at = Some(self.scene.now),
            Effect::Prepare(_)
            | Effect::Spawn(_)
            | Effect::Close(_)
            | Effect::Signal(Signal::Terminate)
            | Effect::ReadLog { .. }
            | Effect::Detach
            | Effect::Companion(..)
            | Effect::Remove => {}
        }
        let index = self.host.effects.len();
        self.host.effects.push((effect, false));
        let most = self.qemu.fate.host_takes;
        if most.is_zero() || self.scene.random.chance(50) {
            self.complete(index);
        } else {
            self.scene.within(most, What::Done(index));
        }
    }

    /// Completes an effect, and reports it.
    #[deny(clippy::wildcard_enum_match_arm, reason = "a driver that forgets an effect does not compile")]
    pub(super) fn complete(&mut self, index: usize) {
        let Some((effect, answered)) = self.host.effects.get_mut(index) else { return };
        if std::mem::replace(answered, true) {
            return;
        }
        match effect.clone() {
            Effect::Prepare(wanted) => {
                self.prepare(&wanted.channels.iter().map(|(channel, _)| *channel).collect::<Vec<_>>());
            }
            Effect::Spawn(spawn) => self.spawn(&spawn.arguments),
            Effect::Open(channel) => self.open(channel),
            Effect::Close(channel) => self.close(channel, index),
            Effect::Signal(signal) => self.signal(signal),
            Effect::ReadLog { limit } => {
                let length = self.scene.random.size(0, 300).min(limit);
                let log: Vec<u8> = (0..length).map(|_| self.scene.random.pick(b"qemu: \n\xc3")).collect();
                self.host.log = Some(log.clone());
                self.handle(Input::LogRead(&log));
            }
            Effect::Remove => {
                self.host.has_place = false;
                self.host.removed = true;
                let fails = self.qemu.fate.remove_fails;
                self.note_if(fails, "remove failed");
                self.host.faults += usize::from(fails);
                self.handle(Input::Removed(if fails { Err(fault("remove")) } else { Ok(()) }));
            }
            Effect::Detach => self.handle(Input::Detached),
            // `check` has failed the world.
            Effect::Companion(..) => {}
        }
    }

    pub(super) fn note_if(&mut self, happened: bool, what: &'static str) {
        if happened {
            self.scene.seen.note(what);
        }
    }

    fn set_local(&mut self, channel: Channel, local: LocalEnd) {
        if let Some(wire) = self.scene.wires.get_mut(&channel) {
            wire.local = local;
        }
    }

    fn prepare(&mut self, channels: &[Channel]) {
        if self.host.ordered(&Effect::Remove) {
            self.scene.seen.note("preparation abandoned");
            return self.handle(Input::PrepareFailed(fault("prepare")));
        }
        let fails = self.qemu.fate.prepare_fails;
        self.host.prepared = Some(!fails);
        if fails {
            self.scene.seen.note("prepare failed");
            self.host.broke_launch = true;
            return self.handle(Input::PrepareFailed(fault("prepare")));
        }
        self.host.has_place = true;
        let first = self.scene.random.size(3, 900) as i32;
        self.descriptors = channels.iter().copied().zip(first..).collect();
        let inherited = |(channel, number): &(Channel, i32)| (Inherited::Channel(*channel), *number);
        let descriptors = self.descriptors.iter().map(inherited).collect();
        self.scene.wires = channels.iter().map(|channel| (*channel, Wire::new())).collect();
        self.handle(Input::Prepared(Prepared { descriptors, ..Prepared::default() }));
    }

    fn spawn(&mut self, arguments: &[Vec<u8>]) {
        for (channel, number) in &self.descriptors {
            let wanted = format!("socket,fd={number},");
            let named = arguments.iter().any(|argument| argument.starts_with(wanted.as_bytes()));
            self.scene.demand(named, || format!("the command line does not name the descriptor of the {channel}"));
        }
        self.note_if(self.host.killed_at_start, "killed while being started");
        let fails = self.qemu.fate.spawn_fails || self.host.killed_at_start;
        self.host.spawned = Some(!fails);
        if fails {
            self.scene.seen.note("spawn failed");
            self.host.broke_launch = true;
            return self.handle(Input::SpawnFailed(fault("spawn")));
        }
        self.qemu.start(&mut self.scene);
        self.bounds.spawned(self.scene.style.monitor);
        self.handle(Input::Spawned { pid: 100 + self.scene.run });
    }

    fn open(&mut self, channel: Channel) {
        self.host.opened += 1;
        let fails = self.qemu.fate.open_fails.is_some_and(|which| which + 1 == self.host.opened);
        if fails {
            self.set_local(channel, LocalEnd::Closed);
            self.host.close_is_answered(channel);
            self.bounds.closed(channel, self.scene.now);
            let is_monitor = channel == Channel::Monitor;
            self.scene.seen.note(if is_monitor { "open of the monitor failed" } else { "open of a console failed" });
            self.host.broke_launch |= is_monitor;
            self.host.monitor_failed |= is_monitor;
            self.host.faults += usize::from(!is_monitor);
            return self.handle(Input::OpenFailed(channel, fault("open")));
        }
        self.set_local(channel, LocalEnd::Open);
        self.scene.stir(channel);
        self.bounds.opened(channel);
        self.handle(Input::Opened(channel));
    }

    /// Closes a channel. If it is still opening, that completes first; if it is at its end already, nothing is left to
    /// do.
    fn close(&mut self, channel: Channel, index: usize) {
        match self.scene.wires.get(&channel).map(|wire| wire.local) {
            Some(LocalEnd::Opening) => {
                self.host.effects[index].1 = false;
                self.scene.after(super::plan::millis(1), What::Done(index));
            }
            Some(LocalEnd::Open) => {
                self.scene.seen.note("closed by order");
                self.closed(channel);
            }
            _ => {}
        }
    }

    /// Reports the end of a channel, once.
    pub(super) fn closed(&mut self, channel: Channel) {
        self.set_local(channel, LocalEnd::Closed);
        self.host.close_is_answered(channel);
        self.bounds.closed(channel, self.scene.now);
        self.handle(Input::Closed(channel));
    }

    fn signal(&mut self, signal: Signal) {
        if self.host.is_starting() {
            self.host.killed_at_start = true;
            return self.handle(Input::Signalled(signal, Ok(())));
        }
        let fails = self.qemu.fate.signal_fails;
        if fails {
            self.scene.seen.note("signal failed");
            self.host.faults += 1;
            self.bounds.kill_refused |= signal == Signal::Kill;
            return self.handle(Input::Signalled(signal, Err(fault("signal"))));
        }
        self.note_if(signal == Signal::Terminate, "SIGTERM needed");
        self.note_if(signal == Signal::Kill, "SIGKILL needed");
        self.qemu.signal(signal, &mut self.scene);
        self.handle(Input::Signalled(signal, Ok(())));
    }

    /// Reports the exit of the process, once.
    pub(super) fn exit(&mut self) {
        let Some(status) = self.qemu.status.filter(|_| self.host.exited.is_none()) else { return };
        let open = self.scene.wires.values().filter(|wire| wire.local == LocalEnd::Open).count();
        self.note_if(open > 0, "exit before the end of a channel");
        self.note_if(open == 0, "end of all channels before the exit");
        self.host.exited = Some(status);
        self.bounds.exited(self.scene.now);
        self.handle(Input::Exited(status));
    }

    /// Resets the world for the next run.
    pub(super) fn begin_run(&mut self) {
        self.scene.run += 1;
        self.host = Host::default();
        self.scene.wires.clear();
        self.scene.typed.iter_mut().for_each(Vec::clear);
        let fate = Fate::draw(&mut self.scene.random, &self.scene.style);
        self.qemu = Qemu::new(fate);
    }
}
