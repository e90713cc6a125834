//! The report as one HTML page without scripts or outside resources.

use super::Report;
use super::terminal::grouped;
use std::fmt::Write;

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// The page.
pub fn html(r: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = print(&mut out, r);
    out
}

fn print(out: &mut String, r: &Report) -> std::fmt::Result {
    let name = escape(&r.name);
    write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title><style>\
         body{{font:14px system-ui;margin:2em;max-width:70em}}table{{border-collapse:collapse}}\
         td,th{{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}}td.n{{text-align:right}}\
         .bar{{background:#47a;height:.8em;display:inline-block}}</style><h1>{name}</h1><table>"
    )?;
    for (k, v) in [
        ("MACs", r.macs),
        ("parameters", r.params),
        ("ROM bytes", r.rom_bytes as u64),
        ("RAM bytes", r.ram_bytes as u64),
        ("RAM lower bound", r.arena_lower_bound_bytes as u64),
    ] {
        write!(out, "<tr><th>{k}<td class=n>{}", grouped(v))?;
    }
    write!(out, "</table><h2>Layers</h2><table><tr><th>#<th>kernel<th>MACs<th>share<th>output<th>nodes")?;
    for l in &r.layers {
        let share = if r.macs == 0 { 0.0 } else { 100.0 * l.macs as f64 / r.macs as f64 };
        let nodes = if l.nodes.is_empty() { l.note.clone() } else { l.nodes.join(" + ") };
        write!(
            out,
            "<tr><td class=n>{}<td>{}<td class=n>{}<td><span class=bar style=\"width:{share:.1}px\"></span> \
             {share:.1} %<td>{} {:?}<td>{}",
            l.index,
            escape(&l.kernel),
            grouped(l.macs),
            escape(&l.dtype),
            l.out_shape,
            escape(&nodes)
        )?;
    }
    writeln!(out, "</table></html>")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_cannot_inject_markup() {
        assert_eq!(escape("<b a=\"&\">"), "&lt;b a=&quot;&amp;&quot;&gt;");
    }
}
