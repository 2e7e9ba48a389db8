//! Test of the command in the READMEs: it is run as it is written there, and prints what is shown.

use std::fs;
use std::process::Command;
use std::time::Duration;

use qemu_machine_guest::kernel_release;
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::sources::{read, root};

use crate::run::{Run, kernel};

/// A busy host compiles the program for some minutes, and boots the guest up to three times.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Returns the first block of a language that begins with this text, and what follows it.
fn block<'a>(page: &'a str, language: &str, begin: &str) -> (&'a str, &'a str) {
    let fence = format!("```{language}\n{begin}");
    let at = page.find(&fence).unwrap_or_else(|| panic!("no block {begin}"));
    page[at + "```\n".len() + language.len()..].split_once("```\n").expect("the block ends")
}

/// Returns the command in a README, and its output and exit code as they are shown there. The release of the kernel is the
/// present one: `tests/setup` unpacks Debian's newest.
fn shown(path: &str) -> (String, String, i32) {
    let page = read(path.into()).text;
    let (command, rest) = block(&page, "sh", "./tests/setup --yes cargo run --quiet --package qemu-machine-guest");
    assert_eq!(command.lines().count(), 1, "{path}: one command");
    let (output, _) = block(rest, "text", "6.");
    let code = rest.split_once("exits with ").and_then(|(_, rest)| rest.split([' ', ',']).next()?.parse().ok());
    let release = kernel_release(&fs::read(kernel()).unwrap()).expect("a bzImage has its release");
    let lines = output.lines().map(|line| if line.ends_with("-cloud-amd64") { &*release } else { line });
    (command.to_owned(), lines.map(|line| format!("{line}\n")).collect(), code.expect("the exit code is shown"))
}

#[test]
fn the_command_of_the_readme_prints_what_it_shows() {
    let (command, output, code) = shown("README.md");
    assert_eq!(shown("guest/README.md"), (command.clone(), output.clone(), code));
    let run = bounded_by(PATIENCE, move || {
        let mut bash = Command::new("bash");
        bash.current_dir(root()).args(["-c", &command]);
        let mut runs = std::iter::repeat_with(|| Run::from(bash.output().expect("bash runs")));
        // The guest has a minute, which is too short on a very busy host.
        let in_time = runs.by_ref().take(2).find(|run| ![Some(120), Some(124)].contains(&run.code));
        in_time.or_else(|| runs.next()).expect("a run")
    });
    assert_eq!((run.code, &*run.stdout), (Some(code), &*output), "{run:#?}");
}
