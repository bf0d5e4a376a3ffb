//! Leaving out what an obligation names, before anything else sees the resource.

use serde_json::Value;

/// Removes the elements of `fields`, each `Type.element` or `Type.element.part`, with their extensions. Says which
/// of them were there.
pub fn leave_out<'f>(
    resource: &mut Value,
    fields: impl IntoIterator<Item = &'f String>,
) -> Vec<String> {
    let type_name = resource
        .get("resourceType")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let mut left_out = Vec::new();
    for field in fields {
        let Some((of, path)) = field.split_once('.') else {
            continue;
        };
        if of == type_name && remove(resource, path) {
            left_out.push(path.to_owned());
        }
    }
    left_out
}

/// The path is as deep as the table of the bundle says.
fn remove(value: &mut Value, path: &str) -> bool {
    match value {
        Value::Array(items) => {
            let mut found = false;
            for item in items {
                found |= remove(item, path);
            }
            found
        }
        Value::Object(members) => match path.split_once('.') {
            Some((head, rest)) => members
                .get_mut(head)
                .is_some_and(|inner| remove(inner, rest)),
            None => {
                let primitive = members.remove(&format!("_{path}")).is_some();
                members.remove(path).is_some() || primitive
            }
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_goes_and_its_neighbour_stays() {
        let mut patient = json!({
            "resourceType": "Patient", "gender": "female", "_birthDate": {"extension": []},
            "contact": [{"name": {"text": "a"}, "gender": "male"}, {"name": {"text": "b"}}],
        });
        let fields = [
            "Patient.birthDate",
            "Patient.contact.name",
            "Observation.gender",
        ]
        .map(str::to_owned);
        assert_eq!(
            leave_out(&mut patient, &fields),
            ["birthDate", "contact.name"]
        );
        assert_eq!(
            patient,
            json!({"resourceType": "Patient", "gender": "female", "contact": [{"gender": "male"}, {}]})
        );
    }
}
