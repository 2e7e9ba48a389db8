//! Entry point of the shell: connects or launches, runs the prompt or the script, cleans up and returns the exit code.
//!
//! `qmpsh --help` describes the usage.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod arguments;
mod assist;
mod client;
mod complete;
mod connect;
mod editor;
mod failure;
mod guest;
mod help;
mod human;
mod json_text;
mod line;
mod list;
mod live;
mod live_names;
mod mode;
mod options;
mod private_file;
mod prompt;
mod prompt_end;
mod queries;
mod record;
#[cfg(test)]
mod sample;
mod script;
mod script_lines;
mod show;
mod split;
mod transaction;
mod value;
mod wire_log;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use qemu_machine_blocking::{Outcome, Shutdown, Vm};

use crate::client::Client;
use crate::connect::{Connector, connect};
use crate::failure::Failure;
use crate::options::{Call, HELP, Options, Whom};
use crate::prompt_end::code_of;
use crate::script::complain;
use crate::script_lines::Source;
use crate::show::{Escapes, printable};

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
    options.files.check()?;
    let source = Source::open(options)?;
    let vm = connect(options)?;
    let agent = options.agent_at.clone().map(Connector::agent);
    let client = Arc::new(Client::new(vm, options.timeout, options.mode, agent));
    if options.is_at_terminal() {
        let code = prompt::run(&client, options);
        let was_over = client.is_over();
        let outcome = finish(&client.vm, &options.whom);
        client.flush_log();
        outcome.iter().for_each(|outcome| say_how_it_ended(outcome, was_over, options));
        options.files.write_last(client.vm.record())?;
        return code;
    }
    let (vm, whom, files) = (client.vm.clone(), options.whom.clone(), options.files.clone());
    let signals = script::end_on_signals(options, move || {
        finish(&vm, &whom);
        if let Err(failure) = files.write_last(vm.record()) {
            complain(&failure);
        }
    });
    let signalled = signals.map_err(|error| Failure::Lost(format!("cannot handle signals: {error}")))?;
    if options.verbose {
        client.log_wire(script::print);
    }
    let code = script::run(&client, options, source);
    finish(&client.vm, &options.whom);
    client.flush_log();
    options.files.write_last(client.vm.record())?;
    // The signal takes precedence: commands fail because it ended QEMU.
    Ok(signalled.get().map_or(code, |signal| code_of(*signal)))
}

/// Ends a QEMU that the shell launched, and disconnects from one that it attached to.
fn finish(vm: &Vm, whom: &Whom) -> Option<Outcome> {
    let outcome = match whom {
        Whom::Launched(_) => vm.shutdown(Shutdown::default()),
        Whom::Monitor(_) | Whom::Agent(_) => vm.disconnect(),
    };
    outcome.ok()
}

/// Prints why QEMU ended, if it ended before the user left the prompt, and what it printed.
fn say_how_it_ended(outcome: &Outcome, was_over: bool, options: &Options) {
    let escapes = options.escapes_at_prompt();
    let peer = if let Whom::Agent(_) = options.whom { "agent" } else { "QEMU" };
    let mut text = if was_over { format!("{peer}: {}\n", outcome.cause) } else { String::new() };
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
