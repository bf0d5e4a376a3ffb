//! Free texts of a resource one by one, as a view names them: a string, a narrative, the content and the title of
//! an attachment, the display of a reference. Each comes out as plain text with slots, or not at all.
//!
//! Not here: whole resources ([`super::document`]), and which texts an agent may see ([`crate::view`]).
//! Start at [`Scrubber::scrub_passage`].

use serde_json::{Map, Value};

use super::class::Class;
use super::document::{decode, display_class};
use super::markup::{self, Names};
use super::search::Basis;
use super::slots::Slots;
use super::{Finding, Scrubbed, Scrubber, Withheld};

/// Endings of file names. What else stands behind a dot is part of the title.
const ENDINGS: [&str; 46] = [
    "pdf", "txt", "rtf", "doc", "docx", "odt", "htm", "html", "xml", "json", "csv", "xls", "xlsx",
    "ods", "ppt", "pptx", "jpg", "jpeg", "png", "gif", "tif", "tiff", "bmp", "webp", "heic", "svg",
    "dcm", "mp3", "mp4", "wav", "m4a", "mov", "avi", "mpg", "mpeg", "zip", "eml", "msg", "hl7",
    "cda", "ccd", "ccda", "ccr", "p7s", "p7m", "log",
];

/// A free text as it stands in a resource.
#[derive(Clone, Copy)]
pub enum FreeText<'v> {
    /// A string or markdown; it may hold markup.
    Text(&'v str),
    /// The XHTML of a narrative.
    Narrative(&'v str),
    /// The inline content of an attachment.
    Content {
        /// Its media type, as the source says.
        content_type: Option<&'v str>,
        /// The content in base64.
        data: &'v str,
    },
    /// The title of an attachment, often the name of a file.
    Title(&'v str),
    /// The display of a reference.
    Display {
        /// The element that the reference stands in, which may tell whom it names.
        element: &'v str,
        /// The reference.
        reference: &'v Map<String, Value>,
    },
}

impl Scrubber<'_> {
    /// The text a reader sees, with slots.
    ///
    /// # Errors
    /// [`Withheld`]: nothing of it must be shown.
    pub fn scrub_passage(
        &self,
        passage: FreeText<'_>,
        slots: &mut Slots,
    ) -> Result<Scrubbed, Withheld> {
        match passage {
            FreeText::Text(text) => self.scrub(&self.plain(text)?, slots),
            FreeText::Narrative(div) => {
                self.check_length(div)?;
                let text = markup::text_of(div, Names::Known);
                self.scrub(&self.plain(&text)?, slots)
            }
            FreeText::Content { content_type, data } => {
                // Four characters of base64 are three bytes; sources may break lines.
                let bytes_max = self.settings().budget.bytes_max;
                if data.len() / 2 > bytes_max {
                    return Err(Withheld::TooLong { bytes_max });
                }
                let bytes = decode(data).ok_or(Withheld::Unreadable)?;
                self.scrub(&self.readable(content_type, &bytes)?, slots)
            }
            FreeText::Title(title) => self.scrub_title(title, slots),
            FreeText::Display { element, reference } => {
                let display = reference.get("display").and_then(Value::as_str);
                let display = display.ok_or(Withheld::Unreadable)?;
                match display_class(element, reference) {
                    Some(class) => replaced(class, display, "", slots),
                    None => self.scrub_passage(FreeText::Text(display), slots),
                }
            }
        }
    }

    /// A title is scrubbed; the name of a file is replaced up to its ending.
    fn scrub_title(&self, title: &str, slots: &mut Slots) -> Result<Scrubbed, Withheld> {
        let file = title
            .rsplit_once('.')
            .map(|(stem, ending)| (stem, ending.to_ascii_lowercase()))
            .filter(|(stem, ending)| !stem.is_empty() && ENDINGS.contains(&ending.as_str()));
        match file {
            Some((stem, ending)) => {
                self.check_length(title)?;
                replaced(Class::Id, stem, &format!(".{ending}"), slots)
            }
            None => self.scrub_passage(FreeText::Text(title), slots),
        }
    }
}

/// A text that is an identifier as a whole.
fn replaced(
    class: Class,
    identifier: &str,
    behind: &str,
    slots: &mut Slots,
) -> Result<Scrubbed, Withheld> {
    let slot = slots.slot_for(class, identifier)?;
    Ok(Scrubbed {
        text: format!("{slot}{behind}"),
        findings: vec![Finding {
            class,
            basis: Basis::Pattern,
            start: 0,
            end: identifier.len(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::scrub::{Budget, Known, Lexicon, Settings};

    fn with_scrubber<T>(budget: Budget, work: impl FnOnce(&Scrubber<'_>) -> T) -> T {
        let lexicon = Lexicon::embedded().unwrap();
        let patient = json!({
            "resourceType": "Patient", "id": "p1", "birthDate": "1958-04-12",
            "name": [{ "family": "Quillfeather", "given": ["Ada"] }],
        });
        let known = Known::of_resources(lexicon, [&patient]).unwrap();
        let settings = Settings {
            budget,
            ..Settings::default()
        };
        work(&Scrubber::new(lexicon, &known, settings))
    }

    fn content<'v>(content_type: Option<&'v str>, data: &'v str) -> FreeText<'v> {
        FreeText::Content { content_type, data }
    }

    fn display<'v>(element: &'v str, reference: &'v Value) -> FreeText<'v> {
        FreeText::Display {
            element,
            reference: reference.as_object().unwrap(),
        }
    }

    #[test]
    fn every_form_comes_out_as_text_without_the_name() {
        let note = STANDARD.encode("Seen: Ada Quillfeather, stable");
        let html = STANDARD.encode("<p title='Quillfeather'>Ada <b>Quill</b>feather</p>");
        let to_person = json!({ "reference": "Practitioner/1", "display": "Someone Unlisted" });
        let to_thing = json!({ "reference": "Device/1", "display": "Pump of Ada Quillfeather" });
        with_scrubber(Budget::default(), |scrubber| {
            for (passage, shown) in [
                (FreeText::Text("Ada came"), "[NAME-1] came"),
                (
                    FreeText::Text("<i>Ada</i> Quill&#102;eather came"),
                    "[NAME-1] came",
                ),
                (
                    FreeText::Narrative("<div><p>Ada came</p></div>"),
                    "[NAME-1] came",
                ),
                (content(Some("text/plain"), &note), "Seen: [NAME-1], stable"),
                (content(Some("text/html"), &html), "[NAME-1]"),
                (FreeText::Title("Quillfeather_scan.PDF"), "[ID-1].pdf"),
                (FreeText::Title("visit.Ada"), "visit.[NAME-1]"),
                (FreeText::Title("Discharge letter"), "Discharge letter"),
                (display("performer", &to_person), "[NAME-1]"),
                (display("device", &to_thing), "Pump of [NAME-1]"),
            ] {
                let scrubbed = scrubber.scrub_passage(passage, &mut Slots::new()).unwrap();
                assert_eq!(scrubbed.text, shown);
            }
        });
    }

    #[test]
    fn what_is_no_text_or_too_much_is_withheld() {
        let budget = Budget {
            bytes_max: 64,
            ..Budget::default()
        };
        let long = "a ".repeat(40);
        let encoded = STANDARD.encode(&long);
        let pdf = STANDARD.encode("%PDF-1.7 Ada");
        with_scrubber(budget, |scrubber| {
            for passage in [
                FreeText::Text(&long),
                FreeText::Narrative(&long),
                FreeText::Title(&long),
                content(None, &encoded),
                content(Some("application/pdf"), &pdf),
                content(Some("text/plain"), &pdf),
                content(Some("image/png"), "QWRh"),
                content(Some("text/plain"), "!!! Ada"),
            ] {
                assert!(scrubber.scrub_passage(passage, &mut Slots::new()).is_err());
            }
        });
    }
}
