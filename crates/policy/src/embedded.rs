//! The default bundle, compiled in: what `chaperone init` writes, the schema that requests are built
//! for, and the cases that no other bundle may be less strict than.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};

use crate::bundle::SCHEMA_PATH;

static GOVERNANCE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../governance");

/// Every file of the default bundle, by path.
pub fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    collect(&GOVERNANCE, &mut files);
    files
}

/// The schema of this release.
pub(crate) fn schema() -> &'static str {
    GOVERNANCE
        .get_file(SCHEMA_PATH)
        .and_then(|file| file.contents_utf8())
        .unwrap_or("")
}

fn collect(folder: &Dir<'_>, files: &mut BTreeMap<String, String>) {
    for file in folder.files() {
        if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8()) {
            files.insert(path.replace('\\', "/"), text.to_owned());
        }
    }
    for inner in folder.dirs() {
        collect(inner, files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::SchemaFragment;

    #[test]
    fn the_schema_holds_the_vocabulary_and_nothing_else() {
        let facts = |text: &str| {
            let (fragment, _) = SchemaFragment::from_cedarschema_str(text).unwrap();
            let json = fragment.to_json_value().unwrap();
            json.pointer("//commonTypes/Facts").cloned().unwrap()
        };
        let expected = crate::facts::cedar_record();
        assert_eq!(
            facts(schema()),
            facts(&expected),
            "the schema should hold\n{expected}"
        );
    }
}
