//! Conversations that were written into a cell of text, brackets and all.

use serde_json::Value;

/// Whether a text is a conversation as JSON, or as Python prints one: `[{"role": "user", "content": "..."}, ...]`.
pub(crate) fn is_written_out(text: &str) -> bool {
    let text = text.trim();
    // Hardly any text begins like this, and the others cost no more than a look at the first character.
    if !(text.starts_with('[') && text.ends_with(']') || text.starts_with('{') && text.ends_with('}')) {
        return false;
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => !items.is_empty() && items.iter().all(is_message),
        Ok(value) => is_message(&value),
        Err(_) => is_python(text),
    }
}

fn is_message(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some_and(Value::is_string);
    has("role") && value.get("content").is_some() || has("from") && value.get("value").is_some()
}

/// `[{'role': 'user', 'content': "It's ..."}]`: quotes as Python's `repr` chooses them.
fn is_python(text: &str) -> bool {
    let inner = text.strip_prefix('[').unwrap_or(text).trim_start();
    let Some(inner) = inner.strip_prefix('{') else { return false };
    let has = |keys: [&str; 2]| {
        let begins = |key: &str| inner.trim_start().starts_with(&format!("'{key}':"));
        keys.into_iter().any(begins) && keys.into_iter().all(|key| inner.contains(&format!("'{key}':")))
    };
    has(["role", "content"]) || has(["from", "value"])
}

#[cfg(test)]
mod tests {
    use super::is_written_out;

    #[test]
    fn conversations_and_what_looks_like_them() {
        for text in [
            r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#,
            r#" [ {"content": "a", "role": "user"} ] "#,
            r#"{"role": "assistant", "content": "b"}"#,
            r#"[{"from": "human", "value": "a"}]"#,
            r#"[{"role": "user", "content": [{"type": "text", "text": "a"}]}]"#,
            "[{'role': 'user', 'content': \"it's a\"}]",
            "[{'content': 'a', 'role': 'user'}]",
        ] {
            assert!(is_written_out(text), "{text}");
        }
        for text in [
            "",
            "[1, 2, 3]",
            "[]",
            "{}",
            r#"{"name": "x", "value": 3}"#,
            r#"[{"from": "Rome", "to": "Paris"}]"#,
            "[{'name': 'x'}]",
            "[see below] The role of content in {x}",
            r#"The list [{"role": "user", "content": "a"}]"#,
        ] {
            assert!(!is_written_out(text), "{text}");
        }
    }
}
