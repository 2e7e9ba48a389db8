//! Rounds of the benchmark: runs the clients in turn, and reduces their rounds and runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::meter::Taken;
use crate::plan::{Plan, Workload};
use crate::{CLIENT, SERVER};

/// The cost of each workload with each client. Each number is reduced on its own.
pub type Found = BTreeMap<(Workload, &'static str), Taken>;

/// Measures all workloads of a plan in each of its runs.
///
/// # Errors
///
/// If a client or a server fails.
pub fn all(plan: &Plan) -> io::Result<Vec<Found>> {
    let before = sched_getaffinity(None)?;
    let mut processor = CpuSet::new();
    processor.set(sched_getcpu());
    // Processes that are started from here on inherit this.
    sched_setaffinity(None, &processor)?;
    let runs = (1..=plan.runs).map(|number| run(plan, number)).collect();
    sched_setaffinity(None, &before)?;
    runs
}

fn run(plan: &Plan, number: usize) -> io::Result<Found> {
    let mut found = Found::new();
    for workload in plan.workloads.iter().copied() {
        let mut taken: BTreeMap<&'static str, Vec<Taken>> = BTreeMap::new();
        let rounds = workload.rounds(plan.rounds);
        for round in 1..=rounds {
            for client in workload.clients() {
                eprintln!("run {number}: {workload}: {client}, {round} of {rounds}");
                taken.entry(client).or_default().push(one(client, workload)?);
            }
        }
        found.extend(taken.into_iter().map(|(client, taken)| ((workload, client), reduced(&taken))));
    }
    Ok(found)
}

/// Returns the medians of the runs.
pub fn joined(runs: &[Found]) -> Found {
    let all = runs.first().into_iter().flat_map(BTreeMap::keys);
    let taken = |key| runs.iter().filter_map(|found| found.get(key).copied()).collect::<Vec<_>>();
    all.map(|key| (*key, medians(&taken(key)))).collect()
}

/// Measures one workload with one client, and with a server of its own.
///
/// # Errors
///
/// If the client or the server fails.
pub fn one(client: &str, workload: Workload) -> io::Result<Taken> {
    let directory = Directory::new()?;
    let address = directory.0.join("monitor");
    let server = Server::start(workload, &address)?;
    let program = std::env::current_exe()?;
    let output = Command::new(program).args([CLIENT, client, &workload.to_string()]).arg(&address).output()?;
    drop(server);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{client} failed at {workload}: {words}")));
    }
    String::from_utf8_lossy(&output.stdout).parse()
}

/// A temporary directory. It is removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("qemu-machine-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // `drop` cannot report an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server process. It is killed when dropped.
struct Server(Child);

impl Server {
    fn start(workload: Workload, address: &Path) -> io::Result<Self> {
        // A client that connects early waits in the backlog, so there is no need to wait for the server.
        let listener = OwnedFd::from(UnixListener::bind(address)?);
        let mut command = if let Workload::Qemu(_) = workload {
            let mut qemu = Command::new("qemu-system-x86_64");
            qemu.args(["-machine", "none", "-nodefaults", "-display", "none", "-S"]);
            qemu.args(["-chardev", "socket,id=monitor,fd=0,server=on,wait=off", "-qmp", "chardev:monitor"]);
            qemu
        } else {
            let mut null = Command::new(std::env::current_exe()?);
            null.args([SERVER, &workload.to_string()]);
            null
        };
        Ok(Self(command.stdin(Stdio::from(listener)).stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the least times of the rounds, since other programs of the host only add to them, and the medians of the other
/// numbers.
fn reduced(taken: &[Taken]) -> Taken {
    let least = |number: fn(&Taken) -> f64| taken.iter().map(number).fold(f64::INFINITY, f64::min);
    Taken { wall: least(|taken| taken.wall), cpu: least(|taken| taken.cpu), ..medians(taken) }
}

fn medians(taken: &[Taken]) -> Taken {
    let median = |number: fn(&Taken) -> f64| {
        let mut numbers: Vec<f64> = taken.iter().map(number).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    Taken {
        wall: median(|taken| taken.wall),
        cpu: median(|taken| taken.cpu),
        peak: median(|taken| taken.peak),
        count: median(|taken| taken.count),
    }
}
