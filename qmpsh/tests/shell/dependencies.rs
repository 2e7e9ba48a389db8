//! Decides which crates the shell brings, to those who want it and to nobody else.
//!
//! It stands here and not beside the lists of the others, because a build without the shell does not fetch them.

use std::collections::BTreeSet;
use std::process::Command;

use qemu_machine_tests::leak_check::alone;

/// The names of all crates that the runtime brings with these features.
fn brought(features: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none"];
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .args(["--package", env!("CARGO_PKG_NAME"), "--features", features])
        .output()
        .expect("cargo runs, as it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("the names of crates are ASCII");
    tree.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

#[test]
fn the_shell_brings_what_it_needs_with_its_feature_and_not_without() {
    // The others count processes.
    let _alone = alone();
    let (without, with) = (brought(""), brought("shell"));
    let added: Vec<_> = with.difference(&without).map(String::as_str).collect();
    let listed = [
        "buffer-redux",
        "cfg-if",
        "cfg_aliases",
        "errno",
        "lexopt",
        "libc",
        "log",
        "nix",
        "rustyline",
        "signal-hook",
        "signal-hook-registry",
        "unicode-segmentation",
        "unicode-width",
        "utf8parse",
    ];
    assert_eq!(added, listed, "a change is a decision");
}
