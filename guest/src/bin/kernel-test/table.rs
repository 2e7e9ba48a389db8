//! Table of the results of several kernels, and the names of the tests that failed.

use qemu_machine_blocking::UntrustedText;
use qemu_machine_guest::{Case, Report, Verdict, leaves};

use crate::screen::Screen;

/// The most tests that failed whose names are printed; `--junit` and `--tap` have all.
const NAMED: usize = 10;

/// Returns the table: a line for each kernel with its result, its tests and its time.
pub(crate) fn table(reports: &[Report], screen: &Screen) -> String {
    let width = reports.iter().map(|report| report.name.chars().count()).max().unwrap_or_default().max(6);
    let mut text = format!("{:width$}  {:<10}  {:<22}  {:>7}\n", "kernel", "result", "tests", "time");
    for report in reports {
        let word = match &report.exit {
            Ok(0) if report.is_success() => "ok".to_owned(),
            Ok(0) => "tests".to_owned(),
            Ok(code) => format!("exit {code}"),
            Err(failure) => failure.kind().to_owned(),
        };
        // The colour has no width.
        let result = screen.verdict(report.is_success(), &word) + &" ".repeat(10_usize.saturating_sub(word.len()));
        let tests = match report.tally() {
            (0, _) => "-".to_owned(),
            (count, failed) => format!("{count}, {failed} failed"),
        };
        let seconds = report.elapsed.as_secs_f64();
        text += &format!("{:width$}  {result}  {tests:<22}  {seconds:>5.1} s\n", report.name);
    }
    text
}

/// Returns a line with the tests of the guest that failed. `None` means that none did.
pub(crate) fn failed(report: &Report) -> Option<String> {
    let leaves = leaves(&report.cases);
    let failed: Vec<_> =
        leaves.iter().filter(|(_, case)| case.is_failure()).map(|(name, case)| named(name, case)).collect();
    if failed.is_empty() {
        return None;
    }
    let more = match failed.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let named = failed[..failed.len().min(NAMED)].join(", ");
    Some(format!("{} of {} tests failed: {named}{more}", failed.len(), leaves.len()))
}

/// Returns the name of a test that failed. One without a result has the reason: its name may be none.
fn named(name: &UntrustedText, case: &Case) -> String {
    match (&case.verdict, &case.reason) {
        (Verdict::Missing, Some(reason)) => format!("{name}: {reason}"),
        _ => name.to_string(),
    }
}
