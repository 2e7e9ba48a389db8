//! Human monitor through QMP: its commands, and the errors that QEMU reports as text.

use alloc::string::String;
use core::fmt;
use core::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::text::UntrustedText;

/// `human-monitor-command`: executes a command of the human monitor (HMP), and returns the text that it prints. Use it
/// where QMP has no command. The text is for people and changes between versions, so do not parse it.
///
/// The command always succeeds: when the human monitor reports an error, that is the text. [`HumanText::check`] and
/// [`HumanText::check_empty`] recognize it.
///
/// ```no_run
/// use qemu_machine_core::UntrustedText;
/// use qemu_machine_core::commands::HumanMonitorCommand;
/// # struct Vm;
/// # impl Vm {
/// #     fn execute<C: qemu_machine_core::Command>(&self, _: C) -> Result<C::Reply, qemu_machine_core::CommandError> {
/// #         unimplemented!()
/// #     }
/// # }
/// # let vm = Vm;
///
/// let registers: UntrustedText = vm.execute(HumanMonitorCommand::new("info registers"))?.check()?;
/// // This command prints nothing when it succeeds, so any text is an error.
/// vm.execute(HumanMonitorCommand::new("savevm before"))?.check_empty()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HumanMonitorCommand {
    /// The line to execute, for example `info registers`.
    pub command_line: String,
    /// The index of the CPU that the command is about. `None` means the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_index: Option<i64>,
}

impl HumanMonitorCommand {
    /// Returns the command that executes this line.
    #[must_use]
    pub fn new(command_line: impl Into<String>) -> Self {
        Self { command_line: command_line.into(), cpu_index: None }
    }

    /// Executes the command for the CPU with this index: `info registers`, `x` and others depend on it.
    #[must_use]
    pub fn cpu(mut self, index: i64) -> Self {
        self.cpu_index = Some(index);
        self
    }
}

impl Command for HumanMonitorCommand {
    type Reply = HumanText;

    fn name(&self) -> &str {
        "human-monitor-command"
    }

    fn arguments(&self) -> Option<impl Serialize> {
        Some(self)
    }
}

/// Text that the human monitor has printed, with CR LF at the end of each line (QEMU, `monitor/monitor.c`,
/// `monitor_puts_locked`). It dereferences to [`UntrustedText`], so `Display` and `Debug` are printable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HumanText(UntrustedText);

/// The beginnings of a first line that reports an error: a command that has failed (QEMU, `monitor/hmp.c`,
/// `hmp_handle_error`), one that does not exist (same file, `monitor_parse_command`).
const ERRORS: [&str; 2] = ["Error: ", "unknown command: '"];

/// The beginnings of a first line about a command that this QEMU or this moment does not have (QEMU, `monitor/hmp.c`,
/// `handle_hmp_command`, `monitor_parse_command`), before `UNAVAILABLE`.
const COMMANDS: [&str; 2] = ["Command \"", "Command '"];

/// Text after the name of a command that is not available.
const UNAVAILABLE: [&str; 3] = ["\" is not available", "' not available", "\" not available"];

/// The beginning of the last line about arguments that are not valid (QEMU, `monitor/hmp.c`, `handle_hmp_command`).
const USAGE: &str = "Try \"help ";

/// The beginnings of lines that may precede the text of a command and are no error (QEMU, `util/error-report.c`,
/// `vreport`).
const REMARKS: [&str; 2] = ["warning: ", "info: "];

impl HumanText {
    /// Returns the text, unless QEMU reports an error with it. It looks at the first line, and at the last one, since the
    /// same words may be anywhere else in a text that is no error. These are errors:
    ///
    /// | text | meaning |
    /// |---|---|
    /// | `Error: …` as the first line | The command has failed. |
    /// | `unknown command: '…'` as the first line | There is no such command. |
    /// | `Command "…" is not available`, `Command '…' not available …` as the first line | This QEMU does not have it, or not yet. |
    /// | `Try "help …" for more information` as the last line | The arguments are not valid. The line before says why. |
    ///
    /// Lines `warning: …` and `info: …` before the first line are skipped. The words are the same in QEMU 7.2, 10.0 and
    /// 11.1.
    ///
    /// Some commands report errors in other words (`drive_add`, `hostfwd_remove`): nothing tells these from a result. For
    /// a command that prints nothing when it succeeds, [`check_empty`](Self::check_empty) finds every error. And a command
    /// that prints the text of a guest from its beginning (`ringbuf_read`) may print the words above.
    ///
    /// # Errors
    ///
    /// [`HumanMonitorError`], with QEMU's words.
    pub fn check(self) -> Result<UntrustedText, HumanMonitorError> {
        if self.reports_error() { Err(HumanMonitorError::of(&self.0)) } else { Ok(self.0) }
    }

    /// Checks that the command has printed nothing, which is the success of most commands that change something:
    /// `savevm`, `device_add`, `drive_del`, `migrate -d`, `set_link` and others. Lines `warning: …` and `info: …` are
    /// no error.
    ///
    /// # Errors
    ///
    /// [`HumanMonitorError`], with what the command has printed.
    pub fn check_empty(self) -> Result<(), HumanMonitorError> {
        let is_over = self.beginning().next().is_none();
        if is_over { Ok(()) } else { Err(HumanMonitorError::of(&self.0)) }
    }

    fn reports_error(&self) -> bool {
        let first = self.beginning().next().unwrap_or_default();
        let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| first.starts_with(beginning));
        let is_unavailable = begins(&COMMANDS) && UNAVAILABLE.iter().any(|rest| first.contains(rest));
        let last = self.0.lines().next_back().unwrap_or_default();
        begins(&ERRORS) || is_unavailable || last.starts_with(USAGE)
    }

    /// Returns the lines behind the remarks.
    fn beginning(&self) -> impl Iterator<Item = &str> {
        let is_remark = |line: &&str| line.is_empty() || REMARKS.iter().any(|remark| line.starts_with(remark));
        self.0.lines().skip_while(is_remark)
    }
}

impl Deref for HumanText {
    type Target = UntrustedText;

    fn deref(&self) -> &UntrustedText {
        &self.0
    }
}

impl fmt::Display for HumanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<String> for HumanText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for HumanText {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<HumanText> for String {
    fn from(text: HumanText) -> Self {
        text.0.into()
    }
}

impl PartialEq<&str> for HumanText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// The human monitor reports an error with the text of a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the human monitor reports an error: {text}")]
#[non_exhaustive]
pub struct HumanMonitorError {
    /// Output of the command, without the line feed at the end.
    pub text: UntrustedText,
}

impl HumanMonitorError {
    fn of(text: &str) -> Self {
        Self { text: text.trim_end().into() }
    }
}
