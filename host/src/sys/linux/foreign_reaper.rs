//! Tests of the exit status of a process that another part of the program reaps, each in a process of its own.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use qemu_machine_core::{ExitStatus, ProcessAttributes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, wait};

use super::pidfd_info::wait_status;
use super::process::{Process, start};
use crate::clock::timespec;
use crate::signal_name::signal_name;
use crate::sys::wait_status::exit_status;
use crate::sys::{ChildProcess, ProcessSpec};

/// Scripts that end their shell with a code, with a signal, and with a signal that dumps core if the host permits it.
const ENDS: [&str; 3] = ["exit 7", "kill -KILL $$", "ulimit -c unlimited; kill -SEGV $$"];

/// The number of processes whose reader and reaper race.
const ROUNDS: usize = 500;

/// The deadline of an end, which takes milliseconds.
const LIMIT: Duration = Duration::from_secs(120);

/// The environment variable that holds, in the process of a test, the statuses that it is to see.
const EXPECTED: &str = "QEMU_MACHINE_EXPECTED";

/// A directory for core dumps.
struct Cores(PathBuf);

impl Drop for Cores {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a test again in a process of its own, behind this shell command, and the body only there. The body receives the
/// status of each of the [`ENDS`], as this process sees it.
fn in_own_process(test: &str, before: &str, body: impl FnOnce([i32; ENDS.len()])) {
    if let Ok(expected) = std::env::var(EXPECTED) {
        let mut expected = expected.split(',').map(|status| status.parse().expect("it is a number"));
        return body(ENDS.map(|_| expected.next().expect("there is one for each")));
    }
    let cores = Cores(std::env::temp_dir().join(format!("qemu-machine-{test}-{}", std::process::id())));
    fs::create_dir(&cores.0).expect("the directory is new");
    let expected = ENDS.map(|end| {
        let status = Command::new("sh").args(["-c", end]).current_dir(&cores.0).status().expect("there is a shell");
        status.into_raw().to_string()
    });
    let program = std::env::current_exe().expect("the test has a program");
    // Not `sh`: dash does not pass on that SIGCHLD is ignored (measured with dash 0.5.12).
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{before} exec \"$@\""), "bash"]).arg(program).current_dir(&cores.0);
    let (_, module) = module_path!().split_once("::").expect("it is in a crate");
    command.args([&format!("{module}::{test}"), "--exact", "--nocapture"]);
    let output = command.env(EXPECTED, expected.join(",")).stdin(Stdio::null()).output().expect("there is a shell");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

fn shell(script: &str) -> Process {
    let spec = ProcessSpec {
        arguments: ["sh", "-c", script].map(|argument| argument.as_bytes().to_vec()).into(),
        inherited: Vec::new(),
        namespace: None,
        log: None,
        share_terminal: false,
        outlives: false,
        attributes: ProcessAttributes::default(),
    };
    start(spec).expect("there is a shell")
}

/// Waits until the process has ended, and reaps it as a driver does.
fn reap(process: &Process) -> ExitStatus {
    let mut ended = [PollFd::new(process.descriptor(), PollFlags::IN)];
    assert_eq!(poll(&mut ended, Some(&timespec(LIMIT))), Ok(1), "it ends");
    let status = process.reap().expect("it has ended");
    assert!(!process.holds_its_start(), "the memory of the start is freed");
    status
}

/// Waits for any child, as a foreign reaper does, and returns the status in the encoding of `wait(2)`.
fn wait_for_any() -> i32 {
    wait(WaitOptions::empty()).expect("there is a child").expect("the call blocks").1.as_raw()
}

/// Returns whether this kernel keeps the status for a pidfd. Linux 6.15 and later do, without being asked; an older one
/// may have the change as well, which a child shows that this process has reaped itself.
fn keeps_status() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(|symbol: char| !symbol.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 15) {
        return true;
    }
    let mut child = Command::new("true").spawn().expect("the program exists");
    let pid = Pid::from_child(&child);
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped");
    // With SIGCHLD ignored, the kernel has reaped it by the time that this fails (`wait(2)`, NOTES).
    let _ = child.wait();
    wait_status(descriptor.as_fd()).is_some()
}

/// Returns whether SIGCHLD is ignored, by the mask of this process (`proc_pid_status(5)`, SigIgn).
fn ignores_sigchld() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("it is listed");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("it is a mask");
    mask & 1 << (Signal::CHILD.as_raw() - 1) != 0
}

/// Returns what is to be reported after a foreign reaper.
fn reported(status: i32) -> ExitStatus {
    exit_status(keeps_status().then_some(status))
}

#[test]
fn statuses_are_decoded_as_wait_encodes_them() {
    let signal = |number, core_dumped| ExitStatus::Signal { number, name: signal_name(number), core_dumped };
    assert_eq!(exit_status(None), ExitStatus::Unknown);
    assert_eq!(exit_status(Some(0)), ExitStatus::Code(0));
    assert_eq!(exit_status(Some(0x0700)), ExitStatus::Code(7));
    assert_eq!(exit_status(Some(0xff00)), ExitStatus::Code(255));
    assert_eq!(exit_status(Some(9)), signal(9, false));
    assert_eq!(exit_status(Some(0x80 | 11)), signal(11, true));
}

/// `/dev/null` answers ENOTTY, as a pidfd does where the kernel does not know the ioctl.
#[test]
fn there_is_no_status_without_the_ioctl() {
    let file = fs::File::open("/dev/null").expect("it exists");
    assert_eq!(exit_status(wait_status(file.as_fd())), ExitStatus::Unknown);
}

#[test]
fn a_process_that_runs_has_no_status() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it exists");
    let descriptor = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it is not reaped");
    assert_eq!(wait_status(descriptor.as_fd()), None);
    drop(child.stdin.take());
    assert!(child.wait().expect("it is a child").success());
}

#[test]
fn the_status_is_known_after_another_thread_has_reaped_the_process() {
    in_own_process("the_status_is_known_after_another_thread_has_reaped_the_process", "", |expected| {
        for (end, expected) in ENDS.into_iter().zip(expected) {
            let process = shell(end);
            assert_eq!(thread::spawn(wait_for_any).join().expect("it waits"), expected, "{end}");
            assert_eq!(reap(&process), reported(expected), "{end}");
        }
    });
}

/// The process is reaped by this thread or by the other. A kernel that keeps the status reports it either way.
#[test]
fn the_status_is_known_while_another_thread_reaps_the_process() {
    in_own_process("the_status_is_known_while_another_thread_reaps_the_process", "", |[expected, ..]| {
        let allowed = [reported(expected), exit_status(Some(expected))];
        for _ in 0..ROUNDS {
            let process = shell(ENDS[0]);
            let reaper = thread::spawn(|| wait(WaitOptions::empty()).is_ok());
            let status = reap(&process);
            assert!(allowed.contains(&status), "{status}");
            assert!(reaper.join().is_ok());
        }
    });
}

#[test]
fn the_status_is_known_while_sigchld_is_ignored() {
    in_own_process("the_status_is_known_while_sigchld_is_ignored", "trap '' CHLD;", |expected| {
        assert!(ignores_sigchld());
        for (end, expected) in ENDS.into_iter().zip(expected) {
            assert_eq!(reap(&shell(end)), reported(expected), "{end}");
        }
        let reported = reported(expected[0]);
        for _ in 0..ROUNDS {
            assert_eq!(reap(&shell(ENDS[0])), reported);
        }
    });
}
