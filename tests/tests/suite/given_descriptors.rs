//! Stories of descriptors that are handed over to QEMU, of arguments as paths, and of the whole log of a failed launch.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use qemu_machine_blocking::descriptor;
use qemu_machine_core::{Config, LaunchError, Limits, Misuse, Shutdown};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::hosted::Hosted;
use crate::rows;

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// Returns a pipe: the end to read, and the end to write.
fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).expect("there is room")
}

/// Asserts that the other end of a pipe is closed everywhere.
fn assert_ends(pipe: &OwnedFd) {
    let limit = Timespec { tv_sec: PATIENCE.as_secs().try_into().expect("it is short"), tv_nsec: 0 };
    let mut watched = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut watched, Some(&limit)).expect("it is open");
    assert!(watched[0].revents().contains(PollFlags::HUP), "the pipe has ended: {:?}", watched[0].revents());
}

fn has_ended(pipe: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&now)).expect("it is open") > 0
}

fn row_13_a_pipe_ends_with_qemu_and_not_with_the_handle<H: Hosted>() {
    let ((added, to_add), (inherited, to_inherit)) = (pipe(), pipe());
    let mut config = empty().add_fd(descriptor(to_add), 1, "");
    config.inherit_fd(descriptor(to_inherit));
    let mut machine = H::launch(config).expect("QEMU starts");
    assert!(!has_ended(&added) && !has_ended(&inherited), "QEMU has them");
    machine.shutdown(Shutdown::default()).expect("it runs");
    assert_ends(&added);
    assert_ends(&inherited);
    assert_eq!(machine.relaunch(), Err(LaunchError::Misuse(Misuse::UsedUp)));
}

fn row_13_a_pipe_ends_with_a_launch_that_fails<H: Hosted>() {
    for (program, argument) in [(qemu(), "-nonsense"), ("/nonexistent/qemu", "-S")] {
        let (read, write) = pipe();
        let config = Config::new(program).arg(argument).add_fd(descriptor(write), 1, "");
        H::launch(config).map(drop).expect_err("it cannot start");
        assert_ends(&read);
    }
}

fn row_13_a_descriptor_serves_the_next_run_on_request<H: Hosted>() {
    let (read, write) = pipe();
    let mut machine = H::launch(empty().add_fd(descriptor(write), 1, "").keep_fds()).expect("QEMU starts");
    machine.shutdown(Shutdown::default()).expect("it runs");
    assert!(!has_ended(&read), "the machine keeps it");
    machine.relaunch().expect("QEMU starts again");
    machine.kill().expect("it runs");
    drop(machine);
    assert_ends(&read);
}

/// Arguments as `std::process::Command` takes them. A path that is not UTF-8 reaches QEMU byte for byte.
fn row_01_arguments_are_texts_and_paths<H: Hosted>() {
    let scratch = Scratch::create();
    let (name, path) = (String::from("-pidfile"), scratch.path().join(OsStr::from_bytes(b"a,b \xff\n")));
    let list: Vec<String> = vec!["-name".into(), "two words".into()];
    let config = empty().args(&list).arg(&name).arg(&path).arg(OsStr::new("-D")).arg(PathBuf::from("/dev/null"));
    let mut machine = H::launch(config.temporary_directory(scratch.path())).expect("QEMU starts");
    let pid = std::fs::read_to_string(&path).expect("QEMU writes its pid there");
    assert_eq!(pid.trim().parse().ok(), machine.pid());
    machine.shutdown(Shutdown::default()).expect("it runs");
    File::open(&path).map(drop).expect_err("QEMU removes it");
}

/// A launch that fails after more output than is kept by default.
fn row_08_a_failed_launch_has_its_whole_log<H: Hosted>() {
    let script = "seq 1 30000 >&2; exit 3";
    let whole: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let default = Limits::default().log;
    for limit in [default, usize::MAX] {
        let mut limits = Limits::default();
        limits.log = limit;
        let Err(LaunchError::Failed { outcome, .. }) = H::launch(empty().wrapper(["sh", "-c", script]).limits(limits))
        else {
            panic!("the wrapper ends")
        };
        assert_eq!(outcome.log.as_str(), &whole[whole.len().saturating_sub(limit)..]);
    }
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_13_a_pipe_ends_with_qemu_and_not_with_the_handle
            row_13_a_pipe_ends_with_a_launch_that_fails
            row_13_a_descriptor_serves_the_next_run_on_request
            row_01_arguments_are_texts_and_paths
            row_08_a_failed_launch_has_its_whole_log
        }
    };
}

rows!(stories);
