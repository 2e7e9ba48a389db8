//! Completion and hints for a line: the names and values that the schema allows next, and the missing arguments.

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::schema::{Kind, Member, Shape};

use crate::arguments::{Arguments, choices};
use crate::line::OWN;
use crate::live::Live;
use crate::split::{Word, as_value, cut, is_word};
use crate::transaction;

/// The longest hint, in bytes, so that a line fits a terminal of 80 columns.
const HINT: usize = 60;

/// Returns where the last word, or its value, begins, and the candidates to replace it. `live` returns the names that
/// the schema does not list.
pub(crate) fn candidates(
    before: &str,
    schema: &Schema,
    live: impl Fn(Live<'_>) -> Vec<String>,
) -> (usize, Vec<String>) {
    let Some((words, typed)) = last_word(before) else { return (before.len(), Vec::new()) };
    let start = typed.at.start;
    match (words.split_first(), &typed.value) {
        (None, None) => (start, names(&typed.key, schema.commands().chain(OWN))),
        (None, Some(_)) => (before.len(), Vec::new()),
        (Some((help, [])), None) if help.key == "help" => {
            (start, names(&typed.key, schema.commands().chain(schema.events())))
        }
        (Some((command, written)), _) => {
            let (command, written) = asked(command, written);
            let arguments = Arguments::of(schema, command, written);
            arguments.map_or((before.len(), Vec::new()), |arguments| of_argument(command, arguments, &typed, live))
        }
    }
}

/// As [`candidates`], for the text after `transaction(`: the actions, and the members of their data.
pub(crate) fn candidates_for_action(
    body: &str,
    schema: &Schema,
    live: impl Fn(Live<'_>) -> Vec<String>,
) -> (usize, Vec<String>) {
    let line = body.rfind('\n').map_or(0, |at| at + 1);
    let (start, found) = match last_word(&body[line..]) {
        Some((words, typed)) => match (words.split_first(), &typed.value) {
            (None, None) => (typed.at.start, names(&typed.key, transaction::names(schema))),
            (Some((action, written)), _) => match transaction::data(schema, &action.key) {
                Some(data) => of_argument(&action.key, Arguments::new(data, written), &typed, live),
                None => (0, Vec::new()),
            },
            (None, Some(_)) => (0, Vec::new()),
        },
        None => (0, Vec::new()),
    };
    (line + start, found)
}

/// Returns the complete words of a line, and the last one, which may be empty. `None` means that nothing is completed
/// there: in a quote, and in JSON.
fn last_word(before: &str) -> Option<(Vec<Word>, Word)> {
    let mut words = cut(before).ok()?;
    let ends_here = words.last().is_some_and(|word| word.at.end == before.len());
    let typed = if ends_here { words.pop() } else { None };
    let typed = typed.unwrap_or_else(|| Word { key: String::new(), value: None, at: before.len()..before.len() });
    (!typed.key.starts_with('{')).then_some((words, typed))
}

/// Returns where an argument of a command, or its value, begins, and the candidates to replace it.
fn of_argument(
    command: &str,
    arguments: Arguments<'_>,
    typed: &Word,
    live: impl Fn(Live<'_>) -> Vec<String>,
) -> (usize, Vec<String>) {
    let start = typed.at.start;
    let find = |key: &str| find(arguments.written(), key);
    match &typed.value {
        None => {
            let mut keys = keys(&typed.key, arguments);
            if let Some(driver) = find("driver").filter(|_| command == "device_add") {
                keys.extend(properties(&typed.key, arguments, live(Live::PropertiesOf(driver))));
            }
            (start, keys)
        }
        Some(value) if value.quoted => (typed.at.end, Vec::new()),
        Some(value) => {
            let words = arguments.shape_of(&typed.key).map(values).unwrap_or_default();
            let mut words = written_names(&value.text, words);
            if let Some(asked) = Live::of(command, &typed.key, &value.text, find) {
                words.extend(written_names(&value.text, live(asked).iter().map(String::as_str)));
            }
            (start + typed.key.len() + 1, words)
        }
    }
}

/// Returns the written value of a key.
fn find<'a>(written: &'a [Word], key: &str) -> Option<&'a str> {
    let word = written.iter().find(|word| word.key == key)?;
    word.value.as_ref().map(|value| value.text.as_str())
}

/// Returns properties of a device as keys, without those that the schema has or the line contains. The schema does not
/// list them (QEMU, `qapi/qdev.json`, `device_add`).
fn properties(typed: &str, arguments: Arguments<'_>, known: Vec<String>) -> Vec<String> {
    let is_new = |name: &String| is_word(name) && arguments.shape_of(name).is_none() && !arguments.has(name);
    let keys = known.into_iter().filter(is_new).map(|name| format!("{name}="));
    keys.filter(|key| begins(key, typed)).collect()
}

/// Returns the command whose arguments are written, and these. `help` has a command as its first argument.
fn asked<'a>(command: &'a Word, written: &'a [Word]) -> (&'a str, &'a [Word]) {
    match written.split_first() {
        Some((about, written)) if command.key == "help" => (&about.key, written),
        _ => (&command.key, written),
    }
}

/// Returns the names that begin with `typed`, each with a blank after it. QEMU has names with `-` and names with `_`: each
/// is found by the other. A name that is not one word could not be read.
fn names<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let known = known.into_iter().filter(|known| is_word(known) && begins(known, typed));
    known.map(|name| format!("{name} ")).collect()
}

/// As [`names`], for values. A name that needs quotes has them.
fn written_names<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let known = known.into_iter().filter(|known| begins(known, typed)).filter_map(as_value);
    known.map(|name| if name.ends_with('/') { name } else { format!("{name} ") }).collect()
}

fn begins(name: &str, typed: &str) -> bool {
    let fold = |text: &str| text.replace('_', "-");
    fold(name).starts_with(&fold(typed))
}

/// Returns the possible keys of an argument, up to the next dot.
fn keys(typed: &str, arguments: Arguments<'_>) -> Vec<String> {
    let path = typed.rsplit_once('.').map_or("", |(path, _)| path);
    let Some(object) = arguments.at(path) else { return Vec::new() };
    let mut keys = Vec::new();
    for member in object.members().into_iter().filter(|member| is_word(member.name)) {
        let key = object.key(member.name);
        let is_object = |shape: Shape<'_>| shape.kind() == Kind::Object;
        if !arguments.has(&key) && !choices(member.shape).all(is_object) {
            keys.push(format!("{key}="));
        }
        if choices(member.shape).any(is_object) {
            keys.push(format!("{key}."));
        }
    }
    keys.retain(|key| begins(key, typed));
    keys
}

/// Returns the words that are valid as a value.
fn values(shape: Shape<'_>) -> Vec<&str> {
    let of = |shape: Shape<'_>| if shape.kind() == Kind::Boolean { vec!["true", "false"] } else { Vec::new() };
    choices(shape).flat_map(|shape| shape.values().chain(of(shape)).collect::<Vec<_>>()).collect()
}

/// Returns the hint after a line: the missing arguments, or the type of a value. `None` means that there is no hint.
pub(crate) fn hint(line: &str, schema: &Schema) -> Option<String> {
    let words = cut(line).ok()?;
    let (command, written) = words.split_first()?;
    hint_of(line, Arguments::of(schema, &command.key, written)?)
}

/// As [`hint`], for the text after `transaction(`.
pub(crate) fn hint_for_action(body: &str, schema: &Schema) -> Option<String> {
    let line = body.rsplit('\n').next()?;
    let words = cut(line).ok()?;
    let (action, written) = words.split_first()?;
    hint_of(line, Arguments::new(transaction::data(schema, &action.key)?, written))
}

fn hint_of(line: &str, arguments: Arguments<'_>) -> Option<String> {
    let written = arguments.written();
    if line.ends_with(char::is_whitespace) {
        return missing(arguments, written.is_empty());
    }
    let last = written.last()?;
    let is_empty = last.value.as_ref().is_some_and(|value| value.text.is_empty() && !value.quoted);
    if is_empty { arguments.shape_of(&last.key).map(wanted) } else { None }
}

/// Returns the mandatory arguments that are missing, and at first also optional ones, up to the length of a hint.
fn missing(arguments: Arguments<'_>, with_optional: bool) -> Option<String> {
    let object = arguments.root();
    let members = object.members().into_iter().filter(|member| !arguments.has(&object.key(member.name)));
    let mut hint = String::new();
    for member in members.filter(|member| with_optional || !member.optional) {
        let next = shown(member);
        if hint.len() + next.len() > HINT {
            hint.push('…');
            break;
        }
        hint = hint + &next + " ";
    }
    let hint = hint.trim_end();
    (!hint.is_empty()).then(|| hint.to_owned())
}

fn shown(member: Member<'_>) -> String {
    let dot = if member.shape.kind() == Kind::Object { "." } else { "=" };
    if member.optional { format!("[{}{dot}]", member.name) } else { format!("{}{dot}", member.name) }
}

/// Describes the type of a value in short: its words if they are few, or else its kind.
pub(crate) fn wanted(shape: Shape<'_>) -> String {
    let words = values(shape);
    let listed = words.join("|");
    match shape.kind() {
        Kind::Enum | Kind::Boolean if listed.len() <= HINT => listed,
        Kind::Enum => {
            let room = listed.char_indices().take_while(|(at, _)| *at < HINT).filter(|(_, c)| *c == '|').last();
            format!("{}|…", room.map_or("", |(end, _)| &listed[..end]))
        }
        Kind::Array => format!("[{}, …]", shape.element().map_or_else(|| "anything".into(), wanted_within)),
        Kind::Alternate => shape.alternatives().map(wanted_within).collect::<Vec<_>>().join(" or "),
        _ => wanted_within(shape),
    }
}

/// Describes a type without descending further: a type may contain itself.
fn wanted_within(shape: Shape<'_>) -> String {
    let kind = shape.kind().to_string();
    let bare = kind.trim_start_matches("an ").trim_start_matches("a ");
    match shape.kind() {
        Kind::Enum if shape.values().map(|word| word.len() + 1).sum::<usize>() <= HINT => {
            shape.values().collect::<Vec<_>>().join("|")
        }
        Kind::Enum => "word".into(),
        _ => bare.into(),
    }
}

#[cfg(test)]
mod tests;
