//! Steps of a procedure on the rig: the commands that it sends, and the replies and events of QEMU.

use core::time::Duration;

use qemu_machine_core::procedure::{FollowJob, Procedure, Run};
use qemu_machine_core::{Deadline, json};

use super::{Rig, config};

pub(crate) const LONG: Deadline = Deadline::after(Duration::from_secs(60));

/// Starts a procedure on a ready machine, up to its first request.
pub(crate) fn begun<E: Procedure>(procedure: E, deadline: Deadline) -> (Rig, Run<E>) {
    let mut rig = Rig::ready(config());
    let mut run = Run::new(procedure, deadline);
    assert!(on(&mut rig, &mut run).is_none());
    (rig, run)
}

pub(crate) fn on<E: Procedure>(rig: &mut Rig, run: &mut Run<E>) -> Option<E::Return> {
    let output = run.advance(&mut rig.vm, rig.now);
    rig.serve();
    output
}

impl Rig {
    /// Returns the commands that were sent, without their ids.
    pub(crate) fn asked(&mut self) -> Vec<String> {
        commands(&self.take_sent())
    }

    /// Returns the ids of the commands that were sent.
    pub(crate) fn asked_under(&mut self) -> Vec<u16> {
        let sent = self.take_sent();
        sent.split(r#","id":"#).skip(1).map(|rest| rest.split('}').next().unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn happens_with(&mut self, name: &str, data: &str) {
        self.says(&format!(r#"{{"event": "{name}", "data": {data}}}"#));
    }

    pub(crate) fn job(&mut self, status: &str) {
        self.happens_with("JOB_STATUS_CHANGE", &format!(r#"{{"id": "j", "status": "{status}"}}"#));
    }

    pub(crate) fn returns(&mut self, id: u16, value: &str) {
        self.says(&format!(r#"{{"return": {value}, "id": {id}}}"#));
    }

    pub(crate) fn lists(&mut self, id: u16, status: &str, error: Option<&str>) {
        let error = error.map(|error| format!(r#", "error": "{error}""#)).unwrap_or_default();
        let progress = r#""current-progress": 3, "total-progress": 7, "type": "mirror""#;
        self.returns(id, &format!(r#"[{{"id": "i", "status": "null", {progress}}}, {{"id": "j", "status": "{status}", {progress}{error}}}]"#));
    }
}

pub(crate) fn mirror() -> FollowJob {
    FollowJob::of(&("blockdev-mirror", json!({"job-id": "j"})), "j")
}

/// Starts a job, up to the reply and the first events.
pub(crate) fn started(job: FollowJob) -> (Rig, Run<FollowJob>) {
    let (mut rig, mut run) = begun(job, LONG);
    assert_eq!(rig.asked(), ["blockdev-mirror,arguments:{job-id:j}"]);
    rig.job("created");
    rig.job("running");
    rig.replies(1);
    assert_eq!(on(&mut rig, &mut run), None);
    (rig, run)
}

/// Runs a step that sends one command of this name, or exactly this command. Returns its id.
pub(crate) fn asks<P: Procedure>(rig: &mut Rig, run: &mut Run<P>, command: &str) -> u16 {
    assert!(on(rig, run).is_none(), "it is over before {command}");
    let sent = rig.take_sent();
    assert_commands(&commands(&sent), &[command]);
    sent.rsplit(r#","id":"#).next().and_then(|rest| rest.split('}').next()?.parse().ok()).expect("an id")
}

/// Asserts that exactly these commands were sent since the last look, each given by its name or completely.
pub(crate) fn assert_sent(rig: &mut Rig, expected: &[&str]) {
    assert_commands(&rig.asked(), expected);
}

fn assert_commands(asked: &[String], expected: &[&str]) {
    let matches = |(asked, expected): (&String, &&str)| asked == expected || asked.split(',').next() == Some(expected);
    let all = asked.len() == expected.len() && asked.iter().zip(expected).all(matches);
    assert!(all, "{asked:?} and not {expected:?}");
}

/// The job with this id concludes, is listed and dismissed.
pub(crate) fn concludes<P: Procedure>(rig: &mut Rig, run: &mut Run<P>, id: &str) {
    rig.happens_with("JOB_STATUS_CHANGE", &format!(r#"{{"id": "{id}", "status": "concluded"}}"#));
    let query = asks(rig, run, "query-jobs");
    let numbers = r#""current-progress": 9, "total-progress": 9, "type": "backup""#;
    rig.returns(query, &format!(r#"[{{"id": "{id}", "status": "concluded", {numbers}}}]"#));
    let dismiss = asks(rig, run, "job-dismiss");
    rig.replies(dismiss);
}

/// Returns the commands in what was sent, without their ids.
fn commands(sent: &str) -> Vec<String> {
    let parts = sent.split(r#"{"execute":""#).filter(|part| !part.is_empty());
    parts.map(|part| part.split(r#","id":"#).next().unwrap_or_default().replace('"', "")).collect()
}
