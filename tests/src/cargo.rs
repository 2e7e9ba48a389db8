//! Queries to cargo about the packages of this workspace.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::sources::root;

/// Runs cargo at the root of the workspace, without network access, and returns its output.
///
/// # Panics
///
/// If cargo cannot be run, or fails; the message has its error output.
pub fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).current_dir(root()).args(arguments).args(["--locked", "--offline"]).output();
    let Output { status, stdout, stderr } = output.expect("cargo runs, as it runs this test");
    assert!(status.success(), "cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("the output of cargo is UTF-8")
}

/// Returns the names of all crates that a package adds to a build, sorted, including the package itself.
///
/// `arguments` select the features.
#[must_use]
pub fn dependencies(package: &str, arguments: &[&str]) -> Vec<String> {
    let tree = ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none"];
    let tree = cargo(&[&tree, arguments].concat());
    let mut names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect();
    names.sort();
    names.dedup();
    names
}

/// Builds an example, and returns its executable. `arguments` select the features.
///
/// It is built with the features of the whole workspace, as the tests are. `cargo run --package` would compile its
/// dependencies again, for each package with other features.
///
/// # Panics
///
/// If there is no such example, or it does not compile.
#[must_use]
pub fn example(name: &str, arguments: &[&str]) -> PathBuf {
    let build = ["build", "--workspace", "--example", name, "--message-format", "json"];
    let messages = cargo(&[&build, arguments].concat());
    let messages = messages.lines().filter_map(|line| line.parse::<Value>().ok());
    let mut built = messages.filter(|message| message["target"]["name"] == name);
    let program = built.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.expect("cargo names the executable")
}
