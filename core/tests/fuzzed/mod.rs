//! Replay of the fuzz corpora, and of inputs that resemble them, by every build; and a comparison of bash with the shell
//! reader of the fuzz targets.

pub(crate) mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use targets::command_line::shown;
use targets::shell::is_special;

/// Returns the corpus files of a target, sorted.
fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let files = corpus(target);
    assert!(files.len() >= 10, "the corpus of {target} has only {} files", files.len());
    for file in files {
        println!("{}", file.display());
        targets::run(target, &fs::read(&file).unwrap());
    }
    for (name, seed) in targets::long::seeds(target) {
        println!("{target}: long seed {name}, {} bytes", seed.len());
        targets::run(target, &seed);
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
fn world() {
    replay("world");
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

/// A change of an input: bytes from a place on are replaced by others.
type Change = (prop::sample::Index, usize, Vec<u8>);

fn changed(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for (place, length, bytes) in changes {
        let from = place.index(input.len() + 1);
        let to = input.len().min(from + length);
        input.splice(from..to, bytes.iter().copied());
    }
    input
}

/// Inputs that resemble those of the corpora: a fuzzer tries such inputs as well, and searches for new code with them.
#[test]
fn the_properties_hold_for_changed_inputs() {
    let place = any::<prop::sample::Index>;
    // Half of the bytes have a meaning in JSON, or none in a string.
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\n0e-. \n\t\x01\x1f".to_vec())];
    let changes = vec((place(), 0..4_usize, vec(byte(), 0..4)), 1..5);
    // A runner counts its cases over all runs, so each target has a runner of its own.
    let runner = || TestRunner::new(ProptestConfig::default());
    for (name, _) in targets::ALL {
        let inputs: Vec<_> = corpus(name).iter().map(|file| fs::read(file).unwrap()).collect();
        let changed = (place(), &changes).prop_map(|(which, changes)| changed(which.get(&inputs).clone(), &changes));
        runner()
            .run(&changed, |input| {
                targets::run(name, &input);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Returns what a script prints in bash, split at NUL bytes.
fn in_bash(script: &str) -> Vec<Vec<u8>> {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", script]).env("LC_ALL", "C").stdin(Stdio::null());
    let output = bash.output().expect("bash is installed");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout.split_inclusive(|byte| *byte == 0).map(|word| word[..word.len() - 1].to_vec()).collect()
}

/// The words are arguments of a function, so that bash executes none of them.
#[test]
fn bash_and_the_shell_reader_agree_on_the_words_of_a_line() {
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

/// Bash interprets a reserved word in command position.
#[test]
fn the_shell_reader_knows_the_reserved_words_of_bash() {
    let words = in_bash("compgen -k | tr '\\n' '\\0'");
    assert!(words.len() > 15, "{words:?}");
    for word in words.iter().filter(|word| word.iter().all(u8::is_ascii_alphabetic)) {
        assert!(is_special(word), "{}", String::from_utf8_lossy(word));
    }
}

/// A target without a corpus is never replayed, and so tests nothing.
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
    assert_eq!(names, ["command_line", "framing", "matcher", "message", "record", "session", "world"]);
}
