//! Tests that compare the numbers in test names with the promises in `tests/promises.md`.

use std::collections::{BTreeMap, BTreeSet};

use qemu_machine_tests::sources::{Source, lex, read, rust};

/// The listed promises: whether each number is tested.
type Promises = BTreeMap<String, bool>;

/// Reads the rows of the page. A row that cannot be parsed panics, because nothing would check it.
fn listed(page: &str) -> Promises {
    let mut promises = Promises::new();
    for line in page.lines().filter(|line| line.starts_with("| g") || line.starts_with("| row_")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let tested = match cells[..] {
            [_, number, "tested", text, _] if numbers(&format!("{number}_")) == [number] && text.len() > 20 => true,
            [_, number, "open", text, _] if numbers(&format!("{number}_")) == [number] && text.len() > 20 => false,
            _ => panic!("not a number, `tested` or `open`, and a sentence: {line}"),
        };
        assert!(promises.insert(cells[1].into(), tested).is_none(), "listed twice: {line}");
    }
    promises
}

/// Returns the numbers at the beginning of a name: `g05` and `g12` for `g05_g12_no_run_fails`.
fn numbers(name: &str) -> Vec<&str> {
    let mut numbers = Vec::new();
    let mut rest = name;
    loop {
        let digits = rest.strip_prefix('g').or_else(|| rest.strip_prefix("row_")).unwrap_or_default();
        let is_number = digits.len() > 2 && digits.as_bytes()[..2].iter().all(u8::is_ascii_digit);
        if !is_number || digits.as_bytes()[2] != b'_' {
            return numbers;
        }
        let length = rest.len() - digits.len() + 2;
        numbers.push(&rest[..length]);
        rest = &rest[length + 1..];
    }
}

/// Returns the names with a number in the code of files: test functions, stories, and the peers of tests.
fn names(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        let lexed = lex(&source.text);
        let numbered = lexed.tokens.iter().filter(|token| !numbers(token.text).is_empty());
        names.extend(numbered.map(|token| token.text.to_owned()));
    }
    names
}

/// Returns the differences between the page and the names.
fn differences(promises: &Promises, names: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for name in names {
        for number in numbers(name) {
            used.insert(number);
            match promises.get(number) {
                None => wrong.push(format!("{name}: tests/promises.md has no {number}")),
                Some(false) => wrong.push(format!("{name}: tests/promises.md says that {number} is open")),
                Some(true) => {}
            }
        }
    }
    let untested = promises.iter().filter(|(number, tested)| **tested && !used.contains(number.as_str()));
    wrong.extend(
        untested
            .map(|(number, _)| format!("tests/promises.md says that {number} is tested, and no test has that number")),
    );
    wrong
}

#[test]
fn each_number_is_listed_and_each_promise_is_tested_or_open() {
    let promises = listed(&read("tests/promises.md".into()).text);
    let all: BTreeSet<_> = promises.keys().cloned().collect();
    let failures = (1..=40).map(|number| format!("g{number:02}"));
    let expected: BTreeSet<_> = failures.chain((1..=38).map(|number| format!("row_{number:02}"))).collect();
    assert_eq!(all, expected);
    let sources = rust();
    let (tests, others): (Vec<_>, Vec<_>) = sources.into_iter().partition(|source| source.path.contains("/tests/"));
    let tests = names(&tests);
    assert!(tests.len() > 200, "hardly any names: {tests:?}");
    let played = names(&others);
    let unplayed: Vec<_> = played.difference(&tests).collect();
    assert!(unplayed.is_empty(), "names with a number that no test has: {unplayed:?}");
    assert_eq!(differences(&promises, &tests), [""; 0]);
}

#[test]
fn a_missing_an_unlisted_and_an_open_promise_are_found() {
    let page = "| number | state | promise |\n| g01 | tested | A sentence about the first. |\n\
                | g02 | tested | A sentence about the second. |\n| row_03 | open | A sentence about the third. |\n";
    let test =
        "#[test] fn g01_g04_a() {} // g02_in_a_comment\nprove! { row_03_b } fn g1_c() {} const D: &str = \"g02_e\";";
    let names = names(&[Source { path: "a.rs".into(), text: test.into() }]);
    let expected = [
        "g01_g04_a: tests/promises.md has no g04",
        "row_03_b: tests/promises.md says that row_03 is open",
        "tests/promises.md says that g02 is tested, and no test has that number",
    ];
    assert_eq!(differences(&listed(page), &names), expected);
}

#[test]
#[should_panic(expected = "listed twice")]
fn a_promise_is_listed_once() {
    listed("| g01 | tested | A sentence about the first. |\n| g01 | open | A sentence about the first. |");
}
