//! What of a request is inspected, as text: decoded, and one value a line with its name, so that an encoding hides
//! nothing from the detector and a label still stands beside its value.

use chaperone_core::ports::Identifier;
use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

/// Deepest nesting of a JSON body that is inspected; deeper ones cannot be read.
const DEPTH_MAX: usize = 64;

/// Path and query of a URL, without the path that the configuration gives. The host is listed, and says nothing.
pub(super) fn of_url(url: &Url, below: Option<&Url>) -> String {
    let mut text = String::new();
    let parts = |url: &Url| -> Vec<String> {
        let parts = url.path_segments().into_iter().flatten();
        parts.map(str::to_owned).collect()
    };
    let all = parts(url);
    let mut given = below.map(parts).unwrap_or_default();
    if given.last().is_some_and(String::is_empty) {
        given.pop();
    }
    let same_origin = below.is_some_and(|below| below.origin() == url.origin());
    let rest = match all.strip_prefix(given.as_slice()) {
        Some(rest) if same_origin => rest,
        _ => all.as_slice(),
    };
    for part in rest {
        // A `+` is a plus in a path.
        let part = part.replace('+', "%2B");
        for (decoded, _) in url::form_urlencoded::parse(part.as_bytes()) {
            line(&mut text, &decoded);
        }
    }
    for (name, value) in url.query_pairs() {
        named(&mut text, &name, &value);
    }
    text
}

/// Values of headers, except credentials, which are marked as such. Nothing when one is no text.
pub(super) fn of_headers(headers: &HeaderMap) -> Option<String> {
    let mut text = String::new();
    for (name, value) in headers {
        if !value.is_sensitive() {
            named(
                &mut text,
                name.as_str(),
                std::str::from_utf8(value.as_bytes()).ok()?,
            );
        }
    }
    Some(text)
}

/// Every name and value of a JSON body; nothing when it is nested too deeply.
pub(super) fn of_json(value: &Value) -> Option<String> {
    let mut text = String::new();
    gather(&mut text, "", value, 0)?;
    Some(text)
}

/// Names and values of a form.
pub(super) fn of_form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        named(&mut text, name, value);
    }
    text
}

fn gather(text: &mut String, name: &str, value: &Value, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    match value {
        Value::Null => {}
        Value::Bool(_) => named(text, name, ""),
        Value::Number(number) => named(text, name, &number.to_string()),
        Value::String(string) => named(text, name, string),
        Value::Array(items) => {
            for item in items {
                gather(text, name, item, depth.saturating_add(1))?;
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                gather(text, name, value, depth.saturating_add(1))?;
            }
        }
    }
    Some(())
}

fn line(text: &mut String, words: &str) {
    if !words.is_empty() {
        text.push_str(words);
        text.push('\n');
    }
}

fn named(text: &mut String, name: &str, value: &str) {
    if !name.is_empty() {
        text.push_str(name);
        text.push_str(": ");
    }
    text.push_str(value);
    text.push('\n');
}

/// Whether what was found is a part of one of the organisation's own addresses.
pub(super) fn is_own(text: &str, found: &Identifier, own: &[String]) -> bool {
    own.iter().filter(|own| !own.is_empty()).any(|own| {
        text.match_indices(own.as_str())
            .any(|(start, _)| start <= found.start && found.end <= start.saturating_add(own.len()))
    })
}

/// Whether a text could begin another header or line of a protocol.
pub(super) fn breaks_lines(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn encodings_are_undone_and_labels_stay_beside_their_values() {
        let url = Url::parse("https://a.example/p/Jane%20Doe/%2B1?mrn=%31%32&x=a+b").unwrap();
        assert_eq!(of_url(&url, None), "p\nJane Doe\n+1\nmrn: 12\nx: a b\n");
        let below = |base: &str| of_url(&url, Some(&Url::parse(base).unwrap()));
        assert_eq!(
            below("https://a.example/p/"),
            "Jane Doe\n+1\nmrn: 12\nx: a b\n"
        );
        assert_eq!(below("https://a.example/q/"), of_url(&url, None));
        assert_eq!(below("https://b.example/p/"), of_url(&url, None));
        let body = json!({"mrn": 12, "who": {"name": ["Ann", "Lee"]}, "is": true, "no": null});
        assert_eq!(
            of_json(&body).unwrap(),
            "mrn: 12\nname: Ann\nname: Lee\nis: \n"
        );
        let mut deep = json!("x");
        for _ in 0..=DEPTH_MAX {
            deep = json!([deep]);
        }
        assert_eq!(of_json(&deep), None);
    }

    #[test]
    fn an_own_address_is_passed_and_what_is_longer_is_not() {
        let own = ["https://console.example".to_owned()];
        let text = "see https://console.example/x";
        let found = |start, end| Identifier {
            class: "URL",
            start,
            end,
        };
        assert!(is_own(text, &found(4, 27), &own));
        assert!(!is_own(text, &found(4, 29), &own));
        assert!(!is_own(text, &found(0, 27), &own));
    }
}
