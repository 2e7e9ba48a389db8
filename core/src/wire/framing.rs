//! Decides where one message of the peer ends and the next begins.
//!
//! QEMU ends each message with a line feed, and a message is one line, so finding its end is a search for a byte
//! that the processor does for next to nothing. A pretty-printing monitor (`pretty=on`) breaks its messages into
//! indented lines; where a line begins with a brace and does not end with one, braces are counted instead.

use bytes::{Buf, Bytes, BytesMut};

/// One message, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message, or what stands in the place of one.
    Message(Bytes),
    /// A message that is longer than the limit. Its rest is skipped; the next message follows as usual.
    TooLarge,
}

/// Splits a stream of bytes into frames. The frames do not depend on how the stream was cut.
///
/// ```
/// use qemu_machine_core::wire::{Frame, Framer};
///
/// let mut framer = Framer::new(1024);
/// framer.push(b"{\"event\":\"STOP\"}\r\n{\"ret");
/// assert_eq!(framer.next_frame(), Some(Frame::Message(b"{\"event\":\"STOP\"}"[..].into())));
/// assert_eq!(framer.next_frame(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framer {
    buffer: BytesMut,
    /// How much of the buffer was examined in this mode.
    scanned: usize,
    mode: Mode,
    limit: usize,
    examined: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Look for the end of the line.
    Line,
    /// Count braces and brackets: the message spans lines.
    Depth(Depth),
    /// A message was too large: drop everything up to the end of the line.
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Depth {
    open: usize,
    within: Within,
    at_line_start: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Structure,
    String,
    /// Behind a backslash in a string.
    Escape,
}

impl Framer {
    /// A framer that holds no more than `limit` bytes of one message.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, mode: Mode::Line, limit, examined: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.mode == Mode::Skip && self.buffer.is_empty() {
            // A message that is too large is dropped as it comes, not collected.
            self.examined += bytes.len() as u64;
            if let Some(end) = memchr::memchr(b'\n', bytes) {
                self.mode = Mode::Line;
                self.buffer.extend_from_slice(&bytes[end + 1..]);
            }
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete frame, if it is there.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match self.mode {
                Mode::Line => match self.end_of_line()? {
                    Line::Empty => {}
                    Line::Whole(end) => return Some(self.cut(end, end + 1)),
                    Line::Open => self.enter(Mode::Depth(Depth::default())),
                    Line::TooLarge => return Some(self.skip()),
                },
                Mode::Depth(depth) => match self.end_of_object(depth)? {
                    Some(end) => return Some(self.cut(end, end)),
                    None => return Some(self.skip()),
                },
                Mode::Skip => {
                    let end = self.find_line_feed()?;
                    self.buffer.advance(end + 1);
                    self.enter(Mode::Line);
                }
            }
        }
    }

    /// How many bytes were looked at so far, counting a byte each time. In line mode that is once for each byte.
    #[must_use]
    pub fn examined(&self) -> u64 {
        self.examined
    }

    fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.scanned = 0;
    }

    fn find_line_feed(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', &self.buffer[self.scanned..]);
        let looked_at = found.map_or(self.buffer.len() - self.scanned, |at| at + 1);
        self.examined += looked_at as u64;
        self.scanned += looked_at;
        if found.is_none() && self.mode == Mode::Skip {
            self.buffer.clear();
            self.scanned = 0;
        }
        found.map(|_| self.scanned - 1)
    }

    /// None: there is no whole line yet.
    fn end_of_line(&mut self) -> Option<Line> {
        let Some(end) = self.find_line_feed() else {
            if self.buffer.len() <= self.limit {
                return None;
            }
            self.buffer.clear();
            return Some(Line::TooLarge);
        };
        if end > self.limit {
            // Its line feed is here already: let it be skipped as if it were still to come.
            self.buffer.advance(end);
            return Some(Line::TooLarge);
        }
        let line = self.buffer[..end].trim_ascii();
        Some(match (line.first(), line.last()) {
            (None, _) => {
                self.buffer.advance(end + 1);
                self.scanned = 0;
                Line::Empty
            }
            (Some(b'{'), Some(last)) if *last != b'}' => Line::Open,
            _ => Line::Whole(end),
        })
    }

    /// None: the end is not there yet. `Some(None)`: the object is too large.
    fn end_of_object(&mut self, mut depth: Depth) -> Option<Option<usize>> {
        for at in self.scanned..self.buffer.len() {
            if at > self.limit {
                self.buffer.advance(at);
                return Some(None);
            }
            self.examined += 1;
            match depth.read(self.buffer[at]) {
                Ends::Not => {}
                Ends::Behind => return Some(Some(at + 1)),
                Ends::Before => return Some(Some(at)),
            }
        }
        self.scanned = self.buffer.len();
        self.mode = Mode::Depth(depth);
        None
    }

    fn cut(&mut self, end: usize, next: usize) -> Frame {
        let mut frame = self.buffer.split_to(next).freeze();
        frame.truncate(end);
        let blank = frame.len() - frame.trim_ascii_start().len();
        frame.advance(blank);
        frame.truncate(frame.trim_ascii_end().len());
        self.enter(Mode::Line);
        Frame::Message(frame)
    }

    fn skip(&mut self) -> Frame {
        self.enter(Mode::Skip);
        Frame::TooLarge
    }
}

enum Line {
    Empty,
    /// A message ends at this offset.
    Whole(usize),
    /// A message begins here and does not end on this line.
    Open,
    TooLarge,
}

enum Ends {
    Not,
    /// With this byte.
    Behind,
    /// With the byte before it.
    Before,
}

impl Depth {
    /// Follows the structure over one byte. A message that is torn ends where the next one provably begins: QEMU
    /// indents everything inside an object, so a brace in the first column opens a new one, and a string never
    /// holds a line feed.
    fn read(&mut self, byte: u8) -> Ends {
        let at_line_start = core::mem::replace(&mut self.at_line_start, byte == b'\n');
        match (self.within, byte) {
            (Within::Structure, b'{') if at_line_start => return Ends::Before,
            (Within::Structure, b'{' | b'[') => self.open += 1,
            (Within::Structure, b'}' | b']') => {
                self.open = self.open.saturating_sub(1);
                if self.open == 0 {
                    return Ends::Behind;
                }
            }
            (Within::Structure, b'"') => self.within = Within::String,
            (Within::String | Within::Escape, b'\n') => return Ends::Behind,
            (Within::String, b'"') | (Within::Escape, _) => {
                self.within = if self.within == Within::String { Within::Structure } else { Within::String };
            }
            (Within::String, b'\\') => self.within = Within::Escape,
            (Within::Structure | Within::String, _) => {}
        }
        Ends::Not
    }
}
