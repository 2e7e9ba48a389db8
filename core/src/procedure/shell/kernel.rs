//! Separator of kernel messages from other console output, and the reports among them: a panic, an oops.

use alloc::vec::Vec;

use crate::plain::Plain;

/// A part of the output of a console.
pub(super) enum Part {
    /// A byte that a program printed. Of several carriage returns one is left, and none before a line feed.
    Byte(u8),
    /// A message of the kernel.
    Message(Message),
}

/// A line that begins with the time of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The time stamp, with its brackets.
    pub(super) stamp: Vec<u8>,
    /// What follows, without the line end.
    line: Vec<u8>,
}

impl Message {
    /// Returns the message, without its time stamp and the id of its caller.
    pub(super) fn text(&self) -> &[u8] {
        behind_caller(self.line()).trim_ascii_end()
    }

    /// Returns what follows the time stamp.
    pub(super) fn line(&self) -> &[u8] {
        let returns = self.line.iter().rev().take_while(|byte| **byte == b'\r').count();
        &self.line[..self.line.len() - returns]
    }
}

/// Separator of the messages that a Linux kernel prints at any time, also in the middle of a line of a program.
///
/// A message begins with its time, `[   12.345678] ` (Linux, `kernel/printk/printk.c`, `print_time`), and ends with its line.
/// A program such as `dmesg` prints the same: what has the time of an earlier message is output of a program. On a console
/// on which the kernel has printed nothing (`quiet`), that is what begins in the first second. Escape sequences are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Separator {
    plain: Plain,
    /// Bytes that may become a time stamp.
    held: Vec<u8>,
    /// The message whose end has not arrived.
    message: Option<Message>,
    /// The time of the latest message, in microseconds. `None` means that the kernel has printed none with a time.
    latest: Option<u64>,
    /// Whether nothing but line ends is between the latest message and the present position.
    is_contiguous: bool,
    /// Whether a carriage return is held back.
    has_return: bool,
    /// Whether a program of the shell prints.
    is_in_line: bool,
    /// Whether the present line is a copy of a message.
    is_copy: bool,
    /// Whether the line before was one.
    was_copy: bool,
}

/// The end of the first second, in microseconds. No shell runs a line sooner.
const FIRST_SECOND: u64 = 1_000_000;

/// How much later the time of a message may be than that of the message behind it, in microseconds. Processors take the
/// time of a message before they take its place (Linux, `kernel/printk/printk.c`, `vprintk_store`).
const DISORDER: u64 = 10_000;

/// The most bytes of a message, behind its time stamp. The kernel prints at most 1 KiB (Linux, `kernel/printk/internal.h`,
/// `PRINTKRB_RECORD_MAX`) and the id of the caller. A longer line is output of a program.
const LONGEST: usize = (1 << 10) + 64;

impl Separator {
    /// Sets whether a program of the shell prints, which may print copies of messages. Otherwise all are of the kernel, and
    /// one with an earlier time is of another kernel.
    pub(super) fn set_in_line(&mut self, is_in_line: bool) {
        self.is_in_line = is_in_line;
    }

    /// Adds a byte of the console, and passes on what it completes.
    pub(super) fn push(&mut self, byte: u8, to: &mut impl FnMut(Part)) {
        let Some(byte) = self.plain.push(byte) else { return };
        match (&mut self.message, byte) {
            (Some(_), b'\n') => {
                let Some(message) = self.message.take() else { return };
                self.is_contiguous = true;
                to(Part::Message(message));
            }
            (Some(message), _) if message.line.len() < LONGEST => message.line.push(byte),
            (Some(message), _) => {
                let line = [core::mem::take(&mut message.stamp), core::mem::take(&mut message.line)].concat();
                self.message = None;
                line.into_iter().chain([byte]).for_each(|byte| self.pass(byte, to));
            }
            (None, b'[') => {
                self.let_held_pass(to);
                self.held.push(byte);
            }
            (None, _) if self.held.is_empty() => self.pass(byte, to),
            (None, _) => {
                self.held.push(byte);
                self.look_at_held(to);
            }
        }
    }

    fn look_at_held(&mut self, to: &mut impl FnMut(Part)) {
        match Stamp::read(&self.held) {
            Stamp::Incomplete => {}
            Stamp::Time(time) if self.is_of_kernel(time) => {
                self.latest = if self.is_in_line { self.latest.max(Some(time)) } else { Some(time) };
                self.message = Some(Message { stamp: core::mem::take(&mut self.held), line: Vec::new() });
            }
            Stamp::Time(_) => {
                self.is_copy = true;
                self.let_held_pass(to);
            }
            Stamp::Other => self.let_held_pass(to),
        }
    }

    /// Returns whether a line with this time is a message, and not a copy of an earlier one.
    fn is_of_kernel(&self, time: u64) -> bool {
        match self.latest {
            _ if !self.is_in_line => true,
            None => time >= FIRST_SECOND && !self.was_copy,
            Some(latest) if self.is_contiguous => time.saturating_add(DISORDER) >= latest,
            Some(latest) => time > latest,
        }
    }

    fn let_held_pass(&mut self, to: &mut impl FnMut(Part)) {
        for byte in core::mem::take(&mut self.held) {
            self.pass(byte, to);
        }
    }

    fn pass(&mut self, byte: u8, to: &mut impl FnMut(Part)) {
        match byte {
            b'\r' => self.has_return = true,
            // Neither is text, and terminals print nothing for them.
            b'\0' | b'\x07' => {}
            _ => {
                self.is_contiguous &= byte == b'\n';
                if byte == b'\n' {
                    self.was_copy = core::mem::take(&mut self.is_copy);
                }
                if core::mem::take(&mut self.has_return) && byte != b'\n' {
                    to(Part::Byte(b'\r'));
                }
                to(Part::Byte(byte));
            }
        }
    }
}

/// Kinds of a text that begins with a bracket.
#[derive(Debug, PartialEq, Eq)]
enum Stamp {
    /// The beginning of a time stamp.
    Incomplete,
    /// A time stamp, in microseconds.
    Time(u64),
    Other,
}

impl Stamp {
    /// Reads `[   12.345678]`: seconds with at least five characters, and six digits (Linux, `kernel/printk/printk.c`,
    /// `print_time`).
    fn read(text: &[u8]) -> Self {
        /// A u64 holds so many seconds in microseconds.
        const DIGITS: usize = 13;
        let inside = text.strip_prefix(b"[").unwrap_or_default();
        let blanks = inside.iter().take_while(|byte| **byte == b' ').count();
        let rest = &inside[blanks..];
        let seconds = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if blanks > 4 || seconds > DIGITS || blanks > 0 && blanks + seconds > 5 {
            return Self::Other;
        }
        let (seconds, rest) = rest.split_at(seconds);
        let Some((point, rest)) = rest.split_first() else { return Self::Incomplete };
        let micros = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if *point != b'.' || seconds.is_empty() || blanks + seconds.len() < 5 {
            return Self::Other;
        }
        match (micros, rest.get(micros)) {
            (0..=6, None) => Self::Incomplete,
            (6, Some(b']')) => {
                let digits = seconds.iter().chain(&rest[..micros]);
                Self::Time(digits.fold(0, |time: u64, digit| time * 10 + u64::from(digit - b'0')))
            }
            _ => Self::Other,
        }
    }
}

/// Returns the message in a line that a time stamp may precede.
pub(super) fn behind_stamp(line: &[u8]) -> &[u8] {
    let end = memchr::memchr(b']', line).map_or(0, |at| at + 1);
    let (stamp, message) = line.split_at(end);
    if matches!(Stamp::read(stamp), Stamp::Time(_)) { behind_caller(message) } else { line }
}

/// Returns a message without the id of its caller, `[    T1] ` (Linux, `kernel/printk/printk.c`, `print_caller`), and the
/// blank before it.
fn behind_caller(message: &[u8]) -> &[u8] {
    let caller = message.strip_prefix(b"[").and_then(|rest| {
        let end = memchr::memchr(b']', rest)?;
        let name = rest.get(..end)?.trim_ascii_start();
        let number = name.strip_prefix(b"T").or_else(|| name.strip_prefix(b"C"))?;
        number.iter().all(u8::is_ascii_digit).then(|| &rest[end + 1..])
    });
    let message = caller.unwrap_or(message);
    message.strip_prefix(b" ").unwrap_or(message)
}

/// A message that means that the kernel has failed, or that another one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelReport<'a> {
    /// A panic, with its reason.
    Panic(&'a [u8]),
    /// An oops or a bug, in its own words.
    Oops(&'a [u8]),
    /// The last line of such a report.
    End,
    /// The first message of a kernel.
    Boot,
}

/// How messages begin that report an oops or a bug: of x86 (Linux, `arch/x86/mm/fault.c`, `show_fault_oops`,
/// `arch/x86/kernel/dumpstack.c`, `__die_header`, `arch/x86/kernel/traps.c`), of arm64 and arm (`Internal error`, `Unable to
/// handle kernel`), of all (`lib/bug.c`, `mm/kasan/report.c`, `kernel/watchdog.c`). The other exceptions of x86 have a number
/// ([`has_number`]).
const OOPSES: [&[u8]; 10] = [
    b"BUG: ",
    b"watchdog: BUG: ",
    b"stack segment: ",
    b"double fault: ",
    b"Oops: ",
    b"Oops [#",
    b"general protection fault",
    b"kernel BUG at ",
    b"Internal error: ",
    b"Unable to handle kernel ",
];

impl<'a> KernelReport<'a> {
    /// Reads a message. `None` means that it is another one.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        // Linux, `kernel/panic.c`, `panic` and `print_oops_end_marker`.
        if let Some(reason) = message.strip_prefix(b"Kernel panic - not syncing:") {
            return Some(Self::Panic(reason.trim_ascii_start()));
        }
        if message.starts_with(b"---[ end ") {
            return Some(Self::End);
        }
        if message.starts_with(b"Linux version ") {
            return Some(Self::Boot);
        }
        let is_oops = OOPSES.iter().any(|oops| message.starts_with(oops)) || has_number(message);
        is_oops.then_some(Self::Oops(message))
    }
}

/// Returns whether a line of a console reports a panic. `None` means that it reports neither a panic nor an oops.
#[cfg(feature = "record")]
pub(crate) fn is_panic(line: &[u8]) -> Option<bool> {
    let stamp = line.starts_with(b"[").then(|| memchr::memmem::find(line, b"] ")).flatten();
    let message = stamp.and_then(|end| line.get(end + 1..)).unwrap_or(line);
    match KernelReport::read(behind_caller(message))? {
        KernelReport::Panic(_) => Some(true),
        KernelReport::Oops(_) => Some(false),
        KernelReport::End | KernelReport::Boot => None,
    }
}

/// Returns whether a message has the code of an exception and the number of an oops: `divide error: 0000 [#1] PREEMPT SMP`
/// (Linux, `arch/x86/kernel/dumpstack.c`, `__die_header`).
fn has_number(message: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(message, b" [#") else { return false };
    let digits = message[at + 3..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let code = message[..at].rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let is_code = code.len() >= 4 && code.iter().all(u8::is_ascii_hexdigit);
    let is_named = message[..at - code.len()].ends_with(b": ");
    is_named && is_code && digits > 0 && message.get(at + 3 + digits) == Some(&b']')
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;

    #[cfg(feature = "record")]
    #[test]
    fn a_line_of_a_console_reports_a_panic_or_an_oops() {
        for (line, expected) in [
            ("[    0.512345] Kernel panic - not syncing: VFS: x", Some(true)),
            ("[    0.512345][    T1] Kernel panic - not syncing: VFS: x", Some(true)),
            ("Kernel panic - not syncing: x", Some(true)),
            ("[   12.345678] BUG: kernel NULL pointer dereference, address: 0", Some(false)),
            ("[   12.345678] ---[ end Kernel panic - not syncing: x ]---", None),
            ("[   12.345678] Linux version 6.1.0", None),
            ("a Kernel panic - not syncing: x", None),
            ("[", None),
            ("", None),
        ] {
            assert_eq!(is_panic(line.as_bytes()), expected, "{line}");
        }
    }

    fn separated(printed: &str) -> (String, Vec<String>) {
        let (mut output, mut messages) = (Vec::new(), Vec::new());
        let mut separator = Separator::default();
        separator.set_in_line(true);
        separator.latest = Some(0);
        for byte in printed.bytes() {
            separator.push(byte, &mut |part| match part {
                Part::Byte(byte) => output.push(byte),
                Part::Message(message) => messages.push(String::from_utf8(message.text().to_vec()).unwrap()),
            });
        }
        (String::from_utf8(output).unwrap(), messages)
    }

    #[test]
    fn messages_are_separated_wherever_they_are() {
        let (output, messages) = separated(concat!(
            "[    0.000001] Linux version 6.1\r\n",
            "/ # he[    2.000001][    T1] random: crng\x1b[0m init done\r\n",
            "llo\r[    2.000002] two\r\r\n[    2.000001] late\r\n\r\n[x] [1.2] [    3.5] [[12345.123456] five\n",
            "[123456.000000] six\r\n]",
        ));
        assert_eq!(output, "/ # hello\n[x] [1.2] [    3.5] []");
        assert_eq!(messages, ["Linux version 6.1", "random: crng init done", "two", "late", "five", "six"]);
    }

    #[test]
    fn a_copy_of_an_earlier_message_is_output() {
        let copies = "[    1.000000] one\n[    2.000000] two\n";
        let (output, messages) =
            separated(&["[    1.000000] one\n[    2.000000] two\n/ # ", copies, "[    2.000003] three\n"].concat());
        assert_eq!(output, ["/ # ", copies].concat());
        assert_eq!(messages, ["one", "two", "three"]);
    }

    #[test]
    fn outside_of_a_line_all_messages_are_of_the_kernel() {
        let mut separator = Separator::default();
        let mut messages = 0;
        for byte in b"[    5.000000] a\nx\n[    0.000000] b\nx\n[    3.000000] c\n" {
            separator.push(*byte, &mut |part| messages += usize::from(matches!(part, Part::Message(_))));
        }
        assert_eq!((messages, separator.latest), (3, Some(3_000_000)));
    }

    #[test]
    fn copies_are_known_on_a_quiet_console() {
        let mut separator = Separator::default();
        separator.set_in_line(true);
        let (mut output, mut messages) = (String::new(), 0);
        let copies = "[    0.000000] zero\n[    5.000000] five\n";
        for byte in [copies, "\n", "[    6.000000] six\n"].concat().bytes() {
            separator.push(byte, &mut |part| match part {
                Part::Byte(byte) => output.push(char::from(byte)),
                Part::Message(_) => messages += 1,
            });
        }
        assert_eq!((output, messages), ([copies, "\n"].concat(), 1));
    }

    #[test]
    fn a_line_is_read_without_its_stamp() {
        for (line, message) in
            [("[    1.000000] a] b", "a] b"), ("[    1.000000][    T1] a", "a"), ("[1] a", "[1] a"), ("a", "a")]
        {
            assert_eq!(behind_stamp(line.as_bytes()), message.as_bytes());
        }
    }

    #[test]
    fn a_line_that_is_longer_than_a_message_is_output() {
        let long = ["[    1.000000] ", &"x".repeat(5_000), "\na"].concat();
        assert_eq!(separated(&long), (long, Vec::new()));
        let (output, messages) = separated(&["[    1.000000] ", &"x".repeat(1_024), "\r\na"].concat());
        assert_eq!((&*output, messages[0].len()), ("a", 1_024));
    }

    #[test]
    fn time_stamps_are_read() {
        for (text, stamp) in [
            ("[", Stamp::Incomplete),
            ("[    1", Stamp::Incomplete),
            ("[    1.123456", Stamp::Incomplete),
            ("[    1.123456]", Stamp::Time(1_123_456)),
            ("[12345.000001]", Stamp::Time(12_345_000_001)),
            ("[     1", Stamp::Other),
            ("[   100.000000]", Stamp::Other),
            ("[1.000000]", Stamp::Other),
            ("[    1.1234567", Stamp::Other),
            ("[    1.12345]", Stamp::Other),
            ("[    ]", Stamp::Other),
            ("[12345678901234", Stamp::Other),
        ] {
            assert_eq!(Stamp::read(text.as_bytes()), stamp, "{text}");
        }
    }

    #[test]
    fn reports_are_read() {
        for (message, report) in [
            ("Kernel panic - not syncing: sysrq triggered crash", Some(KernelReport::Panic(b"sysrq triggered crash"))),
            ("---[ end Kernel panic - not syncing: x ]---", Some(KernelReport::End)),
            ("---[ end trace 0000000000000000 ]---", Some(KernelReport::End)),
            ("Linux version 6.1.0", Some(KernelReport::Boot)),
            ("BUG: kernel NULL pointer", Some(KernelReport::Oops(b"BUG: kernel NULL pointer"))),
            ("sysrq: Trigger a crash", None),
            ("x: BUG: y", None),
            ("watchdog: BUG: soft lockup", Some(KernelReport::Oops(b"watchdog: BUG: soft lockup"))),
            ("divide error: 0000 [#1] SMP", Some(KernelReport::Oops(b"divide error: 0000 [#1] SMP"))),
            ("invalid opcode: 0000 [#12]", Some(KernelReport::Oops(b"invalid opcode: 0000 [#12]"))),
            ("random: 0000 [#x]", None),
            ("loop 0000 [#1]", None),
            ("a [#1]", None),
        ] {
            assert_eq!(KernelReport::read(message.as_bytes()), report, "{message}");
        }
    }
}
