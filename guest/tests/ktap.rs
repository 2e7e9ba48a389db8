//! Tests of the parser of KTAP: the examples of the kernel's documentation, what KUnit and kselftest print, and crashes.

use proptest::prelude::*;
use qemu_machine_guest::ktap::{DEEPEST, MOST, Parser};
use qemu_machine_guest::{Case, Verdict, leaves};

fn parsed(text: &str) -> Vec<Case> {
    let mut parser = Parser::default();
    parser.push(text.as_bytes());
    parser.finish()
}

/// Returns a line for each test: two blanks for each level above it, the name, the verdict, and the reason in brackets.
fn outline(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let reason = case.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        text += &format!("{} {:?}{reason}\n", case.name, case.verdict);
        text.extend(outline(&case.cases).lines().map(|line| format!("  {line}\n")));
    }
    text
}

/// `Documentation/dev-tools/ktap.rst`, "Example KTAP output", with the prefixes of printk.
#[test]
fn subtests_of_kunit_are_read_behind_the_prefixes_of_printk() {
    let text = "\
[    0.101] Booting\n\
[    1.000000] KTAP version 1\r\n\
[    1.000001] 1..1\n\
[    1.000002]     KTAP version 1\n\
[    1.000003]     # Subtest: example\n\
[    1.000004]     1..4\n\
[    1.000005][    T1]     # example_simple_test: initializing\n\
<6>[    1.000006]     ok 1 example_simple_test\n\
[    1.000007] usb 1-1: new device\n\
[    1.000008]     # example_skip: EXPECTATION FAILED at a.c:7\n\
[    1.000009]     not ok 2 example_fail\n\
[    1.000010]         KTAP version 1\n\
[    1.000011]         # Subtest: params\n\
[    1.000012]         ok 1 zero\n\
[    1.000013]         ok 2 one # SKIP too slow\n\
[    1.000014]     ok 3 params\n\
[    1.000015]     not ok 4 known # TODO later\n\
[    1.000016] # example: pass:2 fail:1 skip:0 total:4\n\
[    1.000017] not ok 1 example\n";
    let cases = parsed(text);
    let expected = "\
example Failed\n  \
  example_simple_test Passed\n  \
  example_fail Failed\n  \
  params Passed\n    \
    zero Passed\n    \
    one Skipped (too slow)\n  \
  known ExpectedFailure (later)\n";
    assert_eq!(outline(&cases), expected);
    assert_eq!(cases[0].cases[0].diagnostics, ["example_simple_test: initializing"]);
    assert_eq!(cases[0].cases[1].diagnostics, ["example_skip: EXPECTATION FAILED at a.c:7"]);
    let names: Vec<_> = leaves(&cases).into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(
        names,
        [
            "example.example_simple_test",
            "example.example_fail",
            "example.params.zero",
            "example.params.one",
            "example.known"
        ]
    );
}

#[test]
fn the_output_of_a_program_below_the_runner_of_kselftest_is_its_subtests() {
    let text = "\
TAP version 13\n1..2\n# selftests: timers: posix_timers\n# TAP version 13\n# 1..2\n# ok 1 first\n# # detail\n\
# not ok 2 second # XFAIL hardware\nok 1 selftests: timers: posix_timers\n# selftests: size: get_size\n# hello\n\
not ok 2 selftests: size: get_size # exit=1\n";
    let expected = "\
selftests: timers: posix_timers Passed\n  \
  first Passed\n  \
  second ExpectedFailure (hardware)\n\
selftests: size: get_size Failed (exit=1)\n";
    assert_eq!(outline(&parsed(text)), expected);
}

#[test]
fn a_crash_leaves_tests_without_a_result() {
    let text = "KTAP version 1\n1..2\n    # Subtest: suite\n    1..3\n    ok 1 a\n[    2.0] BUG: kernel NULL pointer\n";
    let expected = "\
suite Missing (it has no result)\n  \
  a Passed\n  \
  (missing) Missing (the plan has 2 more)\n\
(missing) Missing (the plan has 1 more)\n";
    assert_eq!(outline(&parsed(text)), expected);
}

#[test]
fn only_documents_have_results() {
    assert_eq!(parsed("ok 1 no\n1..3\nnot ok 2 no\n# no\n"), []);
    assert_eq!(parsed("KTAP version one\nok 1 no\n"), []);
    assert_eq!(
        outline(&parsed("KTAP version 1\nok then\nnot ok\nok x\nok 1\nok 2 - dashed\n")),
        " Passed\ndashed Passed\n"
    );
}

#[test]
fn a_second_document_begins_again() {
    let text = "TAP version 13\n1..2\nok 1 a\nKTAP version 1\n1..2\nok 1 b\n1..7\nBail out! no disk\n";
    let expected = "\
a Passed\n(missing) Missing (the plan has 1 more)\nb Passed\nBail out! Failed (no disk)\n\
(missing) Missing (the plan has 1 more)\n";
    // The second plan of a document is ignored.
    assert_eq!(outline(&parsed(text)), expected);
}

#[test]
fn a_plan_of_none_is_complete() {
    assert_eq!(parsed("TAP version 13\n1..0 # SKIP no hardware\n"), []);
}

/// `ktap.rst`, "Test case result lines": numbers begin at 1 and increase by 1.
#[test]
fn numbers_that_are_missing_repeated_or_not_planned_fail() {
    let begin = "KTAP version 1\n1..3\n";
    let cases = [
        ("ok 1 a\nok 3 c\n", "a Passed\n(missing) Missing (number 2)\nc Passed\n"),
        ("ok 3 c\n", "(missing) Missing (numbers 1 to 2)\nc Passed\n"),
        (
            "ok 1 a\nok 2 b\nok 2 b\nok 3 c\n",
            "a Passed\nb Passed\n(wrong number) Failed (the number 2 comes after 2)\nb Passed\nc Passed\n",
        ),
        (
            "ok 1 a\nok 2 b\nok 3 c\n# more\nnot ok 4 d\n",
            "a Passed\nb Passed\nc Passed\n(not planned) Failed (the plan has no test 4)\nd Failed\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(outline(&parsed(&format!("{begin}{text}"))), expected, "{text}");
    }
}

#[test]
fn a_document_ends_with_its_plan() {
    let text = "KTAP version 1\n1..1\nok 1 a\n1..9\nok 7 of the command\nnot ok 1 of the command\n    # why\n";
    assert_eq!(outline(&parsed(text)), "a Passed\n");
    // The plan may be at the end.
    assert_eq!(outline(&parsed("TAP version 13\nok 1 a\n1..1\nnot ok 1 b\n")), "a Passed\n");
}

/// Modules of KUnit before Linux 6.0 print a suite without a version, after the plan of the suites that are built in.
#[test]
fn a_suite_of_a_module_continues_the_document() {
    let text =
        "TAP version 14\n1..1\nok 1 - built-in\n    # Subtest: late\n    1..1\n    not ok 1 - b\nnot ok 2 - late\n";
    assert_eq!(outline(&parsed(text)), "built-in Passed\nlate Failed\n  b Failed\n");
}

#[test]
fn a_version_and_nothing_else_is_a_failure() {
    let expected = "(missing) Missing (the document has neither a plan nor a result)\n";
    assert_eq!(outline(&parsed("KTAP version 1\nhello\n")), expected);
}

#[test]
fn a_second_document_of_subtests_is_not_the_first() {
    let inner = "  KTAP version 1\n  1..1\n  ok 1 a\n";
    let text = format!("KTAP version 1\n1..2\n{inner}{inner}ok 2 second\n");
    assert_eq!(outline(&parsed(&text)), " Missing (it has no result)\n  a Passed\nsecond Passed\n  a Passed\n");
    // The name of a level may be before its version.
    let text = "KTAP version 1\n1..1\n  # Subtest: x\n  KTAP version 1\n  1..1\n  ok 1 a\nok 1 x\n";
    assert_eq!(outline(&parsed(text)), "x Passed\n  a Passed\n");
}

#[test]
fn a_line_that_is_deeper_than_the_document_is_output() {
    assert_eq!(outline(&parsed("KTAP version 1\n1..1\n  not ok 5 output\nok 1 a\n")), "a Passed\n");
}

#[test]
fn failures_beyond_the_bound_are_counted() {
    let results: String = (1..=MOST + 2)
        .map(|number| format!("{} {number}\n", if number > MOST + 1 { "not ok" } else { "ok" }))
        .collect();
    let cases = parsed(&format!("KTAP version 1\n1..{}\n{results}", MOST + 2));
    assert_eq!(cases.len(), MOST + 1);
    assert_eq!(outline(&cases[MOST..]), "(not kept) Failed (2 more tests, of which 1 failed)\n");
}

#[test]
fn text_is_bounded() {
    let reason = "x".repeat(15 << 10);
    let results: String = (1..=5000).map(|number| format!("not ok {number} a # {reason}\n")).collect();
    let cases = parsed(&format!("KTAP version 1\n{results}"));
    let kept: usize = cases.iter().filter_map(|case| Some(case.reason.as_ref()?.len())).sum();
    assert!(kept < 65 << 20, "{kept}");
    assert_eq!(cases.last().map(|case| (&*case.name, case.verdict)), Some(("(not kept)", Verdict::Failed)));
}

#[test]
fn levels_are_bounded() {
    let mut text = String::new();
    for level in 0..100_000 / 100 {
        text += &format!("{}KTAP version 1\n", " ".repeat(level));
    }
    let mut deepest = 0;
    let mut cases = parsed(&text);
    while let Some(case) = cases.pop() {
        deepest += 1;
        cases = case.cases;
    }
    assert!(deepest < DEEPEST, "{deepest}");
}

proptest! {
    /// Output comes in pieces of any size.
    #[test]
    fn pieces_make_no_difference(
        lines in prop::collection::vec(
            prop_oneof![
                Just("KTAP version 1"), Just("  KTAP version 1"), Just("1..2"), Just("  1..2"), Just("ok 1 a"), Just("  not ok 2 b # SKIP"),
                Just("# Subtest: x"), Just("# ok 1 c"), Just("    ok 3"), Just("[  1.5] ok 4 d"), Just("Bail out!"), Just("# TAP version 13"),
            ],
            0..30,
        ),
        size in 1_usize..20,
    ) {
        let text = lines.join("\n");
        let mut parser = Parser::default();
        for piece in text.as_bytes().chunks(size) {
            parser.push(piece);
        }
        prop_assert_eq!(parser.finish(), parsed(&text));
    }

    /// Whatever a guest prints, the parser ends, and what it returns can be walked.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut parser = Parser::default();
        parser.push(b"KTAP version 1\n");
        parser.push(&bytes);
        let _ = leaves(&parser.finish());
    }
}
