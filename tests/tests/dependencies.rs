//! The crates that each package brings, with each set of features: listed, within a budget, and none for a feature that is off.
//!
//! `tests/dependencies/` has the lists: a crate a line, and behind `#` what it is for. A change of one is a decision.

use std::collections::BTreeSet;

use qemu_machine_tests::cargo::{cargo, dependencies};
use qemu_machine_tests::sources::{paths, read};

/// A package, its features (`-default` stands for none by default), and how many crates it may bring, itself counted.
const LISTED: &[(&str, &[&str], usize)] = &[
    ("qemu-machine-core", &[], 15),
    ("qemu-machine-core", &["record"], 15),
    ("qemu-machine-core", &["schema"], 15),
    ("qemu-machine-host", &[], 19),
    ("qemu-machine-host", &["tracing"], 23),
    ("qemu-machine-host", &["qapi"], 24),
    ("qemu-machine-blocking", &[], 20),
    ("qemu-machine-blocking", &["tracing"], 24),
    ("qemu-machine-blocking", &["qapi"], 25),
    ("qemu-machine-mio", &[], 24),
    ("qemu-machine-mio", &["tracing"], 28),
    ("qemu-machine-mio", &["qapi"], 29),
    ("qemu-machine-smol", &[], 50),
    ("qemu-machine-smol", &["-default"], 40),
    ("qemu-machine-smol", &["tracing"], 53),
    ("qemu-machine-smol", &["qapi"], 55),
    ("qmpsh", &[], 35),
];

/// The name of a list: `qemu-machine-host+tracing`.
fn name(package: &str, features: &[&str]) -> String {
    features.iter().fold(package.to_owned(), |name, feature| match feature.strip_prefix('-') {
        Some(feature) => format!("{name}-{feature}"),
        None => format!("{name}+{feature}"),
    })
}

/// The arguments of cargo that choose features.
fn arguments<'a>(features: &[&'a str]) -> Vec<&'a str> {
    let chosen = features.iter().flat_map(|feature| match *feature {
        "-default" => vec!["--no-default-features"],
        feature => vec!["--features", feature],
    });
    chosen.collect()
}

/// A list: each crate, with what it is for, where that is said.
fn listed(text: &str) -> Vec<(&str, Option<&str>)> {
    let crates = text.lines().map(|line| match line.split_once(" # ") {
        Some((name, purpose)) => (name.trim(), Some(purpose)),
        None => (line, None),
    });
    crates.collect()
}

#[test]
fn each_package_brings_what_is_listed() {
    for (package, features, most) in LISTED {
        let file = format!("tests/dependencies/{}.txt", name(package, features));
        let text = read(file.clone()).text;
        let committed: Vec<_> = listed(&text).into_iter().map(|(name, _)| name).collect();
        let found = dependencies(package, &arguments(features));
        assert_eq!(committed, found, "{file} is not what `cargo tree` says:\n{}\n", found.join("\n"));
        assert!(found.len() <= *most, "{file}: {} crates, more than {most}", found.len());
    }
}

#[test]
fn each_list_is_of_a_package() {
    let expected: BTreeSet<_> = LISTED.iter().map(|(package, features, _)| name(package, features)).collect();
    let found = paths()
        .into_iter()
        .filter_map(|path| Some(path.strip_prefix("tests/dependencies/")?.strip_suffix(".txt")?.to_owned()));
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}

/// Its reactor comes in many parts, so each says what it is for.
#[test]
fn each_crate_of_smol_has_a_purpose() {
    for (package, features, _) in LISTED.iter().filter(|(package, ..)| *package == "qemu-machine-smol") {
        let text = read(format!("tests/dependencies/{}.txt", name(package, features))).text;
        let silent: Vec<_> = listed(&text).into_iter().filter(|(_, purpose)| purpose.is_none()).collect();
        assert!(silent.is_empty(), "{silent:?}");
    }
}

/// A feature of the core or of the host that is on in each package above it would cost those who do not use it.
#[test]
fn a_feature_that_is_off_is_off_below_as_well() {
    for package in ["qemu-machine-host", "qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol"] {
        let arguments = ["--edges", "normal,features", "--prefix", "none", "--no-default-features"];
        let tree = cargo(&[&["tree", "--package", package], &arguments[..]].concat());
        let is_on = |line: &&str| line.starts_with("qemu-machine-") && line.contains(" feature ");
        let on: BTreeSet<_> = tree.lines().filter(is_on).filter(|line| !line.contains("feature \"default\"")).collect();
        assert!(on.is_empty(), "{package}: {on:?}");
    }
}

/// Records and the schema are code of the core alone.
#[test]
fn records_and_the_schema_bring_no_crate() {
    for package in
        ["qemu-machine-core", "qemu-machine-host", "qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol"]
    {
        let default = dependencies(package, &[]);
        assert_eq!(dependencies(package, &["--features", "record,schema"]), default, "{package}");
    }
}

/// What is logged through `tracing` is logged where the feature is on. The other lists are without.
#[test]
fn row_36_tracing_comes_with_its_feature_and_not_without() {
    for package in ["qemu-machine-host", "qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol"] {
        let default = dependencies(package, &[]);
        assert!(!default.iter().any(|name| name.starts_with("tracing")), "{package}: {default:?}");
        let mut brought = dependencies(package, &["--features", "tracing"]);
        brought.retain(|name| !default.contains(name));
        brought.retain(|name| name != "pin-project-lite");
        assert_eq!(brought, ["once_cell", "tracing", "tracing-core"], "{package}");
    }
}

#[test]
fn lists_are_named_after_their_features() {
    assert_eq!(name("a", &["-default", "b"]), "a-default+b");
    assert_eq!(arguments(&["-default", "b"]), ["--no-default-features", "--features", "b"]);
    assert_eq!(listed("a\nb # for c\n"), [("a", None), ("b", Some("for c"))]);
}
