//! Tests of reports: their structure, their data, their escapes, and what is redacted in them.

use crate::rig::steps::{LONG, asks, begun};
use crate::rig::{GREETING, Rig, at, config, secs};
use qemu_machine_core::procedure::{Backup, CopyTarget};
use qemu_machine_core::record::{Record, Report};
use qemu_machine_core::{
    Channel, Config, Descriptor, ExitStatus, Limits, Misuse, OutOfBand, Peer, Shutdown, Wait, json,
};
use serde_json::Value;

fn record(rig: &Rig) -> Record {
    rig.vm.record().expect("the run is recorded")
}

/// A run with a command of each end, a wait, an event, console output with colours, and a shutdown.
fn run() -> Rig {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let login = rig.wait(&mark, [Wait::text("tty", "login: ")]);
    let answered = rig.issue("query-status");
    let ids = rig.take_ids();
    rig.now = at(secs(1));
    rig.happens("STOP");
    rig.replies(ids[0]);
    rig.prints("x\u{1b}[1;31mred\u{1b}[m\r\nlogin: ");
    rig.vm.claim(&answered).expect("an answer").expect("a reply");
    rig.vm.claim_wait(login).expect("a hit").expect("a text");
    let late = rig.issue_within("query-block", secs(2));
    rig.take_ids();
    rig.pass(secs(3));
    rig.vm.disown(late.id());
    rig.shutdown(Shutdown::default());
    let ids = rig.take_ids();
    rig.shuts_down("host-qmp-quit");
    rig.replies(ids[0]);
    rig.dies(ExitStatus::Code(0));
    rig
}

/// Returns the text of the elements that begin with this, without escapes.
fn texts<'a>(page: &'a str, begin: &str, end: &str) -> Vec<String> {
    let parts = page.split(begin).skip(1).map(|rest: &'a str| rest.split(end).next().expect("an element ends"));
    let unescape = |text: &str| {
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
        text.replace("&amp;", "&")
    };
    parts.map(unescape).collect()
}

fn data(page: &str) -> Vec<Value> {
    let parts = texts(page, "<script type=\"application/json\">", "</script>");
    parts.iter().map(|json| json.parse().expect("the data is JSON")).collect()
}

/// Returns the marks: class, end, name of the lane, begin and end in seconds, label.
fn marks(data: &Value) -> Vec<String> {
    let time = |value: &Value| value.as_i64().map(|micros| micros as f64 / 1e6).expect("a time");
    let mark = |mark: &Value| {
        let lane = &data["lanes"][mark[2].as_u64().expect("a lane") as usize][0];
        let until = if mark[5] == -1 { String::new() } else { format!("-{}", time(&mark[5])) };
        let words = [&mark[0], lane, &mark[6], &mark[1]].map(|word| word.as_str().expect("a text").to_string());
        format!("{}{until} {}", time(&mark[4]), words.join(" ")).trim_end().to_string()
    };
    data["marks"].as_array().expect("a list").iter().map(mark).collect()
}

#[test]
fn the_lines_are_those_of_the_timeline() {
    let record = record(&run());
    let page = record.report().to_string();
    let lines = texts(&page, "<pre class=\"lines\">\n", "</pre>");
    assert_eq!(lines, [format!("{:#}", record.timeline())]);
    let rows = data(&page)[0]["rows"].as_array().map(Vec::len);
    assert_eq!(rows, Some(lines[0].lines().count()), "each line has a lane");
}

#[test]
fn the_marks_of_a_run_are_in_the_data() {
    let page = record(&run()).report().to_string();
    let data = &data(&page)[0];
    let lanes: Vec<_> = data["lanes"].as_array().expect("a list").iter().map(|lane| &lane[0]).collect();
    assert_eq!(lanes, ["caller", "monitor", "tty", "process"]);
    assert_eq!(
        marks(data),
        [
            "0 milestone caller launch",
            "0 milestone process process 42",
            "0 milestone monitor greeting of QEMU 7.2.22",
            "0-0 exchange monitor qmp_capabilities",
            "0 milestone monitor ready",
            "0-1 wait caller wait for the text \"login: \" on tty",
            "0-1 command caller query-status",
            "0-1 exchange monitor query-status",
            "1 event monitor STOP",
            "1-4 command caller query-block timed out",
            "1 exchange monitor query-block unanswered",
            "4 deadline caller a deadline passed",
            "4 milestone caller shut down",
            "4-4 exchange monitor quit",
            "4 event monitor SHUTDOWN",
            "4 milestone process exit status 0",
            "4 milestone process end",
        ]
    );
    assert_eq!(data["span"], json!([0, 4_000_000]));
}

#[test]
fn a_console_has_its_times_and_colours() {
    let page = record(&run()).report().to_string();
    assert_eq!(texts(&page, "<pre class=\"console\">\n", "</pre>"), ["    1.000000 xred\n    1.000000 login: \n"]);
    let data = &data(&page)[0];
    assert_eq!((&data["styles"], &data["parts"]), (&json!(["b f1"]), &json!([[0, 1, 3, 0]])));
}

#[test]
fn the_summary_tells_how_it_ended() {
    let page = record(&run()).report().to_string();
    assert!(page.contains("<h2>ended by the caller (quit)</h2>"), "{page}");
    let details = texts(&page, "<ul class=\"details\">", "</ul>");
    assert_eq!(details, ["<li>process: exit status 0</li><li>commands without a reply: 1</li>"]);
    for figure in [
        "<dt>launch → greeting</dt><dd>0.00 µs</dd>",
        "<dt>ready → end</dt><dd>4.00 s</dd>",
        "<dt>commands</dt><dd>2 <small>1 timed out</small></dd>",
        "<dt>events</dt><dd>2</dd>",
        "<dt>dropped lines</dt><dd>0</dd>",
    ] {
        assert!(page.contains(figure), "{figure} is not in {page}");
    }
    let command =
        "<pre tabindex=\"0\">qemu -display none -vga none -chardev stdio,id=mon -qmp chardev:mon -chardev null,id=tty";
    assert!(page.contains(command), "{page}");
}

fn summary(report: &Report) -> String {
    let page = report.to_string();
    let class = texts(&page, "<header class=\"summary ", "\"").concat();
    format!("{class}: {}", texts(&page, "<h2>", "</h2>").concat())
}

#[test]
fn each_end_has_its_tone() {
    let ended = |event: Option<&str>, status| {
        let mut rig = Rig::ready(config());
        if let Some(reason) = event {
            rig.shuts_down(reason);
        }
        rig.dies(status);
        summary(&record(&rig).report())
    };
    assert_eq!(ended(Some("guest-shutdown"), ExitStatus::Code(0)), "calm: powered off by the guest");
    assert_eq!(ended(Some("guest-reset"), ExitStatus::Code(0)), "open: reset by the guest");
    assert_eq!(ended(Some("guest-panic"), ExitStatus::Code(0)), "alarm: panic of the guest");
    assert_eq!(ended(None, ExitStatus::Code(1)), "alarm: QEMU exited (status 1)");
    assert!(
        ended(None, crate::rig::SIGKILL).starts_with("alarm: ended by signal 9"),
        "{}",
        ended(None, crate::rig::SIGKILL)
    );
}

#[test]
fn a_failed_launch_has_its_reason_and_the_words_of_qemu() {
    let mut rig = Rig::launched(config());
    rig.log = b"qemu: -device x: 'x' is not a <valid> device\n".to_vec();
    rig.dies(ExitStatus::Code(1));
    let report = record(&rig).report();
    assert_eq!(summary(&report), "alarm: launch failed: QEMU ended before its monitor greeted");
    let words = texts(&report.to_string(), "<h3>QEMU printed</h3><pre tabindex=\"0\">\n", "</pre>");
    assert_eq!(words, ["<code>qemu: -device x: 'x' is not a <valid> device</code>\n"]);
}

#[test]
fn a_kernel_that_crashes_is_remarked() {
    let mut rig = Rig::ready(config());
    rig.now = at(secs(2));
    rig.prints("[    0.1] Linux version 6\r\n[    0.2] \u{1b}[31mKernel panic - not syncing: <x>\u{1b}[0m\r\n");
    let page = record(&rig).report().to_string();
    let remark = "<li data-console=\"0\" data-line=\"1\"><span class=\"where\">tty 2.000000</span> \
                  <code>[    0.2] Kernel panic - not syncing: &lt;x&gt;</code></li>";
    assert!(page.contains(remark), "{page}");
    assert!(page.contains("<h2>the machine runs: the record ends before its end</h2>"), "{page}");
}

#[test]
fn a_record_without_lines_is_a_page() {
    let nothing: Record = "".parse().expect("an empty record");
    assert_eq!(summary(&nothing.report()), "open: the machine was not launched");
    let unlaunched = Rig::new(config());
    assert_eq!(summary(&record(&unlaunched).report()), "open: the machine was not launched");
    assert_eq!(data(&nothing.report().to_string())[0]["marks"], json!([]));
}

#[test]
fn a_gap_is_a_mark_and_is_counted() {
    let mut limits = Limits::default();
    limits.record = 64 << 10;
    let mut rig = Rig::ready(config().limits(limits));
    let early = rig.issue("query-block");
    for second in 1..500 {
        rig.now = at(secs(second));
        rig.prints("some text of a guest\n");
    }
    let record = record(&rig);
    let (page, dropped) = (record.report().to_string(), record.dropped());
    assert!(dropped > 0 && page.contains(&format!("<dt>dropped lines</dt><dd>{dropped}</dd>")), "{page}");
    let marks = marks(&data(&page)[0]);
    let gap = format!("gap caller {dropped} lines were dropped");
    assert!(marks.iter().any(|mark| mark.ends_with(&gap) && mark.contains('-')), "{marks:?}");
    assert!(marks.iter().any(|mark| mark.ends_with("command caller query-block end not recorded")), "{marks:?}");
    rig.vm.disown(early.id());
}

#[test]
fn earlier_runs_are_listed() {
    let mut rig = Rig::ready(config());
    rig.shuts_down("guest-panic");
    rig.dies(ExitStatus::Code(0));
    rig.now = at(secs(5));
    rig.launch();
    rig.dies(ExitStatus::Code(1));
    let page = record(&rig).report().to_string();
    assert!(page.contains("</span> panic of the guest; process: exit status 0</li></ol>"), "{page}");
    assert!(page.contains("<h2>launch failed: QEMU ended before its monitor greeted</h2>"), "{page}");
}

#[test]
fn reports_are_joined_and_titled() {
    let record = record(&run());
    let titles = |report: &Report| {
        let page = report.to_string();
        (texts(&page, "<title>", "</title>").concat(), texts(&page, "data-title=\"", "\"").join("|"))
    };
    assert_eq!(titles(&record.report()), ("qemu".into(), "qemu".into()));
    let both = record.report().titled("6.1").and(record.report().titled("6.<6>"));
    assert_eq!(titles(&both), ("6.1, 6.<6>".into(), "6.1|6.<6>".into()));
    assert_eq!(titles(&both.clone().titled("kernels")), ("kernels".into(), "6.1|6.<6>".into()));
    assert_eq!(data(&both.to_string()).len(), 2);
    assert_eq!(format!("{both:?}"), "Report \"6.1, 6.<6>\" of 2 sections");
}

/// Texts that would run, end an element, or change the text around them.
const HOSTILE: [&str; 10] = [
    "</script><script>window.ran=1</script>",
    "</pre><img src=x onerror=window.ran=1>",
    "<!--<script>",
    "]]>",
    "\" onload=\"window.ran=1",
    "' onload='window.ran=1",
    "&lt;b&gt;&#x3c;",
    "\u{202e}\u{2028}\u{2029}\u{feff}\u{e0041}",
    "\0\u{1b}]52;c;x\u{7}\u{9b}31m\u{8}\r\u{c}",
    "${window.ran=1}`{script}",
];

#[test]
fn no_text_becomes_code() {
    for text in HOSTILE {
        let mut rig = Rig::ready(Config::new(format!("qemu{text}").replace('\0', "")).autostart().serial("tty"));
        rig.prints(format!("{text}\u{1b}[3{text}m\n\u{1b}[38;2;{text}m\n"));
        rig.happens_with("GUEST_PANICKED", &json!({ "x": text }).to_string());
        let status = rig.issue(("human-monitor-command", json!({ "command-line": text })));
        rig.log = text.as_bytes().to_vec();
        rig.dies(ExitStatus::Code(1));
        drop(rig.vm.claim(&status));
        let page = record(&rig).report().titled(text).to_string();
        for (code, count) in [("<script", 2), ("</script", 2), ("<pre", 4), ("<img", 0), ("<!--", 0), ("onload=\"", 0)]
        {
            assert_eq!(page.matches(code).count(), count, "{code} {text:?}");
        }
        let is_plain = |one: char| one == '\n' || one == '\t' || (!one.is_control() && !HOSTILE[7].contains(one));
        assert!(page.chars().all(is_plain), "{text:?}");
        assert_eq!(data(&page).len(), 1, "{text:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let mut rig = Rig::ready(config());
    rig.vm.handle(rig.now, qemu_machine_core::Input::Received(Channel::Console(0), b"\xff\xfe\xc3"));
    let page = record(&rig).report().to_string();
    assert_eq!(texts(&page, "<pre class=\"console\">\n", "</pre>"), ["    0.000000 \u{fffd}\u{fffd}\u{fffd}\n"]);
}

#[test]
fn a_redacted_value_is_nowhere_in_the_page() {
    let secret = "geheim & <7>";
    let mut rig = Rig::ready(config().args(["-object", &format!("secret,id=s,data={secret}")]));
    let issued = rig.issue(("set_password", json!({ "protocol": "vnc", "password": secret })));
    let ids = rig.take_ids();
    let error = json!({ "class": "GenericError", "desc": format!("wrong: {secret}") });
    rig.says(&json!({ "id": ids[0], "error": error }).to_string());
    rig.prints(format!("\u{1b}[31m{secret}\n"));
    rig.log = secret.as_bytes().to_vec();
    rig.dies(ExitStatus::Code(1));
    drop(rig.vm.claim(&issued));
    let mut record = record(&rig);
    let traces = |page: &str| ["geheim", "geh", "&lt;7&gt;"].iter().filter(|trace| page.contains(**trace)).count();
    assert_eq!(traces(&record.report().to_string()), 3, "a page shows the record as it is");
    record.redact_member("password");
    let page = record.report().to_string();
    assert_eq!(traces(&page), 0, "{page}");
}

#[test]
fn the_page_admits_only_its_own_code() {
    let page = record(&run()).report().to_string();
    let policy = texts(&page, "Content-Security-Policy\" content=\"", "\"").concat();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    for loads in
        ["src=", "href=", "url(", "@import", "http:", "https:", "fetch(", "XMLHttpRequest", "innerHTML", "eval("]
    {
        assert!(!page.contains(loads), "{loads}");
    }
}

/// A page of twice as many lines is twice as long.
#[test]
fn the_length_is_proportional_to_the_record() {
    let length = |lines: usize| {
        let mut rig = Rig::ready(config());
        (0..lines).for_each(|_| rig.prints("\u{1b}[32m[  OK  ]\u{1b}[0m Started a service\r\n"));
        record(&rig).report().to_string().len()
    };
    let (none, some, twice) = (length(0), length(500), length(1000));
    assert!(twice - none <= 2 * (some - none) + 4 * 1000, "{none} {some} {twice}");
}

#[test]
fn a_command_and_a_wait_that_are_disowned_have_an_end() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let id = rig.wait(&mark, [Wait::end()]);
    let ticket = rig.issue("query-status");
    rig.pass(secs(2));
    rig.vm.disown_wait(id);
    rig.vm.disown(ticket.id());
    let marks = marks(&data(&record(&rig).report().to_string())[0]);
    assert!(marks.contains(&"0-2 wait caller wait for the end disowned".to_string()), "{marks:?}");
    assert!(marks.contains(&"0-2 command caller query-status disowned".to_string()), "{marks:?}");
}

#[test]
fn a_command_that_fails_at_once_has_failed() {
    let mut rig = Rig::ready(config());
    let _refused = rig.issue(OutOfBand("yank"));
    rig.closes(Channel::Monitor);
    let _late = rig.issue("query-status");
    let marks = marks(&data(&record(&rig).report().to_string())[0]);
    assert!(marks.contains(&"0-0 command caller yank failed".to_string()), "{marks:?}");
    assert!(marks.contains(&"0-0 command caller query-status failed".to_string()), "{marks:?}");
}

#[test]
fn a_command_whose_reply_an_undo_awaits_is_disowned() {
    let target = CopyTarget::image("copy", json!({"driver": "null-co"}));
    let (mut rig, mut run) = begun(Backup::of("disk", target), LONG);
    rig.take_sent();
    rig.returns(1, r#"[{"node-name": "disk", "image": {"virtual-size": 4096, "filename": "d"}}]"#);
    asks(&mut rig, &mut run, "blockdev-add");
    run.disown(&mut rig.vm, rig.now);
    rig.replies(2);
    let marks = marks(&data(&record(&rig).report().to_string())[0]);
    assert!(marks.contains(&"0-0 command caller blockdev-add disowned".to_string()), "{marks:?}");
}

#[test]
fn a_refused_launch_begins_no_run() {
    let mut rig = Rig::launched(Config::attach(Peer::Connected(Descriptor::new(3_u8))).recorded());
    rig.negotiate(GREETING);
    rig.closes(Channel::Monitor);
    let before = summary(&record(&rig).report());
    assert_eq!(rig.vm.launch(rig.now), Err(Misuse::UsedUp));
    let report = record(&rig).report();
    assert_eq!(summary(&report), before);
    let marks = marks(&data(&report.to_string())[0]);
    assert_eq!(marks.iter().filter(|mark| mark.ends_with(" launch")).count(), 1, "{marks:?}");
}

/// The end of the run ends a wait, and its result is claimed later.
#[test]
fn a_wait_that_is_claimed_behind_the_end_has_its_result() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let id = rig.wait(&mark, [Wait::text("tty", "login: ")]);
    rig.dies(ExitStatus::Code(0));
    rig.now = at(secs(3));
    rig.vm.claim_wait(id).expect("it is over").expect_err("the machine ended");
    let marks = marks(&data(&record(&rig).report().to_string())[0]);
    assert!(marks.contains(&"0-0 wait caller wait for the text \"login: \" on tty failed".to_string()), "{marks:?}");
}
