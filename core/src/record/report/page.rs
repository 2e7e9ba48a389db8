//! Frame of a page: its policy, style and script, around the sections.

use alloc::format;
use alloc::string::String;
use core::fmt;

use super::hash::sha256;
use super::html::Escaped;
use super::section::{self, Section};
use crate::base64;
use crate::text::Printable;

const FRAME: &str = include_str!("page/frame.html");
const STYLE: &str = include_str!("page/style.css");
/// The files of the script are one script element, and so one scope.
const SCRIPT: &str = concat!(
    include_str!("page/list.js"),
    include_str!("page/panels.js"),
    include_str!("page/axis.js"),
    include_str!("page/page.js"),
);

/// Writes a page.
pub(super) fn write(f: &mut fmt::Formatter<'_>, title: &str, sections: &[Section]) -> fmt::Result {
    let mut rest = FRAME;
    while let Some((before, (name, after))) = split(rest) {
        f.write_str(before)?;
        match name {
            "policy" => write!(f, "{}", policy())?,
            "title" => write!(f, "{}", Escaped(Printable::line(title)))?,
            "style" => f.write_str(STYLE)?,
            "script" => f.write_str(SCRIPT)?,
            _ => sections.iter().try_for_each(|part| section::write(f, part))?,
        }
        rest = after;
    }
    f.write_str(rest)
}

/// Returns the text before the next place, the name of the place, and the text behind it.
fn split(text: &str) -> Option<(&str, (&str, &str))> {
    let (before, rest) = text.split_once('{')?;
    Some((before, rest.split_once('}')?))
}

/// The policy: nothing is loaded, and only our own script and style are executed (Content Security Policy Level 3, section
/// 2.3.1). So a text that became markup by a fault would still do nothing.
fn policy() -> String {
    let hash = |text: &str| base64::encode(&sha256(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}
