//! Texts of a section: the lines of each console and of the record, one a line with its time. They are readable
//! without the script of the page, and that script displays them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::html::Escaped;
use super::story::{Story, each_row};
use super::style::Style;
use crate::record::timeline::tell;
use crate::record::{Line, Record};
use crate::text::Printable;
use crate::time::Moment;

/// The styled parts of all consoles: with the times in the texts, all that is needed to display them.
#[derive(Debug, Default)]
pub(super) struct Styles {
    known: BTreeMap<Style, usize>,
    /// Of each console the parts: its line, where the part begins, its length, and the number of its style.
    pub(super) parts: Vec<Vec<[usize; 4]>>,
}

impl Styles {
    fn number(&mut self, style: Style) -> usize {
        let next = self.known.len();
        *self.known.entry(style).or_insert(next)
    }

    /// Returns the styles in the order of their numbers.
    pub(super) fn list(&self) -> Vec<Style> {
        let mut list: Vec<_> = self.known.iter().map(|(style, number)| (*number, *style)).collect();
        list.sort_unstable_by_key(|(number, _)| *number);
        list.into_iter().map(|(_, style)| style).collect()
    }
}

/// Writes the time of a line, as the timeline does.
fn write_time(f: &mut fmt::Formatter<'_>, at: Moment) -> fmt::Result {
    write!(f, "{:>12.6} ", at.since(Moment::ORIGIN).as_secs_f64())
}

/// Writes the text of each console, and returns the styles in it.
pub(super) fn write_consoles(f: &mut fmt::Formatter<'_>, record: &Record, story: &Story) -> Result<Styles, fmt::Error> {
    let mut styles = Styles::default();
    for (console, name) in story.lanes.consoles.iter().enumerate() {
        // The parser of HTML drops a line feed at the beginning of a `pre` (HTML, section 13.2.6.4.7).
        write!(f, "<h3>Console {}</h3>\n<pre class=\"console\">\n", Escaped(Printable::line(name)))?;
        let (mut parts, mut line, mut result) = (Vec::new(), 0, Ok(()));
        each_row(record, console, |row| {
            let written = write_time(f, row.at).and_then(|()| writeln!(f, "{}", Escaped(&row.text)));
            result = result.and(written);
            parts.extend(row.styled.iter().map(|part| [line, part.from, part.length, styles.number(part.style)]));
            line += 1;
        });
        result?;
        f.write_str("</pre>\n")?;
        styles.parts.push(parts);
    }
    Ok(styles)
}

/// Writes all lines.
pub(super) fn write_lines(f: &mut fmt::Formatter<'_>, record: &Record, story: &Story) -> fmt::Result {
    f.write_str("<h3>All lines</h3>\n<pre class=\"lines\">\n")?;
    for Line { at, entry } in &record.lines {
        let Some((side, what)) = tell(entry, &story.names) else { continue };
        write_time(f, *at)?;
        writeln!(f, "{side} {}", Escaped(Printable::line(what.trim_end())))?;
    }
    f.write_str("</pre>\n")
}
