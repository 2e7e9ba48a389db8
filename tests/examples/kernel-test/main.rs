//! Runs a command in a Linux guest, shows what the guest prints while it runs, and exits with the command's code.
//!
//! ```sh
//! cargo run --package qemu-machine-tests --example kernel-test -- -- sh -c 'uname -r; exit 7'
//! ```
//!
//! `--help` tells the options, and how a panic, a hang and an early end look to whoever called.

mod agent;
mod failure;
mod guest;
mod options;
mod report;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;

use qemu_machine_blocking::{FOREVER, Found, Mark, Vm, Wait};

use failure::Failure;
use guest::{CONSOLE, Guest};
use options::Options;
use report::Report;

fn main() -> ExitCode {
    run(&Options::read()).unwrap_or_else(|failure| {
        eprintln!("kernel-test: {failure}");
        failure.code()
    })
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let guest = Guest::build(options)?;
    let vm = guest.launch(options)?;
    thread::scope(|threads| {
        threads.spawn(|| stream(&vm));
        let code = watch(&vm, options);
        // There is nothing to save in this guest. The end of the machine is what `stream` ends with; all that was
        // printed before comes first.
        drop(vm.kill());
        code.map(ExitCode::from)
    })
}

/// Shows the console as it prints, until the machine ends.
fn stream(vm: &Vm) {
    let mut mark = Mark::default();
    while let Ok(hit) = vm.wait_any(&mark, [Wait::output(CONSOLE), Wait::end()], FOREVER) {
        let Found::Text(printed) = hit.found else { return };
        if hit.missed.bytes > 0 {
            eprintln!("kernel-test: {} bytes of the console came too fast and are missing here", hit.missed.bytes);
        }
        let mut stdout = stdout().lock();
        if stdout.write_all(printed.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            return; // Nobody listens to us any more; the command goes on.
        }
        mark = hit.mark;
    }
}

/// Follows the command to its end, and gives its exit code.
fn watch(vm: &Vm, options: &Options) -> Result<u8, Failure> {
    let mut report = Report::new(vm, options.timeout());
    report.up_to("ready.")?;
    if options.agent {
        return agent::run(vm, &mut report);
    }
    let exit = report.up_to(".")?;
    let code = exit.trim().strip_prefix("exit ").and_then(|code| code.strip_suffix('.')?.parse().ok());
    code.ok_or(Failure::Report(exit))
}
