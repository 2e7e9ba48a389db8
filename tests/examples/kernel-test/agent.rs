//! Decides how the guest agent runs the command, and how we know that it has ended.
//!
//! The protocol does not tell: `guest-exec` answers when the command has started, and `guest-exec-status` must be
//! asked. An agent of which we know nothing else can only be asked again and again. Ours says on the guest's second
//! serial port whatever it does (`qemu-ga -v`): so we wait for that, and ask then.

use std::io::{Write, stderr, stdout};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qemu_machine_blocking::{Agent, Command, CommandError, Vm};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::report::Report;

/// When the command has ended, the agent may have its output still to read: of two pipes with 64 KiB in each it reads
/// some KiB between two of our questions. What is open for longer is held by another process.
const QUESTIONS: usize = 64;

/// A machine that ends takes its agent with it; that it has ended we hear some milliseconds later.
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

/// A process in the guest: the answer to the first command, and all that the second one asks with.
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

/// Has the command run, shows its output, and gives its exit code.
pub(crate) fn run(vm: &Vm, report: &mut Report<'_>) -> Result<u8, Failure> {
    converse(vm, report).map_err(|failure| match failure {
        Failure::Agent(_) => why(vm, report).unwrap_or(failure),
        other => other,
    })
}

/// Why the agent does not answer, where that is for a reason that is not its own.
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
        (None, Some(signal)) => Ok(128 + signal), // As shells have it.
        (None, None) => Err(Failure::Agent("another process keeps the output of the command open".into())),
    }
}

/// What became of a process that has ended.
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
    // Nobody may listen to us any more: the exit code is told all the same.
    let _ = to.write_all(&bytes).and_then(|()| to.flush());
    Ok(())
}
