//! Steps between the creation of a process and the execution of its program, and the report of one that fails.

use std::io;
use std::os::fd::AsFd;

use rustix::io::{Errno, read};

use super::Progress;

/// A step of the child that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Group,
    Cgroup,
    Namespace,
    Limits,
    Credentials,
    WorkingDirectory,
    Descriptors,
    Parent,
    Execute,
}

impl Step {
    const ALL: [(Self, &str); 9] = [
        (Self::Group, "create a process group for"),
        (Self::Cgroup, "enter the cgroup for"),
        (Self::Namespace, "enter the network namespace for"),
        (Self::Limits, "set the resource limits for"),
        (Self::Credentials, "set the user and group ids for"),
        (Self::WorkingDirectory, "enter the working directory for"),
        (Self::Descriptors, "pass the descriptors to"),
        (Self::Parent, "find the parent of"),
        (Self::Execute, "execute"),
    ];

    /// Returns what cannot be done, to be followed by the program.
    pub(super) fn text(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("start", |(_, text)| text)
    }
}

/// Returns the report that a child writes: the step that failed, and its error.
pub(super) fn report(step: Step, errno: Errno) -> [u8; 8] {
    let mut report = [0_u8; 8];
    let (first, second) = report.split_at_mut(4);
    first.copy_from_slice(&(step as u32).to_ne_bytes());
    second.copy_from_slice(&errno.raw_os_error().to_ne_bytes());
    report
}

/// Returns the step that failed, and why, from the pipe for the report. An error is the progress without a failure.
pub(super) fn progress(pipe: impl AsFd) -> Result<(Step, io::Error), Progress> {
    let mut report = [0_u8; 8];
    match read(pipe, &mut report) {
        Ok(0) => Err(Progress::Executed),
        Ok(_) => {
            let [a, b, c, d, errno @ ..] = report;
            let step = u32::from_ne_bytes([a, b, c, d]);
            let step = Step::ALL.iter().find(|(known, _)| *known as u32 == step);
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            Ok((step.map_or(Step::Execute, |(step, _)| *step), error))
        }
        Err(_) => Err(Progress::Pending),
    }
}
