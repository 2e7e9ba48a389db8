//! Execution of the command through the guest agent, without polling for its end.
//!
//! The protocol has no notification: `guest-exec` replies when the command has started, and `guest-exec-status` must be
//! polled. This guest's agent logs to the second serial port (`qemu-ga -v`), also when a process has ended (QEMU,
//! `qga/commands.c`, `guest_exec_child_watch`). This program waits for that line, and then sends `guest-exec-status`.

use std::io::{Write, stderr, stdout};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qemu_machine_blocking::{Agent, Command, CommandError, Vm};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::report::Report;

/// The most requests for the status. When the command has ended, the agent may still have to read its output: two pipes
/// with 64 KiB each (`pipe(7)`), of which it reads 4 KiB at a time (QEMU, `qga/commands.c`, `GUEST_EXEC_IO_SIZE`). A
/// pipe that is open for longer is held by another process.
const QUESTIONS: usize = 64;

/// The time to wait for the end of the machine after its agent has gone: the end is reported some milliseconds later.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct GuestExec {
    path: &'static str,
    capture_output: bool,
}

impl Command for GuestExec {
    type Reply = Process;

    fn name(&self) -> &str {
        "guest-exec"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(self)
    }
}

/// A process in the guest: the reply to `guest-exec`, and the arguments of `guest-exec-status`.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Process {
    pid: u64,
}

struct GuestExecStatus(Process);

impl Command for GuestExecStatus {
    type Reply = Status;

    fn name(&self) -> &str {
        "guest-exec-status"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(self.0)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Status {
    exited: bool,
    exitcode: Option<u8>,
    signal: Option<u8>,
    out_data: String,
    err_data: String,
}

/// Runs the command, prints its output, and returns its exit code.
///
/// # Errors
///
/// [`Failure`], if the command has no exit code.
pub(crate) fn run(vm: &Vm, report: &mut Report<'_>) -> Result<u8, Failure> {
    converse(vm, report).map_err(|failure| match failure {
        Failure::Agent(_) => why(vm, report).unwrap_or(failure),
        other => other,
    })
}

/// Returns why the agent does not answer: the machine has ended, or the time is over. `None` means neither.
fn why(vm: &Vm, report: &Report<'_>) -> Option<Failure> {
    match vm.wait(GRACE) {
        Ok(outcome) => Some(Failure::of_end(vm, &outcome)),
        Err(_) => report.left().is_zero().then(|| report.hung()),
    }
}

fn converse(vm: &Vm, report: &mut Report<'_>) -> Result<u8, Failure> {
    let agent = vm.agent(report.left())?;
    let process = agent.execute_by(GuestExec { path: "/command", capture_output: true }, report.left())?;
    report.up_to(&format!("guest_exec_child_watch called, pid: {},", process.pid))?;
    let status = status(&agent, process)?;
    show(&mut stdout(), &status.out_data)?;
    show(&mut stderr(), &status.err_data)?;
    match (status.exitcode, status.signal) {
        (Some(code), _) => Ok(code),
        (None, Some(signal)) => Ok(128 + signal), // As shells define it.
        (None, None) => Err(Failure::Agent("the command ended, but another process keeps its output open".into())),
    }
}

/// Returns the status of a process that has ended.
fn status(agent: &Agent, process: Process) -> Result<Status, CommandError> {
    for _ in 1..QUESTIONS {
        let status = agent.execute(GuestExecStatus(process))?;
        if status.exited {
            return Ok(status);
        }
    }
    agent.execute(GuestExecStatus(process))
}

fn show(to: &mut impl Write, data: &str) -> Result<(), Failure> {
    let bytes = STANDARD.decode(data).map_err(|error| Failure::Agent(error.into()))?;
    // If the reader of the output is gone, the exit code still counts.
    let _ = to.write_all(&bytes).and_then(|()| to.flush());
    Ok(())
}
