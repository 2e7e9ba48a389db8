//! Results of tests: a tree of cases, each with a verdict.

use qemu_machine_blocking::UntrustedText;

/// The verdict of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It did not run, and said so.
    Skipped,
    /// It failed, and that is known: a failure with the directive `TODO` or `XFAIL`.
    ExpectedFailure,
    /// It was announced and has no result, because the kernel or the program ended before.
    Missing,
}

/// A test that the guest reported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Case {
    /// The name; empty if the guest gave none.
    pub name: UntrustedText,
    /// The verdict. That of a test with subtests is its own line's, not a summary.
    pub verdict: Verdict,
    /// The words after the directive. `None` means that there are none.
    pub reason: Option<UntrustedText>,
    /// The diagnostic lines before the result, without `#`: at most 256, the first ones.
    pub diagnostics: Vec<UntrustedText>,
    /// The subtests.
    pub cases: Vec<Case>,
}

impl Case {
    /// A case with a verdict and nothing else.
    pub(crate) fn new(name: impl Into<UntrustedText>, verdict: Verdict) -> Self {
        Self { name: name.into(), verdict, reason: None, diagnostics: Vec::new(), cases: Vec::new() }
    }

    /// Reports whether this test or a subtest failed, or has no result.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Failed | Verdict::Missing) || self.cases.iter().any(Self::is_failure)
    }
}

/// Returns the tests that count, with the names of those above them before their own, separated by `.`: each test without
/// subtests, and each that failed although none of its subtests did.
#[must_use]
pub fn leaves(cases: &[Case]) -> Vec<(UntrustedText, &Case)> {
    let mut found = Vec::new();
    for case in cases {
        add_leaves("", case, &mut found);
    }
    found
}

/// Recursion ends: the parser nests at most [`ktap::DEEPEST`](crate::ktap::DEEPEST) levels.
fn add_leaves<'a>(above: &str, case: &'a Case, found: &mut Vec<(UntrustedText, &'a Case)>) {
    let own = if case.name.is_empty() { "unnamed" } else { case.name.as_str() };
    let path = if above.is_empty() { own.to_owned() } else { format!("{above}.{own}") };
    let is_alone = case.is_failure() && !case.cases.iter().any(Case::is_failure);
    for below in &case.cases {
        add_leaves(&path, below, found);
    }
    if case.cases.is_empty() || is_alone {
        found.push((path.into(), case));
    }
}
