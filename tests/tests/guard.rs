//! Tests that nothing of a machine outlives a program that is killed, where the kernel alone would not end it.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use qemu_machine_core::{Cause, Channel, Companion, Config, Machine};
use qemu_machine_host::{Clock, Host, Interest, Poll, Poller, Source, Watch};
use qemu_machine_tests::leak_check::{Scratch, Watched, alone, bytes, descendants, mark, marked};
use qemu_machine_tests::{PATIENCE, bounded, qemu};

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

const NOBODY: u32 = 65534;

/// How to launch a machine.
#[derive(Clone, Debug, Default)]
struct Case {
    /// The program that starts the launcher, with its arguments.
    before: Vec<String>,
    options: Vec<String>,
    wrapper: Vec<String>,
    /// The owner of the directory for temporary files.
    owner: Option<u32>,
    /// A variable in the environment of the launcher.
    variable: Option<(&'static str, PathBuf)>,
    /// The names of processes that the machine has.
    names: &'static [&'static str],
}

impl Case {
    fn new(options: &[&str], wrapper: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self { options: owned(options), wrapper: owned(wrapper), ..Self::default() }
    }

    /// Launches a machine, kills the launcher with SIGKILL, and asserts that no process and no file is left.
    fn leaves_nothing(self) {
        let _alone = alone();
        bounded(move || {
            let (scratch, mark) = (Scratch::create(), mark());
            if let Some(owner) = self.owner {
                chown(scratch.path(), Some(owner), Some(owner)).unwrap();
            }
            let launcher = launcher(&scratch, self.owner.is_some());
            let words = self.before.iter().map(PathBuf::from).chain([launcher]);
            let words: Vec<_> = words.chain(self.options.iter().map(PathBuf::from)).collect();
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).args(["--arg", "-name", "--arg", &mark]).arg(scratch.path()).args(&self.wrapper);
            command.envs(self.variable.clone());
            let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let launched = BufReader::new(program.stdout.take().unwrap()).lines().next();
            let watched = watched(&program, &mark);
            let names: Vec<_> = descendants(program.id()).into_iter().map(|process| process.name).collect();
            program.kill().unwrap();
            program.wait().unwrap();
            // A daemon ends with the process that was started, so its launch may fail.
            let fails = self.wrapper.iter().any(|word| word.contains("-daemonize"));
            assert!(fails || launched.is_some(), "{self:?}");
            assert!(fails || watched.len() >= 2, "{self:?}");
            for name in self.names {
                assert!(names.iter().any(|other| other == name), "{name} among {names:?}: {self:?}");
            }
            watched.iter().for_each(|process| process.assert_ends_within(LONG));
            let left: Vec<_> = scratch.entries().into_iter().filter(|name| name != "launcher").collect();
            assert_eq!(left, [""; 0], "{self:?}");
        });
    }
}

/// Returns the launcher, or a copy of it where each user can execute it.
fn launcher(scratch: &Scratch, is_for_all: bool) -> PathBuf {
    if !is_for_all {
        return env!("CARGO_BIN_EXE_launcher").into();
    }
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = scratch.path().join("launcher");
    fs::copy(env!("CARGO_BIN_EXE_launcher"), &copy).unwrap();
    copy
}

/// Watches the processes of the machine: those with its mark, and the children of its program.
fn watched(program: &Child, mark: &str) -> Vec<Watched> {
    let children = descendants(program.id()).into_iter().map(|process| process.pid);
    let mut pids: Vec<_> = children.chain(marked(mark)).filter(|pid| *pid != program.id()).collect();
    pids.sort_unstable();
    pids.dedup();
    // One that has ended meanwhile needs no watch.
    pids.into_iter().filter_map(|pid| Watched::new(pid).ok()).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn g25_behind_a_wrapper_in_another_session() {
    Case::new(&[], &["setsid", "-w"]).leaves_nothing();
}

#[test]
fn g25_behind_a_wrapper_that_stays() {
    Case::new(&[], &["timeout", "600"]).leaves_nothing();
    Case::new(&["--socket"], &["timeout", "--foreground", "600"]).leaves_nothing();
}

#[test]
fn g25_a_daemon() {
    Case::new(&[], &["sh", "-c", "exec \"$@\" -daemonize", "sh"]).leaves_nothing();
}

#[test]
fn g25_the_socket_of_an_extra_monitor() {
    Case::new(&["--extra-monitor"], &[]).leaves_nothing();
}

#[test]
fn g25_the_private_directory() {
    Case::new(&["--socket"], &[]).leaves_nothing();
}

/// virtiofsd enters namespaces, in which it starts a process for the work, and so may lose the parent-death signal.
#[test]
fn g25_a_companion() {
    for case in [Case::new(&["--companion"], &[]), Case::new(&["--socket", "--companion"], &["setsid", "-w"])] {
        Case { names: &["qemu-system-x86", "virtiofsd", "qemu-guard"], ..case }.leaves_nothing();
    }
}

/// The program is killed during the launch: one companion is ready, and another one has a file beside the path of its
/// socket, and does not listen.
#[test]
fn g25_a_companion_that_creates_its_socket() {
    const WAITS: &str = ": >\"$0.pid\"; echo waits >/proc/$PPID/fd/1; exec sleep 600";
    let case = Case::new(&["--companion", "--last", WAITS], &[]);
    Case { names: &["virtiofsd", "qemu-guard"], ..case }.leaves_nothing();
}

/// The machine has files and no QEMU: at each step from the first companion to the removal, a guard would remove them.
#[test]
fn g25_the_files_of_a_launch_that_a_companion_fails() {
    let _alone = alone();
    bounded(|| {
        for how in ["exit 3", "exec sleep 600"] {
            let scratch = Scratch::create();
            let server = Companion::new("first", "sh").args(["-c", "trap '' TERM; while :; do sleep 600; done"]);
            let config = Config::new(qemu()).companion(server.listener("").chardev("c"));
            let config = config.companion(Companion::new("last", "sh").args(["-c", how]).path(""));
            let config = config.launch_within(Duration::from_secs(1));
            let mut machine = Machine::new(config.temporary_directory(bytes(scratch.path()))).unwrap();
            let (mut host, clock) = (Host::default(), Clock::new());
            let mut wires = Wires(Poller::new().unwrap());
            let (mut was_started, mut steps) = (false, 0);
            machine.launch(clock.now()).unwrap();
            while machine.outcome().is_none() {
                host.serve(&mut machine, clock.now(), &mut wires);
                was_started |= machine.companion_pid("first").unwrap().is_some();
                let timeout = machine.deadline().map(|(until, _)| until.since(clock.now()));
                wires.0.wait(timeout.or(Some(LONG)));
                host.reap(&mut machine, clock.now(), &mut wires);
                // The removal is an effect, which `serve` carries out.
                if was_started && !scratch.entries().is_empty() {
                    let children = descendants(std::process::id());
                    assert!(children.iter().any(|process| process.name == "qemu-guard"), "{how}: {machine:?}");
                    steps += 1;
                }
                host.check_deadline(&mut machine, clock.now());
            }
            let outcome = machine.outcome().unwrap();
            assert_eq!(outcome.cause, Cause::NotStarted, "{outcome:#}");
            assert!(steps > 2 && outcome.companions.len() == 2, "{outcome:#}");
            assert_eq!(scratch.entries(), [""; 0]);
            let children = descendants(std::process::id());
            assert!(children.iter().all(|process| process.name != "qemu-guard"), "{children:?}");
        }
    });
}

/// Watches the descriptors of a machine with a poller.
struct Wires(Poller);

impl Watch for Wires {
    fn open(&mut self, _: Channel, _: &Arc<OwnedFd>, _: Interest) -> io::Result<()> {
        unreachable!("QEMU is not started")
    }

    fn set_write_interest(&mut self, _: Channel, _: &Arc<OwnedFd>, _: bool) {}

    fn close(&mut self, _: Channel, _: &Arc<OwnedFd>) {}

    fn watch_completion(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
        self.0.add(Source::Descriptor(process.as_fd()), 0, Interest::Read)
    }

    fn unwatch_completion(&mut self, process: &Arc<OwnedFd>) {
        self.0.remove(Source::Descriptor(process.as_fd()));
    }
}

/// A change of credentials needs a privileged program, as the tests of CI are.
#[test]
fn g25_after_a_change_of_credentials() {
    if is_root() {
        Case::new(&["--arg", "-runas", "--arg", "nobody"], &[]).leaves_nothing();
        let wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        Case::new(&[], &wrapper).leaves_nothing();
    }
}

/// The kernel drops the parent-death signal of a program with capabilities.
#[test]
fn g25_a_program_with_capabilities() {
    if is_root() {
        // While a program is copied, the child of another test must not hold it open for writing: it could not be
        // executed then (`execve(2)`, ETXTBSY).
        let copying = alone();
        let programs = Scratch::create();
        fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).unwrap();
        let capable = capable(programs.path());
        drop(copying);
        let mut case = Case::new(&["--program", capable.to_str().unwrap()], &[]);
        case.before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"].map(String::from).to_vec();
        case.owner = Some(NOBODY);
        case.variable = Some(("QEMU_MODULE_DIR", modules()));
        case.leaves_nothing();
    }
}

/// A program of root keeps its own user id as the real one, so that the files of the process still belong to root.
#[test]
fn g25_a_program_of_root_that_is_set_user_id_or_set_group_id() {
    if is_root() {
        for (mode, user, group) in [(0o4755, NOBODY, 0), (0o2755, 0, NOBODY)] {
            let copying = alone();
            let programs = Scratch::create();
            fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).unwrap();
            let copy = copy_of_qemu(programs.path());
            chown(&copy, Some(user), Some(group)).unwrap();
            fs::set_permissions(&copy, Permissions::from_mode(mode)).unwrap();
            drop(copying);
            let mut case = Case::new(&["--program", copy.to_str().unwrap()], &[]);
            case.variable = Some(("QEMU_MODULE_DIR", modules()));
            case.leaves_nothing();
        }
    }
}

fn copy_of_qemu(directory: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let original = std::env::split_paths(&path).map(|place| place.join(qemu())).find(|path| path.exists()).unwrap();
    let copy = directory.join("copy-of-qemu");
    fs::copy(original, &copy).unwrap();
    copy
}

/// Returns a copy of QEMU with a capability.
fn capable(directory: &Path) -> PathBuf {
    let copy = copy_of_qemu(directory);
    let status = Command::new("setcap").args(["cap_net_admin+ep"]).arg(&copy).status().expect("setcap is installed");
    assert!(status.success());
    copy
}

/// Returns the directory of QEMU's modules, which a copy of QEMU does not find by itself.
fn modules() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("qemu"));
    places.into_iter().find(|path| path.join("accel-tcg-x86_64.so").exists()).unwrap_or_default()
}

/// A guard holds nothing of the program: a reader of its output sees the end with the program.
#[test]
fn g25_a_guard_does_not_hold_the_output_of_the_program() {
    let _alone = alone();
    bounded(|| {
        let scratch = Scratch::create();
        let mut command = Command::new(env!("CARGO_BIN_EXE_launcher"));
        command.arg(scratch.path()).args(["timeout", "600"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        let guards = descendants(program.id()).into_iter().filter(|process| process.name == "qemu-guard");
        let guards: Vec<_> = guards.collect();
        assert_eq!(guards.len(), 1);
        let open = fs::read_dir(format!("/proc/{}/fd", guards[0].pid)).unwrap().count();
        assert_eq!(open, 3, "the socket, and the processes that it kills");
        program.kill().unwrap();
        program.wait().unwrap();
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).unwrap();
    });
}

/// A guard takes little memory, whatever the program uses.
#[test]
fn g25_a_guard_does_not_keep_the_memory_of_the_program() {
    let _alone = alone();
    bounded(|| {
        let large = vec![1_u8; 256 << 20];
        let config = Config::new(qemu()).machine("none").wrapper(["timeout", "600"]);
        let vm = qemu_machine_blocking::Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        let guard = descendants(std::process::id()).into_iter().find(|process| process.name == "qemu-guard").unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", guard.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < 32 << 10, "{kilobytes} kB");
        assert_eq!(large[large.len() - 1], 1);
        drop(vm);
        assert!(File::open(format!("/proc/{}/stat", guard.pid)).is_err(), "the guard ends with the machine");
    });
}
