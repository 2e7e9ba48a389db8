//! Encoder of commands.
//!
//! QEMU reads a monitor one byte at a time (QEMU, `monitor/monitor.c`, `monitor_can_read`), at 3 to 15 microseconds a
//! byte (measured with QEMU 7.2.22), so the length of a request is its latency. A request has no white space, no empty
//! `arguments` (optional: `docs/interop/qmp-spec.rst`, Issuing Commands), and no line feed after it. QEMU needs no line
//! feed after an object, and a byte that it leaves unread when it exits turns the end of the connection into
//! `ECONNRESET` (measured with QEMU 7.2.22). The id comes last, so that a command can be encoded before it has one.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::Body;
use super::scan::find_special;
use crate::command::{Band, Command, CommandTraits};
use crate::descriptor::Descriptor;
use crate::fault::Misuse;
use crate::json::Cursor;

/// A command as bytes, without its id.
///
/// Encoding runs the caller's code (`Serialize`). A driver that shares a machine between threads encodes before it
/// locks the machine; otherwise that code runs under the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub(crate) body: Body,
    pub(crate) band: Band,
    pub(crate) kind: CommandTraits,
    pub(crate) descriptor: Option<Descriptor>,
}

impl Encoded {
    /// Encodes a command.
    ///
    /// # Errors
    ///
    /// [`Misuse::Arguments`] when the arguments are not an object, cannot be written as JSON, or are nested so deep that
    /// the command has more than 1,024 levels, which QEMU does not read. The arguments are written recursively, on the
    /// caller's stack.
    pub fn command<C: Command>(command: &C) -> Result<Self, Misuse> {
        let band = if command.out_of_band() { Band::OutOfBand } else { Band::InBand };
        let mut body = Body::default();
        body.push(match band {
            Band::InBand => b"{\"execute\":\"".as_slice(),
            Band::OutOfBand => b"{\"exec-oob\":\"".as_slice(),
        });
        let name = command.name();
        write_name(name, &mut body)
            .and_then(|()| write_arguments(command.arguments(), &mut body))
            .map_err(|problem| Misuse::Arguments { command: name.into(), problem: problem.into() })?;
        let kind = traits(name, &body);
        Ok(Self { body, band, kind, descriptor: None })
    }

    /// Encodes a command without arguments, whose name needs no escapes.
    pub(crate) fn name(name: &'static str) -> Self {
        let mut body = Body::default();
        body.push(b"{\"execute\":\"");
        body.push(name.as_bytes());
        body.push(b"\"");
        let kind = traits(name, &body);
        Self { body, band: Band::InBand, kind, descriptor: None }
    }

    /// Encodes a command that the caller wrote as a JSON object.
    ///
    /// # Errors
    ///
    /// [`Misuse::Raw`] when the bytes are not exactly one JSON object, when the object has an `id`, or when it has more
    /// than 1,024 levels, which QEMU does not read.
    pub fn raw(object: &[u8]) -> Result<Self, Misuse> {
        let members: Members<'_> =
            serde_json::from_slice(object).map_err(|error| Misuse::Raw(error.to_string().into()))?;
        let text = object.trim_ascii();
        // serde reads a struct from an array as well, but the session can add an id only to an object.
        let open = text.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        let Some(inside) = open.filter(|_| members.id.is_none()) else {
            return Err(Misuse::Raw("it must be an object without an `id`".into()));
        };
        check_depth(text, 0).map_err(|problem| Misuse::Raw(problem.into()))?;
        let mut body = Body::default();
        body.push(b"{");
        body.push(inside.trim_ascii());
        let band = if members.out_of_band.is_some() { Band::OutOfBand } else { Band::InBand };
        let name: Option<String> = members.execute.and_then(|name| serde_json::from_str(name.get()).ok());
        let kind = name.map_or_else(CommandTraits::default, |name| traits(&name, &body));
        Ok(Self { body, band, kind: CommandTraits { raw: true, ..kind }, descriptor: None })
    }

    /// Encodes a line for qtest, without its line feed.
    ///
    /// # Errors
    ///
    /// [`Misuse::QtestLine`] when the line is empty, or contains a line feed, a carriage return or a NUL. QEMU splits
    /// its input at line feeds (QEMU, `system/qtest.c`, `qtest_process_inbuf`), so a second line would have a second
    /// reply.
    pub fn line(line: &str) -> Result<Self, Misuse> {
        if line.trim().is_empty() || line.contains(['\n', '\r', '\0']) {
            return Err(Misuse::QtestLine);
        }
        let kind = CommandTraits { line: true, ..CommandTraits::default() };
        Ok(Self { body: line.as_bytes().to_vec().into(), band: Band::InBand, kind, descriptor: None })
    }

    /// Adds a descriptor that is sent with the command (`getfd`, `add-fd`).
    #[must_use]
    pub fn with_descriptor(self, descriptor: Descriptor) -> Self {
        Self { descriptor: Some(descriptor), ..self }
    }
}

/// Returns what the session needs to know of a command with this name, however the caller wrote it.
fn traits(name: &str, body: &[u8]) -> CommandTraits {
    CommandTraits { silent: SILENT.contains(&name), ..ending(name, body) }
}

/// Returns whether a command ends QEMU or presses the power button when it succeeds: a command of QMP (QEMU,
/// `qapi/control.json`, `quit`; `qapi/machine.json`, `system_powerdown`), or of the human monitor (QEMU,
/// `hmp-commands.hx`, `quit|q`). Without it, an end that the caller requested would be attributed to another client.
fn ending(name: &str, body: &[u8]) -> CommandTraits {
    let of = |quit, power_button| CommandTraits { quit, power_button, ..CommandTraits::default() };
    match name {
        "quit" => of(true, false),
        "system_powerdown" => of(false, true),
        "human-monitor-command" => {
            let line = human_monitor_line(body).unwrap_or_default();
            let name = line.split_whitespace().next().unwrap_or_default();
            of(matches!(name, "quit" | "q"), name == "system_powerdown")
        }
        _ => CommandTraits::default(),
    }
}

/// Returns the line of a `human-monitor-command`, whose object lacks its closing brace (QEMU, `qapi/misc.json`).
fn human_monitor_line(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        arguments: Arguments,
    }
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(rename = "command-line")]
        command_line: String,
    }
    let object = [body, b"}"].concat();
    serde_json::from_slice(&object).ok().map(|Object { arguments }| arguments.command_line)
}

/// The commands to which a guest agent sends no reply when they succeed (QEMU, `qga/qapi-schema.json`,
/// `'success-response': false`). Without this list a caller would wait for such a reply until its deadline.
const SILENT: [&str; 4] = ["guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"];

/// The members of a raw command that the session needs.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "super::envelope::present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    execute: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "exec-oob")]
    out_of_band: Option<&'a RawValue>,
}

/// Writes a name as a JSON string whose opening quote was written. A name without characters to escape, as all of QEMU's
/// are, costs no allocation.
fn write_name(name: &str, out: &mut Body) -> Result<(), String> {
    if find_special(name.as_bytes(), 0).is_none() {
        out.push(name.as_bytes());
        out.push(b"\"");
        return Ok(());
    }
    out.push(&serde_json::to_vec(name).map_err(|error| error.to_string())?[1..]);
    Ok(())
}

fn write_arguments(arguments: Option<impl Serialize>, out: &mut Body) -> Result<(), String> {
    let Some(arguments) = arguments else { return Ok(()) };
    let json = serde_json::to_vec(&arguments).map_err(|error| error.to_string())?;
    match &*json {
        b"{}" | b"null" => return Ok(()),
        object if object.starts_with(b"{") => {}
        _ => return Err("not an object".to_string()),
    }
    check_depth(&json, 1)?;
    out.push(b",\"arguments\":");
    out.push(&json);
    Ok(())
}

/// The most levels of a command that QEMU reads (QEMU, `qobject/json-streamer.c`, `MAX_NESTING`).
const LEVELS: usize = 1024;

/// Returns an error if JSON that stands inside so many levels of a command makes that too deep for QEMU. QEMU would
/// reply with an error for each further bracket, none of which names the command (measured with QEMU 7.2.22).
fn check_depth(json: &[u8], outside: usize) -> Result<(), String> {
    // Few commands have so many brackets at all.
    if memchr::memchr2_iter(b'{', b'[', json).nth(LEVELS - outside).is_none() {
        return Ok(());
    }
    match Cursor::new(json).depth() + outside {
        ..=LEVELS => Ok(()),
        depth => Err(format!("nested {depth} levels deep, and QEMU reads at most {LEVELS}")),
    }
}

/// Writes the id of a command, and the brace that ends the command.
pub(crate) fn end(id: u16, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(b"\"id\":");
    let mut digits = [0_u8; 5];
    let mut rest = id;
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
    out.push(b'}');
}
