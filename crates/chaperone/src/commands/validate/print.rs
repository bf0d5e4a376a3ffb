//! How findings are shown: in words, or as one OperationOutcome a line.

use std::io::{self, Write};

use chaperone_fhir::finding::{Finding, Severity, to_operation_outcome};

use super::Format;

/// The findings of one text.
pub(super) struct Printed<'a> {
    /// The file, with the line of a stream.
    pub(super) name: &'a str,
    /// What was found.
    pub(super) findings: &'a [Finding],
    /// Whether texts without errors and warnings are passed over in words.
    pub(super) is_brief: bool,
}

impl Printed<'_> {
    pub(super) fn write(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        match format {
            Format::Json => {
                serde_json::to_writer(&mut *out, &to_operation_outcome(self.findings))?;
                writeln!(out)
            }
            Format::Text => self.write_words(out),
        }
    }

    fn write_words(&self, out: &mut impl Write) -> io::Result<()> {
        let count = |wanted: fn(Severity) -> bool| {
            self.findings
                .iter()
                .filter(|it| wanted(it.severity))
                .count()
        };
        let errors = count(Severity::is_error);
        let warnings = count(|it| it == Severity::Warning);
        if self.is_brief && errors == 0 && warnings == 0 {
            return Ok(());
        }
        let name = self.name;
        match (errors, warnings) {
            (0, 0) => writeln!(out, "{name}: no errors")?,
            (0, warnings) => writeln!(out, "{name}: no errors, {}", of(warnings, "warning"))?,
            (errors, 0) => writeln!(out, "{name}: {}", of(errors, "error"))?,
            (errors, warnings) => writeln!(
                out,
                "{name}: {}, {}",
                of(errors, "error"),
                of(warnings, "warning")
            )?,
        }
        for finding in self.findings {
            let place = finding
                .position
                .map_or_else(String::new, |it| format!("{}:{}", it.line, it.column));
            writeln!(
                out,
                "  {:<11} {place:<8} {}",
                finding.severity.code(),
                finding.expression
            )?;
            let rule = finding.details.as_ref().and_then(|it| it.line());
            let rule = rule.map_or_else(String::new, |rule| format!(" {rule}"));
            writeln!(
                out,
                "              {} [{}{rule}]",
                finding.message, finding.id
            )?;
        }
        Ok(())
    }
}

fn of(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use chaperone_fhir::finding::Position;
    use expect_test::{Expect, expect};

    use super::*;

    fn check(findings: &[Finding], is_brief: bool, expected: Expect) {
        let mut out = Vec::new();
        let printed = Printed {
            name: "a.json",
            findings,
            is_brief,
        };
        printed.write(Format::Text, &mut out).unwrap();
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn words() {
        let mut error = Finding::new(
            "structure.unknown-element",
            Severity::Error,
            "Patient.nam".to_owned(),
            "no such element".to_owned(),
        );
        error.position = Some(Position { line: 3, column: 7 });
        let warning = Finding {
            severity: Severity::Warning,
            position: None,
            ..error.clone()
        };
        check(&[], false, expect!["a.json: no errors\n"]);
        check(&[], true, expect![""]);
        check(
            &[error, warning],
            true,
            expect![[r#"
                a.json: 1 error, 1 warning
                  error       3:7      Patient.nam
                              no such element [structure.unknown-element]
                  warning              Patient.nam
                              no such element [structure.unknown-element]
            "#]],
        );
    }
}
