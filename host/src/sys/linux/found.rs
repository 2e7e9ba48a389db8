//! Process that an earlier program started, on Linux: how it is found, signalled, and how its exit status is read.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use qemu_machine_core::{ExitStatus, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open, pidfd_send_signal};

use super::family;
use super::pidfd_info;
use crate::clock::timespec;
use crate::sys::wait_status::{exit_status, os_signal};

/// Process that an id and a start time refer to.
pub(super) enum Found {
    Running(Pid, OwnedFd),
    Ended(ExitStatus),
}

/// Finds the process with this id that runs since then, in clock ticks since the boot.
///
/// Its pidfd is opened before its start time is read: the id refers to the same process then, or to one that was started
/// later and has another start time.
pub(super) fn find(pid: u32, since: u64) -> io::Result<Found> {
    let unknown = Found::Ended(ExitStatus::Unknown);
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(unknown) };
    let descriptor = match pidfd_open(raw, PidfdFlags::empty()) {
        // A thread that leads no process has the id now (`pidfd_open(2)`, EINVAL; ENOENT from Linux 6.13 on).
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(unknown),
        opened => opened?,
    };
    match stat(pid) {
        Some(stat) if stat.since != since => Ok(unknown),
        Some(stat) if stat.has_ended => Ok(Found::Ended(exit_status(stat.status))),
        Some(_) => Ok(Found::Running(raw, descriptor)),
        None if has_ended(descriptor.as_fd()) => Ok(unknown),
        // There is no `/proc`, the process is hidden there, or this program has no descriptor left.
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Returns whether a process has ended, by its pidfd (`pidfd_open(2)`).
pub(super) fn has_ended(process: BorrowedFd<'_>) -> bool {
    retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timespec(Duration::ZERO)))) == Ok(1)
}

/// Sends a signal to a process, and to the others of the group that has its id, each by pidfd. The id of a process that has
/// ended may be that of another group by now, so that group is signalled only while the process runs.
pub(super) fn signal(pid: u32, process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let others = family::members(pid).into_iter().filter(|other| *other != pid);
    let opened = others.filter_map(|other| {
        let raw = i32::try_from(other).ok().and_then(Pid::from_raw)?;
        let descriptor = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        // The process in the group afterwards is the process that the descriptor refers to.
        family::is_member(other, pid).then_some(descriptor)
    });
    let others: Vec<_> = opened.collect();
    if has_ended(process) {
        return Ok(());
    }
    // The process first: a wrapper that sees the end of QEMU may exit by itself before it is killed.
    let sent = pidfd_send_signal(process, os_signal(signal));
    for other in others {
        // One that has ended needs no signal.
        let _ = pidfd_send_signal(other, os_signal(signal));
    }
    Ok(sent?)
}

/// Returns how a process has ended. Its parent may reap it at any time, or never: the kernel keeps the status for the
/// pidfd from then on, and until then in `/proc`.
pub(super) fn status(pid: u32, since: u64, process: &OwnedFd) -> ExitStatus {
    let unreaped = stat(pid).filter(|stat| stat.since == since && stat.has_ended);
    match unreaped {
        Some(stat) if stat.status.is_some() => exit_status(stat.status),
        _ => exit_status(pidfd_info::stored_status(process.as_fd())),
    }
}

/// What `/proc/PID/stat` reports of a process (`proc_pid_stat(5)`).
struct Stat {
    since: u64,
    /// Whether it is a zombie, or dead.
    has_ended: bool,
    /// The status of a process that has ended, in the encoding of `wait(2)`. `None` means that it runs, or that the kernel
    /// does not show it to this user.
    status: Option<i32>,
}

fn stat(pid: u32) -> Option<Stat> {
    parsed(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, || is_visible(pid))
}

/// Parses the fields 3 (state), 22 (start time) and 52 (exit status). The kernel shows 0 as status to a user who may not
/// trace the process (`proc_pid_stat(5)`).
fn parsed(stat: &str, is_visible: impl FnOnce() -> bool) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    let since = fields.nth(18)?.parse().ok()?;
    let status = fields.nth(29).and_then(|status| status.parse().ok());
    Some(Stat { since, has_ended, status: status.filter(|status| has_ended && (*status != 0 || is_visible())) })
}

/// Returns whether this user may trace a process: all ids of both are the same, or this is root.
fn is_visible(pid: u32) -> bool {
    let own = geteuid();
    own.is_root()
        || fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| super::has_one_user(&status, own.as_raw()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn since(pid: u32) -> u64 {
        stat(pid).unwrap().since
    }

    /// The process is a child here, that was not reaped, as below a first process of a container that reaps nothing.
    #[test]
    fn the_status_of_a_process_that_is_not_reaped_is_read() {
        let mut child =
            Command::new("sh").args(["-c", "read line; kill -SEGV $$"]).stdin(Stdio::piped()).spawn().unwrap();
        let (pid, began) = (child.id(), since(child.id()));
        let Ok(Found::Running(_, descriptor)) = find(pid, began) else { panic!("it runs") };
        assert!(!has_ended(descriptor.as_fd()));
        drop(child.stdin.take());
        assert_eq!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None), Ok(1));
        assert!(has_ended(descriptor.as_fd()));
        let ended = status(pid, began, &descriptor);
        assert!(matches!(ended, ExitStatus::Signal { number: 11, .. }), "{ended}");
        assert!(matches!(find(pid, began), Ok(Found::Ended(found)) if found == ended));
        assert_eq!(child.wait().unwrap().signal(), Some(11));
        assert!(matches!(find(pid, began), Ok(Found::Ended(ExitStatus::Unknown))));
    }

    #[test]
    fn another_process_with_the_id_is_not_found() {
        let own = std::process::id();
        assert!(matches!(find(own, since(own)), Ok(Found::Running(..))));
        assert!(matches!(find(own, since(own) + 1), Ok(Found::Ended(ExitStatus::Unknown))));
        assert!(matches!(find(u32::MAX, 1), Ok(Found::Ended(ExitStatus::Unknown))));
    }

    #[test]
    fn a_status_that_is_hidden_counts_as_unknown() {
        let line = |state: &str, status: i32| {
            let zeros = ["0"; 49].map(str::to_owned);
            let mut fields: Vec<_> = [state.to_owned()].into_iter().chain(zeros).collect();
            (fields[19], fields[49]) = ("7".to_owned(), status.to_string());
            format!("1 (a) b) {}", fields.join(" "))
        };
        let read = |line: &str, is_visible: bool| {
            parsed(line, || is_visible).map(|stat| (stat.since, stat.has_ended, stat.status))
        };
        assert_eq!(read(&line("S", 0), true), Some((7, false, None)));
        assert_eq!(read(&line("Z", 0), true), Some((7, true, Some(0))));
        assert_eq!(read(&line("Z", 0), false), Some((7, true, None)));
        assert_eq!(read(&line("X", 9), false), Some((7, true, Some(9))));
        assert_eq!(read("1 (a", true), None);
    }
}
