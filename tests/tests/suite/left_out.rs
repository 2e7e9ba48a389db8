//! Stories that need what the host for any Unix does not have, with the reasons: the lines of `tests/left-out.txt`.

use std::path::Path;

use qemu_machine_core::{Address, Config};

/// Returns the configuration of a machine that QEMU dials, for stories about something else than who may dial: the host for
/// any Unix does not know which process has dialled.
pub(crate) fn dialling(config: Config) -> Config {
    if cfg!(qemu_machine_portable) { config.trust_peer() } else { config }
}

/// Returns those of these addresses that the host has: POSIX has no abstract sockets.
pub(crate) fn possible<const N: usize>(addresses: [Address; N]) -> impl Iterator<Item = Address> {
    addresses.into_iter().filter(|address| !cfg!(qemu_machine_portable) || !matches!(address, Address::Abstract(_)))
}

/// Returns the lines: `module story: reason`.
fn lines() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("left-out.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}")));
    let names = parts.map(|(story, _)| story.split_once(' ').unwrap_or_else(|| panic!("no story: {story}")));
    names.map(|(module, story)| (module.to_owned(), story.to_owned())).collect()
}

/// Returns whether a story of a row, which is a module of this crate, is left out.
pub(crate) fn is_left_out(row: &str, story: &str) -> bool {
    cfg!(qemu_machine_portable)
        && !row.ends_with("::in_world")
        && lines().iter().any(|(module, other)| {
            other == story && row.strip_prefix("suite::").is_some_and(|row| row.starts_with(&format!("{module}::")))
        })
}

#[test]
fn each_story_that_is_left_out_exists() {
    for (module, story) in lines() {
        let file = format!("tests/suite/{}.rs", module.replace("::", "/"));
        let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
        // It tells a story of its own, or names one of another file.
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        assert!(source.split(|letter| !is_part(letter)).any(|name| name == story), "{file} has no story {story}");
    }
}
