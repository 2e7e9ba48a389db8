//! Script mode: runs the command of the command line, or the lines of standard input.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::exit;
use std::sync::{Arc, OnceLock};
use std::thread::spawn;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::client::Client;
use crate::failure::Failure;
use crate::line::Instruction;
use crate::options::{Options, Whom};
use crate::script_lines::{Lines, Source};
use crate::show::{Escapes, Layout};

/// Runs the command, or each line until one fails, or with `--keep-going` all lines. Returns the exit code: that of the
/// first failure, or the one that the script has chosen.
pub(crate) fn run(client: &Client, options: &Options, source: Source) -> u8 {
    let layout = options.layout.unwrap_or(Layout::Compact);
    let escapes = if options.raw || !io::stdout().is_terminal() { Escapes::Never } else { Escapes::ForTerminal };
    let obey = |instruction: &Instruction| obey(client, instruction, layout, escapes);
    if !options.command.is_empty() {
        return match client.read_words(&options.command).map_err(Failure::from) {
            Ok(Instruction::Exit(status)) => status.unwrap_or_default(),
            Ok(instruction) => match (obey(&instruction), instruction) {
                (Ok(()), Instruction::Quit(status)) => status,
                (done, _) => done.err().as_ref().map_or(0, complain),
            },
            Err(failure) => complain(&failure),
        };
    }
    let (mut first, mut last) = (None, 0);
    for (position, instruction) in Lines::new(client, source) {
        let done = match instruction {
            Ok(Instruction::Nothing) => continue,
            Ok(Instruction::Exit(status)) => return status.unwrap_or(last),
            Ok(instruction) => obey(&instruction).map(|()| instruction),
            Err(failure) => Err(failure),
        };
        match done {
            Ok(Instruction::Quit(status)) => return status,
            Ok(_) => last = 0,
            Err(failure) => {
                last = complain_of(&position, &failure);
                first = first.or(Some(last));
                if !options.keep_going || client.is_over() {
                    break;
                }
            }
        }
    }
    first.unwrap_or_default()
}

fn obey(client: &Client, instruction: &Instruction, layout: Layout, escapes: Escapes) -> Result<(), Failure> {
    let Some(shown) = client.ask(instruction)?.shown(layout, escapes) else { return Ok(()) };
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{shown}").and_then(|()| out.flush());
    printed.map_err(|error| Failure::Lost(format!("cannot print the reply: {error}")))
}

/// Prints a failure to standard error, and returns its exit code.
pub(crate) fn complain(failure: &Failure) -> u8 {
    print(&format!("qmpsh: {failure}"));
    failure.code()
}

/// As [`complain`], with the position of the instruction in its script.
fn complain_of(position: &impl fmt::Display, failure: &Failure) -> u8 {
    print(&format!("qmpsh: {position}: {failure}"));
    failure.code()
}

/// Prints a line to standard error.
pub(crate) fn print(line: &str) {
    // If standard error fails, the exit code remains. One write, so that no other line tears this one.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Returns those of these signals that the shell was not started to ignore, as `nohup` and a command in the background of
/// a script are (`proc(5)`, `SigIgn`). Without `/proc`, these are all.
pub(crate) fn heeded(signals: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default();
    // The lowest bit is that of signal 1.
    signals.into_iter().filter(|signal| (ignored >> (signal - 1)) & 1 == 0).collect()
}

/// Spawns a thread that calls `finish` and exits at the first signal that is [heeded]. Without it, the signal would end the
/// shell alone, and leave the files that were made for a launched QEMU, and no record. Returns a cell for that signal.
///
/// # Errors
///
/// The error of the registration of the signal handlers.
pub(crate) fn end_on_signals(
    options: &Options,
    finish: impl FnOnce() + Send + 'static,
) -> io::Result<Arc<OnceLock<i32>>> {
    let signalled = Arc::new(OnceLock::new());
    if matches!(options.whom, Whom::Monitor(_) | Whom::Agent(_)) && !options.files.are_wanted() {
        return Ok(signalled);
    }
    let mut signals = Signals::new(heeded([SIGHUP, SIGINT, SIGTERM]))?;
    let first = Arc::clone(&signalled);
    spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // The cell is empty.
            let _ = first.set(signal);
            finish();
            exit(128 + signal);
        }
    });
    Ok(signalled)
}
