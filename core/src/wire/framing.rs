//! Decides where one message of the peer ends and the next begins.
//!
//! QEMU ends each message with a line feed, and a message is one line, so finding its end is a search for a byte
//! that the processor does for next to nothing. A pretty-printing monitor (`pretty=on`) breaks its messages into
//! indented lines; where a line begins with a brace and does not end with one, braces are counted instead.

use bytes::{Buf, Bytes, BytesMut};

/// One message, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a frame is whole or too large")]
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
    mode: Mode,
    /// How much of the buffer was examined in this mode.
    scanned: usize,
    /// Where the first line of the buffer is known to end, its line feed included: what was searched once is not
    /// searched again when several messages share the line.
    line: Option<usize>,
    limit: usize,
    examined: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Look for the end of the line.
    Line,
    /// Count braces and brackets: the message spans lines.
    Depth(Depth),
    /// The line was too long: drop it up to its end.
    SkipLine,
    /// The message was too large: count on, but keep nothing.
    SkipDepth(Depth),
}

/// Where in the structure of a message we are.
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
    /// The largest message behind which the buffer is kept for the next: what a memory page holds, which is as much as
    /// an idle connection may cost, and more than most messages are.
    const KEPT: usize = 4 << 10;

    /// A framer that holds no more than `limit` bytes of one message.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), mode: Mode::Line, scanned: 0, line: None, limit, examined: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame, if it is there.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match self.mode {
                Mode::Line => match self.line()? {
                    LineShape::Empty(end) => self.drop_front(end),
                    LineShape::Whole(end) => return Some(self.cut(end)),
                    LineShape::Open => self.enter(Mode::Depth(Depth::default())),
                    LineShape::TooLong => {
                        self.enter(Mode::SkipLine);
                        return Some(Frame::TooLarge);
                    }
                },
                Mode::Depth(depth) => match self.object(depth)? {
                    Object::Whole(end) => return Some(self.cut(end)),
                    Object::TooLarge(at, depth) => {
                        self.drop_front(at);
                        self.enter(Mode::SkipDepth(depth));
                        return Some(Frame::TooLarge);
                    }
                },
                Mode::SkipLine => self.skip_line()?,
                Mode::SkipDepth(depth) => self.skip_object(depth)?,
            }
        }
    }

    /// How many bytes were looked at so far, counting a byte each time: once for each byte where messages are lines,
    /// twice at most where they are not.
    #[must_use]
    pub fn examined(&self) -> u64 {
        self.examined
    }

    fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.scanned = 0;
    }

    /// Where the first line ends, its line feed included.
    fn end_of_line(&mut self) -> Option<usize> {
        if self.line.is_none() {
            let found = memchr::memchr(b'\n', &self.buffer[self.scanned..]);
            let looked_at = found.map_or(self.buffer.len() - self.scanned, |at| at + 1);
            self.examined += looked_at as u64;
            self.scanned += looked_at;
            self.line = found.map(|_| self.scanned);
        }
        self.line
    }

    fn line(&mut self) -> Option<LineShape> {
        let Some(end) = self.end_of_line() else {
            if self.buffer.len() <= self.limit {
                return None;
            }
            self.drop_front(self.buffer.len());
            return Some(LineShape::TooLong);
        };
        let line = &self.buffer[..end];
        if end - 1 > self.limit {
            return Some(LineShape::TooLong);
        }
        Some(match (line.trim_ascii().first(), line.trim_ascii().last()) {
            (None, _) => LineShape::Empty(end),
            (Some(b'{'), Some(last)) if *last != b'}' => LineShape::Open,
            _ => LineShape::Whole(end),
        })
    }

    fn skip_line(&mut self) -> Option<()> {
        let end = self.end_of_line();
        self.drop_front(end.unwrap_or(self.buffer.len()));
        self.scanned = 0;
        end.map(|_| self.enter(Mode::Line))
    }

    fn object(&mut self, mut depth: Depth) -> Option<Object> {
        for at in self.scanned..self.buffer.len() {
            let before = depth;
            let end = depth.read(self.buffer[at]).end(at);
            if at >= self.limit && end != Some(at) {
                return Some(Object::TooLarge(at, before));
            }
            self.examined += 1;
            if let Some(end) = end {
                return Some(Object::Whole(end));
            }
        }
        self.scanned = self.buffer.len();
        self.mode = Mode::Depth(depth);
        None
    }

    fn skip_object(&mut self, mut depth: Depth) -> Option<()> {
        for at in 0..self.buffer.len() {
            self.examined += 1;
            if let Some(end) = depth.read(self.buffer[at]).end(at) {
                self.drop_front(end);
                self.enter(Mode::Line);
                return Some(());
            }
        }
        self.drop_front(self.buffer.len());
        self.mode = Mode::SkipDepth(depth);
        None
    }

    fn drop_front(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.recount_front(bytes);
    }

    fn recount_front(&mut self, bytes: usize) {
        self.line = self.line.and_then(|end| end.checked_sub(bytes)).filter(|end| *end > 0);
        self.scanned = 0;
    }

    fn cut(&mut self, end: usize) -> Frame {
        let mut frame = self.buffer.split_to(end).freeze();
        if self.buffer.is_empty() && end > Self::KEPT {
            // What is left of it would keep all of it, as long as nothing more comes.
            self.buffer = BytesMut::new();
        }
        self.recount_front(end);
        self.enter(Mode::Line);
        let blank = frame.len() - frame.trim_ascii_start().len();
        frame.advance(blank);
        frame.truncate(frame.trim_ascii_end().len());
        Frame::Message(frame)
    }
}

/// The first line of the buffer.
enum LineShape {
    /// Nothing but white space, up to here.
    Empty(usize),
    /// A message, up to here.
    Whole(usize),
    /// A message begins here and does not end on this line.
    Open,
    TooLong,
}

/// The object at the beginning of the buffer.
enum Object {
    /// It ends here.
    Whole(usize),
    /// It is still open here, where it may not be any longer.
    TooLarge(usize, Depth),
}

enum Ends {
    Not,
    /// With this byte.
    Behind,
    /// With the byte before it.
    Before,
}

impl Ends {
    /// The offset where the message ends, if it does at the byte with this offset.
    fn end(self, at: usize) -> Option<usize> {
        match self {
            Self::Not => None,
            Self::Behind => Some(at + 1),
            Self::Before => Some(at),
        }
    }
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
