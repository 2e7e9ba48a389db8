//! Bare socket: the limits that no client can beat.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Client;
use crate::plan::Reading;

/// The work besides sending and receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None.
    Blind,
    /// Waiting for readiness.
    Epoll,
    /// Parsing the envelope.
    Serde,
}

/// A socket and a buffer.
pub struct Raw {
    socket: UnixStream,
    epoll: OwnedFd,
    mode: Mode,
    buffer: Vec<u8>,
    /// The range of received bytes that are not processed.
    from: usize,
    to: usize,
}

const CAPABILITIES: &[u8] = br#"{"execute":"qmp_capabilities","id":0}"#;
pub const STATUS: &[u8] = br#"{"execute":"query-status","id":1}"#;

/// A message, with borrowed parts.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow, default, rename = "return")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<u64>,
}

impl Raw {
    pub fn connect(address: &Path, mode: Mode) -> io::Result<Self> {
        Self::over(UnixStream::connect(address)?, mode)
    }

    pub fn over(socket: UnixStream, mode: Mode) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &socket, EventData::new_u64(0), EventFlags::IN)?;
        let mut raw = Self { socket, epoll, mode, buffer: vec![0; 64 << 10], from: 0, to: 0 };
        raw.line(|_| ())?;
        raw.send(CAPABILITIES)?;
        raw.line(|_| ())?;
        Ok(raw)
    }

    pub fn send(&self, request: &[u8]) -> io::Result<()> {
        send(&self.socket, request, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives more bytes, and appends them.
    fn receive(&mut self) -> io::Result<()> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if self.to == self.buffer.len() && self.from > 0 {
            self.buffer.copy_within(self.from.., 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.buffer.len() {
            self.buffer.resize(2 * self.to, 0);
        }
        if self.mode == Mode::Epoll {
            epoll::wait(&self.epoll, &mut [const { std::mem::MaybeUninit::uninit() }; 1], None)?;
        }
        match recv(&self.socket, &mut self.buffer[self.to..], RecvFlags::empty())?.0 {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.to += count;
                Ok(())
            }
        }
    }

    /// Receives one line, and passes it to `look`.
    pub fn line(&mut self, mut look: impl FnMut(&[u8])) -> io::Result<()> {
        let mut looked_at = self.from;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[looked_at..self.to]) {
                let line = &self.buffer[self.from..looked_at + end];
                if self.mode == Mode::Serde {
                    let envelope: Envelope<'_> = serde_json::from_slice(line)?;
                    black_box((envelope.value, envelope.event, envelope.data, envelope.timestamp, envelope.id));
                }
                look(line);
                self.from = looked_at + end + 1;
                return Ok(());
            }
            let known = self.to - self.from;
            self.receive()?;
            looked_at = self.from + known;
        }
    }
}

impl Client for Raw {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| {
            self.send(STATUS)?;
            self.line(|_| ())
        })
    }

    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        let batch = STATUS.repeat(depth);
        (0..count / depth).try_for_each(|_| {
            self.send(&batch)?;
            (0..depth).try_for_each(|_| self.line(|_| ()))
        })
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        self.send(br#"{"execute":"flood","id":1}"#)?;
        self.line(|_| ())?;
        let mut seen = 0;
        while self.mode != Mode::Serde && seen < events {
            // Count the line feeds of a whole read at once, without a loop over its lines.
            seen += memchr::memchr_iter(b'\n', &self.buffer[self.from..self.to]).count();
            self.from = self.to;
            if seen < events {
                self.receive()?;
            }
        }
        while seen < events {
            self.line(|line| {
                black_box(line);
            })?;
            seen += 1;
        }
        Ok(seen)
    }

    fn large(&mut self, command: &'static str, reading: Reading) -> io::Result<()> {
        let request = format!("{{\"execute\":\"{command}\",\"id\":1}}");
        self.send(request.as_bytes())?;
        let read = |line: &[u8]| {
            if reading == Reading::Value {
                drop(black_box(serde_json::from_slice::<serde_json::Value>(line)));
            }
        };
        self.line(read)?;
        // Release the memory, as a client would.
        (self.buffer, self.from, self.to) = (vec![0; 64 << 10], 0, 0);
        Ok(())
    }
}
