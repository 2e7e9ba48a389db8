//! Decides what is said to who asks for help.

use std::fmt::Write;

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::schema::{Kind, Member, Shape};

use crate::arguments::Arguments;
use crate::complete::wanted;
use crate::split::Word;

/// What the shell understands.
const LINES: &str = "\
NAME                           a command: TAB completes its name, its arguments and their words
NAME a=1 b.c=on d=[1,2] e='x y'  with arguments; each becomes what QEMU wants there, also 0x10, 4G, on, off
{\"execute\": …}                 a command as it goes over the wire
hmp LINE                       a command of the human monitor
help NAME                      on a command or an event; with driver=… or the like, on that variant
exit, Ctrl-D                   the end of the shell (`quit` is QEMU's: it ends QEMU)";

/// Help on what is named, or on the shell. With no schema there is help on the shell alone.
pub(crate) fn help(about: &[Word], schema: Option<&Schema>) -> Result<String, String> {
    let Some((about, written)) = about.split_first() else { return Ok(LINES.into()) };
    let schema = schema.ok_or("there is no schema to look it up in")?;
    let name = about.key.as_str();
    if let Some(data) = schema.data(name) {
        return Ok(page(name, "event", schema.features(name), data.members().collect()));
    }
    let Some(arguments) = Arguments::of(schema, name, written) else {
        let unknown = schema.check(&name).err();
        return Err(unknown.map_or_else(|| format!("`{name}`: nothing is known of it"), |unknown| unknown.to_string()));
    };
    let out_of_band = if schema.is_out_of_band(name) { "command, also out of band" } else { "command" };
    let mut page = page(name, out_of_band, schema.features(name), arguments.root().members());
    if let Some(tag) = arguments.root().open_tag() {
        let _ = write!(page, "\nand more, which depends on {tag}: help {name} {tag}=…");
    }
    if let Some(reply) = schema.reply(name).map(answer).filter(|reply| !reply.is_empty()) {
        let _ = write!(page, "\nanswers {reply}");
    }
    Ok(page)
}

fn page(name: &str, what: &str, features: &[String], members: Vec<Member<'_>>) -> String {
    let mut page = format!("{name}: {what}{}", noted(features));
    let width = members.iter().map(|member| member.name.len()).max().unwrap_or_default();
    for Member { name, optional, features, shape, .. } in members {
        let optional = if optional { " (optional)" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(page, "\n  {name:width$}  {}{optional}{}", wanted(shape), noted(features));
    }
    page
}

fn noted(features: &[String]) -> String {
    if features.is_empty() { String::new() } else { format!(" [{}]", features.join(", ")) }
}

/// What a reply is, in a line: an object by the names of its members, with those in brackets that may be missing.
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
