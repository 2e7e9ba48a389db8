//! Tests of detached machines: the machine runs on, none of its files is removed, and its identity resumes it.

use crate::rig::{GREETING, Rig, SIGKILL, config, fault, secs};
use qemu_machine_core::{
    Cause, Channel, Config, Effect, ExitStatus, Identity, Input, LaunchFailure, Misuse, Notice, Rung, Shutdown, State,
    Transport,
};

fn identity() -> Identity {
    let mut identity = Identity::new("b".into(), (7, 9), "/private/monitor.sock".into(), (1, 2));
    identity.directory = Some("/private".into());
    identity
}

fn detachable() -> Rig {
    Rig::ready(config().outlive_parent())
}

#[test]
fn g18_a_detachable_machine_inherits_its_server_socket_and_outlives_its_parent() {
    let rig = detachable();
    let Some(Effect::Prepare(wanted)) = rig.effects.first() else { panic!("{:?}", rig.effects) };
    assert_eq!(wanted.channels[0], (Channel::Monitor, Transport::Offer(None)));
    let Some(Effect::Spawn(spawn)) = rig.effects.get(1) else { panic!("{:?}", rig.effects) };
    let line: Vec<_> = spawn.arguments.iter().map(|argument| String::from_utf8_lossy(argument)).collect();
    assert!(line.iter().any(|argument| argument.ends_with(",server=on,wait=off,id=mon")), "{line:?}");
    assert!(spawn.outlives);
    let others = Rig::ready(config());
    assert!(others.effects.iter().any(|effect| matches!(effect, Effect::Spawn(spawn) if !spawn.outlives)));
}

#[test]
fn g18_a_machine_is_detached_before_its_channels_close_and_is_never_signalled() {
    let mut rig = detachable();
    let command = rig.issue("query-status");
    let before = rig.effects.len();
    rig.vm.detach(rig.now).expect("it runs");
    rig.serve();
    assert_eq!(
        rig.effects[before..],
        [
            Effect::Detach,
            Effect::Close(Channel::Monitor),
            Effect::Close(Channel::Console(0)),
            Effect::ReadLog { limit: qemu_machine_core::Limits::default().log },
            Effect::Remove,
        ]
    );
    let outcome = rig.outcome();
    assert_eq!((&outcome.cause, outcome.exit, outcome.unanswered), (&Cause::Disconnected, None, 1));
    assert!(rig.vm.claim(&command).is_some_and(|answer| answer.is_err()));
    // The exit of a detached process is ignored.
    rig.exits(ExitStatus::Code(0));
    assert_eq!((rig.vm.state(), rig.vm.pid(), rig.outcome().pid), (State::Ended, None, Some(crate::rig::PID)));
    assert_eq!(rig.vm.detach(rig.now), Ok(()), "detached already");
    // The handle can launch another process.
    rig.launch();
    rig.negotiate(GREETING);
    assert_eq!(rig.vm.state(), State::Running);
}

#[test]
fn g18_only_a_detachable_machine_that_runs_is_detached() {
    let mut ours = Rig::ready(config());
    assert_eq!(
        (ours.vm.detach(ours.now), ours.vm.check_detachable()),
        (Err(Misuse::NotDetachable), Err(Misuse::NotDetachable))
    );
    let mut idle = Rig::new(config().outlive_parent());
    assert_eq!(idle.vm.detach(idle.now), Err(Misuse::NotRunning));
    let mut early = Rig::launched(config().outlive_parent());
    assert_eq!(early.vm.detach(early.now), Err(Misuse::NotRunning));
    let mut ending = detachable();
    ending.vm.shutdown(ending.now, Shutdown::within(secs(9))).unwrap();
    ending.serve();
    assert_eq!(ending.vm.detach(ending.now), Err(Misuse::NotRunning));
    let mut dead = detachable();
    dead.dies(SIGKILL);
    assert_eq!(dead.vm.detach(dead.now), Err(Misuse::NotRunning));
    assert_eq!(dead.outcome().cause, Cause::Signal { number: Some(9), sender: None });
}

/// The process can run on without its monitor.
#[test]
fn g18_a_machine_without_its_monitor_is_detached_too() {
    let mut rig = detachable();
    rig.closes(Channel::Monitor);
    rig.vm.detach(rig.now).expect("the process runs");
    rig.serve();
    assert!(
        rig.effects.contains(&Effect::Detach) && !rig.effects.iter().any(|effect| matches!(effect, Effect::Signal(_)))
    );
    assert_eq!(rig.outcome().cause, Cause::Disconnected);
}

#[test]
fn g18_a_resumed_machine_reports_the_gap_in_its_events() {
    let mut rig = Rig::ready(Config::resume(identity()));
    assert_eq!(rig.notices, [Notice::Ready, Notice::Gap]);
    let Some(Effect::Prepare(wanted)) = rig.effects.first() else { panic!("{:?}", rig.effects) };
    assert_eq!((wanted.channels[0].1.clone(), wanted.process), (Transport::Detached(identity().into()), false));
    rig.vm.disconnect(rig.now).expect("a resumed machine");
    rig.serve();
    assert!(rig.effects.contains(&Effect::Detach), "its files stay for the next resume");
    assert_eq!(rig.outcome().cause, Cause::Disconnected);
    let others = Rig::ready(Config::attach(qemu_machine_core::Peer::Dial(qemu_machine_core::Address::unix("/m"))));
    assert_eq!(others.notices, [Notice::Ready]);
}

#[test]
fn g18_a_machine_that_is_resumed_and_ended_is_cleaned_up() {
    let mut rig = Rig::ready(Config::resume(identity()));
    rig.vm.shutdown(rig.now, Shutdown::within(secs(9))).unwrap();
    rig.serve();
    rig.take_sent();
    rig.replies(1);
    rig.closes(Channel::Monitor);
    assert!(!rig.effects.contains(&Effect::Detach) && rig.effects.contains(&Effect::Remove));
    assert_eq!(rig.outcome().cause, Cause::Asked(Rung::Quit));
}

#[test]
fn g18_resuming_a_process_that_is_gone_fails_the_launch() {
    let mut rig = Rig::new(Config::resume(identity()));
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.launch();
    rig.handle(Input::PrepareFailed(fault("resume process 7")));
    assert_eq!(rig.vm.launch_failure(), Some(&LaunchFailure::Host(fault("resume process 7"))));
}

#[test]
fn an_identity_is_plain_data() {
    let text = serde_json::to_string(&identity()).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"version":2,"name":"","boot":"b","pid":7,"started":9,"pid_namespace":null,"#,
            r#""monitor":"/private/monitor.sock","socket":[1,2],"directory":"/private","log":null,"console_logs":[]}"#
        )
    );
    assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), identity());
    // The form of the versions before identities had one.
    let first =
        r#"{"boot":"b","pid":7,"started":9,"monitor":"/private/monitor.sock","socket":[1,2],"directory":"/private"}"#;
    let mut expected = identity();
    expected.version = 1;
    assert_eq!(serde_json::from_str::<Identity>(first).unwrap(), expected);
}

/// Another client may be connected, or the connection broke. The process still runs, and needs its socket.
#[test]
fn g18_a_resumed_machine_that_is_unreachable_or_hangs_up_keeps_its_files() {
    let mut busy = Rig::new(Config::resume(identity()));
    busy.failing = |effect| matches!(effect, Effect::Open(_));
    busy.launch();
    let mut cut = Rig::ready(Config::resume(identity()));
    cut.closes(Channel::Monitor);
    for rig in [busy, cut] {
        let place = |wanted: &Effect| rig.effects.iter().position(|effect| effect == wanted);
        assert!(
            place(&Effect::Detach) < place(&Effect::Remove) && place(&Effect::Detach).is_some(),
            "{:?}",
            rig.effects
        );
        assert_eq!(rig.vm.state(), State::Ended);
    }
}
