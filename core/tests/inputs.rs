//! Tests of unexpected inputs: an input that completes nothing changes nothing, in any state.

use crate::rig::{GREETING, Rig, SIGKILL, at, config, fault, secs};
use qemu_machine_core::lifecycle;
use qemu_machine_core::lifecycle::{Lifecycle, LinkEvent, ProcessEvent, Retry, Wiring};
use qemu_machine_core::{
    Address, Channel, Config, Effect, ExitStatus, Inherited, Input, LaunchFailure, Monitor, Peer, Phase, Prepared,
    Shutdown, Signal, State,
};

const EVENT: &[u8] = b"{\"event\": \"STOP\"}\n";

/// Returns the configuration of a machine of another program.
fn attached() -> Config {
    Config::attach(Peer::Dial(Address::unix("/run/qmp")))
}

/// Returns a machine whose process has not connected yet, on a host that is slow to close.
fn awaited() -> Rig {
    let is_slow = |effect: &Effect| matches!(effect, Effect::Open(Channel::Monitor) | Effect::Close(_));
    held_of(config().monitor(Monitor::Socket), is_slow)
}

fn held(held: fn(&Effect) -> bool) -> Rig {
    held_of(config(), held)
}

fn held_of(config: Config, held: fn(&Effect) -> bool) -> Rig {
    let mut rig = Rig::new(config);
    rig.held = held;
    rig.launch();
    rig
}

fn cleaning(held: fn(&Effect) -> bool) -> Rig {
    let mut rig = Rig::ready(config());
    rig.held = held;
    rig.exits(ExitStatus::Code(0));
    rig.closes_all();
    rig
}

fn then(mut rig: Rig, step: impl FnOnce(&mut Rig)) -> Rig {
    step(&mut rig);
    rig
}

fn disconnect(rig: &mut Rig) {
    rig.held = |effect| matches!(effect, Effect::Close(_));
    rig.vm.disconnect(rig.now).expect("a machine of another program");
    rig.serve();
}

/// Returns a machine in each state of its run, with the name of the state.
fn states() -> Vec<(&'static str, Rig)> {
    vec![
        ("idle", Rig::new(config())),
        ("preparing", held(|effect| matches!(effect, Effect::Prepare(_)))),
        ("spawning", held(|effect| matches!(effect, Effect::Spawn(_)))),
        ("opening", held(|effect| matches!(effect, Effect::Open(_)))),
        ("greeting", Rig::launched(config())),
        ("negotiating", then(Rig::launched(config()), |rig| rig.says(GREETING))),
        ("hung up", then(Rig::launched(config()), |rig| rig.closes(Channel::Monitor))),
        ("running", Rig::ready(config())),
        ("stopping", then(Rig::ready(config()), |rig| rig.shutdown(Shutdown::default()))),
        ("killed", then(Rig::ready(config()), Rig::kill)),
        ("draining", then(Rig::ready(config()), |rig| rig.exits(SIGKILL))),
        ("reading the log", cleaning(|effect| matches!(effect, Effect::ReadLog { .. }))),
        ("removing", cleaning(|effect| matches!(effect, Effect::Remove))),
        ("ended", cleaning(|_| false)),
        ("others, preparing", held_of(attached(), |effect| matches!(effect, Effect::Prepare(_)))),
        ("others, opening", held_of(attached(), |effect| matches!(effect, Effect::Open(_)))),
        ("others, greeting", Rig::launched(attached())),
        ("others, running", Rig::ready(attached())),
        ("others, stopping", then(Rig::ready(attached()), |rig| rig.shutdown(Shutdown::default()))),
        ("others, disconnected", then(Rig::ready(attached()), disconnect)),
        ("awaited", awaited()),
        ("awaited, killed", then(awaited(), Rig::kill)),
        ("awaited, dead", then(awaited(), |rig| rig.exits(SIGKILL))),
    ]
}

/// Asserts that the input changes nothing except in these states.
fn matters_only_in(input: &Input<'_>, allowed: &[&str]) {
    let mut wrong = Vec::new();
    for (name, mut rig) in states().into_iter().filter(|(name, _)| !allowed.contains(name)) {
        let before = rig.vm.clone();
        rig.vm.handle(rig.now, input.clone());
        if rig.vm != before {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{input:?} changed a machine that was {wrong:?}");
}

const WITH_PROCESS: &[&str] =
    &["opening", "greeting", "negotiating", "hung up", "running", "stopping", "killed", "awaited", "awaited, killed"];
/// The states with a console: those with a process, and some after its exit.
const WITH_CONSOLE: &[&str] = &[
    "opening",
    "greeting",
    "negotiating",
    "hung up",
    "running",
    "stopping",
    "killed",
    "draining",
    "awaited",
    "awaited, killed",
    "awaited, dead",
];
const OTHERS: &[&str] =
    &["others, opening", "others, greeting", "others, running", "others, stopping", "others, disconnected"];
/// The states in which the monitor is being opened.
const OPENING: &[&str] = &["opening", "others, opening", "awaited", "awaited, killed", "awaited, dead"];

#[test]
fn the_machines_are_in_the_states_of_their_names() {
    for (name, rig) in states() {
        let expected = match name {
            "idle" => State::Idle,
            "preparing" | "spawning" => State::Launching(Phase::Starting),
            "opening" => State::Launching(Phase::Connecting),
            "greeting" | "hung up" => State::Launching(Phase::Greeting),
            "negotiating" => State::Launching(Phase::Negotiating),
            "running" => State::Running,
            "ended" => State::Ended,
            "others, preparing" => State::Launching(Phase::Starting),
            "others, opening" | "awaited" => State::Launching(Phase::Connecting),
            "others, greeting" => State::Launching(Phase::Greeting),
            "others, running" => State::Running,
            _ => State::Ending,
        };
        assert_eq!(rig.vm.state(), expected, "{name}");
    }
}

#[test]
fn prepared_completes_prepare() {
    let descriptors = vec![(Inherited::Channel(Channel::Monitor), 99)];
    matters_only_in(
        &Input::Prepared(Prepared { descriptors, ..Prepared::default() }),
        &["preparing", "others, preparing"],
    );
}

#[test]
fn a_failed_preparation_completes_prepare() {
    matters_only_in(&Input::PrepareFailed(fault("prepare")), &["preparing", "others, preparing"]);
}

#[test]
fn spawned_completes_spawn() {
    matters_only_in(&Input::Spawned { pid: 99 }, &["spawning"]);
}

#[test]
fn a_failed_spawn_completes_spawn() {
    matters_only_in(&Input::SpawnFailed(fault("spawn")), &["spawning"]);
}

#[test]
fn only_a_running_process_exits() {
    matters_only_in(&Input::Exited(ExitStatus::Code(7)), WITH_PROCESS);
}

#[test]
fn opened_completes_open() {
    matters_only_in(&Input::Opened(Channel::Monitor), OPENING);
    matters_only_in(&Input::Opened(Channel::Console(0)), &["opening"]);
    matters_only_in(&Input::Opened(Channel::Console(9)), &[]);
}

#[test]
fn a_monitor_that_cannot_be_opened_completes_open() {
    matters_only_in(&Input::OpenFailed(Channel::Monitor, fault("open")), OPENING);
}

#[test]
fn another_client_is_noticed_while_a_monitor_is_opened() {
    matters_only_in(&Input::PeerBusy(Channel::Monitor), OPENING);
    matters_only_in(&Input::PeerBusy(Channel::Console(9)), &[]);
}

#[test]
fn a_console_that_cannot_be_opened_completes_open() {
    matters_only_in(&Input::OpenFailed(Channel::Console(0), fault("open")), &["opening"]);
    matters_only_in(&Input::OpenFailed(Channel::Console(9), fault("open")), &[]);
}

#[test]
fn a_monitor_is_received_from_while_it_is_open() {
    let open = ["greeting", "negotiating", "running", "stopping", "killed", "draining"];
    let open = [&open[..], &OTHERS[1..]].concat();
    matters_only_in(&Input::Received(Channel::Monitor, EVENT), &open);
}

#[test]
fn a_console_prints_while_it_is_open() {
    matters_only_in(&Input::Received(Channel::Console(0), b"text"), WITH_CONSOLE);
    matters_only_in(&Input::Received(Channel::Console(9), b"text"), &[]);
}

#[test]
fn a_channel_closes_once() {
    let open = WITH_CONSOLE.iter().chain(OTHERS).copied().filter(|name| *name != "hung up").collect::<Vec<_>>();
    matters_only_in(&Input::Closed(Channel::Monitor), &open);
    matters_only_in(&Input::Closed(Channel::Console(0)), WITH_CONSOLE);
    matters_only_in(&Input::Closed(Channel::Console(9)), &[]);
}

#[test]
fn a_signal_fails_only_if_it_was_issued() {
    matters_only_in(&Input::Signalled(Signal::Terminate, Ok(())), &[]);
    let killed = ["killed", "draining", "reading the log", "removing", "awaited, killed"];
    matters_only_in(&Input::Signalled(Signal::Terminate, Err(fault("signal"))), &["stopping"]);
    matters_only_in(&Input::Signalled(Signal::Kill, Err(fault("signal"))), &killed);
}

#[test]
fn the_log_is_read_once() {
    matters_only_in(&Input::LogRead(b"words"), &["reading the log"]);
}

#[test]
fn files_are_removed_once() {
    matters_only_in(&Input::Removed(Ok(())), &["removing"]);
    matters_only_in(&Input::Removed(Err(fault("remove"))), &["removing"]);
}

#[test]
fn time_that_does_not_pass_changes_nothing() {
    matters_only_in(&Input::TimePassed, &[]);
}

/// The input comes again in the state that it led to.
#[test]
fn repeated_inputs_change_nothing() {
    let mut rig = Rig::ready(config());
    for input in [Input::Spawned { pid: 1 }, Input::Opened(Channel::Monitor), Input::Opened(Channel::Console(0))] {
        rig.handle(input);
    }
    let _ = rig.issue("query-status");
    assert!(rig.take_sent().contains("query-status"));
    rig.replies(1);
    assert_eq!((rig.vm.state(), rig.vm.pid()), (State::Running, Some(crate::rig::PID)));
}

fn step(run: &Lifecycle, input: lifecycle::Input) -> (Lifecycle, Vec<lifecycle::Output>) {
    let mut effects = Vec::new();
    let run = run.clone().step(at(secs(0)), input, &mut |order| effects.push(order));
    (run, effects)
}

/// The same for the lifecycle alone, which is public.
#[test]
fn a_lifecycle_ignores_inputs_that_do_not_fit() {
    let launch =
        || lifecycle::Input::Launch { until: None, wiring: Wiring::Inherited, retry: Retry::Never, channels: 1 };
    let preparing = step(&Lifecycle::default(), launch()).0;
    let spawning = step(&preparing, lifecycle::Input::Process(ProcessEvent::Prepared)).0;
    let opening = step(&spawning, lifecycle::Input::Process(ProcessEvent::Spawned { pid: 1 })).0;
    let greeting = step(&opening, lifecycle::Input::Link(LinkEvent::Opened)).0;
    let negotiating = step(&greeting, lifecycle::Input::Link(LinkEvent::Greeted)).0;
    let running = step(&negotiating, lifecycle::Input::Link(LinkEvent::Negotiated)).0;
    let foreign =
        || lifecycle::Input::Launch { until: None, wiring: Wiring::Foreign, retry: Retry::Never, channels: 1 };
    let dialling = step(&step(&Lifecycle::default(), foreign()).0, lifecycle::Input::Process(ProcessEvent::Prepared)).0;
    let met = [LinkEvent::Opened, LinkEvent::Greeted, LinkEvent::Negotiated].into_iter();
    let attached = met.fold(dialling.clone(), |run, input| step(&run, lifecycle::Input::Link(input)).0);
    let idle = Lifecycle::default();
    let mut wrong = Vec::new();
    let cases = [
        ("spawn of a foreign process", &dialling, lifecycle::Input::Process(ProcessEvent::Spawned { pid: 1 })),
        (
            "failed spawn of a foreign process",
            &dialling,
            lifecycle::Input::Process(ProcessEvent::SpawnFailed(fault("x"))),
        ),
        ("exit of a foreign process", &attached, lifecycle::Input::Process(ProcessEvent::Exited(SIGKILL))),
        ("a signal to a foreign process", &attached, lifecycle::Input::SignalRefused(Signal::Kill)),
        ("abandoning a process that was not killed", &attached, lifecycle::Input::Abandon),
        ("launch while launching", &greeting, launch()),
        ("launch while running", &running, launch()),
        ("shutdown while idle", &idle, lifecycle::Input::Shutdown(Shutdown::default())),
        ("kill while idle", &idle, lifecycle::Input::Kill),
        ("quit while idle", &idle, lifecycle::Input::QuitAccepted),
        ("a refused rung while running", &running, lifecycle::Input::RungRefused),
        (
            "failed preparation while spawning",
            &spawning,
            lifecycle::Input::Process(ProcessEvent::PrepareFailed(fault("x"))),
        ),
        (
            "failed preparation while greeting",
            &greeting,
            lifecycle::Input::Process(ProcessEvent::PrepareFailed(fault("x"))),
        ),
        ("failed spawn while preparing", &preparing, lifecycle::Input::Process(ProcessEvent::SpawnFailed(fault("x")))),
        (
            "failed spawn while negotiating",
            &negotiating,
            lifecycle::Input::Process(ProcessEvent::SpawnFailed(fault("x"))),
        ),
        ("exit while spawning", &spawning, lifecycle::Input::Process(ProcessEvent::Exited(SIGKILL))),
        (
            "failed open while preparing",
            &preparing,
            lifecycle::Input::Link(LinkEvent::OpenFailed(LaunchFailure::Host(fault("x")))),
        ),
        ("greeting while opening", &opening, lifecycle::Input::Link(LinkEvent::Greeted)),
        ("negotiated while greeting", &greeting, lifecycle::Input::Link(LinkEvent::Negotiated)),
        ("log while running", &running, lifecycle::Input::LogRead),
        ("removed while running", &running, lifecycle::Input::Removed),
        ("time without a deadline", &running, lifecycle::Input::TimePassed),
    ];
    for (name, run, input) in cases {
        if step(run, input) != (run.clone(), vec![]) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_run_that_is_over_stays_over() {
    let rig = cleaning(|_| false);
    let run = rig.vm.lifecycle();
    let mut wrong = Vec::new();
    for input in [
        lifecycle::Input::QuitAccepted,
        lifecycle::Input::RungRefused,
        lifecycle::Input::GuestStopped,
        lifecycle::Input::GuestResumed,
        lifecycle::Input::LogRead,
        lifecycle::Input::Removed,
        lifecycle::Input::TimePassed,
    ] {
        let name = format!("{input:?}");
        if step(run, input) != (run.clone(), vec![]) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
