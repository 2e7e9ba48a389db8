//! Client of a browser: Chromium, controlled over pipes (Chrome DevTools Protocol, whose messages end with NUL there).

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pages::Page;

/// The longest time that a browser may take. A page of 100,000 lines takes seconds, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A browser with one page. It ends, and its files are removed, when this is dropped.
pub(crate) struct Browser {
    process: Arc<Mutex<Child>>,
    commands: ChildStdin,
    messages: BufReader<ChildStdout>,
    session: Value,
    next: u64,
    events: Vec<Value>,
    /// Reads what the browser and its other processes print. It ends when all of them have ended.
    printed: Option<JoinHandle<io::Result<u64>>>,
    /// Ends the watchdog when it is dropped.
    _watchdog: Sender<()>,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn open(page: &Page) -> Self {
        Self::open_in(page, "light")
    }

    /// Opens a page for a reader who prefers this scheme of colours.
    pub(crate) fn open_in(page: &Page, scheme: &str) -> Self {
        let mut browser = Self::start();
        let media = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.call("Emulation.setEmulatedMedia", &json!({ "features": media }));
        browser.navigate(page);
        // The panels are drawn when the browser has found their sizes, which is before the second next frame.
        browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
        browser
    }

    pub(crate) fn open_without_script(page: &Page) -> Self {
        let mut browser = Self::start();
        browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
        browser.navigate(page);
        browser
    }

    fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("qemu-machine-browser-").tempdir().expect("a directory");
        // The browser reads commands from descriptor 3, and writes to 4.
        let mut command = Command::new("bash");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 <&- >/dev/null", "bash", "chromium", "--headless", "--no-sandbox"]);
        command
            .args(["--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking"])
            .arg("--window-size=1280,900");
        command.arg(format!("--user-data-dir={}", profile.path().display())).env("TMPDIR", profile.path());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("chromium is installed: .ci/report does that");
        let (commands, messages) = (process.stdin.take().expect("a pipe"), process.stdout.take().expect("a pipe"));
        let mut printed = process.stderr.take().expect("a pipe");
        let process = Arc::new(Mutex::new(process));
        let mut browser = Self {
            _watchdog: watch(process.clone()),
            printed: Some(std::thread::spawn(move || io::copy(&mut printed, &mut io::sink()))),
            process,
            commands,
            messages: BufReader::new(messages),
            session: Value::Null,
            next: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", &attach)["sessionId"].clone();
        for part in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{part}.enable"), &json!({}));
        }
        browser
    }

    fn navigate(&mut self, page: &Page) {
        self.call("Page.navigate", &json!({ "url": page.url() }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// Displays the page as a printer receives it.
    pub(crate) fn display_as_printed(&mut self) {
        self.call("Emulation.setEmulatedMedia", &json!({ "media": "print" }));
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Returns the value of an expression of JavaScript in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let expression = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", &expression);
        assert!(result["exceptionDetails"].is_null(), "{result:#}");
        result["result"]["value"].clone()
    }

    /// Returns all events so far.
    pub(crate) fn events(&self) -> &[Value] {
        &self.events
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut message = self.receive();
            if message["id"] == self.next {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.messages.read_until(0, &mut message).expect("the browser writes");
        assert_eq!(message.pop(), Some(0), "the browser ended, or took longer than {PATIENCE:?}");
        serde_json::from_slice(&message).expect("a message is JSON")
    }
}

/// Kills a browser that takes too long, so that the test does not wait for it.
fn watch(process: Arc<Mutex<Child>>) -> Sender<()> {
    let (watchdog, ended) = channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            process.lock().expect("a lock").kill().expect("the browser can be killed");
        }
    });
    watchdog
}

impl Drop for Browser {
    fn drop(&mut self) {
        let mut process = self.process.lock().expect("a lock");
        process.kill().expect("the browser can be killed");
        process.wait().expect("the browser ends");
        // Its other processes end with it, and use the profile until then.
        let printed = self.printed.take().map(JoinHandle::join);
        assert!(printed.is_none_or(|read| read.is_ok_and(|read| read.is_ok())), "the pipe can be read to its end");
    }
}
