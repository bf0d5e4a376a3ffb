//! The diagram as an SVG image: one column for each kind of node, lines between them. No program and no font of
//! somebody else's is needed, and the same bundle gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chaperone_core::egress::DataClass;
use chaperone_engine::dataflow::{Column, Comparison, DataFlow, Node};

use super::label;

/// Sizes in pixels.
const BOX_WIDTH: usize = 250;
const COLUMN_GAP: usize = 110;
const ROW_GAP: usize = 14;
const MARGIN: usize = 24;
const HEAD: usize = 96;
const TITLE_HEIGHT: usize = 24;
const NOTE_HEIGHT: usize = 15;
/// Characters that fit into a box.
const LINE_CHARACTERS: usize = 40;
/// How many elements stand in the title of a line.
const IN_A_TITLE: usize = 200;

#[derive(Clone, Copy)]
struct Place {
    x: usize,
    y: usize,
    height: usize,
}

/// Draws it.
pub(super) fn draw(declared: &DataFlow, comparison: Option<&Comparison>) -> String {
    let mut places: BTreeMap<&str, Place> = BTreeMap::new();
    let mut boxes = String::new();
    let mut bottom = HEAD;
    for (at, column) in Column::ALL.into_iter().enumerate() {
        let x = MARGIN + at * (BOX_WIDTH + COLUMN_GAP);
        let _ = writeln!(
            boxes,
            "<text class=\"column\" x=\"{x}\" y=\"{}\">{}</text>",
            HEAD - 12,
            escaped(column.title())
        );
        let mut y = HEAD;
        for node in declared.nodes.iter().filter(|node| node.column == column) {
            let height = TITLE_HEIGHT + NOTE_HEIGHT * node.notes.len() + 6;
            let place = Place { x, y, height };
            draw_node(&mut boxes, node, place);
            places.insert(&node.id, place);
            y += height + ROW_GAP;
        }
        bottom = bottom.max(y);
    }
    let mut lines = String::new();
    for flow in &declared.flows {
        let (Some(from), Some(to)) = (places.get(flow.from.as_str()), places.get(flow.to.as_str()))
        else {
            continue;
        };
        let is_unseen = comparison.is_some_and(|comparison| {
            comparison
                .never_seen
                .iter()
                .any(|it| it.from == flow.from && it.to == flow.to && it.what.is_empty())
        });
        let class = if is_unseen {
            "unseen"
        } else {
            class_of(flow.class)
        };
        let what = label(flow.class.as_str(), flow.what.iter().cloned(), IN_A_TITLE);
        let title = format!("{} → {}: {what}", flow.from, flow.to);
        draw_line(&mut lines, *from, *to, class, &title);
    }
    let undeclared: Vec<_> = comparison.iter().flat_map(|it| &it.undeclared).collect();
    for difference in &undeclared {
        let ends = (
            places.get(difference.from.as_str()),
            places.get(difference.to.as_str()),
        );
        if let (Some(from), Some(to)) = ends {
            let what = label("not declared", difference.what.iter().cloned(), IN_A_TITLE);
            let title = format!("{} → {}: {what}", difference.from, difference.to);
            draw_line(&mut lines, *from, *to, "undeclared", &title);
        }
    }
    // What is not declared may have no place; it is named below all the same.
    for difference in &undeclared {
        bottom += NOTE_HEIGHT + 3;
        let text = format!(
            "not declared: {} → {} {}",
            difference.from,
            difference.to,
            difference.what.join(", ")
        );
        let _ = writeln!(
            boxes,
            "<text class=\"bad\" x=\"{MARGIN}\" y=\"{bottom}\">{}</text>",
            escaped(&text)
        );
    }
    let width = MARGIN * 2 + Column::ALL.len() * BOX_WIDTH + (Column::ALL.len() - 1) * COLUMN_GAP;
    let height = bottom + MARGIN;
    let seen = comparison.map_or_else(String::new, |comparison| {
        format!("; {} entries of the ledger compared", comparison.entries)
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>Data flows of bundle {bundle}</title>\n{STYLE}\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text class=\"head\" x=\"{MARGIN}\" y=\"30\">Data flows of bundle {bundle}</text>\n\
         <text x=\"{MARGIN}\" y=\"50\">Pinned regions: {regions}{seen}. Red lines carry PHI, amber de-identified \
         data, green operational data, grey nothing of patients; dotted ones were never seen.</text>\n\
         {lines}{boxes}</svg>",
        bundle = escaped(&declared.bundle),
        regions = escaped(&declared.regions.join(", ")),
    )
}

const STYLE: &str = "<style>text{font:12px sans-serif;fill:#222}.head{font-size:18px;font-weight:bold}\
.column{font-size:14px;font-weight:bold}.title{font-weight:bold}.bad{fill:#c00;font-weight:bold}\
rect.node{fill:#f6f8fa;stroke:#667}path{fill:none;stroke-width:1.2;opacity:.55}path:hover{stroke-width:4;opacity:1}\
.phi{stroke:#b3261e}.de-identified{stroke:#b26a00}.operational{stroke:#1b7f4d}.none{stroke:#888}\
.unseen{stroke:#888;stroke-dasharray:3 4}.undeclared{stroke:#c00;stroke-width:4;opacity:1}</style>";

fn class_of(class: DataClass) -> &'static str {
    class.as_str()
}

fn draw_node(out: &mut String, node: &Node, place: Place) {
    let Place { x, y, height } = place;
    let _ = writeln!(
        out,
        "<rect class=\"node\" x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{height}\" rx=\"5\"/>"
    );
    let _ = writeln!(
        out,
        "<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>",
        x + 8,
        y + 17,
        escaped(&cut(&node.title))
    );
    for (at, note) in node.notes.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\">{}</text>",
            x + 8,
            y + 17 + NOTE_HEIGHT * (at + 1),
            escaped(&cut(note))
        );
    }
}

/// From side to side; between two nodes of one column, around on the right.
fn draw_line(out: &mut String, from: Place, to: Place, class: &str, title: &str) {
    let middle = |place: Place| place.y + place.height / 2;
    let (start, end, bend_start, bend_end) = match from.x.cmp(&to.x) {
        std::cmp::Ordering::Less => {
            let (start, end) = (from.x + BOX_WIDTH, to.x);
            (start, end, start + COLUMN_GAP / 2, end - COLUMN_GAP / 2)
        }
        std::cmp::Ordering::Greater => {
            let (start, end) = (from.x, to.x + BOX_WIDTH);
            (start, end, start - COLUMN_GAP / 2, end + COLUMN_GAP / 2)
        }
        std::cmp::Ordering::Equal => {
            let side = from.x + BOX_WIDTH;
            (side, side, side + COLUMN_GAP / 2, side + COLUMN_GAP / 2)
        }
    };
    // Lines there and back do not lie on each other.
    let (shift_from, shift_to) = if from.x <= to.x { (0, 0) } else { (5, 5) };
    let (a, b) = (middle(from) + shift_from, middle(to) + shift_to);
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"M{start} {a} C{bend_start} {a} {bend_end} {b} {end} {b}\"><title>{}</title></path>",
        escaped(title)
    );
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LINE_CHARACTERS {
        return text.to_owned();
    }
    let kept: String = text.chars().take(LINE_CHARACTERS - 1).collect();
    format!("{kept}…")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_bundle_cannot_change_the_drawing() {
        assert_eq!(
            escaped("<a href=\"x\">&\u{7}"),
            "&lt;a href=&quot;x&quot;&gt;&amp; "
        );
        assert_eq!(cut(&"é".repeat(41)).chars().count(), 40);
    }
}
