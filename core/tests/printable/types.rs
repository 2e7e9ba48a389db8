//! Values of the public types with a text in them, in all of their printed forms.

use core::fmt::{Debug, Display};
use core::time::Duration;

use qemu_machine_core::commands::{HostForwards, HumanMonitorCommand, HumanText, Job, Status};
use qemu_machine_core::procedure::{
    self, AddFdSet, Backup, CloseNode, Copied, CopyTarget, Created, ExecuteAndWait, ExternalSnapshot, FollowJob,
    GuestExec, GuestExecError, JobError, JobFailure, Lines, LoadTemplate, Migrate, MigrateError, Mirror, OpenNode,
    OpenedNode, Procedure, ProcedureError, ReadGuestFile, RebootEnd, Resync, Run, SaveTemplate, Shell, ShellEnd,
    ShellError, Situation, Snapshot, SuspendEnd, TemplateError, Typing, Undo, Unplug, UnplugError, WriteGuestFile,
};
use qemu_machine_core::record::{Diverged, Mock, NotARecord, Record};
use qemu_machine_core::schema::{Invalid, Problem};
use qemu_machine_core::wire::{Encoded, ErrorReply, Frame, Framer, Greeting, Message};
use qemu_machine_core::{
    Accelerators, Address, Cause, Channel, CommandError, Companion, CompanionFailure, CompanionInput, Config,
    Descriptor, DiskFormat, ExitStatus, ExtraMonitor, ExtraMonitorSocket, FOREVER, FaultKind, FileId, Found,
    FromReply as _, Hit, HostFault, Identity, Input, LaunchCause, LaunchError, LaunchFailure, Limits, Liveness,
    LogLevel, LogLine, Mark, Missed, Misuse, Monitor, MonitorSocket, OmitNull, OutOfBand, Outcome, PatternError,
    Payload, Peer, Phase, Prepared, Progress, ProtocolError, RawReply, Refusal, RunningProcess, Schema, Service,
    ServiceError, Template, TemplateConfig, Transport, UntrustedText, Value, Variable, Wait, WaitError, WithRawReply,
    json, lifecycle, session,
};

use crate::rig::{Rig, config, secs};

/// A printed form of a value.
pub(crate) struct Form {
    pub(crate) format: &'static str,
    pub(crate) output: String,
}

type Case = (&'static str, fn(&str) -> Vec<Form>);

/// The public types that can contain a text, with the printed forms of values that contain it. A name is that of the
/// listing of the public API, without the name of the crate.
pub(crate) const CASES: &[Case] = &[
    ("UntrustedText", |text| all([UntrustedText::from(text)])),
    ("Address", |text| all([Address::unix(text), Address::abstract_unix(text)])),
    ("Monitor", |text| debug([Monitor::At(Address::unix(text))])),
    ("Peer", |text| debug([Peer::Dial(Address::unix(text)), Peer::Detached(identity(text).into())])),
    ("Transport", |text| debug([Transport::Listen(Address::unix(text)), Transport::ListenIn(Some(text.into()))])),
    ("Identity", |text| debug([identity(text)])),
    ("Variable", |text| debug([Variable { name: text.into(), value: Some(text.into()) }])),
    ("Config", |text| debug([configured(text)])),
    ("Effect Preparation Spawn ProcessAttributes CompanionEffect CompanionSpawn CompanionPreparation", |text| {
        debug(rig(text).take_effects())
    }),
    ("Companion companion::Companion", |text| debug([companion(text)])),
    ("CompanionFailure companion::CompanionFailure", |text| all([CompanionFailure::Host(fault(text))])),
    ("CompanionEnd", |text| debug(outcome(text).companions)),
    ("Prepared RunningProcess", |text| {
        let process = RunningProcess { pid: 1, arguments: vec![text.into()] };
        debug([Prepared { log: Some(text.into()), process: Some(process.into()), ..Prepared::default() }])
    }),
    ("Input CompanionInput", |text| {
        let failed = Input::Companion(0, CompanionInput::StartFailed(fault(text)));
        debug([Input::LogRead(text.as_bytes()), Input::SpawnFailed(fault(text)), failed])
    }),
    ("CommandLine", |text| all([configured(text).command_line().expect("a good configuration")])),
    ("Console", |text| debug([rig(text).vm.console("tty").expect("a console")])),
    ("History", |text| debug([rig(text).vm.history()])),
    ("Machine", |text| {
        let mut rig = rig(text);
        let running = debug([&rig.vm]);
        rig.shuts_down("guest-shutdown");
        rig.dies(ExitStatus::Code(0));
        running.into_iter().chain(debug([&rig.vm])).collect()
    }),
    ("Event", |text| all([event(text)])),
    ("Payload", |text| debug([payload(text)])),
    ("Wait", |text| all(waits(text))),
    ("Found", |text| {
        debug([Found::Text(text.into()), line(text), Found::Event(event(text)), Found::End(outcome(text).into())])
    }),
    ("Hit", |text| debug([hit(Found::Text(text.into()))])),
    ("Misuse", |text| all(misuses(text))),
    ("Refusal", |text| all([refusal(text)])),
    ("ProtocolError", |text| all(protocol_errors(text))),
    ("HostFault", |text| all([fault(text)])),
    ("CommandError", |text| all(command_errors(text))),
    ("LaunchFailure lifecycle::LaunchFailure", |text| all(failures(text))),
    ("LaunchError", |text| {
        let failed = |failure| LaunchError::Failed { failure, outcome: outcome(text).into() };
        let errors = failures(text).into_iter().map(failed).chain(misuses(text).into_iter().map(LaunchError::Misuse));
        all(errors.collect::<Vec<_>>())
    }),
    ("Accelerator Accelerators AcceleratorProbe Availability", |text| {
        let failed = |log: String| {
            let mut outcome = outcome(text);
            outcome.log = log.into();
            Err(LaunchError::Failed { failure: LaunchFailure::Exited(Phase::Greeting), outcome: outcome.into() })
        };
        let mut probe = Accelerators::probe(&configured(text));
        for log in [format!("Accelerators supported in QEMU binary:\n{text}\nkvm"), text.to_owned()] {
            probe.report_launch(failed(log)).expect("QEMU answers");
        }
        debug([&probe]).into_iter().chain(all([probe.clone().finish()])).collect()
    }),
    ("LaunchCause", |text| {
        let path = Some(UntrustedText::from(text));
        all([
            LaunchCause::ImageLocked { path },
            LaunchCause::Companion { name: text.into() },
            LaunchCause::Other(text.into()),
            LaunchCause::from_log(text.as_bytes()),
        ])
    }),
    ("LogLine", |text| all(log_lines(text))),
    ("OmitNull", |text| debug([OmitNull(text)])),
    ("commands::HostForwards commands::ActiveForward", |text| {
        let table = concat!(
            "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n",
            "  TCP[HOST_FORWARD]  11       127.0.0.1 39125       10.0.2.15    22     0     0\n"
        );
        let forwards = HostForwards::try_from(format!("Hub 0 ({text}):\n{table}"));
        forwards.map(|forwards| debug([forwards])).unwrap_or_default()
    }),
    ("ServiceError", |text| {
        let failed = |failure| LaunchError::Failed { failure, outcome: outcome(text).into() };
        all(failures(text)
            .into_iter()
            .map(|failure| ServiceError::new(Service::GuestAgent, failed(failure)))
            .collect::<Vec<_>>())
    }),
    ("WaitError", |text| {
        all([WaitError::Misuse(Misuse::UnknownConsole(text.into())), WaitError::Ended(outcome(text).into())])
    }),
    ("Cause", |text| {
        all([
            Cause::Other(text.into()),
            Cause::CompanionEnded(text.into()),
            Cause::Signal { number: Some(15), sender: Some(text.into()) },
            outcome(text).cause,
        ])
    }),
    ("Outcome", |text| all([outcome(text)])),
    ("OutOfBand", |text| debug([OutOfBand(text)])),
    ("RawReply", |text| all(RawReply::from_reply(&payload(text)).ok())),
    ("WithRawReply", |text| debug([WithRawReply(text)])),
    ("commands::HumanMonitorCommand", |text| debug([HumanMonitorCommand::new(text)])),
    ("commands::HumanText commands::HumanMonitorError", |text| {
        let mut forms = all([HumanText::from(text)]);
        forms.extend(all(HumanText::from(text).check().ok()));
        forms.extend(all(HumanText::from(text).check_empty().err()));
        forms
    }),
    ("ExtraMonitor", |text| debug([ExtraMonitor::new(text)])),
    ("ExtraMonitorSocket", |text| debug([ExtraMonitorSocket::new(text.into(), FileId::new(1, 2, None))])),
    ("MonitorSocket", |text| debug([MonitorSocket { path: text.into(), mode: 0o600 }])),
    ("commands::Status", |text| debug([read::<Status>(&json!({"running": true, "status": text}))])),
    ("commands::Job", |text| {
        let job = json!({"id": text, "type": text, "status": text, "current-progress": 1, "total-progress": 2, "error": text});
        debug([read::<Job>(&job)])
    }),
    ("procedure::ExecuteAndWait", |text| debug([ExecuteAndWait::new(&text, waits(text))])),
    ("procedure::FollowJob", |text| debug([FollowJob::named(text), FollowJob::of(&text, text)])),
    ("procedure::Migrate", |text| debug([Migrate::to(text)])),
    ("procedure::Unplug", |text| debug([Unplug::device(text)])),
    ("procedure::OpenNode", |text| {
        let arguments = json!({"filename": text});
        debug([OpenNode::new(text, Descriptor::new(17_u32), move |_| arguments)])
    }),
    ("procedure::OpenedNode", |text| debug([opened(text)])),
    ("procedure::CloseNode", |text| debug([CloseNode::new(&opened(text))])),
    ("procedure::AddFdSet", |text| debug([AddFdSet::of(text, [Descriptor::new(17_u32)])])),
    ("procedure::CopyTarget", |text| {
        debug([CopyTarget::node(text), CopyTarget::file(text, text, text), CopyTarget::image(text, json!({"a": text}))])
    }),
    ("procedure::Backup", |text| debug([Backup::of(text, CopyTarget::node(text)).incremental(text)])),
    ("procedure::Mirror", |text| debug([Mirror::of(text, CopyTarget::node(text))])),
    ("procedure::ExternalSnapshot", |text| debug([ExternalSnapshot::of(text, CopyTarget::node(text))])),
    ("procedure::Snapshot", |text| debug([Snapshot::save(text, [text])])),
    ("procedure::Copied", |text| {
        let mut copied = Copied::default();
        copied.node = Some(text.into());
        debug([copied])
    }),
    ("procedure::GuestExec", |text| debug([GuestExec::program(text).args([text]).env(text, text)])),
    ("procedure::GuestExecEnd", |text| {
        let status = json!({"exited": true, "exitcode": 0, "out-data": base64(text), "err-data": base64(text)});
        debug([done(GuestExec::process(7), [status]).expect("it has ended")])
    }),
    ("procedure::ReadGuestFile", |text| debug([ReadGuestFile::new(text)])),
    ("procedure::GuestFilePart", |text| {
        let chunk = json!({"count": text.len(), "buf-b64": base64(text), "eof": true});
        debug([done(ReadGuestFile::new("file"), [json!(1), chunk, json!({})]).expect("it is read")])
    }),
    ("procedure::WriteGuestFile", |text| debug([WriteGuestFile::new(text, text)])),
    ("procedure::FailingDisk procedure::DiskFailure", |text| {
        let disks = situation(text).failing_disks;
        let failures = all(disks.iter().map(|disk| disk.failure.clone()).collect::<Vec<_>>());
        failures.into_iter().chain(all(disks)).collect()
    }),
    ("procedure::Resync procedure::Situation procedure::MigrationInfo", |text| {
        let situation = situation(text);
        debug(situation.migration.clone()).into_iter().chain(debug([situation])).collect()
    }),
    ("procedure::GuestExecError", |text| {
        all([GuestExecError::Procedure(ProcedureError::Command(CommandError::Refused(refusal(text))))])
    }),
    ("procedure::RebootEnd procedure::SuspendEnd", |text| {
        let reboot = debug([RebootEnd::Ended(outcome(text).into())]);
        reboot.into_iter().chain(debug([SuspendEnd::Ended(outcome(text).into())])).collect()
    }),
    ("procedure::Shell procedure::ShellLine", |text| {
        let shell = Shell::on(text).prompts([text]);
        debug([shell.line(text)]).into_iter().chain(debug([shell])).collect()
    }),
    ("procedure::ShellEnd procedure::ShellError", |text| {
        let ends = shell_ends(text);
        let refused = ShellError::Procedure(ProcedureError::Command(refused(text)));
        let (ends, errors): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
        let errors = errors.into_iter().filter_map(Result::err).chain([refused]);
        debug(ends.into_iter().flatten()).into_iter().chain(all(errors)).collect()
    }),
    ("procedure::Typing", |text| debug([Typing::on(text, text)])),
    ("procedure::Lines procedure::NextLine procedure::ConsoleLine", |text| {
        let mut rig = rig("");
        rig.prints(format!("it said: {}\n", text.replace('\n', "")));
        let mut lines = Lines::of("tty");
        let line = Run::new(lines.next_line(), FOREVER).advance(&mut rig.vm, rig.now).expect("a line").expect("a line");
        let mut named = Lines::of(text);
        let waiting = debug([named.next_line()]);
        all(line).into_iter().chain(debug([named])).chain(waiting).collect()
    }),
    ("PatternError", |text| all([PatternError::Invalid(text.into())])),
    ("procedure::Undo", |text| debug([Undo::of_reply(text, text).expect("a name"), undo(text)])),
    ("procedure::Run", |text| debug([Run::new(Unplug::device(text), FOREVER)])),
    ("procedure::Input", |text| {
        let found = procedure::Input::Found(Ok(hit(Found::Text(text.into()))));
        debug([procedure::Input::Reply(Ok(payload(text))), found])
    }),
    ("procedure::Output", |text| {
        let wait = procedure::Output::<()>::wait(&Mark::default(), waits(text));
        debug([procedure::Output::execute(&text), wait])
    }),
    ("procedure::JobError", |text| {
        all([JobError::Failed(job_failure(text)), JobError::Procedure(refused(text).into())])
    }),
    ("procedure::MigrateError", |text| all([MigrateError::Failed(text.into())])),
    ("TemplateConfig TemplateDisk procedure::SaveTemplate", |text| {
        let config = template(text);
        let save = debug([SaveTemplate::of(&config, Descriptor::new(17_u32))]);
        save.into_iter().chain(debug(config.disks().to_vec())).chain(debug([config])).collect()
    }),
    ("Template procedure::LoadTemplate", |text| {
        let template = saved(text);
        debug([LoadTemplate::of(&template, Descriptor::new(17_u32))]).into_iter().chain(debug([template])).collect()
    }),
    ("procedure::TemplateError", |text| {
        let devices = || vec![UntrustedText::from(text)];
        all([
            TemplateError::Version { saved: text.into(), running: text.into() },
            TemplateError::Devices { missing: devices(), added: devices() },
            TemplateError::Failed(text.into()),
            TemplateError::Stopped {
                error: Box::new(TemplateError::Failed(text.into())),
                why: ProcedureError::Command(refused(text)),
            },
        ])
    }),
    ("procedure::UnplugError", |text| all([UnplugError::Refused(event(text))])),
    ("procedure::ProcedureError", |text| all([ProcedureError::Command(refused(text)), remains(text)])),
    ("procedure::JobFailure", |text| all([job_failure(text)])),
    ("procedure::Remnant", |text| all([remains(text).remains()[0].clone()])),
    ("procedure::Created", |text| {
        let text = || text.to_string();
        all([
            Created::Job(text()),
            Created::Node(text()),
            Created::IncomingMigration(text()),
            Created::FdSetFor(text()),
        ])
    }),
    ("record::Record", |text| all([record(text)])),
    ("record::Timeline", |text| all([record(text).timeline()])),
    ("record::Report", |text| {
        let report = record(text).report().titled(text);
        let page = report.to_string();
        // The style and the script are long, and the same in each page.
        let body = page.split_once("</style>").and_then(|(_, body)| body.rsplit_once("<script>"));
        let output = body.map(|(body, _)| body.to_string()).expect("a page has a style and a script");
        debug([report]).into_iter().chain([Form { format: "{}", output }]).collect()
    }),
    ("record::Mock", |text| debug([Mock::new(&record(text))])),
    ("record::NotARecord", |text| {
        let first = json!({"machine": {"version": text}}).to_string();
        all([not_a_record(text), not_a_record(&first), not_a_record(&json!({text: text}).to_string())])
    }),
    ("record::Diverged", |text| {
        let [recorded, replayed] = [text, text].map(UntrustedText::from);
        let differs = Diverged::Differs { line: 7, recorded, replayed, written_by: Some(text.into()) };
        let config = Diverged::Config { misuse: Misuse::Config(text.into()), written_by: Some(text.into()) };
        all([differs, config])
    }),
    ("schema::Invalid", |text| all(invalid(text))),
    ("schema::Problem", |text| debug([Problem::UnknownValue(text.into()), Problem::Unwritable(text.into())])),
    ("Schema schema::Schema", |text| debug([schema(text)])),
    ("schema::Shape", |text| debug([schema(text).arguments(text)])),
    ("schema::Member", |text| debug(schema(text).arguments(text).map(|shape| shape.members().collect::<Vec<_>>()))),
    ("session::Session", |text| debug([rig(text).vm.session()])),
    ("session::Input", |text| debug([session::Input::Received(text.as_bytes())])),
    ("session::Output", |text| {
        debug([session::Output::Event(event(text)), session::Output::LadderAnswered(Err(refused(text)))])
    }),
    ("lifecycle::Lifecycle", |text| debug([rig(text).vm.lifecycle()])),
    ("lifecycle::Input", |text| debug([lifecycle::Input::Process(lifecycle::ProcessEvent::SpawnFailed(fault(text)))])),
    ("lifecycle::ProcessEvent", |text| debug([lifecycle::ProcessEvent::SpawnFailed(fault(text))])),
    ("lifecycle::LinkEvent", |text| debug([lifecycle::LinkEvent::OpenFailed(LaunchFailure::Host(fault(text)))])),
    ("wire::Encoded", |text| debug([Encoded::command(&text)])),
    ("wire::ErrorReply", |text| debug([ErrorReply { class: text.into(), description: text.into() }])),
    ("wire::Frame", |text| debug([Frame::Message(text.to_owned().into())])),
    ("wire::Framer", |text| {
        let mut framer = Framer::new(usize::MAX);
        framer.push(text.as_bytes());
        debug([framer])
    }),
    ("wire::Greeting", |text| debug([greeting(text)])),
    ("wire::Message", |text| debug([Message::Greeting(greeting(text)), Message::Event(event(text))])),
    ("wire::Version", |text| all([greeting(text).version])),
];

fn all<T: Display + Debug>(values: impl IntoIterator<Item = T>) -> Vec<Form> {
    let forms = |value: T| {
        let shown = [("{}", format!("{value}")), ("{:#}", format!("{value:#}"))];
        let shown = shown.map(|(format, output)| Form { format, output });
        shown.into_iter().chain(debug([value])).collect::<Vec<_>>()
    };
    values.into_iter().flat_map(forms).collect()
}

fn debug<T: Debug>(values: impl IntoIterator<Item = T>) -> Vec<Form> {
    let forms = |value: T| {
        [("{:?}", format!("{value:?}")), ("{:#?}", format!("{value:#?}"))]
            .map(|(format, output)| Form { format, output })
    };
    values.into_iter().flat_map(forms).collect()
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("a value of this type")
}

fn fault(text: &str) -> HostFault {
    HostFault { operation: text.into(), kind: FaultKind::Other, errno: None, reason: text.into() }
}

fn refusal(text: &str) -> Refusal {
    Refusal { command: text.into(), class: text.into(), description: text.into() }
}

fn refused(text: &str) -> CommandError {
    CommandError::Refused(refusal(text))
}

/// Returns a node of this name.
fn opened(text: &str) -> OpenedNode {
    let mut rig = Rig::ready(config());
    let open = OpenNode::new(text, Descriptor::new(17_u32), |_| json!({}));
    let mut run = Run::new(open, secs(60).into());
    for (id, reply) in [(1, "[]"), (2, r#"{"fd": 9, "fdset-id": 3}"#), (3, "{}")] {
        assert!(run.advance(&mut rig.vm, rig.now).is_none());
        rig.serve();
        rig.returns(id, reply);
    }
    run.advance(&mut rig.vm, rig.now).expect("it is over").expect("it is opened")
}

/// Returns an undo with this text as an argument, in two steps.
fn undo(text: &str) -> Undo {
    let cancel = Undo::new(&("job-cancel", json!({"id": text}))).expect("it can be encoded");
    let concluded = Wait::event(text).with(json!({"id": text}));
    cancel.then(concluded, &("job-dismiss", json!({"id": text}))).expect("it is an event")
}

fn job_failure(text: &str) -> JobFailure {
    let mut failure = JobFailure::default();
    (failure.reason, failure.run_state, failure.log) = (text.into(), Some(text.into()), text.into());
    failure
}

fn template(text: &str) -> TemplateConfig {
    TemplateConfig::new(configured(text), text, 1).disk(text, text, DiskFormat::Raw)
}

/// Returns the template of a machine whose version and devices have this text.
fn saved(text: &str) -> Template {
    let mut rig = Rig::ready(config());
    let mut run = Run::new(SaveTemplate::of(&template(text), Descriptor::new(17_u32)), secs(60).into());
    let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": text});
    let device = json!([{"name": text, "type": "child<x>"}]);
    let status = json!({"running": true, "status": text});
    let done = || json!({});
    for reply in [version, json!([]), device, json!([]), status, done(), done(), done(), done(), done(), done()] {
        assert!(run.advance(&mut rig.vm, rig.now).is_none());
        rig.serve();
        for id in rig.asked_under() {
            rig.returns(id, &reply.to_string());
        }
    }
    rig.happens_with("MIGRATION", r#"{"status": "completed"}"#);
    assert!(run.advance(&mut rig.vm, rig.now).is_none());
    rig.serve();
    rig.dies(ExitStatus::Code(0));
    run.advance(&mut rig.vm, rig.now).expect("it has ended").expect("it is saved")
}

/// Returns the error of a procedure that leaves things of this name in QEMU.
fn remains(text: &str) -> ProcedureError {
    let mut rig = Rig::ready(config());
    let mut run = Run::new(Migrate::listen(text), secs(60).into());
    for id in [1, 2] {
        assert!(run.advance(&mut rig.vm, rig.now).is_none());
        rig.serve();
        if id == 1 {
            rig.replies(id);
        }
    }
    rig.pass(secs(60));
    match run.advance(&mut rig.vm, rig.now) {
        Some(Err(MigrateError::Procedure(error @ ProcedureError::Remains { .. }))) => error,
        other => panic!("{other:?}"),
    }
}

fn identity(text: &str) -> Identity {
    let mut identity = Identity::new(text.into(), (7, 1), text.into(), (1, 2));
    (identity.name, identity.directory, identity.log) = (text.into(), Some(text.into()), Some(text.into()));
    identity.console_logs = vec![(text.into(), text.into())];
    identity
}

fn misuses(text: &str) -> [Misuse; 6] {
    [
        Misuse::Arguments { command: text.into(), problem: text.into() },
        Misuse::Raw(text.into()),
        Misuse::NoOutOfBand(text.into()),
        Misuse::UnknownConsole(text.into()),
        Misuse::UnknownCompanion(text.into()),
        Misuse::Config(text.into()),
    ]
}

/// Returns errors with the text, and those of the reader for a message that is this text, or has it as names.
fn protocol_errors(text: &str) -> Vec<ProtocolError> {
    let read = |message: String| Message::read(&message.into()).err();
    let quoted = json!(text);
    let read = [
        read(text.into()),
        read(format!("{{{text}")),
        read(format!("{{\"error\": {quoted}}}")),
        read(format!("{{\"QMP\": {{\"version\": {{\"qemu\": {quoted}}}}}}}")),
        read(format!("{{{quoted}: 1}}")),
    ];
    let made = [
        ProtocolError::Malformed { reason: text.into(), excerpt: text.into() },
        ProtocolError::NoGreeting { excerpt: text.into() },
    ];
    made.into_iter().chain(read.into_iter().flatten()).collect()
}

fn command_errors(text: &str) -> Vec<CommandError> {
    let broken = protocol_errors(text).into_iter().map(CommandError::Broken);
    let misuses = misuses(text).into_iter().map(CommandError::Misuse);
    let unexpected = payload(text).reply::<u8>().expect_err("not a number");
    let silent = CommandError::TimedOut(Progress::Sent, Liveness::Stuck);
    broken.chain(misuses).chain([refused(text), unexpected, silent]).collect()
}

fn failures(text: &str) -> Vec<LaunchFailure> {
    vec![
        LaunchFailure::Host(fault(text)),
        LaunchFailure::NotListening(fault(text)),
        LaunchFailure::Dead(fault(text)),
        LaunchFailure::Broken(ProtocolError::NoGreeting { excerpt: text.into() }),
        LaunchFailure::Refused(refusal(text)),
        LaunchFailure::NotSynchronised(refusal(text)),
        LaunchFailure::Companion { name: text.into(), failure: CompanionFailure::Host(fault(text)) },
        LaunchFailure::Exited(Phase::Running),
    ]
}

/// Returns the event that is in this message.
fn event_in(message: &str) -> qemu_machine_core::Event {
    match Message::read(&message.to_owned().into()) {
        Ok(Message::Event(event)) => event,
        other => panic!("{message}: {other:?}"),
    }
}

/// Returns an event with the text as its name, a member and a value, and white space between them.
fn event(text: &str) -> qemu_machine_core::Event {
    let text = json!(text);
    event_in(&format!("{{\"event\": {text}, \"data\": {{\r\n\t{text}: [{text}]\n}}}}"))
}

fn reply(value: &Value) -> Payload {
    match Message::read(&format!("{{\"id\": 1, \"return\": {value}}}").into()) {
        Ok(Message::Reply { result: Ok(payload), .. }) => payload,
        other => panic!("{value}: {other:?}"),
    }
}

/// Returns a text in base64 (RFC 4648).
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |bytes: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(bytes.get(at).copied().unwrap_or_default()));
        let digit = move |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
        let known = bytes.len() + 1;
        (0..4).map(|at| if at < known { digit(at) } else { '=' }).collect::<String>()
    };
    text.as_bytes().chunks(3).map(digits).collect()
}

/// Gives these replies to a procedure, one after the other, and returns its result.
fn done<P: Procedure>(mut procedure: P, replies: impl IntoIterator<Item = Value>) -> P::Return {
    let mut output = procedure.step(procedure::Input::Begun(Mark::default()));
    for value in replies {
        output = procedure.step(procedure::Input::Reply(Ok(reply(&value))));
    }
    let procedure::Output::Done(result) = output else { panic!("the procedure has another step") };
    result
}

/// Returns the lines of a followed log with this text.
fn log_lines(text: &str) -> Vec<LogLine> {
    let mut rig = Rig::ready(Config::new("qemu").autostart().follow_log());
    let wait = rig.vm.wait(rig.now, &Mark::default(), vec![Wait::log(LogLevel::Output)], FOREVER).expect("a wait");
    // A line that begins with the text is no forgery.
    let printed = format!("it said: {}\n", text.replace('\n', ""));
    rig.handle(Input::Received(Channel::Console(0), printed.as_bytes()));
    match rig.vm.claim_wait(wait) {
        Some(Ok(Hit { found: Found::Log(line), .. })) => vec![line],
        other => panic!("{other:?}"),
    }
}

/// Returns the ends of two lines in a shell, with this text in the output.
fn shell_ends(text: &str) -> [Result<ShellEnd, ShellError>; 2] {
    // A kernel prints no message as long as the longest text here.
    let ends = if text.len() < 900 { [">", "panic"] } else { [">"; 2] };
    ends.map(|end| {
        let mut rig = Rig::ready(config());
        rig.prints("# ");
        let mut run = Run::new(Shell::on("tty").line("true"), FOREVER);
        assert!(run.advance(&mut rig.vm, rig.now).is_none());
        // The line is typed when the console has been silent for a moment.
        rig.pass(Duration::from_secs(1));
        assert!(run.advance(&mut rig.vm, rig.now).is_none());
        let typed = String::from_utf8(rig.vm.outgoing(Channel::Console(0)).to_vec()).expect("text");
        let id = typed.split("m ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a number").to_owned();
        let panic =
            format!("[    2.000000] Kernel panic - not syncing: {text}\n[    2.000001] ---[ end Kernel panic\n");
        let end = if end == ">" { format!("<qm {id} end 0>") } else { panic };
        // A line feed ends an escape sequence in the text, which would hide the marker.
        rig.prints(format!("<qm {id} begin 1>\n{text}\n{end}\n"));
        // A panic is reported when nothing refutes it for a moment.
        let mut advance = || {
            let end = run.advance(&mut rig.vm, rig.now);
            rig.pass(Duration::from_secs(1));
            end
        };
        (0..10).find_map(|_| advance()).unwrap_or_else(|| panic!("the line is not over: {end:?}, {text:?}"))
    })
}

fn situation(text: &str) -> Situation {
    let job =
        json!({"id": text, "type": text, "status": text, "current-progress": 1, "total-progress": 2, "error": text});
    let disk = json!({"device": text, "qdev": text, "io-status": text, "inserted": {"node-name": text}});
    let migration = json!({"status": text, "error-desc": text});
    let status = json!({"running": true, "status": text});
    done(Resync::new(), [status, json!([job]), migration, json!([disk])]).expect("each reply is read")
}

fn payload(text: &str) -> Payload {
    let text = json!(text);
    match Message::read(&format!("{{\"id\": 1, \"return\": {{\r\n\t{text}: [{text}]\n}}}}").into()) {
        Ok(Message::Reply { result: Ok(payload), .. }) => payload,
        other => panic!("{text}: {other:?}"),
    }
}

fn greeting(text: &str) -> Greeting {
    let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": text});
    read(&json!({"version": version, "capabilities": [text]}))
}

fn waits(text: &str) -> Vec<Wait> {
    vec![
        Wait::event(text).with(json!({text: text})),
        Wait::text(text, text),
        Wait::line(text, text),
        Wait::any_line(text).plain(),
        Wait::regex(
            text,
            &["x", &text.replace(|letter: char| !letter.is_ascii() || letter.is_ascii_punctuation(), "")].concat(),
        )
        .expect("a pattern"),
        Wait::output(text),
        Wait::companion(text),
        Wait::any_event().with(json!(text)),
    ]
}

fn line(text: &str) -> Found {
    Found::Line { line: text.into(), text: text.into() }
}

fn hit(found: Found) -> Hit {
    Hit { index: 0, found, mark: Mark::default(), missed: Missed::default() }
}

/// Returns a configuration with the text wherever a caller may write one. It contains no NUL byte, which is refused.
fn configured(text: &str) -> Config {
    let text = text.replace('\0', "0");
    let text = if text.is_empty() { "empty".to_owned() } else { text };
    let config = config().arg(&*text).machine(&*text).wrapper([&*text]).env("NAME", &*text).working_directory(&*text);
    config.companion(companion(&text))
}

/// Returns a companion that does not end by itself.
fn companion(text: &str) -> Companion {
    Companion::new("fs", text).arg(text).listener(text).option(text, text).grace(Duration::ZERO)
}

/// Returns a machine with the text in its arguments, its version, its log, on its console and in its events, and with a
/// command that was refused with it.
fn rig(text: &str) -> Rig {
    let mut limits = Limits::default();
    limits.message = usize::MAX;
    let mut rig = Rig::launched(configured(text).limits(limits));
    rig.log = format!("{text}\r\n{text}\nterminating on signal 15 from {text}\n").into_bytes();
    let quoted = json!(text);
    rig.negotiate(&format!(
        r#"{{"QMP": {{"version": {{"qemu": {{"micro": 2, "minor": 2, "major": 7}}, "package": {quoted}}}, "capabilities": []}}}}"#
    ));
    rig.prints(text);
    rig.prints(format!("\ntext\t{text}\n"));
    rig.happens("GUEST_PANICKED");
    for event in [format!("{{\"event\":{quoted}}}"), format!("{{\"event\":\"RESET\",\"data\":{{{quoted}:{quoted}}}}}")]
    {
        rig.says(&event);
    }
    let ticket = rig.issue(text.to_owned());
    let _ = rig.wait(&Mark::default(), [Wait::text("tty", "text"), Wait::event("RESET")]);
    for id in rig.take_ids_of_json() {
        rig.says(&format!(r#"{{"id": {id}, "error": {{"class": {quoted}, "desc": {quoted}}}}}"#));
    }
    rig.vm.claim(&ticket);
    rig
}

fn outcome(text: &str) -> Outcome {
    let mut rig = rig(text);
    rig.held = |effect| matches!(effect, qemu_machine_core::Effect::Remove);
    rig.says(&json!({"event": "SHUTDOWN", "data": {"guest": false, "reason": text}}).to_string());
    rig.exits(ExitStatus::Code(3));
    rig.closes_all();
    rig.handle(Input::Removed(Err(fault(text))));
    rig.outcome()
}

fn record(text: &str) -> Record {
    let mut rig = rig(text);
    let found = rig.vm.wait(rig.now, &Mark::default(), waits(text), Duration::ZERO.into());
    assert!(found.is_err(), "no console has this name");
    rig.shuts_down("guest-shutdown");
    rig.dies(ExitStatus::Code(0));
    rig.vm.record().expect("a recorded machine")
}

fn not_a_record(text: &str) -> NotARecord {
    format!("{text}\nno").parse::<Record>().expect_err("not a record")
}

/// Returns a schema with one command of this name, which has an argument of this name with a value of this name.
fn schema(text: &str) -> Schema {
    let schema = json!([
        {"name": text, "meta-type": "command", "arg-type": "1", "ret-type": "0", "features": [text]},
        {"name": "0", "meta-type": "object", "members": []},
        {"name": "1", "meta-type": "object", "members": [{"name": text, "type": "2", "features": [text]}]},
        {"name": "2", "meta-type": "enum", "values": [text], "members": [{"name": text}]},
    ]);
    read(&schema)
}

fn invalid(text: &str) -> Vec<Invalid> {
    let (schema, other) = (schema(text), format!("{text}x"));
    let wrong = [
        schema.check(&other),
        schema.check(&(text, json!({other.as_str(): 1}))),
        schema.check(&(text, json!({text: other}))),
        schema.check(&(text, json!({}))),
        schema.check(&(text, json!({text: [text]}))),
        schema.check(&OutOfBand(text)),
    ];
    wrong.into_iter().map(|checked| checked.expect_err("it is wrong")).collect()
}

trait Ids {
    fn take_ids_of_json(&mut self) -> Vec<u64>;
}

impl Ids for Rig {
    /// Sends the outgoing commands, and returns their ids.
    fn take_ids_of_json(&mut self) -> Vec<u64> {
        let bytes = self.vm.outgoing(Channel::Monitor).to_vec();
        self.vm.sent(Channel::Monitor, bytes.len());
        let commands = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        commands.filter_map(|command| command.ok()?["id"].as_u64()).collect()
    }
}
