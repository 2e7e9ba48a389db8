//! Workload of parsing in memory: from lines of events to messages with accessible parts.

use std::hint::black_box;
use std::io;

use qemu_machine_core::wire::{Frame, Framer, Message};
use qemu_machine_tests::null::EVENTS;
use serde_json::Value;

use crate::clients::raw::Envelope;
use crate::clients::{keep, other};
use crate::meter::measure;

/// The number of events that a read from a socket returns, approximately.
const READ: usize = 340;

/// Parses this number of events.
pub fn act(name: &str, events: usize) -> io::Result<()> {
    let lines: Vec<u8> = (0..READ).flat_map(|number| EVENTS[number % 2]).copied().collect();
    let read: fn(&[u8]) -> io::Result<()> = match name {
        "serde value" => {
            |lines| each(lines, |line| serde_json::from_slice::<Value>(line).map(|value| drop(black_box(value))))
        }
        "raw+serde" => |lines| each(lines, |line| serde_json::from_slice::<Envelope<'_>>(line).map(keep)),
        "core" => core,
        _ => return Err(other(format!("the client {name} has no separate parser"))),
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
