//! JUnit XML of results, for continuous integration: a suite for each kernel, with the command and the tests that it
//! reported.

use std::fmt::Write;

use crate::case::{Verdict, leaves};
use crate::report::Report;

/// Returns a JUnit document of these results.
///
/// The command is the case `command`: a failure if it has another exit code than 0, and an error if it has none. Each
/// test of the guest that counts ([`leaves`]) is a case. Characters that XML does not permit are replaced.
#[must_use]
pub fn junit(reports: &[Report]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        suite(&mut text, report);
    }
    text + "</testsuites>\n"
}

fn suite(text: &mut String, report: &Report) {
    let leaves = leaves(&report.cases);
    let count = |is_meant: fn(Verdict) -> bool| leaves.iter().filter(|(_, case)| is_meant(case.verdict)).count();
    let failures = count(|verdict| matches!(verdict, Verdict::Failed | Verdict::Missing))
        + usize::from(report.exit.as_ref().is_ok_and(|code| *code != 0));
    let errors = usize::from(report.exit.is_err());
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped | Verdict::ExpectedFailure));
    let (name, seconds) = (escaped(&report.name), report.elapsed.as_secs_f64());
    let tests = leaves.len() + 1;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" \
         skipped=\"{skipped}\" time=\"{seconds:.3}\">"
    );
    let verdict = match &report.exit {
        Ok(0) => None,
        Ok(code) => Some(format!("<failure message=\"exit code {code}\"/>")),
        Err(failure) => {
            let message = escaped(&failure.to_string());
            Some(format!("<error type=\"{}\" message=\"{message}\"/>", failure.kind()))
        }
    };
    element(text, &name, "command", Some(seconds), verdict);
    for (path, case) in leaves {
        let reason = case.reason.as_ref().map(|reason| escaped(reason)).unwrap_or_default();
        let verdict = match case.verdict {
            Verdict::Passed => None,
            Verdict::Skipped => Some(format!("<skipped message=\"{reason}\"/>")),
            Verdict::ExpectedFailure => Some(format!("<skipped message=\"expected to fail: {reason}\"/>")),
            Verdict::Failed | Verdict::Missing => {
                let lines: String = case.diagnostics.iter().map(|line| escaped(line) + "\n").collect();
                Some(format!("<failure message=\"{reason}\">{lines}</failure>"))
            }
        };
        element(text, &name, &escaped(&path), None, verdict);
    }
    text.push_str("  </testsuite>\n");
}

/// Adds a test case. `seconds` of `None` means unknown; `verdict` of `None` means that it passed.
fn element(text: &mut String, suite: &str, name: &str, seconds: Option<f64>, verdict: Option<String>) {
    let time = seconds.map(|seconds| format!(" time=\"{seconds:.3}\"")).unwrap_or_default();
    let _ = match verdict {
        None => writeln!(text, "    <testcase classname=\"{suite}\" name=\"{name}\"{time}/>"),
        Some(verdict) => {
            writeln!(text, "    <testcase classname=\"{suite}\" name=\"{name}\"{time}>{verdict}</testcase>")
        }
    };
}

/// Returns text for an attribute or an element. XML permits no control characters but tab and line feeds, not even as
/// references (XML 1.0, 2.2, "Characters").
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(letter),
            _ if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}
