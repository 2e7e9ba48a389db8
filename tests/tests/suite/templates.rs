//! Stories of templates on a real QEMU: a guest that was booted once answers in every clone.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qemu_machine_blocking::Vm;
use qemu_machine_core::procedure::{SaveTemplate, TemplateError};
use qemu_machine_core::{
    Config, Deadline, DiskFormat, ExitStatus, FaultKind, Found, Mark, Service, Shutdown, Template, TemplateConfig,
    TemplateDisk, Wait, json,
};
use qemu_machine_host::{TemplateFileError, descriptor, template_clone, template_source};
use qemu_machine_tests::guest::board::BOARDS;
use qemu_machine_tests::guest::{self, ImageFile};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

/// The memory of the guest, in MiB.
const MEMORY_MIB: u64 = 32;

/// The small guest, without its memory.
fn guest(image: &ImageFile) -> Config {
    let arguments = guest::arguments(image.path());
    let size = arguments.iter().position(|argument| argument == "-m").expect("it has memory");
    let without = arguments[..size].iter().chain(&arguments[size + 2..]).cloned().collect::<Vec<_>>();
    Config::new(qemu()).args(["-accel", "tcg"]).args(without).serial("tty")
}

/// Returns the whole line with which the guest greets: a clone prints what follows it.
fn greeting() -> String {
    format!("{}\r\n", guest::GREETING)
}

/// Boots the guest until it greets, and saves it.
fn saved<H: Hosted>(template: &TemplateConfig) -> Template {
    saved_at::<H>(template, &greeting())
}

/// Boots a guest until it prints this, and saves it.
fn saved_at<H: Hosted>(template: &TemplateConfig, greeting: &str) -> Template {
    let (config, save) = template_source(template).expect("the files can be created");
    let mut source = H::launch(config).expect("QEMU starts");
    source.wait_for(Wait::text("tty", greeting));
    let pid = source.pid().expect("the process runs");
    let template = source.run(save, LONG).expect("the machine is saved");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the source has ended");
    template
}

/// Launches a clone, and loads the template.
fn cloned<H: Hosted>(template: &Template) -> H {
    let (config, load) = template_clone(template).expect("the files can be opened");
    let mut clone = H::launch(config).expect("QEMU starts");
    assert_eq!(clone.run(load, LONG), Ok(()));
    clone
}

/// Types a byte that the guest echoes, and waits for the echo.
fn assert_answers<H: Hosted>(machine: &mut H) {
    let mark = machine.mark();
    machine.console_write("tty", "Q").expect("the guest reads");
    let hit = machine.wait_any(&mark, &[Wait::text("tty", "Q"), Wait::end()], LONG).expect("the guest answers");
    assert!(matches!(hit.found, Found::Text(_)), "{hit:?}");
}

/// Returns the qtest service of a machine, which reaches the memory of the guest.
fn qtest<H: Hosted>(machine: &mut H) -> Vm {
    Vm::launch(machine.service(Service::Qtest).expect("it has qtest")).expect("it is free")
}

fn a_guest_that_was_booted_once_answers_in_every_clone<H: Hosted>() {
    let (scratch, image) = (Scratch::create(), ImageFile::create().expect("there is room"));
    let template = saved::<H>(&TemplateConfig::new(guest(&image).qtest(), scratch.path(), MEMORY_MIB));
    let path = scratch.path().join("memory");
    let before = fs::read(&path).expect("the file is readable");
    assert_eq!(before.len() as u64, MEMORY_MIB << 20);
    let mut clones: Vec<H> = (0..2).map(|_| cloned(&template)).collect();
    let memories: Vec<Vm> = clones.iter_mut().map(qtest).collect();
    memories[0].execute_line("writel 0x100000 0x12345678", LONG).expect("QEMU replies");
    for (clone, (memory, value)) in clones.iter_mut().zip(memories.iter().zip([0x1234_5678, 0])) {
        assert_runs(clone);
        let printed = clone.console("tty", &Mark::default()).expect("it has the console");
        assert_eq!(String::from_utf8_lossy(&printed), "Q", "the guest has not booted again");
        let read = memory.execute_line("readl 0x100000", LONG);
        assert_eq!(read, Ok(format!("{value:#018x}")), "each clone writes to memory of its own");
        assert_eq!(clone.execute("query-fdsets", LONG), Ok(json!([])), "the state is closed");
    }
    assert!(fs::read(&path).expect("the file is readable") == before, "no clone writes to the template");
}

fn a_guest_of_another_architecture_answers_in_every_clone<H: Hosted>() {
    for board in &BOARDS {
        let (scratch, image) = (Scratch::create(), board.image().expect("there is room"));
        let config = board.config(&image).serial("tty");
        let template = TemplateConfig::new(config, scratch.path(), board.memory_mib);
        let template = saved_at::<H>(&template, &greeting());
        let mut clones: Vec<H> = (0..2).map(|_| cloned(&template)).collect();
        for clone in &mut clones {
            assert_answers(clone);
            let printed = clone.console("tty", &Mark::default()).expect("it has the console");
            assert_eq!(
                String::from_utf8_lossy(&printed),
                "Q",
                "{}: the guest has not booted again",
                board.architecture
            );
        }
    }
}

/// Runs a command of `qemu-io` on the disk. QEMU prints the result to its stdout (QEMU, `qemu-io-cmds.c`).
fn disk<H: Hosted>(machine: &mut H, command: &str) {
    let arguments = json!({"command-line": format!("qemu-io vda \"{command}\"")});
    assert_eq!(machine.execute_with("human-monitor-command", arguments), Ok(json!("")), "{command}");
}

/// Ends a machine, and asserts that its commands of `qemu-io` had this many results, and that each found its pattern. The
/// results are in the log when QEMU has ended, since its stdout to a file has a buffer.
fn assert_disk<H: Hosted>(mut machine: H, reads: usize, writes: usize) {
    let outcome = machine.shutdown(Shutdown::quit_then_kill(PATIENCE)).expect("it was launched");
    let count = |verb: &str| outcome.log.lines().filter(|line| line.starts_with(verb)).count();
    let results = (count("read "), count("wrote "), outcome.log.contains("failed"));
    assert_eq!(results, (reads, writes, false), "{}", outcome.log);
}

fn each_clone_writes_to_an_overlay_of_its_own<H: Hosted>() {
    let image = ImageFile::create().expect("there is room");
    for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
        let scratch = Scratch::create();
        let path = scratch.path().join("disk, of the source");
        let name = if format == DiskFormat::Raw { "raw" } else { "qcow2" };
        let created = Command::new("qemu-img").args(["create", "-q", "-f", name]).arg(&path).arg("1G").status();
        assert!(created.expect("qemu-img is installed").success());
        let config = guest(&image).args(["-device", "virtio-blk-pci,drive=vda,share-rw=on"]);
        let template = TemplateConfig::new(config, scratch.path(), MEMORY_MIB).disk("vda", &path, format);
        let (config, save) = template_source(&template).expect("the files can be created");
        let mut source = H::launch(config).expect("QEMU starts");
        disk(&mut source, "write -P 1 900M 64k");
        let template = source.run(save, LONG).expect("the machine is saved");
        let before = fs::metadata(&path).and_then(|file| file.modified()).expect("the image exists");
        let mut clones: Vec<H> = (0..2).map(|_| cloned(&template)).collect();
        for (clone, pattern) in clones.iter_mut().zip([2, 3]) {
            disk(clone, "read -P 1 900M 64k");
            disk(clone, &format!("write -P {pattern} 900M 32k"));
        }
        for (clone, pattern) in clones.iter_mut().zip([2, 3]) {
            disk(clone, &format!("read -P {pattern} 900M 32k"));
            disk(clone, &format!("read -P 1 {} 32k", (900 << 20) + (32 << 10)));
        }
        clones.into_iter().for_each(|clone| assert_disk(clone, 3, 1));
        assert_eq!(fs::metadata(&path).and_then(|file| file.modified()).expect("the image exists"), before);
        let mut files: Vec<_> = fs::read_dir(scratch.path())
            .expect("the directory exists")
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["disk, of the source", "memory", "state"], "overlays have no path");
        fs::remove_file(&path).expect("the image exists");
        assert!(Command::new("mkfifo").arg(&path).status().expect("it is installed").success());
        let refused = template_clone(&template).map(drop).expect_err("it is no regular file").to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
    }
}

#[test]
fn qemu_accepts_the_overlays() {
    let qemu_img = |arguments: &[&str]| {
        let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img is installed");
        assert!(output.status.success(), "qemu-img {arguments:?}: {output:?}");
        output.stdout
    };
    let scratch = Scratch::create();
    let paths = ["image", "overlay"].map(|name| scratch.path().join(name).to_string_lossy().into_owned());
    let [image, overlay] = paths.each_ref().map(String::as_str);
    // The table of 8 TiB has two clusters.
    for (format, name, size) in [
        (DiskFormat::Raw, "raw", 1_u64 << 30),
        (DiskFormat::Qcow2, "qcow2", 1 << 30),
        (DiskFormat::Qcow2, "qcow2", 8 << 40),
    ] {
        qemu_img(&["create", "-q", "-f", name, image, &size.to_string()]);
        let mut head = vec![];
        let file = File::open(image).expect("it is readable");
        file.take(TemplateDisk::HEAD as u64).read_to_end(&mut head).expect("it is readable");
        let config = TemplateConfig::new(Config::new(qemu()), scratch.path(), MEMORY_MIB).disk("vda", image, format);
        let content = config.disks()[0].overlay(&head, size).expect("it has the format");
        fs::write(overlay, content).expect("there is room");
        qemu_img(&["check", "-q", "-f", "qcow2", overlay]);
        let info = qemu_img(&["info", "--output=json", "-f", "qcow2", overlay]);
        let info: serde_json::Value = serde_json::from_slice(&info).expect("it is JSON");
        let is = [&info["virtual-size"], &info["full-backing-filename"], &info["backing-filename-format"]];
        assert_eq!(is, [&json!(size), &json!(image), &json!(name)]);
        fs::remove_file(image).expect("it exists");
    }
}

fn a_clone_with_other_devices_is_refused_by_name<H: Hosted>() {
    const RNG: [&str; 2] = ["-device", "virtio-rng-pci,id=rng"];
    let (scratch, image) = (Scratch::create(), ImageFile::create().expect("there is room"));
    let template = saved::<H>(&TemplateConfig::new(guest(&image), scratch.path(), MEMORY_MIB));
    let (config, load) = template_clone(&template).expect("the files can be opened");
    let more = H::launch(config.args(RNG)).expect("QEMU starts").run(load, LONG);
    let named = vec!["rng (virtio-rng-pci)".into()];
    assert_eq!(more, Err(TemplateError::Devices { missing: vec![], added: named.clone() }));

    // What these lists do not contain is in the words of QEMU.
    let (config, load) = template_clone(&template).expect("the files can be opened");
    let other = H::launch(config.args(["-machine", "q35"])).expect("QEMU starts").run(load, LONG);
    assert!(matches!(&other, Err(TemplateError::Failed(why)) if why.contains("q35")), "{other:?}");

    // The source got a device while it ran, which the command line of a clone lacks.
    let scratch = Scratch::create();
    let template = TemplateConfig::new(guest(&image), scratch.path(), MEMORY_MIB);
    let (config, save) = template_source(&template).expect("the files can be created");
    let mut source = H::launch(config).expect("QEMU starts");
    source.execute_with("device_add", json!({"driver": "virtio-rng-pci", "id": "rng"})).expect("there is a slot");
    let template = source.run(save, LONG).expect("the machine is saved");
    let (config, load) = template_clone(&template).expect("the files can be opened");
    let less = H::launch(config).expect("QEMU starts").run(load, LONG);
    assert_eq!(less, Err(TemplateError::Devices { missing: named, added: vec![] }));
}

fn a_template_whose_files_are_gone_or_in_use_is_refused<H: Hosted>() {
    let (scratch, image) = (Scratch::create(), ImageFile::create().expect("there is room"));
    let config = TemplateConfig::new(guest(&image), scratch.path(), MEMORY_MIB);
    let template = saved::<H>(&config);
    let fault = |error: TemplateFileError| match error {
        TemplateFileError::Host(fault) => (fault.kind, fault.operation.to_string()),
        error => panic!("{error}"),
    };
    let (kind, operation) = fault(template_source(&config).map(drop).expect_err("there is one"));
    assert_eq!((kind, operation.contains("/memory")), (FaultKind::Exists, true), "{operation}");
    fs::remove_file(scratch.path().join("memory")).expect("the file exists");
    let (_, operation) = fault(template_source(&config).map(drop).expect_err("there is a state"));
    assert!(operation.contains("/state"), "{operation}");
    let created = File::create_new(scratch.path().join("memory"));
    created.expect("what an attempt has created is removed when it fails");
    for name in ["state", "memory"] {
        fs::remove_file(scratch.path().join(name)).expect("the file exists");
        let (kind, operation) = fault(template_clone(&template).map(drop).expect_err("it is gone"));
        assert_eq!((kind, operation.ends_with(name)), (FaultKind::NotFound, true), "{operation}");
    }
}

/// A clone that has its descriptors needs no paths.
fn a_template_that_is_removed_meanwhile_is_loaded<H: Hosted>() {
    let (scratch, image) = (Scratch::create(), ImageFile::create().expect("there is room"));
    let template = saved::<H>(&TemplateConfig::new(guest(&image), scratch.path(), MEMORY_MIB));
    let (config, load) = template_clone(&template).expect("the files can be opened");
    for name in ["state", "memory"] {
        fs::remove_file(scratch.path().join(name)).expect("the file exists");
    }
    let mut clone = H::launch(config).expect("QEMU starts");
    assert_eq!(clone.run(load, LONG), Ok(()));
    assert_answers(&mut clone);
}

/// Asserts that the guest runs, and that a migration would send all of its memory.
fn assert_runs<H: Hosted>(machine: &mut H) {
    assert_answers(machine);
    let all = machine.execute("query-migrate-capabilities", LONG).expect("the monitor answers");
    let off = json!({"capability": "x-ignore-shared", "state": false});
    assert!(all.as_array().expect("a list").contains(&off), "{all}");
}

fn g40_a_machine_that_is_not_saved_runs_on<H: Hosted>() {
    let (scratch, image) = (Scratch::create(), ImageFile::create().expect("there is room"));
    let template = TemplateConfig::new(guest(&image), scratch.path(), MEMORY_MIB);
    let (config, _) = template_source(&template).expect("the files can be created");
    let mut source = H::launch(config).expect("QEMU starts");
    source.wait_for(Wait::text("tty", greeting()));
    let state = scratch.path().join("state");
    let unwritable = SaveTemplate::of(&template, descriptor(File::open(&state).expect("the file exists")));
    let failed = source.run(unwritable, LONG);
    assert!(matches!(failed, Err(TemplateError::Failed(_) | TemplateError::Procedure(_))), "{failed:?}");
    assert_runs(&mut source);
    let writable = || descriptor(File::options().write(true).open(&state).expect("the file exists"));
    let mark = source.mark();
    let dropped = source.drop_run_at(SaveTemplate::of(&template, writable()), Wait::event("STOP"));
    if let Some(Ok(template)) = dropped {
        // It was faster than its cancellation.
        return assert_answers(&mut cloned::<H>(&template));
    }
    let things = [Wait::event("RESUME"), Wait::end()];
    let hit = source.wait_any(&mark, &things, LONG).expect("the guest is continued, or ends");
    if let Found::End(outcome) = hit.found {
        // `quit` was sent before the cancellation.
        return assert_eq!(outcome.exit, Some(ExitStatus::Code(0)));
    }
    assert_runs(&mut source);
    let template = source.run(SaveTemplate::of(&template, writable()), LONG).expect("the machine is saved");
    assert_answers(&mut cloned::<H>(&template));
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            a_guest_that_was_booted_once_answers_in_every_clone
            a_guest_of_another_architecture_answers_in_every_clone
            each_clone_writes_to_an_overlay_of_its_own
            a_clone_with_other_devices_is_refused_by_name
            a_template_whose_files_are_gone_or_in_use_is_refused
            a_template_that_is_removed_meanwhile_is_loaded
            g40_a_machine_that_is_not_saved_runs_on
        }
    };
}

rows!(stories, strict);
