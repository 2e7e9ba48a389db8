//! Stories of companions: the real virtiofsd, and small programs that fail, ignore signals, or print a lot.

use std::fs;
use std::time::Duration;

use qemu_machine_core::{
    Cause, Companion, CompanionFailure, Config, Deadline, ExitStatus, Found, LaunchError, LaunchFailure, Mark,
    Shutdown, State, Wait, json,
};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, send};
use qemu_machine_tests::{PATIENCE, qemu, virtiofsd};
use rustix::process::Signal;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

const SIGKILL: i32 = 9;

fn empty(scratch: &Scratch) -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"]).temporary_directory(bytes(scratch.path()))
}

/// A companion that is a script of the shell.
fn script(name: &str, text: &str) -> Companion {
    Companion::new(name, "sh").args(["-c", text, name])
}

/// The file server of a directory.
fn server(scratch: &Scratch) -> Companion {
    let source = scratch.path().to_str().expect("a path in UTF-8");
    Companion::new("fs", virtiofsd()).args(["-o", &format!("source={source}")])
}

/// A machine with a device for the file server, whose guest does not run.
fn shared(scratch: &Scratch, companion: Companion) -> Config {
    let memory = ["-m", "64", "-object", "memory-backend-memfd,id=mem,size=64M,share=on", "-numa", "node,memdev=mem"];
    let config = Config::new(qemu()).args(["-machine", "q35", "-accel", "tcg", "-nodefaults", "-S"]).args(memory);
    let config = config.args(["-device", "vhost-user-fs-pci,chardev=fs,tag=share"]);
    config.temporary_directory(bytes(scratch.path())).companion(companion.chardev("fs"))
}

fn failed<H: Hosted>(config: Config) -> (CompanionFailure, String) {
    let error = H::launch(config).map(drop).expect_err("the companion fails");
    let text = error.to_string();
    match error {
        LaunchError::Failed { failure: LaunchFailure::Companion { failure, .. }, .. } => (failure, text),
        other => panic!("{other}"),
    }
}

/// QEMU speaks with the file server before the device exists, so the launch shows that they are connected.
fn a_file_server_lives_as_long_as_its_machine<H: Hosted>() {
    let scratch = Scratch::create();
    for companion in [server(&scratch).listener("--fd="), server(&scratch).path("--socket-path=")] {
        let mut machine = H::launch(shared(&scratch, companion)).unwrap_or_else(|error| panic!("{error}"));
        let pid = machine.companion_pid("fs").expect("it runs");
        let process = Watched::new(pid).expect("it runs");
        assert_eq!(machine.execute("query-status", LONG).expect("the monitor answers")["status"], "prelaunch");
        let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
        process.assert_ends_within(Duration::ZERO);
        let end = &outcome.companions[0];
        assert_eq!((&*end.name, end.exit, end.is_early), ("fs", Some(ExitStatus::Code(0)), false), "{outcome:#}");
        assert_eq!(scratch.entries(), [""; 0]);
        assert_eq!(machine.companion_pid("fs"), None);
        machine.relaunch().expect("both start again");
        assert_ne!(machine.companion_pid("fs"), Some(pid));
        machine.kill().expect("the machine was launched");
        assert_eq!(scratch.entries(), [""; 0]);
    }
}

fn g26_companions_end_with_a_kill_and_with_the_handle<H: Hosted>() {
    let scratch = Scratch::create();
    for is_dropped in [true, false] {
        let mut machine = H::launch(shared(&scratch, server(&scratch).listener("--fd="))).expect("both start");
        let process = Watched::new(machine.companion_pid("fs").expect("it runs")).expect("it runs");
        if !is_dropped {
            let outcome = machine.kill().expect("the machine was launched");
            process.assert_ends_within(Duration::ZERO);
            let is_killed = |status| matches!(status, ExitStatus::Signal { number: SIGKILL, .. });
            assert!(outcome.companions[0].exit.is_some_and(is_killed), "{outcome:#}");
        }
        drop(machine);
        process.assert_ends_within(PATIENCE);
        scratch.wait_until_empty();
    }
}

/// Each end of the connection is inherited, so there is no path. `cat` ends when QEMU closes its end.
fn a_companion_is_connected_without_a_path<H: Hosted>() {
    let scratch = Scratch::create();
    let cat = Companion::new("cat", "sh").args(["-c", "exec cat <&\"$0\""]).connected("").chardev("c");
    let mut machine = H::launch(empty(&scratch).companion(cat)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((scratch.entries(), machine.directory()), (vec![], None));
    let text = json!({"device": "c", "data": "hello"});
    // Only a ring buffer can be written to by a command, so the connection shows in the list of the chardevs.
    machine.execute_with("ringbuf-write", text).expect_err("it is a socket");
    let chardevs = machine.execute("query-chardev", LONG).expect("the monitor answers");
    let of_cat = chardevs.as_array().expect("a list").iter().find(|chardev| chardev["label"] == "c");
    assert!(of_cat.is_some_and(|chardev| chardev["frontend-open"] == false), "{chardevs}");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_eq!(outcome.companions[0].exit, Some(ExitStatus::Code(0)), "{outcome:#}");
}

fn g04_a_companion_that_fails_is_named_with_its_words<H: Hosted>() {
    let scratch = Scratch::create();
    let (failure, text) = failed::<H>(empty(&scratch).companion(Companion::new("gone", "/nowhere/at/all")));
    assert!(matches!(failure, CompanionFailure::Host(_)), "{text}");
    assert!(text.contains("companion gone: cannot execute `/nowhere/at/all`: No such file"), "{text}");
    let dies = script("dies", "echo \"no luck today\" >&2; exit 3").path("");
    let (failure, text) = failed::<H>(empty(&scratch).companion(dies));
    assert_eq!(failure, CompanionFailure::Exited(ExitStatus::Code(3)));
    assert!(text.contains("no luck today") && text.contains("companion dies command: sh -c"), "{text}");
    let other = script("other", "exec sleep 600");
    let sleeps = script("sleeps", "echo $$; exec sleep 600").path("");
    let config = empty(&scratch).companion(other).companion(sleeps).launch_within(Duration::from_secs(1));
    let (failure, text) = failed::<H>(config);
    assert_eq!(failure, CompanionFailure::NotReady, "{text}");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// A QEMU that fails by itself is the reason, and not the companion that ends with it.
fn g04_the_failure_of_qemu_is_not_that_of_its_companion<H: Hosted>() {
    let scratch = Scratch::create();
    let config = shared(&scratch, server(&scratch).listener("--fd=")).args(["-device", "nothing"]);
    match H::launch(config).map(drop).expect_err("there is no such device") {
        LaunchError::Failed { failure: LaunchFailure::Exited(_), outcome } => {
            assert!(outcome.log.contains("nothing"), "{outcome:#}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(scratch.entries(), [""; 0]);
}

fn the_early_end_of_a_companion_is_found<H: Hosted>() {
    let scratch = Scratch::create();
    for is_required in [false, true] {
        let sleeper = script("sleeper", "echo \"I sleep\"; exec sleep 600");
        let sleeper = if is_required { sleeper.required() } else { sleeper };
        let mut machine = H::launch(empty(&scratch).companion(sleeper)).expect("both start");
        machine.execute("query-status", LONG).expect("the monitor answers");
        // What it prints before it sleeps is there when the machine answers, or soon after.
        send(machine.companion_pid("sleeper").expect("it runs"), Signal::KILL);
        let hit = machine.wait_any(&Mark::default(), &[Wait::end(), Wait::companion("sleeper")], LONG);
        let Found::Companion(end) = hit.expect("it ends").found else { panic!("the companion ends first") };
        assert!(matches!(end.exit, Some(ExitStatus::Signal { number: SIGKILL, .. })) && end.is_early, "{end:?}");
        let log = machine.companion_log("sleeper").read(1 << 10).expect("it is readable");
        assert_eq!(end.log.as_bytes(), log);
        let outcome = if is_required {
            machine.wait(LONG).expect("the machine ends")
        } else {
            assert_eq!(machine.state(), State::Running);
            machine.shutdown(Shutdown::default()).expect("the machine was launched")
        };
        assert_eq!(outcome.cause == Cause::CompanionEnded("sleeper".into()), is_required, "{outcome:#}");
        assert_eq!(outcome.companions, [*end]);
    }
}

fn companions_end_in_the_reverse_order<H: Hosted>() {
    let scratch = Scratch::create();
    let order = scratch.path().join("order");
    let text = "trap 'echo \"$0\" >>\"$ORDER\"; exit 0' TERM; : >\"$ORDER.$0\"; while :; do sleep 600 & wait; done";
    let mut config = empty(&scratch);
    for name in ["first", "second", "third"] {
        let line = format!("ORDER='{}'; {text}", order.display());
        // It is ready when it has written its file: the next one waits for that of the one before.
        config = config.companion(script(name, &line));
    }
    let mut machine = H::launch(config).expect("all start");
    for name in ["first", "second", "third"] {
        wait_for_file(&order.with_extension(name));
    }
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_eq!(fs::read_to_string(&order).expect("they wrote it"), "third\nsecond\nfirst\n", "{outcome:#}");
    assert!(outcome.companions.iter().all(|end| end.exit == Some(ExitStatus::Code(0))), "{outcome:#}");
}

/// Waits until a file exists, by the events of its directory.
fn wait_for_file(path: &std::path::Path) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::inotify;
    let events = inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify works");
    let directory = path.parent().expect("it is in a directory");
    inotify::add_watch(&events, directory, inotify::WatchFlags::CREATE).expect("it exists");
    while !path.exists() {
        let limit = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap(), tv_nsec: 0 };
        assert_ne!(poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&limit)), Ok(0), "{} comes", path.display());
        rustix::io::read(&events, &mut [0_u8; 4096]).expect("there is an event");
    }
}

fn g13_a_companion_that_ignores_sigterm_is_killed<H: Hosted>() {
    let scratch = Scratch::create();
    let ready = scratch.path().join("ready");
    let text = format!("trap '' TERM; : >'{}'; while :; do sleep 600; done", ready.display());
    let mut machine = H::launch(empty(&scratch).companion(script("deaf", &text))).expect("both start");
    wait_for_file(&ready);
    let process = Watched::new(machine.companion_pid("deaf").expect("it runs")).expect("it runs");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    process.assert_ends_within(Duration::ZERO);
    let exit = outcome.companions[0].exit;
    assert!(matches!(exit, Some(ExitStatus::Signal { number: SIGKILL, .. })), "{outcome:#}");
    assert!(outcome.faults.is_empty(), "{outcome:#}");
}

/// It prints more than any buffer holds, and nothing reads it.
fn g16_a_companion_that_prints_a_lot_delays_nothing<H: Hosted>() {
    let scratch = Scratch::create();
    let done = scratch.path().join("done");
    let text = format!("yes | head -c 20000000; echo; echo the end; : >'{}'; exec sleep 600", done.display());
    let config = empty(&scratch).companion(script("loud", &text)).log_limit(1 << 20);
    let mut machine = H::launch(config).expect("both start");
    machine.execute("query-status", LONG).expect("the monitor answers");
    wait_for_file(&done);
    let log = machine.companion_log("loud").read(9).expect("it is readable");
    assert_eq!(log, b"\nthe end\n");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    let words = &outcome.companions[0].log;
    assert!(words.ends_with("y\n\nthe end\n") && words.len() > 1000, "{}", words.len());
    assert!(outcome.log.is_empty(), "it has a log of its own: {outcome:#}");
}

fn the_log_of_a_companion_stays_in_the_directory_of_the_log<H: Hosted>() {
    let scratch = Scratch::create();
    let config = empty(&scratch).name("vm").log_directory(bytes(scratch.path()));
    let dies = script("dies", "echo out; echo err >&2").path("");
    failed::<H>(config.companion(dies));
    let logs: Vec<_> = scratch.entries().into_iter().filter(|name| name.ends_with("-dies.log")).collect();
    assert_eq!(logs.len(), 1, "{:?}", scratch.entries());
    assert_eq!(fs::read_to_string(scratch.path().join(&logs[0])).expect("it is readable"), "out\nerr\n");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_file_server_lives_as_long_as_its_machine
            a_companion_is_connected_without_a_path
            the_early_end_of_a_companion_is_found
            companions_end_in_the_reverse_order
            the_log_of_a_companion_stays_in_the_directory_of_the_log
            g04_a_companion_that_fails_is_named_with_its_words
            g04_the_failure_of_qemu_is_not_that_of_its_companion
            g13_a_companion_that_ignores_sigterm_is_killed
            g16_a_companion_that_prints_a_lot_delays_nothing
            g26_companions_end_with_a_kill_and_with_the_handle
        }
    };
}

rows!(stories);
