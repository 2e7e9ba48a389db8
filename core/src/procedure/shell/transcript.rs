//! Transcript of a console on which a shell executes a line: its prompts, echo, output and kernel messages.

use alloc::string::String;
use alloc::vec::Vec;

use super::kernel::{KernelReport, Message, Part, Separator, behind_stamp};
use super::latest::{Latest, SLACK};
use super::quote;
use crate::text::UntrustedText;

/// Next item on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Anything, up to a prompt.
    Prompt,
    /// The echo of the line, up to the first marker.
    Echo,
    /// The output of the line, up to the second marker.
    Output,
    /// The shell has shown a prompt without a marker, and was asked again.
    Probe,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Code(u8),
    /// Another shell answers.
    OtherShell,
}

/// A failure that the kernel has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: UntrustedText,
    pub(super) is_panic: bool,
    /// Whether the report is complete.
    pub(super) is_complete: bool,
}

/// Everything that a console has shown, separated byte by byte: it does not matter where the output is split.
#[derive(Clone, Debug)]
pub(super) struct Transcript {
    separator: Separator,
    pub(super) stage: Stage,
    /// The number in the markers.
    id: u64,
    /// The end of the present line, without kernel messages.
    line: Vec<u8>,
    /// The bytes since the last `<`, which may become a marker.
    marker: Vec<u8>,
    /// Whether the earlier output of the console is that of an earlier line.
    is_in_line: bool,
    /// Where the prompt begins in the output at which the shell was asked again.
    probed_at: u64,
    /// The process id of the shell, as the first marker has it. `None` means that the marker was not read.
    shell: Option<u64>,
    pub(super) end: Option<End>,
    /// The panic that nothing refutes: neither a prompt nor a marker follows it.
    panic: Option<Failure>,
    /// The first oops.
    oops: Option<Failure>,
    pub(super) output: Latest,
    /// The kernel messages since the line was typed.
    pub(super) messages: Latest,
    /// Everything, for errors.
    all: Latest,
}

/// The most bytes of the present line that are kept: more than a prompt has.
const LINE: usize = 512;

/// The most bytes of kernel messages that are kept: some hundred lines.
const MESSAGES: usize = 64 << 10;

/// The last lines in errors: the whole report of a panic or an oops mostly fits.
const LAST_LINES: usize = 60;

/// The most bytes in errors.
const LAST_BYTES: usize = 8 << 10;

/// Texts of a console that waits for a user (agetty(8), and busybox, `init/init.c`, `askfirst`).
const LOGINS: [&[u8]; 3] = [b"login: ", b"Login: ", b"Please press Enter to activate this console. "];

impl Transcript {
    pub(super) fn new(output_limit: usize) -> Self {
        Self {
            separator: Separator::default(),
            stage: Stage::Prompt,
            id: 0,
            line: Vec::new(),
            marker: Vec::new(),
            is_in_line: false,
            probed_at: 0,
            shell: None,
            end: None,
            panic: None,
            oops: None,
            output: Latest::new(output_limit),
            messages: Latest::new(MESSAGES),
            all: Latest::new(LAST_BYTES),
        }
    }

    /// Reads what the console has printed.
    pub(super) fn read(&mut self, printed: &[u8]) {
        // It is taken out, so that its parts can change the rest.
        let mut separator = core::mem::take(&mut self.separator);
        for byte in printed {
            if self.end.is_some() {
                // What follows is of the next line.
                break;
            }
            separator.set_in_line(self.stage != Stage::Prompt || self.is_in_line);
            separator.push(*byte, &mut |part| match part {
                Part::Byte(byte) => self.byte(byte),
                Part::Message(message) => self.message(&message),
            });
        }
        self.separator = separator;
    }

    /// Begins to wait for the output of a line. What the kernel has reported before is of no interest.
    pub(super) fn begin_line(&mut self, id: u64) {
        (self.stage, self.id) = (Stage::Echo, id);
        (self.panic, self.oops) = (None, None);
        self.messages = Latest::new(MESSAGES);
    }

    /// Asks the shell again, after a prompt. When the shell answers, the prompt is not output.
    pub(super) fn begin_probe(&mut self) {
        self.stage = Stage::Probe;
        self.probed_at = self.output.line();
    }

    /// Notes that output was evicted before it was read: the first marker may be among it.
    pub(super) fn skip(&mut self) {
        if self.stage == Stage::Echo {
            self.stage = Stage::Output;
        }
    }

    /// Returns the present line, if it ends with one of these texts.
    pub(super) fn prompt(&self, ends: &[String]) -> Option<&[u8]> {
        ends.iter().any(|end| self.line.ends_with(end.as_bytes())).then_some(&*self.line)
    }

    /// Returns whether the present line is this prompt.
    pub(super) fn is_at(&self, prompt: &[u8]) -> bool {
        !prompt.is_empty() && self.line == prompt
    }

    /// Returns the present line, if the console waits for a user to log in.
    pub(super) fn login(&self) -> Option<UntrustedText> {
        let is_login = LOGINS.iter().any(|login| self.line.ends_with(login));
        is_login.then(|| UntrustedText::from_utf8_lossy(&self.line))
    }

    /// Drops the present line and what the kernel has reported, since another kernel begins.
    pub(super) fn restart(&mut self) {
        self.line.clear();
        self.is_in_line = false;
        (self.panic, self.oops) = (None, None);
    }

    /// Drops the panic, since a shell has printed after it: a program printed its text.
    pub(super) fn refute_panic(&mut self) {
        self.panic = None;
    }

    /// Returns the failure that the kernel has reported. Before the line is typed, that is a panic alone: an oops is of
    /// earlier.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.panic.as_ref().or(self.oops.as_ref().filter(|_| self.stage != Stage::Prompt))
    }

    /// Returns the last lines of the console.
    pub(super) fn last_lines(&self) -> UntrustedText {
        self.all.last_lines(LAST_LINES)
    }

    fn byte(&mut self, byte: u8) {
        self.all.push(byte);
        if matches!(self.stage, Stage::Output | Stage::Probe) {
            self.output.push(byte);
        }
        self.look_for_marker(byte);
        self.extend_line(byte);
    }

    fn extend_line(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                let line = core::mem::take(&mut self.line);
                // A panic is looked for in output as well: a kernel may print no times, and output that has later times makes
                // the messages behind it look like copies. The same holds for the end of the report, and for the next kernel.
                let message = behind_stamp(&line);
                if matches!(
                    KernelReport::read(message),
                    Some(KernelReport::Panic(_) | KernelReport::End | KernelReport::Boot)
                ) {
                    self.report(message);
                }
            }
            // The line is written again.
            b'\r' => self.line.clear(),
            _ => self.line.push(byte),
        }
        if self.line.len() > 2 * LINE {
            self.line.drain(..LINE);
        }
    }

    fn message(&mut self, message: &Message) {
        if self.stage != Stage::Prompt && self.has_marker(message.line()) {
            // A program printed the time, and no line end: the marker is behind its last line.
            message.stamp.iter().chain(message.line()).chain(b"\n").for_each(|byte| self.byte(*byte));
            return;
        }
        let message = message.text();
        self.all.push_line(message);
        if self.stage != Stage::Prompt {
            self.messages.push_line(message);
        }
        self.report(message);
    }

    /// Returns whether a line ends with a marker of this line.
    fn has_marker(&self, line: &[u8]) -> bool {
        let at = memchr::memrchr(b'<', line).unwrap_or(line.len());
        Marker::read(&line[at..]).is_some_and(|marker| marker.id == self.id)
    }

    fn report(&mut self, message: &[u8]) {
        let failure = |reason| {
            let reason = UntrustedText::from_utf8_lossy(reason);
            Failure { reason, is_panic: true, is_complete: false }
        };
        match KernelReport::read(message) {
            // While a line runs it may be a copy, and the event of the reset is what counts.
            Some(KernelReport::Boot) if self.stage == Stage::Prompt => self.restart(),
            Some(KernelReport::Panic(reason)) if self.panic.is_none() => {
                self.panic = Some(failure(reason));
                // A prompt that is before the panic does not refute it.
                self.line.clear();
            }
            Some(KernelReport::Oops(reason)) if self.oops.is_none() => {
                self.oops = Some(Failure { is_panic: false, ..failure(reason) });
            }
            Some(KernelReport::End) => {
                self.panic.iter_mut().chain(&mut self.oops).for_each(|failure| failure.is_complete = true);
            }
            Some(KernelReport::Boot | KernelReport::Panic(_) | KernelReport::Oops(_)) | None => {}
        }
    }

    /// A marker is at the end of its line. So a trace of the shell (`set -x`) in quotes is none.
    fn look_for_marker(&mut self, byte: u8) {
        let is_whole = self.marker.last() == Some(&b'>');
        match byte {
            b'<' => self.marker = Vec::from([byte]),
            b'\n' if is_whole => {
                let marker = core::mem::take(&mut self.marker);
                self.read_marker(&marker);
            }
            _ if is_whole || self.marker.len() >= SLACK - 1 => self.marker.clear(),
            _ if self.marker.is_empty() => {}
            _ => self.marker.push(byte),
        }
    }

    fn read_marker(&mut self, text: &[u8]) {
        let Some(marker) = Marker::read(text) else { return };
        if self.stage == Stage::Prompt {
            self.is_in_line = marker.word == "begin";
            self.refute_panic();
        }
        // dash writes a trace without quotes.
        let before = self.line.strip_suffix(text).unwrap_or_default();
        let is_trace = before.starts_with(b"+") && before.ends_with(b"echo ");
        if marker.id != self.id || is_trace {
            return;
        }
        let code = u8::try_from(marker.first).ok();
        match (self.stage, marker.word, code) {
            (Stage::Echo, "begin", _) => (self.stage, self.shell) = (Stage::Output, Some(marker.first)),
            (Stage::Output, "begin", _) if self.shell.is_none() => {
                self.shell = Some(marker.first);
                self.output.remove_all();
            }
            (Stage::Echo | Stage::Output | Stage::Probe, "end", Some(code)) => {
                self.output.remove_last(text.len() + 1);
                if self.stage == Stage::Probe {
                    self.output.remove(self.probed_at, &quote::probe(self.id));
                }
                self.end = Some(End::Code(code));
            }
            (Stage::Probe, "probe", Some(code)) => {
                self.output.truncate(self.probed_at);
                let is_same = self.shell.is_none() || marker.second == self.shell;
                self.end = Some(if is_same { End::Code(code) } else { End::OtherShell });
            }
            _ => {}
        }
    }
}

/// A marker: `<qm 5 begin 12>`, where 12 is the process id of the shell, `<qm 5 end 0>`, or `<qm 5 probe 2 12>`.
struct Marker<'a> {
    id: u64,
    word: &'a str,
    first: u64,
    second: Option<u64>,
}

impl<'a> Marker<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let inside = core::str::from_utf8(text.strip_prefix(b"<qm ")?.strip_suffix(b">")?).ok()?;
        let mut words = inside.split(' ');
        let (id, word) = (number(words.next()?)?, words.next()?);
        Some(Self { id, word, first: number(words.next()?)?, second: words.next().and_then(number) })
    }
}

fn number(word: &str) -> Option<u64> {
    word.parse().ok()
}
