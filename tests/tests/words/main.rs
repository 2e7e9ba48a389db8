//! Tests of the names and the prose of the project: no retired identifier and no phrase of a list is used, some names have
//! only one definition, and rules cite their sources.
//!
//! `.ci/words` runs them. `allowed.txt` lists the exceptions.

mod find;
mod prose;
mod table;

use std::collections::BTreeMap;

use qemu_machine_tests::sources::{Source, paths, read};

use find::{Finding, Judge, definitions, matches};
use table::ONCE;

/// The files of the repository. Only Rust and Markdown files are read; of the others, only the path is checked.
fn sources() -> Vec<Source> {
    let is_read = |path: &str| path.ends_with(".rs") || path.ends_with(".md");
    // This directory holds the patterns and the examples that test them.
    let ours = paths().into_iter().filter(|path| !path.starts_with("tests/tests/words/") && !path.ends_with(".lock"));
    ours.map(|path| if is_read(&path) { read(path) } else { Source { path, text: String::new() } }).collect()
}

/// A line of `allowed.txt`: a path or its first components, a name or pattern, and the reason.
struct Allowed<'a> {
    line: &'a str,
    path: &'a str,
    name: &'a str,
}

fn allowed(list: &str) -> Vec<Allowed<'_>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (entry, reason) = line.split_once(" # ").unwrap_or_else(|| panic!("no reason: {line}"));
        let words: Vec<_> = entry.split_whitespace().collect();
        let [path, name] = words[..] else { panic!("not a path and a name: {line}") };
        assert!(reason.len() > 5, "no reason: {line}");
        Allowed { line, path, name }
    });
    parsed.collect()
}

impl Allowed<'_> {
    fn allows(&self, found: &Finding) -> bool {
        let is_there =
            self.path == "*" || found.path == self.path || found.path.starts_with(&format!("{}/", self.path));
        is_there && matches(self.name, &found.name)
    }
}

/// Returns the findings that are not allowed, and the exceptions that allow no finding.
fn wrong(sources: &[Source], list: &str) -> Vec<String> {
    let allowed = allowed(list);
    let mut used = vec![false; allowed.len()];
    let mut wrong = Vec::new();
    let mut judge = Judge::default();
    let prose = sources.iter().flat_map(prose::find);
    for found in sources.iter().flat_map(|source| judge.find(source)).chain(twice(sources)).chain(prose) {
        let by = allowed.iter().position(|allowed| allowed.allows(&found));
        match by {
            Some(by) => used[by] = true,
            None => wrong.push(found.told()),
        }
    }
    let unused = allowed.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(unused.map(|(allowed, _)| format!("allowed.txt allows nothing with the line: {}", allowed.line)));
    wrong
}

/// Finds types that are defined more than once, and each `fn settle` that is not the lifecycle's.
fn twice(sources: &[Source]) -> Vec<Finding> {
    let mut types: BTreeMap<&str, Vec<(&Source, usize)>> = BTreeMap::new();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        for token in definitions(&source.text, &["struct", "enum", "trait"]) {
            if let Some(name) = ONCE.iter().find(|name| **name == token.text) {
                types.entry(name).or_default().push((source, token.line));
            }
        }
        for token in definitions(&source.text, &["fn"]) {
            if token.text == "settle" && !source.path.starts_with("core/src/lifecycle/") {
                found.push(Finding::new(source, token.line, "settle", "a name of its own: the lifecycle settles"));
            }
        }
    }
    for (name, places) in types.into_iter().filter(|(_, places)| places.len() > 1) {
        let right = format!("a name of its own: {} types are called so", places.len());
        found.extend(places.into_iter().map(|(source, line)| Finding::new(source, line, name, &right)));
    }
    found
}

#[test]
fn no_retired_or_ambiguous_name_is_left() {
    let wrong = wrong(&sources(), include_str!("allowed.txt"));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn each_file_says_what_it_is() {
    let rust = sources().into_iter().filter(|source| source.path.ends_with(".rs"));
    let wrong: Vec<_> = rust.filter(|source| !prose::has_head(source)).map(|source| source.path).collect();
    assert!(wrong.is_empty(), "their first line is not `//! ` and a noun: {wrong:#?}");
}

/// Rules about the wire, QEMU, the agent and the kernel say where they come from.
#[test]
fn the_core_and_the_host_cite_their_sources() {
    for (folder, least) in [("core/src/", 150), ("host/src/", 60)] {
        let counted: usize =
            sources().iter().filter(|source| source.path.starts_with(folder)).map(prose::citations).sum();
        assert!(counted >= least, "{folder} has {counted} lines with citations, and {least} are wanted");
    }
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

#[test]
fn a_retired_name_is_found() {
    let files = [
        source(
            "a.rs",
            "/// As `Tester`, a tester.\nfn let_go() { vm.unlisten(Owner::Lost, \"Tester\") }\nstruct InFlight;",
        ),
        source("core/tester.rs", "fn test(kept: Kept) -> Kept { enum A { Kept } }"),
        source("a.md", "# The tester\n\n`Vm::tester`, and its flight, `in_flight` or `Flight`."),
        source("told/main.rs", "use std::collections::btree_map::Entry; use crate::lifecycle::{self, Input, Intent};"),
    ];
    let expected = [
        "a.rs:2: let_go: disconnect, detach or disown",
        "a.rs:2: unlisten: unsubscribe",
        "a.rs:2: Lost: Owner::Unmatched",
        "a.rs:1: Tester: qtest",
        "core/tester.rs:1: Kept: Detachable, or Detached",
        "core/tester.rs:0: tester.rs: qtest",
        "a.md:3: tester: qtest",
        "a.md:3: Flight: InFlight",
        "told/main.rs:1: Input: lifecycle::Input, with its module",
        "told/main.rs:0: told: traced",
    ];
    assert_eq!(wrong(&files, ""), expected);
}

#[test]
fn a_name_with_two_definitions_is_found() {
    let files = [
        source("a.rs", "enum Kind {} trait Line {} impl A { fn settle() {} }"),
        source("b.rs", "pub struct Kind;"),
        source("core/src/lifecycle/settle.rs", "fn settle() {}"),
    ];
    let expected = [
        "a.rs:1: settle: a name of its own: the lifecycle settles",
        "a.rs:1: Kind: a name of its own: 2 types are called so",
        "b.rs:1: Kind: a name of its own: 2 types are called so",
    ];
    assert_eq!(wrong(&files, ""), expected);
}

#[test]
fn an_exception_that_allows_nothing_is_reported() {
    let files = [source("a/b.rs", "fn listen() {}"), source("c.rs", "type A = UnixListener;")];
    let list = "# A comment.\na listen # sockets\n* UnixListener # of std\nc.rs keeper # nothing of the kind";
    let expected = ["allowed.txt allows nothing with the line: c.rs keeper # nothing of the kind"];
    assert_eq!(wrong(&files, list), expected);
}

#[test]
#[should_panic(expected = "no reason")]
fn an_exception_has_a_reason() {
    allowed("a.rs listen");
}
