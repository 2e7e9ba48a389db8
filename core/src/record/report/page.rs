//! Frame of a page: its policy, style and script, around the sections.

use core::fmt;

use super::html::Escaped;
use super::section::{self, Section};
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

/// The policy: nothing is loaded, and only our own script and style are executed, by their hashes (Content Security Policy
/// Level 3, section 2.3.1). So a text that became markup by a fault would still do nothing. A test prints the hashes after
/// a change of the files.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-Hjh9buaZqtGOWlnd9ju975AVn89dPi7wK0wt6cBZbYU='; \
    style-src 'sha256-f9tIAtqiWUUqANwmWLOgCgTUkAmb1Y2xjJBVSkvBkeo='; \
    base-uri 'none'; form-action 'none'";

/// Writes a page.
pub(super) fn write(f: &mut fmt::Formatter<'_>, title: &str, sections: &[Section]) -> fmt::Result {
    let mut rest = FRAME;
    while let Some((before, (name, after))) = split(rest) {
        f.write_str(before)?;
        match name {
            "policy" => f.write_str(POLICY)?,
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

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::base64::Base64;

    #[test]
    fn the_policy_admits_the_script_and_the_style() {
        for text in [SCRIPT, STYLE] {
            let hash = serde_json::to_string(&Base64(Sha256::digest(text).to_vec())).unwrap();
            assert!(POLICY.contains(&format!("-src 'sha256-{}'", hash.trim_matches('"'))), "{hash}");
        }
    }
}
