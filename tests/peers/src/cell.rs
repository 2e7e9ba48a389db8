//! Decides how one client meets one peer, and how that is kept from lasting for ever.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use qemu_machine_tests::torture::Torture;

use crate::CELL;
use crate::clients::Client;

/// How long a cell may take. Clients with deadlines need a part of it, and the others need for ever.
const LIMIT: Duration = Duration::from_secs(8);

/// What was seen of a cell.
#[derive(Debug, Default)]
pub struct Seen {
    /// The steps that were over, each with its answer.
    pub steps: Vec<(String, String)>,
    /// How it ended; none when it had to be ended.
    pub status: Option<ExitStatus>,
    /// What it printed beside that.
    pub words: String,
}

/// The cell itself, in a process of its own: the peer behind a socket, and the client before it.
pub fn play(client: Client, torture: &Torture) -> io::Result<()> {
    let directory = std::env::temp_dir().join(format!("matrix-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let path = directory.join("monitor");
    let listener = UnixListener::bind(&path)?;
    let arguments = torture.script.arguments();
    let peer = thread::spawn(move || -> io::Result<Child> {
        let monitor = listener.accept()?.0;
        let myself = std::env::current_exe()?;
        let (monitor, nowhere) = (Stdio::from(std::os::fd::OwnedFd::from(monitor)), Stdio::null);
        Command::new(myself).args(arguments).stdin(monitor).stdout(nowhere()).stderr(nowhere()).spawn()
    });
    client.meet(&path, torture);
    let mut peer = peer.join().map_err(|_| io::Error::other("the peer could not be started"))??;
    peer.kill()?;
    peer.wait()?;
    std::fs::remove_dir_all(directory)
}

/// Looks at a cell from outside.
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
                end(&mut cell)?;
                return Ok(seen);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    seen.status = Some(cell.wait()?);
    cell.stderr.take().map_or(Ok(0), |mut stderr| stderr.read_to_string(&mut seen.words))?;
    Ok(seen)
}

/// The peer ends with its monitor, or by the signal that the kernel sends for us.
fn end(cell: &mut Child) -> io::Result<()> {
    cell.kill()?;
    cell.wait()?;
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join(format!("matrix-{}", cell.id())));
    Ok(())
}
