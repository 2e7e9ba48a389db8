//! Example: runs a command in a Linux guest, prints the guest's console meanwhile, and exits with the command's code.
//!
//! ```sh
//! cargo run --package qemu-machine-tests --example kernel-test -- -- sh -c 'uname -r; exit 7'
//! ```
//!
//! `--help` lists the options, and the exit codes for a panic, a hang and an early end.

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
        // This guest has no data to save, so it is killed. That ends `stream`, after the console was read to its end.
        drop(vm.kill());
        code.map(ExitCode::from)
    })
}

/// Prints the output of the console as it comes, until the machine ends.
fn stream(vm: &Vm) {
    let mut mark = Mark::default();
    while let Ok(hit) = vm.wait_any(&mark, [Wait::output(CONSOLE), Wait::end()], FOREVER) {
        let Found::Text(printed) = hit.found else { return };
        if hit.missed.bytes > 0 {
            eprintln!("kernel-test: {} bytes of the console are missing here: they came too fast", hit.missed.bytes);
        }
        let mut stdout = stdout().lock();
        if stdout.write_all(printed.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            return; // The reader of the output is gone; the command continues.
        }
        mark = hit.mark;
    }
}

/// Waits for the end of the command, and returns its exit code.
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
