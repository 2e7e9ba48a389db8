//! Structural tests of printed texts: each public type is either printed by the test `printable` of the core, with hostile
//! texts in it, or is listed here as one that contains no text.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use qemu_machine_blocking::{FaultKind, HostFault, IdentityError, Misuse};

/// The types of the core that contain no text of a peer, a guest, a log, the system or a caller.
const WITHOUT_TEXT: &[&str] = &[
    "Band",
    "Batch", // It prints how many commands it has.
    "Channel",
    "CommandId",
    "CompanionSocket",
    "Deadline",
    "Descriptor", // It prints its name alone.
    "Dialect",
    "DiskFormat",
    "Empty",
    "ExitStatus",
    "FaultKind",
    "FileId",
    "ForwardProtocol",
    "Gap",
    "HostForward",
    "Inherited",
    "Limits",
    "Liveness",
    "LogLevel",
    "Mark",
    "Missed",
    "Moment",
    "Notice",
    "Phase",
    "Progress",
    "QtestLine", // It has no values.
    "Raw",       // It has no values.
    "Resource",
    "ResourceLimit",
    "Rung",
    "Service",
    "Shutdown",
    "Signal",
    "SignalName",
    "State",
    "SubscriptionId",
    "Ticket", // It prints its number.
    "Timestamp",
    "WaitId",
    "Why",
    "commands::Cont",
    "commands::CurrentMachine",
    "commands::InfoUsernet",
    "commands::QueryCurrentMachine",
    "commands::QueryJobs",
    "commands::QuerySchema",
    "commands::QueryStatus",
    "commands::Stop",
    "commands::SystemPowerdown",
    "commands::SystemReset",
    "companion::CompanionSocket",
    "companion::Companions",
    "companion::Input",
    "companion::Output",
    "companion::Policy",
    "companion::Stage",
    "lifecycle::Cleaning",
    "lifecycle::Events",
    "lifecycle::Intent",
    "lifecycle::Ladder",
    "lifecycle::Link",
    "lifecycle::Output",
    "lifecycle::Phase",
    "lifecycle::Process",
    "lifecycle::Retry",
    "lifecycle::Rung",
    "lifecycle::Shutdown",
    "lifecycle::State",
    "lifecycle::Why",
    "lifecycle::Wiring",
    "procedure::AskGuest",
    "procedure::AskGuestEnd",
    "procedure::FdSet",
    "procedure::GuestExit",
    "procedure::JobEnd",
    "procedure::JobProgress",
    "procedure::MigrationEnd",
    "procedure::Reboot",
    "procedure::RemoveFdSet",
    "procedure::ShellProgress",
    "procedure::Suspend",
    "procedure::Wake",
    "procedure::WakeEnd",
    "record::TooShort",
    "schema::Kind",
    "session::Counters",
    "wire::Numbers",
];

/// The types of the other libraries, which print no text of their own: their output is that of a type of the core, a
/// number, or a path as std prints it. The errors are tested here, and in the test `qapi`.
const OF_OTHERS: [(&str, &[&str]); 6] = [
    (
        "host",
        &[
            "CaughtPanic",
            "Clock",
            "ConsoleReader",
            "DisownOnDrop",
            "Handle",
            "Home",
            "Host",
            "IdentityError",
            "Interest",
            "Local",
            "LogReader",
            "Next",
            "Poller",
            "Presence",
            "Qapi",
            "ReaderId",
            "Ready",
            "Registered",
            "Source",
            "Subscription",
            "Supervisor",
            "TemplateFileError",
            "Wake",
            "WeakHandle",
            "names::IdentityError",
            "names::LogReader",
            "names::Presence",
            "names::Qapi",
            "names::Registered",
            "names::TemplateFileError",
            "names::qapi::Qapi",
            "names::qapi::UnknownEvent",
            "qapi::Qapi",
            "qapi::UnknownEvent",
            "tasks::Agent",
            "tasks::Console",
            "tasks::ConsoleLines",
            "tasks::Driver",
            "tasks::Events",
            "tasks::Qtest",
            "tasks::Readiness",
            "tasks::SharedMachine",
            "tasks::Vm",
            "tasks::WeakVm",
        ],
    ),
    // A guest may print anything: the texts of these are `UntrustedText`, and names of the caller's, which `Debug` escapes.
    (
        "guest",
        &[
            "Accel",
            "Archive",
            "ArchiveError",
            "Case",
            "CopyOut",
            "Disk",
            "Failure",
            "KernelTest",
            "Module",
            "ModuleError",
            "Modules",
            "Printed",
            "Report",
            "Share",
            "ShareBy",
            "Verdict",
            "ktap::Parser",
        ],
    ),
    ("runtime-blocking", &["Agent", "Cancel", "Events", "Qtest", "Vm", "WeakVm"]),
    ("runtime-mio", &["EventLoop", "Vm"]),
    ("runtime-smol", &["Console", "Smol", "SmolSource", "SmolTimer"]),
    ("runtime-tokio", &["Console", "Tokio", "TokioSource", "TokioTimer"]),
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the public types in the listing of a library, without the name of its crate.
fn public_types(library: &str) -> BTreeSet<String> {
    let listing = read(&format!("tests/public-api/{library}.txt"));
    let of = |line: &str| {
        let line = line.strip_prefix("#[non_exhaustive] ").unwrap_or(line);
        let path = ["pub struct ", "pub enum ", "pub union "].iter().find_map(|kind| line.strip_prefix(kind))?;
        let (_, name) = path.split_once("::")?;
        let end = name.find(|letter: char| letter != ':' && letter != '_' && !letter.is_alphanumeric());
        Some(name[..end.unwrap_or(name.len())].to_owned())
    };
    listing.lines().filter_map(of).collect()
}

/// Returns the types that the test `printable` of the core prints.
fn printed() -> BTreeSet<String> {
    let source = read("core/tests/printable/types.rs");
    let cases = source.split_once("CASES: &[Case] = &[").and_then(|(_, rest)| rest.split_once("\n];"));
    let (cases, _) = cases.expect("the list of the cases");
    let names = cases.lines().filter_map(|line| line.strip_prefix("    (\"")?.split_once('"'));
    names.flat_map(|(names, _)| names.split(' ')).map(str::to_owned).collect()
}

fn listed(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn g32_each_public_type_is_printed_with_hostile_texts_or_has_none() {
    let (printed, without) = (printed(), listed(WITHOUT_TEXT));
    assert!(printed.len() > 50, "the cases are found: {printed:?}");
    let both: Vec<_> = printed.intersection(&without).collect();
    assert!(both.is_empty(), "printed, and listed here: {both:?}");
    let known: BTreeSet<String> = printed.union(&without).cloned().collect();
    let public = public_types("core");
    let new: Vec<_> = public.difference(&known).collect();
    assert!(new.is_empty(), "add a case to core/tests/printable/types.rs, or list it here: {new:?}");
    let gone: Vec<_> = known.difference(&public).collect();
    assert!(gone.is_empty(), "no public type: {gone:?}");
    for (library, names) in OF_OTHERS {
        assert_eq!(public_types(library), listed(names), "{library}: the output of a new type must be printable");
    }
}

#[test]
fn g32_the_errors_of_the_host_are_printable() {
    let text = "\x1b]52;c;cm0=\x07\u{9b}2J\u{202e}\x7f\r\nFORGED";
    let fault = HostFault { operation: text.into(), kind: FaultKind::Other, errno: None, reason: text.into() };
    for error in [IdentityError::Host(fault), IdentityError::Misuse(Misuse::UnknownConsole(text.into()))] {
        for shown in [error.to_string(), format!("{error:?}")] {
            let is_plain = |letter: char| letter.is_ascii() && !letter.is_ascii_control();
            assert!(shown.chars().all(is_plain) && shown.contains("FORGED"), "{shown:?}");
        }
    }
}
