//! Properties of frames: they do not depend on how the stream is split, are parts of it in order, keep the limit, and
//! cost a bounded number of looks at each byte.

use qemu_machine_core::wire::{Frame, Framer};

use super::Tape;
use super::tape::cut;

/// The most looks at a byte: for the end of the line, as structure, and, after an object that does not end its line,
/// once more for the end of that line.
const LOOKS: u64 = 3;

pub(super) fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let limit = match tape.byte() {
        0 => 1 << 20,
        limit => usize::from(limit),
    };
    let sizes = [tape.below(40), tape.below(8), tape.below(3)];
    let stream = tape.rest();
    let whole = frames(limit, &[stream]);
    assert_eq!(frames(limit, &stream.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    assert_eq!(frames(limit, &cut(stream, &sizes)), whole, "in pieces");
    assert_parts_of(&whole, stream, limit);
}

fn frames(limit: usize, pieces: &[&[u8]]) -> Vec<Frame> {
    let mut framer = Framer::new(limit);
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        frames.extend(core::iter::from_fn(|| framer.next_frame()));
    }
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let most = LOOKS * length as u64;
    assert!(framer.examined() <= most, "{} looks at {length} bytes", framer.examined());
    frames
}

/// Asserts that no frame is invented, repeated or moved.
fn assert_parts_of(frames: &[Frame], mut stream: &[u8], limit: usize) {
    for frame in frames {
        let Frame::Message(message) = frame else { continue };
        assert!(!message.is_empty() && message.len() <= limit, "a frame of {} bytes", message.len());
        assert_eq!(message.trim_ascii(), &message[..]);
        // Not `windows`, which takes the square of the length for a stream of equal bytes.
        let at = memchr::memmem::find(stream, message);
        stream = &stream[at.expect("it is in the rest of the stream") + message.len()..];
    }
}
