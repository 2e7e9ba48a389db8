//! Tests of the procedures that save and load templates, step by step against a scripted QEMU.

use core::time::Duration;

use crate::rig::steps::{LONG, asks, assert_sent, on};
use crate::rig::{Rig, config, secs};
use qemu_machine_core::procedure::{self, LoadTemplate, Procedure, ProcedureError, Run, SaveTemplate, TemplateError};
use qemu_machine_core::{
    CommandError, Config, Descriptor, DiskFormat, ExitStatus, Mark, Misuse, Template, TemplateConfig, WaitError,
};

const VERSION: &str = r#"{"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian 1"}"#;
/// The properties of `memory-backend-file`, without and with those that QEMU 8.2 has added.
const OLD: &str = r#"[{"name": "share", "type": "bool"}]"#;
const NEW: &str = r#"[{"name": "share", "type": "bool"}, {"name": "rom", "type": "OnOffAuto"}]"#;
const NAMED: &str = r#"[{"name": "type", "type": "string"}, {"name": "vda", "type": "child<virtio-blk-pci>"}]"#;
const UNNAMED: &str = r#"[{"name": "device[0]", "type": "child<pvpanic>"}]"#;
const SHARED: &str = "migrate-set-capabilities,arguments:{capabilities:[{capability:x-ignore-shared,state:true}]}";
const TO_LOAD: &str = "migrate-set-capabilities,arguments:{capabilities:[{capability:x-ignore-shared,state:true},{capability:events,state:true}]}";
const NOT_SHARED: &str = "migrate-set-capabilities,arguments:{capabilities:[{capability:x-ignore-shared,state:false}]}";

fn plan() -> TemplateConfig {
    TemplateConfig::new(Config::new("qemu").serial("tty"), "/dir", 64).disk("vda", "/disk", DiskFormat::Raw)
}

/// A reply of `add-fd`, and the command that removes its fd set.
const GIVEN: &str = r#"{"fdset-id": 3, "fd": 9}"#;
const REMOVE: &str = "remove-fd,arguments:{fdset-id:3}";

type Saving = Run<SaveTemplate>;

fn saving(properties: &str, running: bool) -> (Rig, Saving, u16) {
    saving_as(&plan(), properties, running)
}

/// Returns a machine whose template is saved, up to the command that gives QEMU the file, and the id of that.
fn saving_as(plan: &TemplateConfig, properties: &str, running: bool) -> (Rig, Saving, u16) {
    let mut rig = Rig::ready(config());
    let mut run = Run::new(SaveTemplate::of(plan, Descriptor::new(17_u32)), LONG);
    for (command, reply) in [
        ("query-version", VERSION),
        ("qom-list,arguments:{path:/machine/peripheral}", NAMED),
        ("qom-list,arguments:{path:/machine/peripheral-anon}", UNNAMED),
        ("qom-list-properties,arguments:{typename:memory-backend-file}", properties),
        ("query-status", &format!(r#"{{"running": {running}, "status": "x"}}"#)),
        (SHARED, "{}"),
    ] {
        let id = asks(&mut rig, &mut run, command);
        rig.returns(id, reply);
    }
    let give = if properties == OLD { "getfd,arguments:{fdname:template-state}" } else { "add-fd" };
    let id = asks(&mut rig, &mut run, give);
    (rig, run, id)
}

/// Goes on until the migration has begun, to this address.
fn migrating(rig: &mut Rig, run: &mut Saving, given: u16, reply: &str, address: &str) {
    rig.returns(given, reply);
    for command in ["stop", "migrate-set-capabilities", &format!("migrate,arguments:{{uri:{address}}}")] {
        let id = asks(rig, run, command);
        rig.replies(id);
    }
    assert!(on(rig, run).is_none());
}

fn saved(properties: &str) -> Template {
    saved_as(&plan(), properties)
}

/// Returns the template of a machine of a QEMU with these properties.
fn saved_as(plan: &TemplateConfig, properties: &str) -> Template {
    let (mut rig, mut run, given) = saving_as(plan, properties, true);
    let (reply, address) = if properties == OLD {
        ("{}", "fd:template-state")
    } else {
        (r#"{"fdset-id": 3, "fd": 9}"#, "file:/dev/fdset/3")
    };
    migrating(&mut rig, &mut run, given, reply, address);
    rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
    let quit = asks(&mut rig, &mut run, "quit");
    rig.replies(quit);
    assert!(on(&mut rig, &mut run).is_none(), "the process runs, and may write to the memory");
    rig.dies(ExitStatus::Code(0));
    on(&mut rig, &mut run).expect("the process has ended").expect("it is saved")
}

#[test]
fn a_template_is_saved_in_the_words_of_the_version() {
    let [old, new] = [OLD, NEW].map(saved);
    assert_eq!((old.qemu_version(), old.source()), ("7.2.22 (Debian 1)", &plan()));
    for (template, memory) in [
        (old, "mem-path=/proc/self/fd/3,share=off -machine"),
        (new, "mem-path=/proc/self/fd/3,share=off,readonly=on,rom=off -machine"),
    ] {
        let clone = template.clone_config(Descriptor::new(1), [Descriptor::new(2)]);
        let line = clone.command_line().unwrap().to_string();
        let disk = "-blockdev driver=qcow2,node-name=vda,file.driver=file,file.filename=/dev/fdset/0";
        for part in [memory, "-incoming defer", "set=0,opaque=vda", disk] {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
    }
}

/// Descriptors of the caller keep their numbers and sets.
#[test]
fn a_clone_has_the_descriptors_of_the_source() {
    let mut given = Config::new("qemu").add_fd(Descriptor::new(0), 4, "");
    assert_eq!(given.inherit_fd(Descriptor::new(0)), 3);
    let template = saved_as(&TemplateConfig::new(given, "/dir", 64).disk("vda", "/disk", DiskFormat::Raw), OLD);
    let line = template.clone_config(Descriptor::new(1), [Descriptor::new(2)]).command_line().unwrap().to_string();
    for part in ["/proc/self/fd/4", "set=4 ", "set=0,opaque=vda", "/dev/fdset/0"] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
}

#[test]
fn a_clone_has_one_run_and_the_lowest_free_sets() {
    let of =
        |config: Config| saved_as(&TemplateConfig::new(config, "/dir", 64).disk("vda", "/disk", DiskFormat::Raw), OLD);
    let (given, memory, overlay) = (Descriptor::new(0), Descriptor::new(1), Descriptor::new(2));
    let added = Config::new("qemu").add_fd(given, u32::MAX, "");
    let clones =
        [added.clone(), added.keep_fds()].map(|config| of(config).clone_config(memory.clone(), [overlay.clone()]));
    let line = clones[0].command_line().unwrap().to_string();
    assert!(line.contains("set=0,opaque=vda"), "{line}");
    assert_eq!(clones[0], clones[1], "a second run would begin with the disks of the first");
}

#[test]
fn a_machine_that_closes_its_monitor_before_the_reply_to_quit_is_saved() {
    let (mut rig, mut run, given) = saving(OLD, true);
    migrating(&mut rig, &mut run, given, "{}", "fd:template-state");
    rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
    asks(&mut rig, &mut run, "quit");
    rig.dies(ExitStatus::Code(0));
    assert!(matches!(on(&mut rig, &mut run), Some(Ok(_))));
}

#[test]
fn a_source_that_is_not_saved_runs_on_and_shares_nothing() {
    for running in [true, false] {
        let (mut rig, mut run, given) = saving(NEW, running);
        migrating(&mut rig, &mut run, given, r#"{"fdset-id": 3, "fd": 9}"#, "file:/dev/fdset/3");
        rig.happens_with("MIGRATION", r#"{"status": "failed"}"#);
        let why = asks(&mut rig, &mut run, "query-migrate");
        rig.returns(why, r#"{"status": "failed", "error-desc": "full"}"#);
        let id = asks(&mut rig, &mut run, NOT_SHARED);
        // What cannot be undone does not hide why it failed.
        rig.refuses(id);
        if running {
            let id = asks(&mut rig, &mut run, "cont");
            rig.replies(id);
        }
        let id = asks(&mut rig, &mut run, "remove-fd,arguments:{fdset-id:3}");
        rig.refuses(id);
        assert_eq!(on(&mut rig, &mut run), Some(Err(TemplateError::Failed("full".into()))));
    }
    let (mut rig, mut run, given) = saving(OLD, true);
    rig.refuses(given);
    for command in [NOT_SHARED, "closefd,arguments:{fdname:template-state}"] {
        let id = asks(&mut rig, &mut run, command);
        rig.replies(id);
    }
    let refused = on(&mut rig, &mut run).expect("it is over");
    let is_refused =
        matches!(refused, Err(TemplateError::Procedure(ProcedureError::Command(CommandError::Refused(_)))));
    assert!(is_refused, "the guest was not stopped: {refused:?}");
    let (mut rig, mut run, given) = saving(OLD, true);
    migrating(&mut rig, &mut run, given, "{}", "fd:template-state");
    rig.happens_with("MIGRATION", r#"{"status": "cancelled"}"#);
    for command in [NOT_SHARED, "cont", "closefd"] {
        let id = asks(&mut rig, &mut run, command);
        rig.replies(id);
    }
    assert_eq!(on(&mut rig, &mut run), Some(Err(TemplateError::Cancelled)));
}

/// QEMU reports the failure before it permits `cont`.
#[test]
fn a_guest_that_cannot_be_continued_yet_is_continued_later() {
    for stays in [false, true] {
        let (mut rig, mut run, given) = saving(OLD, true);
        migrating(&mut rig, &mut run, given, "{}", "fd:template-state");
        rig.happens_with("MIGRATION", r#"{"status": "cancelled"}"#);
        let id = asks(&mut rig, &mut run, NOT_SHARED);
        rig.replies(id);
        let refused = |rig: &mut Rig, run: &mut Saving, status: &str| {
            let id = asks(rig, run, "cont");
            rig.refuses(id);
            let id = asks(rig, run, "query-status");
            rig.returns(id, &format!(r#"{{"running": false, "status": "{status}"}}"#));
        };
        for pause in [10, 20] {
            refused(&mut rig, &mut run, "finish-migrate");
            assert!(on(&mut rig, &mut run).is_none());
            rig.pass(Duration::from_millis(pause - 1));
            assert!(on(&mut rig, &mut run).is_none());
            assert_sent(&mut rig, &[]);
            rig.pass(Duration::from_millis(1));
        }
        // QEMU left the state before the query.
        refused(&mut rig, &mut run, "paused");
        if stays {
            refused(&mut rig, &mut run, "paused");
        } else {
            let id = asks(&mut rig, &mut run, "cont");
            rig.replies(id);
        }
        let id = asks(&mut rig, &mut run, "closefd");
        rig.replies(id);
        let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is not saved");
        let is_stopped = matches!(&error, TemplateError::Stopped { error, .. } if **error == TemplateError::Cancelled);
        assert_eq!((is_stopped, error == TemplateError::Cancelled), (stays, !stays), "{error:?}");
    }
}

#[test]
fn a_run_that_is_dropped_undoes_what_it_has_done() {
    let (mut rig, mut run, _) = saving(OLD, true);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[NOT_SHARED, "closefd,arguments:{fdname:template-state}"]);

    let (mut rig, mut run, given) = saving(NEW, true);
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[NOT_SHARED]);
    rig.returns(given, GIVEN);
    assert_sent(&mut rig, &[REMOVE]);

    let (mut rig, mut run, given) = saving(NEW, true);
    rig.returns(given, GIVEN);
    asks(&mut rig, &mut run, "stop");
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &[NOT_SHARED, "cont", REMOVE]);
}

/// QEMU refuses `cont` at the end of a migration, so it is sent again when that is over, and only once.
#[test]
fn a_run_that_is_dropped_while_it_migrates_continues_the_guest() {
    for end in ["cancelled", "failed", "completed"] {
        let (mut rig, mut run, given) = saving(NEW, true);
        migrating(&mut rig, &mut run, given, GIVEN, "file:/dev/fdset/3");
        run.disown(&mut rig.vm, rig.now);
        rig.serve();
        assert_sent(&mut rig, &["migrate_cancel", "query-status", "query-status", NOT_SHARED, "cont", REMOVE]);
        rig.happens_with("MIGRATION", r#"{"status": "cancelling"}"#);
        assert_sent(&mut rig, &[]);
        rig.happens_with("MIGRATION", &format!(r#"{{"status": "{end}"}}"#));
        assert_sent(&mut rig, &[NOT_SHARED, "cont", REMOVE]);
        rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
        rig.happens("RESUME");
        assert_sent(&mut rig, &[]);
    }
    // The guest was continued at once, so a later migration does not continue it.
    let (mut rig, mut run, given) = saving(OLD, true);
    migrating(&mut rig, &mut run, given, "{}", "fd:template-state");
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &["migrate_cancel", "query-status", NOT_SHARED, "cont", "closefd"]);
    rig.happens("RESUME");
    assert_sent(&mut rig, &["cont"]);
    rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
    assert_sent(&mut rig, &[NOT_SHARED]);
    // A guest that was stopped before stays so.
    let (mut rig, mut run, given) = saving(OLD, false);
    migrating(&mut rig, &mut run, given, "{}", "fd:template-state");
    run.disown(&mut rig.vm, rig.now);
    rig.serve();
    assert_sent(&mut rig, &["migrate_cancel", NOT_SHARED, "closefd"]);
}

/// Returns a clone that loads a template, up to the reply with its version.
fn loading(template: &Template, version: &str) -> (Rig, Run<LoadTemplate>) {
    let mut rig = Rig::ready(config());
    let mut run = Run::new(LoadTemplate::of(template, Descriptor::new(18_u32)), LONG);
    let id = asks(&mut rig, &mut run, "query-version");
    rig.returns(id, version);
    (rig, run)
}

fn lists(rig: &mut Rig, run: &mut Run<LoadTemplate>, named: &str, unnamed: &str) {
    for list in [named, unnamed] {
        let id = asks(rig, run, "qom-list");
        rig.returns(id, list);
    }
}

#[test]
fn a_clone_loads_the_template_and_runs() {
    for (properties, give, reply, address, close) in [
        (OLD, "getfd", "{}", "fd:template-state", None),
        (NEW, "add-fd", r#"{"fdset-id": 5, "fd": 9}"#, "file:/dev/fdset/5", Some("remove-fd,arguments:{fdset-id:5}")),
    ] {
        let (mut rig, mut run) = loading(&saved(properties), VERSION);
        lists(&mut rig, &mut run, NAMED, UNNAMED);
        let id = asks(&mut rig, &mut run, TO_LOAD);
        rig.replies(id);
        let id = asks(&mut rig, &mut run, give);
        rig.returns(id, reply);
        let id = asks(&mut rig, &mut run, &format!("migrate-incoming,arguments:{{uri:{address}}}"));
        rig.replies(id);
        assert!(on(&mut rig, &mut run).is_none(), "the state is not loaded");
        rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
        for command in [NOT_SHARED].into_iter().chain(["cont"]).chain(close) {
            let id = asks(&mut rig, &mut run, command);
            rig.replies(id);
        }
        assert_eq!(on(&mut rig, &mut run), Some(Ok(())));
    }
}

#[test]
fn a_load_that_has_begun_is_refused() {
    let mut load = LoadTemplate::of(&saved(OLD), Descriptor::new(18_u32));
    drop(load.step(procedure::Input::Begun(Mark::default())));
    let second = load.step(procedure::Input::Begun(Mark::default()));
    assert!(matches!(second, procedure::Output::Execute(Err(Misuse::ProcedureReused))));
}

#[test]
fn another_version_and_other_devices_are_refused_before_anything_is_loaded() {
    let template = saved(OLD);
    let running = VERSION.replace("22", "23");
    let (mut rig, mut run) = loading(&template, &running);
    let (saved, running) = ("7.2.22 (Debian 1)".into(), "7.2.23 (Debian 1)".into());
    assert_eq!(on(&mut rig, &mut run), Some(Err(TemplateError::Version { saved, running })));
    assert_sent(&mut rig, &[]);

    let (mut rig, mut run) = loading(&template, VERSION);
    lists(&mut rig, &mut run, "[]", &UNNAMED.replace("pvpanic", "rtl8139"));
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("the devices differ");
    assert_eq!(
        error.to_string(),
        "the clone has other devices than the template; missing: vda (virtio-blk-pci), device[0] (pvpanic); added: device[0] (rtl8139)"
    );
    assert_sent(&mut rig, &[]);
}

/// QEMU may end before its reply to the command that begins to load.
#[test]
fn a_clone_that_ends_while_it_loads_has_the_words_of_qemu() {
    for replies in [true, false] {
        let (mut rig, mut run) = loading(&saved(OLD), VERSION);
        lists(&mut rig, &mut run, NAMED, UNNAMED);
        for command in [TO_LOAD, "getfd"] {
            let id = asks(&mut rig, &mut run, command);
            rig.replies(id);
        }
        let id = asks(&mut rig, &mut run, "migrate-incoming");
        if replies {
            rig.replies(id);
            assert!(on(&mut rig, &mut run).is_none());
        }
        rig.log = b"qemu: Unknown savevm section or instance 'x' 0\n".to_vec();
        rig.dies(ExitStatus::Code(1));
        let why = "qemu: Unknown savevm section or instance 'x' 0";
        assert_eq!(on(&mut rig, &mut run), Some(Err(TemplateError::Failed(why.into()))));
    }
}

#[test]
fn a_source_that_does_not_end_in_time_is_no_template() {
    let (mut rig, mut run, given) = saving(OLD, true);
    migrating(&mut rig, &mut run, given, "{}", "fd:template-state");
    rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
    let quit = asks(&mut rig, &mut run, "quit");
    rig.replies(quit);
    assert!(on(&mut rig, &mut run).is_none());
    rig.pass(secs(60));
    assert_eq!(on(&mut rig, &mut run), Some(Err(ProcedureError::from(WaitError::TimedOut).into())));
    assert_sent(&mut rig, &[]);
}
