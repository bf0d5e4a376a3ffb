//! The matrix as a table: what clinical owners read and sign.
//!
//! Rendered from the policies that rule, never kept beside them. Resource, action and intent are read
//! off a policy's own conditions; its conditions in words are its `@text`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bundle::Bundle;
use crate::row::{Action, Demand, Meaning};
use crate::ruling::DEFAULT_DENY;
use crate::set::Entry;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MatrixRow {
    /// Number in the matrix; for escalators the word `escalator`.
    pub row: String,
    /// Types of resource, or `any`.
    pub resource: String,
    /// Interaction, destination and statuses, or `any`.
    pub action: String,
    /// Intents, or `any`.
    pub intent: String,
    /// Conditions and outcome in plain words.
    pub conditions: String,
    /// The gate.
    pub gate: String,
    /// Who decides when the gate is raised, or who is asked; empty for a denial.
    pub deciders: String,
    /// The class; empty where every class is meant.
    pub class: String,
    /// The least proof level; empty for a denial.
    pub proof: String,
    /// Who is told.
    pub notify: String,
    /// The policy.
    pub policy: String,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Name of the bundle.
    pub bundle: String,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// The lines, by row number.
    pub rows: Vec<MatrixRow>,
}

impl Bundle {
    /// The matrix of this bundle.
    ///
    /// # Source
    /// Declaring exactly what may be written, and exporting it (requirement R021).
    pub fn matrix(&self) -> Matrix {
        let mut rows: Vec<MatrixRow> = self
            .sets
            .in_order()
            .into_iter()
            .filter(|entry| entry.action != Action::Access)
            .map(render)
            .collect();
        rows.push(MatrixRow {
            row: "65".to_owned(),
            resource: "not listed".to_owned(),
            action: "any".to_owned(),
            intent: "any".to_owned(),
            conditions: "What no row allows is refused.".to_owned(),
            gate: "deny".to_owned(),
            deciders: String::new(),
            class: String::new(),
            proof: String::new(),
            notify: String::new(),
            policy: DEFAULT_DENY.to_owned(),
        });
        rows.sort_by_key(|row| order(&row.row));
        Matrix {
            bundle: self.manifest().name.clone(),
            version: self.version().to_owned(),
            digest: self.digest().to_string(),
            rows,
        }
    }
}

/// Rows by number and letter, escalators last.
pub(crate) fn order(row: &str) -> (u32, String) {
    let digits: String = row.chars().take_while(char::is_ascii_digit).collect();
    (digits.parse().unwrap_or(u32::MAX), row.to_owned())
}

fn render(entry: &Entry) -> MatrixRow {
    let or_any = |texts: &[String]| {
        if texts.is_empty() {
            "any".to_owned()
        } else {
            texts.join(", ")
        }
    };
    let shape = &entry.shape;
    let mut action = Vec::new();
    action.extend(shape.interactions.iter().cloned());
    if !shape.statuses.is_empty() {
        action.push(format!("to {}", shape.statuses.join(", ")));
    }
    if shape
        .destinations
        .iter()
        .any(|destination| destination == "staged")
    {
        action.push("held in Chaperone".to_owned());
    }
    let names = |roles: &[chaperone_core::principal::Role]| {
        roles
            .iter()
            .map(|role| role.as_str())
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let mut rendered = MatrixRow {
        row: "escalator".to_owned(),
        resource: or_any(&entry.resources),
        action: or_any(&action),
        intent: or_any(&shape.intents),
        conditions: entry.text.clone(),
        gate: "deny".to_owned(),
        deciders: String::new(),
        class: String::new(),
        proof: String::new(),
        notify: String::new(),
        policy: entry.id.as_str().to_owned(),
    };
    match &entry.meaning {
        Meaning::Row(row) => {
            let deciders: Vec<_> = row.deciders.iter().copied().collect();
            rendered.row = row.number.clone();
            rendered.gate = row.gate.to_string();
            rendered.deciders = names(&deciders);
            rendered.class = row.class.to_string();
            rendered.proof = row.proof.to_string();
            rendered.notify = names(&row.notify);
        }
        Meaning::Escalator(escalator) => {
            rendered.gate = format!("at least {}", escalator.level.as_str());
            rendered.deciders = match &escalator.demand {
                Demand::Deciders => "as the row".to_owned(),
                Demand::AnyOf(roles) => names(&roles.iter().copied().collect::<Vec<_>>()),
                Demand::Both(first, second) => format!("{first} and {second}"),
            };
            rendered.notify = names(&escalator.notify);
        }
        Meaning::Prohibition(prohibition) => {
            if let Some(number) = &prohibition.number {
                rendered.row.clone_from(number);
            }
        }
        Meaning::Access => {}
    }
    rendered
}

impl MatrixRow {
    const HEADINGS: [&str; 11] = [
        "row",
        "resource",
        "action",
        "intent",
        "conditions",
        "gate",
        "deciders",
        "class",
        "proof",
        "notify",
        "policy",
    ];

    fn cells(&self) -> [&str; 11] {
        [
            &self.row,
            &self.resource,
            &self.action,
            &self.intent,
            &self.conditions,
            &self.gate,
            &self.deciders,
            &self.class,
            &self.proof,
            &self.notify,
            &self.policy,
        ]
    }
}

impl Matrix {
    /// As a Markdown table under a heading that names the bundle.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# Write-back matrix: {} {}\n\nBundle digest `{}`.\n",
            self.bundle, self.version, self.digest
        );
        out.push_str(&markdown_table(
            &MatrixRow::HEADINGS,
            self.rows.iter().map(MatrixRow::cells),
        ));
        out
    }

    /// As comma-separated values with a header line.
    ///
    /// # Source
    /// RFC 4180.
    pub fn csv(&self) -> String {
        csv_table(&MatrixRow::HEADINGS, self.rows.iter().map(MatrixRow::cells))
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A table in Markdown, headings first.
pub(crate) fn markdown_table<'a, const N: usize>(
    headings: &[&str; N],
    rows: impl Iterator<Item = [&'a str; N]>,
) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "| {} |", headings.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

/// A table as comma-separated values, headings first.
///
/// # Source
/// RFC 4180.
pub(crate) fn csv_table<'a, const N: usize>(
    headings: &[&str; N],
    rows: impl Iterator<Item = [&'a str; N]>,
) -> String {
    let mut out = format!("{}\r\n", headings.join(","));
    for row in rows {
        out.push_str(&row.map(csv_cell).join(","));
        out.push_str("\r\n");
    }
    out
}

fn csv_cell(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_escaped_and_rows_are_in_order() {
        assert_eq!(csv_cell("a, \"b\""), "\"a, \"\"b\"\"\"");
        let mut rows = vec!["escalator", "34a", "9", "35", "34"];
        rows.sort_by_key(|row| order(row));
        assert_eq!(rows, ["9", "34", "34a", "35", "escalator"]);
    }
}
