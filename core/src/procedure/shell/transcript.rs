//! Transcript of a console on which a shell executes a line: its prompts, echo, output and kernel messages.

use alloc::string::String;
use alloc::vec::Vec;

use super::kernel::{Part, Report, Separator, behind_stamp};
use super::latest::{Latest, SLACK};
use crate::text::UntrustedText;

/// What the console shows next.
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
    /// Whether the kernel prints times.
    has_times: bool,
    /// Whether the earlier output of the console is that of an earlier line.
    is_in_line: bool,
    /// Whether the line feed behind the first marker is to be dropped.
    skips_line_feed: bool,
    /// The process id of the shell, as the first marker has it.
    shell: Option<u64>,
    pub(super) end: Option<End>,
    failure: Option<Failure>,
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

/// What a console shows when it waits for a user (agetty(8), and busybox, `init/init.c`, `askfirst`).
const LOGINS: [&[u8]; 3] = [b"login: ", b"Login: ", b"Please press Enter to activate this console. "];

impl Transcript {
    pub(super) fn new(output_limit: usize) -> Self {
        Self {
            separator: Separator::default(),
            stage: Stage::Prompt,
            id: 0,
            line: Vec::new(),
            marker: Vec::new(),
            has_times: false,
            is_in_line: false,
            skips_line_feed: false,
            shell: None,
            end: None,
            failure: None,
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
        (self.stage, self.id, self.failure) = (Stage::Echo, id, None);
        self.messages = Latest::new(MESSAGES);
    }

    /// Asks the shell again, after a prompt: the prompt is not output.
    pub(super) fn begin_probe(&mut self) {
        self.stage = Stage::Probe;
        self.output.remove_line();
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

    /// Drops the present line, since the guest was reset.
    pub(super) fn restart(&mut self) {
        self.line.clear();
    }

    /// Returns the failure that the kernel has reported. Before the line is typed, that is a panic alone: an oops is of
    /// earlier.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|failure| failure.is_panic || self.stage != Stage::Prompt)
    }

    /// Returns the last lines of the console.
    pub(super) fn last_lines(&self) -> UntrustedText {
        self.all.last_lines(LAST_LINES)
    }

    fn byte(&mut self, byte: u8) {
        self.all.push(byte);
        self.extend_line(byte);
        if core::mem::take(&mut self.skips_line_feed) && byte == b'\n' {
            return;
        }
        if self.stage == Stage::Output {
            self.output.push(byte);
        }
        self.look_for_marker(byte);
    }

    fn extend_line(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                let line = core::mem::take(&mut self.line);
                // Without times, and behind a copy of the messages, only a panic differs from other output.
                let message = behind_stamp(&line);
                if !self.has_times && matches!(Report::read(message), Some(Report::Panic(_) | Report::End)) {
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

    fn message(&mut self, message: &[u8]) {
        self.has_times = true;
        self.all.push_line(message);
        if self.stage != Stage::Prompt {
            self.messages.push_line(message);
        }
        self.report(message);
    }

    fn report(&mut self, message: &[u8]) {
        match Report::read(message) {
            Some(Report::Boot) => self.failure = None,
            Some(Report::Panic(reason)) => self.fail(reason, true),
            Some(Report::Oops(reason)) => self.fail(reason, false),
            Some(Report::End) => self.failure.iter_mut().for_each(|failure| failure.is_complete = true),
            None => {}
        }
    }

    /// Notes a failure. The first oops counts, until it becomes a panic.
    fn fail(&mut self, reason: &[u8], is_panic: bool) {
        if self.failure.as_ref().is_none_or(|failure| is_panic && !failure.is_panic) {
            let reason = UntrustedText::from_utf8_lossy(reason);
            self.failure = Some(Failure { reason, is_panic, is_complete: false });
        }
    }

    fn look_for_marker(&mut self, byte: u8) {
        if byte == b'<' {
            self.marker.clear();
        } else if self.marker.is_empty() {
            return;
        }
        self.marker.push(byte);
        if byte == b'>' {
            let marker = core::mem::take(&mut self.marker);
            self.read_marker(&marker);
        } else if self.marker.len() >= SLACK {
            self.marker.clear();
        }
    }

    /// Reads `<qm 5 begin 12>`, where 12 is the process id of the shell, `<qm 5 end 0>`, or `<qm 5 probe 2 12>`.
    fn read_marker(&mut self, marker: &[u8]) {
        let inside = marker.strip_prefix(b"<").and_then(|inside| inside.strip_suffix(b">")).unwrap_or_default();
        let Ok(inside) = core::str::from_utf8(inside) else { return };
        let mut words = inside.split(' ');
        let (name, id, word) = (words.next(), words.next().and_then(number), words.next());
        if name == Some("qm") && self.stage == Stage::Prompt {
            self.is_in_line = word == Some("begin");
        }
        if name != Some("qm") || id != Some(self.id) {
            return;
        }
        let (first, second) = (words.next().and_then(number), words.next().and_then(number));
        let code = first.and_then(|code| u8::try_from(code).ok());
        match (self.stage, word, code) {
            (Stage::Echo, Some("begin"), _) if first.is_some() => {
                (self.stage, self.shell, self.skips_line_feed) = (Stage::Output, first, true);
            }
            (Stage::Output, Some("end"), Some(code)) => {
                self.output.remove_last(marker.len());
                self.end = Some(End::Code(code));
            }
            (Stage::Probe, Some("end"), Some(code)) => self.end = Some(End::Code(code)),
            (Stage::Probe, Some("probe"), Some(code)) => {
                self.end = Some(if second == self.shell { End::Code(code) } else { End::OtherShell });
            }
            _ => {}
        }
    }
}

fn number(word: &str) -> Option<u64> {
    word.parse().ok()
}
