//! Tests of completion at a terminal: the names that only QEMU knows, and those of the human monitor.

use std::fs::File;

use qemu_machine_blocking::json;
use qemu_machine_tests::leak_check::{Scratch, leaving_nothing, send, stop};
use qemu_machine_tests::qemu;
use rustix::process::Signal;

use super::Monitored;
use super::at_prompt::with_attached;
use super::terminal::Terminal;

/// Runs a test at the terminal of a shell whose QEMU has something of each kind.
fn with_parts(options: &'static [&str], test: impl FnOnce(&mut Terminal) + Send + 'static) {
    leaving_nothing(move |temporary| {
        let state = Scratch::create();
        let parts = [
            ["-netdev", "user,id=net0"],
            ["-netdev", "user,id=spare0"],
            ["-device", "virtio-net-pci,netdev=net0,id=nic0"],
            ["-chardev", "null,id=log0"],
            ["-object", "iothread,id=io0"],
            ["-blockdev", "null-co,node-name=disk0,size=1073741824,read-zeroes=on"],
            ["-blockdev", "null-co,node-name=disk1,size=1073741824,read-zeroes=on"],
            ["-drive", "if=ide,id=cd0,media=cdrom"],
        ];
        let launched = ["--", qemu(), "-S", "-nodefaults"];
        let arguments: Vec<&str> = options.iter().chain(&launched).chain(parts.as_flattened()).copied().collect();
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        test(&mut terminal);
        terminal.press("\x15exit\r");
        let (status, screen) = terminal.end();
        assert!(status.success(), "{status}: {screen}");
    });
}

/// Types a text and TAB, waits for the completed line, and clears it.
fn completes(terminal: &mut Terminal, typed: &str, line: &str) {
    terminal.press(&format!("{typed}\t"));
    terminal.line_is(line);
    terminal.press("\x15");
}

#[test]
fn ids_are_completed() {
    with_parts(&[], |terminal| {
        completes(terminal, "object-del id=i", "qmp> object-del id=io0");
        completes(terminal, "netdev_del id=s", "qmp> netdev_del id=spare0");
        completes(
            terminal,
            "device_add driver=virtio-net-pci netdev=s",
            "qmp> device_add driver=virtio-net-pci netdev=spare0",
        );
        completes(terminal, "set_link name=ni", "qmp> set_link name=nic0 up=");
        completes(terminal, "chardev-remove id=l", "qmp> chardev-remove id=log0");
        completes(terminal, "device_del id=", "qmp> device_del id=nic0");
        terminal.enter("blockdev-backup job-id=copy device=disk0 target=disk1 sync=full speed=1", "{}");
        completes(terminal, "job-cancel id=", "qmp> job-cancel id=copy");
        completes(terminal, "block-job-set-speed device=", "qmp> block-job-set-speed device=copy speed=");
        completes(terminal, "block-job-finalize id=", "qmp> block-job-finalize id=copy");
        terminal.enter("block-job-cancel device=copy force=on", "BLOCK_JOB_CANCELLED");
        completes(terminal, "qom-get path=/objects/i", "qmp> qom-get path=/objects/io0/");
        completes(
            terminal,
            "qom-set path=/objects/io0 property=poll-m",
            "qmp> qom-set path=/objects/io0 property=poll-max-ns value=",
        );
    });
}

#[test]
fn ids_of_objects_and_of_backends_are_completed() {
    with_parts(&[], |terminal| {
        let mirror = "object-add qom-type=filter-mirror id=m0 ";
        completes(terminal, &format!("{mirror}outdev=o netdev=s"), &format!("qmp> {mirror}outdev=o netdev=spare0"));
        completes(terminal, &format!("{mirror}netdev=n outdev=l"), &format!("qmp> {mirror}netdev=n outdev=log0"));
        let compare = "object-add qom-type=colo-compare id=c0 outdev=o primary_in=p secondary_in=s iothread=";
        completes(terminal, compare, &format!("qmp> {compare}io0"));
        terminal.enter("object-add qom-type=secret id=key0 data=x", "{}");
        let luks = "blockdev-add driver=luks file=disk0 key-secret=k";
        completes(terminal, luks, &format!("qmp> {luks}ey0"));
        terminal.enter("object-add qom-type=tls-creds-anon id=tls0 endpoint=server", "{}");
        let server = "nbd-server-start addr.type=unix addr.data.path=p tls-creds=t";
        completes(terminal, server, &format!("qmp> {server}ls0"));
        let device = "device_add driver=virtio-rng-pci bus=pc";
        completes(terminal, device, &format!("qmp> {device}i.0"));
    });
}

#[test]
fn ids_of_the_block_layer_are_completed() {
    with_parts(&[], |terminal| {
        completes(
            terminal,
            "x-blockdev-set-iothread iothread=i",
            "qmp> x-blockdev-set-iothread iothread=io0 node-name=",
        );
        completes(terminal, "x-blockdev-set-iothread node-name=", "qmp> x-blockdev-set-iothread node-name=disk");
        completes(terminal, "block-stream device=d bottom=", "qmp> block-stream device=d bottom=disk");
        let backing = "change-backing-file backing-file=f device=";
        completes(terminal, backing, &format!("qmp> {backing}disk"));
        completes(
            terminal,
            "drive-mirror target=t sync=full device=",
            "qmp> drive-mirror target=t sync=full device=disk",
        );
        terminal.enter("block-dirty-bitmap-add node=disk0 name=first", "{}");
        terminal.enter("block-dirty-bitmap-add node=disk0 name=other", "{}");
        let merge = "block-dirty-bitmap-merge node=disk0";
        completes(terminal, &format!("{merge} target=f"), &format!("qmp> {merge} target=first bitmaps="));
        completes(
            terminal,
            &format!("{merge} target=first bitmaps.0=o"),
            &format!("qmp> {merge} target=first bitmaps.0=other"),
        );
        terminal.enter("nbd-server-start addr.type=inet addr.data.host=127.0.0.1 addr.data.port=0", "{}");
        let export = "block-export-add type=nbd id=exp0 node-name=disk0";
        completes(terminal, &format!("{export} iothread="), &format!("qmp> {export} iothread=io0"));
        terminal.enter(export, "{}");
        completes(terminal, "block-export-del id=", "qmp> block-export-del id=exp0");
    });
}

#[test]
fn the_names_of_trace_events_are_completed() {
    with_parts(&[], |terminal| {
        let line = "trace-event-get-state name=qmp_job_canc";
        completes(terminal, line, &format!("qmp> {line}el"));
    });
    with_parts(&["--hmp"], |terminal| {
        completes(terminal, "trace-event qmp_job_canc", "hmp> trace-event qmp_job_cancel");
        completes(terminal, "cpu ", "hmp> cpu 0");
    });
}

#[test]
fn the_sets_of_descriptors_are_completed() {
    with_attached(|monitored, mut terminal| {
        let null = File::open("/dev/null").unwrap();
        monitored.vm.execute_with_fd(("add-fd", json!({"fdset-id": 77})), null).unwrap();
        completes(&mut terminal, "remove-fd fdset-id=", "qmp> remove-fd fdset-id=77");
        terminal.press("\x04");
        assert!(terminal.end().0.success());
    });
}

#[test]
fn lines_of_the_human_monitor_are_completed() {
    with_parts(&["--hmp"], |terminal| {
        completes(terminal, "info balloo", "hmp> info balloon");
        completes(terminal, "help qui", "hmp> help quit");
        completes(terminal, "device_d", "hmp> device_del");
        completes(terminal, "device_del ", "hmp> device_del nic0");
        completes(terminal, "netdev_del s", "hmp> netdev_del spare0");
        completes(terminal, "object_del i", "hmp> object_del io0");
        completes(terminal, "eject -f ", "hmp> eject -f cd0");
        completes(terminal, "set_link nic0 of", "hmp> set_link nic0 off");
        completes(terminal, "qom-list /obj", "hmp> qom-list /objects/");
        completes(terminal, "migrate_set_capability x-co", "hmp> migrate_set_capability x-colo");
    });
    with_parts(&[], |terminal| completes(terminal, "hmp info balloo", "qmp> hmp info balloon"));
}

/// A name with a blank is completed in quotes, and a drive where QEMU wants one.
#[test]
fn the_names_of_drives_are_completed() {
    with_parts(&[], |terminal| {
        completes(terminal, "block_resize device=c", "qmp> block_resize device=cd0 size=");
        completes(terminal, "eject device=", "qmp> eject device=cd0");
    });
}

/// A QEMU that does not answer is asked once: its queue would fill with queries.
#[test]
fn completion_asks_a_stopped_qemu_once() {
    leaving_nothing(|temporary| {
        let state = Scratch::create();
        let monitored = Monitored::launch(state.path());
        let arguments = ["-v", "--no-history", monitored.path.to_str().unwrap()];
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        let pid = monitored.vm.pid().unwrap();
        stop(pid);
        for typed in ["a", "b", "c"] {
            terminal.press(&format!("\x15object-del id=\t{typed}"));
            terminal.line_is(&format!("qmp> object-del id={typed}"));
        }
        send(pid, Signal::CONT);
        terminal.press("\x15");
        terminal.enter("query-name", "{}");
        terminal.press("\x04");
        let written = terminal.written_at_end();
        assert_eq!(written.matches("> {\"execute\":\"qom-list\"").count(), 1, "{written}");
    });
}

/// A QEMU that does not answer has no names to offer, and the prompt goes on after a second.
#[test]
fn completion_does_not_wait_for_a_stopped_qemu() {
    with_attached(|monitored, mut terminal| {
        let pid = monitored.vm.pid().unwrap();
        stop(pid);
        terminal.press("device_del id=\tx");
        terminal.line_is("qmp> device_del id=x");
        terminal.press("\x15hmp info st\ta");
        terminal.line_is("qmp> hmp info sta");
        send(pid, Signal::CONT);
        terminal.press("\x15");
        terminal.enter("query-name", "{}");
        terminal.press("hmp info stat\t");
        terminal.until("names", |screen| screen.contents().contains("status"));
        terminal.press("\x15\x04");
        assert!(terminal.end().0.success());
    });
}
