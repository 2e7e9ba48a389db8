//! Decides how reading is measured by itself, in memory: events in lines, to messages that can be asked for their parts.

use std::hint::black_box;
use std::io;

use qemu_machine_core::wire::{Frame, Framer, Message};
use qemu_machine_tests::null::EVENTS;
use serde_json::Value;

use crate::clients::other;
use crate::clients::raw::Envelope;
use crate::meter::measure;

/// What a socket holds, about.
const READ: usize = 340;

/// Reads so many events.
pub fn act(name: &str, events: usize) -> io::Result<()> {
    let lines: Vec<u8> = (0..READ).flat_map(|number| EVENTS[number % 2]).copied().collect();
    let read: fn(&[u8]) -> io::Result<()> = match name {
        "serde value" => {
            |lines| each(lines, |line| serde_json::from_slice::<Value>(line).map(|value| drop(black_box(value))))
        }
        "raw+serde" => |lines| {
            each(lines, |line| serde_json::from_slice::<Envelope<'_>>(line).map(|envelope| drop(black_box(envelope))))
        },
        "core" => core,
        _ => return Err(other(format!("{name} does not read by itself"))),
    };
    read(&lines)?;
    measure(|| (0..events / READ).try_for_each(|_| read(&lines)).map(|()| 0.0))
}

fn each(lines: &[u8], read: fn(&[u8]) -> serde_json::Result<()>) -> io::Result<()> {
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', lines) {
        read(&lines[from..end])?;
        from = end + 1;
    }
    Ok(())
}

fn core(lines: &[u8]) -> io::Result<()> {
    let mut framer = Framer::new(64 << 20);
    framer.push(lines);
    while let Some(Frame::Message(frame)) = framer.next_frame() {
        black_box(Message::read(&frame).map_err(other)?);
    }
    Ok(())
}
