//! Decides how what was found is told: a page with an overview, the goals, and every number; and the plot beside it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::meter::Taken;
use crate::plan::{CLIENTS, Reading, Workload};
use crate::rounds::Found;
use crate::{goals, plot};

/// Writes the page and the plot to where they are kept.
///
/// # Errors
///
/// When they cannot be written.
pub fn write(found: &Found) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    plot::draw(found, &directory.join("speed.svg"))?;
    fs::write(directory.join("speed.md"), text(found)?)
}

/// The page.
///
/// # Errors
///
/// When the machine does not say what it is.
pub fn text(found: &Found) -> io::Result<String> {
    let mut page = format!("# Speed\n\n{}\n\n", machine()?);
    page += "Written by `cargo run --release --manifest-path tests/bench/Cargo.toml`. Client and server share one \
             processor. Medians;\nratios are to `raw`, the bare socket, in the same run.\n\n";
    page += &overview(found);
    page += "\n![curves](speed.svg)\n\n";
    page += &goals::text(found);
    for workload in workloads(found) {
        page += &table(found, workload);
    }
    Ok(page)
}

/// Where and when.
fn machine() -> io::Result<String> {
    let said = |program: &str, argument: &str| -> io::Result<String> {
        let output = Command::new(program).arg(argument).output()?.stdout;
        Ok(String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_string())
    };
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    Ok(format!(
        "{}, {count} processors ({model}), shared with others; Linux {}; {}; {}.",
        said("date", "+%F")?,
        said("uname", "-r")?,
        said("qemu-system-x86_64", "--version")?,
        said("rustc", "--version")?,
    ))
}

fn workloads(found: &Found) -> Vec<Workload> {
    let mut all: Vec<Workload> = found.keys().map(|(workload, _)| *workload).collect();
    all.dedup();
    all
}

/// What most want to know.
fn overview(found: &Found) -> String {
    let mut text = String::from(
        "| client | a command: µs, processor × raw | with QEMU: µs | 16 in flight: thousand/s | events: million/s of \
         processor | 207 KB as a value: ms of processor | 16 MB: MB above it | one of many connections: KB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for client in CLIENTS {
        let first = |wanted: fn(&Workload) -> bool| workloads(found).into_iter().rfind(wanted);
        let cell = |wanted: fn(&Workload) -> bool, tell: &dyn Fn(Workload, Taken) -> String| {
            let cell = first(wanted).and_then(|workload| Some((workload, *found.get(&(workload, client))?)));
            cell.map_or_else(|| "–".to_string(), |(workload, taken)| tell(workload, taken))
        };
        let each = |workload: Workload, seconds: f64| seconds / workload.units() as f64;
        let cells = [
            cell(|workload| matches!(workload, Workload::Turns(_)), &|workload, taken| {
                let ratio = ratio(found, workload, taken.cpu, |raw| raw.cpu);
                format!("{:.1}, {ratio}", each(workload, taken.wall) * 1e6)
            }),
            cell(|workload| matches!(workload, Workload::Qemu(_)), &|workload, taken| {
                format!("{:.0}", each(workload, taken.wall) * 1e6)
            }),
            cell(|workload| matches!(workload, Workload::InFlight(16, _)), &|workload, taken| {
                format!("{:.0}", 1e-3 / each(workload, taken.wall))
            }),
            cell(|workload| matches!(workload, Workload::Flood(_)), &|workload, taken| {
                let lost = 100.0 - 100.0 * taken.count / workload.units() as f64;
                let lost = if lost > 0.0 { format!(", {lost:.0} % lost") } else { String::new() };
                format!("{:.2}{lost}", 1e-6 / each(workload, taken.cpu))
            }),
            cell(
                |workload| matches!(workload, Workload::Large(bytes, _, Reading::Value) if *bytes < 1 << 20),
                &|workload, taken| format!("{:.2}", each(workload, taken.cpu) * 1e3),
            ),
            cell(|workload| matches!(workload, Workload::Large(16_777_216, _, Reading::Value)), &|_, taken| {
                format!("{:.0}", taken.peak / 1024.0 - 16.0)
            }),
            cell(
                |workload| matches!(workload, Workload::Connections(connections, _) if *connections >= 50),
                &|_, taken| format!("{:.1}", taken.count),
            ),
        ];
        let _ = writeln!(text, "| {client} | {} |", cells.join(" | "));
    }
    text
}

fn ratio(found: &Found, workload: Workload, mine: f64, of: fn(&Taken) -> f64) -> String {
    let limit = found.get(&(workload, workload.clients()[0]));
    limit.map_or_else(String::new, |raw| format!("{:.2}", mine / of(raw)))
}

/// Every number of one workload.
pub fn table(found: &Found, workload: Workload) -> String {
    let mut text = format!("\n## {}\n\n", workload.title());
    if workload == Workload::Size {
        text += "| client | crates | processor to build, s | stripped, KB |\n|---|---|---|---|\n";
        for (client, taken) in clients(found, workload) {
            let _ = writeln!(text, "| {client} | {} | {:.0} | {:.0} |", taken.count, taken.cpu, taken.peak);
        }
        return text;
    }
    text += "| client | µs each | × | µs of processor | × | memory at most, KB | counted |\n|---|---|---|---|---|---|---|\n";
    for (client, taken) in clients(found, workload) {
        let each = 1e6 / workload.units() as f64;
        let _ = writeln!(
            text,
            "| {client} | {:.2} | {} | {:.3} | {} | {:.0} | {} |",
            taken.wall * each,
            ratio(found, workload, taken.wall, |raw| raw.wall),
            taken.cpu * each,
            ratio(found, workload, taken.cpu, |raw| raw.cpu),
            taken.peak,
            taken.count,
        );
    }
    text
}

fn clients(found: &Found, workload: Workload) -> impl Iterator<Item = (&'static str, Taken)> {
    workload.clients().iter().filter_map(move |client| Some((*client, *found.get(&(workload, *client))?)))
}
