//! Comparison of the public API of each library with its committed listing (`core.txt`, …).
//!
//!     cargo run --manifest-path tests/public-api/Cargo.toml [-- --update]
//!
//! A listing has one line for each public item, with its signature, with all features. A change of the API changes a
//! listing, so that it is seen in review, and named in `CHANGELOG.md`. `--update` writes the listings.
//!
//! The nightly compiler writes what is compared (rustdoc's JSON). Exit status: 0 when all are the same; 1 when one differs
//! or cannot be made; 2 when this nightly writes another version of the format than the crate `public-api` reads.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use public_api::{Builder, PublicApi};
use serde::Deserialize;

/// The folders of the libraries. The shell is a program, and the tests are not published.
const LIBRARIES: [&str; 7] =
    ["core", "guest", "host", "runtime-blocking", "runtime-mio", "runtime-smol", "runtime-tokio"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let update = match &*arguments {
        [] => false,
        [update] if update == "--update" => true,
        unknown => {
            eprintln!("public-api: unknown arguments {unknown:?}; usage: public-api [--update]");
            return ExitCode::FAILURE;
        }
    };
    match run(update) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("public-api: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(update: bool) -> Result<ExitCode, Box<dyn Error>> {
    let mut code = ExitCode::SUCCESS;
    let directory = rustdoc_json()?;
    for folder in LIBRARIES {
        let json = directory.join(format!("qemu_machine_{}.json", name(folder)));
        let written = format_version(&json)?;
        if written != rustdoc_types::FORMAT_VERSION {
            let read = rustdoc_types::FORMAT_VERSION;
            eprintln!(
                "public-api: this nightly writes version {written} of rustdoc's JSON, and version {read} can be read"
            );
            return Ok(ExitCode::from(2));
        }
        let api = listing(json)?;
        let committed = here().join(folder).with_extension("txt");
        if update {
            fs::write(&committed, &api)?;
        } else if fs::read_to_string(&committed)? != api {
            report(folder, &fs::read_to_string(&committed)?, &api);
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Documents the libraries with all their features, in one build, and returns the directory of the JSON files.
fn rustdoc_json() -> Result<PathBuf, Box<dyn Error>> {
    let target = here().join("target/rustdoc");
    let mut cargo = Command::new("rustup");
    cargo.args(["run", "nightly", "cargo", "doc", "--quiet", "--locked", "--no-deps", "--lib", "--all-features"]);
    cargo.arg("--manifest-path").arg(here().join("../../Cargo.toml")).arg("--target-dir").arg(&target);
    for folder in LIBRARIES {
        cargo.args(["--package", &format!("qemu-machine-{}", name(folder))]);
    }
    cargo.env("RUSTDOCFLAGS", "-Z unstable-options --output-format json --cap-lints allow");
    let status = cargo.status()?;
    if status.success() { Ok(target.join("doc")) } else { Err(format!("rustdoc: {status}").into()) }
}

/// Returns the last part of the name of a package.
fn name(folder: &str) -> &str {
    folder.strip_prefix("runtime-").unwrap_or(folder)
}

fn format_version(json: &Path) -> Result<u32, Box<dyn Error>> {
    #[derive(Deserialize)]
    struct Header {
        format_version: u32,
    }
    Ok(serde_json::from_str::<Header>(&fs::read_to_string(json)?)?.format_version)
}

/// Returns one line for each public item. Derived, automatic and blanket implementations are left out: they follow from the
/// rest.
fn listing(json: PathBuf) -> Result<String, Box<dyn Error>> {
    let api: PublicApi = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(api.to_string())
}

fn report(folder: &str, committed: &str, api: &str) {
    eprintln!("public-api: {folder} differs from tests/public-api/{folder}.txt; `--update` accepts this:");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (before, after) = (lines(committed), lines(api));
    before.difference(&after).for_each(|line| eprintln!("-{line}"));
    after.difference(&before).for_each(|line| eprintln!("+{line}"));
    if before == after {
        eprintln!("(the same lines in another order)");
    }
}
