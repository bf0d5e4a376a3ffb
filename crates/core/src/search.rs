//! Writing values into FHIR search parameters: the one place that knows which characters separate.
//!
//! Not the encoding of the transport, which is the EHR connection's.

/// Escapes a value so that it stands for itself inside a search parameter.
///
/// In a parameter value `,` separates alternatives, `|` separates system from code, `$` separates parts of
/// composites, and `\` escapes. **Whoever puts a value that an agent or a person supplied into a
/// parameter calls this, on the value alone** (`format!("{system}|{}", escape_search_value(code))`);
/// EHR connections take finished values and add the encoding of the transport, nothing else.
///
/// # Source
/// FHIR R4, Search, section "Escaping Search Parameters".
pub fn escape_search_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | '$' | ',' | '|') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_lose_their_meaning() {
        assert_eq!(escape_search_value(r"a,b|c$d\e"), r"a\,b\|c\$d\\e");
        assert_eq!(
            escape_search_value("urn:x/plain value&=é"),
            "urn:x/plain value&=é"
        );
    }
}
