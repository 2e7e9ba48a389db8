//! Picture of a guest that is booted once: how long a boot, a reset, a clone and a command take.

use std::io;
use std::path::Path;

use plotters::element::Rectangle;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::clients::other;
use crate::plan::Workload;
use crate::rounds::Found;

/// Text of a bar, with the workload and the client that it shows.
type Bar = (&'static str, fn(Workload) -> bool, &'static str);

/// The bars from the bottom to the top.
const BARS: [Bar; 6] = [
    ("a QMP command", is_template, "command"),
    ("launch of QEMU alone", is_template, "launch"),
    ("clone, until its guest runs", is_template, "load"),
    ("clone, to the guest's first answer", is_template, "clone"),
    ("loadvm, to the guest's first answer", is_reset, "loadvm"),
    ("boot, to the guest's first answer", is_template, "boot"),
];

fn is_template(workload: Workload) -> bool {
    matches!(workload, Workload::Template(_))
}

fn is_reset(workload: Workload) -> bool {
    matches!(workload, Workload::Resets(_))
}

/// Draws the bars into a file, on a logarithmic axis. Without results of templates there is no picture.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw(found: &Found, file: &Path) -> io::Result<()> {
    let each = |wanted: fn(Workload) -> bool, client: &str| {
        let ((workload, _), taken) = found.iter().find(|((workload, of), _)| wanted(*workload) && *of == client)?;
        Some(taken.wall * 1e3 / workload.units() as f64)
    };
    let bars: Vec<_> = BARS.iter().filter_map(|(text, wanted, client)| Some((*text, each(*wanted, client)?))).collect();
    let Some(longest) = bars.iter().map(|(_, ms)| *ms).reduce(f64::max) else { return Ok(()) };
    let area = SVGBackend::new(file, (900, 320)).into_drawing_area();
    area.fill(&WHITE).map_err(other)?;
    // There is room for the number at the end of the longest bar.
    let (least, most) = (0.01, longest * 6.0);
    let mut chart = ChartBuilder::on(&area)
        .caption("a guest that is booted once: milliseconds", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(260)
        .build_cartesian_2d((least..most).log_scale(), 0.0..bars.len() as f64)
        .map_err(other)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|ms| ms.to_string())
        .draw()
        .map_err(other)?;
    for (row, (text, ms)) in bars.into_iter().enumerate() {
        let (low, middle) = (row as f64 + 0.2, row as f64 + 0.5);
        let color = if text.starts_with("clone") { RGBColor(20, 80, 200) } else { RGBColor(150, 150, 150) };
        let bar = Rectangle::new([(least, low), (ms, low + 0.6)], color.filled());
        let style = |side| ("sans-serif", 15).into_font().color(&BLACK).pos(Pos::new(side, VPos::Center));
        let number = if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") };
        let number = EmptyElement::at((ms, middle)) + Text::new(number, (6, 0), style(HPos::Left));
        let name = EmptyElement::at((least, middle)) + Text::new(text, (-8, 0), style(HPos::Right));
        chart.draw_series([bar]).map_err(other)?;
        chart.plotting_area().draw(&number).map_err(other)?;
        chart.plotting_area().draw(&name).map_err(other)?;
    }
    area.present().map_err(other)
}
