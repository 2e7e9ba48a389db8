//! Proves of every input that a fuzzer found worth keeping what is fuzzed; and of those that bash reads command lines as
//! our reader does.

mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a target, in their order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let files = corpus(target);
    assert!(files.len() >= 10, "the corpus of {target} is there");
    for file in files {
        println!("{}", file.display());
        targets::run(target, &fs::read(&file).unwrap());
    }
}

#[test]
fn framing() {
    replay("framing");
}

#[test]
fn session() {
    replay("session");
}

#[test]
fn machine() {
    replay("machine");
}

#[test]
fn matcher() {
    replay("matcher");
}

#[test]
fn command_line() {
    replay("command_line");
}

/// One that is not replayed proves nothing.
#[test]
fn every_target_has_a_corpus_and_a_program() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        assert!(!corpus(name).is_empty() && manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    let mut names: Vec<_> =
        fs::read_dir(fuzz.join("corpus")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["command_line", "framing", "machine", "matcher", "session"]);
}
