//! Other clients, each used as its documentation shows.

use std::hint::black_box;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use futures_util::future::try_join_all;
use qapi::futures::{QapiService, QmpStreamTokio};
use serde::Serialize;
use serde_json::Value;
use tokio::io::WriteHalf;
use tokio::runtime::Runtime;

use super::{Client, LONG, QUIET, keep, other};
use crate::plan::Reading;

/// No arguments.
pub type Nothing = Option<()>;

/// Defines a command of `qapi`, which is a type with a name.
macro_rules! command {
    ($type:ident = $name:literal) => {
        #[derive(Serialize)]
        struct $type {}

        impl qapi::Command for $type {
            type Ok = Value;
            const NAME: &'static str = $name;
            const ALLOW_OOB: bool = false;
        }

        impl qapi::qmp::QmpCommand for $type {}
    };
}

command!(Large = "large");
command!(Dribble = "dribble");
command!(Flood = "flood");

/// The blocking client of `qapi`. Its documentation buffers reads but not writes; with a write buffer it is faster.
pub struct Qapi(qapi::Qmp<qapi::Stream<BufReader<UnixStream>, Writer>>);

/// A writer with or without a buffer.
pub enum Writer {
    Plain(UnixStream),
    Buffered(BufWriter<UnixStream>),
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Buffered(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Buffered(stream) => stream.flush(),
        }
    }
}

impl Qapi {
    pub fn connect(address: &Path, buffer: usize) -> io::Result<Self> {
        let stream = UnixStream::connect(address)?;
        let reader = BufReader::new(stream.try_clone()?);
        let writer = match buffer {
            0 => Writer::Plain(stream),
            size => Writer::Buffered(BufWriter::with_capacity(size, stream)),
        };
        let mut qmp = qapi::Qmp::new(qapi::Stream::new(reader, writer));
        qmp.handshake().map_err(other)?;
        Ok(Self(qmp))
    }
}

impl Client for Qapi {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.0.execute(&qapi::qmp::query_status {}).map(keep).map_err(other))
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        self.0.execute(&Flood {}).map_err(other)?;
        let mut seen = self.0.events().count();
        while seen < events {
            // `nop` executes `query-version`, and queues the events that arrive before the reply.
            self.0.nop()?;
            seen += self.0.events().map(black_box).count();
        }
        Ok(seen)
    }

    fn large(&mut self, command: &'static str, _: Reading) -> io::Result<()> {
        match command {
            "dribble" => self.0.execute(&Dribble {}),
            _ => self.0.execute(&Large {}),
        }
        .map(keep)
        .map_err(other)
    }
}

/// Returns a tokio runtime with one thread, as all clients have.
pub fn tokio() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub type Service = QapiService<QmpStreamTokio<WriteHalf<tokio::net::UnixStream>>>;

/// The tokio client of `qapi`. A caller that wants events drives the connection itself.
pub struct QapiTokio {
    runtime: Runtime,
    service: Option<Service>,
    address: std::path::PathBuf,
}

impl QapiTokio {
    pub fn connect(address: &Path) -> io::Result<Self> {
        Ok(Self { runtime: tokio()?, service: None, address: address.into() })
    }

    fn service(&mut self) -> io::Result<&Service> {
        if self.service.is_none() {
            self.service = Some(self.runtime.block_on(service(&self.address))?);
        }
        self.service.as_ref().ok_or_else(|| other("the client is not connected"))
    }
}

/// Returns a connection that a task of its own drives.
pub async fn service(address: &Path) -> io::Result<Service> {
    let stream = QmpStreamTokio::open_uds(address).await?.negotiate().await?;
    Ok(stream.spawn_tokio().0)
}

impl Client for QapiTokio {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        self.in_flight(1, count)
    }

    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        self.service()?;
        let Some(service) = &self.service else { return Ok(()) };
        self.runtime.block_on(async {
            let ask = async || {
                for _ in 0..count / depth {
                    black_box(service.execute(qapi::qmp::query_status {}).await.map_err(other)?);
                }
                io::Result::Ok(())
            };
            try_join_all((0..depth).map(|_| ask())).await.map(drop)
        })
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        use futures_util::{FutureExt, StreamExt};
        self.runtime.block_on(async {
            let stream = QmpStreamTokio::open_uds(&self.address).await?.negotiate().await?;
            let (service, mut all) = stream.into_parts();
            let mut seen = 0;
            {
                let mut count = async || {
                    while seen < events && all.next().await.is_some_and(|event| black_box(event).is_ok()) {
                        seen += 1;
                    }
                };
                let mut counting = Box::pin(count()).fuse();
                let mut asking = Box::pin(service.execute(Flood {})).fuse();
                futures_util::future::select(&mut counting, &mut asking).await;
                counting.await;
            }
            Ok(seen)
        })
    }

    fn large(&mut self, command: &'static str, _: Reading) -> io::Result<()> {
        self.service()?;
        let Some(service) = &self.service else { return Ok(()) };
        self.runtime.block_on(async {
            match command {
                "dribble" => service.execute(Dribble {}).await,
                _ => service.execute(Large {}).await,
            }
            .map(keep)
            .map_err(other)
        })
    }
}

/// The client `qmp`, on tokio, with a task that reads.
pub struct Qmp {
    runtime: Runtime,
    client: qmp::Client,
}

impl Qmp {
    pub fn connect(address: &Path) -> io::Result<Self> {
        let runtime = tokio()?;
        let client = runtime.block_on(qmp(address))?;
        Ok(Self { runtime, client })
    }
}

pub async fn qmp(address: &Path) -> io::Result<qmp::Client> {
    let builder = qmp::Client::builder(qmp::Endpoint::unix(address)).default_timeout(Some(LONG));
    builder.connect().await.map_err(other)
}

impl Client for Qmp {
    fn turns(&mut self, count: usize) -> io::Result<()> {
        self.in_flight(1, count)
    }

    fn in_flight(&mut self, depth: usize, count: usize) -> io::Result<()> {
        self.runtime.block_on(async {
            let ask = async || {
                for _ in 0..count / depth {
                    let reply: Value = self.client.execute("query-status", Nothing::None).await.map_err(other)?;
                    black_box(reply);
                }
                io::Result::Ok(())
            };
            try_join_all((0..depth).map(|_| ask())).await.map(drop)
        })
    }

    fn flood(&mut self, events: usize) -> io::Result<usize> {
        self.runtime.block_on(async {
            let mut all = self.client.events();
            self.client.execute::<_, Value>("flood", Nothing::None).await.map_err(other)?;
            let (mut seen, mut missed) = (0, 0);
            while seen + missed < events {
                match tokio::time::timeout(QUIET, all.recv()).await {
                    Ok(Ok(event)) => {
                        black_box(event);
                        seen += 1;
                    }
                    // The error has the number of lost events, but its type is not public.
                    Ok(Err(_)) => missed += 1,
                    Err(_) => break,
                }
            }
            Ok(seen)
        })
    }

    fn large(&mut self, command: &'static str, _: Reading) -> io::Result<()> {
        self.runtime.block_on(async {
            let reply: Value = self.client.execute(command, Nothing::None).await.map_err(other)?;
            drop(black_box(reply));
            Ok(())
        })
    }
}
