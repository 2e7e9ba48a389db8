//! Record of a run: that of a launch that failed, and the secrets in it.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt;

use qemu_machine_blocking::record::Record;
use qemu_machine_blocking::{LaunchError, UntrustedText, Value};

use crate::failure::Failure;

/// The names of options of QEMU whose values are secrets (QEMU, `qapi/crypto.json`, `SecretProperties`; `-spice`).
const SECRET: [&str; 3] = ["password", "proxy-password", "data"];

/// The fewest bytes of a secret: shorter texts occur by chance, and [`Record::redact`] refuses them.
const SHORTEST: usize = 4;

/// Takes the record of a machine that did not start out of the failure: it may be long, and has the secrets. `None` means
/// that the machine was not recorded, or that there was none.
pub(crate) fn take_from(failure: &mut Failure) -> Option<Record> {
    let Failure::NotStarted(error) = failure else { return None };
    let LaunchError::Failed { outcome, .. } = &mut **error else { return None };
    outcome.record.take()?.parse().ok()
}

/// The values of secret options among arguments of QEMU, the longest first: another one may be a part of it, and the rest
/// of it would stay visible.
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Finds the values, except those of fewer than four bytes.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let mut secrets = Vec::new();
        for argument in arguments {
            let argument = argument.to_string_lossy();
            match double_quoted(&argument).parse::<Value>() {
                Ok(json) => add_members(&json, &mut secrets),
                Err(_) => secrets.extend(options(&argument)),
            }
        }
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        Self(secrets)
    }

    /// Masks the values wherever they occur in a record.
    pub(crate) fn redact(&self, mut record: Record) -> Record {
        for secret in &self.0 {
            // None is too short.
            let _ = record.redact(secret);
        }
        record
    }

    /// Masks the values in a text that is printable.
    pub(crate) fn mask(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            let printable = UntrustedText::from(&**secret).to_string();
            text.replace(&printable, &"x".repeat(printable.len()))
        })
    }
}

/// Writes the number of the secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Returns JSON of QEMU, whose strings may be in single quotes and contain `\'`, as JSON (QEMU, `qobject/json-lexer.c` and
/// `qobject/json-parser.c`, `parse_string`).
fn double_quoted(json: &str) -> String {
    let (mut quote, mut is_escaped) = (None, false);
    let mut double = String::with_capacity(json.len());
    for character in json.chars() {
        match (quote, character) {
            (Some(_), '\'') if is_escaped => {
                // The backslash.
                double.pop();
                double.push('\'');
            }
            (Some('\''), '"') if !is_escaped => double.push_str("\\\""),
            (None, '\'' | '"') => {
                quote = Some(character);
                double.push('"');
            }
            (Some(begin), end) if end == begin && !is_escaped => {
                quote = None;
                double.push('"');
            }
            _ => double.push(character),
        }
        is_escaped = quote.is_some() && character == '\\' && !is_escaped;
    }
    double
}

/// Returns the values of secret options in `a=b,c=d`. A comma in a value is doubled (QEMU, `util/qemu-option.c`,
/// `get_opt_value`).
fn options(argument: &str) -> impl Iterator<Item = String> {
    // No argument has a NUL.
    let single = argument.replace(",,", "\0");
    let pairs: Vec<_> = single.split(',').filter_map(|pair| pair.split_once('=')).collect();
    let secrets = pairs.into_iter().filter(|(name, _)| SECRET.contains(name));
    secrets.map(|(_, value)| value.replace('\0', ",")).collect::<Vec<_>>().into_iter()
}

/// Adds the values of secret members (`-object '{"qom-type": "secret", …}'`).
fn add_members(json: &Value, secrets: &mut Vec<String>) {
    let members = json.as_object().into_iter().flatten();
    for (name, value) in members {
        match value.as_str() {
            Some(text) if SECRET.contains(&name.as_str()) => {
                // The record has the argument as it was given.
                secrets.extend([text.to_owned(), text.replace('\'', "\\'")]);
            }
            _ => add_members(value, secrets),
        }
    }
    json.as_array().into_iter().flatten().for_each(|item| add_members(item, secrets));
}

#[cfg(test)]
mod tests {
    use qemu_machine_blocking::Config;
    use qemu_machine_blocking::core::Machine;

    use super::Secrets;

    #[test]
    fn the_values_of_secret_options_are_masked() {
        let arguments = [
            "-object",
            "secret,id=a,data=hunter22,format=raw",
            "-object",
            r#"{"qom-type": "secret", "id": "b", "data": "hunter\n33"}"#,
            "-object",
            r#"{'qom-type': 'secret', 'id': "c'", 'data': 'hunter\'"44'}"#,
            "-object",
            r#"{'qom-type': 'secret', 'id': 'd', 'data': 'double"quoted'}"#,
            "-vnc",
            "password=hunt",
            "-spice",
            "port=1,password=a,,bcd",
            "-device",
            "edu,id=data",
            "data=abc",
        ];
        let config = Config::new("qemu").args(arguments).recorded();
        let record = Machine::new(config).unwrap().record().unwrap();
        let secrets = Secrets::of(&arguments.map(Into::into));
        let masked = secrets.redact(record).to_string();
        for secret in ["hunt", "er22", "33", "44", "double", "quoted", "bcd"] {
            assert!(!masked.contains(secret), "{masked}");
        }
        for other in ["data=xxxxxxxx,format=raw", "edu,id=data", "data=abc"] {
            assert!(masked.contains(other), "{masked}");
        }
        assert_eq!(secrets.mask("hunter22, hunt, edu".into()), "xxxxxxxx, xxxx, edu");
    }
}
