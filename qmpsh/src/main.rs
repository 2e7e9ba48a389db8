//! Entry point of the shell: connects or launches, runs the prompt or the script, cleans up and returns the exit code.
//!
//! `qmpsh --help` describes the usage.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod arguments;
mod client;
mod complete;
mod editor;
mod help;
mod line;
mod list;
mod live;
mod options;
mod private_file;
mod prompt;
mod prompt_end;
mod record;
#[cfg(test)]
mod sample;
mod script;
mod show;
mod split;
mod value;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use qemu_machine_blocking::{Config, LaunchError, Outcome, Peer, Shutdown, Vm};

use crate::client::{Client, Failure};
use crate::options::{Call, HELP, Options, Whom, addresses};
use crate::prompt_end::PromptEnd;
use crate::script::complain;
use crate::show::{Escapes, printable};

/// The time that a monitor may take to greet. It takes milliseconds, unless another client is connected: QEMU greets a
/// second client only when the first one has left (measured with QEMU 7.2.22).
const GREETED_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let options = match options::read(std::env::args_os().skip(1)) {
        Ok(Call::Run(options)) => options,
        Ok(Call::List(layout)) => {
            return ExitCode::from(list::list(layout).map_or_else(|failure| complain(&failure), |()| 0));
        }
        Ok(Call::Help) => return tell(HELP),
        Ok(Call::Version) => return tell(concat!("qmpsh ", env!("CARGO_PKG_VERSION"))),
        Err(error) => {
            return ExitCode::from(complain(&Failure::Unclear(format!(
                "{}; see `qmpsh --help`",
                printable(error.to_string())
            ))));
        }
    };
    ExitCode::from(run(&options).unwrap_or_else(|failure| complain(&failure)))
}

fn tell(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(4),
    }
}

/// Runs the shell and returns the exit code.
fn run(options: &Options) -> Result<u8, Failure> {
    record::check(options.record.as_deref())?;
    let vm = connect(options)?;
    let client = Arc::new(Client::new(vm, options.timeout, options.hmp));
    if options.command.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal() {
        let over = prompt::run(&client, options);
        let was_over = client.is_over();
        let outcome = finish(&client.vm, &options.whom);
        outcome.iter().for_each(|outcome| say_how_it_ended(outcome, was_over, options.escapes_at_prompt()));
        record::write(client.vm.record(), options.record.as_deref())?;
        return Ok(match over? {
            Some(PromptEnd::Signalled(signal)) => code_of(signal),
            Some(PromptEnd::Disconnected) | None => 0,
        });
    }
    let signals = script::end_on_signals(&client, options);
    let signalled = signals.map_err(|error| Failure::Lost(format!("cannot handle signals: {error}")))?;
    let code = script::run(&client, options);
    finish(&client.vm, &options.whom);
    record::write(client.vm.record(), options.record.as_deref())?;
    // The signal takes precedence: commands fail because it ended QEMU.
    Ok(signalled.get().map(|signal| code_of(*signal)).or(code).unwrap_or_default())
}

/// Returns the exit code for a signal, as shells define it: 128 + its number.
fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn connect(options: &Options) -> Result<Vm, Failure> {
    match &options.whom {
        Whom::Launched(words) => {
            let mut words = words.iter().cloned().map(OsString::into_vec);
            let config = Config::new(words.next().unwrap_or_default()).name("qmpsh").args(words);
            launch(config, options)?.map_err(|error| Failure::NotConnected(error.to_string()))
        }
        Whom::Monitor(monitor) => {
            let mut failure = Failure::NotConnected(format!("{}: no such host", printable(monitor)));
            for address in addresses(monitor).map_err(Failure::NotConnected)? {
                let shown = address.to_string();
                match launch(Config::attach(Peer::Dial(address)).launch_within(GREETED_WITHIN), options)? {
                    Ok(vm) => return Ok(vm),
                    Err(error) => failure = Failure::NotConnected(format!("{shown}: {error}")),
                }
            }
            Err(failure)
        }
    }
}

/// Launches or attaches, with a record if `--record` is given. If that fails, writes the record here.
fn launch(config: Config, options: &Options) -> Result<Result<Vm, LaunchError>, Failure> {
    let config = if options.record.is_some() { config.recorded() } else { config };
    let launched = Vm::launch(config);
    if let Err(LaunchError::Failed { outcome, .. }) = &launched {
        record::write(outcome.record.as_deref().and_then(|text| text.parse().ok()), options.record.as_deref())?;
    }
    Ok(launched)
}

/// Ends a QEMU that the shell launched, and disconnects from one that it attached to.
fn finish(vm: &Vm, whom: &Whom) -> Option<Outcome> {
    let outcome = match whom {
        Whom::Launched(_) => vm.shutdown(Shutdown::default()),
        Whom::Monitor(_) => vm.disconnect(),
    };
    outcome.ok()
}

/// Prints why QEMU ended, if it ended before the user left the prompt, and what it printed.
fn say_how_it_ended(outcome: &Outcome, was_over: bool, escapes: Escapes) {
    let mut text = if was_over { format!("QEMU: {}\n", outcome.cause) } else { String::new() };
    if !outcome.log.trim().is_empty() {
        let printed = escapes.text(outcome.log.trim_end());
        // Indented, so that no line of QEMU can be taken for one of the shell.
        let indent = if escapes == Escapes::ForTerminal { "  " } else { "" };
        text += "QEMU printed:\n";
        text.extend(printed.lines().map(|line| format!("{indent}{line}\n")));
    }
    // A terminal that is gone cannot show an error either.
    let _ = io::stdout().write_all(text.as_bytes());
}
