//! Cell of the matrix: one client with one peer, in a process with a deadline.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio, exit};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use qemu_machine_tests::torture::Torture;

use crate::CELL;
use crate::clients::Client;

/// The deadline of a cell. Clients with deadlines of their own need less; the others may hang for ever.
const LIMIT: Duration = Duration::from_secs(6);

/// The exit code of a cell whose peer could not be started.
const UNPLAYABLE: i32 = 120;

/// The observations of a cell.
#[derive(Debug, Default)]
pub struct Seen {
    /// The steps that returned, each with its answer.
    pub steps: Vec<(String, String)>,
    /// The exit status; `None` means that the cell was killed at its deadline.
    pub status: Option<ExitStatus>,
    /// The output on stderr.
    pub words: String,
}

/// Runs a cell in this process: starts the peer behind a socket, and connects the client to it. The kernel kills the
/// peer when the thread that started it ends (`prctl(2)`, `PR_SET_PDEATHSIG`), so that thread stays until this process
/// ends.
pub fn play(client: Client, torture: &Torture) -> io::Result<()> {
    let directory = directory(std::process::id());
    std::fs::create_dir(&directory)?;
    let path = directory.join("monitor");
    let listener = UnixListener::bind(&path)?;
    let arguments = torture.script.arguments();
    thread::spawn(move || {
        if let Err(error) = peer(&listener, &arguments) {
            eprintln!("the peer could not be started: {error}");
            exit(UNPLAYABLE);
        }
    });
    client.meet(&path, torture);
    Ok(())
}

fn peer(listener: &UnixListener, arguments: &[String]) -> io::Result<()> {
    let monitor = Stdio::from(OwnedFd::from(listener.accept()?.0));
    let mut peer = Command::new("setpriv");
    peer.args(["--pdeathsig", "KILL"]).arg(std::env::current_exe()?).args(arguments);
    let status = peer.stdin(monitor).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    // `setpriv` exits with 127 when its program is missing. Other failures are part of the scripts.
    if status.code() == Some(127) { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
}

fn directory(cell: u32) -> PathBuf {
    std::env::temp_dir().join(format!("matrix-{cell}"))
}

/// Starts a cell as another process, and observes it.
pub fn watch(client: Client, torture: &Torture) -> io::Result<Seen> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CELL, client.name(), torture.name]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut cell = command.env("RUST_BACKTRACE", "0").spawn()?;
    let (sender, lines) = channel();
    let out = BufReader::new(cell.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let (until, mut seen) = (Instant::now() + LIMIT, Seen::default());
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let (step, answer) = line.split_once(": ").unwrap_or((&line, ""));
                seen.steps.push((step.into(), answer.into()));
            }
            Err(RecvTimeoutError::Timeout) => {
                cell.kill()?;
                break;
            }
            Err(RecvTimeoutError::Disconnected) => {
                seen.status = Some(cell.wait()?);
                break;
            }
        }
    }
    cell.wait()?;
    std::fs::remove_dir_all(directory(cell.id()))?;
    cell.stderr.take().map_or(Ok(0), |mut stderr| stderr.read_to_string(&mut seen.words))?;
    match seen.status.and_then(|status| status.code()) {
        Some(UNPLAYABLE) => Err(io::Error::other(seen.words)),
        _ => Ok(seen),
    }
}
