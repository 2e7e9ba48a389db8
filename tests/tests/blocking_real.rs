//! Tests of commands, events and consoles of a real QEMU, as the documentation describes them.

use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use qemu_machine_blocking::Rung;
use qemu_machine_blocking::commands::{HumanMonitorCommand, QueryStatus};
use qemu_machine_blocking::{
    Cause, Command, CommandError, Config, FOREVER, Found, Mark, Misuse, OutOfBand, Shutdown, State, Value, Vm, Wait,
    WaitError, WithRawReply, json,
};
use qemu_machine_tests::guest::{GREETING, ImageFile, POWERING_OFF, arguments};
use qemu_machine_tests::{PATIENCE, bounded, qemu};
use serde::Serialize;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// A machine whose guest has greeted.
struct Guest {
    vm: Vm,
    _image: ImageFile,
}

impl Guest {
    fn start(accelerators: &[&str]) -> Self {
        let image = ImageFile::create().unwrap();
        let config = Config::new(qemu()).args(arguments(image.path())).serial("tty");
        let config = config.args(accelerators.iter().flat_map(|accelerator| ["-accel", *accelerator]));
        let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        vm.wait_any(&Mark::default(), [Wait::text("tty", format!("{GREETING}\r\n"))], LONG).unwrap();
        Self { vm, _image: image }
    }
}

/// Runs a test with a guest.
fn with_guest(test: impl FnOnce(&Vm) + Send + 'static) {
    bounded(|| test(&Guest::start(&["tcg"]).vm));
}

/// Runs a test with a machine without devices.
fn with_empty_machine(test: impl FnOnce(&Vm) + Send + 'static) {
    bounded(|| test(&Vm::launch(Config::new(qemu()).machine("none")).unwrap()));
}

fn execute<C: Command>(vm: &Vm, command: C) -> C::Reply {
    vm.execute_by(command, LONG).unwrap_or_else(|error| panic!("{error}"))
}

// Commands.

#[test]
fn a_launched_machine_runs() {
    with_guest(|vm| {
        assert_eq!(vm.state(), State::Running);
        assert_eq!(execute(vm, "query-status")["status"], "running");
        let said = execute(vm, "query-version");
        let version = vm.greeting().unwrap().version;
        assert_eq!(said["qemu"]["major"], version.qemu.major);
        assert_eq!(said["qemu"]["minor"], version.qemu.minor);
        assert!(vm.pid().is_some_and(|pid| pid != std::process::id()));
        let arguments = vm.command_line().arguments().to_vec();
        let executed = std::fs::read(format!("/proc/{}/cmdline", vm.pid().unwrap())).unwrap();
        assert_eq!(executed, arguments.iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect::<Vec<_>>());
    });
}

#[test]
fn a_machine_takes_the_first_accelerator_that_works() {
    bounded(|| {
        let guest = Guest::start(&["kvm", "tcg"]);
        assert_eq!(execute(&guest.vm, QueryStatus).status, "running");
        guest.vm.console_write("tty", "!").unwrap();
        guest.vm.wait_any(&Mark::default(), [Wait::text("tty", "!")], LONG).unwrap();
    });
}

#[test]
fn commands_of_all_kinds_are_answered() {
    with_empty_machine(|vm| {
        assert!(execute(vm, QueryStatus).running);
        assert_eq!(execute(vm, HumanMonitorCommand::new("info name")), "");
        assert!(execute(vm, ("qom-list", json!({"path": "/"}))).is_array());
        let unread = execute(vm, WithRawReply("query-status"));
        assert!(unread.as_str().starts_with('{'), "{unread:?}");
        assert_eq!(unread.read::<Value>().unwrap(), execute(vm, "query-status"));
        let raw = vm.execute_raw(r#" {"execute": "qom-list", "arguments": {"path": "/"}} "#).unwrap();
        assert!(raw["return"].is_array());
        assert!(vm.out_of_band());
        let yankable = execute(vm, OutOfBand("query-yank"));
        assert!(yankable.is_array());
        assert_eq!(vm.execute_raw(r#"{"exec-oob": "query-yank"}"#).unwrap()["return"], yankable);
    });
}

#[test]
fn a_large_reply_arrives_whole() {
    with_empty_machine(|vm| {
        let schema = execute(vm, WithRawReply("query-qmp-schema"));
        assert!(schema.as_bytes().len() > 100_000);
        assert!(schema.read::<Vec<Value>>().unwrap().iter().any(|entity| entity["name"] == "query-status"));
    });
}

#[test]
fn refusals_quote_qemu() {
    with_empty_machine(|vm| {
        let Err(CommandError::Refused(refusal)) = vm.execute_by("no-such-command", LONG) else { panic!() };
        assert_eq!(refusal.class, "CommandNotFound");
        assert!(refusal.description.contains("no-such-command"), "{refusal}");
        let Err(CommandError::Refused(refusal)) = vm.execute_by(("qom-list", json!({"wrong": 1})), LONG) else {
            panic!()
        };
        assert_eq!(refusal.class, "GenericError");
        let Err(CommandError::Refused(refusal)) = vm.execute_by(OutOfBand("query-status"), LONG) else { panic!() };
        assert!(refusal.description.contains("does not support OOB"), "{refusal}");
        // QEMU rejects this one before it reads the id, so the error has none.
        let raw = vm.execute_raw(r#"{"execute": "query-status", "arguments": {"a": "\ud83d"}}"#);
        assert_eq!(raw.unwrap()["error"]["class"], "GenericError");
        assert!(execute(vm, QueryStatus).running);
    });
}

#[test]
fn an_invalid_request_is_not_sent() {
    with_empty_machine(|vm| {
        let misuses = [
            vm.execute(("query-status", json!([1]))).err(),
            vm.execute_raw("[]").err(),
            vm.execute_raw(r#"{"execute": "stop", "id": 1}"#).err(),
            vm.execute_raw(r#"{"execute": "stop"} {}"#).err(),
        ];
        for misuse in misuses {
            assert!(matches!(misuse, Some(CommandError::Misuse(_))), "{misuse:?}");
        }
        assert_eq!(vm.console_write("tty", "!"), Err(Misuse::UnknownConsole("tty".into())));
        let nothing = vm.wait_any(&Mark::default(), [], LONG);
        assert_eq!(nothing, Err(WaitError::Misuse(Misuse::EmptyWait)));
        assert!(execute(vm, QueryStatus).running);
    });
}

#[test]
fn a_reply_of_another_type_is_in_the_error() {
    #[derive(Debug)]
    struct Wrong;
    impl Command for Wrong {
        type Reply = Vec<String>;
        fn name(&self) -> &str {
            "query-status"
        }
        fn arguments(&self) -> Option<impl Serialize> {
            None::<()>
        }
    }
    with_empty_machine(|vm| {
        let Err(CommandError::Unexpected { reply, .. }) = vm.execute_by(Wrong, LONG) else { panic!() };
        assert_eq!(reply.read::<Value>().unwrap()["status"], "running");
    });
}

// Events and consoles.

#[test]
fn no_event_is_missed_between_a_mark_and_a_wait() {
    with_guest(|vm| {
        for _ in 0..10 {
            let mark = vm.mark();
            execute(vm, "stop");
            execute(vm, "cont");
            let stopped = vm.wait_any(&mark, [Wait::event("STOP"), Wait::event("RESUME")], LONG).unwrap();
            assert_eq!(stopped.index, 0);
            let resumed = vm.wait_any(&stopped.mark, [Wait::event("STOP"), Wait::event("RESUME")], LONG).unwrap();
            assert_eq!(resumed.index, 1);
            assert_eq!(vm.wait_any(&resumed.mark, [Wait::any_event()], Duration::ZERO), Err(WaitError::TimedOut));
        }
    });
}

#[test]
fn the_guest_echoes_what_is_typed() {
    with_guest(|vm| {
        let mark = vm.mark();
        let text = "The Quik Brown Dog Jums Ove Te Lay Gul, 0123456789. "
            .repeat(20)
            .replace(['p', 'r', 'c', 'x', 'f', 'h'], "");
        vm.console_write("tty", format!("{text}$")).unwrap();
        let hit = vm.wait_any(&mark, [Wait::text("tty", "$")], LONG).unwrap();
        assert_eq!(hit.found, Found::Text(format!("{text}$").into()));
        assert_eq!(vm.console("tty", &mark).unwrap(), format!("{text}$").as_bytes());
        assert_eq!(vm.console("tty", &hit.mark).unwrap(), b"");
    });
}

#[test]
fn the_first_of_several_things_ends_a_wait() {
    with_guest(|vm| {
        let things = || [Wait::event("STOP"), Wait::text("tty", "$"), Wait::end()];
        let mark = vm.mark();
        assert_eq!(vm.wait_any(&mark, things(), Duration::ZERO), Err(WaitError::TimedOut));
        execute(vm, "stop");
        let hit = vm.wait_any(&mark, things(), LONG).unwrap();
        assert!(matches!((hit.index, &hit.found), (0, Found::Event(event)) if event.name() == "STOP"));
        execute(vm, "cont");
        vm.console_write("tty", "$").unwrap();
        let hit = vm.wait_any(&hit.mark, things(), LONG).unwrap();
        assert_eq!(hit.index, 1);
        vm.console_write("tty", "p").unwrap();
        let hit = vm.wait_any(&hit.mark, things(), LONG).unwrap();
        let (2, Found::End(outcome)) = (hit.index, hit.found) else { panic!() };
        assert_eq!(outcome.cause, Cause::PowerOff);
        assert!(vm.wait_any(&mark, [Wait::text("tty", POWERING_OFF)], Duration::ZERO).is_ok());
    });
}

#[test]
fn events_are_matched_by_their_data() {
    with_guest(|vm| {
        let mark = vm.mark();
        execute(vm, "system_reset");
        let reset = |guest: bool| Wait::event("RESET").with(json!({"guest": guest}));
        assert_eq!(vm.wait_any(&mark, [reset(true), reset(false)], LONG).unwrap().index, 1);
        vm.wait_any(&mark, [Wait::text("tty", GREETING)], LONG).unwrap();
        vm.console_write("tty", "r").unwrap();
        assert_eq!(vm.wait_any(&mark, [reset(true)], LONG).unwrap().index, 0);
    });
}

// Several threads, several machines.

#[test]
fn several_threads_share_a_machine() {
    with_guest(|vm| {
        let mark = vm.mark();
        let other = vm.clone();
        let waiting = spawn(move || other.wait_any(&mark, [Wait::event("STOP")], 2 * PATIENCE));
        let busy: Vec<_> = (0..4).map(|_| vm.clone()).map(|vm| spawn(move || hundred_commands(&vm))).collect();
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!waiting.is_finished());
        execute(vm, "stop");
        assert_eq!(waiting.join().unwrap().unwrap().index, 0);
    });
}

/// Executes commands whose replies differ.
fn hundred_commands(vm: &Vm) {
    for number in 0..100 {
        if number % 2 == 0 {
            assert!(execute(vm, QueryStatus).running);
        } else {
            let id = format!("no-such-command-{number}-{:?}", std::thread::current().id());
            let Err(CommandError::Refused(refusal)) = vm.execute_by(&*id, LONG) else { panic!() };
            assert!(refusal.description.contains(&id), "{refusal}");
        }
    }
}

#[test]
fn an_end_reaches_every_waiting_thread() {
    with_guest(|vm| {
        let (sender, receiver) = channel();
        for _ in 0..4 {
            let (vm, sender) = (vm.clone(), sender.clone());
            spawn(move || sender.send(vm.wait(FOREVER)).unwrap());
        }
        let outcome = vm.shutdown(Shutdown::within(LONG)).unwrap();
        for _ in 0..4 {
            assert_eq!(receiver.recv_timeout(LONG).unwrap().unwrap(), outcome);
        }
    });
}

#[test]
fn two_machines_live_side_by_side() {
    bounded(|| {
        let threads = [(); 2].map(|()| spawn(|| Guest::start(&["tcg"])));
        let [one, two] = threads.map(|thread| thread.join().unwrap());
        assert_ne!(one.vm.pid(), two.vm.pid());
        one.vm.console_write("tty", "1").unwrap();
        two.vm.console_write("tty", "2").unwrap();
        for (guest, text) in [(&one, "1"), (&two, "2")] {
            guest.vm.wait_any(&Mark::default(), [Wait::text("tty", text)], LONG).unwrap();
        }
        assert_eq!(one.vm.kill().unwrap().cause, Cause::Asked(Rung::Kill));
        assert_eq!(execute(&two.vm, "query-status")["running"], true);
    });
}

#[test]
fn an_end_makes_room_for_the_next_launch() {
    bounded(|| {
        let config = Config::new(qemu()).machine("none").name("again");
        let first = Vm::launch(config.clone()).unwrap();
        first.shutdown(Shutdown::within(LONG)).unwrap();
        let second = Vm::launch(config).unwrap();
        assert_eq!(execute(&second, "query-status")["running"], true);
        assert_eq!(first.state(), State::Ended);
    });
}
