//! Section of a page: the summary of a record, its texts, and its data.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display};
use core::time::Duration;

use super::html::Escaped;
use super::marks::{End, TimeMark, What};
use super::runs::{RecordedRun, Tone};
use super::story::{Story, config};
use super::{data, texts};
use crate::config::Config;
use crate::record::Record;
use crate::text::{Printable, lossy};
use crate::time::Moment;

/// The part of a page for one record.
#[derive(Clone)]
pub(super) struct Section {
    /// `None` means the name of the program.
    pub(super) title: Option<String>,
    pub(super) record: Record,
}

impl Section {
    /// Returns the title: that of the caller, or the name of the program.
    pub(super) fn title(&self) -> String {
        let name = |config: &Config| match config.peer {
            Some(_) => "attached machine".to_string(),
            None => lossy(config.program.rsplit(|byte| *byte == b'/').next().unwrap_or_default()),
        };
        let named = || config(&self.record).map_or_else(|| "machine".to_string(), name);
        self.title.clone().unwrap_or_else(named)
    }
}

/// Writes a section.
pub(super) fn write(f: &mut fmt::Formatter<'_>, section: &Section) -> fmt::Result {
    let record = &section.record;
    let story = Story::of(record);
    writeln!(f, "<section class=\"record\" data-title=\"{}\">", line(&section.title()))?;
    write_summary(f, section, &story)?;
    f.write_str("<div class=\"texts\">\n")?;
    let styles = texts::write_consoles(f, record, &story)?;
    texts::write_lines(f, record, &story)?;
    f.write_str("</div>\n<script type=\"application/json\">")?;
    data::write(f, record, &story, &styles)?;
    f.write_str("</script>\n</section>\n")
}

/// Returns the escaped form of a text on one line.
fn line(text: &str) -> impl Display {
    Escaped(format!("{:#}", Printable::line(text)))
}

fn write_summary(f: &mut fmt::Formatter<'_>, section: &Section, story: &Story) -> fmt::Result {
    let nothing = RecordedRun::default();
    let (last, earlier) = match story.runs.split_last() {
        Some((last, earlier)) => (last, earlier),
        None => (&nothing, &[][..]),
    };
    // A kernel that panics may end its machine by a reset, which alone would be no failure.
    let has_panicked =
        story.remarks.iter().any(|remark| remark.is_panic && last.launched.is_none_or(|from| remark.at >= from));
    let tone = if has_panicked { Tone::Alarm } else { last.tone() };
    writeln!(f, "<header class=\"summary {}\">\n<div class=\"end\">", tone.word())?;
    writeln!(f, "<h2>{}</h2>", line(&last.verdict()))?;
    let faults = last.faults.iter().map(|fault| format!("host: {fault}"));
    let known: Vec<_> = last.details().into_iter().chain(faults).collect();
    if !known.is_empty() {
        f.write_str("<ul class=\"details\">")?;
        known.iter().try_for_each(|detail| write!(f, "<li>{}</li>", line(detail)))?;
        f.write_str("</ul>\n")?;
    }
    write_remarks(f, story)?;
    write_figures(f, section, story, last)?;
    write_earlier(f, earlier)?;
    f.write_str("</div>\n<div class=\"source\">\n")?;
    write_log(f, &last.log)?;
    let command = config(&section.record).map(|config| last.command_line(config)).unwrap_or_default();
    if !command.is_empty() {
        writeln!(f, "<div class=\"command\"><h3>Command line</h3><pre tabindex=\"0\">{}</pre></div>", line(&command))?;
    }
    f.write_str("</div>\n</header>\n")
}

fn write_remarks(f: &mut fmt::Formatter<'_>, story: &Story) -> fmt::Result {
    if story.remarks.is_empty() {
        return Ok(());
    }
    f.write_str("<ul class=\"remarks\">")?;
    for remark in &story.remarks {
        let console = story.lanes.consoles.get(remark.console).map_or("", |name| name);
        let (index, number, at) = (remark.console, remark.line, seconds(remark.at));
        write!(
            f,
            "<li data-console=\"{index}\" data-line=\"{number}\"><span class=\"where\">{} {at}</span> ",
            line(console)
        )?;
        write!(f, "<code>{}</code></li>", line(&remark.text))?;
    }
    f.write_str("</ul>\n")
}

/// Writes the last lines that the process has printed.
fn write_log(f: &mut fmt::Formatter<'_>, log: &str) -> fmt::Result {
    if log.trim().is_empty() {
        return Ok(());
    }
    f.write_str("<div class=\"words\"><h3>QEMU printed</h3><pre tabindex=\"0\">\n")?;
    log.trim_end().lines().try_for_each(|printed| writeln!(f, "<code>{}</code>", line(printed)))?;
    f.write_str("</pre></div>\n")
}

fn write_figures(f: &mut fmt::Formatter<'_>, section: &Section, story: &Story, last: &RecordedRun) -> fmt::Result {
    f.write_str("<dl class=\"figures\">")?;
    let phases = last.phases();
    for (from, to, duration) in &phases {
        write!(f, "<div><dt>{from} → {to}</dt><dd>{}</dd></div>", brief(*duration))?;
    }
    let commands = || story.marks.iter().filter(|mark| mark.what == What::Command);
    let ended = |end: End| (commands().filter(|mark| mark.end == end).count(), end.word());
    let ends = [End::Refused, End::TimedOut, End::Failed, End::Unanswered, End::Dropped].map(ended);
    let ends: Vec<_> =
        ends.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let is_event = |mark: &&TimeMark| mark.what == What::Event;
    write_figure(f, "commands", commands().count() as u64, &ends.join(", "))?;
    write_figure(f, "events", story.marks.iter().filter(is_event).count() as u64, "")?;
    write_figure(f, "dropped lines", section.record.dropped(), "")?;
    f.write_str("</dl>\n")
}

fn write_figure(f: &mut fmt::Formatter<'_>, name: &str, count: u64, more: &str) -> fmt::Result {
    write!(f, "<div><dt>{name}</dt><dd>{count}")?;
    if !more.is_empty() {
        write!(f, " <small>{more}</small>")?;
    }
    f.write_str("</dd></div>")
}

fn write_earlier(f: &mut fmt::Formatter<'_>, earlier: &[RecordedRun]) -> fmt::Result {
    if earlier.is_empty() {
        return Ok(());
    }
    f.write_str("<div class=\"earlier\"><h3>Earlier runs</h3><ol>")?;
    for run in earlier {
        let from = run.launched.map(seconds).unwrap_or_default();
        let rest: String = run.details().iter().map(|detail| format!("; {detail}")).collect();
        let how = run.verdict() + &rest;
        write!(f, "<li><span class=\"where\">{from}, {}</span> {}</li>", brief(run.duration()), line(&how))?;
    }
    f.write_str("</ol></div>\n")
}

/// Returns a time as the lines have it.
fn seconds(at: Moment) -> String {
    format!("{:.6}", at.since(Moment::ORIGIN).as_secs_f64())
}

/// Returns a duration with three digits and a unit.
fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (number, unit) = match duration.as_nanos() {
        0..1_000_000 => (seconds * 1e6, "µs"),
        1_000_000..1_000_000_000 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (nanoseconds, text) in [
            (0, "0.00 µs"),
            (840_000, "840 µs"),
            (1_500_000, "1.50 ms"),
            (158_133_724, "158 ms"),
            (12_345_678_901, "12.3 s"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(brief(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
