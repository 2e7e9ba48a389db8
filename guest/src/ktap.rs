//! Parser of KTAP, the format in which KUnit and kselftest print results (the kernel's
//! `Documentation/dev-tools/ktap.rst`), out of a console.
//!
//! The lines may come between others, which are ignored, and behind the prefixes of printk. Subtests are indented, or
//! follow `# ` as kselftest's runner prints the output of a program (`tools/testing/selftests/kselftest/prefix.pl`).
//!
//! A document begins with its version, and ends when each test of its plan has a result. A number that is missing, repeated
//! or not planned, and a document without a plan and a result, are failures.

use qemu_machine_blocking::UntrustedText;

use crate::case::{Case, Verdict};
use crate::quiet::without_level;

/// The deepest level of subtests. KUnit has three levels; the bound protects the stack of code that walks the tree.
pub const DEEPEST: usize = 32;

/// The most tests that are kept, so that a guest that prints for ever takes no more memory. KUnit has some thousands. The
/// failures beyond it are counted.
pub const MOST: usize = 100_000;

/// The most bytes of names, reasons and diagnostic lines that are kept. The console of a run of KUnit is smaller.
const MOST_TEXT: usize = 64 << 20;

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
    /// The size of the results that were kept, and the number of those that were not.
    kept: Collected,
    /// The indentation of the latest document, and the number of its latest test, after its plan was fulfilled. `None`
    /// means that there is none.
    fulfilled: Option<(usize, u64)>,
}

/// The number of tests and of bytes of text that were kept, and of the tests that were not.
#[derive(Debug, Default)]
struct Collected {
    tests: usize,
    text: usize,
    dropped: u64,
    dropped_failures: u64,
}

/// A level of tests that are siblings.
#[derive(Debug)]
struct Level {
    indent: usize,
    /// The number of tests of the plan. `None` means that there was no plan.
    planned: Option<u64>,
    /// The name of the parent, from `# Subtest:`.
    parent: Option<UntrustedText>,
    has_version: bool,
    /// The number of the latest test.
    latest: u64,
    cases: Vec<Case>,
    /// The diagnostic lines of the test whose result is next.
    diagnostics: Vec<UntrustedText>,
}

/// A line of KTAP, without its indentation.
enum Element<'a> {
    Version,
    Plan(u64),
    /// The number of the test, and the test.
    Result(u64, Case),
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
        let Collected { dropped, dropped_failures, .. } = self.kept;
        if dropped > 0 {
            let verdict = if dropped_failures > 0 { Verdict::Failed } else { Verdict::Passed };
            let mut case = Case::new("(not kept)", verdict);
            case.reason = Some(format!("{dropped} more tests, of which {dropped_failures} failed").into());
            self.done.push(case);
        }
        self.done
    }

    /// Adds a failure: output is lost that could have been results.
    pub(crate) fn lost(&mut self, why: &str) {
        let mut case = Case::new("(lost output)", Verdict::Missing);
        case.reason = Some(why.into());
        self.done.extend(self.kept.keep(case));
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
            Some(element) if self.levels.is_empty() => self.reopen(indent, element),
            Some(element) => self.add(indent, element),
            None => {}
        }
    }

    /// Begins a document, or a level of subtests. Levels that are not above it had no parent with a result.
    fn begin(&mut self, indent: usize) {
        if self.levels.first().is_some_and(|outermost| indent <= outermost.indent) {
            self.end_document();
        }
        // A level that has only its name as yet is this one.
        while self
            .levels
            .last()
            .is_some_and(|level| level.indent > indent || (level.indent == indent && level.is_begun()))
        {
            self.close_without_result();
        }
        self.open(indent);
        if let Some(level) = self.levels.last_mut().filter(|level| level.indent == indent) {
            level.has_version = true;
        }
    }

    /// Continues a document whose plan was fulfilled: with the next test, which is one too many; or with subtests, as a
    /// module of KUnit prints them that is loaded later (before Linux 6.0, without a version).
    fn reopen(&mut self, indent: usize, element: Element<'_>) {
        let Some((outermost, latest)) = self.fulfilled else { return };
        let planned = match &element {
            Element::Result(number, _) if indent == outermost && *number == latest.saturating_add(1) => Some(latest),
            Element::Subtest(_) if indent > outermost => None,
            _ => return,
        };
        self.levels.push(Level { has_version: true, planned, latest, ..Level::new(outermost) });
        self.add(indent, element);
    }

    /// Opens the level of this indentation, unless it, or a deeper one, is open.
    fn open(&mut self, indent: usize) {
        if !self.is_open(indent) && self.levels.len() < DEEPEST {
            self.levels.push(Level::new(indent));
        }
    }

    /// Reports whether the level of this indentation, or a deeper one, is open.
    fn is_open(&self, indent: usize) -> bool {
        self.levels.last().is_some_and(|level| level.indent >= indent)
    }

    fn add(&mut self, indent: usize, element: Element<'_>) {
        match element {
            Element::Version => {}
            Element::Plan(count) => {
                self.open(indent);
                if let Some(level) = self.level_at(indent).filter(|level| level.planned.is_none()) {
                    level.planned = Some(count);
                }
                self.end_if_fulfilled();
            }
            Element::Subtest(name) => {
                self.open(indent);
                if let Some(level) = self.level_at(indent) {
                    level.parent = Some(name.into());
                }
            }
            Element::Diagnostic(text) => {
                let has_room = self.kept.text < MOST_TEXT;
                let level = self.level_at(indent).filter(|level| has_room && level.diagnostics.len() < DIAGNOSTICS);
                if let Some(level) = level {
                    level.diagnostics.push(text.into());
                    self.kept.text += text.len();
                }
            }
            // A line that is deeper than each level is output.
            Element::Result(number, mut case) if self.is_open(indent) => {
                case.cases = self.close_below(indent);
                self.result(number, case);
                self.end_if_fulfilled();
            }
            Element::Result(..) => {}
            Element::BailOut(why) => {
                let mut case = Case::new("Bail out!", Verdict::Failed);
                case.reason = Some(why).filter(|why| !why.is_empty()).map(UntrustedText::from);
                if let Some(level) = self.levels.last_mut() {
                    level.cases.extend(self.kept.keep(case));
                }
            }
        }
    }

    /// Returns the innermost level that is not deeper than this indentation.
    fn level_at(&mut self, indent: usize) -> Option<&mut Level> {
        self.levels.iter_mut().rev().find(|level| level.indent <= indent)
    }

    /// Adds a result to the innermost level. Numbers begin at 1 and increase by 1 (`ktap.rst`, "Test case result lines").
    fn result(&mut self, number: u64, mut case: Case) {
        let Some(level) = self.levels.last_mut() else { return };
        case.diagnostics = std::mem::take(&mut level.diagnostics);
        let next = level.latest.saturating_add(1);
        if number > next {
            let last = number - 1;
            let why = if last == next { format!("number {next}") } else { format!("numbers {next} to {last}") };
            level.cases.extend(self.kept.keep(missing(why)));
        } else if number < next {
            let mut repeated = Case::new("(wrong number)", Verdict::Failed);
            repeated.reason = Some(format!("the number {number} comes after {}", next - 1).into());
            level.cases.extend(self.kept.keep(repeated));
        }
        level.latest = level.latest.max(number);
        if level.planned.is_some_and(|planned| number > planned) {
            let mut extra = Case::new("(not planned)", Verdict::Failed);
            extra.reason = Some(format!("the plan has no test {number}").into());
            level.cases.extend(self.kept.keep(extra));
        }
        level.cases.extend(self.kept.keep(case));
    }

    /// Closes the levels that are deeper than this, and returns the tests of the outermost of them. A level that is not
    /// directly below another one had a parent whose result is missing.
    fn close_below(&mut self, indent: usize) -> Vec<Case> {
        while self.levels.iter().rev().nth(1).is_some_and(|above| above.indent > indent) {
            self.close_without_result();
        }
        match self.levels.last().is_some_and(|level| level.indent > indent) && self.levels.len() > 1 {
            true => self.levels.pop().map(|level| level.ended(&mut self.kept)).unwrap_or_default(),
            false => Vec::new(),
        }
    }

    /// Closes the innermost level, whose parent has no result.
    fn close_without_result(&mut self) {
        let Some(mut level) = self.levels.pop() else { return };
        let parent = level.parent.take();
        let cases = level.ended(&mut self.kept);
        match self.levels.last_mut() {
            Some(above) => {
                above.latest = above.latest.saturating_add(1);
                above.cases.extend(self.kept.keep(without_result(parent, cases)));
            }
            None => self.done.extend(cases),
        }
    }

    /// Ends the document if each test of its plan has a result: what follows is other output.
    fn end_if_fulfilled(&mut self) {
        let [level] = &*self.levels else { return };
        if level.planned.is_some_and(|planned| level.latest >= planned) {
            let fulfilled = Some((level.indent, level.latest));
            self.end_document();
            self.fulfilled = fulfilled;
        }
    }

    fn end_document(&mut self) {
        if let [level] = &mut *self.levels {
            // A program that printed its version and ended.
            if level.planned.is_none() && level.latest == 0 && level.cases.is_empty() {
                level.cases.extend(self.kept.keep(missing("the document has neither a plan nor a result".into())));
            }
        }
        self.fulfilled = None;
        while !self.levels.is_empty() {
            self.close_without_result();
        }
    }
}

impl Collected {
    /// Returns a case if there is room for it, and otherwise counts it.
    fn keep(&mut self, case: Case) -> Option<Case> {
        // The cases below it, and its diagnostic lines, were counted when they came.
        let text = case.name.len() + case.reason.as_ref().map_or(0, |reason| reason.len());
        if self.tests < MOST && self.text < MOST_TEXT {
            self.tests += 1;
            self.text += text;
            return Some(case);
        }
        self.dropped += 1;
        self.dropped_failures += u64::from(case.is_failure());
        None
    }
}

impl Level {
    fn new(indent: usize) -> Self {
        let (planned, parent) = (None, None);
        Self { indent, planned, parent, has_version: false, latest: 0, cases: Vec::new(), diagnostics: Vec::new() }
    }

    /// Reports whether it has more than a name.
    fn is_begun(&self) -> bool {
        self.has_version || self.planned.is_some() || self.latest > 0 || !self.cases.is_empty()
    }

    /// Returns the tests, and one more for those of the plan that have no result. It is one, since a plan may have any
    /// number.
    fn ended(mut self, kept: &mut Collected) -> Vec<Case> {
        let left = self.planned.unwrap_or_default().saturating_sub(self.latest);
        if left > 0 {
            let mut case = missing(format!("the plan has {left} more"));
            case.diagnostics = self.diagnostics;
            self.cases.extend(kept.keep(case));
        }
        self.cases
    }
}

/// Returns a test without a result.
fn missing(why: String) -> Case {
    let mut case = Case::new("(missing)", Verdict::Missing);
    case.reason = Some(why.into());
    case
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
        Some(Self::Result(number.parse().ok()?, case(is_ok, description.trim())))
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
    let mut rest = without_level(line);
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
