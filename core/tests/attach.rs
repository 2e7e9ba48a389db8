//! Tests of runs on a machine of another program: how its monitor is reached, why that may fail, and that the machine
//! is left running.
#![allow(unused_must_use, reason = "many commands here are only sent")]

use core::time::Duration;

use crate::rig::{GREETING, HANDSHAKE, Rig, SIGKILL, at, config, fault, secs, tcp};
use qemu_machine_core::{
    Address, Cause, Channel, CommandError, Config, Descriptor, Effect, ExitStatus, FOREVER, FaultKind, Found,
    HostFault, Identity, Input, LaunchFailure, Limits, Misuse, Monitor, Notice, Peer, Phase, Progress, Refusal, Rung,
    Shutdown, State, Ticket, Transport, Wait, WaitError, Why,
};

const READY: &str = r#"{"return": {}, "id": 0}"#;
const MONITOR: Channel = Channel::Monitor;
/// The effects after the end of every connection.
const CLEANED: [&str; 2] = ["ReadLog", "Remove"];

fn dial() -> Peer {
    Peer::Dial(Address::unix("/run/vm/qmp"))
}

fn attached() -> Config {
    Config::attach(dial())
}

/// Returns a machine of another program, with this effect outstanding.
fn held(held: fn(&Effect) -> bool) -> Rig {
    let mut rig = Rig::new(attached());
    rig.held = held;
    rig.launch();
    rig
}

/// Returns the failure of a launch whose connection fails in this way.
fn refused(peer: Peer, kind: FaultKind) -> (LaunchFailure, HostFault) {
    // A machine that could not be resumed may still run: none of its files is removed.
    let cleaning: &[&str] = match peer {
        Peer::Detached(_) => &["ReadLog", "Detach", "Remove"],
        _ => &["ReadLog", "Remove"],
    };
    let mut rig = Rig::new(Config::attach(peer));
    rig.held = |effect| matches!(effect, Effect::Open(_));
    rig.launch();
    let fault = HostFault { kind, ..fault("connect") };
    rig.handle(Input::OpenFailed(MONITOR, fault.clone()));
    assert_eq!(rig.order_names(), [&["Prepare", "Open(Monitor)"], cleaning].concat());
    assert_eq!((rig.vm.deadline(), rig.outcome().faults), (None, vec![]));
    (rig.failure(), fault)
}

#[test]
fn a_run_from_the_connection_to_the_disconnect() {
    let mut rig = Rig::launched(attached());
    assert_eq!((rig.vm.state(), rig.vm.is_attached()), (State::Launching(Phase::Greeting), true));
    assert_eq!(rig.vm.deadline(), Some((at(secs(30)), Why::Launch(Phase::Greeting))));
    rig.says(GREETING);
    assert_eq!((rig.vm.state(), rig.take_sent().as_str()), (State::Launching(Phase::Negotiating), HANDSHAKE));
    rig.says(READY);
    assert_eq!((rig.vm.state(), rig.vm.launched(), rig.vm.pid()), (State::Running, Some(Ok(())), None));
    assert_eq!((rig.vm.deadline(), rig.vm.channels()), (None, &[MONITOR][..]));
    let ticket = rig.issue("query-status");
    rig.replies(1);
    assert_eq!(rig.claim(&ticket), Some(Ok(1)));
    rig.vm.disconnect(rig.now).expect("a machine of another program");
    rig.serve();
    let outcome = rig.outcome();
    assert_eq!((outcome.cause, outcome.exit, outcome.rungs), (Cause::Disconnected, None, vec![]));
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Ended, Some(Ok(()))));
    assert_eq!(rig.order_names(), ["Prepare", "Open(Monitor)", "Close(Monitor)", "ReadLog", "Remove"]);
    assert_eq!(rig.notices, [Notice::Ready, Notice::Answered(ticket.id()), Notice::Ended]);
}

#[test]
fn each_peer_has_its_transport_and_nothing_else_is_prepared() {
    let (path, port) = (Address::unix("/run/vm/qmp"), tcp("127.0.0.1:4444"));
    let given = Descriptor::new(7_u32);
    for (peer, transport) in [
        (Peer::Dial(path.clone()), Transport::Dial(path.clone())),
        (Peer::Dial(port.clone()), Transport::Dial(port)),
        (Peer::Listen(path.clone()), Transport::Listen(path)),
        (Peer::Connected(given.clone()), Transport::Connected(given)),
    ] {
        let rig = Rig::ready(Config::attach(peer));
        let Effect::Prepare(wanted) = &rig.effects[0] else { panic!("{:?}", rig.effects) };
        assert_eq!(wanted.channels, [(MONITOR, transport)]);
        assert!(!wanted.process && wanted.services.is_empty() && wanted.added.is_empty() && wanted.files.is_empty());
        assert_eq!((rig.vm.command_line().to_string().as_str(), rig.vm.command_line().arguments()), ("", &[][..]));
    }
}

/// After a `quit` that does not work, the machine is disconnected: there is no process to signal.
#[test]
fn the_ladder_has_no_signals() {
    let mut rig = Rig::ready(attached());
    rig.shutdown(Shutdown::within(secs(30)).power_down(secs(60)));
    assert_eq!(rig.take_sent(), r#"{"execute":"system_powerdown","id":1}"#);
    assert_eq!(rig.vm.deadline(), Some((at(secs(60)), Why::Rung(Rung::PowerDown))));
    rig.pass(secs(60));
    assert_eq!(rig.take_sent(), r#"{"execute":"quit","id":2}"#);
    assert_eq!(rig.vm.deadline(), Some((at(secs(80)), Why::Rung(Rung::Quit))));
    rig.pass_exactly(secs(20));
    let outcome = rig.outcome();
    assert_eq!((outcome.cause, outcome.rungs), (Cause::Disconnected, vec![Rung::PowerDown, Rung::Quit]));
    assert_eq!(rig.signals(), []);
}

#[test]
fn a_quit_that_is_refused_disconnects_at_once() {
    let mut rig = Rig::ready(attached());
    rig.shutdown(Shutdown::default());
    rig.refuses(1);
    assert_eq!((rig.outcome().cause, rig.outcome().rungs), (Cause::Disconnected, vec![Rung::Quit]));
}

#[test]
fn an_accepted_quit_is_waited_for() {
    for told in [true, false] {
        let mut rig = Rig::ready(attached());
        rig.shutdown(Shutdown::default());
        rig.replies(1);
        if told {
            rig.shuts_down("host-qmp-quit");
        }
        assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::Rung(Rung::Quit))));
        rig.closes(MONITOR);
        let outcome = rig.outcome();
        assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Quit), None));
        assert_eq!(rig.order_names()[2..], CLEANED, "it closed by itself");
    }
}

/// The ladder waits for a `quit` of the caller as for its own.
#[test]
fn a_quit_that_was_accepted_before_is_not_repeated() {
    let mut rig = Rig::ready(attached());
    rig.issue("quit");
    rig.take_sent();
    rig.replies(1);
    rig.shutdown(Shutdown::default());
    assert_eq!((rig.take_sent().as_str(), rig.vm.rungs()), ("", &[][..]));
    rig.pass_exactly(secs(20));
    assert_eq!(rig.outcome().cause, Cause::Disconnected);
}

/// There is no exit status, so the events are the only evidence.
#[test]
fn the_cause_follows_from_the_events_before_the_end() {
    for (reason, expected) in [
        (None, Cause::HungUp),
        (Some("guest-shutdown"), Cause::PowerOff),
        (Some("guest-reset"), Cause::Reset),
        (Some("guest-panic"), Cause::Panic),
        (Some("host-qmp-quit"), Cause::QuitByOther),
        (Some("host-signal"), Cause::Signal { number: None, sender: None }),
        (Some("host-ui"), Cause::Other("host-ui".into())),
    ] {
        let mut rig = Rig::ready(attached());
        reason.into_iter().for_each(|reason| rig.shuts_down(reason));
        rig.closes(MONITOR);
        assert_eq!((rig.outcome().cause, rig.vm.state()), (expected, State::Ended));
        assert_eq!(rig.order_names()[2..], CLEANED);
        // A machine that is disconnected has not ended, whatever its events said.
        let mut rig = Rig::ready(attached());
        reason.into_iter().for_each(|reason| rig.shuts_down(reason));
        rig.vm.disconnect(rig.now);
        rig.serve();
        assert_eq!(rig.outcome().cause, Cause::Disconnected);
    }
    assert_eq!(Cause::HungUp.to_string(), "closed its monitor");
    assert_eq!(Cause::Disconnected.to_string(), "disconnected by the caller, and left running");
}

/// Returns a machine in each phase of its launch.
fn phases() -> [(Phase, Rig); 4] {
    let greeted = |mut rig: Rig| {
        rig.says(GREETING);
        rig
    };
    [
        (Phase::Starting, held(|effect| matches!(effect, Effect::Prepare(_)))),
        (Phase::Connecting, held(|effect| matches!(effect, Effect::Open(_)))),
        (Phase::Greeting, Rig::launched(attached())),
        (Phase::Negotiating, greeted(Rig::launched(attached()))),
    ]
}

#[test]
fn a_launch_can_be_cancelled_in_every_phase() {
    type End = fn(&mut Rig);
    let ends: [End; 3] = [
        |rig| rig.vm.disconnect(rig.now).expect("it was launched"),
        |rig| rig.vm.shutdown(rig.now, Shutdown::default().power_down(secs(9))).expect("it was launched"),
        |rig| rig.vm.kill_or_disconnect(rig.now),
    ];
    for end in ends {
        for (phase, mut rig) in phases() {
            end(&mut rig);
            rig.held = |_| false;
            let prepare = rig.effects.iter().find(|effect| matches!(effect, Effect::Prepare(_))).cloned();
            prepare.filter(|_| phase == Phase::Starting).iter().for_each(|effect| rig.answer(effect));
            rig.serve();
            assert_eq!((rig.vm.state(), rig.failure()), (State::Ended, LaunchFailure::Cancelled(phase)));
            let is_dialled = phase != Phase::Starting;
            let cause = if is_dialled { Cause::Disconnected } else { Cause::NotStarted };
            assert_eq!((rig.outcome().cause, rig.outcome().rungs), (cause, vec![]), "{phase:?}");
            let opened = rig.effects.contains(&Effect::Open(MONITOR));
            let closed = rig.effects.contains(&Effect::Close(MONITOR));
            assert_eq!((opened, closed, rig.signals()), (is_dialled, is_dialled, vec![]), "{phase:?}");
        }
    }
}

/// There is no process whose exit could explain the hang-up, so the run ends at once.
#[test]
fn a_hang_up_during_the_launch_ends_the_run() {
    for (phase, mut rig) in phases() {
        if phase == Phase::Starting {
            continue;
        }
        rig.closes(MONITOR);
        assert_eq!((rig.failure(), rig.outcome().cause), (LaunchFailure::HungUp(phase), Cause::HungUp));
        assert_eq!(rig.order_names()[2..], CLEANED);
    }
}

#[test]
fn the_launch_has_a_deadline_in_every_phase() {
    for (phase, mut rig) in phases() {
        assert_eq!(rig.vm.deadline(), Some((at(secs(30)), Why::Launch(phase))));
        rig.pass_exactly(secs(30));
        assert_eq!(rig.vm.launch_failure(), Some(&LaunchFailure::TimedOut(phase)));
        assert_eq!((rig.vm.deadline(), rig.signals()), (None, vec![]));
        assert_eq!(rig.effects.contains(&Effect::Close(MONITOR)), phase != Phase::Starting);
    }
}

#[test]
fn a_failed_preparation_means_not_started() {
    let mut rig = Rig::new(attached());
    rig.failing = |effect| matches!(effect, Effect::Prepare(_));
    rig.launch();
    assert_eq!((rig.failure(), rig.outcome().cause), (LaunchFailure::Host(fault("oblige")), Cause::NotStarted));
}

#[test]
fn the_reasons_of_a_failed_connection_are_distinguished() {
    let port = || Peer::Dial(tcp("127.0.0.1:4444"));
    let listen = || Peer::Listen(Address::unix("/run/vm/qmp"));
    let detached = || {
        let identity = r#"{"boot":"4f","pid":7,"started":9,"monitor":"/m","socket":[1,2],"directory":null}"#;
        Peer::Detached(serde_json::from_str::<Identity>(identity).expect("an identity").into())
    };
    type Expected = fn(HostFault) -> LaunchFailure;
    let cases: [(Peer, FaultKind, Expected); 10] = [
        (dial(), FaultKind::NotFound, LaunchFailure::NotListening),
        (dial(), FaultKind::Refused, LaunchFailure::Dead),
        (dial(), FaultKind::RefusedOrBusy, LaunchFailure::Host),
        (dial(), FaultKind::Denied, LaunchFailure::Host),
        (port(), FaultKind::Refused, LaunchFailure::NotListening),
        (port(), FaultKind::Denied, LaunchFailure::Host),
        // When the machine listens, the same kinds are faults of its own socket.
        (listen(), FaultKind::NotFound, LaunchFailure::Host),
        (listen(), FaultKind::Busy, LaunchFailure::Host),
        (detached(), FaultKind::Refused, LaunchFailure::Host),
        (detached(), FaultKind::NotFound, LaunchFailure::Host),
    ];
    for (peer, kind, expected) in cases {
        let (failure, fault) = refused(peer.clone(), kind);
        assert_eq!(failure, expected(fault), "{peer:?}, {kind:?}");
    }
}

/// Returns a machine whose first attempt to connect failed in this way, with the next one outstanding.
fn dialled_again(config: Config, kind: FaultKind) -> (Rig, HostFault) {
    let mut rig = Rig::new(config);
    rig.held = |effect| matches!(effect, Effect::Open(_));
    rig.launch();
    let fault = HostFault { kind, ..fault("connect") };
    rig.handle(Input::OpenFailed(MONITOR, fault.clone()));
    assert_eq!(rig.vm.deadline(), Some((at(Duration::from_millis(100)), Why::Redial)));
    assert_eq!((rig.vm.state(), rig.vm.channels()), (State::Launching(Phase::Connecting), &[][..]));
    rig.pass_exactly(Duration::from_millis(100));
    assert_eq!(
        (rig.vm.deadline(), rig.vm.channels()),
        (Some((at(secs(30)), Why::Launch(Phase::Connecting))), &[MONITOR][..])
    );
    (rig, fault)
}

/// Returns how many times the monitor was to be opened.
fn opened(rig: &Rig) -> usize {
    rig.effects.iter().filter(|effect| **effect == Effect::Open(MONITOR)).count()
}

type Failed = fn(HostFault) -> LaunchFailure;

/// Returns each failure to connect that is retried.
fn retried() -> [(Config, FaultKind, Failed); 7] {
    let awaited = |peer| Config::attach(peer).wait_for_listener();
    let port = || Peer::Dial(tcp("127.0.0.1:4444"));
    let name = || Peer::Dial(Address::abstract_unix("vm"));
    [
        (attached(), FaultKind::Busy, |_| LaunchFailure::Busy),
        (awaited(dial()), FaultKind::Busy, |_| LaunchFailure::Busy),
        (awaited(dial()), FaultKind::NotFound, LaunchFailure::NotListening),
        (awaited(dial()), FaultKind::Refused, LaunchFailure::Dead),
        (awaited(dial()), FaultKind::RefusedOrBusy, LaunchFailure::Host),
        (awaited(port()), FaultKind::Refused, LaunchFailure::NotListening),
        (awaited(name()), FaultKind::Refused, LaunchFailure::NotListening),
    ]
}

#[test]
fn g06_a_full_backlog_and_an_awaited_listener_are_dialled_until_the_deadline() {
    for (config, kind, failed) in retried() {
        let (mut rig, fault) = dialled_again(config, kind);
        let ticket = rig.issue("query-status");
        for _ in 1..300 {
            rig.handle(Input::OpenFailed(MONITOR, fault.clone()));
            rig.pass(Duration::from_millis(100));
        }
        assert_eq!((rig.failure(), rig.vm.state()), (failed(fault), State::Ended));
        assert_eq!(opened(&rig), 300);
        assert_eq!(rig.times_answered(ticket.id()), 1);
    }
}

#[test]
fn g06_a_peer_that_is_reachable_at_last_is_attached_to() {
    for (config, kind, _) in retried() {
        let (mut rig, fault) = dialled_again(config, kind);
        let ticket = rig.issue("query-status");
        rig.handle(Input::OpenFailed(MONITOR, fault));
        rig.pass(Duration::from_millis(100));
        rig.handle(Input::Opened(MONITOR));
        rig.negotiate(GREETING);
        rig.replies(1);
        assert_eq!((rig.claim(&ticket), rig.vm.state()), (Some(Ok(1)), State::Running));
        // A later launch has its own failure.
        rig.vm.disconnect(rig.now);
        rig.serve();
        rig.launch();
        rig.pass(secs(30));
        assert_eq!(rig.failure(), LaunchFailure::TimedOut(Phase::Connecting));
    }
}

/// A client that was refused a place in the backlog, and then got one, waits for the client that is served.
#[test]
fn g06_a_place_in_the_backlog_does_not_make_the_monitor_less_busy() {
    let (mut rig, _) = dialled_again(attached(), FaultKind::Busy);
    rig.handle(Input::Opened(MONITOR));
    rig.pass(secs(30));
    assert_eq!(rig.failure(), LaunchFailure::Busy);
}

#[test]
fn a_launch_that_waits_to_dial_again_can_be_cancelled() {
    for end in [
        (|rig: &mut Rig| rig.vm.disconnect(rig.now).expect("it was launched")) as fn(&mut Rig),
        |rig| rig.vm.shutdown(rig.now, Shutdown::default()).expect("it was launched"),
        |rig| rig.vm.kill_or_disconnect(rig.now),
    ] {
        let (mut rig, fault) = dialled_again(attached(), FaultKind::Busy);
        rig.handle(Input::OpenFailed(MONITOR, fault));
        end(&mut rig);
        rig.serve();
        assert_eq!((rig.failure(), rig.vm.state()), (LaunchFailure::Cancelled(Phase::Connecting), State::Ended));
        assert_eq!(rig.vm.deadline(), None);
    }
}

/// Returns a machine that listens for its monitor, with a stranger connected, and a command that is queued.
fn with_a_stranger(config: Config) -> (Rig, Ticket<&'static str>) {
    let mut rig = Rig::launched(config);
    assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting));
    let ticket = rig.issue("query-status");
    (rig, ticket)
}

/// The machines for which any process may dial.
fn listening() -> [Config; 3] {
    let launched = || Config::new("qemu").autostart().trust_peer();
    [
        Config::attach(Peer::Listen(Address::unix("/run/vm/qmp"))),
        launched().monitor(Monitor::Socket),
        launched().monitor(Monitor::At(tcp("127.0.0.1:4444"))),
    ]
}

#[test]
fn g37_a_stranger_that_dials_and_hangs_up_or_sends_something_else_does_not_end_the_launch() {
    let strangers: [fn(&mut Rig); 8] = [
        |rig| rig.closes(MONITOR),
        |rig| {
            rig.handle(Input::Received(MONITOR, b"{\"QMP\": {"));
            rig.closes(MONITOR);
        },
        |rig| rig.says("GET / HTTP/1.1"),
        |rig| rig.says(r#"{"return": {}}"#),
        |rig| rig.handle(Input::Received(MONITOR, &[b'x'; 2 << 20])),
        |rig| {
            rig.happens("POWERDOWN");
            rig.closes(MONITOR);
        },
        |rig| (0..65).for_each(|_| rig.happens("POWERDOWN")),
        |rig| rig.says(&format!(r#"{{"event": "{}"}}"#, "X".repeat(4096))),
    ];
    for config in listening() {
        let mut limits = Limits::default();
        limits.message = 1 << 20;
        let (mut rig, ticket) = with_a_stranger(config.limits(limits));
        for stranger in strangers.into_iter().chain(strangers) {
            let before = opened(&rig);
            stranger(&mut rig);
            assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting), "the next one is connected");
            assert_eq!(opened(&rig), before + 1);
            assert_eq!(rig.take_sent(), "", "a stranger gets no command");
        }
        rig.happens("STOP");
        rig.negotiate(GREETING);
        let history = rig.vm.history();
        let events = (history.first()..history.end()).filter_map(|number| history.get(number));
        let events: Vec<_> = events.map(|event| event.name().to_string()).collect();
        assert_eq!(
            events,
            ["STOP"],
            "what a stranger says has not happened, and what QEMU says before its greeting has"
        );
        rig.replies(1);
        assert_eq!((rig.claim(&ticket), rig.vm.state()), (Some(Ok(1)), State::Running));
        // After the greeting, the peer counts as QEMU.
        rig.closes(MONITOR);
        assert_eq!(opened(&rig), 1 + 2 * strangers.len());
    }
}

/// A driver may see the end of the connection before it carries out the effect that closes it.
#[test]
fn g37_a_stranger_that_hangs_up_while_it_is_refused_is_closed_once() {
    let (mut rig, _) = with_a_stranger(listening()[0].clone());
    rig.vm.handle(rig.now, Input::Received(MONITOR, b"GET / HTTP/1.1\n"));
    rig.vm.handle(rig.now, Input::Closed(MONITOR));
    rig.serve();
    assert!(!rig.effects.contains(&Effect::Close(MONITOR)));
    assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting));
}

#[test]
fn g37_a_launch_that_met_only_strangers_reports_the_latest() {
    for config in listening() {
        let (mut rig, ticket) = with_a_stranger(config);
        rig.held = |effect| matches!(effect, Effect::Open(_));
        rig.closes(MONITOR);
        rig.pass(secs(30));
        rig.held = |_| false;
        rig.serve();
        if rig.vm.state() != State::Ended {
            rig.dies(SIGKILL);
        }
        assert_eq!((rig.failure(), rig.times_answered(ticket.id())), (LaunchFailure::HungUp(Phase::Greeting), 1));
    }
}

/// The end of the process that was launched ends the launch, whatever strangers do.
#[test]
fn g37_the_end_of_the_process_ends_a_launch_that_met_a_stranger() {
    let [_, launched, _] = listening();
    let (mut rig, _) = with_a_stranger(launched);
    rig.held = |effect| matches!(effect, Effect::Open(_));
    rig.closes(MONITOR);
    rig.dies(SIGKILL);
    assert_eq!(rig.failure(), LaunchFailure::Exited(Phase::Connecting));
}

/// A stranger that was verified not to be one is QEMU: its hang-up ends the launch.
#[test]
fn g37_a_verified_peer_that_hangs_up_ends_the_launch() {
    let mut rig = Rig::launched(Config::new("qemu").autostart().monitor(Monitor::Socket));
    rig.closes(MONITOR);
    rig.dies(SIGKILL);
    assert_eq!(rig.failure(), LaunchFailure::Exited(Phase::Greeting));
}

/// A monitor that serves another client does not greet. That is not a slow start.
#[test]
fn a_monitor_with_another_client_that_does_not_greet_is_busy() {
    for (is_busy, greets, expected) in [
        (true, false, LaunchFailure::Busy),
        (false, false, LaunchFailure::TimedOut(Phase::Greeting)),
        (true, true, LaunchFailure::TimedOut(Phase::Negotiating)),
    ] {
        let mut rig = held(|effect| matches!(effect, Effect::Open(_)));
        if is_busy {
            rig.handle(Input::PeerBusy(MONITOR));
        }
        rig.handle(Input::Opened(MONITOR));
        if greets {
            rig.says(GREETING);
        }
        rig.pass_exactly(secs(30));
        assert_eq!(rig.failure(), expected);
        // The next run does not inherit the flag.
        rig.held = |_| false;
        rig.launch();
        rig.pass(secs(30));
        assert_eq!(rig.failure(), LaunchFailure::TimedOut(Phase::Greeting));
    }
}

/// The other client has disconnected in time.
#[test]
fn a_monitor_with_another_client_that_greets_in_time_is_attached() {
    let mut rig = held(|effect| matches!(effect, Effect::Open(_)));
    rig.handle(Input::PeerBusy(MONITOR));
    rig.handle(Input::Opened(MONITOR));
    rig.negotiate(GREETING);
    assert_eq!(rig.vm.state(), State::Running);
}

#[test]
fn a_failed_handshake_closes_the_monitor() {
    let mut rig = Rig::launched(attached());
    rig.says("garbage");
    assert!(matches!(rig.failure(), LaunchFailure::Broken(_)));
    assert_eq!(rig.order_names()[2..], ["Close(Monitor)", "ReadLog", "Remove"]);
    let mut rig = Rig::launched(attached());
    rig.says(GREETING);
    rig.refuses(0);
    let refusal =
        Refusal { command: "qmp_capabilities".into(), class: "GenericError".into(), description: "no".into() };
    assert_eq!(rig.failure(), LaunchFailure::Refused(refusal));
}

#[test]
fn only_our_own_process_is_killed_and_only_foreign_ones_are_disconnected() {
    let mut foreign = Rig::new(attached());
    assert_eq!(foreign.vm.disconnect(foreign.now), Err(Misuse::NotLaunched));
    assert_eq!(foreign.vm.shutdown(foreign.now, Shutdown::default()), Err(Misuse::NotLaunched));
    foreign.launch();
    foreign.negotiate(GREETING);
    assert_eq!(foreign.vm.kill(foreign.now), Err(Misuse::NotOurs));
    let mut ours = Rig::ready(config());
    assert!(!ours.vm.is_attached());
    assert_eq!(ours.vm.disconnect(ours.now), Err(Misuse::Ours));
    for rig in [&mut foreign, &mut ours] {
        rig.take_effects();
        rig.serve();
        assert_eq!((rig.vm.state(), rig.take_effects()), (State::Running, vec![]), "a refusal does nothing");
    }
}

/// This is what a driver does that goes away.
#[test]
fn kill_or_disconnect_kills_our_process_and_disconnects_a_foreign_one() {
    let mut idle = Rig::new(config());
    let before = idle.vm.clone();
    idle.vm.kill_or_disconnect(at(secs(1)));
    assert!(idle.vm == before, "{:?}", idle.vm);
    let mut ours = Rig::ready(config());
    ours.vm.kill_or_disconnect(ours.now);
    ours.serve();
    assert_eq!(ours.signals(), [qemu_machine_core::Signal::Kill]);
    assert_eq!(ours.dies(SIGKILL).cause, Cause::Asked(Rung::Kill));
    let mut foreign = Rig::ready(attached());
    foreign.shutdown(Shutdown::default());
    foreign.vm.kill_or_disconnect(foreign.now);
    foreign.serve();
    assert_eq!((foreign.outcome().cause, foreign.outcome().rungs), (Cause::Disconnected, vec![Rung::Quit]));
    foreign.take_effects();
    foreign.vm.kill_or_disconnect(foreign.now);
    assert_eq!(foreign.vm.disconnect(foreign.now), Ok(()), "it is disconnected already");
    foreign.serve();
    assert_eq!((foreign.vm.state(), foreign.effects.len()), (State::Ended, 0));
}

#[test]
fn the_errors_of_attaching_say_attach() {
    let mut rig = held(|effect| matches!(effect, Effect::Open(_)));
    rig.handle(Input::OpenFailed(MONITOR, fault("connect to /run/vm/qmp")));
    assert_eq!(
        rig.vm.launched().unwrap().unwrap_err().to_string(),
        "attach failed: no process listens there: cannot connect to /run/vm/qmp: No such file or directory"
    );
    let fault = || fault("connect");
    for (failure, expected) in [
        (
            LaunchFailure::Dead(fault()),
            "the process that listened there is gone: cannot connect: No such file or directory",
        ),
        (LaunchFailure::Busy, "the monitor is busy with another client: it serves one at a time"),
        (LaunchFailure::HungUp(Phase::Greeting), "the monitor was closed before its monitor greeted"),
    ] {
        assert_eq!(failure.to_string(), expected);
    }
}

/// The end of the connection ends all of its commands and waits.
#[test]
fn callers_that_wait_are_answered_at_a_disconnect() {
    let mut rig = Rig::ready(attached());
    let (sent, mark) = (rig.issue("a"), rig.vm.mark());
    let end = rig.wait(&mark, [Wait::end()]);
    let event = rig.wait(&mark, [Wait::event("STOP")]);
    rig.held = |effect| matches!(effect, Effect::Close(_));
    rig.vm.disconnect(rig.now);
    rig.serve();
    let late = rig.issue("b");
    assert_eq!((rig.vm.state(), rig.vm.outcome()), (State::Ending, None));
    rig.closes(MONITOR);
    for ticket in [sent, late] {
        assert_eq!(rig.claim(&ticket), Some(Err(CommandError::Disconnected(Progress::Sent))));
    }
    assert!(matches!(rig.vm.claim_wait(end), Some(Ok(hit)) if matches!(hit.found, Found::End(_))));
    assert!(
        matches!(rig.vm.claim_wait(event), Some(Err(WaitError::Ended(outcome))) if outcome.cause == Cause::Disconnected)
    );
    assert_eq!(rig.outcome().unanswered, 2);
    assert!(matches!(rig.vm.execute(rig.now, &"c", FOREVER), Err(Misuse::Ended)));
}

#[test]
fn the_next_run_connects_again_without_the_state_of_the_previous_one() {
    let mut rig = Rig::ready(attached());
    rig.issue("quit");
    rig.replies(1);
    rig.vm.disconnect(rig.now);
    rig.serve();
    rig.take_effects();
    rig.launch();
    rig.negotiate(GREETING);
    assert_eq!(rig.order_names(), ["Prepare", "Open(Monitor)"]);
    rig.shutdown(Shutdown::default());
    assert_eq!(rig.take_sent(), r#"{"execute":"quit","id":1}"#, "the accepted quit belonged to the previous run");
    rig.closes(MONITOR);
    assert_eq!(rig.outcome().cause, Cause::HungUp, "neither disconnected nor asked to quit in this run");
}

/// A machine of another program has no process that could be reported.
#[test]
fn inputs_about_a_process_are_ignored_without_one() {
    let mut rig = Rig::ready(attached());
    let before = rig.vm.clone();
    rig.handle(Input::Spawned { pid: 7 });
    rig.handle(Input::Exited(ExitStatus::Code(0)));
    assert!(rig.vm == before);
}
