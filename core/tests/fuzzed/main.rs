//! Proves of every input that a fuzzer found worth keeping what is fuzzed; and of those that bash reads command lines as
//! our reader does.

mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use targets::command_line::shown;
use targets::shell::is_special;

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

#[test]
fn message() {
    replay("message");
}

#[test]
fn record() {
    replay("record");
}

/// What a script prints in bash, between zeros.
fn in_bash(script: &str) -> Vec<Vec<u8>> {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", script]).env("LC_ALL", "C").stdin(Stdio::null());
    let output = bash.output().expect("bash is there");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout.split_inclusive(|byte| *byte == 0).map(|word| word[..word.len() - 1].to_vec()).collect()
}

/// Behind a command, so that nothing of it is executed.
#[test]
fn bash_reads_the_words_that_our_reader_does() {
    let mut script = String::from("told() { printf '%s\\0' $# \"$@\"; }\n");
    let mut expected = Vec::new();
    for (line, words) in corpus("command_line").iter().filter_map(|file| shown(&fs::read(file).unwrap())) {
        script.extend(["told ", &line, "\n"]);
        expected.push(words.len().to_string().into_bytes());
        expected.extend(words);
    }
    assert!(expected.len() > 100, "the corpus has command lines");
    assert_eq!(in_bash(&script), expected);
}

/// What it takes for its own where a command stands.
#[test]
fn our_reader_knows_the_reserved_words_of_bash() {
    let words = in_bash("compgen -k | tr '\\n' '\\0'");
    assert!(words.len() > 15, "{words:?}");
    for word in words.iter().filter(|word| word.iter().all(u8::is_ascii_alphabetic)) {
        assert!(is_special(word), "{}", String::from_utf8_lossy(word));
    }
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
    assert_eq!(names, ["command_line", "framing", "machine", "matcher", "message", "record", "session"]);
}
