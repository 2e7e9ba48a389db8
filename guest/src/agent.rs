//! Execution of the command through the guest agent, which keeps stdout and stderr apart.

use std::thread::Scope;
use std::time::Duration;

use qemu_machine_blocking::Vm;
use qemu_machine_blocking::procedure::{GuestExec, GuestExecEnd, GuestExit};

use crate::failure::Failure;
use crate::guest_reports::{GuestReports, comes_to_stay};

/// The time to wait for the end of the machine after its agent has gone: the end is reported some milliseconds later.
const GRACE: Duration = Duration::from_secs(30);

/// Runs the command, and returns its output and its exit code. A thread of the scope waits for a panic meanwhile.
///
/// # Errors
///
/// [`Failure`], if the command has no exit code.
pub(crate) fn run<'scope>(
    vm: &'scope Vm,
    reports: &GuestReports<'_>,
    threads: &'scope Scope<'scope, '_>,
) -> Result<(GuestExecEnd, u8), Failure> {
    let end = converse(vm, reports, threads).map_err(|why| match vm.wait(GRACE) {
        Ok(outcome) => reports.of_end(&outcome),
        Err(_) => reports.stays().unwrap_or_else(|| match reports.is_over() {
            true => reports.overdue(),
            false => Failure::Guest(format!("the agent: {why}").into()),
        }),
    })?;
    let code = match end.exit {
        GuestExit::Code(code) => u8::try_from(code).ok(),
        GuestExit::Signal(signal) => u8::try_from(128 + signal).ok(), // As shells define it.
        _ => None,
    };
    let code = code.ok_or_else(|| Failure::Guest("the agent reported no exit code".into()))?;
    Ok((end, code))
}

fn converse<'scope>(
    vm: &'scope Vm,
    reports: &GuestReports<'_>,
    threads: &'scope Scope<'scope, '_>,
) -> Result<GuestExecEnd, String> {
    let agent = vm.agent(reports.left()).map_err(|error| error.to_string())?;
    let other = agent.clone();
    threads.spawn(move || {
        // The agent of a kernel that stays in a panic does not answer. Without a connection, `run` returns.
        if comes_to_stay(vm) {
            drop(other.disconnect());
        }
    });
    let command = GuestExec::program("/.kernel-test/busybox").args(["sh", "/.kernel-test/command"]);
    agent.run(command, reports.left()).map_err(|error| error.to_string())
}
