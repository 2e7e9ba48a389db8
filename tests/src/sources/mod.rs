//! The project's own files, as tests of names and of structure read them.

mod lex;
pub mod modules;
pub mod uses;

use std::fs;
use std::path::{Path, PathBuf};

pub use lex::{Lexed, Token, lex};

/// The directories that hold nothing of ours: what is built, and what the fuzzer found.
const SKIPPED: [&str; 4] = ["target", "corpus", "artifacts", "coverage"];

/// A file, by its path below the root.
#[derive(Clone, Debug)]
pub struct Source {
    /// With `/`, from the root of the repository.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the paths of all files below the root, sorted. Files of the scripts' directory are among them.
///
/// The directories are read instead of git's index: the roots of other releases, where the tests run as well, have no git.
///
/// # Panics
///
/// When a directory cannot be read.
#[must_use]
pub fn paths() -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort();
    found
}

/// Returns all files of Rust below the root.
///
/// # Panics
///
/// When a file cannot be read, or is not text.
#[must_use]
pub fn rust() -> Vec<Source> {
    let rust = paths().into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(read).collect()
}

/// Returns one file.
///
/// # Panics
///
/// When it cannot be read, or is not text.
#[must_use]
pub fn read(path: String) -> Source {
    let text = fs::read_to_string(root().join(&path));
    let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path, text }
}

fn walk(directory: &Path, path: &str, found: &mut Vec<String>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("a directory can be read to its end");
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.starts_with('.') && name != ".ci" && name != ".github";
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let kind = entry.file_type().expect("a directory knows what it holds");
        if kind.is_dir() && !hidden && !SKIPPED.contains(&name) {
            walk(&entry.path(), &below, found);
        } else if kind.is_file() && !hidden {
            found.push(below);
        }
    }
}
