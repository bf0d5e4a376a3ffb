//! Every read tool of the default bundle compiles to a view that has something to show.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

use std::path::Path;

use chaperone_core::ids::ToolName;
use chaperone_core::resource::ResourceType;
use chaperone_fhir::Definitions;
use chaperone_phi::view::View;

#[test]
fn the_read_tools_compile() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../governance/tools");
    let mut views = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let tool: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let Some(read) = tool.get("read") else {
            continue;
        };
        let (query, fields) = (read.get("query").unwrap(), read.get("fields").unwrap());
        let (resource_type, _) = query.as_str().unwrap().split_once('?').unwrap();
        let fields = fields.as_array().unwrap().iter();
        let fields: Vec<String> = fields.map(|it| it.as_str().unwrap().to_owned()).collect();
        let text = read.get("text").and_then(|text| text.as_array());
        let text = text.into_iter().flatten();
        let text: Vec<String> = text.map(|it| it.as_str().unwrap().to_owned()).collect();
        let view = View::compile_with_text(
            Definitions::r4(),
            &ToolName::new(tool.get("name").unwrap().as_str().unwrap()).unwrap(),
            &ResourceType::new(resource_type).unwrap(),
            &fields,
            &text,
        );
        assert!(view.is_ok(), "{}: {}", path.display(), view.unwrap_err());
        views += 1;
    }
    assert!(views > 0);
}
