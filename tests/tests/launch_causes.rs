//! Tests of the causes of failed launches on a real QEMU: each is brought about here, and recognized in QEMU's words.

use std::fs::{File, Permissions, set_permissions, write};
use std::io::Write;
use std::net::{SocketAddrV4, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use qemu_machine_blocking::{
    Address, Availability, Config, FaultKind, HostForward, LaunchCause, Peer, Resource, UntrustedText, Vm,
};
use qemu_machine_tests::leak_check::{Scratch, bytes, leaving_nothing};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::geteuid;

/// Returns the configuration of a machine without a processor.
fn empty() -> Config {
    Config::new(qemu()).machine("none").arg("-nodefaults")
}

/// Returns the configuration of a small PC, emulated in software.
fn pc() -> Config {
    Config::new(qemu()).machine("pc").args(["-nodefaults", "-accel", "tcg", "-m", "16"])
}

/// Asserts that the launch fails with this cause, and leaves nothing behind.
fn has(config: Config, is_cause: impl FnOnce(&LaunchCause) -> bool) {
    let error = Vm::launch(config).map(|_| ()).expect_err("the launch fails");
    let cause = error.launch_cause();
    assert!(is_cause(&cause), "{cause:?}: {error}");
}

/// Asserts that each launch fails with its cause.
fn have(cases: impl IntoIterator<Item = (Config, LaunchCause)> + Send + 'static) {
    leaving_nothing(|scratch| {
        for (config, expected) in cases {
            has(config.temporary_directory(bytes(scratch)), |cause| *cause == expected);
        }
    });
}

fn named(path: &Path) -> Option<UntrustedText> {
    Some(path.to_str().expect("the paths of tests are text").into())
}

#[test]
fn a_locked_image() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let image = elsewhere.path().join("disk");
        File::create_new(&image).unwrap().set_len(1 << 20).unwrap();
        let config = |arguments: &[&str]| pc().temporary_directory(bytes(scratch)).args(arguments.iter().copied());
        let drive = format!("file={},format=raw,if=virtio", image.display());
        let shared = format!("{drive},readonly=on");
        let node = format!("driver=file,filename={},node-name=disk", image.display());
        let _holder = Vm::launch(config(&["-drive", &drive])).unwrap_or_else(|error| panic!("{error}"));
        // A node takes its locks for the device that uses it.
        let by_node = config(&["-blockdev", &node, "-device", "virtio-blk-pci,drive=disk"]);
        for config in [config(&["-drive", &drive]), config(&["-drive", &shared]), by_node] {
            has(config, |cause| *cause == LaunchCause::ImageLocked { path: named(&image) });
        }
    });
}

#[test]
fn a_file_that_does_not_exist() {
    let missing = || LaunchCause::FileMissing { path: Some("/nonexistent/it's".into()) };
    have([
        (pc().args(["-kernel", "/nonexistent/it's"]), missing()),
        (empty().args(["-drive", "file=/nonexistent/it's,if=none,format=raw"]), missing()),
        (empty().args(["-blockdev", "driver=file,filename=/nonexistent/it's,node-name=a"]), missing()),
        (empty().args(["-chardev", "socket,id=a,path=/nonexistent/it's"]), missing()),
        (empty().args(["-chardev", "socket,id=a,path=/nonexistent/it's,server=on,wait=off"]), missing()),
        (empty().args(["-chardev", "file,id=a,path=/nonexistent/it's"]), missing()),
        (empty().args(["-object", "memory-backend-file,id=m,size=1M,mem-path=/nonexistent/it's"]), missing()),
        (pc().args(["-fw_cfg", "name=opt/x,file=/nonexistent/it's"]), missing()),
        (pc().args(["-device", "loader,file=/nonexistent/it's"]), missing()),
        (empty().args(["-pidfile", "/nonexistent/it's"]), missing()),
    ]);
}

#[test]
fn a_file_that_may_not_be_used() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        set_permissions(elsewhere.path(), Permissions::from_mode(0o755)).unwrap();
        let file = elsewhere.path().join("it's");
        write(&file, "").unwrap();
        set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
        let drive = format!("file={},if=none,format=raw", file.display());
        let kernel = file.to_str().unwrap();
        for config in [empty().args(["-drive", &drive]), pc().args(["-kernel", kernel])] {
            // Root may use each file.
            let config = if geteuid().is_root() { config.uid(65_534).gid(65_534) } else { config };
            let denied = LaunchCause::FileDenied { path: named(&file) };
            has(config.temporary_directory(bytes(scratch)), |cause| *cause == denied);
        }
    });
}

/// Returns a wrapper whose QEMU sees a `/dev` of its own, made by these commands of a shell. `None` means that the host
/// does not permit it.
fn with_dev(commands: &str) -> Option<Vec<String>> {
    if !geteuid().is_root() {
        let line = "NOT PROVEN: the causes of a KVM that cannot be used: a /dev of its own needs root\n";
        // The test harness captures what `eprintln!` writes in a test that passes.
        std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
        return None;
    }
    let script = format!("mount -t tmpfs -o mode=755 none /dev && {commands}exec \"$@\"");
    Some(["unshare", "--mount", "sh", "-c", &script, "sh"].map(Into::into).to_vec())
}

/// Asserts that KVM does not work for this cause, and that TCG does.
fn refuses_kvm(config: &Config, expected: &LaunchCause, reason: &str) {
    let found = Vm::accelerators(config).unwrap_or_else(|error| panic!("{error}"));
    let kvm = found.get("kvm").map(|kvm| &kvm.availability);
    let Some(Availability::Refused { cause, last_line }) = kvm else { panic!("{found}") };
    assert!(cause == expected && last_line.ends_with(reason), "{found}");
    assert_eq!(found.working().collect::<Vec<_>>(), ["tcg"]);
}

#[test]
fn a_kvm_that_cannot_be_used() {
    const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    leaving_nothing(|scratch| {
        let config = |wrapper: Vec<String>| {
            Config::new(qemu())
                .temporary_directory(bytes(scratch))
                .args(["-nodefaults", "-accel", "kvm"])
                .wrapper(wrapper)
        };
        let Some(missing) = with_dev("") else { return };
        has(config(missing.clone()), |cause| *cause == LaunchCause::KvmMissing);
        refuses_kvm(&config(missing.clone()), &LaunchCause::KvmMissing, "No such file or directory");
        // The accelerator that replaces it is not to blame, and neither is KVM.
        let fallen = config(missing).args(["-accel", "tcg", "-kernel", "/nonexistent"]);
        let path = Some("/nonexistent".into());
        has(fallen, |cause| *cause == LaunchCause::FileMissing { path });

        let Some(mut denied) = with_dev("touch /dev/kvm && chmod 0 /dev/kvm && ") else { return };
        denied.extend(NOBODY.map(Into::into));
        has(config(denied.clone()), |cause| *cause == LaunchCause::KvmDenied);
        refuses_kvm(&config(denied), &LaunchCause::KvmDenied, "Permission denied");

        let Some(file) = with_dev("touch /dev/kvm && ") else { return };
        has(config(file), |cause| *cause == LaunchCause::KvmUnsupported);
    });
}

#[test]
fn a_kvm_that_another_architecture_does_not_have() {
    // One of the two cannot be the architecture of this host.
    let other = if cfg!(target_arch = "x86_64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
    let config = Config::new(qemu_machine_tests::installed(other)).machine("none").args(["-accel", "kvm"]);
    have([(config, LaunchCause::KvmUnsupported)]);
}

/// The limit of the address space stands for a host with little memory.
#[test]
fn memory_that_the_host_does_not_have() {
    let huge = "memory-backend-memfd,id=m,hugetlb=on,size=1T";
    have([
        (pc().resource_limit(Resource::AddressSpace, 4 << 30).args(["-m", "8G"]), LaunchCause::OutOfMemory),
        (pc().args(["-object", "memory-backend-ram,id=m,size=900T"]), LaunchCause::OutOfMemory),
        (pc().args(["-object", huge]), LaunchCause::OutOfMemory),
    ]);
}

#[test]
fn an_address_that_another_process_uses() {
    leaving_nothing(|scratch| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = || empty().temporary_directory(bytes(scratch));
        let unavailable = |address: &str| LaunchCause::AddressUnavailable { address: Some(address.into()) };

        let forward = HostForward::tcp(22).host(SocketAddrV4::new([127, 0, 0, 1].into(), port));
        has(config().host_forward("net0", forward), |cause| *cause == unavailable(&forward.to_string()));

        let none = LaunchCause::AddressUnavailable { address: None };
        let chardev = format!("socket,id=a,host=127.0.0.1,port={port},server=on,wait=off");
        has(config().args(["-chardev", &chardev]), |cause| *cause == none);
        // The first port of VNC is 5900. To the number of a display, QEMU adds it (QEMU, `ui/vnc.c`).
        if let Some(display) = port.checked_sub(5900) {
            has(config().args(["-vnc", &format!("127.0.0.1:{display}")]), |cause| *cause == none);
        }
        // An address for documentation (RFC 5737), which the host does not have.
        has(config().args(["-vnc", "203.0.113.1:0"]), |cause| *cause == none);
    });
}

#[test]
fn names_that_qemu_does_not_know() {
    let name = |name: &str| Some(name.into());
    have([
        (empty().args(["-device", "nosuch"]), LaunchCause::UnknownDevice { name: name("nosuch") }),
        (empty().args(["-device", r#"{"driver":"no'such"}"#]), LaunchCause::UnknownDevice { name: name("no'such") }),
        (pc().args(["-cpu", "nosuch"]), LaunchCause::UnknownCpu { name: name("nosuch") }),
        (empty().arg("-nosuch"), LaunchCause::UnknownOption { name: name("-nosuch") }),
        (pc().args(["-device", "e1000,nosuch=1"]), LaunchCause::UnknownOption { name: name("e1000.nosuch") }),
        (empty().args(["-netdev", "user,id=a,nosuch=1"]), LaunchCause::UnknownOption { name: name("nosuch") }),
        (
            empty().args(["-blockdev", "driver=null-co,node-name=a,nosuch=1"]),
            LaunchCause::UnknownOption { name: name("nosuch") },
        ),
    ]);
}

/// QEMU 7.2 does not repeat the name.
#[test]
fn a_machine_type_that_qemu_does_not_know() {
    leaving_nothing(|scratch| {
        let config = Config::new(qemu()).machine("nosuch").temporary_directory(bytes(scratch));
        has(
            config,
            |cause| matches!(cause, LaunchCause::UnknownMachine { name } if name.as_deref().is_none_or(|name| name == "nosuch")),
        );
    });
}

#[test]
fn values_that_qemu_does_not_accept() {
    let invalid = |name: &str| LaunchCause::InvalidValue { name: Some(name.into()) };
    have([
        (pc().args(["-m", "lots"]), invalid("size")),
        (empty().args(["-netdev", "nosuch,id=a"]), invalid("type")),
        (pc().args(["-device", "e1000,mac=zz"]), invalid("e1000.mac")),
        (pc().args(["-device", "e1000,netdev=zz"]), invalid("e1000.netdev")),
        (empty().arg("-device"), invalid("-device")),
        (Config::new(qemu()).args(["-accel", "nosuch"]), LaunchCause::InvalidValue { name: None }),
        (empty().args(["-netdev", "user,id=a,hostfwd=x"]), LaunchCause::InvalidValue { name: None }),
        (empty().args(["-drive", "file=/dev/null,format=nosuch,if=none"]), LaunchCause::InvalidValue { name: None }),
    ]);
}

#[test]
fn an_accelerator_that_does_not_provide_the_cpu() {
    let arm = Config::new(qemu_machine_tests::installed("qemu-system-aarch64")).machine("virt");
    have([
        (pc().args(["-cpu", "host"]), LaunchCause::UnsupportedCpu),
        (pc().args(["-cpu", "qemu64,enforce,+avx512f"]), LaunchCause::UnsupportedCpu),
        (arm.args(["-accel", "tcg", "-cpu", "host"]), LaunchCause::UnsupportedCpu),
    ]);
}

#[test]
fn what_is_not_recognized_has_the_words() {
    leaving_nothing(|scratch| {
        let config = Config::new(qemu()).arg("-version").temporary_directory(bytes(scratch));
        has(config, |cause| matches!(cause, LaunchCause::Other(words) if words.contains("QEMU emulator version")));
        let config = Config::new("true").temporary_directory(bytes(scratch));
        has(config, |cause| *cause == LaunchCause::Other("".into()));
    });
}

#[test]
fn what_is_not_qemus_fault() {
    leaving_nothing(|scratch| {
        let elsewhere = Scratch::create();
        let program = elsewhere.path().join("qemu");
        File::create_new(&program).unwrap();
        let missing = LaunchCause::Host(FaultKind::NotFound);
        for (config, expected) in [
            (Config::new("no-such-qemu"), missing.clone()),
            (Config::new(qemu()).wrapper(["no-such-wrapper"]), missing.clone()),
            (Config::new(bytes(&program)), LaunchCause::Host(FaultKind::Denied)),
            (Config::new(qemu()).arg("-daemonize"), LaunchCause::Misuse),
            // QEMU waits for a client before it serves its monitor.
            (
                empty()
                    .args(["-chardev", "socket,id=a,host=127.0.0.1,port=0,server=on,wait=on"])
                    .launch_within(Duration::from_millis(500)),
                LaunchCause::TimedOut,
            ),
        ] {
            has(config.temporary_directory(bytes(scratch)), |cause| *cause == expected);
        }
        let socket = elsewhere.path().join("monitor");
        let attach = || Vm::attach(Peer::Dial(Address::unix(bytes(&socket))), PATIENCE).map(|_| ());
        assert_eq!(attach().expect_err("there is no socket").launch_cause(), missing);
        drop(UnixListener::bind(&socket));
        let gone = LaunchCause::Host(FaultKind::Refused);
        assert_eq!(attach().expect_err("no process listens").launch_cause(), gone);
    });
}
