//! Tests of the crates that each package depends on, with each set of features: listed, within a budget, and none for a
//! feature that is off.
//!
//! `tests/dependencies/` has the lists: one crate a line, with its purpose after `#`.

use std::collections::BTreeSet;

use qemu_machine_tests::cargo::{cargo, dependencies};
use qemu_machine_tests::sources::{paths, read};

/// A package, its features (`-default` means no default features), and the maximum number of crates, itself included.
const LISTED: &[(&str, &[&str], usize)] = &[
    ("qemu-machine-core", &[], 15),
    ("qemu-machine-core", &["record"], 15),
    ("qemu-machine-core", &["schema"], 15),
    ("qemu-machine-core", &["std"], 15),
    ("qemu-machine-core", &["arbitrary"], 17),
    ("qemu-machine-host", &[], 20),
    ("qemu-machine-host", &["tracing"], 24),
    ("qemu-machine-host", &["qapi"], 25),
    ("qemu-machine-blocking", &[], 21),
    ("qemu-machine-blocking", &["tracing"], 25),
    ("qemu-machine-blocking", &["qapi"], 26),
    ("qemu-machine-mio", &[], 24),
    ("qemu-machine-mio", &["tracing"], 28),
    ("qemu-machine-mio", &["qapi"], 29),
    ("qemu-machine-smol", &[], 50),
    ("qemu-machine-smol", &["-default"], 40),
    ("qemu-machine-smol", &["tracing"], 53),
    ("qemu-machine-smol", &["qapi"], 55),
    ("qemu-machine-tokio", &[], 30),
    ("qemu-machine-tokio", &["tracing"], 34),
    ("qemu-machine-tokio", &["qapi"], 34),
    ("qmpsh", &[], 35),
];

/// Returns the name of a list, such as `qemu-machine-host+tracing`.
fn name(package: &str, features: &[&str]) -> String {
    features.iter().fold(package.to_owned(), |name, feature| match feature.strip_prefix('-') {
        Some(feature) => format!("{name}-{feature}"),
        None => format!("{name}+{feature}"),
    })
}

/// Returns the arguments of cargo that select features.
fn arguments<'a>(features: &[&'a str]) -> Vec<&'a str> {
    let chosen = features.iter().flat_map(|feature| match *feature {
        "-default" => vec!["--no-default-features"],
        feature => vec!["--features", feature],
    });
    chosen.collect()
}

/// Returns the crates of a list, each with its purpose. `None` means that the list gives none.
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
        assert_eq!(committed, found, "{file} differs from the output of `cargo tree`:\n{}\n", found.join("\n"));
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

/// The reactor of smol consists of many crates, so each needs a purpose.
#[test]
fn each_crate_of_smol_has_a_purpose() {
    for (package, features, _) in LISTED.iter().filter(|(package, ..)| *package == "qemu-machine-smol") {
        let text = read(format!("tests/dependencies/{}.txt", name(package, features))).text;
        let silent: Vec<_> = listed(&text).into_iter().filter(|(_, purpose)| purpose.is_none()).collect();
        assert!(silent.is_empty(), "{silent:?}");
    }
}

/// A package that turned on a feature of the core or of the host would make all its users pay for it. The runtimes for
/// tasks consist of the feature `tasks`, and the host needs std anyway.
#[test]
fn a_feature_that_is_off_is_off_below_as_well() {
    for package in
        ["qemu-machine-host", "qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol", "qemu-machine-tokio"]
    {
        let arguments = ["--edges", "normal,features", "--prefix", "none", "--no-default-features"];
        let tree = cargo(&[&["tree", "--package", package], &arguments[..]].concat());
        let is_on = |line: &&str| line.starts_with("qemu-machine-") && line.contains(" feature ");
        let on: BTreeSet<_> = tree
            .lines()
            .filter(is_on)
            .filter(|line| !["\"default\"", "\"std\"", "\"tasks\""].iter().any(|known| line.contains(known)))
            .collect();
        assert!(on.is_empty(), "{package}: {on:?}");
        let has_tasks = tree.contains("qemu-machine-host feature \"tasks\"");
        assert_eq!(has_tasks, ["qemu-machine-smol", "qemu-machine-tokio"].contains(&package), "{package}");
    }
}

/// tokio's users get tokio's reactor, and no second one.
#[test]
fn tokio_comes_without_another_reactor() {
    let brought = dependencies("qemu-machine-tokio", &["--features", "record,schema,tracing,qapi"]);
    let others = ["async-io", "polling", "smol", "async-executor"];
    assert!(brought.iter().all(|name| !others.contains(&&**name)), "{brought:?}");
}

/// Records and the schema use no crate that the core does not have anyway.
#[test]
fn records_and_the_schema_bring_no_crate() {
    for package in [
        "qemu-machine-core",
        "qemu-machine-host",
        "qemu-machine-blocking",
        "qemu-machine-mio",
        "qemu-machine-smol",
        "qemu-machine-tokio",
    ] {
        let default = dependencies(package, &[]);
        assert_eq!(dependencies(package, &["--features", "record,schema"]), default, "{package}");
    }
}

/// `Arbitrary` for the types of the core costs a crate only where the feature is on.
#[test]
fn arbitrary_comes_with_its_feature_and_not_without() {
    for package in [
        "qemu-machine-core",
        "qemu-machine-host",
        "qemu-machine-blocking",
        "qemu-machine-mio",
        "qemu-machine-smol",
        "qemu-machine-tokio",
    ] {
        let default = dependencies(package, &[]);
        assert!(!default.iter().any(|name| name.contains("arbitrary")), "{package}: {default:?}");
    }
    let default = dependencies("qemu-machine-core", &[]);
    let mut brought = dependencies("qemu-machine-core", &["--features", "arbitrary"]);
    brought.retain(|name| !default.contains(name));
    assert_eq!(brought, ["arbitrary", "derive_arbitrary"]);
}

/// The crate `tracing` is a dependency only where the feature is on.
#[test]
fn row_36_tracing_comes_with_its_feature_and_not_without() {
    for package in
        ["qemu-machine-host", "qemu-machine-blocking", "qemu-machine-mio", "qemu-machine-smol", "qemu-machine-tokio"]
    {
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
