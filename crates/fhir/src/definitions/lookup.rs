//! Answers what stands at an element path, so that views and tools can be compiled to typed leaves.
//!
//! Paths are JSON names joined by dots below a type: `component.code`, `valueQuantity.value`,
//! `value` or `value[x]` for a choice as a whole. Content references and datatypes are followed.
//! Start at [`Definitions::element_type`].

use super::Definitions;
use super::tables::{BindingStrength, Content, Element, TypeUse, UNBOUNDED, flag};

/// Most steps that a path may have.
const PATH_STEPS_MAX: usize = 32;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementInfo {
    /// The path in the definitions, such as `Observation.component.value[x]`.
    pub definition_path: String,
    /// Types the element may have; one, unless the path names a choice as a whole.
    pub types: Vec<TypeInfo>,
    /// Whether the element is a choice (`value[x]`), named as a whole or by one of its types.
    pub is_choice: bool,
    /// Fewest occurrences.
    pub min: u16,
    /// Whether more than one value can stand here (`max` above 1), regardless of the parents.
    pub max_many: bool,
    /// Whether a parent on the path can repeat, so that one resource can hold several of these.
    pub parents_many: bool,
    /// Whether the element changes the meaning of what it stands in.
    pub is_modifier: bool,
    /// The value set that binds the element.
    pub binding: Option<BindingInfo>,
}

/// One type of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Type code: `CodeableConcept`, `dateTime`, `BackboneElement`, `Resource` for any resource.
    pub code: String,
    /// The name in JSON when the element has this type, such as `valueQuantity`.
    pub json_name: String,
    /// Whether it is a primitive type.
    pub is_primitive: bool,
    /// Resource types a `Reference` may point to; empty means any.
    pub targets: Vec<String>,
}

/// A binding to a value set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingInfo {
    /// How strongly it binds.
    pub strength: BindingStrength,
    /// Canonical URL of the value set, with its version if stated.
    pub value_set: String,
    /// Whether membership can be decided with the codes compiled in.
    pub is_decidable: bool,
}

impl Definitions {
    /// What stands at `path` below `type_name` (a resource or a datatype); `None` if there is no such element.
    #[must_use]
    pub fn element_type(&self, type_name: &str, path: &str) -> Option<ElementInfo> {
        let structure = self.structure_named(type_name)?;
        let mut node = *self.tables.nodes.get(structure.root as usize)?;
        let mut parents_many = false;
        let mut steps = path
            .split('.')
            .take(PATH_STEPS_MAX + 1)
            .enumerate()
            .peekable();
        while let Some((count, step)) = steps.next() {
            if count == PATH_STEPS_MAX {
                return None;
            }
            let (element, chosen) = self.step(&node, step)?;
            if steps.peek().is_none() {
                return Some(self.element_info(&node, &element, chosen.as_ref(), parents_many));
            }
            parents_many |= element.max > 1;
            // Only one type can be followed; a choice must be named by its type to go below it.
            let type_use = chosen.or_else(|| {
                (element.types.len() == 1).then(|| *self.type_use(element.types.start))
            })?;
            let Content::Node(next) = type_use.content else {
                return None;
            };
            node = *self.node(next);
        }
        None
    }

    /// The element of one path step, with its type if the step names one.
    fn step(&self, node: &super::tables::Node, step: &str) -> Option<(Element, Option<TypeUse>)> {
        if let Some(name) = self.name(node, step) {
            let element = *self.element(name.element);
            return Some((element, Some(*self.type_use(name.type_use))));
        }
        let whole = step.strip_suffix("[x]").unwrap_or(step);
        node.elements
            .indices()
            .map(|index| *self.element(index))
            .find(|element| element.has(flag::CHOICE) && self.text(element.name) == whole)
            .map(|element| (element, None))
    }

    fn element_info(
        &self,
        node: &super::tables::Node,
        element: &Element,
        chosen: Option<&TypeUse>,
        parents_many: bool,
    ) -> ElementInfo {
        let is_choice = element.has(flag::CHOICE);
        let name = self.text(element.name);
        let type_info = |it: &TypeUse| {
            let code = self.text(it.code);
            TypeInfo {
                code: code.to_owned(),
                json_name: if is_choice {
                    super::tables::choice_name(name, code)
                } else {
                    name.to_owned()
                },
                is_primitive: matches!(it.content, Content::Primitive(_)),
                targets: self
                    .targets(it.targets)
                    .iter()
                    .map(|target| self.text(self.structure(*target).type_name).to_owned())
                    .collect(),
            }
        };
        let types = match chosen {
            Some(chosen) => vec![type_info(chosen)],
            None => element
                .types
                .indices()
                .map(|index| type_info(self.type_use(index)))
                .collect(),
        };
        ElementInfo {
            definition_path: format!(
                "{}.{name}{}",
                self.text(node.path),
                if is_choice { "[x]" } else { "" }
            ),
            types,
            is_choice,
            min: element.min,
            max_many: element.max == UNBOUNDED || element.max > 1,
            parents_many,
            is_modifier: element.has(flag::MODIFIER),
            binding: self.binding(element.binding).map(|binding| BindingInfo {
                strength: binding.strength,
                value_set: self.text(binding.value_set).to_owned(),
                is_decidable: self
                    .code_list(binding.list)
                    .is_some_and(|list| list.is_decidable),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(type_name: &str, path: &str) -> Option<ElementInfo> {
        Definitions::r4().element_type(type_name, path)
    }

    #[test]
    fn follows_backbones_datatypes_choices_and_content_references() {
        let code = info("Observation", "component.code").unwrap();
        assert_eq!(code.definition_path, "Observation.component.code");
        assert_eq!(code.types[0].code, "CodeableConcept");
        assert!(!code.max_many && code.parents_many && !code.is_choice);

        let quantity = info("Observation", "valueQuantity").unwrap();
        assert_eq!(
            (quantity.types.len(), quantity.types[0].code.as_str()),
            (1, "Quantity")
        );
        assert!(quantity.is_choice);
        assert_eq!(
            info("Observation", "valueQuantity.value").unwrap().types[0].code,
            "decimal"
        );

        let value = info("Observation", "value").unwrap();
        assert_eq!(value, info("Observation", "value[x]").unwrap());
        assert_eq!(value.types.len(), 11);
        assert_eq!(value.types[0].json_name, "valueQuantity");

        let nested = info("Questionnaire", "item.item.item.linkId").unwrap();
        assert_eq!(nested.definition_path, "Questionnaire.item.linkId");

        let subject = info("Observation", "subject").unwrap();
        assert_eq!(
            subject.types[0].targets,
            ["Patient", "Group", "Device", "Location"]
        );
        assert!(info("Task", "for").unwrap().types[0].targets.is_empty());

        let status = info("Observation", "status").unwrap();
        assert!(status.is_modifier);
        let binding = status.binding.unwrap();
        assert_eq!(binding.strength, BindingStrength::Required);
        assert!(binding.is_decidable);
        assert!(
            !info("Attachment", "contentType")
                .unwrap()
                .binding
                .unwrap()
                .is_decidable
        );
        assert!(info("Patient", "name.given").unwrap().max_many);
        assert_eq!(info("Patient", "id").unwrap().types[0].code, "id");
    }

    #[test]
    fn knows_what_is_not_there() {
        for (type_name, path) in [
            ("Observation", "valueMoney"),
            ("Observation", "component.nothing"),
            ("Observation", ""),
            ("Observation", "value.value"),
            ("Observation", "status.x"),
            ("Nothing", "code"),
            ("xhtml", "value"),
        ] {
            assert_eq!(info(type_name, path), None, "{type_name}.{path}");
        }
    }
}
