//! Decides how a command stands on the wire.
//!
//! QEMU reads its input byte by byte, at some microseconds for each, so the length of a request is its latency: no
//! white space, no empty `arguments`, no line feed behind it (QEMU needs none, and one that it leaves unread when it
//! exits turns the end of the connection into a reset). The id comes last, so that a command can be encoded before
//! it has one.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::command::{Band, Command};
use crate::fault::Misuse;

/// Appends a command up to its id.
///
/// # Errors
///
/// When its arguments are not an object, or cannot be written as JSON. The buffer is then as it was.
pub fn command<C: Command>(command: &C, out: &mut Vec<u8>) -> Result<Band, Misuse> {
    let start = out.len();
    let band = if command.out_of_band() { Band::OutOfBand } else { Band::InBand };
    out.extend_from_slice(match band {
        Band::InBand => b"{\"execute\":".as_slice(),
        Band::OutOfBand => b"{\"exec-oob\":".as_slice(),
    });
    let written = write_name(command.name(), out).and_then(|()| write_arguments(command.arguments(), out));
    written.map(|()| band).map_err(|problem| {
        out.truncate(start);
        Misuse::Arguments { command: command.name().to_string(), problem }
    })
}

/// Names are plain, and cost no allocation then.
fn write_name(name: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    out.append(&mut serde_json::to_vec(name).map_err(|error| error.to_string())?);
    Ok(())
}

fn write_arguments(arguments: Option<impl Serialize>, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(arguments) = arguments else { return Ok(()) };
    let mut json = serde_json::to_vec(&arguments).map_err(|error| error.to_string())?;
    match &*json {
        b"{}" | b"null" => return Ok(()),
        object if object.starts_with(b"{") => {}
        _ => return Err("not an object".to_string()),
    }
    out.extend_from_slice(b",\"arguments\":");
    out.append(&mut json);
    Ok(())
}

/// Appends a command that the caller wrote as JSON, up to its id.
///
/// # Errors
///
/// When it is not exactly one JSON object, or has an `id` of its own. The buffer is then as it was.
pub fn raw(object: &[u8], out: &mut Vec<u8>) -> Result<Band, Misuse> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow, default, deserialize_with = "super::message::present")]
        id: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "exec-oob")]
        out_of_band: Option<&'a RawValue>,
    }
    let members: Members<'_> = serde_json::from_slice(object).map_err(|error| Misuse::Raw(error.to_string()))?;
    let text = object.trim_ascii();
    // A struct can be read from an array too; only an object can take our id.
    let open = text.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    let Some(inside) = open.filter(|_| members.id.is_none()) else {
        return Err(Misuse::Raw("an object without an id is needed".to_string()));
    };
    out.push(b'{');
    out.extend_from_slice(inside.trim_ascii());
    Ok(if members.out_of_band.is_some() { Band::OutOfBand } else { Band::InBand })
}

/// Ends a command with its id.
pub fn end(id: u16, out: &mut Vec<u8>) {
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
