//! Texts of the command `help`: an overview, or a page on a command or an event from QEMU's schema.

use std::fmt;

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::schema::{Kind, Member, Shape};

use crate::arguments::Arguments;
use crate::complete::wanted;
use crate::show::printable;
use crate::split::Word;

/// The overview: the lines that the shell understands.
const LINES: &str = "\
NAME                           execute a command; TAB completes its name, its arguments and their values
NAME a=1 b.c=on d=[1,2] e='x y'  with arguments; each value gets the type of QEMU's schema, also from 0x10, 4G, on, off
{\"execute\": …}                 execute a command in JSON
hmp LINE                       execute a command of the human monitor (HMP)
agent NAME a=1                 execute a command of the guest agent (`--agent-at` gives its socket)
transaction(                   begin a transaction: a line for each action follows, and `)`, which sends it
help NAME                      help on a command or an event; with driver=… or the like, on that variant
exit, Ctrl-D                   end the shell (`quit` is a command of QEMU: it ends QEMU)
exit N, quit N                 the same, and the shell ends with this exit code";

/// Returns the page on the command or the event that the words name, or the overview if there are no words.
///
/// # Errors
///
/// A message, if there is no schema, or the schema does not have the name.
pub(crate) fn help(about: &[Word], schema: Option<&Schema>) -> Result<String, String> {
    let Some((about, written)) = about.split_first() else { return Ok(LINES.into()) };
    let schema = schema.ok_or("no help on commands: QEMU's schema is not available")?;
    let name = about.key.as_str();
    if let Some(data) = schema.data(name) {
        return Ok(page(name, "event", schema.features(name), data.members().collect()));
    }
    let Some(arguments) = Arguments::of(schema, name, written) else {
        let unknown = schema.check(&name).err();
        return Err(unknown.map_or_else(|| format!("`{name}`: not in QEMU's schema"), |unknown| unknown.to_string()));
    };
    let out_of_band = if schema.is_out_of_band(name) { "command, also out of band" } else { "command" };
    let mut page = page(name, out_of_band, schema.features(name), arguments.root().members());
    if let Some(tag) = arguments.root().open_tag() {
        page += &line(format_args!("more arguments depend on {tag}: help {name} {tag}=…"));
    }
    if let Some(reply) = schema.reply(name).map(answer).filter(|reply| !reply.is_empty()) {
        page += &line(format_args!("returns {reply}"));
    }
    Ok(page)
}

fn page(name: &str, what: &str, features: &[String], members: Vec<Member<'_>>) -> String {
    let mut page = printable(format!("{name}: {what}{}", noted(features)));
    let width = members.iter().map(|member| member.name.len()).max().unwrap_or_default();
    for Member { name, optional, features, shape, .. } in members {
        let optional = if optional { " (optional)" } else { "" };
        page += &line(format_args!("  {name:width$}  {}{optional}{}", wanted(shape), noted(features)));
    }
    page
}

/// Returns a further line of a page. The names in it are the peer's, and may contain anything.
fn line(text: fmt::Arguments<'_>) -> String {
    format!("\n{}", printable(text.to_string()))
}

fn noted(features: &[String]) -> String {
    if features.is_empty() { String::new() } else { format!(" [{}]", features.join(", ")) }
}

/// Describes a reply in one line. An object is shown by the names of its members, optional ones in brackets.
fn answer(shape: Shape<'_>) -> String {
    let names = |shape: Shape<'_>| {
        let name = |member: Member<'_>| if member.optional { format!("[{}]", member.name) } else { member.name.into() };
        shape.members().map(name).collect::<Vec<_>>().join(", ")
    };
    match (shape.kind(), shape.element()) {
        (Kind::Object, _) => names(shape),
        (Kind::Array, Some(element)) if element.kind() == Kind::Object => format!("a list of: {}", names(element)),
        _ => wanted(shape),
    }
}
