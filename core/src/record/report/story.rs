//! Story of a record: all that a page displays beside its texts, collected in one pass.

use alloc::vec::Vec;

use super::lanes::Lanes;
use super::marks::{TimeMark, TimeMarks};
use super::reasons;
use super::remarks::{Remark, Remarks};
use super::runs::RecordedRun;
use super::screen::{Row, Screen};
use crate::channel::Channel;
use crate::config::Config;
use crate::record::timeline::{Names, tell};
use crate::record::{self, Entry, Line, Record};
use crate::time::Moment;

/// The story of one record.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) lanes: Lanes,
    pub(super) names: Names,
    pub(super) marks: Vec<TimeMark>,
    /// At least one, unless the record is empty.
    pub(super) runs: Vec<RecordedRun>,
    pub(super) remarks: Vec<Remark>,
    /// The times of the first and the last line.
    pub(super) span: (Moment, Moment),
}

/// Returns the configuration of the machine. `None` means that the record is empty, or that its beginning is missing.
pub(super) fn config(record: &Record) -> Option<&Config> {
    match &record.lines.first()?.entry {
        Entry::Machine(beginning) => Some(&beginning.config),
        _ => None,
    }
}

/// Returns whether the first line is a launch that the machine refused, which changes nothing.
fn is_refused_launch(lines: &[Line]) -> bool {
    let [Line { entry: Entry::Input(record::Input::Launch), .. }, next, ..] = lines else { return false };
    matches!(next.entry, Entry::Output(record::Output::Refused(_)))
}

impl Story {
    pub(super) fn of(record: &Record) -> Self {
        let lanes = config(record).map(Lanes::of).unwrap_or_default();
        let names = Names(lanes.consoles.clone());
        let (mut marks, mut runs, mut row) = (TimeMarks::default(), Vec::new(), 0);
        for (index, Line { at, entry }) in record.lines.iter().enumerate() {
            if !is_refused_launch(&record.lines[index..]) {
                marks.read(*at, entry, row, &lanes);
                RecordedRun::read(&mut runs, *at, entry);
            }
            row += usize::from(tell(entry, &names).is_some());
        }
        reasons::find(record, &mut runs);
        let mut remarks = Remarks::default();
        for console in 0..lanes.consoles.len() {
            let mut line = 0;
            each_row(record, console, |row| {
                remarks.read(console, line, &row);
                line += 1;
            });
        }
        // The first line has the time zero, since nothing had happened: the axis begins with the first launch.
        let begin = record.lines.get(1).or(record.lines.first()).map_or(Moment::ORIGIN, |line| line.at);
        let end = record.lines.last().map_or(begin, |line| line.at);
        Self { lanes, names, marks: marks.finish(), runs, remarks: remarks.finish(), span: (begin, end) }
    }
}

/// Passes on each line of a console. Each run and each gap begins a new one.
pub(super) fn each_row(record: &Record, console: usize, mut each: impl FnMut(Row)) {
    let mut screen = Screen::default();
    for Line { at, entry } in &record.lines {
        match entry {
            Entry::Input(record::Input::Received { from: Channel::Console(index), bytes }) if *index == console => {
                screen.push(*at, bytes, &mut each);
            }
            Entry::Input(record::Input::Launch) | Entry::Dropped(_) => screen.finish(&mut each),
            _ => {}
        }
    }
    screen.finish(&mut each);
}
