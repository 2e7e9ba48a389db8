//! Procedure that runs a program in the guest, by its agent, and returns its output and exit status.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Procedure, ProcedureError};
use crate::base64::Base64;
use crate::command::Command;
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;
use crate::text::UntrustedText;
use crate::wait::{Found, Mark, Wait};

/// Runs a program in the guest (`guest-exec`) and waits for its end. It runs on the agent: `Agent::run`, or the machine that
/// is attached to the agent.
///
/// The agent reports no end, so the procedure sends `guest-exec-status` again and again, after 10 milliseconds, then after
/// twice the time of the time before, up to half a second.
///
/// The agent keeps at most 16 MiB each of stdout and stderr, drops the rest, and reports that (QEMU, `qga/commands.c`,
/// `GUEST_EXEC_MAX_OUTPUT`). It returns the output only when the program has ended, and closed it: a child of the program
/// that keeps it open delays the end. To follow the output meanwhile, redirect it to a file in the guest
/// (`sh -c "make >/tmp/log 2>&1"`), start the program with [`without_output`](Self::without_output), and read what was
/// appended with [`ReadGuestFile::offset`](super::ReadGuestFile::offset).
///
/// The agent kills no program. When the deadline passes, or the run is cancelled, the error has the process id
/// ([`GuestExecError::Unfinished`]), and [`process`](Self::process) waits on. When the run is dropped, the program runs on.
///
/// ```
/// use qemu_machine_core::procedure::GuestExec;
///
/// let sort = GuestExec::program("/usr/bin/sort").args(["-r"]).input("a\nb\n");
/// // let end = agent.run(sort, Duration::from_secs(10))?;
/// // assert_eq!((end.exit, &*end.stdout), (GuestExit::Code(0), b"b\na\n"));
/// ```
#[derive(Clone)]
#[must_use = "a procedure does nothing until it is run"]
pub struct GuestExec {
    request: ExecRequest,
    state: State,
    /// The time until the next question.
    pause: Duration,
}

/// The program of `guest-exec`.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExecRequest {
    path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arg: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_data: Option<Base64>,
    capture_output: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// The program is to be waited for, and not started.
    Started(i64),
    /// `guest-exec` has no reply yet.
    Starting,
    /// The process with this id was started.
    Running(i64),
}

/// How a program in the guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestExit {
    /// It exited with this code.
    Code(i64),
    /// This signal ended it; in a Windows guest, this exception.
    Signal(i64),
    /// The agent reported neither.
    Unknown,
}

/// End of a program in the guest.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestExecEnd {
    /// The id of the process in the guest.
    pub pid: i64,
    /// How it ended.
    pub exit: GuestExit,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    /// Whether the agent dropped the rest of stdout.
    pub is_stdout_truncated: bool,
    /// Whether the agent dropped the rest of stderr.
    pub is_stderr_truncated: bool,
}

/// Why the end of a program in the guest was not observed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestExecError {
    /// The program was started, and its end is unknown: the deadline passed, the run was cancelled, or the agent does not
    /// answer or refuses. The process may still run.
    #[error("process {pid} in the guest was started, and may still run: {error}")]
    Unfinished {
        /// The id of the process in the guest.
        pid: i64,
        /// Why its end is unknown.
        error: ProcedureError,
    },
    /// The program was not started. After a time-out, that is not certain.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

/// The reply of `guest-exec-status`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    exitcode: Option<i64>,
    signal: Option<i64>,
    #[serde(default)]
    out_data: Base64,
    #[serde(default)]
    err_data: Base64,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

/// `guest-exec`.
impl Command for ExecRequest {
    type Reply = Payload;

    fn name(&self) -> &str {
        "guest-exec"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(self)
    }
}

type Step = procedure::Output<Result<GuestExecEnd, GuestExecError>>;

/// The time until the first question, and the longest one. A program that only prints something has ended by then.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

impl GuestExec {
    /// Returns a procedure that runs this program without arguments: a path, or a name that the agent looks up in its
    /// `PATH`. Stdout and stderr are captured.
    pub fn program(path: impl Into<String>) -> Self {
        let request = ExecRequest { path: path.into(), capture_output: true, ..ExecRequest::default() };
        Self { request, state: State::New, pause: PAUSES[0] }
    }

    /// Returns a procedure that waits for a process which an earlier one has started. The agent reports each end once.
    pub fn process(pid: i64) -> Self {
        Self { state: State::Started(pid), ..Self::program("") }
    }

    /// Adds arguments. No shell reads them.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.request.arg.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable of the environment. With the first one, the program no longer inherits those of the agent (QEMU,
    /// `qga/commands.c`, `qmp_guest_exec`).
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.request.env.push([name, "=", value].concat());
        self
    }

    /// Sets what the program reads from stdin. By default, that is nothing. The agent accepts less than 48 MiB, since a
    /// command has at most 64 MiB in base64 (QEMU, `qobject/json-streamer.c`, `MAX_TOKEN_SIZE`).
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.request.input_data = Some(Base64(bytes.into()));
        self
    }

    /// Drops stdout and stderr. Otherwise the agent captures them.
    pub fn without_output(mut self) -> Self {
        self.request.capture_output = false;
        self
    }

    fn ask(&mut self, pid: i64) -> Step {
        self.state = State::Running(pid);
        procedure::Output::execute(&("guest-exec-status", json!({"pid": pid})))
    }

    /// Waits before the next question. The end of the connection is found at once.
    fn rest(&mut self) -> Step {
        let within = Some(self.pause);
        self.pause = (self.pause * 2).min(PAUSES[1]);
        procedure::Output::Wait { from: Mark::default(), things: Vec::from([Wait::end()]), within }
    }

    fn fail(&self, error: impl Into<ProcedureError>) -> Step {
        let error = error.into();
        procedure::Output::Done(Err(match self.state {
            State::New | State::Starting => error.into(),
            State::Started(pid) | State::Running(pid) => GuestExecError::Unfinished { pid, error },
        }))
    }

    fn replied(&mut self, reply: Payload) -> Result<Step, CommandError> {
        let State::Running(pid) = self.state else {
            let Started { pid } = reply.reply()?;
            self.state = State::Running(pid);
            return Ok(self.rest());
        };
        let status: Status = reply.reply()?;
        if !status.exited {
            return Ok(self.rest());
        }
        let exit = match (status.exitcode, status.signal) {
            (_, Some(signal)) => GuestExit::Signal(signal),
            (Some(code), None) => GuestExit::Code(code),
            (None, None) => GuestExit::Unknown,
        };
        Ok(procedure::Output::Done(Ok(GuestExecEnd {
            pid,
            exit,
            stdout: status.out_data.0,
            stderr: status.err_data.0,
            is_stdout_truncated: status.out_truncated,
            is_stderr_truncated: status.err_truncated,
        })))
    }
}

impl Procedure for GuestExec {
    type Return = Result<GuestExecEnd, GuestExecError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match (input, self.state) {
            (procedure::Input::Begun(_), State::New) => {
                self.state = State::Starting;
                procedure::Output::execute(&self.request)
            }
            (procedure::Input::Begun(_), State::Started(pid)) | (procedure::Input::Later, State::Running(pid)) => {
                self.ask(pid)
            }
            (procedure::Input::Begun(_), _) => procedure::Output::Execute(Err(Misuse::ProcedureReused)),
            (procedure::Input::Reply(Ok(reply)), _) => self.replied(reply).unwrap_or_else(|error| self.fail(error)),
            (procedure::Input::Reply(Err(error)), _) => self.fail(error),
            (procedure::Input::Found(Err(error)), _) => self.fail(error),
            (procedure::Input::Found(Ok(hit)), _) => match hit.found {
                Found::End(outcome) => self.fail(WaitError::Ended(outcome)),
                // It waits for nothing else.
                _ => self.fail(WaitError::FoundOther),
            },
            // It waits for no events.
            (procedure::Input::Later | procedure::Input::Missed(_), _) => self.rest(),
        }
    }
}

/// Shows neither the input nor the environment, which may be secret.
impl fmt::Debug for GuestExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExecRequest { path, arg, .. } = &self.request;
        f.debug_struct("GuestExec")
            .field("path", path)
            .field("args", arg)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Shows the output as text.
impl fmt::Debug for GuestExecEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| UntrustedText::from_utf8_lossy(bytes);
        f.debug_struct("GuestExecEnd")
            .field("pid", &self.pid)
            .field("exit", &self.exit)
            .field("stdout", &text(&self.stdout))
            .field("stderr", &text(&self.stderr))
            .field("is_stdout_truncated", &self.is_stdout_truncated)
            .field("is_stderr_truncated", &self.is_stderr_truncated)
            .finish()
    }
}
