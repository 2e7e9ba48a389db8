//! Parser of KTAP, the format in which KUnit and kselftest print results (the kernel's
//! `Documentation/dev-tools/ktap.rst`), out of a console.
//!
//! The lines may come between others, which are ignored, and behind the prefixes of printk. Subtests are indented, or
//! follow `# ` as kselftest's runner prints the output of a program (`tools/testing/selftests/kselftest/prefix.pl`).

use qemu_machine_blocking::UntrustedText;

use crate::case::{Case, Verdict};

/// The deepest level of subtests. KUnit has three levels; the bound protects the stack of code that walks the tree.
pub const DEEPEST: usize = 32;

/// The most tests that are kept, so that a guest that prints for ever takes no more memory. KUnit has some thousands.
pub const MOST: usize = 100_000;

/// The most diagnostic lines of a test.
const DIAGNOSTICS: usize = 256;

/// The longest line; the rest of it is ignored. A line of printk has less than 1 KiB (`LOG_LINE_MAX`).
const LONGEST: usize = 16 << 10;

/// A parser of the output of a console.
///
/// ```
/// use qemu_machine_guest::{Verdict, ktap::Parser};
///
/// let mut parser = Parser::default();
/// parser.push(b"[    1.5] KTAP version 1\n[    1.5] 1..2\n[    1.6] ok 1 parse\n[    1.7] ok 2 save # SKIP no disk\n");
/// let cases = parser.finish();
/// assert_eq!((&*cases[0].name, cases[0].verdict), ("parse", Verdict::Passed));
/// assert_eq!((&*cases[1].name, cases[1].verdict), ("save", Verdict::Skipped));
/// ```
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that is not complete yet.
    partial: Vec<u8>,
    /// The open levels, the outermost first. Empty outside of a document.
    levels: Vec<Level>,
    /// The tests of the documents before.
    done: Vec<Case>,
    /// The number of tests that were kept.
    count: usize,
}

/// A level of tests that are siblings.
#[derive(Debug)]
struct Level {
    indent: usize,
    /// The number of tests of the plan. `None` means that there was no plan.
    planned: Option<u64>,
    /// The name of the parent, from `# Subtest:`.
    parent: Option<UntrustedText>,
    results: u64,
    cases: Vec<Case>,
    /// The diagnostic lines of the test whose result is next.
    diagnostics: Vec<UntrustedText>,
}

/// A line of KTAP, without its indentation.
enum Element<'a> {
    Version,
    Plan(u64),
    Result(Case),
    Subtest(&'a str),
    Diagnostic(&'a str),
    BailOut(&'a str),
}

impl Parser {
    /// Reads more output, which may end anywhere.
    pub fn push(&mut self, output: &[u8]) {
        for part in output.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.line(&String::from_utf8_lossy(&line));
            }
        }
    }

    /// Returns the tests. Those that the plan has and the output has not are [`Verdict::Missing`].
    #[must_use]
    pub fn finish(mut self) -> Vec<Case> {
        let line = std::mem::take(&mut self.partial);
        self.line(&String::from_utf8_lossy(&line));
        self.end_document();
        self.done
    }

    fn line(&mut self, line: &str) {
        let text = without_prefix(line.trim_end());
        let body = text.trim_start_matches(' ');
        let mut indent = text.len() - body.len();
        let mut element = Element::read(body);
        // The output of a program below kselftest's runner: `# ` is an indentation there.
        if let Some(Element::Diagnostic(inner)) = &element {
            let inside = inner.trim_start_matches(' ');
            let deeper = indent + 2 + (inner.len() - inside.len());
            let read = Element::read(inside);
            let is_open = self.levels.last().is_some_and(|level| level.indent >= deeper);
            let begins = matches!(read, Some(Element::Version)) && !self.levels.is_empty();
            if begins || (is_open && read.is_some()) {
                (indent, element) = (deeper, read);
            }
        }
        match element {
            Some(Element::Version) => self.begin(indent),
            Some(element) if !self.levels.is_empty() => self.add(indent, element),
            Some(_) | None => {}
        }
    }

    /// Begins a document, or a level of subtests.
    fn begin(&mut self, indent: usize) {
        if self.levels.first().is_some_and(|outermost| indent <= outermost.indent) {
            self.end_document();
        }
        self.open(indent);
    }

    /// Opens the level of this indentation, unless it, or a deeper one, is open.
    fn open(&mut self, indent: usize) {
        let is_open = self.levels.last().is_some_and(|level| level.indent >= indent);
        if !is_open && self.levels.len() < DEEPEST {
            self.levels.push(Level::new(indent));
        }
    }

    fn add(&mut self, indent: usize, element: Element<'_>) {
        match element {
            Element::Version => {}
            Element::Plan(count) => {
                self.open(indent);
                if let Some(level) = self.level_at(indent).filter(|level| level.planned.is_none()) {
                    level.planned = Some(count);
                }
            }
            Element::Subtest(name) => {
                self.open(indent);
                if let Some(level) = self.level_at(indent) {
                    level.parent = Some(name.into());
                }
            }
            Element::Diagnostic(text) => {
                if let Some(level) = self.level_at(indent).filter(|level| level.diagnostics.len() < DIAGNOSTICS) {
                    level.diagnostics.push(text.into());
                }
            }
            Element::Result(mut case) => {
                self.open(indent);
                case.cases = self.close_below(indent);
                self.result(case);
            }
            Element::BailOut(why) => {
                let mut case = Case::new("Bail out!", Verdict::Failed);
                case.reason = Some(why).filter(|why| !why.is_empty()).map(UntrustedText::from);
                self.result(case);
            }
        }
    }

    /// Returns the innermost level that is not deeper than this indentation.
    fn level_at(&mut self, indent: usize) -> Option<&mut Level> {
        self.levels.iter_mut().rev().find(|level| level.indent <= indent)
    }

    /// Adds a result to the innermost level.
    fn result(&mut self, mut case: Case) {
        let Some(level) = self.levels.last_mut() else { return };
        level.results += 1;
        case.diagnostics = std::mem::take(&mut level.diagnostics);
        if self.count < MOST {
            self.count += 1;
            level.cases.push(case);
        }
    }

    /// Closes the levels that are deeper than this, and returns the tests of the outermost of them. A level that is not
    /// directly below another one had a parent whose result is missing.
    fn close_below(&mut self, indent: usize) -> Vec<Case> {
        let mut below = Vec::new();
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.indent > indent) {
            let Some(level) = self.levels.pop() else { break };
            let parent = level.parent.clone();
            let is_last = self.levels.last().is_none_or(|level| level.indent <= indent);
            let cases = level.ended();
            if is_last {
                below = cases;
            } else if let Some(above) = self.levels.last_mut() {
                above.results += 1;
                above.cases.push(without_result(parent, cases));
            }
        }
        below
    }

    fn end_document(&mut self) {
        while let Some(level) = self.levels.pop() {
            let parent = level.parent.clone();
            let cases = level.ended();
            match self.levels.last_mut() {
                Some(above) => {
                    above.results += 1;
                    above.cases.push(without_result(parent, cases));
                }
                None => self.done.extend(cases),
            }
        }
    }
}

impl Level {
    fn new(indent: usize) -> Self {
        Self { indent, planned: None, parent: None, results: 0, cases: Vec::new(), diagnostics: Vec::new() }
    }

    /// Returns the tests, and one more for those of the plan that have no result. It is one, since a plan may have any
    /// number.
    fn ended(mut self) -> Vec<Case> {
        let missing = self.planned.unwrap_or_default().saturating_sub(self.results);
        if missing > 0 {
            let mut case = Case::new("(missing)", Verdict::Missing);
            case.reason = Some(format!("the plan has {missing} more").into());
            case.diagnostics = self.diagnostics;
            self.cases.push(case);
        }
        self.cases
    }
}

/// Returns the parent of subtests whose own result is missing.
fn without_result(name: Option<UntrustedText>, cases: Vec<Case>) -> Case {
    let mut case = Case::new(name.unwrap_or_default(), Verdict::Missing);
    case.reason = Some("it has no result".into());
    case.cases = cases;
    case
}

impl<'a> Element<'a> {
    /// Reads a line without its indentation. `None` means that it is no line of KTAP.
    fn read(body: &'a str) -> Option<Self> {
        if let Some(version) = body.strip_prefix("KTAP version ").or_else(|| body.strip_prefix("TAP version ")) {
            return version.parse::<u32>().is_ok().then_some(Self::Version);
        }
        if let Some(count) = body.strip_prefix("1..") {
            let count = count.split(' ').next()?;
            return Some(Self::Plan(count.parse().ok()?));
        }
        if let Some(name) = body.strip_prefix("# Subtest: ") {
            return Some(Self::Subtest(name));
        }
        if let Some(text) = body.strip_prefix('#') {
            return Some(Self::Diagnostic(text.strip_prefix(' ').unwrap_or(text)));
        }
        if let Some(why) = body.strip_prefix("Bail out!") {
            return Some(Self::BailOut(why.trim()));
        }
        let (is_ok, rest) = match body.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, body.strip_prefix("ok ")?),
        };
        // Without the number, prose could be taken for a result. The format requires it.
        let (number, description) = rest.split_once(' ').unwrap_or((rest, ""));
        number.parse::<u64>().ok()?;
        Some(Self::Result(case(is_ok, description.trim())))
    }
}

/// Returns the case of a result with this description: `- NAME # DIRECTIVE REASON`.
fn case(is_ok: bool, description: &str) -> Case {
    let description = description.strip_prefix("- ").unwrap_or(description);
    let (name, data) = match description.strip_prefix("# ") {
        Some(data) => ("", Some(data)),
        None => match description.split_once(" # ") {
            Some((name, data)) => (name, Some(data)),
            None => (description, None),
        },
    };
    let (directive, reason) = data.map_or(("", ""), |data| data.split_once(' ').unwrap_or((data, "")));
    let (verdict, reason) = match (&*directive.to_ascii_uppercase(), is_ok) {
        ("SKIP" | "SKIP:", _) => (Verdict::Skipped, reason),
        ("TODO", true) => (Verdict::Passed, reason),
        ("TODO" | "XFAIL", _) => (Verdict::ExpectedFailure, reason),
        (_, is_ok) => (if is_ok { Verdict::Passed } else { Verdict::Failed }, data.unwrap_or_default()),
    };
    let mut case = Case::new(name.trim(), verdict);
    case.reason = Some(reason.trim()).filter(|reason| !reason.is_empty()).map(UntrustedText::from);
    case
}

/// Returns a line without the prefixes of printk: `<6>`, `[    1.234567]` and `[    T1]` (the kernel's
/// `kernel/printk/printk.c`, `info_print_prefix`). One blank follows the last of them; more are the indentation.
fn without_prefix(line: &str) -> &str {
    let inside = |text: &str, is_known: fn(char) -> bool| !text.is_empty() && text.trim().chars().all(is_known);
    let level = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let mut rest = match level {
        Some((level, rest)) if inside(level, |letter| letter.is_ascii_digit()) => rest,
        _ => line,
    };
    let is_of_prefix: fn(char) -> bool = |letter| letter.is_ascii_digit() || matches!(letter, '.' | 'T' | 'C');
    while let Some((prefix, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        if !inside(prefix, is_of_prefix) {
            break;
        }
        match after.strip_prefix(' ') {
            Some(message) => return message,
            None => rest = after,
        }
    }
    rest
}
