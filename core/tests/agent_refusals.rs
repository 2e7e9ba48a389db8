//! Tests of guest agents that refuse the commands that synchronise, or members that they do not know. The refusal is an
//! answer, so no time passes in a test unless a command times out or a request is repeated. The agents are scripted,
//! with the errors of qemu-ga 2.8, 7.2 and 11.1.

use crate::rig::{Rig, secs};
use qemu_machine_core::{
    Address, Channel, CommandError, Config, Dialect, Input, LaunchError, LaunchFailure, Liveness, Peer, Phase,
    Progress, Refusal, Service, ServiceError, State, Ticket, Value, json,
};

const BOTH: &[&str] = &["guest-sync-delimited", "guest-sync"];
const DELIMITED: &[&str] = &["guest-sync-delimited"];
const NONE: &[&str] = &[];

/// A version of qemu-ga, by its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Refuses unknown members, also `id` (QEMU 2.8, `qapi/qmp-dispatch.c`, `qmp_dispatch_check_obj`). The class of a
    /// refusal is that of the error that a delimiter causes.
    Two,
    /// Measured with QEMU 7.2.22.
    Seven,
    /// Measured with QEMU 11.1.3.
    Eleven,
}

const VERSIONS: [Version; 3] = [Version::Two, Version::Seven, Version::Eleven];

fn error(class: &str, description: &str) -> String {
    format!("{}\n", json!({"error": {"class": class, "desc": description}}))
}

impl Version {
    /// The error that a delimiter causes.
    fn stray(self) -> String {
        error(
            "GenericError",
            match self {
                Self::Two => "this feature or command is not currently supported",
                Self::Seven => "JSON parse error, stray '\u{fffd}'",
                Self::Eleven => "1:56: JSON parse error, stray '\u{fffd}'",
            },
        )
    }

    /// The refusal of a command that is disabled.
    fn disabled(self, command: &str) -> (&'static str, String) {
        match self {
            Self::Two => ("GenericError", format!("The command {command} has been disabled for this instance")),
            Self::Seven => ("CommandNotFound", format!("Command {command} has been disabled")),
            Self::Eleven => {
                ("CommandNotFound", format!("Command {command} has been disabled: the command is not allowed"))
            }
        }
    }

    fn refusal(self, command: &str) -> Refusal {
        let (class, description) = self.disabled(command);
        Refusal { command: command.into(), class: class.into(), description: description.into() }
    }
}

/// A guest agent, which answers each request in order. `guest-slow` has no reply before [`finish`](Self::finish), and
/// nothing after it is answered earlier.
struct Agent {
    version: Version,
    disabled: &'static [&'static str],
    /// The requests that it has not answered.
    requests: String,
    /// Every request that it has answered.
    seen: Vec<String>,
    busy: bool,
}

impl Agent {
    fn new(version: Version, disabled: &'static [&'static str]) -> Self {
        Self { version, disabled, requests: String::new(), seen: Vec::new(), busy: false }
    }

    /// Answers what the machine has sent, until it sends nothing more.
    fn serve(&mut self, rig: &mut Rig) {
        for _ in 0..1000 {
            self.receive(rig);
            let replies = self.reply();
            if replies.is_empty() {
                return;
            }
            hears(rig, &replies);
        }
        panic!("the machine asks without end: {:?}", self.seen);
    }

    fn receive(&mut self, rig: &mut Rig) {
        self.requests += &sent(rig);
    }

    /// Ends `guest-slow` with this line.
    fn finish(&mut self, rig: &mut Rig, line: &str) {
        self.busy = false;
        hears(rig, line);
        self.serve(rig);
    }

    fn reply(&mut self) -> String {
        let mut replies = String::new();
        while !self.busy && !self.requests.is_empty() {
            let requests = std::mem::take(&mut self.requests);
            if let Some(rest) = requests.strip_prefix('~') {
                self.requests = rest.into();
                replies += &self.version.stray();
                continue;
            }
            let mut objects = serde_json::Deserializer::from_str(&requests).into_iter::<Value>();
            let request = objects.next().expect("a request").expect("a whole request");
            let end = objects.byte_offset();
            self.seen.push(requests[..end].into());
            self.requests = requests[end..].into();
            replies += &self.answer(&request);
        }
        replies
    }

    fn answer(&mut self, request: &Value) -> String {
        let known = |name: &String| ["execute", "arguments"].contains(&&**name);
        let unknown = request.as_object().expect("an object").keys().find(|name| !known(name));
        if let (Version::Two, Some(unknown)) = (self.version, unknown) {
            return error("GenericError", &format!("QMP input object member '{unknown}' is unexpected"));
        }
        let command = request["execute"].as_str().expect("a name");
        if self.disabled.contains(&command) {
            let (class, description) = self.version.disabled(command);
            return error(class, &description);
        }
        match command {
            "guest-sync-delimited" => format!("~{}\n", json!({"return": request["arguments"]["id"]})),
            "guest-sync" => format!("{}\n", json!({"return": request["arguments"]["id"]})),
            "guest-slow" => {
                self.busy = true;
                String::new()
            }
            "guest-shutdown" if request["arguments"]["mode"] == "bad" => error("GenericError", "bad mode"),
            "guest-shutdown" => String::new(),
            _ => format!("{}\n", json!({"return": command})),
        }
    }
}

fn config() -> Config {
    Config::attach(Peer::Dial(Address::unix("/agent"))).speaking(Dialect::GuestAgent)
}

/// Returns a machine that is connected to this agent, and what the agent has answered at once.
fn attached(version: Version, disabled: &'static [&'static str]) -> (Rig, Agent) {
    let (mut rig, mut agent) = (Rig::launched(config()), Agent::new(version, disabled));
    agent.serve(&mut rig);
    (rig, agent)
}

fn ready(version: Version, disabled: &'static [&'static str]) -> (Rig, Agent) {
    let (rig, agent) = attached(version, disabled);
    assert_eq!(rig.vm.state(), State::Running, "{version:?} {disabled:?}");
    (rig, agent)
}

/// The machine receives this text, in which `~` stands for a delimiter.
fn hears(rig: &mut Rig, text: &str) {
    let bytes: Vec<u8> = text
        .split_inclusive('~')
        .flat_map(|piece| match piece.strip_suffix('~') {
            Some(piece) => [piece.as_bytes(), b"\xff"].concat(),
            None => piece.as_bytes().to_vec(),
        })
        .collect();
    rig.handle(Input::Received(Channel::Monitor, &bytes));
}

/// Returns the bytes that the machine sends, with `~` for a delimiter.
fn sent(rig: &mut Rig) -> String {
    let bytes = rig.vm.outgoing(Channel::Monitor).to_vec();
    rig.vm.sent(Channel::Monitor, bytes.len());
    bytes.into_iter().map(|byte| if byte == 0xff { '~' } else { char::from(byte) }).collect()
}

fn claim(rig: &mut Rig, ticket: &Ticket<&'static str>) -> Option<Result<Value, CommandError>> {
    rig.vm.claim(ticket)
}

fn failure(rig: &Rig) -> LaunchFailure {
    let Some(Err(LaunchError::Failed { failure, .. })) = rig.vm.launched() else { panic!("{:?}", rig.vm) };
    failure
}

fn sync_request(command: &str, number: u64) -> String {
    format!(r#"{{"execute":"{command}","arguments":{{"id":{number}}}}}"#)
}

#[test]
fn g39_a_refused_guest_sync_delimited_is_followed_by_guest_sync() {
    for version in VERSIONS {
        let (mut rig, agent) = ready(version, DELIMITED);
        assert_eq!(agent.seen, [sync_request("guest-sync-delimited", 1), sync_request("guest-sync", 2)]);
        assert_eq!(sent(&mut rig), "", "nothing more is due");
        let ping = rig.issue("guest-ping");
        assert_eq!(sent(&mut rig), r#"{"execute":"guest-ping"}"#);
        hears(&mut rig, "{\"return\": {}}\n");
        assert_eq!(claim(&mut rig, &ping), Some(Ok(json!({}))));
    }
}

/// The delimiter has reset the agent's parser already, so the second request has none.
#[test]
fn g39_guest_sync_is_ready_with_its_own_number_only() {
    let mut rig = Rig::launched(config());
    assert_eq!(sent(&mut rig), format!("~{}", sync_request("guest-sync-delimited", 1)));
    hears(&mut rig, &Version::Seven.stray());
    assert_eq!(sent(&mut rig), "", "the delimiter causes this error");
    let (class, description) = Version::Seven.disabled("guest-sync-delimited");
    hears(&mut rig, &error(class, &description));
    assert_eq!(sent(&mut rig), sync_request("guest-sync", 2));
    for stale in ["{\"return\": 1}\n", "{\"return\": 3}\n", "{\"return\": {}}\n", "garbage\n", "~{\"return\": 0}\n"] {
        hears(&mut rig, stale);
        assert_eq!((rig.vm.state(), sent(&mut rig)), (State::Launching(Phase::Syncing), String::new()), "{stale}");
    }
    hears(&mut rig, "{\"return\": 2}\n");
    assert_eq!((rig.vm.state(), rig.vm.session().counters().stale), (State::Running, 7));
}

#[test]
fn g39_an_agent_that_refuses_both_fails_the_attachment_at_once_in_its_words() {
    for version in VERSIONS {
        let (rig, agent) = attached(version, BOTH);
        assert_eq!(failure(&rig), LaunchFailure::NotSynchronised(version.refusal("guest-sync")), "{version:?}");
        assert!(agent.seen.len() <= 10, "{:?}", agent.seen);
        assert_eq!(rig.vm.deadline(), None);
    }
    let (rig, _) = attached(Version::Seven, BOTH);
    let Some(Err(error)) = rig.vm.launched() else { panic!("it failed") };
    let why = "the guest agent cannot be synchronised: \
        `guest-sync` was refused: CommandNotFound: Command guest-sync has been disabled";
    assert_eq!(error.to_string(), format!("attach failed: {why}"));
    let error = ServiceError::new(Service::GuestAgent, error);
    assert!(error.to_string().starts_with(why), "{error}");
}

/// No error is ours for certain, so a few stale ones must not count as the refusal.
#[test]
fn g39_stale_errors_are_no_refusal() {
    let kinds = [Version::Seven.stray(), error("CommandNotFound", "x"), error("GenericError", "y"), error("", "")];
    for version in VERSIONS {
        for (disabled, kind) in
            [NONE, DELIMITED, &["guest-sync"]].into_iter().flat_map(|each| kinds.iter().map(move |kind| (each, kind)))
        {
            for count in 0..=8 {
                let (mut rig, mut agent) = (Rig::launched(config()), Agent::new(version, disabled));
                let early = rig.issue("guest-first");
                agent.receive(&mut rig);
                hears(&mut rig, &kind.repeat(count));
                agent.serve(&mut rig);
                let what = format!("{version:?} {disabled:?} {count} {kind}");
                assert_eq!(rig.vm.state(), State::Running, "{what}");
                assert_eq!(claim(&mut rig, &early), Some(Ok(json!("guest-first"))), "{what}");
                let next = rig.issue("guest-next");
                agent.serve(&mut rig);
                assert_eq!(claim(&mut rig, &next), Some(Ok(json!("guest-next"))), "{what}");
            }
        }
    }
}

/// The requests have no id, so neither has their refusal.
#[test]
fn g39_an_error_with_an_id_is_no_refusal() {
    let mut rig = Rig::launched(config());
    sent(&mut rig);
    for id in ["0", "7", "\"libvirt-3\"", "null", "{}"] {
        hears(&mut rig, &format!("{{\"id\": {id}, \"error\": {{\"class\": \"CommandNotFound\", \"desc\": \"\"}}}}\n"));
        assert_eq!((rig.vm.state(), sent(&mut rig)), (State::Launching(Phase::Syncing), String::new()), "{id}");
    }
    hears(&mut rig, "~{\"return\": 1}\n");
    assert_eq!(rig.vm.state(), State::Running);
}

/// The late error has no id, so it may be the refusal of the request that follows it.
#[test]
fn g39_a_late_error_reaches_no_other_command() {
    for version in VERSIONS {
        for disabled in [NONE, DELIMITED, &["guest-sync"]] {
            for late in
                [error("GenericError", "late"), error("CommandNotFound", "late"), "{\"return\": \"late\"}\n".into()]
            {
                let (mut rig, mut agent) = ready(version, disabled);
                let slow = rig.issue_within("guest-slow", secs(1));
                agent.serve(&mut rig);
                rig.pass(secs(1));
                let timed_out = CommandError::TimedOut(Progress::Sent, Liveness::Unknown);
                assert_eq!(claim(&mut rig, &slow), Some(Err(timed_out)));
                let tickets = ["guest-a", "guest-b"].map(|name| rig.issue(name));
                agent.receive(&mut rig);
                agent.finish(&mut rig, &late);
                let answers = tickets.map(|ticket| claim(&mut rig, &ticket));
                let right = ["guest-a", "guest-b"].map(|name| Some(Ok(json!(name))));
                assert_eq!(answers, right, "{version:?} {disabled:?} {late}");
            }
        }
    }
}

/// The agent may be restarted, with another configuration, while the connection to its port stays open.
#[test]
fn g39_a_refusal_after_a_time_out_fails_the_commands_that_wait() {
    for version in VERSIONS {
        // The agent answers both of the first requests, so it has shown that it does not refuse them.
        let (mut rig, mut agent) = (Rig::launched(config()), Agent::new(version, NONE));
        agent.receive(&mut rig);
        rig.pass_exactly(secs(5));
        agent.serve(&mut rig);
        let slow = rig.issue_within("guest-slow", secs(1));
        agent.serve(&mut rig);
        rig.pass(secs(1));
        assert!(matches!(claim(&mut rig, &slow), Some(Err(CommandError::TimedOut(..)))));
        let waiting = ["guest-a", "guest-b"].map(|name| rig.issue(name));
        agent.receive(&mut rig);
        agent.disabled = BOTH;
        agent.finish(&mut rig, "{\"return\": \"late\"}\n");
        let refused = Some(Err(CommandError::Refused(version.refusal("guest-sync"))));
        for ticket in waiting {
            assert_eq!(claim(&mut rig, &ticket), refused, "{version:?}");
        }
        assert_eq!((rig.vm.state(), rig.vm.deadline()), (State::Running, None), "the connection stays open");

        let next = rig.issue("guest-c");
        agent.serve(&mut rig);
        assert_eq!(claim(&mut rig, &next), refused, "it is tried again, at once");

        agent.disabled = DELIMITED;
        let next = rig.issue("guest-d");
        agent.serve(&mut rig);
        assert_eq!(claim(&mut rig, &next), Some(Ok(json!("guest-d"))));
    }
}

#[test]
fn g39_no_request_to_an_agent_has_an_id() {
    let (mut rig, mut agent) = ready(Version::Two, NONE);
    let typed = rig.issue("guest-ping");
    let silent = rig.issue("guest-shutdown");
    let raw = rig.issue_raw(r#"{"execute": "guest-raw"}"#);
    agent.serve(&mut rig);
    let requests = [
        &sync_request("guest-sync-delimited", 1),
        r#"{"execute":"guest-ping"}"#,
        r#"{"execute":"guest-shutdown"}"#,
        &sync_request("guest-sync-delimited", 2),
        r#"{"execute": "guest-raw"}"#,
    ];
    assert_eq!(agent.seen, requests);
    assert_eq!(claim(&mut rig, &typed), Some(Ok(json!("guest-ping"))));
    assert_eq!(claim(&mut rig, &silent), Some(Ok(json!({}))));
    assert_eq!(rig.vm.claim(&raw).expect("it is answered").expect("a reply"), json!({"return": "guest-raw"}));
}

#[test]
fn g39_a_reply_with_an_id_answers_no_command_of_ours() {
    let (mut rig, _) = ready(Version::Seven, NONE);
    let ping = rig.issue("guest-ping");
    for id in ["0", "1", "\"libvirt-3\"", "null"] {
        hears(&mut rig, &format!("{{\"return\": \"theirs\", \"id\": {id}}}\n"));
        hears(
            &mut rig,
            &format!("{{\"id\": {id}, \"error\": {{\"class\": \"GenericError\", \"desc\": \"theirs\"}}}}\n"),
        );
    }
    assert_eq!((claim(&mut rig, &ping), rig.vm.session().counters().unmatched), (None, 8));
    hears(&mut rig, "{\"return\": \"ours\"}\n");
    assert_eq!(claim(&mut rig, &ping), Some(Ok(json!("ours"))));
}

/// The reply to `guest-sync` is an ordinary line, and must not pass for the reply to a command.
#[test]
fn g39_guest_sync_follows_a_command_without_a_success_reply() {
    let (mut rig, mut agent) = ready(Version::Seven, DELIMITED);
    let bad = rig.vm.execute(rig.now, &("guest-shutdown", json!({"mode": "bad"})), secs(9).into()).expect("it runs");
    let [silent, ping] = ["guest-shutdown", "guest-ping"].map(|name| rig.issue(name));
    agent.serve(&mut rig);
    let Some(Err(CommandError::Refused(refusal))) = rig.vm.claim(&bad) else { panic!("it was refused") };
    assert_eq!(refusal.to_string(), "`guest-shutdown` was refused: GenericError: bad mode");
    assert_eq!(claim(&mut rig, &silent), Some(Ok(json!({}))));
    assert_eq!(claim(&mut rig, &ping), Some(Ok(json!("guest-ping"))));
    let sync = |number| sync_request("guest-sync", number);
    let asked: Vec<_> = agent.seen.iter().filter(|request| request.contains("guest-sync")).skip(1).cloned().collect();
    assert_eq!(asked, [sync(2), sync(3), sync(4)]);
}

/// A command may take longer than an answer: the refusal is held from its arrival on.
#[test]
fn g39_a_late_refusal_is_held_as_long_as_an_early_one() {
    let (mut rig, _) = ready(Version::Seven, NONE);
    let bad = rig.vm.execute(rig.now, &("guest-shutdown", json!({"mode": "bad"})), secs(60).into()).expect("it runs");
    rig.pass_exactly(secs(4));
    hears(&mut rig, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"bad mode\"}}\n");
    rig.pass(secs(4));
    assert_eq!(rig.vm.claim(&bad), None);
    rig.pass(secs(1));
    assert!(matches!(rig.vm.claim(&bad), Some(Err(CommandError::Refused(_)))));
}

/// While the guest boots, QEMU reads nothing from the connection, and each request stays in the socket. The agent
/// then reads all of them at once.
#[test]
fn g39_a_refusal_of_each_repeated_request_is_one_refusal() {
    for version in VERSIONS {
        for disabled in [NONE, DELIMITED, BOTH] {
            let (mut rig, mut agent) = (Rig::launched(config()), Agent::new(version, disabled));
            for _ in 0..5 {
                agent.receive(&mut rig);
                rig.pass_exactly(secs(5));
            }
            agent.serve(&mut rig);
            if disabled == BOTH {
                assert_eq!(failure(&rig), LaunchFailure::NotSynchronised(version.refusal("guest-sync")));
                continue;
            }
            assert_eq!(rig.vm.state(), State::Running, "{version:?} {disabled:?}");
            let ping = rig.issue("guest-ping");
            agent.serve(&mut rig);
            assert_eq!(claim(&mut rig, &ping), Some(Ok(json!("guest-ping"))));
        }
    }
}

/// A request that was written before the agent opened its port may be lost.
#[test]
fn g39_a_refusal_is_noticed_after_lost_requests() {
    for version in VERSIONS {
        let (mut rig, mut agent) = (Rig::launched(config()), Agent::new(version, BOTH));
        for _ in 0..3 {
            sent(&mut rig);
            rig.pass_exactly(secs(5));
        }
        agent.serve(&mut rig);
        assert_eq!(failure(&rig), LaunchFailure::NotSynchronised(version.refusal("guest-sync")), "{version:?}");
    }
}

/// The agent may have been restarted since it refused `guest-sync-delimited`.
#[test]
fn g39_a_lost_guest_sync_is_repeated_from_the_beginning() {
    let mut rig = Rig::launched(config());
    sent(&mut rig);
    hears(&mut rig, &error("CommandNotFound", "disabled"));
    assert_eq!(sent(&mut rig), sync_request("guest-sync", 2));
    rig.pass_exactly(secs(5));
    assert_eq!(sent(&mut rig), format!("~{}", sync_request("guest-sync-delimited", 3)));
    hears(&mut rig, "{\"return\": 2}\n");
    assert_eq!(rig.vm.state(), State::Launching(Phase::Syncing));
    hears(&mut rig, "~{\"return\": 3}\n");
    assert_eq!(rig.vm.state(), State::Running);
}
