//! Search of comments and pages for phrases that are not used, for files without a head, and for citations.

use qemu_machine_tests::sources::{Source, lex};

use crate::find::Finding;

/// Phrases that are not used in prose, in lower case, each with what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("whoever", "the caller, the driver, the peer, …"),
    ("whomever", "the caller, the driver, the peer, …"),
    ("somebody", "the actor: another program, another thread, …"),
    ("someone", "the actor: another program, another thread, …"),
    ("nobody", "no caller, no task, …"),
    ("such a one", "the noun"),
    ("goes round", "repeats"),
    ("comes by", "receives, or occurs"),
    ("who wants", "To …, …"),
    ("is told", "is notified, or receives"),
    ("are told", "are notified, or receive"),
    ("is forgotten", "is dropped, or evicted"),
    ("are forgotten", "are dropped, or evicted"),
    ("lets go of", "drops, or closes"),
];

/// Returns the prose of a file: the comments of Rust, and Markdown without its code blocks.
fn prose(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<(usize, String)> = if source.path.ends_with(".rs") {
        lex(&source.text).comments.into_iter().map(|(line, text)| (line, text.to_lowercase())).collect()
    } else if source.path.ends_with(".md") {
        let mut in_code = false;
        let mut lines = Vec::new();
        for (at, line) in source.text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            if !in_code {
                lines.push((at + 1, line.to_lowercase()));
            }
        }
        lines
    } else {
        Vec::new()
    };
    // Code in backticks is not prose.
    lines.into_iter().map(|(line, text)| (line, text.split('`').step_by(2).collect::<Vec<_>>().join("`"))).collect()
}

/// The most letters of a line of prose. Tables, code and generated pages may have more.
const LONGEST: usize = 126;

/// Returns whether a line of prose begins with a clause in place of a noun.
fn begins_with_a_clause(line: &str) -> bool {
    let text = line.trim_start_matches(['/', '!', '#', ' ', '*', '-']);
    ["What is ", "What a ", "What an ", "What the "].iter().any(|clause| text.starts_with(clause))
}

/// Finds lines of prose that are too long, and those that begin with a clause.
fn find_lines(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    let mut in_example = false;
    for (at, _) in prose(source) {
        let line = lines.get(at - 1).copied().unwrap_or_default();
        in_example ^= line.trim_start_matches(['/', '!', ' ']).starts_with("```");
        if in_example {
            continue;
        }
        // A comment behind code is as long as the formatter leaves it.
        let is_prose = source.path.ends_with(".md") || line.trim_start().starts_with("//");
        if is_prose && line.chars().count() > LONGEST && !line.contains('|') {
            found.push(Finding::new(source, at, "overlong", "at most 126 letters in a line"));
        }
        if is_prose && begins_with_a_clause(line) {
            found.push(Finding::new(source, at, "what", "a noun: Output of …, State of …, Remains of …"));
        }
    }
    found
}

/// Returns whether a text contains a phrase as whole words.
fn contains(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + phrase.len()..].chars().next();
        [before, after].into_iter().flatten().all(|letter| !letter.is_alphanumeric())
    })
}

/// Finds phrases that are not used, and lines that are too long.
pub(crate) fn find(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, text) in prose(source) {
        let meant = PHRASES.iter().filter(|(phrase, _)| contains(&text, phrase));
        found.extend(meant.map(|(phrase, right)| Finding::new(source, line, phrase, right)));
    }
    found.extend(find_lines(source));
    found
}

/// Returns whether the first line of a Rust file says what the file is, or includes a page that does.
pub(crate) fn has_head(source: &Source) -> bool {
    let first = source.text.lines().next().unwrap_or_default();
    let is_page = first.starts_with("#![doc = include_str!(");
    is_page
        || first
            .strip_prefix("//! ")
            .is_some_and(|head| head.starts_with(char::is_uppercase) && !head.starts_with("Decides"))
}

/// Returns whether a comment cites a man page, such as `unix(7)`.
fn cites_a_page(text: &str) -> bool {
    text.match_indices('(').any(|(at, _)| {
        let section = &text.as_bytes()[at + 1..];
        let is_section = matches!(section, [b'1'..=b'8', b')', ..]);
        is_section && text[..at].ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

/// Counts the lines of comments that cite a source: the specification, a file of QEMU, a man page or a measurement.
pub(crate) fn citations(source: &Source) -> usize {
    const SOURCES: [&str; 9] =
        ["qmp-spec", "monitor/", "chardev/", "qga/", "qapi/", "softmmu/", "system/", "util/", "measured with QEMU"];
    let is_citation = |text: &str| SOURCES.iter().any(|source| text.contains(source)) || cites_a_page(text);
    lex(&source.text).comments.iter().filter(|(_, text)| is_citation(text)).count()
}

#[test]
fn a_phrase_is_found_in_prose_only() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let told = |source: &Source| find(source).iter().map(Finding::told).collect::<Vec<_>>();
    let rust = source("a.rs", "//! File.\n// Whoever waits, is told.\nlet nobody = \"somebody\"; // `nobody`, nobodys");
    assert_eq!(
        told(&rust),
        ["a.rs:2: whoever: the caller, the driver, the peer, …", "a.rs:2: is told: is notified, or receives"]
    );
    assert_eq!(told(&source("c.md", "```\nnobody\n```\nNobody.")), ["c.md:4: nobody: no caller, no task, …"]);
}

#[test]
fn a_long_line_and_a_clause_are_found() {
    let count = |path: &str, text: &str| find(&Source { path: path.into(), text: text.into() }).len();
    let long = "word ".repeat(30);
    assert_eq!(count("a.rs", &format!("//! File.\n// {long}\nlet a = 1; // {long}\n/// | {long} |")), 1);
    assert_eq!(count("a.md", &format!("{long}\n| {long} |\n```\n{long}\n```")), 1);
    assert_eq!(
        count("a.rs", "//! File.\n/// What is left.\n    // What the guest prints.\n/// What follows. What is left."),
        2
    );
    assert_eq!(count("a.md", "## What is left\nIt shows what is left."), 1);
}

#[test]
fn a_file_without_a_head_is_found() {
    let has_head = |text: &str| has_head(&Source { path: "a.rs".into(), text: text.into() });
    assert!(has_head("//! Framer of the byte stream."));
    assert!(!has_head("//! Decides where a message ends.") && !has_head("use std::io;") && !has_head(""));
}

#[test]
fn a_citation_is_counted() {
    let text = "// See `unix(7)`.\n// (QEMU, `monitor/qmp.c`)\n// f(1, 2), f(9), `f()`\nlet unix = 7;";
    assert_eq!(citations(&Source { path: "a.rs".into(), text: text.into() }), 2);
}
