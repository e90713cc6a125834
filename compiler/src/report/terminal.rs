//! The report as text.

use super::Report;
use std::fmt::Write;

fn shape(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// Digits in groups of three.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// A table of layers, with totals.
pub fn terminal(r: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = print(&mut out, r);
    out
}

fn print(out: &mut String, r: &Report) -> std::fmt::Result {
    writeln!(out, "{}  (opset {}, sha256 {})", r.name, r.opset, r.sha256.get(..12).unwrap_or_default())?;
    for (what, ports) in [("input", &r.inputs), ("output", &r.outputs)] {
        for p in ports {
            let dims = p.shape.iter().enumerate().map(|(i, d)| match p.at_most {
                Some(axis) if axis == i => format!("≤{d}"),
                _ => d.to_string(),
            });
            let dims: Vec<String> = dims.collect();
            writeln!(out, "{what:<8}{}: {}[{}] {}", p.name, p.dtype, dims.join(", "), p.layout)?;
            for (kind, list) in [("positions in", &p.labels), ("columns", &p.columns)] {
                if !list.is_empty() {
                    writeln!(out, "{:<8}  {kind}: {}", "", list.join(", "))?;
                }
            }
        }
    }
    for s in &r.states {
        match s.carried {
            true => writeln!(out, "{:<8}{} of the next run is {}", "state", s.input, s.output)?,
            false => writeln!(out, "{:<8}perhaps: `--stateful {}={}`", "state", s.input, s.output)?,
        }
    }
    writeln!(out, "\n{:>4}  {:<10} {:>14}  {:<6}{:<22} nodes", "", "kernel", "MACs", "dtype", "output")?;
    for l in &r.layers {
        let nodes = match (l.nodes.is_empty(), l.note.is_empty()) {
            (true, _) => format!("({})", l.note),
            (false, true) => l.nodes.join(" + "),
            (false, false) => format!("{} ({})", l.nodes.join(" + "), l.note),
        };
        writeln!(
            out,
            "{:>4}  {:<10} {:>14}  {:<6}{:<22} {nodes}",
            l.index,
            l.kernel,
            grouped(l.macs),
            l.dtype,
            shape(&l.out_shape)
        )?;
    }
    let excess = if r.arena_lower_bound_bytes == 0 {
        0.0
    } else {
        100.0 * (r.arena_bytes as f64 / r.arena_lower_bound_bytes as f64 - 1.0)
    };
    let tail = 100.0 * r.long_tail_share;
    writeln!(out, "\nMACs        {:>14}  ({tail:.1} % in Loops and Routine)", grouped(r.macs))?;
    writeln!(out, "parameters  {:>14}", grouped(r.params))?;
    writeln!(out, "ROM         {:>14} bytes of weights", grouped(r.rom_bytes as u64))?;
    writeln!(
        out,
        "RAM         {:>14} bytes  (lower bound {}, {excess:+.1} %)",
        grouped(r.ram_bytes as u64),
        grouped(r.arena_lower_bound_bytes as u64)
    )?;
    if r.state_bytes > 0 {
        writeln!(out, "state       {:>14} bytes of it", grouped(r.state_bytes as u64))?;
    }
    let fired: Vec<String> = r.passes.iter().map(|(n, c)| format!("{n} × {c}")).collect();
    writeln!(out, "passes      {}", fired.join(", "))
}
