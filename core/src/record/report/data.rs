//! Data of a section for the script of the page, as JSON: lanes, marks and styles. The texts are not in it.

use core::fmt::{self, Display};

use super::html::Quoted;
use super::story::Story;
use super::texts::Styles;
use crate::record::Record;
use crate::record::timeline::tell;
use crate::text::Printable;
use crate::time::Moment;

/// Writes the data. Times are in microseconds.
///
/// | member | content |
/// |---|---|
/// | `span` | the times of the first and the last line |
/// | `lanes` | each with its name and class |
/// | `rows` | the lane of each line |
/// | `marks` | each with its class, its end, lane, line, begin, end (-1 means none) and label |
/// | `styles` | the styles of console text |
/// | `parts` | of each console the styled parts: line, begin, length, style, … |
pub(super) fn write(f: &mut fmt::Formatter<'_>, record: &Record, story: &Story, styles: &Styles) -> fmt::Result {
    write!(f, "{{\"span\":[{},{}],\"lanes\":[", micros(story.span.0), micros(story.span.1))?;
    each(f, story.lanes.list(), |f, lane| write!(f, "[{},\"{}\"]", text(lane.name), lane.what))?;
    f.write_str("],\"rows\":[")?;
    let shown = record.lines.iter().filter(|line| tell(&line.entry, &story.names).is_some());
    each(f, shown, |f, line| write!(f, "{}", story.lanes.lane_of(&line.entry)))?;
    f.write_str("],\"marks\":[")?;
    each(f, &story.marks, |f, mark| {
        let until = mark.until.map_or(-1, |until| i128::try_from(micros(until)).unwrap_or(i128::MAX));
        let (what, end, at) = (mark.what.word(), mark.end.word(), micros(mark.at));
        write!(f, "[\"{what}\",\"{end}\",{},{},{at},{until},{}]", mark.lane, mark.row, text(&mark.label))
    })?;
    f.write_str("],\"styles\":[")?;
    each(f, styles.list(), |f, style| write!(f, "\"{style}\""))?;
    f.write_str("],\"parts\":[")?;
    each(f, &styles.parts, |f, parts| {
        f.write_str("[")?;
        each(f, parts.iter().flatten(), |f, number| write!(f, "{number}"))?;
        f.write_str("]")
    })?;
    f.write_str("]}")
}

fn micros(at: Moment) -> u128 {
    at.since(Moment::ORIGIN).as_micros()
}

/// Returns the string of JSON for a text on one line.
fn text(text: &str) -> impl Display {
    struct Text(alloc::string::String);
    impl Display for Text {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Quoted(&self.0).fmt(f)
        }
    }
    Text(alloc::format!("{}", Printable::line(text)))
}

fn each<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    items.into_iter().enumerate().try_for_each(|(index, item)| {
        f.write_str(if index == 0 { "" } else { "," })?;
        write(f, item)
    })
}
