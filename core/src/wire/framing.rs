//! Framer that splits the byte stream of a peer into messages.
//!
//! QEMU ends each message with CRLF (`docs/interop/qmp-spec.rst`, General Definitions; QEMU, `monitor/monitor.c`,
//! `monitor_puts_locked`), and a guest agent with a line feed (QEMU, `qga/main.c`, `send_response`). A message is one
//! line, so the framer searches for a line feed, which `memchr` does several bytes at a time. A pretty-printing monitor
//! (`pretty=on`) breaks its messages into indented lines (QEMU, `qobject/json-writer.c`, `pretty_newline`); a client
//! that reads only lines fails there. Where a line begins with a brace and does not end with one, the framer counts
//! braces.

use bytes::{Buf, Bytes, BytesMut};

/// One message, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a frame is whole or too large")]
pub enum Frame {
    /// A message, or bytes in its place that are no JSON. White space around it is removed.
    Message(Bytes),
    /// A message that is longer than the limit. The framer drops it to its end; the next message follows as usual.
    TooLarge,
}

/// Splitter of a byte stream into frames. The frames do not depend on how the stream was cut into chunks.
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
    /// The size of the allocation that the buffer shares with frames, or more.
    allocated: usize,
    mode: Mode,
    /// How many bytes of the buffer were examined in this mode.
    scanned: usize,
    /// The end of the first line of the buffer, its line feed included. `None` means that it was not found yet. It is
    /// kept, so that the line is not searched again when several messages share it.
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
    /// The line was too long: drop it to its end.
    SkipLine,
    /// The message was too large: go on counting, but keep nothing.
    SkipDepth(Depth),
}

/// The position in the structure of a message.
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
    /// After a backslash in a string.
    Escape,
}

impl Framer {
    /// The largest message after which the buffer is kept for the next one, in bytes: one memory page. Most messages
    /// are shorter, and an idle connection holds no more memory than that.
    const KEPT: usize = 4 << 10;

    /// The largest allocation that frames of any size share, in bytes: a few reads of a runtime. A frame in a larger one
    /// has at least a quarter of it, or memory of its own.
    const SHARED: usize = 256 << 10;

    /// Returns a framer that holds at most `limit` bytes of one message.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), allocated: 0, mode: Mode::Line, scanned: 0, line: None, limit, examined: 0 }
    }

    /// Appends the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.allocated = self.allocated.max(self.buffer.capacity());
    }

    /// Returns the next complete frame. `None` means that more bytes are needed.
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

    /// Returns how many bytes were examined so far. A byte counts each time: once where messages are lines, at most
    /// twice where they span lines.
    #[must_use]
    pub fn examined(&self) -> u64 {
        self.examined
    }

    fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.scanned = 0;
    }

    /// Returns the end of the first line, its line feed included.
    fn end_of_line(&mut self) -> Option<usize> {
        if self.line.is_none() && self.scanned < self.buffer.len() {
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
        if let [b'{', .., b'}', b'\n'] | [b'{', .., b'}', b'\r', b'\n'] = line {
            // As QEMU and a guest agent write it.
            return Some(LineShape::Whole(end));
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
        self.renew_after(bytes);
        self.recount_front(bytes);
    }

    /// Moves the rest of the buffer to memory of its own after a large part of it was removed, or all of it. The rest is
    /// not larger than that part, so no byte is moved often.
    fn renew_after(&mut self, removed: usize) {
        let is_large = removed > Self::KEPT && self.buffer.len() <= removed;
        if is_large || self.buffer.is_empty() && self.allocated > Self::SHARED {
            self.buffer = BytesMut::from(&*self.buffer);
            self.allocated = self.buffer.capacity();
        }
    }

    fn recount_front(&mut self, bytes: usize) {
        self.line = self.line.and_then(|end| end.checked_sub(bytes)).filter(|end| *end > 0);
        self.scanned = 0;
    }

    fn cut(&mut self, end: usize) -> Frame {
        let mut frame = self.buffer.split_to(end).freeze();
        // The frame and the rest share one allocation, and a short reply would keep all of it in memory.
        if self.allocated > Self::SHARED.max(4 * end) {
            frame = Bytes::copy_from_slice(&frame);
        }
        self.renew_after(end);
        self.recount_front(end);
        self.enter(Mode::Line);
        if frame.first().is_some_and(u8::is_ascii_whitespace) {
            frame.advance(frame.len() - frame.trim_ascii_start().len());
        }
        frame.truncate(frame.trim_ascii_end().len());
        Frame::Message(frame)
    }
}

/// The first line of the buffer.
enum LineShape {
    /// Only white space, up to this offset.
    Empty(usize),
    /// A message, up to this offset.
    Whole(usize),
    /// The first line of a message that spans lines.
    Open,
    /// A line that is longer than the limit.
    TooLong,
}

/// The object at the beginning of the buffer.
enum Object {
    /// It ends at this offset.
    Whole(usize),
    /// It reaches the limit at this offset and is still open.
    TooLarge(usize, Depth),
}

/// Whether a message ends at a byte.
enum Ends {
    Not,
    /// With this byte.
    Behind,
    /// With the byte before it.
    Before,
}

impl Ends {
    /// Returns the end of the message, for a byte at this offset. `None` means that the message goes on.
    fn end(self, at: usize) -> Option<usize> {
        match self {
            Self::Not => None,
            Self::Behind => Some(at + 1),
            Self::Before => Some(at),
        }
    }
}

impl Depth {
    /// Follows the structure over one byte. A message that is cut short ends where the next one must begin: QEMU
    /// indents everything inside an object (QEMU, `qobject/json-writer.c`, `pretty_newline`), so an opening brace in
    /// the first column begins a new message, and it escapes line feeds in strings (QEMU, `qobject/json-writer.c`,
    /// `quoted_str`). Without this rule one message that was cut short would swallow all that follow.
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
