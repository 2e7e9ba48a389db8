//! Tests of the packages: the core has no std and no unsafe code, the runtimes are thin, and the published files are
//! complete.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use qemu_machine_tests::cargo::cargo;
use qemu_machine_tests::sources::{paths, read, root};
use serde_json::Value;

const BARE: &str = "x86_64-unknown-none";

/// The published packages, by their directories.
const PUBLISHED: [&str; 8] =
    ["core", "host", "runtime-blocking", "runtime-smol", "runtime-tokio", "runtime-mio", "guest", "qmpsh"];

/// Returns the metadata of the packages of the workspace.
fn packages() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let mut metadata: Value = metadata.parse().expect("cargo writes JSON");
    let Value::Array(packages) = metadata["packages"].take() else { panic!("cargo lists the packages") };
    packages
}

/// The runtimes, each with the maximum of its lines of code. Half of those of the blocking one, and most of those of mio,
/// are the methods of its handle; the handles of tasks are in the host.
const THIN: [(&str, usize); 4] =
    [("runtime-blocking", 940), ("runtime-mio", 760), ("runtime-smol", 200), ("runtime-tokio", 200)];

/// A runtime only connects the core to its way of waiting, so it is small. The code that the runtimes share is in the
/// host and not counted, nor are guides and unit tests.
#[test]
fn the_runtimes_are_thin() {
    for (runtime, most) in THIN {
        let sources = paths().into_iter().filter(|path| path.starts_with(&format!("{runtime}/src/")));
        let files = sources.filter(|path| path.ends_with(".rs") && !path.contains("/guides/"));
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let is_no_test = |line: &&str| *line != "#[cfg(test)]";
        let lines: usize =
            files.map(|file| read(file).text.lines().take_while(is_no_test).filter(is_code).count()).sum();
        println!("{runtime}: {lines} lines of code");
        assert!(lines > 100 && lines <= most, "{runtime} has {lines} lines of code");
        let manifest = read(format!("{runtime}/Cargo.toml")).text;
        let (needed, _) = manifest.split_once("[dev-dependencies]").expect("its tests need the guests");
        assert!(!needed.contains("serde_json"), "{runtime} depends on serde_json");
    }
}

/// A package has what is needed to build it, to read its docs and to run its examples: no tests and no fuzzer inputs.
#[test]
fn the_packages_hold_what_they_should() {
    for package in PUBLISHED {
        let manifest = format!("{package}/Cargo.toml");
        let list = cargo(&["package", "--list", "--allow-dirty", "--manifest-path", &manifest]);
        let (folders, files): (Vec<_>, Vec<_>) = list.lines().partition(|path| path.contains('/'));
        let mut known =
            vec!["Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];
        // In a git checkout, cargo adds this file.
        known.extend(files.contains(&".cargo_vcs_info.json").then_some(".cargo_vcs_info.json"));
        known.sort_unstable();
        assert_eq!(files, known, "{package}");
        let is_of_docs = |path: &str| path.starts_with("docs/") && (path.ends_with(".md") || path.ends_with(".svg"));
        let is_of_examples = |path: &str| path.starts_with("examples/") && path.ends_with(".jsonl");
        // The init of the guest, which the library includes.
        let is_init = |path: &str| package == "guest" && path == "src/init.sh";
        // The static parts of a report, which the library includes.
        let is_of_page = |path: &str| package == "core" && path.starts_with("src/record/report/page/");
        let is_text = |path: &str| is_of_docs(path) || is_of_examples(path) || is_init(path) || is_of_page(path);
        let is_known = |path: &&str| path.ends_with(".rs") || is_text(path);
        let unknown: Vec<_> = folders.iter().filter(|path| !is_known(path)).collect();
        assert!(unknown.is_empty(), "{package}: {unknown:?}");
        let docs = std::fs::read_dir(root().join(package).join("docs")).map_or(0, Iterator::count);
        let packed = folders.iter().filter(|path| path.starts_with("docs/")).count();
        assert_eq!(packed, docs, "{package}: {folders:?}");
    }
}

/// The metadata that a registry shows and requires. The bounds are those of crates.io.
#[test]
fn the_packages_have_the_metadata_that_a_registry_requires() {
    let published: Vec<_> = packages().into_iter().filter(|package| package["publish"].is_null()).collect();
    let directory = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a directory");
        manifest.file_name().and_then(|name| name.to_str()).map(String::from)
    };
    let mut directories: Vec<_> = published.iter().filter_map(directory).collect();
    let mut expected = PUBLISHED;
    directories.sort_unstable();
    expected.sort_unstable();
    assert_eq!(directories, expected, "the tests are not published");
    for package in published {
        let name = package["name"].as_str().expect("a name");
        for member in ["description", "license", "repository", "readme", "rust_version"] {
            assert!(package[member].as_str().is_some_and(|text| !text.is_empty()), "{name}: {member}");
        }
        let rust = if name == "qmpsh" { "1.95" } else { "1.85" };
        assert_eq!(package["rust_version"], rust, "{name}");
        let keywords = package["keywords"].as_array().expect("a list");
        let is_word = |word: &Value| word.as_str().is_some_and(|word| (1..=20).contains(&word.len()));
        assert!((1..=5).contains(&keywords.len()) && keywords.iter().all(is_word), "{name}: {keywords:?}");
        let categories = package["categories"].as_array().expect("a list");
        assert!((1..=5).contains(&categories.len()), "{name}: {categories:?}");
        let targets = package["targets"].as_array().expect("a list");
        let is_library = targets.iter().any(|target| target["kind"][0] == "lib");
        assert_eq!(is_library, name != "qmpsh", "{name}");
        // docs.rs documents libraries only.
        assert!(!is_library || package["metadata"]["docs"]["rs"]["all-features"] == true, "{name}");
        // A dependency with only a path cannot be published.
        let dependencies = package["dependencies"].as_array().expect("a list").iter();
        let mut needed = dependencies.filter(|dependency| dependency["kind"] != "dev");
        assert!(needed.all(|dependency| dependency["req"] != "*"), "{name}");
    }
}

#[test]
fn the_core_forbids_std_and_unsafe() {
    let source = read("core/src/lib.rs".into()).text;
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(source.lines().any(|line| line == attribute), "core/src/lib.rs has no line {attribute}");
    }
    let core = packages().into_iter().find(|package| package["name"] == "qemu-machine-core").expect("it is there");
    // Another feature could enable std, as `arbitrary` and `std` do, which are off by default.
    let known = ["arbitrary", "default", "record", "regex", "schema", "std"];
    let features = core["features"].as_object().expect("features have names");
    assert!(features.keys().all(|feature| known.contains(&feature.as_str())), "{features:?}");
    assert!(features.get("default").is_none_or(|on| *on == Value::Array(Vec::new())), "{features:?}");
    let dependencies = core["dependencies"].as_array().expect("a list");
    let (optional, always): (Vec<_>, Vec<_>) =
        dependencies.iter().filter(|one| one["kind"].is_null()).partition(|one| one["optional"] == true);
    let (tests, optional): (Vec<_>, Vec<_>) = optional.into_iter().partition(|one| one["name"] == "arbitrary");
    assert_eq!(tests.len(), 1, "{tests:?}");
    for dependency in always.into_iter().chain(optional) {
        assert_eq!(dependency["uses_default_features"], false, "{dependency}");
        let features = dependency["features"].as_array().expect("a list");
        assert!(!features.iter().any(|feature| feature == "std"), "{dependency}");
    }
}

#[test]
fn the_core_compiles_where_there_is_no_std() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = Command::new(rustc).args(["--print", "target-libdir", "--target", BARE]).output();
    let libraries = libraries.expect("rustc runs, as it compiled this test").stdout;
    if !Path::new(String::from_utf8_lossy(&libraries).trim()).exists() {
        // The test harness captures what `eprintln!` writes in a test that passes.
        let missing =
            format!("NOT PROVEN: that the core compiles without std; `rustup target add {BARE}` failed here\n");
        std::io::stderr().write_all(missing.as_bytes()).expect("stderr is open");
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    let directory = directory.to_str().expect("the target directory is UTF-8");
    let core = ["check", "--package", "qemu-machine-core", "--features", "record,regex,schema"];
    cargo(&[&core[..], &["--target", BARE, "--target-dir", directory]].concat());
}
