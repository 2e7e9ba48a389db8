//! Script mode: runs the command of the command line, or the lines of standard input.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::exit;
use std::sync::{Arc, OnceLock};
use std::thread::spawn;

use qemu_machine_blocking::Shutdown;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::client::{Client, Failure};
use crate::line::{Instruction, Trouble};
use crate::options::{Options, Whom};
use crate::show::{Escapes, Layout};

/// Runs the command, or each line until one fails, or with `--keep-going` all lines. Returns the exit code of the first
/// failure; `None` means that all succeeded.
pub(crate) fn run(client: &Client, options: &Options) -> Option<u8> {
    let layout = options.layout.unwrap_or(Layout::Compact);
    let escapes = if options.raw || !io::stdout().is_terminal() { Escapes::Never } else { Escapes::ForTerminal };
    if !options.command.is_empty() {
        let done = client.read_words(&options.command).map_err(Failure::from);
        return done.and_then(|instruction| obey(client, &instruction, layout, escapes)).err().as_ref().map(complain);
    }
    let mut code = None;
    let instructions = Instructions { client, lines: io::stdin().lock() };
    for instruction in instructions {
        let done = match instruction {
            Ok(Instruction::Exit) => break,
            instruction => instruction.and_then(|instruction| obey(client, &instruction, layout, escapes)),
        };
        let Err(failure) = done else { continue };
        code = code.or(Some(complain(&failure)));
        if !options.keep_going || client.is_over() {
            break;
        }
    }
    code
}

fn obey(client: &Client, instruction: &Instruction, layout: Layout, escapes: Escapes) -> Result<(), Failure> {
    let Some(shown) = client.ask(instruction)?.shown(layout, escapes) else { return Ok(()) };
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{shown}").and_then(|()| out.flush());
    printed.map_err(|error| Failure::Lost(format!("cannot print the reply: {error}")))
}

/// Prints a failure to standard error, and returns its exit code.
pub(crate) fn complain(failure: &Failure) -> u8 {
    // If standard error fails, the exit code remains.
    let _ = writeln!(io::stderr(), "qmpsh: {failure}");
    failure.code()
}

/// Iterator over the instructions of lines. JSON and quotes may extend over several lines.
struct Instructions<'a, R> {
    client: &'a Client,
    lines: R,
}

impl<R: BufRead> Iterator for Instructions<'_, R> {
    type Item = Result<Instruction, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        loop {
            match self.lines.read_line(&mut text) {
                Ok(0) if text.is_empty() => return None,
                Ok(0) => return Some(self.client.read(&text).map_err(Failure::from)),
                Ok(_) => match self.client.read(&text) {
                    Err(Trouble::Unfinished) => {}
                    instruction => return Some(instruction.map_err(Failure::from)),
                },
                Err(error) => return Some(Err(Failure::Unclear(format!("cannot read the next line: {error}")))),
            }
        }
    }
}

/// Spawns a thread that shuts a launched QEMU down and exits at the first signal. Without it, the signal would end the
/// shell alone, and leave the files that were made for QEMU. Returns a cell for that signal.
///
/// # Errors
///
/// The error of the registration of the signal handlers.
pub(crate) fn end_on_signals(client: &Client, options: &Options) -> io::Result<Arc<OnceLock<i32>>> {
    let signalled = Arc::new(OnceLock::new());
    if let Whom::Monitor(_) = options.whom {
        return Ok(signalled);
    }
    let (vm, mut signals) = (client.vm.clone(), Signals::new([SIGHUP, SIGINT, SIGTERM])?);
    let first = Arc::clone(&signalled);
    spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Neither fails: the cell is empty, and the machine was launched.
            let _ = first.set(signal);
            let _ = vm.shutdown(Shutdown::default());
            exit(128 + signal);
        }
    });
    Ok(signalled)
}
