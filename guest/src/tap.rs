//! TAP of results: one line for each kernel, and its tests as subtests.

use std::fmt::Write;

use qemu_machine_blocking::UntrustedText;

use crate::case::{Case, Verdict, leaves};
use crate::report::Report;

/// Returns a TAP document (version 14) of these results: a test for each kernel, with the tests of the guest as subtests.
/// A kernel is `ok` if the command exited with 0 and no test failed.
#[must_use]
pub fn tap(reports: &[Report]) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", reports.len());
    for (report, number) in reports.iter().zip(1..) {
        let leaves = leaves(&report.cases);
        let name = described(&report.name.as_str().into());
        // Writing to a string does not fail.
        let _ = match leaves.len() {
            0 => Ok(()),
            count => writeln!(text, "# Subtest: {name}\n    1..{count}"),
        };
        for ((path, case), number) in leaves.iter().zip(1..) {
            result(&mut text, number, &described(path), case);
        }
        let is_ok = report.is_success();
        let _ = writeln!(text, "{} {number} - {name}", if is_ok { "ok" } else { "not ok" });
        let _ = match &report.exit {
            Ok(0) => Ok(()),
            Ok(code) => writeln!(text, "# exit code {code}"),
            Err(failure) => failure.to_string().lines().try_for_each(|line| writeln!(text, "# {line}")),
        };
    }
    text
}

fn result(text: &mut String, number: u64, name: &str, case: &Case) {
    for line in &case.diagnostics {
        let _ = writeln!(text, "    # {line:#}");
    }
    let reason = case.reason.as_ref().map(|reason| format!(" {}", described(reason))).unwrap_or_default();
    let (word, directive) = match case.verdict {
        Verdict::Passed => ("ok", String::new()),
        Verdict::Failed => ("not ok", String::new()),
        Verdict::Missing => ("not ok", format!(" -{reason}")),
        Verdict::Skipped => ("ok", format!(" # SKIP{reason}")),
        Verdict::ExpectedFailure => ("not ok", format!(" # TODO{reason}")),
    };
    let _ = writeln!(text, "    {word} {number} - {name}{directive}");
}

/// Returns a text on one line, in which `#` begins no directive (TAP 14, "Escaping").
fn described(text: &UntrustedText) -> String {
    format!("{text:#}").replace('\\', "\\\\").replace('#', "\\#")
}
