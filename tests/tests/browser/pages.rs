//! Records for the tests in a browser, and the files of their pages.

use qemu_machine_core::record::{Record, Report};
use qemu_machine_core::{Config, Machine};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// A page in a file, which is removed when this is dropped.
pub(crate) struct Page(NamedTempFile);

impl Page {
    pub(crate) fn of(report: &Report) -> Self {
        let file = tempfile::Builder::new().prefix("qemu-machine-").suffix(".html").tempfile().expect("a file");
        std::fs::write(file.path(), report.to_string()).expect("the file is written");
        Self(file)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }
}

/// Returns a record of these lines, each with its time in seconds, behind those of a launch.
fn record(lines: impl IntoIterator<Item = (f64, Value)>) -> Record {
    let config = Config::new("qemu-system-x86_64").serial("tty").recorded();
    let first = Machine::new(config).expect("a configuration").record().expect("a record").to_string();
    let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 9}}, "capabilities": []}}"#;
    let launch = [
        json!({ "input": "launch" }),
        json!({ "input": { "spawned": 42 } }),
        json!({ "input": { "received": { "from": "monitor", "bytes": format!("{greeting}\r\n") } } }),
        json!({ "output": "ready" }),
    ];
    let lines = launch.into_iter().map(|line| (0.5, line)).chain(lines);
    let lines = lines.map(|(seconds, mut line)| {
        line["ns"] = json!((seconds * 1e9) as u64);
        format!("{line}\n")
    });
    (first + &lines.collect::<String>()).parse().expect("a record")
}

fn printed(text: &str) -> Value {
    json!({ "input": { "received": { "from": { "console": 0 }, "bytes": text } } })
}

/// A run that ends with a panic, and whose one command timed out.
pub(crate) fn small() -> Record {
    let command = json!({ "text": r#"{"execute":"query-block""#, "band": "in_band", "kind": {}, "descriptor": false,
        "within": { "secs": 2, "nanos": 0 } });
    let problem = "no reply within the deadline, after the command was sent";
    let event = r#"{"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}"#;
    let colours: String = (0..16).map(|colour| format!("\x1b[38;5;{colour}mcolour {colour}\x1b[m ")).collect();
    record([
        (1.0, json!({ "input": { "execute": command } })),
        (1.0, json!({ "output": { "number": 0 } })),
        (1.5, printed("[    0.0] Linux version 6.1\r\n")),
        (
            2.0,
            printed("\x1b[1;31m[    0.5] Kernel panic - not syncing: no init\x1b[m\r\n\x1b[38;2;1;2;3mdark\x1b[m\r\n"),
        ),
        (2.0, printed(&format!("{colours}\x1b[7minverse\x1b[31m red\x1b[m\r\n"))),
        (3.0, json!({ "output": { "failure": { "id": 0, "problem": problem } } })),
        (3.0, json!({ "input": { "received": { "from": "monitor", "bytes": format!("{event}\r\n") } } })),
        (3.5, json!({ "input": { "exited": { "code": 0 } } })),
        (3.5, json!({ "output": { "ended": "panic of the guest; exit status 0" } })),
    ])
}

/// A run whose console prints this many lines.
pub(crate) fn long(lines: usize) -> Record {
    record((0..lines).map(|line| (1.0 + line as f64 / 1e4, printed(&format!("\x1b[32mline\x1b[m {line}\r\n")))))
}

/// Text that would be executed, or break the page, if it became part of its code.
pub(crate) const HOSTILE: &str = "</script><script>window.ran=1</script></pre></title></textarea><img src=x onerror=window.ran=1>\
    <svg onload=window.ran=1><!-- ]]> \" ' onload=window.ran=1 \u{202e}\u{2028}\0<b>`${window.ran=1}`";

/// A run in which each peer sends such text.
pub(crate) fn hostile() -> Record {
    let event = json!({ "event": HOSTILE, "data": { HOSTILE: HOSTILE } });
    record([
        (1.0, printed(&format!("{HOSTILE}\x1b[31m{HOSTILE}\r\n[    0.5] Kernel panic - not syncing: {HOSTILE}\n"))),
        (2.0, json!({ "input": { "received": { "from": "monitor", "bytes": format!("{event}\r\n") } } })),
        (2.0, json!({ "input": { "log_read": HOSTILE } })),
        (3.0, json!({ "output": { "ended": HOSTILE } })),
    ])
}
