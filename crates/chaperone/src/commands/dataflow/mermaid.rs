//! The diagram as a Mermaid flowchart: thick lines carry PHI, dotted ones were never seen, red ones are not declared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chaperone_core::egress::DataClass;
use chaperone_engine::dataflow::{Column, Comparison, DataFlow};

use super::label;

/// How many elements stand on a line.
const ON_A_LINE: usize = 2;

/// Draws it.
pub(super) fn draw(declared: &DataFlow, comparison: Option<&Comparison>) -> String {
    let mut out = String::from("flowchart LR\n");
    let _ = writeln!(out, "  %% bundle {}", plain(&declared.bundle));
    let _ = writeln!(out, "  %% regions {}", plain(&declared.regions.join(", ")));
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for (at, column) in Column::ALL.into_iter().enumerate() {
        let nodes = declared.nodes.iter().filter(|node| node.column == column);
        let _ = writeln!(out, "  subgraph c{at}[\"{}\"]", escaped(column.title()));
        for (number, node) in nodes.enumerate() {
            let name = format!("n{at}_{number}");
            let notes: String = node
                .notes
                .iter()
                .map(|note| format!("<br/>{}", escaped(note)))
                .collect();
            let _ = writeln!(
                out,
                "    {name}[\"<b>{}</b>{notes}\"]",
                escaped(&node.title)
            );
            names.insert(&node.id, name);
        }
        out.push_str("  end\n");
    }
    let mut lines = 0_usize;
    for flow in &declared.flows {
        let (Some(from), Some(to)) = (names.get(flow.from.as_str()), names.get(flow.to.as_str()))
        else {
            continue;
        };
        let is_unseen = comparison.is_some_and(|comparison| {
            let is_this = |it: &&chaperone_engine::dataflow::observed::Difference| {
                it.from == flow.from && it.to == flow.to && it.what.is_empty()
            };
            comparison.never_seen.iter().any(|it| is_this(&it))
        });
        let arrow = match flow.class {
            _ if is_unseen => "-.->",
            DataClass::Phi => "==>",
            _ => "-->",
        };
        let text = label(flow.class.as_str(), flow.what.iter().cloned(), ON_A_LINE);
        let _ = writeln!(out, "  {from} {arrow}|\"{}\"| {to}", escaped(&text));
        lines += 1;
    }
    for (number, difference) in comparison
        .iter()
        .flat_map(|comparison| &comparison.undeclared)
        .enumerate()
    {
        // What is not declared may have no node either.
        let mut end = |id: &str, side: &str| match names.get(id) {
            Some(name) => name.clone(),
            None => {
                let name = format!("u{number}_{side}");
                let _ = writeln!(out, "  {name}[\"{} (not declared)\"]", escaped(id));
                name
            }
        };
        let (from, to) = (end(&difference.from, "a"), end(&difference.to, "b"));
        let text = label("not declared", difference.what.iter().cloned(), ON_A_LINE);
        let _ = writeln!(out, "  {from} ==>|\"{}\"| {to}", escaped(&text));
        let _ = writeln!(out, "  linkStyle {lines} stroke:#c00,stroke-width:4px");
        lines += 1;
    }
    out
}

/// Text inside quotes: what would end it, or begin markup, is written as an entity.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("#quot;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '#' => out.push_str("#35;"),
            '`' => out.push_str("#96;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text of a comment: one line.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_bundle_cannot_change_the_drawing() {
        assert_eq!(
            escaped("a\"] --> b<script>`x`#\n"),
            "a#quot;] --#gt; b#lt;script#gt;#96;x#96;#35; "
        );
    }
}
