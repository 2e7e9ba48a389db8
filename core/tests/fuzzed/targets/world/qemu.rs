//! Simulated QEMU: it reads whole commands, and answers them when the world wants it to.

use qemu_machine_core::Value;

/// A command that QEMU has read and not answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    id: Value,
    pub(super) name: String,
    /// The number in its arguments. `None` means that the machine itself sent it.
    pub(super) number: Option<u64>,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Qemu {
    received: Vec<u8>,
    pub(super) asked: Vec<Asked>,
}

impl Qemu {
    pub(super) fn greeting(offers_out_of_band: bool) -> Vec<u8> {
        let offered = if offers_out_of_band { "\"oob\"" } else { "" };
        let version = r#""version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}"#;
        format!("{{\"QMP\": {{{version}, \"capabilities\": [{offered}]}}}}\r\n").into_bytes()
    }

    /// Reads bytes. An incomplete command stays for the next ones.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        let mut commands = serde_json::Deserializer::from_slice(&self.received).into_iter::<Value>();
        while let Some(Ok(command)) = commands.next() {
            let name = command["execute"].as_str().or_else(|| command["exec-oob"].as_str()).expect("a command");
            let number = command["arguments"]["n"].as_u64();
            self.asked.push(Asked { id: command["id"].clone(), name: name.into(), number });
        }
        let read = commands.byte_offset();
        self.received.drain(..read);
    }

    /// Answers a command, and returns it with the answer. Each answer has the number of its command.
    pub(super) fn answer(&mut self, which: usize, well: bool) -> Option<(Asked, Vec<u8>)> {
        if self.asked.is_empty() {
            return None;
        }
        let asked = self.asked.remove(which % self.asked.len());
        let (id, number) = (&asked.id, asked.number.unwrap_or_default());
        let line = match (well, &*asked.name) {
            (true, "query-status") if asked.number.is_none() => {
                format!("{{\"return\": {{\"status\": \"running\"}}, \"id\": {id}}}\r\n")
            }
            (true, _) => format!("{{\"return\": {{\"n\": {number}}}, \"id\": {id}}}\r\n"),
            (false, _) => format!("{{\"error\": {{\"class\": \"C\", \"desc\": \"{number}\"}}, \"id\": {id}}}\r\n"),
        };
        Some((asked, line.into_bytes()))
    }
}
