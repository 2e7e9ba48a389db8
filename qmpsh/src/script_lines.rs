//! Lines of a script: their instructions, and the position of each for an error.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::string::FromUtf8Error;

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

/// The position of an instruction: `FILE:LINE: TEXT`, or `FILE:LINE` of a line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    name: String,
    /// Counted from 1.
    line: usize,
    text: String,
}

impl Position {
    /// The position of a part of an instruction, whose lines up to there are `whole`.
    fn new(name: &str, line: usize, part: &str, whole: &str) -> Self {
        Self { name: name.into(), line, text: excerpt(part, whole) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, line, text } = self;
        if text.is_empty() { write!(f, "{name}:{line}") } else { write!(f, "{name}:{line}: {text}") }
    }
}

/// Returns the first line of a part of an instruction, or the beginning of it. If the instruction may contain a secret,
/// returns only its name, and nothing of JSON: the secret may be anywhere else, also in lines without a blank.
fn excerpt(part: &str, whole: &str) -> String {
    if may_be_secret(whole) {
        let is_of_name = |c: &char| c.is_ascii_alphanumeric() || "-_.(".contains(*c);
        let name: String = whole.trim_start().chars().take_while(is_of_name).collect();
        return format!("{name} …").trim_start().to_owned();
    }
    let line = part.trim_start().lines().next().unwrap_or_default().trim_end();
    let cut = line.char_indices().nth(SHOWN).map(|(at, _)| at);
    let is_shortened = cut.is_some() || part.trim().len() > line.len();
    let shown = printable(cut.map_or(line, |cut| &line[..cut]));
    if is_shortened { format!("{shown} …") } else { shown }
}

/// Iterator over the instructions of a script. Each may extend over several lines. It ends at an error of the source: a
/// directory, for example, has the same error at each further read.
pub(crate) struct Lines<'a> {
    client: &'a Client,
    source: Source,
    /// The number of lines read.
    number: usize,
    /// The lines of a transaction that has an action which is not valid. Its other actions must not be executed alone, so
    /// they are skipped, up to its end.
    failed: Option<String>,
    has_ended: bool,
}

/// Next item of the source.
enum NextLine {
    /// A line, with its line feed.
    Text(String),
    /// A line that is not UTF-8.
    Invalid(String),
    End,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(client: &'a Client, source: Source) -> Self {
        Self { client, source, number: 0, failed: None, has_ended: false }
    }

    /// Reads the next line.
    ///
    /// # Errors
    ///
    /// [`Failure::Unclear`], if the source fails.
    fn read(&mut self) -> Result<NextLine, Failure> {
        let mut bytes = Vec::new();
        let read = self.source.lines.read_until(b'\n', &mut bytes);
        let count = read.map_err(|error| Failure::Unclear(format!("cannot read the next line: {error}")))?;
        if count == 0 {
            return Ok(NextLine::End);
        }
        self.number += 1;
        let invalid = |error: FromUtf8Error| NextLine::Invalid(String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok(String::from_utf8(bytes).map_or_else(invalid, NextLine::Text))
    }

    fn at(&self, line: usize, part: &str, whole: &str) -> Position {
        Position::new(&self.source.name, line, part, whole)
    }

    /// Skips the rest of a transaction that has failed.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn skip_transaction(&mut self) -> Result<(), Failure> {
        let Some(mut text) = self.failed.take() else { return Ok(()) };
        while self.client.is_in_transaction(&text) {
            match self.read()? {
                NextLine::Text(line) | NextLine::Invalid(line) => text += &line,
                NextLine::End => break,
            }
        }
        Ok(())
    }

    /// Returns the next instruction. `None` means that there is none.
    fn instruction(&mut self) -> Option<(Position, Result<Instruction, Failure>)> {
        if let Err(failure) = self.skip_transaction() {
            return Some(self.last(failure));
        }
        let (first, mut text) = (self.number + 1, String::new());
        loop {
            let begin = text.len();
            match self.read() {
                Ok(NextLine::End) if text.is_empty() => return None,
                Ok(NextLine::End) => {
                    let read = self.client.read(without_line_feed(&text)).map_err(Failure::from);
                    return Some((self.at(first, &text, &text), read));
                }
                Ok(NextLine::Text(line)) => text += &line,
                Ok(NextLine::Invalid(line)) => {
                    text += &line;
                    let position = self.at(self.number, &line, &text);
                    self.failed = Some(text);
                    return Some((position, Err(Failure::Unclear("the line is not UTF-8".into()))));
                }
                Err(failure) => return Some(self.last(failure)),
            }
            match self.client.read(without_line_feed(&text)) {
                Err(Trouble::Unfinished) => {}
                Err(trouble) => {
                    // The lines before were fine so far.
                    let position = self.at(self.number, &text[begin..], &text);
                    self.failed = Some(text);
                    return Some((position, Err(trouble.into())));
                }
                Ok(instruction) => return Some((self.at(first, &text, &text), Ok(instruction))),
            }
        }
    }

    /// Ends the iteration with a failure of the source.
    fn last(&mut self, failure: Failure) -> (Position, Result<Instruction, Failure>) {
        self.has_ended = true;
        (self.at(self.number + 1, "", ""), Err(failure))
    }
}

impl Iterator for Lines<'_> {
    type Item = (Position, Result<Instruction, Failure>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended { None } else { self.instruction() }
    }
}

/// Returns lines without the line feed at their end.
fn without_line_feed(lines: &str) -> &str {
    let lines = lines.strip_suffix('\n').unwrap_or(lines);
    lines.strip_suffix('\r').unwrap_or(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_shows_the_beginning_of_the_instruction() {
        let shown = |text: &str| Position::new("file", 12, text, text).to_string();
        assert_eq!(shown("  device_del id=x"), "file:12: device_del id=x");
        assert_eq!(shown("{\n  \"execute\": 1}"), "file:12: { …");
        assert_eq!(shown(&"x".repeat(60)), format!("file:12: {} …", "x".repeat(50)));
        assert_eq!(shown("\u{1b}[2J"), r"file:12: \u{1b}[2J");
    }

    #[test]
    fn a_position_has_no_secret() {
        let shown = |part: &str, whole: &str| Position::new("file", 2, part, whole).to_string();
        let alone = |text: &str| shown(text, text);
        assert_eq!(alone("set_password protocol=vnc password=x"), "file:2: set_password …");
        assert_eq!(alone("{\"execute\":\"set_password\",\"arguments\":{\"password\":\"x\"}}"), "file:2: …");
        assert_eq!(alone("change vnc passwd x"), "file:2: change …");
        assert_eq!(alone("password=x"), "file:2: password …");
        assert_eq!(shown("data=x", "object-add qom-type=secret \\\ndata=x"), "file:2: object-add …");
        assert_eq!(shown("clear node=x", "transaction(\nset password=x\nclear node=x"), "file:2: transaction( …");
    }
}
