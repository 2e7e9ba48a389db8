//! Execution of the command through the guest agent, which keeps stdout and stderr apart.

use std::time::Duration;

use qemu_machine_blocking::Vm;
use qemu_machine_blocking::procedure::{GuestExec, GuestExecEnd, GuestExit};

use crate::failure::Failure;
use crate::guest_reports::GuestReports;

/// The time to wait for the end of the machine after its agent has gone: the end is reported some milliseconds later.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the command, and returns its output and its exit code.
///
/// # Errors
///
/// [`Failure`], if the command has no exit code.
pub(crate) fn run(vm: &Vm, reports: &GuestReports<'_>) -> Result<(GuestExecEnd, u8), Failure> {
    let end = converse(vm, reports).map_err(|why| match vm.wait(GRACE) {
        Ok(outcome) => reports.of_end(&outcome),
        Err(_) if reports.is_over() => reports.overdue(),
        Err(_) => Failure::Guest(format!("the agent: {why}").into()),
    })?;
    let code = match end.exit {
        GuestExit::Code(code) => u8::try_from(code).ok(),
        GuestExit::Signal(signal) => u8::try_from(128 + signal).ok(), // As shells define it.
        _ => None,
    };
    let code = code.ok_or_else(|| Failure::Guest("the agent reported no exit code".into()))?;
    Ok((end, code))
}

fn converse(vm: &Vm, reports: &GuestReports<'_>) -> Result<GuestExecEnd, String> {
    let agent = vm.agent(reports.left()).map_err(|error| error.to_string())?;
    let command = GuestExec::program("/.kernel-test/busybox").args(["sh", "/.kernel-test/command"]);
    agent.run(command, reports.left()).map_err(|error| error.to_string())
}
