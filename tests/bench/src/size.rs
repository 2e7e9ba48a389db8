//! Cost of a build: crates, CPU time, and the size of a program that sends one command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::other;
use crate::meter::Taken;

/// A client, its dependencies in the manifest, and a program that sends one command to a monitor.
const PROGRAMS: [(&str, &str, &str); 10] = [
    (
        "raw+serde",
        "serde_json = \"1.0.140\"",
        "let socket = std::os::unix::net::UnixStream::connect(address).unwrap();
         let reader = std::io::BufReader::new(socket);
         let line = std::io::BufRead::lines(reader).next().unwrap().unwrap();
         println!(\"{}\", serde_json::from_str::<serde_json::Value>(&line).unwrap());",
    ),
    (
        "core",
        OURS_CORE,
        "println!(\"{:?}\", qemu_machine_core::Machine::new(qemu_machine_core::Config::new(address)));",
    ),
    (
        "blocking",
        "qemu-machine-blocking = { path = \"ROOT/runtime-blocking\" }",
        "use qemu_machine_blocking::{Address, Peer, Vm};
         let vm = Vm::attach(Peer::Dial(Address::unix(address)), std::time::Duration::from_secs(1)).unwrap();
         println!(\"{}\", vm.execute(\"query-status\").unwrap());",
    ),
    (
        "mio",
        "qemu-machine-mio = { path = \"ROOT/runtime-mio\" }",
        "use qemu_machine_mio::{Address, EventLoop, Peer, Vm};
         let mut event_loop = EventLoop::new().unwrap();
         let (registry, tokens) = event_loop.parts();
         let peer = Peer::Dial(Address::unix(address));
         let mut vm = Vm::attach(peer, std::time::Duration::from_secs(1), registry, tokens).unwrap();
         let ticket = vm.execute(\"query-status\").unwrap();
         println!(\"{}\", event_loop.run(std::slice::from_mut(&mut vm), |vms| vms[0].claim(&ticket)).unwrap().unwrap());",
    ),
    (
        "smol",
        "qemu-machine-smol = { path = \"ROOT/runtime-smol\" }\nsmol = \"2.0.2\"",
        "use qemu_machine_smol::{Address, Peer, Vm};
         smol::block_on(async {
             let within = std::time::Duration::from_secs(1);
             let vm = Vm::attach(Peer::Dial(Address::unix(address)), within).await.unwrap();
             println!(\"{}\", vm.execute(\"query-status\").await.unwrap());
         });",
    ),
    (
        "smol without smol",
        "qemu-machine-smol = { path = \"ROOT/runtime-smol\", default-features = false }\nasync-io = \"2.4\"",
        "use qemu_machine_smol::{Address, Driver, Peer, Vm};
         let spawn = |driver: Driver| drop(std::thread::spawn(|| async_io::block_on(driver)));
         async_io::block_on(async {
             let within = std::time::Duration::from_secs(1);
             let vm = Vm::attach_with(Peer::Dial(Address::unix(address)), within, spawn).await.unwrap();
             println!(\"{}\", vm.execute(\"query-status\").await.unwrap());
         });",
    ),
    (
        "tokio",
        "qemu-machine-tokio = { path = \"ROOT/runtime-tokio\" }\ntokio = { version = \"1\", features = [\"rt\"] }",
        "use qemu_machine_tokio::{Address, Peer, Vm};
         tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
             let within = std::time::Duration::from_secs(1);
             let vm = Vm::attach(Peer::Dial(Address::unix(address)), within).await.unwrap();
             println!(\"{}\", vm.execute(\"query-status\").await.unwrap());
         });",
    ),
    (
        "qapi",
        "qapi = { version = \"=0.15.0\", features = [\"qmp\"] }",
        "let stream = std::os::unix::net::UnixStream::connect(address).unwrap();
         let reader = std::io::BufReader::new(stream.try_clone().unwrap());
         let mut qmp = qapi::Qmp::new(qapi::Stream::new(reader, stream));
         qmp.handshake().unwrap();
         println!(\"{:?}\", qmp.execute(&qapi::qmp::query_status {}).unwrap());",
    ),
    (
        "qapi tokio",
        "qapi = { version = \"=0.15.0\", features = [\"qmp\", \"async-tokio-all\"] }\ntokio = { version = \"1\", features = [\"rt\"] }",
        "tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
             let stream = qapi::futures::QmpStreamTokio::open_uds(address).await.unwrap().negotiate().await.unwrap();
             let (qmp, _events) = stream.spawn_tokio();
             println!(\"{:?}\", qmp.execute(qapi::qmp::query_status {}).await.unwrap());
         });",
    ),
    (
        "qmp",
        "qmp = \"=0.1.1\"\ntokio = { version = \"1\", features = [\"rt\"] }\nserde_json = \"1.0.140\"",
        "tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
             let client = qmp::Client::connect(qmp::Endpoint::unix(address)).await.unwrap();
             println!(\"{:?}\", client.execute::<_, serde_json::Value>(\"query-status\", None::<()>).await.unwrap());
         });",
    ),
];

const OURS_CORE: &str = "qemu-machine-core = { path = \"ROOT/core\" }";

/// Builds each program from scratch. The count is the number of crates, and the peak is the size of the stripped
/// program, in KiB.
///
/// # Errors
///
/// If one cannot be built.
pub fn all() -> io::Result<Vec<(&'static str, Taken)>> {
    PROGRAMS.into_iter().map(|(client, needs, main)| Ok((client, one(client, needs, main)?))).collect()
}

fn one(client: &str, needs: &str, main: &str) -> io::Result<Taken> {
    eprintln!("size: {client}");
    let directory = std::env::temp_dir().join(format!("qemu-machine-size-{}", std::process::id()));
    let result = build(&directory, needs, main);
    fs::remove_dir_all(&directory)?;
    result
}

fn build(directory: &Path, needs: &str, main: &str) -> io::Result<Taken> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let needs = needs.replace("ROOT", &root.to_string_lossy());
    fs::create_dir_all(directory.join("src"))?;
    let head = "[package]\nname = \"asks\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[profile.release]\nstrip = true\n";
    fs::write(directory.join("Cargo.toml"), format!("{head}[dependencies]\n{needs}\n"))?;
    let arguments = "let Some(address) = std::env::args().nth(1) else { return };";
    fs::write(directory.join("src/main.rs"), format!("fn main() {{\n{arguments}\n{main}\n}}\n"))?;
    // The same versions as here, and no earlier build output.
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), directory.join("Cargo.lock"))?;
    let cargo = |words: &[&str]| -> io::Result<String> {
        let target: PathBuf = directory.join("target");
        let output =
            Command::new("cargo").args(words).current_dir(directory).env("CARGO_TARGET_DIR", target).output()?;
        if !output.status.success() {
            return Err(other(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let tree = cargo(&["tree", "--edges", "normal,build", "--prefix", "none"])?;
    let mut crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    crates.sort_unstable();
    crates.dedup();
    let before = cpu_of_children()?;
    cargo(&["build", "--release", "--quiet", "--offline"])?;
    let cpu = cpu_of_children()? - before;
    let bytes = fs::metadata(directory.join("target/release/asks"))?.len();
    // The program itself does not count.
    Ok(Taken { cpu, peak: bytes as f64 / 1024.0, count: crates.len() as f64 - 1.0, ..Taken::default() })
}

/// Returns the CPU time of the reaped child processes, in seconds. The kernel counts in hundredths.
fn cpu_of_children() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program is in parentheses, and may hold any character.
    let numbers: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| numbers.get(index).and_then(|number| number.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(13) + ticks(14)) / 100.0)
}
