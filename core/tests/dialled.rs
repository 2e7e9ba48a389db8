//! Tests of monitors for which QEMU connects to a listening socket: the address, and an exit before the connection.

use crate::rig::{GREETING, Rig, SIGKILL, SIGTERM, at, config, fault, secs, tcp};
use qemu_machine_core::{
    Address, Cause, Channel, Config, Effect, ExitStatus, Input, LaunchFailure, Monitor, Phase, Rung, Shutdown, Signal,
    State, Transport, Why,
};

const MONITOR: Channel = Channel::Monitor;
const CONSOLE: Channel = Channel::Console(0);

/// Returns a machine whose process was started and has not connected yet. The console is connected from the start.
fn awaited(config: Config) -> Rig {
    let mut rig = Rig::new(config);
    rig.held = |effect| *effect == Effect::Open(MONITOR);
    rig.launch();
    rig
}

fn socket() -> Config {
    config().monitor(Monitor::Socket)
}

/// Returns the names of the effects after the first `count`.
fn effects_since(rig: &Rig, count: usize) -> Vec<String> {
    rig.order_names().split_off(count)
}

#[test]
fn a_monitor_that_connects_in_time_works_like_any_other() {
    let mut rig = awaited(socket());
    assert_eq!(rig.vm.state(), State::Launching(Phase::Connecting));
    assert_eq!(rig.vm.deadline(), Some((at(secs(30)), Why::Launch(Phase::Connecting))));
    rig.prints("SeaBIOS");
    rig.pass(secs(29));
    rig.handle(Input::Opened(MONITOR));
    assert_eq!(rig.vm.state(), State::Launching(Phase::Greeting));
    rig.negotiate(GREETING);
    assert_eq!((rig.vm.state(), rig.vm.launched()), (State::Running, Some(Ok(()))));
    rig.shutdown(Shutdown::default());
    assert_eq!(rig.take_sent(), r#"{"execute":"quit","id":1}"#);
    rig.replies(1);
    assert_eq!(rig.dies(ExitStatus::Code(0)).cause, Cause::Asked(Rung::Quit));
    assert!(!rig.effects.contains(&Effect::Close(MONITOR)), "it closed by itself");
}

/// The preparation asks for a socket, and the arguments have the address that was bound.
#[test]
fn the_process_gets_the_address_of_the_socket() {
    let unix = |path: &str| Address::unix(path);
    let cases = [
        (Monitor::Socket, None, Transport::ListenIn(None), "socket,path=/tmp/private/monitor"),
        (Monitor::Socket, Some("/a,b"), Transport::ListenIn(Some(b"/a,b".to_vec())), "socket,path=/a,,b/monitor"),
        // The socket directory only matters if the library chooses the path.
        (Monitor::At(unix("/x,y")), Some("/a"), Transport::Listen(unix("/x,y")), "socket,path=/x,,y"),
        (
            Monitor::At(tcp("127.0.0.1:0")),
            None,
            Transport::Listen(tcp("127.0.0.1:0")),
            "socket,host=127.0.0.1,port=4444",
        ),
        (Monitor::At(tcp("[::1]:0")), None, Transport::Listen(tcp("[::1]:0")), "socket,host=::1,port=4444"),
    ];
    for (monitor, directory, transport, backend) in cases {
        let mut config = config().monitor(monitor);
        if let Some(directory) = directory {
            config = config.socket_directory(directory);
        }
        let rig = awaited(config);
        let Effect::Prepare(wanted) = &rig.effects[0] else { panic!("{:?}", rig.effects) };
        assert!(wanted.process);
        assert_eq!(wanted.channels, [(MONITOR, transport), (CONSOLE, Transport::Pair)]);
        let Effect::Spawn(spawn) = &rig.effects[1] else { panic!("{:?}", rig.effects) };
        let chardevs: Vec<_> = spawn.arguments.iter().filter(|argument| argument.starts_with(b"socket,")).collect();
        let monitor = format!("{backend},id=mon").into_bytes();
        assert_eq!(chardevs, [&monitor, &b"socket,fd=3,id=tty".to_vec()], "nothing is inherited for it");
        assert!(rig.vm.command_line().to_string().contains("-chardev stdio,id=mon -qmp"), "a shell has no such socket");
    }
}

/// No process is left that could connect, so only the consoles are drained.
#[test]
fn an_exit_before_the_connection_ends_the_launch_at_once() {
    let mut rig = awaited(socket());
    let before = rig.effects.len();
    rig.exits(ExitStatus::Code(1));
    assert_eq!(effects_since(&rig, before), ["Close(Monitor)"]);
    assert_eq!(rig.vm.launch_failure(), Some(&LaunchFailure::Exited(Phase::Connecting)));
    assert_eq!((rig.vm.state(), rig.vm.channels()), (State::Ending, &[CONSOLE][..]));
    assert_eq!(rig.vm.deadline(), Some((at(secs(2)), Why::Drain)));
    rig.prints("last words");
    rig.closes(CONSOLE);
    let outcome = rig.outcome();
    assert_eq!((outcome.cause, &*outcome.consoles[0].1), (Cause::Exit(1), "last words"));
    assert_eq!(rig.failure(), LaunchFailure::Exited(Phase::Connecting));
    assert_eq!(effects_since(&rig, before), ["Close(Monitor)", "ReadLog", "Remove"]);
}

#[test]
fn without_consoles_such_an_exit_ends_the_run() {
    for monitor in [Monitor::Socket, Monitor::At(Address::unix("/run/qmp"))] {
        let mut rig = awaited(Config::new("qemu").autostart().monitor(monitor));
        rig.exits(ExitStatus::Code(1));
        assert_eq!((rig.vm.state(), rig.failure()), (State::Ended, LaunchFailure::Exited(Phase::Connecting)));
    }
}

/// A shutdown, a kill or the deadline of the launch came first: each keeps its failure and cause.
#[test]
fn such_an_exit_ends_a_run_that_is_ending_already() {
    type Step = fn(&mut Rig);
    let cancelled = || LaunchFailure::Cancelled(Phase::Connecting);
    let cases: [(Step, ExitStatus, LaunchFailure, Cause); 4] = [
        (|rig| rig.shutdown(Shutdown::default()), SIGTERM, cancelled(), Cause::Asked(Rung::Terminate)),
        (
            |rig| {
                rig.shutdown(Shutdown::within(secs(3)).power_down(secs(9)));
                rig.pass(secs(1));
            },
            SIGKILL,
            cancelled(),
            Cause::Asked(Rung::Kill),
        ),
        (Rig::kill, SIGKILL, cancelled(), Cause::Asked(Rung::Kill)),
        (|rig| rig.pass(secs(30)), SIGKILL, LaunchFailure::TimedOut(Phase::Connecting), Cause::LaunchFailed),
    ];
    for (step, exit, failure, cause) in cases {
        let mut rig = awaited(socket());
        step(&mut rig);
        assert!(rig.pid_is_signalled() && !rig.effects.contains(&Effect::Close(MONITOR)), "it may still connect");
        rig.exits(exit);
        assert_eq!(rig.vm.channels(), [CONSOLE], "no process can connect any more");
        rig.closes(CONSOLE);
        assert_eq!((rig.vm.state(), rig.failure(), rig.outcome().cause), (State::Ended, failure, cause));
    }
}

impl Rig {
    /// Returns whether a signal was issued and nothing was sent: there is no connection.
    fn pid_is_signalled(&mut self) -> bool {
        !self.signals().is_empty() && self.take_sent().is_empty()
    }
}

/// The host is slow to close. The effect is not issued again when the drain is overdue…
#[test]
fn a_slow_close_is_issued_once_after_an_exit() {
    let mut rig = awaited(socket());
    rig.held = |effect| matches!(effect, Effect::Close(_));
    rig.exits(SIGKILL);
    rig.pass(secs(2));
    assert_eq!(effects_since(&rig, 4), ["Close(Monitor)", "Close(Console(0))"]);
    assert_eq!(rig.vm.deadline(), None, "both completions are outstanding");
    rig.closes(MONITOR);
    assert_eq!(rig.vm.state(), State::Ending);
    rig.closes(CONSOLE);
    assert_eq!(rig.vm.state(), State::Ended);
}

/// … nor when a process exits after all that had been abandoned.
#[test]
fn a_slow_close_is_issued_once_after_a_late_exit() {
    let mut rig = awaited(socket());
    rig.kill();
    rig.held = |effect| matches!(effect, Effect::Close(_));
    rig.pass(secs(10));
    rig.exits(SIGKILL);
    assert_eq!(rig.effects.iter().filter(|effect| **effect == Effect::Close(MONITOR)).count(), 1);
    rig.closes_all();
    assert_eq!((rig.vm.state(), rig.outcome().cause), (State::Ended, Cause::Asked(Rung::Kill)));
}

#[test]
fn a_process_that_survives_sigkill_before_it_connects_is_abandoned() {
    let mut rig = awaited(socket());
    rig.kill();
    rig.pass_exactly(secs(10));
    assert_eq!(rig.outcome().cause, Cause::Unkillable);
    assert_eq!(effects_since(&rig, 5), ["Close(Monitor)", "Close(Console(0))", "ReadLog", "Remove"]);
    let before = rig.effects.len();
    rig.exits(SIGKILL);
    assert_eq!((rig.vm.state(), rig.effects.len()), (State::Ended, before));
}

#[test]
fn a_connection_that_cannot_be_accepted_is_a_host_fault() {
    let mut rig = awaited(socket());
    rig.handle(Input::OpenFailed(MONITOR, fault("accept")));
    assert_eq!(rig.signals(), [Signal::Kill]);
    rig.dies(SIGKILL);
    assert_eq!(rig.failure(), LaunchFailure::Host(fault("accept")));
    assert!(!rig.effects.contains(&Effect::Close(MONITOR)), "it is not open");
}

/// The connection was made by the process before its exit and accepted too late: it does not change the failure.
#[test]
fn a_connection_after_the_exit_changes_nothing() {
    let mut rig = awaited(socket());
    rig.held = |effect| matches!(effect, Effect::Close(_));
    rig.exits(ExitStatus::Code(1));
    rig.handle(Input::Opened(MONITOR));
    rig.says(GREETING);
    rig.closes_all();
    assert_eq!(rig.failure(), LaunchFailure::Exited(Phase::Connecting));
    assert_eq!(rig.vm.state(), State::Ended);
}

/// The socket may hold the last messages of the process, whether it had connected or had inherited its monitor.
#[test]
fn a_monitor_that_was_connected_at_the_exit_is_read_to_its_end() {
    let mut inherited = awaited(config());
    let mut dialled = Rig::launched(socket());
    for rig in [&mut inherited, &mut dialled] {
        rig.exits(ExitStatus::Code(1));
        assert_eq!(rig.vm.channels(), [MONITOR, CONSOLE]);
        assert_eq!((rig.vm.launch_failure(), rig.vm.deadline()), (None, Some((at(secs(2)), Why::Drain))));
        rig.handle(Input::Opened(MONITOR));
        rig.says("garbage");
        assert!(matches!(rig.vm.launch_failure(), Some(LaunchFailure::Broken(_))), "{:?}", rig.vm);
        rig.closes_all();
        assert!(!rig.effects.contains(&Effect::Close(MONITOR)));
    }
}

/// The next run asks for a free port again, and does not reuse the address of the previous run.
#[test]
fn each_run_has_its_own_socket() {
    let mut rig = awaited(config().monitor(Monitor::At(tcp("127.0.0.1:0"))));
    rig.exits(SIGKILL);
    rig.closes_all();
    rig.take_effects();
    rig.launch();
    let listen = Transport::Listen(tcp("127.0.0.1:0"));
    assert!(matches!(&rig.effects[0], Effect::Prepare(wanted) if wanted.channels[0].1 == listen));
    rig.handle(Input::Opened(MONITOR));
    rig.negotiate(GREETING);
    assert_eq!(rig.vm.state(), State::Running);
}
