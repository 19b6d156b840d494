//! Conversations that were written into a cell of text, brackets and all.

use serde_json::{Deserializer, Value};

/// Who speaks, and what is said: the keys of a message. One of the latter is enough.
const MESSAGES: [(&str, &[&str]); 2] =
    [("role", &["content", "tool_calls", "function_call"]), ("from", &["value"])];

/// Keys under which an object holds its messages.
const WRAPPERS: [&str; 3] = ["messages", "conversations", "conversation"];

/// Speakers of a chat, where the key `speaker` could also be that of a play.
const SPEAKERS: [&str; 7] = ["user", "human", "assistant", "gpt", "bot", "system", "model"];

/// Whether a text is a conversation as JSON, or as Python prints one: `[{"role": "user", "content": "..."}, ...]`. What
/// follows the first value does not matter: it may be the next message, or the text may have been cut.
pub(crate) fn is_written_out(text: &str) -> bool {
    let text = text.trim();
    // Hardly any text begins like this, and the others cost no more than a look at the first character.
    match text.as_bytes().first() {
        // JSON of JSON.
        Some(b'"') => serde_json::from_str::<String>(text).is_ok_and(|inner| is_written_out(&inner)),
        Some(b'[' | b'{') => match Deserializer::from_str(text).into_iter::<Value>().next() {
            Some(Ok(value)) => holds_messages(&value),
            _ => begins_with_message(text),
        },
        _ => text.starts_with("array(") && begins_with_message(text),
    }
}

/// A message, a list with one, either in a list of its own or under the key that is usual for it.
fn holds_messages(value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            items.iter().any(is_message) || matches!(items.as_slice(), [only] if holds_messages(only))
        }
        Value::Object(fields) => {
            is_message(value) || WRAPPERS.iter().any(|&key| fields.get(key).is_some_and(holds_messages))
        }
        _ => false,
    }
}

fn is_message(value: &Value) -> bool {
    let known = |(author, bodies): &(&str, &[&str])| {
        value.get(author).is_some_and(Value::is_string) && bodies.iter().any(|body| value.get(body).is_some())
    };
    let speaker = value.get("speaker").and_then(Value::as_str).map(str::to_lowercase);
    MESSAGES.iter().any(known)
        || value.get("text").is_some() && speaker.is_some_and(|speaker| SPEAKERS.contains(&speaker.as_str()))
}

/// What no parser reads to its end: `[{'role': 'user', 'content': "It's ..."}]`, with quotes as Python's `repr` chooses
/// them, or JSON that breaks off.
fn begins_with_message(text: &str) -> bool {
    let mut rest = text;
    while let Some(inner) = without_wrapper(rest) {
        rest = inner.trim_start();
    }
    let Some(inner) = rest.strip_prefix('{').map(str::trim_start) else { return false };
    ['\'', '"'].into_iter().any(|quote| {
        let key = |name: &str| format!("{quote}{name}{quote}:");
        MESSAGES.iter().any(|(author, bodies)| {
            let author = key(author);
            let mut bodies = bodies.iter().map(|body| key(body));
            bodies.any(|body| {
                (inner.starts_with(&author) || inner.starts_with(&body))
                    && inner.contains(&author)
                    && inner.contains(&body)
            })
        })
    })
}

/// What follows the start of a list, of an array of NumPy or of an object of messages.
fn without_wrapper(text: &str) -> Option<&str> {
    let object = || {
        let inner = text.strip_prefix('{')?.trim_start();
        let quote = inner.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
        WRAPPERS.iter().find_map(|key| inner.strip_prefix(&format!("{quote}{key}{quote}:")))
    };
    text.strip_prefix('[').or_else(|| text.strip_prefix("array(")).or_else(object)
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
            // In a wrapper, or more than one.
            r#"{"messages": [{"role": "user", "content": "a"}]}"#,
            r#"{"conversations": [{"from": "human", "value": "a"}]}"#,
            r#"[[{"role": "user", "content": "a"}]]"#,
            r#""[{\"role\": \"user\", \"content\": \"a\"}]""#,
            "array([{'content': 'a', 'role': 'user'}], dtype=object)",
            "{'messages': array([{'content': 'a', 'role': 'user'}], dtype=object)}",
            "[{'content': 'a', 'role': 'user'}\n {'content': 'b', 'role': 'assistant'}]",
            // Messages of other kinds, one a line, cut.
            r#"[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": []}]"#,
            r#"[{"note": "x"}, {"role": "assistant", "content": "b"}]"#,
            r#"[{"speaker": "User", "text": "a"}]"#,
            "{\"role\": \"user\", \"content\": \"a\"}\n{\"role\": \"assistant\", \"content\": \"b\"}",
            r#"[{"role": "user", "content": "a b"#,
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
            // Answers that are JSON, or look like it.
            r#"[{"name": "a", "role": "engineer"}, {"name": "b", "role": "clerk"}]"#,
            r#"[{"speaker": "Hamlet", "text": "To be"}]"#,
            r#"{"messages": ["a", "b"], "count": 2}"#,
            r#"{"conversation": "long"}"#,
            r#"[[1, 2], [3, 4]]"#,
            r#"[{"title": "a", "content": "b"}]"#,
            r#"[{"role": "engineer", "na"#,
            "[{'from': 'Rome', 'to': 'Paris'}]",
            r#""A quotation." So he said."#,
            r#""42""#,
            "array([1, 2], dtype=int64)",
            "[Scene: {'role'} and {'content'}]",
            r#"The list [{"role": "user", "content": "a"}]"#,
        ] {
            assert!(!is_written_out(text), "{text}");
        }
    }
}
