//! Filter of the console for quiet runs: it hides the kernel's messages, and shows errors and what the command prints.
//!
//! The kernel prints all its messages, since the results of KUnit are messages of the level `info`, which the parser of
//! results must read. Each begins with its facility and level, and a stamp: `<6>[    1.234567] `, because of
//! [`PARAMETERS`]. A command that prints the same is mistaken for the kernel (`dmesg -r`).
//!
//! On a busy host, bytes of the boot are lost: the kernel waits 10 ms for the serial port, and writes then (the kernel's
//! `drivers/tty/serial/8250/8250_port.c`, `wait_for_lsr`; measured with QEMU 7.2.22 and 13 processes on two processors).
//! Until init starts, a line that only resembles a message is therefore one.

/// The parameters for such messages (the kernel's `kernel/printk/printk.c`, `console_msg_format_setup`, since Linux 4.16,
/// and `Documentation/admin-guide/kernel-parameters.txt`, `printk.time`).
pub(crate) const PARAMETERS: &str = "console_msg_format=syslog printk.time=1";

/// The least severe level that is shown: `KERN_ERR`, as with the kernel's own `quiet` (`CONFIG_CONSOLE_LOGLEVEL_QUIET`).
const ERROR: u8 = 3;

/// The least severe level after which everything is shown, `KERN_CRIT`: that of `kernel BUG at`. The kernel does the same
/// (`console_verbose`): the registers and the trace of an oops have no level of an error.
const CRITICAL: u8 = 2;

/// The end of the kernel's message before its init (the kernel's `init/main.c`, `run_init_process`).
const INIT: &[u8] = b" as init process";

/// The bytes of the prefix of a message, and how many of them begin a line that resembles one: half of the prefix.
const OF_PREFIX: &[u8] = b"<>[] .0123456789";
const RESEMBLANCE: usize = 9;

/// The longest message that is held back, in bytes: a line of printk has less than 2 KiB (`PRINTKRB_RECORD_MAX`).
const LONGEST: usize = 16 << 10;

/// A filter, with what it has not decided on yet.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// What may be the begin of a message, or a message whose end is missing.
    held: Vec<u8>,
    /// The level of the message in `held`. `None` means that its prefix is not complete.
    level: Option<u8>,
    /// Whether the kernel crashes, so that all its messages are shown.
    is_crashing: bool,
    /// Whether init has started, so that what it prints is shown without waiting for the end of a line.
    has_init: bool,
}

/// The begin of a text.
#[derive(Debug, PartialEq, Eq)]
enum Prefix {
    /// The prefix of a message of this level.
    Whole(u8),
    /// The begin of a prefix.
    Part,
    Other,
}

impl Quiet {
    /// Reads more of the console, and returns what is shown of it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        for byte in bytes {
            if self.has_init && self.held.is_empty() && *byte != b'<' {
                shown.push(*byte);
                continue;
            }
            self.held.push(*byte);
            let is_whole = *byte == b'\n' || self.held.len() == LONGEST;
            match self.level {
                Some(level) if is_whole => self.decide(level, &mut shown),
                None if self.has_init => self.begin(&mut shown),
                None if is_whole => self.line(&mut shown),
                _ => {}
            }
        }
        shown
    }

    /// Notes that init runs, whatever the console shows: with other parameters the kernel does not print its message, and
    /// on a busy host a part of it is lost.
    pub(crate) fn init_runs(&mut self) {
        self.has_init = true;
    }

    /// Returns the rest, which is no message.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Reads what is held up to a new byte, without a prefix before it.
    fn begin(&mut self, shown: &mut Vec<u8>) {
        match prefix(&self.held) {
            Prefix::Whole(level) => self.level = Some(level),
            Prefix::Part => {}
            Prefix::Other => {
                // A `<` can be only the begin of a prefix.
                let kept = usize::from(self.held.ends_with(b"<"));
                shown.extend(self.held.drain(..self.held.len() - kept));
            }
        }
    }

    /// Reads a line before init.
    fn line(&mut self, shown: &mut Vec<u8>) {
        match prefix(&self.held) {
            Prefix::Whole(level) => return self.decide(level, shown),
            Prefix::Part | Prefix::Other => {}
        }
        let line = std::mem::take(&mut self.held);
        let resemblance = line.iter().take_while(|byte| OF_PREFIX.contains(byte)).count();
        if resemblance < RESEMBLANCE || self.is_crashing {
            shown.extend(&line);
        }
    }

    /// Shows or drops the message that is held.
    fn decide(&mut self, level: u8, shown: &mut Vec<u8>) {
        let message = std::mem::take(&mut self.held);
        self.level = None;
        self.has_init |= message.windows(INIT.len()).any(|part| part == INIT);
        self.is_crashing |= level <= CRITICAL || is_oops(&message);
        if self.is_crashing || level <= ERROR {
            let end = message.iter().position(|byte| *byte == b'>').map_or(0, |at| at + 1);
            shown.extend(&message[end..]);
        }
    }
}

/// Returns a line of the console without facility and level.
pub(crate) fn without_level(line: &str) -> &str {
    let level = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    level.filter(|(level, _)| is_number(level)).map_or(line, |(_, rest)| rest)
}

/// Reads `<6>[    1.234567]` (the kernel's `kernel/printk/printk.c`, `print_syslog` and `print_time`).
fn prefix(text: &[u8]) -> Prefix {
    let number = |text: &mut &[u8]| {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = text.split_at(digits);
        *text = rest;
        number.to_vec()
    };
    let Some(mut rest) = text.strip_prefix(b"<") else { return Prefix::Other };
    let level = number(&mut rest);
    let Ok(level_number) = String::from_utf8_lossy(&level).parse::<u8>() else {
        return if level.is_empty() && rest.is_empty() { Prefix::Part } else { Prefix::Other };
    };
    // What follows the level: each byte or field, or the end of what has come.
    for expected in [b">", b"["] {
        match rest.strip_prefix(expected) {
            Some(after) => rest = after,
            None => return if rest.is_empty() { Prefix::Part } else { Prefix::Other },
        }
    }
    rest = rest.trim_ascii_start();
    let seconds = number(&mut rest);
    if rest.is_empty() && text.len() < 32 {
        return Prefix::Part;
    }
    let Some(mut rest) = rest.strip_prefix(b".").filter(|_| !seconds.is_empty()) else { return Prefix::Other };
    match (number(&mut rest).len(), rest) {
        (6, [b']', ..]) => Prefix::Whole(level_number & 7),
        (0..=6, []) => Prefix::Part,
        _ => Prefix::Other,
    }
}

/// Reports whether a message is the head of an oops, which has no level of an error: it ends in its number, as `[#1] SMP`
/// (the kernel's `arch/x86/kernel/dumpstack.c`, `__die_header`).
fn is_oops(message: &[u8]) -> bool {
    message.windows(3).any(|part| part.starts_with(b"[#") && part[2].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Prefix, Quiet, prefix, without_level};

    /// A filter, and the message after which init runs.
    fn after_boot() -> Quiet {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.push(b"<6>[    1.000000] Run /init as init process\r\n"), b"");
        quiet
    }

    /// Asserts what is shown of a console after the boot, in one piece and byte by byte.
    fn shows(console: &str, expected: &str) {
        for size in [console.len(), 1, 7] {
            let mut quiet = after_boot();
            let mut shown: Vec<u8> = console.as_bytes().chunks(size).flat_map(|part| quiet.push(part)).collect();
            shown.extend(quiet.finish());
            assert_eq!(String::from_utf8_lossy(&shown), expected, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn messages_of_the_kernel_are_hidden_and_text_is_not() {
        shows("a\n<6>[    1.234567] info\r\nb <5>[ 1234.000001][    T1] within\r\nc\n", "a\nb c\n");
        shows("<3>[    1.234567] an error\r\n<14>[    1.234567] by user space\r\n", "[    1.234567] an error\r\n");
        let text = "<b> <6> <6>[x] <6>[ 1.5] <300>[    1.234567] <<<>>\n<";
        shows(text, text);
        shows("<<6>[    1.234567] info\r\n<6>[    1.2", "<<6>[    1.2");
    }

    /// The lines of a boot whose bytes were lost are hidden, and those of a firmware or an init without that message are not.
    #[test]
    fn a_message_before_init_is_recognized_without_some_of_its_bytes() {
        for message in ["<[    0.000000] ACPI\r\n", "6>[    0.00000] ACPI\r\n", "[    0.000000] old kernel\r\n"] {
            assert_eq!(Quiet::default().push(message.as_bytes()), b"", "{message}");
            shows(message, message);
        }
        let text = "SeaBIOS\r\n1..2\nok 1 - a\n<3>[    1.000000] an error\n";
        assert_eq!(Quiet::default().push(text.as_bytes()), text.replace("<3>", "").as_bytes());
    }

    #[test]
    fn text_after_the_begin_of_init_is_shown_without_its_message() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.push(b"1234567890\n"), b"");
        quiet.init_runs();
        assert_eq!(quiet.push(b"1234567890\n"), b"1234567890\n");
    }

    #[test]
    fn a_crash_is_shown_to_its_end() {
        let trace = "<4>[    2.000000] RIP: 0010:crash\r\n";
        for head in ["<1>[    1.000000] BUG: NULL", "<4>[    1.000000] general protection fault: 0000 [#1] SMP"] {
            let console = format!("{trace}{head}\r\n{trace}");
            shows(&console, &format!("{}\r\n[    2.000000] RIP: 0010:crash\r\n", &head[3..]));
        }
    }

    /// The text is shown as it comes, also without a line feed.
    #[test]
    fn only_a_possible_message_is_held_back() {
        let mut quiet = after_boot();
        assert_eq!(quiet.push(b"prompt> "), b"prompt> ");
        assert_eq!(quiet.push(b"1 < 2"), b"1 < 2");
        assert_eq!(quiet.push(b"<6"), b"");
        let endless = [b"<6>[    1.000000] ".as_slice(), &[b'a'; 2 * LONGEST]].concat();
        for mut quiet in [after_boot(), Quiet::default()] {
            quiet.push(&endless);
            assert!(quiet.held.len() < LONGEST);
        }
        assert_eq!(prefix(b"<6>[                                    "), Prefix::Other);
    }

    #[test]
    fn the_level_of_a_line_is_removed() {
        assert_eq!(without_level("<0>[    1.5] text"), "[    1.5] text");
        assert_eq!(without_level("<a>[    1.5] text"), "<a>[    1.5] text");
    }
}
