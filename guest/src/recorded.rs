//! Record of a run: that of a launch that failed, and the secrets in it.

use std::ffi::OsString;

use qemu_machine_blocking::record::Record;
use qemu_machine_blocking::{LaunchError, Value};

use crate::failure::Failure;

/// The names of options of QEMU whose values are secrets (QEMU, `qapi/crypto.json`, `SecretProperties`; `-spice`).
const SECRET: [&str; 3] = ["password", "proxy-password", "data"];

/// Returns the record of a machine that did not start. `None` means that it was not recorded, or that there was none.
pub(crate) fn of_failure(failure: &Failure) -> Option<Record> {
    let Failure::NotStarted(error) = failure else { return None };
    let LaunchError::Failed { outcome, .. } = &**error else { return None };
    outcome.record.as_deref()?.parse().ok()
}

/// Masks the values of secret options among these arguments of QEMU, wherever they occur in the record. Values of fewer than
/// four bytes stay.
pub(crate) fn without_secrets(mut record: Record, arguments: &[OsString]) -> Record {
    let mut secrets = Vec::new();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        match argument.parse::<Value>() {
            Ok(json) => add_members(&json, &mut secrets),
            Err(_) => secrets.extend(options(&argument)),
        }
    }
    for secret in secrets {
        // It is too short otherwise.
        let _ = record.redact(&secret);
    }
    record
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
            Some(text) if SECRET.contains(&name.as_str()) => secrets.push(text.to_owned()),
            _ => add_members(value, secrets),
        }
    }
    json.as_array().into_iter().flatten().for_each(|item| add_members(item, secrets));
}

#[cfg(test)]
mod tests {
    use qemu_machine_blocking::Config;
    use qemu_machine_blocking::core::Machine;

    use super::without_secrets;

    #[test]
    fn the_values_of_secret_options_are_masked() {
        let arguments = [
            "-object",
            "secret,id=a,data=hunter22,format=raw",
            "-object",
            r#"{"qom-type": "secret", "id": "b", "data": "hunter\n33"}"#,
            "-spice",
            "port=1,password=a,,bcd",
            "-device",
            "edu,id=data",
            "data=abc",
        ];
        let config = Config::new("qemu").args(arguments).recorded();
        let record = Machine::new(config).unwrap().record().unwrap();
        let masked = without_secrets(record, &arguments.map(Into::into)).to_string();
        for secret in ["hunter22", "33", "bcd"] {
            assert!(!masked.contains(secret), "{masked}");
        }
        for other in ["data=xxxxxxxx,format=raw", "edu,id=data", "data=abc"] {
            assert!(masked.contains(other), "{masked}");
        }
    }
}
