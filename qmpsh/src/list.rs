//! List of the machines that this user has launched to outlive their programs, for `--list`.

use std::io::{self, Write};

use qemu_machine_blocking::{Presence, Registered, json, registered};

use crate::failure::Failure;
use crate::show::{Layout, printable};

/// Prints the list: a line for each machine, or with the compact layout a JSON object for each.
pub(crate) fn list(layout: Option<Layout>) -> Result<(), Failure> {
    let machines = registered().map_err(|fault| Failure::Lost(fault.to_string()))?;
    let text = match layout {
        Some(Layout::Compact) => machines.iter().map(object).collect(),
        _ if machines.is_empty() => "no machines\n".to_owned(),
        _ => table(&machines),
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::Lost(format!("cannot write the list: {error}")))
}

fn state(presence: &Presence) -> &'static str {
    match presence {
        Presence::InUse => "in use",
        Presence::Left => "left",
        Presence::Ended => "ended",
        _ => "unknown",
    }
}

fn object(machine: &Registered) -> String {
    let fault = if let Presence::Unknown(fault) = &machine.presence { Some(fault.to_string()) } else { None };
    let object = json!({"identity": machine.identity, "state": state(&machine.presence), "fault": fault});
    format!("{object}\n")
}

/// Returns the columns: as wide as their longest value, the last one at the end of the line.
fn table(machines: &[Registered]) -> String {
    let heading = ["NAME", "PID", "STATE", "MONITOR"].map(str::to_owned);
    let row = |machine: &Registered| {
        let identity = &machine.identity;
        let state = match &machine.presence {
            Presence::Unknown(fault) => format!("unknown ({})", fault.reason),
            known => state(known).to_owned(),
        };
        [printable(&identity.name), identity.pid.to_string(), state, printable(&identity.monitor)]
    };
    let rows: Vec<_> = [heading].into_iter().chain(machines.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2].map(width);
    let line = |[name, pid, state, monitor]: &[String; 4]| {
        let [first, second, third] = widths;
        format!("{name:first$}  {pid:>second$}  {state:third$}  {monitor}\n")
    };
    rows.iter().map(line).collect()
}
