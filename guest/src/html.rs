//! Page of HTML of results, for a browser: a section for each kernel, with its outcome, its console and its record.

use qemu_machine_blocking::UntrustedText;
use qemu_machine_blocking::record::{self, Record};

use crate::case::leaves;
use crate::report::Report;

/// The most tests that failed whose names are in a title.
const NAMED: usize = 10;

/// Returns a page of these results: one file that loads nothing. Each kernel is a section, whose title is its outcome. The
/// section of a run without a [record](Report::record) has nothing else.
#[must_use]
pub fn html(reports: &[Report]) -> String {
    let sections = reports.iter().map(section);
    let page = sections.reduce(record::Report::and).unwrap_or_else(|| Record::default().report());
    let failed = reports.iter().filter(|report| !report.is_success()).count();
    let page = match reports.len() {
        0 | 1 => page,
        count => page.titled(format!("kernel-test: {failed} of {count} kernels failed")),
    };
    page.to_string()
}

fn section(report: &Report) -> record::Report {
    let page = report.record.as_ref().map_or_else(|| Record::default().report(), Record::report);
    page.titled(report.secrets.mask(title(report)))
}

/// Returns the outcome of a run in one line.
fn title(report: &Report) -> String {
    let exit = match &report.exit {
        Ok(code) => format!("exit code {code}"),
        // The first line is the message. Below it is the log of QEMU, which is in the record.
        Err(failure) => failure.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let leaves = leaves(&report.cases);
    let failed: Vec<_> =
        leaves.iter().filter(|(_, case)| case.is_failure()).map(|(name, _)| name.to_string()).collect();
    let name = UntrustedText::from(&*report.name);
    if failed.is_empty() {
        return format!("{name}: {exit}");
    }
    let named = failed[..failed.len().min(NAMED)].join(", ");
    let more = if failed.len() > NAMED { ", …" } else { "" };
    format!("{name}: {exit}; {} of {} tests failed: {named}{more}", failed.len(), leaves.len())
}
