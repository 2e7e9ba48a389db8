//! Tests of several kernels and of results: the table, KTAP of the guest, JUnit XML, TAP.

use std::fs;

use qemu_machine_tests::leak_check::Scratch;

use crate::run::{kernel, quietly, suites};

/// A script that prints KTAP and lines around it. Its tests are named after what happens to them.
const KTAP: &str = "\
echo KTAP version 1; echo 1..4; echo '  KTAP version 1'; echo '  1..1'; echo '  ok 1 inner<&>'; \
echo '<6>[    1.5] ok 1 outer' ; echo unrelated; echo '# why it failed'; echo 'not ok 2 bad'; \
echo 'ok 3 skipped # SKIP no disk'; echo 'not ok 4 known # XFAIL later'";

/// The same kernel twice, with other names.
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

/// The lines are those of a module that runs its tests when it is loaded, and one that is an error.
#[test]
fn a_quiet_run_reads_the_tests_in_messages_of_the_kernel_and_shows_only_errors() {
    let script = "printf 'partial '; echo '<3>an error' >/dev/kmsg; \
        for line in 'KTAP version 1' '1..2' 'ok 1 good' 'not ok 2 bad'; do echo \"<6>$line\" >/dev/kmsg; done; \
        echo done; dmesg | grep -c 'ok 1 good'";
    for options in [&[][..], &["--append", "pnpacpi=off 8250.nr_uarts=1"]] {
        let run = quietly(options, script);
        assert_eq!((run.code, &*run.stderr), (Some(1), "kernel-test: 1 of 2 tests failed: bad\n"), "{run:#?}");
        let shown = run.stdout.replace('\r', "");
        let (before, after) = shown.split_once("] an error\n").unwrap_or_else(|| panic!("{run:#?}"));
        assert!(before.contains("partial [ ") && after.contains("done\n1\n") && !shown.contains("good"), "{run:#?}");
    }
}

/// Each has the code of its end, and its tests in the summary.
#[test]
fn the_summary_has_the_tests_of_a_run_that_did_not_end_well() {
    let begin = "echo TAP version 13; echo 1..5; echo ok 1 first; echo not ok 2 second; ";
    let plan = "2 of 3 tests failed: second, (missing): the plan has 3 more\n";
    for (end, code, word, message) in [
        ("exit 6", 6, "exit 6", ""),
        ("exit 0", 1, "tests", ""),
        (
            "poweroff -f",
            122,
            "ended",
            "kernel-test: k: the machine ended before the command did: powered off by the guest\n",
        ),
        ("echo c >/proc/sysrq-trigger", 121, "panic", "kernel-test: k: the kernel panicked: sysrq triggered crash\n"),
    ] {
        let kernels = ["-k", &format!("k={}", kernel()), "-k", "none=/nonexistent"];
        let run = quietly(&kernels, &format!("{begin}{end}"));
        assert_eq!(run.code, Some(code), "{run:#?}");
        let row = run.stdout.lines().find(|line| line.starts_with("k   ")).unwrap_or_default();
        let fields: Vec<_> = row.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect();
        assert_eq!(fields[..3], ["k", word, "3, 2 failed"], "{run:#?}");
        assert!(run.stderr.contains(message) && run.stderr.ends_with(&format!("kernel-test: k: {plan}")), "{run:#?}");
    }
}
