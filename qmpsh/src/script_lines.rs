//! Lines of a script: their instructions, and the position of each for an error.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use crate::client::Client;
use crate::failure::Failure;
use crate::line::{Instruction, Trouble, may_be_secret};
use crate::options::Options;
use crate::show::printable;

/// The longest part of a line that an error repeats, in characters: with the position it fits a terminal of 80 columns.
const SHOWN: usize = 50;

/// The source of a script, with its name in errors.
pub(crate) struct Source {
    name: String,
    lines: Box<dyn BufRead>,
}

impl Source {
    /// Opens the script of the option `--file`, or standard input.
    ///
    /// # Errors
    ///
    /// [`Failure::Unclear`], if the file cannot be opened.
    pub(crate) fn open(options: &Options) -> Result<Self, Failure> {
        let Some(path) = &options.file else {
            return Ok(Self { name: "stdin".into(), lines: Box::new(BufReader::new(io::stdin())) });
        };
        let name = printable(path);
        match File::open(path) {
            Ok(file) => Ok(Self { name, lines: Box::new(BufReader::new(file)) }),
            Err(error) => Err(Failure::Unclear(format!("--file {name}: {error}"))),
        }
    }
}

/// The position of an instruction: `FILE:LINE: TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    name: String,
    /// Counted from 1.
    line: usize,
    text: String,
}

impl Position {
    fn new(name: &str, line: usize, text: &str) -> Self {
        Self { name: name.into(), line, text: excerpt(text) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.name, self.line, self.text)
    }
}

/// Returns the first line of a text, or the beginning of it. Of a line that may contain a secret, returns its first word.
fn excerpt(text: &str) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default().trim_end();
    let length = if may_be_secret(text) { line.find(char::is_whitespace) } else { None };
    let cut = length.or_else(|| line.char_indices().nth(SHOWN).map(|(at, _)| at));
    let is_shortened = cut.is_some() || text.trim().len() > line.len();
    let shown = printable(cut.map_or(line, |cut| &line[..cut]));
    if is_shortened { format!("{shown} …") } else { shown }
}

/// Iterator over the instructions of a script. Each may extend over several lines.
pub(crate) struct Lines<'a> {
    pub(crate) client: &'a Client,
    pub(crate) source: Source,
    /// The number of lines read.
    pub(crate) number: usize,
}

impl Iterator for Lines<'_> {
    type Item = (Position, Result<Instruction, Failure>);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.number + 1;
        let mut text = String::new();
        loop {
            let last = text.len();
            let read = self.source.lines.read_line(&mut text);
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            let at = |number, text: &str| Position::new(&self.source.name, number, text);
            match read {
                Ok(0) if text.is_empty() => return None,
                Ok(0) => return Some((at(first, line), self.client.read(line).map_err(Failure::from))),
                Ok(_) => self.number += 1,
                Err(error) => {
                    let failure = Failure::Unclear(format!("cannot read the next line: {error}"));
                    return Some((at(self.number + 1, line), Err(failure)));
                }
            }
            match self.client.read(line) {
                Err(Trouble::Unfinished) => {}
                // The lines before were fine so far.
                Err(trouble) => {
                    return Some((at(self.number, line.get(last..).unwrap_or_default()), Err(trouble.into())));
                }
                Ok(instruction) => return Some((at(first, line), Ok(instruction))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_shows_the_beginning_of_the_instruction() {
        let shown = |text: &str| Position::new("file", 12, text).to_string();
        assert_eq!(shown("  device_del id=x"), "file:12: device_del id=x");
        assert_eq!(shown("{\n  \"execute\": 1}"), "file:12: { …");
        assert_eq!(shown(&"x".repeat(60)), format!("file:12: {} …", "x".repeat(50)));
        assert_eq!(shown("set_password protocol=vnc password=x"), "file:12: set_password …");
        assert_eq!(shown("\u{1b}[2J"), r"file:12: \u{1b}[2J");
    }
}
