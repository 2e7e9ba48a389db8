//! Source files of this repository, for tests of names and of structure.

mod lex;
pub mod modules;
pub mod uses;

use std::fs;
use std::path::{Path, PathBuf};

pub use lex::{Lexed, Token, lex};

/// The directories without sources: build output, and the files of the fuzzer.
const SKIPPED: [&str; 4] = ["target", "corpus", "artifacts", "coverage"];

/// A file with its path and text.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path from the root of the repository, with `/`.
    pub path: String,
    /// The text of the file.
    pub text: String,
}

/// Returns the root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the paths of all files below the root, sorted. Hidden files are left out, but for those in `.ci` and
/// `.github`.
///
/// The directories are read instead of git's index: the file systems of other Debian releases, where the tests run as
/// well, have no git.
///
/// # Panics
///
/// If a directory cannot be read.
#[must_use]
pub fn paths() -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort();
    found
}

/// Returns all Rust files below the root.
///
/// # Panics
///
/// If a file cannot be read, or is not UTF-8.
#[must_use]
pub fn rust() -> Vec<Source> {
    let rust = paths().into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(read).collect()
}

/// Returns one file.
///
/// # Panics
///
/// If it cannot be read, or is not UTF-8.
#[must_use]
pub fn read(path: String) -> Source {
    let text = fs::read_to_string(root().join(&path));
    let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path, text }
}

fn walk(directory: &Path, path: &str, found: &mut Vec<String>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("the whole directory can be read");
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.starts_with('.') && name != ".ci" && name != ".github";
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let kind = entry.file_type().expect("the directory entry has a type");
        if kind.is_dir() && !hidden && !SKIPPED.contains(&name) {
            walk(&entry.path(), &below, found);
        } else if kind.is_file() && !hidden {
            found.push(below);
        }
    }
}
