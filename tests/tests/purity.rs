//! Proves what the published crates promise of themselves: what they depend on, and that the core needs no std.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BARE: &str = "x86_64-unknown-none";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(arguments: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).current_dir(root()).args(arguments).args(["--locked", "--offline"]).output();
    output.expect("cargo runs, as it runs this test")
}

/// The names of all crates that a crate brings into the tree of its user, itself first.
fn dependencies(package: &str) -> Vec<String> {
    dependencies_with(package, &[])
}

fn dependencies_with(package: &str, arguments: &[&str]) -> Vec<String> {
    let tree = ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none"];
    let output = cargo(&[&tree, arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("the names of crates are ASCII");
    let mut names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect();
    names[1..].sort();
    names.dedup();
    names
}

fn assert_dependencies(package: &str, most: usize) {
    let file = root().join("tests/dependencies").join(format!("{package}.txt"));
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let found = dependencies(package);
    assert!(found.len() <= most, "{package} brings {} crates, more than the {most} it may", found.len());
    let found = found.join("\n") + "\n";
    assert_eq!(committed, found, "{} is not what `cargo tree` says; a change is a decision", file.display());
}

#[test]
fn the_core_brings_only_what_is_listed() {
    assert_dependencies("qemu-machine-core", 16);
}

#[test]
fn the_blocking_runtime_brings_only_what_is_listed() {
    assert_dependencies("qemu-machine-blocking", 20);
}

#[test]
fn the_mio_runtime_brings_only_what_is_listed() {
    assert_dependencies("qemu-machine-mio", 26);
}

/// What smol itself brings is 35 of these, of which this runtime uses async-io and the global executor.
#[test]
fn the_smol_runtime_brings_only_what_is_listed() {
    assert_dependencies("qemu-machine-smol", 50);
}

/// What is told to `tracing` is told where that is asked for. The lists above are of what is there by default.
#[test]
fn row_36_tracing_comes_with_its_feature_and_not_without() {
    for package in ["qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol"] {
        let default = dependencies(package);
        assert!(!default.iter().any(|name| name.starts_with("tracing")), "{package}: {default:?}");
        let mut brought = dependencies_with(package, &["--features", "tracing"]);
        brought.retain(|name| !default.contains(name));
        brought.retain(|name| name != "pin-project-lite");
        assert_eq!(brought, ["once_cell", "tracing", "tracing-core"], "{package}");
    }
}

/// What not every user needs costs those who do need it no crate either.
#[test]
fn records_and_the_schema_bring_no_crate() {
    let runtimes = ["qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol"];
    for package in ["qemu-machine-core", "qemu-machine-host"].into_iter().chain(runtimes) {
        let with = dependencies_with(package, &["--features", "record,schema"]);
        assert_eq!(with, dependencies(package), "{package}");
    }
}

/// A runtime binds; it has no room for opinions. Its host side is shared and not counted, nor is what is not code.
#[test]
fn the_runtimes_are_thin() {
    for runtime in ["runtime-blocking", "runtime-smol", "runtime-mio"] {
        let sources = std::fs::read_dir(root().join(runtime).join("src")).expect("the runtime is there");
        let files = sources.map(|entry| entry.expect("it can be listed").path()).filter(|path| path.is_file());
        let code = |text: String| {
            let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
            text.lines().filter(is_code).count()
        };
        let lines: usize = files.map(|file| code(std::fs::read_to_string(file).expect("it is text"))).sum();
        println!("{runtime}: {lines} lines of code");
        assert!(lines <= 650, "{runtime} has {lines} lines of code");
        let manifest = std::fs::read_to_string(root().join(runtime).join("Cargo.toml")).expect("it has a manifest");
        let (needed, _) = manifest.split_once("[dev-dependencies]").expect("its tests need the guests");
        assert!(!needed.contains("serde_json"), "{runtime} reads JSON by itself");
    }
}

/// What is uploaded is what is needed to build, to read and to try: no tests, no inputs of a fuzzer, nothing forgotten.
#[test]
fn the_packages_hold_what_they_should() {
    for package in ["core", "runtime-blocking", "runtime-smol", "runtime-mio"] {
        let manifest = root().join(package).join("Cargo.toml");
        let manifest = manifest.to_str().expect("our own path is text");
        let output = cargo(&["package", "--list", "--allow-dirty", "--manifest-path", manifest]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list = String::from_utf8(output.stdout).expect("our own paths are text");
        let (folders, files): (Vec<_>, Vec<_>) = list.lines().partition(|path| path.contains('/'));
        let mut known =
            vec!["Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];
        // It is there where git is.
        known.extend(files.contains(&".cargo_vcs_info.json").then_some(".cargo_vcs_info.json"));
        known.sort_unstable();
        assert_eq!(files, known, "{package}");
        let is_of_docs = |path: &str| path.starts_with("docs/") && (path.ends_with(".md") || path.ends_with(".svg"));
        let is_of_examples = |path: &str| path.starts_with("examples/") && path.ends_with(".jsonl");
        let is_known = |path: &&str| path.ends_with(".rs") || is_of_docs(path) || is_of_examples(path);
        let unknown: Vec<_> = folders.iter().filter(|path| !is_known(path)).collect();
        assert!(unknown.is_empty(), "{package}: {unknown:?}");
        let docs = std::fs::read_dir(root().join(package).join("docs")).map_or(0, Iterator::count);
        let packed = folders.iter().filter(|path| path.starts_with("docs/")).count();
        assert_eq!(packed, docs, "{package}: {folders:?}");
    }
}

/// What a registry shows of a crate, and refuses a crate without. The bounds are those of crates.io.
#[test]
fn the_packages_say_what_they_are() {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list").iter();
    let published: Vec<_> = packages.filter(|package| package["publish"].is_null()).collect();
    assert_eq!(published.len(), 4, "the tests stay here");
    for package in published {
        for member in ["description", "license", "repository", "readme", "rust_version"] {
            assert!(package[member].as_str().is_some_and(|text| !text.is_empty()), "{}: {member}", package["name"]);
        }
        let keywords = package["keywords"].as_array().expect("a list");
        let is_word = |word: &serde_json::Value| word.as_str().is_some_and(|word| (1..=20).contains(&word.len()));
        assert!((1..=5).contains(&keywords.len()) && keywords.iter().all(is_word), "{keywords:?}");
        assert!((1..=5).contains(&package["categories"].as_array().map_or(0, Vec::len)), "{}", package["categories"]);
        assert_eq!(package["metadata"]["docs"]["rs"]["all-features"], true, "{}", package["name"]);
        // A dependency by its path alone is one that nobody else has.
        let dependencies = package["dependencies"].as_array().expect("a list").iter();
        let mut needed = dependencies.filter(|dependency| dependency["kind"] != "dev");
        assert!(needed.all(|dependency| dependency["req"] != "*"), "{}", package["name"]);
    }
}

#[test]
fn the_core_forbids_std_and_unsafe() {
    let source = std::fs::read_to_string(root().join("core/src/lib.rs")).expect("the core is there");
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(source.lines().any(|line| line == attribute), "core/src/lib.rs has no line {attribute}");
    }
    let manifest = std::fs::read_to_string(root().join("core/Cargo.toml")).expect("the core is there");
    let (_, features) = manifest.split_once("[features]\n").expect("it has features");
    let features = features.lines().take_while(|line| !line.starts_with('['));
    let features: Vec<_> = features.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(features, ["record = []", "schema = []"], "a feature could let std in");
}

#[test]
fn the_core_builds_where_there_is_no_std() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = Command::new(rustc).args(["--print", "target-libdir", "--target", BARE]).output();
    let libraries = libraries.expect("rustc runs, as it compiled this test").stdout;
    if !Path::new(String::from_utf8_lossy(&libraries).trim()).exists() {
        // Not with a macro that the test harness hides when the test passes.
        let missing = format!("NOT PROVEN: that the core builds without std; `rustup target add {BARE}` failed here\n");
        std::io::stderr().write_all(missing.as_bytes()).expect("stderr is open");
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    let directory = directory.to_str().expect("the target directory is UTF-8");
    for features in ["", "record", "schema", "record,schema"] {
        let package = ["check", "--package", "qemu-machine-core", "--features", features];
        let output = cargo(&[&package[..], &["--target", BARE, "--target-dir", directory]].concat());
        assert!(output.status.success(), "with {features:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
