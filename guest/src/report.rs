//! Report of one run: the exit code or the failure, and the tests that the guest reported.

use std::time::Duration;

use qemu_machine_blocking::record::Record;

use crate::case::{Case, leaves};
use crate::failure::Failure;
use crate::recorded::Secrets;

/// The result of a [`KernelTest`](crate::KernelTest).
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The name of the test.
    pub name: String,
    /// The exit code of the command, or why there is none.
    pub exit: Result<u8, Failure>,
    /// The tests that the guest reported as KTAP on its console. Empty, if it reported none.
    pub cases: Vec<Case>,
    /// The time of the whole run, with the initramfs and the check of KVM.
    pub elapsed: Duration,
    /// The inputs and outputs of the machine, without the secrets in [`KernelTest::qemu_args`](crate::KernelTest::qemu_args).
    /// `None` means that no machine was [recorded](crate::KernelTest::record_limit), or that none was created.
    pub record: Option<Record>,
    /// The secrets that are masked in a page.
    pub(crate) secrets: Secrets,
}

impl Report {
    /// Reports whether the command exited with 0, and no test of the guest failed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code() == 0
    }

    /// Returns the exit code for a program that ran only this: that of the command, [`Failure::code`], or 1 if the command
    /// exited with 0 and a test of the guest failed.
    #[must_use]
    pub fn code(&self) -> u8 {
        match &self.exit {
            Ok(0) => u8::from(self.cases.iter().any(Case::is_failure)),
            Ok(code) => *code,
            Err(failure) => failure.code(),
        }
    }

    /// Returns the number of tests of the guest that [count](leaves), and how many of these failed.
    #[must_use]
    pub fn tally(&self) -> (usize, usize) {
        let leaves = leaves(&self.cases);
        (leaves.len(), leaves.iter().filter(|(_, case)| case.is_failure()).count())
    }
}
