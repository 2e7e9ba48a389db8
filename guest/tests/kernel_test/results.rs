//! Tests of several kernels and of results: the table, KTAP of the guest, JUnit XML, TAP.

use std::fs;

use qemu_machine_tests::leak_check::Scratch;

use crate::run::{kernel, quietly, suites};

/// A script that prints KTAP and lines around it. Its tests are named after what happens to them.
const KTAP: &str = "\
echo KTAP version 1; echo 1..4; echo '  KTAP version 1'; echo '  1..1'; echo '  ok 1 inner<&>'; \
echo '<6>[    1.5] ok 1 outer' ; echo unrelated; echo '# why it failed'; echo 'not ok 2 bad'; \
echo 'ok 3 skipped # SKIP no disk'; echo 'not ok 4 known # XFAIL later'";

/// The same kernel twice, with other names. One run at a time, since the tests run at once anyway.
#[test]
fn a_matrix_ends_with_a_table_and_the_code_of_the_first_failure() {
    let scratch = Scratch::create();
    let junit = scratch.path().join("junit.xml");
    let kernel = kernel();
    let [old, new] = ["old", "new"].map(|name| format!("{name}={kernel}"));
    let script = "echo run | tr a-z A-Z; [ -e /proc/cmdline ] && exit 6";
    let run = quietly(&["-k", &old, "-k", &new, "-j", "2", "--junit", junit.to_str().unwrap()], script);
    assert_eq!((run.code, &*run.stderr), (Some(6), ""), "{run:#?}");
    let mut lines: Vec<_> = run.stdout.lines().take(2).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["new | RUN", "old | RUN"]);
    let table: Vec<Vec<_>> = run.stdout.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table[0], ["kernel", "result", "tests", "time"]);
    assert_eq!((&table[1][..4], &table[2][..4]), (&["old", "exit", "6", "-"][..], &["new", "exit", "6", "-"][..]));
    assert_eq!(suites(&junit), "old 1 1 0 0\ncommand=failure\nnew 1 1 0 0\ncommand=failure\n");
    fs::remove_file(junit).unwrap();
}

#[test]
fn tests_of_the_guest_are_in_the_results_and_decide_the_exit_code() {
    let scratch = Scratch::create();
    let junit = scratch.path().join("junit.xml");
    let run = quietly(&["-k", &format!("k={}", kernel()), "--tap", "--junit", junit.to_str().unwrap()], KTAP);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.ends_with("kernel-test: 1 of 4 tests failed: bad\n"), "{run:#?}");
    let expected = "\
TAP version 14
1..1
# Subtest: k
    1..4
    ok 1 - outer.inner<&>
    # why it failed
    not ok 2 - bad
    ok 3 - skipped # SKIP no disk
    not ok 4 - known # TODO later
not ok 1 - k
";
    assert_eq!(run.stdout, expected);
    let expected = "k 5 1 0 2\ncommand= outer.inner<&>= bad=failure skipped=skipped known=skipped\n";
    assert_eq!(suites(&junit), expected);
    fs::remove_file(junit).unwrap();
}

#[test]
fn a_panic_is_an_error_of_junit_with_the_tests_before_it() {
    let scratch = Scratch::create();
    let junit = scratch.path().join("junit.xml");
    let script = "echo TAP version 13; echo 1..2; echo ok 1 first; echo c > /proc/sysrq-trigger";
    let run = quietly(&["-k", &format!("k={}", kernel()), "--junit", junit.to_str().unwrap()], script);
    assert_eq!(run.code, Some(121), "{run:#?}");
    assert_eq!(suites(&junit), "k 3 1 1 0\ncommand=error first= (missing)=failure\n");
    let text = fs::read_to_string(&junit).unwrap();
    assert!(text.contains("<error type=\"panic\" message=\"the kernel panicked: sysrq triggered crash\"/>"), "{text}");
    fs::remove_file(junit).unwrap();
}
