//! Stories of the cgroup of the process: one that it starts in, and those that it cannot enter.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use qemu_machine_core::{Config, FaultKind, LaunchError, LaunchFailure};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

/// A cgroup of version 2, which is removed when it is dropped. Its processes must have ended by then.
struct Cgroup {
    path: PathBuf,
    name: String,
}

impl Cgroup {
    /// Creates a cgroup below one of these directories. `None` means that this program may not.
    fn create(parents: &[PathBuf]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("qemu-machine-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = parents.iter().map(|parent| parent.join(&name)).find(|path| fs::create_dir(path).is_ok())?;
        Some(Self { path, name })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It fails only after another failure of the test, which left a process.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Returns where cgroups of version 2 may be created: in the cgroup of this program, or at the mount point
/// (`proc_pid_mountinfo(5)`, `cgroups(7)`).
fn parents() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    mount.map(Path::new).map(|mount| vec![mount.join(own), mount.to_owned()]).unwrap_or_default()
}

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

/// Asserts that the launch fails, and returns the text of its error and the kind of the fault.
fn fault<H: Hosted>(cgroup: &Path) -> (String, FaultKind) {
    match H::launch(empty().cgroup(bytes(cgroup))) {
        Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), .. }) => (fault.to_string(), fault.kind),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the launch succeeded"),
    }
}

/// Whether this program may create a cgroup depends on the machine. Where it may not, it may not enter one either.
fn row_01_the_process_starts_in_its_cgroup<H: Hosted>() {
    let parents = parents();
    let Some(cgroup) = Cgroup::create(&parents) else {
        for parent in &parents {
            let (text, _) = fault::<H>(parent);
            assert!(text.starts_with(&format!("cannot enter the cgroup {} for `", parent.display())), "{text}");
        }
        return;
    };
    let is_in = |cgroups: &str| cgroups.lines().any(|line| line.starts_with("0::") && line.ends_with(&cgroup.name));
    // The wrapper prints in which cgroup it has begun.
    let wrapper = ["sh", "-c", "cat /proc/self/cgroup; exec \"$0\" \"$@\""];
    for config in [empty(), empty().wrapper(wrapper)] {
        let has_wrapper = config != empty();
        let mut machine = H::launch(config.cgroup(bytes(&cgroup.path))).expect("QEMU starts");
        let pid = machine.pid().expect("it runs");
        assert!(is_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs")));
        assert_eq!(is_in(&String::from_utf8_lossy(&machine.log(4096))), has_wrapper);
        machine.kill().expect("it runs");
    }
    assert!(!is_in(&fs::read_to_string("/proc/self/cgroup").expect("proc is mounted")), "this program stays");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let pid = machine.pid().expect("it runs");
    assert!(!is_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs")), "nor is another machine");
}

fn row_01_a_cgroup_that_cannot_be_entered_is_named<H: Hosted>() {
    let (text, kind) = fault::<H>(Path::new("/nowhere/vms"));
    let expected = "cannot enter the cgroup /nowhere/vms for `qemu-system-x86_64`: No such file or directory";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(kind, FaultKind::NotFound);
    // A directory that only looks like a cgroup: nothing would limit the process.
    let scratch = Scratch::create();
    let file = scratch.path().join("cgroup.procs");
    fs::write(&file, "").expect("the directory is writable");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is there");
    let (text, kind) = fault::<H>(scratch.path());
    assert!(text.contains(&format!("{} for `", scratch.path().display())), "{text}");
    assert_eq!(kind, FaultKind::Unsupported, "{text}");
    assert_eq!(fs::read(&file).expect("it is there"), b"", "nothing is written to it");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_01_the_process_starts_in_its_cgroup
            row_01_a_cgroup_that_cannot_be_entered_is_named
        }
    };
}

rows!(stories);
