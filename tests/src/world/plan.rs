//! Random configuration of a world, and the random faults of each of its runs.

use std::time::Duration;

use qemu_machine_core::{Config, Deadline, ExitStatus, FOREVER, Limits, SignalName};

use super::random::Random;

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The properties of a world, the same in all of its runs.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) monitor: bool,
    pub(super) consoles: usize,
    pub(super) limits: Limits,
    pub(super) launch_within: Option<Duration>,
    pub(super) debug_exit: bool,
    /// The chunks in which the output of QEMU arrives.
    pub(super) cut: Cut,
    /// Whether the monitor writes messages on several lines, as with `pretty=on`.
    pub(super) pretty: bool,
    /// Whether the monitor sends replies twice.
    pub(super) stutters: bool,
    /// The number of unread bytes that a socket holds.
    pub(super) room: usize,
    /// The number of actions of the caller, and the number of runs.
    pub(super) acts: u64,
    pub(super) runs: u32,
}

/// The sizes of the chunks of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Bytes,
    Crumbs,
    Mixed,
    Whole,
}

impl Style {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut limits = Limits::default();
        if random.chance(40) {
            limits.events = random.size(1, 4000);
            // At least the length of each text that is waited for.
            limits.console = random.size(8, 300);
            limits.console_input = random.size(10, 200);
            limits.commands = random.size(9, 60);
            (limits.last_words, limits.log) = (random.size(0, 200), random.size(0, 200));
        }
        let launch_within = (!random.chance(10)).then(|| random.within(secs(30)));
        Self {
            monitor: !random.chance(4),
            consoles: random.size(0, 2),
            limits,
            launch_within,
            debug_exit: random.chance(20),
            cut: random.pick(&[Cut::Bytes, Cut::Crumbs, Cut::Mixed, Cut::Mixed, Cut::Mixed, Cut::Whole, Cut::Whole]),
            pretty: random.chance(6),
            stutters: random.chance(5),
            room: if random.chance(50) { random.size(1, 100) } else { 100_000 },
            acts: random.between(5, 40),
            runs: random.between(1, 3) as u32,
        }
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config::new("qemu").autostart().limits(self.limits).launch_within(self.launch_deadline());
        for index in 0..self.consoles {
            config = config.serial(console_name(index));
        }
        if self.debug_exit {
            config = config.args(["-device", "isa-debug-exit,iobase=0xf4"]);
        }
        if self.monitor { config } else { config.without_monitor() }
    }

    fn launch_deadline(&self) -> Deadline {
        self.launch_within.map_or(FOREVER, Deadline::after)
    }
}

pub(super) fn console_name(index: usize) -> &'static str {
    ["tty0", "tty1"][index]
}

/// The faults and delays of one run.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) prepare_fails: bool,
    pub(super) spawn_fails: bool,
    pub(super) open_fails: Option<usize>,
    pub(super) remove_fails: bool,
    pub(super) signal_fails: bool,
    /// The longest time that an effect takes.
    pub(super) host_takes: Duration,
    pub(super) out_of_band: bool,
    /// `None` means that QEMU never sends its greeting.
    pub(super) greets_after: Option<Duration>,
    pub(super) handshake: Handshake,
    /// The numbers of events before the greeting, and before the reply to the negotiation.
    pub(super) early_events: [u64; 2],
    pub(super) events: u64,
    pub(super) prints: u64,
    /// A spontaneous incident, and its delay.
    pub(super) turn: Option<(Duration, Turn)>,
    pub(super) dies_at_byte: Option<usize>,
    pub(super) heeds_term: bool,
    pub(super) heeds_button: bool,
    /// The number of presses of the power button that the guest misses, because it is still booting.
    pub(super) unheard: u64,
    pub(super) kill: Kill,
    /// The time from the decision to end to the exit.
    pub(super) exits_after: Duration,
    /// How long another process holds QEMU's ends of the sockets after the exit. `None` means not at all, and
    /// `Some(None)` for ever.
    pub(super) held: Option<Option<Duration>>,
    /// Whether QEMU sends no SHUTDOWN on `quit`, as the storage daemon (measured with QEMU 7.2.22).
    pub(super) is_daemon: bool,
}

/// The result of the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    Accepted,
    Refused,
    Ignored,
}

/// The effect of a SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    Works,
    WorksAfter(Duration),
    Never,
}

/// A spontaneous incident in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    PowerOff,
    Reset,
    Panic,
    DebugExit(u32),
    Crash,
    Terminated,
    Killed,
    HangUp,
    /// The main loop is blocked, for this time; `None` means for ever.
    Stuck(Option<Duration>),
    /// The whole process is stopped, as by SIGSTOP.
    Stopped,
}

impl Fate {
    pub(super) fn draw(random: &mut Random, style: &Style) -> Self {
        let greets_late = if random.chance(85) { millis(5) } else { secs(10) };
        let exits_late = if random.chance(85) { millis(20) } else { secs(25) };
        Self {
            prepare_fails: random.chance(3),
            spawn_fails: random.chance(3),
            open_fails: random.chance(3).then(|| random.size(0, 2)),
            remove_fails: random.chance(4),
            signal_fails: random.chance(3),
            host_takes: random.pick(&[millis(0), millis(2), millis(100)]),
            out_of_band: random.chance(70),
            greets_after: (!random.chance(3)).then(|| random.within(greets_late)),
            handshake: random.pick(&HANDSHAKES),
            early_events: [random.below(4) / 2, random.below(4) / 2],
            events: random.below(15),
            prints: random.below(10),
            turn: random.chance(45).then(|| Self::draw_turn(random, style)),
            dies_at_byte: random.chance(12).then(|| random.size(0, 900)),
            heeds_term: !random.chance(12),
            heeds_button: random.chance(50),
            unheard: random.below(4) / 2,
            kill: random.pick(&KILLS),
            exits_after: random.within(exits_late),
            held: random.chance(6).then(|| random.chance(50).then(|| random.within(secs(4)))),
            is_daemon: random.chance(4),
        }
    }

    fn draw_turn(random: &mut Random, style: &Style) -> (Duration, Turn) {
        let after = random.pick(&[millis(10), millis(500), secs(20)]);
        let patience = random.chance(50).then(|| random.within(secs(20)));
        let turn = random.pick(&[
            Turn::PowerOff,
            Turn::Reset,
            Turn::Panic,
            if style.debug_exit { Turn::DebugExit(7) } else { Turn::Crash },
            Turn::Crash,
            Turn::Terminated,
            Turn::Killed,
            Turn::HangUp,
            Turn::Stuck(patience),
            Turn::Stuck(None),
            Turn::Stopped,
        ]);
        (random.within(after), turn)
    }

    /// Draws the exit status of a crash.
    pub(super) fn draw_death(random: &mut Random) -> ExitStatus {
        let abort = ExitStatus::Signal { number: 6, name: SignalName::Abrt, core_dumped: true };
        let crash = ExitStatus::Signal { number: 11, name: SignalName::Segv, core_dumped: false };
        random.pick(&[ExitStatus::Code(1), ExitStatus::Code(2), ExitStatus::Code(0), abort, crash])
    }
}

/// Most negotiations succeed.
const HANDSHAKES: [Handshake; 30] = {
    let mut all = [Handshake::Accepted; 30];
    (all[0], all[1]) = (Handshake::Refused, Handshake::Ignored);
    all
};

const KILLS: [Kill; 20] = {
    let mut all = [Kill::Works; 20];
    (all[0], all[1], all[2]) = (Kill::Never, Kill::WorksAfter(secs(9)), Kill::WorksAfter(secs(12)));
    all
};
