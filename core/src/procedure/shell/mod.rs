//! Procedure that executes a line in a shell on a console, and returns its output and exit code.

mod end;
mod kernel;
mod latest;
mod quote;
mod transcript;

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::Procedure;
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::procedure;
use crate::time::Moment;
use crate::wait::{Found, Hit, Mark, Wait};
use transcript::{End, Stage, Transcript};

pub use end::{ShellEnd, ShellError, ShellProgress};
#[cfg(feature = "record")]
pub(crate) use kernel::is_panic;

/// A POSIX shell (busybox, dash, bash) on a console of the guest. It executes lines, one at a time.
///
/// ```
/// use qemu_machine_core::procedure::Shell;
///
/// let shell = Shell::on("tty");
/// let uname = shell.line("uname -r");
/// // let end = vm.run(uname, Duration::from_secs(60))?;
/// // assert!(end.is_success(), "{}", end.output.multiline());
/// // let failed = vm.run(shell.line("cd /proc; test -e none"), Duration::from_secs(60))?;
/// // assert_eq!(failed.code, 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    console: String,
    /// How prompts end. Empty means that no prompt is waited for.
    prompts: Vec<String>,
    output_limit: usize,
}

impl Shell {
    /// Default of [`output_limit`](Self::output_limit): 1 MiB, as much as a console keeps by default.
    pub const OUTPUT_LIMIT: usize = 1 << 20;

    /// Returns a shell on the console of this name. Its prompts end with `# ` or `$ `.
    #[must_use]
    pub fn on(console: impl Into<String>) -> Self {
        Self {
            console: console.into(),
            prompts: ["# ", "$ "].map(String::from).into(),
            output_limit: Self::OUTPUT_LIMIT,
        }
    }

    /// Sets how the prompts end, instead of the default: at least one text that is not empty, without escape sequences.
    #[must_use]
    pub fn prompts<S: Into<String>>(mut self, ends: impl IntoIterator<Item = S>) -> Self {
        self.prompts = ends.into_iter().map(Into::into).filter(|end: &String| !end.is_empty()).collect();
        self
    }

    /// Types without waiting for a prompt, for a shell that shows none, or whose prompt is followed by other output. What is
    /// typed before a shell reads the console may be lost, and a line that the shell abandons, as dash does after an error
    /// of syntax, ends with the deadline.
    #[must_use]
    pub fn without_prompt(self) -> Self {
        self.prompts::<String>([])
    }

    /// Sets how much output of a line is returned, in bytes: the latest. Default: [`Self::OUTPUT_LIMIT`].
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Returns the procedure that executes this line: any command of the shell, also several, with pipes, comments, `&` or
    /// line feeds. The shell itself executes it, so that `cd` and variables last. A NUL is left out, as shells do.
    pub fn line(&self, line: impl Into<String>) -> ShellLine {
        ShellLine {
            transcript: Transcript::new(self.output_limit),
            shell: self.clone(),
            line: line.into(),
            mark: None,
            id: 0,
            prompt: Vec::new(),
            missed: 0,
            closing: None,
            reset: Mark::default(),
        }
    }
}

/// Executes a line in a [`Shell`], and waits for its end.
///
/// It waits until the console shows a prompt and is silent for 30 milliseconds, types the line, and reads the console up to
/// the exit code. The line is between two markers that the echo does not contain, and that differ for each run. Kernel
/// messages (`[   12.345678] …`) and escape sequences may be anywhere, also in the middle of a prompt or a marker.
///
/// It fails without waiting for the deadline ([`ShellError`]): at once when the machine ends, within two seconds after the
/// kernel panics or reports an oops, after 300 milliseconds when the guest is reset, and after three seconds at a login,
/// where the shell has ended or a user must log in. The line is not interrupted when the deadline passes, or the run is
/// cancelled or dropped.
///
/// - Kernel messages are known by their time: a kernel without `CONFIG_PRINTK_TIME` (`printk.time=0`) has them in the output,
///   and of its reports only panics are found.
/// - Output that looks like messages which are later than the latest one is taken for messages: `dmesg | tail` on a
///   console on which the kernel prints less than into its buffer (`quiet`, `loglevel=`) may have an empty output, and its
///   lines are in [`ShellEnd::messages`] without their times.
/// - A text that looks like a report of a panic (`cat crash.log`) is taken for one unless the line ends within two seconds.
/// - Hung tasks (`INFO: task … blocked`), stalls of RCU and warnings are messages, and no failures.
/// - With `set -x`, the trace of the markers is part of the output.
/// - A prompt within the line, as that of a shell which it starts, is taken for the end of the line after 200 milliseconds if
///   it is the same. Then the error is [`ShellError::Exited`].
/// - Two procedures must not use one console at the same time.
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct ShellLine {
    shell: Shell,
    line: String,
    transcript: Transcript,
    /// The position up to which the console was read. `None` before the procedure begins.
    mark: Option<Mark>,
    /// The number in the markers.
    id: u64,
    /// The prompt at which the line was typed.
    prompt: Vec<u8>,
    /// Number of bytes that were evicted before they were read, since the line was typed.
    missed: u64,
    /// The procedure is about to fail, and reads what belongs to the report.
    closing: Option<Closing>,
    /// The position of the latest reset before the procedure begins.
    reset: Mark,
}

/// Time in which the rest of a report is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closing {
    until: Moment,
    is_reset: bool,
}

type Return = Result<ShellEnd, ShellError>;
type Step = procedure::Output<Return>;

/// How much of the earlier output is read, in bytes: the last thousand lines.
const EARLIER: u64 = 64 << 10;

/// How long the console must be silent at a prompt without a marker before the shell is asked for the exit code: the command
/// may print a text like the prompt. A shell writes its prompt at once, and a slow UART needs a millisecond for a byte.
const PROMPT_SILENCE: Duration = Duration::from_millis(200);

/// How long the console must be silent at a prompt before the line is typed: a text of the boot may contain one in the middle
/// of a line, and a read may end there. The rest of a line follows within milliseconds.
const PROMPT_SETTLES: Duration = Duration::from_millis(30);

/// How long the console must be silent at a login: one that logs in a user by itself (agetty(8), `--autologin`) prints the
/// prompt, and then starts a shell, which may take seconds without KVM.
const LOGIN_SILENCE: Duration = Duration::from_secs(3);

/// How long the backtrace of a panic or an oops may take. Its 50 lines take half a second at 115,200 baud.
const REPORT_WITHIN: Duration = Duration::from_secs(2);

/// How long after the end of an oops its panic may come (Linux, `kernel/panic.c`, `oops_exit`: it is the next message), and
/// how long after the event of a reset what was printed before it: console and monitor are two sockets.
const GRACE: Duration = Duration::from_millis(300);

impl ShellLine {
    fn begin(&mut self, now: Moment, mark: Mark) -> Step {
        // Positions count all bytes of all runs, and grow with each line. The time makes the marker unpredictable.
        let time = u64::try_from(now.since(Moment::ORIGIN).as_nanos()).unwrap_or(u64::MAX);
        let position = mark.consoles.iter().fold(mark.event, |sum, position| sum.wrapping_add(*position));
        self.id = time.rotate_left(20).wrapping_add(position);
        // The prompt, and the time of the latest kernel message, are in the earlier output.
        let earlier = mark.consoles.iter().map(|position| position.saturating_sub(EARLIER)).collect();
        let earlier = Mark { event: mark.event, consoles: earlier };
        // Output before a reset is of another kernel and its shell.
        self.mark = Some(earlier.not_before(&self.reset));
        if self.shell.prompts.is_empty() {
            self.mark = Some(mark);
            return self.write_line();
        }
        self.wait(None)
    }

    fn write_line(&mut self) -> Step {
        self.transcript.begin_line(self.id);
        self.write(quote::typed(&self.line, self.id))
    }

    fn write(&self, text: String) -> Step {
        match self.wait(None) {
            procedure::Output::Wait { from, things, within } => {
                let (console, bytes) = (self.shell.console.clone(), text.into_bytes());
                procedure::Output::Write { console, bytes, from, things, within }
            }
            step => step,
        }
    }

    fn wait(&self, within: Option<Duration>) -> Step {
        let mut things = Vec::from([Wait::output(&*self.shell.console), Wait::end()]);
        if !self.is_reset() {
            things.push(Wait::event("RESET"));
        }
        procedure::Output::Wait { from: self.mark.clone().unwrap_or_default(), things, within }
    }

    fn found(&mut self, now: Moment, hit: Hit) -> Step {
        self.mark = Some(hit.mark);
        match hit.found {
            Found::Text(text) => {
                if self.transcript.stage != Stage::Prompt {
                    self.missed += hit.missed.bytes;
                    if hit.missed.bytes > 0 {
                        self.transcript.skip();
                    }
                }
                self.transcript.read(text.as_str().as_bytes());
                self.next(now)
            }
            // The shell is waited for: the guest boots, and the prompt of before is of no use.
            Found::Event(_) if self.transcript.stage == Stage::Prompt => {
                self.transcript.restart();
                self.next(now)
            }
            Found::Event(_) => {
                let until = self.closing.map_or(now.after(GRACE), |closing| closing.until.min(now.after(GRACE)));
                self.closing = Some(Closing { until, is_reset: true });
                self.next(now)
            }
            Found::End(outcome) => {
                let console = self.transcript.last_lines();
                procedure::Output::Done(self.failure().unwrap_or(Err(ShellError::Ended { outcome, console })))
            }
            // It waits for nothing else.
            _ => procedure::Output::Done(Err(WaitError::FoundOther.into())),
        }
    }

    fn is_reset(&self) -> bool {
        self.closing.is_some_and(|closing| closing.is_reset)
    }

    /// Returns the next step after the console was read.
    fn next(&mut self, now: Moment) -> Step {
        if self.transcript.end.is_some() {
            self.transcript.refute_panic();
        }
        let is_before = self.transcript.stage == Stage::Prompt;
        if is_before && self.transcript.prompt(&self.shell.prompts).is_some() {
            self.closing = None;
            return self.wait(Some(PROMPT_SETTLES));
        }
        if let Some(failure) = self.transcript.failure() {
            let until = now.after(if failure.is_complete { GRACE } else { REPORT_WITHIN });
            let until = self.closing.map_or(until, |closing| closing.until.min(until));
            self.closing = Some(Closing { until, is_reset: self.is_reset() });
        } else if let Some(end) = self.transcript.end {
            return procedure::Output::Done(self.end(end));
        } else if is_before {
            // Another kernel has begun.
            self.closing = None;
        }
        if let Some(Closing { until, .. }) = self.closing {
            return if until <= now { self.close() } else { self.wait(Some(until.since(now))) };
        }
        let is_at_prompt = self.transcript.stage == Stage::Output && self.transcript.is_at(&self.prompt);
        let login = self.transcript.login().map(|_| LOGIN_SILENCE);
        self.wait(if is_at_prompt { Some(PROMPT_SILENCE) } else { login })
    }

    /// Returns the next step after the console was silent for the time that the last step chose.
    fn silent(&mut self) -> Step {
        let prompt = self.transcript.prompt(&self.shell.prompts).filter(|_| self.transcript.stage == Stage::Prompt);
        if let Some(prompt) = prompt {
            self.prompt = prompt.to_vec();
            return self.write_line();
        }
        if self.closing.is_some() {
            return self.close();
        }
        let console = self.transcript.last_lines();
        match (self.transcript.stage, self.transcript.login()) {
            (Stage::Prompt | Stage::Echo, Some(prompt)) => {
                procedure::Output::Done(Err(ShellError::NoShell { prompt, console }))
            }
            (Stage::Output | Stage::Probe, Some(_)) => procedure::Output::Done(Err(ShellError::Exited { console })),
            (Stage::Output, None) => {
                self.transcript.begin_probe();
                self.write(quote::probe(self.id))
            }
            // Not reached: without a login these stages wait until the deadline.
            (Stage::Prompt | Stage::Echo | Stage::Probe, None) => self.wait(None),
        }
    }

    fn end(&self, end: End) -> Return {
        let End::Code(code) = end else { return Err(ShellError::Exited { console: self.transcript.last_lines() }) };
        let (output, left_out) = self.transcript.output.text();
        let (messages, _) = self.transcript.messages.text();
        Ok(ShellEnd { code, output, messages, left_out: left_out + self.missed })
    }

    /// Ends the procedure with what it was about to fail for.
    fn close(&mut self) -> Step {
        let reset = ShellError::Reset { console: self.transcript.last_lines() };
        procedure::Output::Done(self.failure().unwrap_or(Err(reset)))
    }

    /// Returns the failure that the kernel has reported, if there is one.
    fn failure(&self) -> Option<Return> {
        let failure = self.transcript.failure()?;
        let (reason, console) = (failure.reason.clone(), self.transcript.last_lines());
        Some(Err(match failure.is_panic {
            true => ShellError::Panicked { reason, console },
            false => ShellError::Oops { reason, console },
        }))
    }

    fn failed(&mut self, error: WaitError) -> Step {
        if error != WaitError::TimedOut {
            return procedure::Output::Done(Err(error.into()));
        }
        let progress = match self.transcript.stage {
            Stage::Prompt => ShellProgress::NoPrompt,
            Stage::Echo => ShellProgress::Typed,
            Stage::Output | Stage::Probe => ShellProgress::Begun,
        };
        let console = self.transcript.last_lines();
        let late = match self.is_reset() {
            true => ShellError::Reset { console },
            false => ShellError::TimedOut { progress, console },
        };
        procedure::Output::Done(self.failure().unwrap_or(Err(late)))
    }
}

impl Procedure for ShellLine {
    type Return = Return;

    fn begin_after(&mut self, reset: &Mark) {
        self.reset = reset.clone();
    }

    /// Without the time, markers repeat when the console has printed nothing in between, and reports are waited for longer.
    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        self.step_at(Moment::ORIGIN, input)
    }

    fn step_at(&mut self, now: Moment, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.mark.is_some() => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(mark) => self.begin(now, mark),
            procedure::Input::Found(Ok(hit)) => self.found(now, hit),
            procedure::Input::Found(Err(error)) => self.failed(error),
            procedure::Input::Later => self.silent(),
            procedure::Input::Missed(oldest) => {
                self.mark = Some(oldest);
                self.next(now)
            }
            // The only command is the misuse of a procedure that has run.
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Reply(Ok(_)) => procedure::Output::Done(Err(WaitError::FoundOther.into())),
        }
    }
}
