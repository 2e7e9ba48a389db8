//! Reasons of failed launches, which the lines of a record imply but do not contain: a replay finds them.

use alloc::string::ToString;

use super::runs::RecordedRun;
use crate::config::Config;
use crate::machine::Machine;
use crate::record::{self, Entry, Record};

/// Gives each failed launch its reason. Behind a gap none can be found.
pub(super) fn find(record: &Record, runs: &mut [RecordedRun]) {
    if !runs.iter().any(RecordedRun::needs_reason) {
        return;
    }
    let Some(Entry::Machine(beginning)) = record.lines.first().map(|line| &line.entry) else { return };
    // A recorded machine attaches its record to each outcome, which would take time quadratic in the number of runs.
    let Ok(mut machine) = Machine::new(Config { recorded: false, ..beginning.config.clone() }) else { return };
    let mut runs = runs.iter_mut();
    for line in record.lines.iter().take_while(|line| !matches!(line.entry, Entry::Dropped(_))) {
        match &line.entry {
            Entry::Input(input) => machine.repeat(line.at, input),
            Entry::Output(record::Output::Ended(_)) => {
                let Some(run) = runs.next() else { return };
                let error = machine.launched().and_then(Result::err).map(|error| error.to_string());
                run.failure = error.and_then(|error| error.lines().next().map(ToString::to_string));
            }
            _ => {}
        }
    }
}
