//! Bare socket on smol's reactor: the limit for all clients on that reactor.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use smol::{Async, Timer};

use super::{Client, LONG, raw::STATUS};

/// A socket on the reactor, with one timer for its whole lifetime.
pub struct Bare {
    socket: Async<UnixStream>,
    deadline: Timer,
}

impl Bare {
    pub fn connect(address: &Path) -> io::Result<Self> {
        let socket = Async::new(UnixStream::connect(address)?)?;
        let mut bare = Self { socket, deadline: Timer::after(LONG) };
        smol::block_on(async {
            bare.receive().await?;
            send(&bare.socket, br#"{"execute":"qmp_capabilities","id":0}"#, SendFlags::NOSIGNAL)?;
            bare.receive().await
        })?;
        Ok(bare)
    }

    async fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let late = async {
            (&mut self.deadline).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let reply = async {
            self.socket.readable().await?;
            recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
            Ok(())
        };
        smol::future::or(reply, late).await
    }
}

impl Client for Bare {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        smol::block_on(async {
            for _ in 0..count {
                send(&self.socket, STATUS, SendFlags::NOSIGNAL)?;
                self.receive().await?;
            }
            Ok(())
        })
    }
}
