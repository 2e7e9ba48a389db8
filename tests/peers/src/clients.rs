//! Clients of the matrix, each used as its documentation shows, with deadlines where it has any.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::{Address, Config, Deadline, LaunchError, Peer, Vm};
use qemu_machine_tests::torture::Torture;
use serde::Serialize;
use serde_json::{Value, json};

/// The deadline for clients that accept one.
const DEADLINE: Duration = Duration::from_millis(700);

/// The deadline with a peer that sends tens of megabytes.
const LONG_DEADLINE: Duration = Duration::from_millis(2500);

/// Returns the deadline for clients that accept one.
fn deadline(torture: &Torture) -> Duration {
    if torture.name == "a_large_event" { LONG_DEADLINE } else { DEADLINE }
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    QemuMachine,
    Qapi,
    QapiTokio,
    Qmp,
}

/// A command. Its arguments have a megabyte where the peer stalls during the write.
#[derive(Clone, Copy)]
struct Ask<'a> {
    name: &'static str,
    weight: &'a str,
}

impl Client {
    pub const ALL: [Self; 4] = [Self::QemuMachine, Self::Qapi, Self::QapiTokio, Self::Qmp];

    pub fn name(self) -> &'static str {
        match self {
            Self::QemuMachine => "qemu-machine-blocking",
            Self::Qapi => "qapi 0.15.0",
            Self::QapiTokio => "qapi 0.15.0, tokio",
            Self::Qmp => "qmp 0.1.1",
        }
    }

    /// Returns whether the client sends ids. On tokio, `qapi` would with a QEMU that offers `oob`, but it misreads the
    /// offer.
    pub fn sends_ids(self) -> bool {
        matches!(self, Self::QemuMachine | Self::Qmp)
    }

    pub fn named(name: &str) -> io::Result<Self> {
        let found = Self::ALL.into_iter().find(|client| client.name() == name);
        found.ok_or_else(|| io::Error::other(format!("no client is named {name}")))
    }

    /// Runs the procedure: connect, then three commands, each regardless of the result of the one before.
    pub fn meet(self, path: &Path, torture: &Torture) {
        let weight = if torture.first().len() > 100 { torture.first() } else { "" };
        let asks = [("first", weight), ("second", ""), ("last", "")].map(|(name, weight)| Ask { name, weight });
        match self {
            Self::QemuMachine => ours(path, torture, &asks),
            Self::Qapi => qapi(path, &asks),
            Self::QapiTokio => on_tokio(qapi_tokio(path, &asks)),
            Self::Qmp => on_tokio(qmp(path, torture, &asks)),
        }
    }
}

/// Prints the result of a step as a line for the observing process.
fn tell(step: &str, answer: Result<Value, String>) -> bool {
    let is_ok = answer.is_ok();
    match answer {
        Ok(Value::String(text)) if text.len() > 100 => println!("{step}: = a text of {} characters", text.len()),
        Ok(value) => println!("{step}: = {value}"),
        Err(error) => println!("{step}: ! {}", error.lines().next().unwrap_or_default()),
    }
    is_ok
}

fn fail(error: &impl std::fmt::Display) {
    tell("connect", Err(error.to_string()));
}

fn ours(path: &Path, torture: &Torture, asks: &[Ask<'_>]) {
    let address = Address::unix(path.as_os_str().as_encoded_bytes());
    // A script would take a heartbeat for the next command.
    let config =
        torture.adapt(Config::attach(Peer::Dial(address)).without_heartbeat()).launch_within(deadline(torture));
    let vm = Vm::launch(config);
    let connected = vm.as_ref().map(|_| Value::Null).map_err(LaunchError::to_string);
    tell("connect", connected);
    let Ok(vm) = vm else { return };
    for ask in asks {
        let within = Deadline::after(deadline(torture));
        let reply = match ask.weight {
            "" => vm.execute_by(ask.name, within),
            weight => vm.execute_by((ask.name, json!({ "weight": weight })), within),
        };
        tell(ask.name, reply.map_err(|error| error.to_string()));
    }
    // The drop of `vm` closes the connection.
}

/// Defines a command of `qapi`, which is a type with a name.
macro_rules! command {
    ($type:ident = $name:literal) => {
        #[derive(Serialize)]
        struct $type<'a> {
            #[serde(skip_serializing_if = "str::is_empty")]
            weight: &'a str,
        }

        impl qapi::Command for $type<'_> {
            type Ok = Value;
            const NAME: &'static str = $name;
            const ALLOW_OOB: bool = false;
        }

        impl qapi::qmp::QmpCommand for $type<'_> {}
    };
}

command!(First = "first");
command!(Second = "second");
command!(Last = "last");

fn qapi(path: &Path, asks: &[Ask<'_>]) {
    let connect = || -> io::Result<_> {
        let stream = UnixStream::connect(path)?;
        Ok(qapi::Qmp::new(qapi::Stream::new(BufReader::new(stream.try_clone()?), stream)))
    };
    let mut qmp = match connect() {
        Ok(qmp) => qmp,
        Err(error) => return fail(&error),
    };
    let connected = qmp.handshake().map(|_| Value::Null).map_err(|error| error.to_string());
    if !tell("connect", connected) {
        return;
    }
    for ask in asks {
        let weight = ask.weight;
        let reply = match ask.name {
            "first" => qmp.execute(&First { weight }),
            "second" => qmp.execute(&Second { weight }),
            _ => qmp.execute(&Last { weight }),
        };
        tell(ask.name, reply.map_err(|error| error.to_string()));
    }
}

async fn qapi_tokio(path: &Path, asks: &[Ask<'_>]) {
    let connect = async { qapi::futures::QmpStreamTokio::open_uds(path).await?.negotiate().await };
    let (qmp, _events) = match connect.await {
        Ok(stream) => stream.spawn_tokio(),
        Err(error) => return fail(&error),
    };
    tell("connect", Ok(Value::Null));
    for ask in asks {
        let weight = ask.weight;
        let reply = match ask.name {
            "first" => qmp.execute(First { weight }).await,
            "second" => qmp.execute(Second { weight }).await,
            _ => qmp.execute(Last { weight }).await,
        };
        tell(ask.name, reply.map_err(|error| error.to_string()));
    }
}

async fn qmp(path: &Path, torture: &Torture, asks: &[Ask<'_>]) {
    let builder = qmp::Client::builder(qmp::Endpoint::unix(path)).default_timeout(Some(deadline(torture)));
    let client = match builder.connect().await {
        Ok(client) => client,
        Err(error) => return fail(&error),
    };
    tell("connect", Ok(Value::Null));
    for ask in asks {
        let arguments = (!ask.weight.is_empty()).then(|| json!({ "weight": ask.weight }));
        let reply = client.execute::<_, Value>(ask.name, arguments).await;
        tell(ask.name, reply.map_err(|error| error.to_string()));
    }
}

fn on_tokio(meeting: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(meeting),
        Err(error) => fail(&error),
    }
}
