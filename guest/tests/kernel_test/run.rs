//! Runs of the program `kernel-test`, with the kernel and the busybox that `tests/setup` unpacked.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::Scratch;

/// Deadline of each test, longer than that of the guest.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self { code: output.status.code(), stdout, stderr }
    }
}

impl Run {
    /// Asserts that the run ended without the exit code of the command, with this code and this message.
    pub(crate) fn failed(&self, code: i32, message: &str) {
        let told = self.stderr.strip_prefix("kernel-test: ").unwrap_or_default();
        assert!(self.code == Some(code) && told.starts_with(message), "{self:#?}");
    }
}

/// The directory of the parts that `tests/setup` unpacked. An installed program would have `--unpacked`, or its host's
/// files.
pub(crate) fn unpacked() -> PathBuf {
    // The directory for the files of tests is in the target directory, as that of `tests/setup`.
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let unpacked = tmp.join("linux-parts");
    assert!(unpacked.is_dir(), "{} is missing: run tests/setup true", unpacked.display());
    unpacked
}

/// Returns the path of the unpacked kernel.
pub(crate) fn kernel() -> String {
    let kernel = qemu_machine_guest::default_kernel(Some(&unpacked())).expect("tests/setup unpacks a kernel");
    kernel.to_str().expect("the target directory is UTF-8").to_owned()
}

pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kernel-test"));
    program.env("KERNEL_TEST_UNPACKED", unpacked()).env_remove("NO_COLOR");
    program
}

/// Options of each guest, unless the test sets another limit: a minute is short on a busy host. The kernel's tests of
/// cryptography take a sixth of a boot.
const EACH: [&str; 4] = ["--timeout", "240", "--append", "cryptomgr.notests"];

/// Runs the program to its end, and asserts that no file is left.
pub(crate) fn run(options: &[&str], command: &[&str]) -> Run {
    let arguments: Vec<String> = [&EACH, options, &["--"], command].concat().into_iter().map(str::to_owned).collect();
    bounded_by(PATIENCE, move || {
        let scratch = Scratch::create();
        let output = program().args(arguments).env("TMPDIR", scratch.path()).output().expect("it runs");
        assert_eq!(scratch.entries(), [""; 0], "files left behind");
        output.into()
    })
}

/// Runs a shell script on TCG, without the output of the kernel.
pub(crate) fn quietly(options: &[&str], script: &str) -> Run {
    run(&[&["--accel", "tcg", "--quiet"], options].concat(), &["sh", "-c", script])
}

/// Returns the path of a file below a directory, as a word of a command line.
pub(crate) fn path(scratch: &Scratch, name: &str) -> String {
    scratch.path().join(name).to_str().expect("the temporary directory is UTF-8").to_owned()
}

/// Asserts that a file is XML: Python's parser reads it. Returns the counts of each suite, and the names of its cases.
pub(crate) fn suites(path: &Path) -> String {
    let program = "import sys, xml.etree.ElementTree as tree\n\
        for suite in tree.parse(sys.argv[1]).getroot():\n \
          print(*(suite.get(key) for key in ('name', 'tests', 'failures', 'errors', 'skipped')))\n \
          print(*(case.get('name') + '=' + ','.join(child.tag for child in case) for case in suite))\n";
    let output = Command::new("python3").args(["-c", program]).arg(path).output().expect("Python runs");
    assert!(output.status.success(), "{output:#?}");
    String::from_utf8(output.stdout).unwrap()
}
