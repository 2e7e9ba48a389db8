//! Tests of dependencies between packages, of which some are allowed, and between files, which form no cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use qemu_machine_tests::cargo::cargo;
use qemu_machine_tests::sources::modules::{Arrow, Crate, circles};
use qemu_machine_tests::sources::root;

/// Each package of the workspace, with the other packages of the workspace that it may depend on.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("qemu-machine-core", &[]),
    ("qemu-machine-host", &["qemu-machine-core"]),
    ("qemu-machine-blocking", &["qemu-machine-core", "qemu-machine-host"]),
    ("qemu-machine-smol", &["qemu-machine-core", "qemu-machine-host"]),
    ("qemu-machine-tokio", &["qemu-machine-core", "qemu-machine-host"]),
    ("qemu-machine-mio", &["qemu-machine-core", "qemu-machine-host"]),
    ("qemu-machine-guest", &["qemu-machine-core", "qemu-machine-host", "qemu-machine-blocking"]),
    ("qmpsh", &["qemu-machine-core", "qemu-machine-host", "qemu-machine-blocking"]),
    // This package is not published. Other packages need it only for tests.
    ("qemu-machine-tests", &["qemu-machine-core", "qemu-machine-host", "qemu-machine-blocking", "qemu-machine-guest"]),
];

/// The root of each published crate.
const ROOTS: [&str; 9] = [
    "core/src/lib.rs",
    "host/src/lib.rs",
    "runtime-blocking/src/lib.rs",
    "runtime-smol/src/lib.rs",
    "runtime-tokio/src/lib.rs",
    "runtime-mio/src/lib.rs",
    "guest/src/lib.rs",
    "guest/src/bin/kernel-test/main.rs",
    "qmpsh/src/main.rs",
];

/// Returns the dependencies between packages that are not allowed. Dependencies of tests are not restricted.
fn forbidden(metadata: &serde_json::Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("cargo lists the packages");
    let ours: BTreeSet<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut forbidden = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a package has a name");
        let allowed = ALLOWED.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            forbidden.push(format!("{name}: `ALLOWED` does not list this package"));
            continue;
        };
        let needed = package["dependencies"].as_array().expect("cargo lists the dependencies").iter();
        let needed = needed.filter(|dependency| dependency["kind"] != "dev").filter_map(|one| one["name"].as_str());
        let wrong = needed.filter(|needed| ours.contains(needed) && !allowed.contains(needed));
        forbidden.extend(wrong.map(|needed| format!("{name} -> {needed}")));
    }
    forbidden
}

#[test]
fn packages_depend_downwards_only() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]).parse().expect("cargo writes JSON");
    assert_eq!(forbidden(&metadata), [""; 0]);
}

#[test]
fn a_forbidden_arrow_between_packages_is_found() {
    let metadata = serde_json::json!({"packages": [
        {"name": "qemu-machine-core", "dependencies": [
            {"name": "bytes", "kind": null},
            {"name": "qemu-machine-host", "kind": null},
            {"name": "qemu-machine-smol", "kind": "dev"},
        ]},
        {"name": "qemu-machine-host", "dependencies": [{"name": "qemu-machine-core", "kind": null}]},
        {"name": "qemu-machine-smol", "dependencies": [{"name": "qemu-machine-host", "kind": "build"}]},
        {"name": "qemu-machine-new", "dependencies": []},
    ]});
    let expected = ["qemu-machine-core -> qemu-machine-host", "qemu-machine-new: `ALLOWED` does not list this package"];
    assert_eq!(forbidden(&metadata), expected);
}

/// Returns a line for each cycle, and a line for each of its dependencies with the paths that cause it.
fn told(arrows: &[Arrow]) -> String {
    let mut text = String::new();
    for circle in circles(arrows) {
        let _ = writeln!(text, "cycle: {}", circle.join(", "));
        let mut ties: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        for Arrow { from, to, path, .. } in arrows {
            if circle.contains(&&**from) && circle.contains(&&**to) {
                ties.entry((from, to)).or_default().insert(path);
            }
        }
        for ((from, to), paths) in ties {
            let paths: Vec<_> = paths.into_iter().collect();
            let _ = writeln!(text, "  {from} -> {to} by {}", paths.join(", "));
        }
    }
    text
}

#[test]
fn no_files_of_a_published_crate_form_a_cycle() {
    let mut text = String::new();
    for file in ROOTS {
        let read = Crate::read(file, &mut |path| std::fs::read_to_string(root().join(path)).ok());
        let arrows = read.arrows();
        assert!(!arrows.is_empty(), "{file}: no dependency was found");
        text += &told(&arrows);
    }
    assert!(text.is_empty(), "\n{text}");
}

/// Returns the dependencies between the files of a crate that exists only here.
fn fixture(files: &[(&str, &str)]) -> Vec<Arrow> {
    let files: BTreeMap<_, _> = files.iter().copied().collect();
    Crate::read("lib.rs", &mut |path| files.get(path).map(|text| (*text).to_owned())).arrows()
}

#[test]
fn a_cycle_is_found_through_re_exports_and_names_of_modules() {
    let arrows = fixture(&[
        ("lib.rs", "mod a; mod b; mod c; pub use c::D;"),
        ("a.rs", "use crate::{D, b}; pub struct A(D); fn f() -> b::B { b::B::default() }"),
        ("b.rs", "use super::c; pub struct B(Vec<c::E>);"),
        ("c/mod.rs", "mod d; mod e; pub use d::D; pub(crate) use self::e::*;"),
        ("c/d.rs", "pub struct D;"),
        ("c/e.rs", "pub struct E; impl E { fn g(_: crate::a::A) {} }"),
    ]);
    let expected = "cycle: a.rs, b.rs, c/e.rs\n  a.rs -> b.rs by b::B, b::B::default\n  b.rs -> c/e.rs by c::E\n  \
                    c/e.rs -> a.rs by crate::a::A\n";
    assert_eq!(told(&arrows), expected);
}

#[test]
fn declarations_re_exports_and_tests_are_no_arrows() {
    let arrows = fixture(&[
        ("lib.rs", "mod a; mod c; pub use a::{A, b::B}; pub use c::C;"),
        ("a.rs", "pub mod b; pub use b::B; pub struct A(crate::C);"),
        ("a/b.rs", "pub struct B; impl super::A {}"),
        ("c.rs", "pub struct C; #[cfg(test)] mod tests { use crate::a::A; }"),
    ]);
    assert_eq!(told(&arrows), "");
    let arrows: Vec<_> = arrows.iter().map(|arrow| (&*arrow.from, &*arrow.to)).collect();
    assert_eq!(arrows, [("a.rs", "c.rs")]);
}
