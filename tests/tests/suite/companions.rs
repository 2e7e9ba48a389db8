//! Stories of companions: the real virtiofsd, and small programs that fail, ignore signals, or print a lot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use qemu_machine_core::{
    Cause, Companion, CompanionFailure, Config, Deadline, ExitStatus, Found, LaunchError, LaunchFailure, Mark,
    Shutdown, State, Wait,
};
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, descendants, send};
use qemu_machine_tests::{PATIENCE, qemu, virtiofsd};
use rustix::process::Signal;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

const SIGKILL: i32 = 9;

/// The limit of a log, in bytes.
const LIMIT: u64 = 1 << 20;

fn empty(scratch: &Scratch) -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"]).temporary_directory(bytes(scratch.path()))
}

/// A companion that is a script of the shell.
fn script(name: &str, text: &str) -> Companion {
    Companion::new(name, "sh").args(["-c", text, name])
}

/// The file server of a directory.
pub(crate) fn server(directory: &Path) -> Companion {
    let source = directory.to_str().expect("a path in UTF-8");
    Companion::new("fs", virtiofsd()).args(["-o", &format!("source={source}")]).chardev("fs")
}

/// A machine with a device for the file server of the chardev `fs`, whose guest does not run. QEMU speaks with the file
/// server before the device exists.
pub(crate) fn shared(directory: &Path, companion: Companion) -> Config {
    let memory = ["-m", "64", "-object", "memory-backend-memfd,id=mem,size=64M,share=on", "-numa", "node,memdev=mem"];
    let config = Config::new(qemu()).args(["-machine", "q35", "-accel", "tcg", "-nodefaults", "-S"]).args(memory);
    let config = config.args(["-device", "vhost-user-fs-pci,chardev=fs,tag=share"]);
    config.temporary_directory(bytes(directory)).companion(companion)
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
    for companion in [server(scratch.path()).listener("--fd="), server(scratch.path()).path("--socket-path=")] {
        let mut machine = H::launch(shared(scratch.path(), companion)).unwrap_or_else(|error| panic!("{error}"));
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
        let config = shared(scratch.path(), server(scratch.path()).listener("--fd="));
        let sleeper = script("sleeper", "exec sleep 600");
        let mut machine = H::launch(config.companion(sleeper)).expect("all start");
        // virtiofsd starts another process for the work.
        let mut watched = family(machine.companion_pid("fs").expect("it runs"));
        assert!(watched.len() >= 2, "{watched:?}");
        watched.extend(family(machine.companion_pid("sleeper").expect("it runs")));
        if !is_dropped {
            let outcome = machine.kill().expect("the machine was launched");
            for companion in [0, watched.len() - 1] {
                watched[companion].assert_ends_within(Duration::ZERO);
            }
            // virtiofsd may end by itself before, because QEMU has ended.
            let is_killed = |status| matches!(status, ExitStatus::Signal { number: SIGKILL, .. });
            assert!(outcome.companions[1].exit.is_some_and(is_killed), "{outcome:#}");
        }
        drop(machine);
        watched.iter().for_each(|process| process.assert_ends_within(PATIENCE));
        scratch.wait_until_empty();
    }
}

/// Watches a process and its descendants.
fn family(pid: u32) -> Vec<Watched> {
    let descendants = descendants(pid).into_iter().map(|process| process.pid);
    std::iter::once(pid).chain(descendants).map(|pid| Watched::new(pid).expect("it runs")).collect()
}

/// Each end of the connection is inherited, so there is no path. The companion is a client of a second monitor: it reads
/// the greeting, writes a command, reads the reply, and ends when QEMU closes its end.
fn a_companion_is_connected_without_a_path<H: Hosted>() {
    const CLIENT: &str = "exec 4<&\"$1\" 5>&\"$1\"; read -r greeting <&4; echo \"$greeting\"; \
        echo '{\"execute\": \"qmp_capabilities\"}' >&5; read -r reply <&4; echo \"$reply\"; : >\"$0\"; exec cat <&4";
    let (scratch, other) = (Scratch::create(), Scratch::create());
    let done = other.path().join("done");
    let path = done.to_str().expect("a path in UTF-8");
    let client = Companion::new("client", "sh").args(["-c", CLIENT, path]).connected("").chardev("c");
    let config = empty(&scratch).companion(client).args(["-mon", "chardev=c,mode=control"]);
    let mut machine = H::launch(config).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((scratch.entries(), machine.directory()), (vec![], None));
    wait_for_file(&done);
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    let end = &outcome.companions[0];
    assert!(end.log.starts_with("{\"QMP\": ") && end.log.contains("\n{\"return\": {}}"), "{outcome:#}");
    assert_eq!(end.exit, Some(ExitStatus::Code(0)), "{outcome:#}");
}

/// The later one fails while the earlier one runs, with a socket that it created itself.
fn g04_a_later_companion_that_fails_ends_the_earlier_ones<H: Hosted>() {
    let (scratch, other) = (Scratch::create(), Scratch::create());
    let earlier = other.path().join("earlier");
    let dies = format!("echo \"$PPID\" >'{}'; ls '{}'/*/; exit 7", earlier.display(), scratch.path().display());
    let dies = script("dies", &dies).path("");
    let sleeper = script("sleeper", "exec sleep 600");
    let config =
        shared(scratch.path(), server(scratch.path()).path("--socket-path=")).companion(sleeper).companion(dies);
    match H::launch(config).map(drop).expect_err("the companion fails") {
        LaunchError::Failed { failure: LaunchFailure::Companion { name, failure }, outcome } => {
            assert_eq!((&*name, failure), ("dies", CompanionFailure::Exited(ExitStatus::Code(7))), "{outcome:#}");
            assert_eq!(outcome.companions.len(), 3, "{outcome:#}");
            assert!(outcome.companions[..2].iter().all(|end| end.exit.is_some() && !end.is_early), "{outcome:#}");
            assert_eq!(&*outcome.companions[2].log, "companion-fs.sock\n", "{outcome:#}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(scratch.entries(), [""; 0]);
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
    let config = empty(&scratch).companion(other).companion(sleeps).launch_within(Duration::from_secs(3));
    let (failure, text) = failed::<H>(config);
    assert_eq!(failure, CompanionFailure::NotReady, "{text}");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// A QEMU that fails by itself is the reason, and not the companion that ends with it.
fn g04_the_failure_of_qemu_is_not_that_of_its_companion<H: Hosted>() {
    let scratch = Scratch::create();
    let config = shared(scratch.path(), server(scratch.path()).listener("--fd=")).args(["-device", "nothing"]);
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
        // Each has set its trap when it writes its file, which the test waits for below: it has no socket, so the next one
        // starts as soon as its program is executed.
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
pub(crate) fn wait_for_file(path: &Path) {
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
    // A log that is followed is no file: then nothing but the limit needs the files of the machine.
    for is_followed in [false, true] {
        let config = empty(&scratch).companion(script("loud", &text)).log_limit(LIMIT);
        let mut machine = H::launch(if is_followed { config.follow_log() } else { config }).expect("both start");
        machine.execute("query-status", LONG).expect("the monitor answers");
        wait_for_file(&done);
        let file = format!("/proc/{}/fd/1", machine.companion_pid("loud").expect("it runs"));
        let file = fs::File::open(file).expect("its log is a file");
        let log = machine.companion_log("loud").read(9).expect("it is readable");
        assert_eq!(log, b"\nthe end\n");
        let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
        let last = &outcome.companions[0].log;
        assert!(last.ends_with("y\n\nthe end\n") && last.len() > 1000, "{}", last.len());
        assert!(outcome.log.is_empty(), "it has a log of its own: {outcome:#}");
        // At the end, the limit is applied once more.
        let size = file.metadata().expect("it is open").blocks() * 512;
        assert!(size <= 2 * LIMIT, "{size} bytes, followed: {is_followed}");
        fs::remove_file(&done).expect("it is there");
    }
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
            g04_a_later_companion_that_fails_ends_the_earlier_ones
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
