//! Resources that the caller brings: what references lead to, and definitions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::json::{Document, JsonLimits, Value};
use chaperone_fhir::validator::Supporting;

use crate::package_store::read_bounded;

/// Files that were read, for as long as the program runs.
pub(super) struct SupportingFiles {
    documents: Vec<Document<'static>>,
    /// Reference to the document, and the entry of a Bundle.
    places: BTreeMap<String, (usize, Option<usize>)>,
}

impl SupportingFiles {
    /// Reads files; definitions also go into the catalogue.
    pub(super) fn read(files: &[PathBuf], catalogue: &mut Catalogue) -> anyhow::Result<Self> {
        let mut read = Self {
            documents: Vec::with_capacity(files.len()),
            places: BTreeMap::new(),
        };
        for file in files {
            let limits = JsonLimits::default();
            let bytes = read_bounded(file, limits.bytes_max as u64)?;
            let name = file.display().to_string();
            catalogue
                .add_resource(&name, &bytes)
                .with_context(|| format!("`{name}` is no FHIR resource"))?;
            // Resolved references borrow from these texts until the program ends.
            let bytes: &'static [u8] = Vec::leak(bytes);
            let document = Document::parse(bytes, &limits)
                .map_err(|error| anyhow::anyhow!("`{name}` is not JSON: {error}"))?;
            read.add(document);
        }
        Ok(read)
    }

    fn add(&mut self, document: Document<'static>) {
        let at = self.documents.len();
        let mut found = Vec::new();
        note_places(document.root(), None, &mut found);
        if let Some(entries) = document.root().get("entry") {
            for (number, entry) in entries.children().enumerate() {
                if let Some(url) = entry.get("fullUrl").and_then(Value::as_str) {
                    found.push((url.to_owned(), Some(number)));
                }
                if let Some(resource) = entry.get("resource") {
                    note_places(resource, Some(number), &mut found);
                }
            }
        }
        for (reference, entry) in found {
            self.places.entry(reference).or_insert((at, entry));
        }
        self.documents.push(document);
    }
}

/// `Type/id`, and the canonical URL.
fn note_places(
    resource: Value<'_>,
    entry: Option<usize>,
    found: &mut Vec<(String, Option<usize>)>,
) {
    let text = |name: &str| resource.get(name).and_then(Value::as_str);
    if let (Some(resource_type), Some(id)) = (text("resourceType"), text("id")) {
        found.push((format!("{resource_type}/{id}"), entry));
    }
    if let Some(url) = text("url") {
        found.push((url.to_owned(), entry));
    }
}

impl Supporting for SupportingFiles {
    fn find(&self, reference: &str) -> Option<Value<'_>> {
        let (document, entry) = self.places.get(reference)?;
        let root = self.documents.get(*document)?.root();
        match entry {
            None => Some(root),
            Some(number) => root.get("entry")?.children().nth(*number)?.get("resource"),
        }
    }
}
