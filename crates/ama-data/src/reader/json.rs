//! One line of JSON Lines as keys and untouched values: what is not needed is not looked into.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::Value;

/// The object of a line: every key with the text of its value, which is valid JSON but for lone surrogates and
/// numbers out of range. Python's `NaN`, `Infinity` and `-Infinity` are taken for a number out of range.
pub(crate) struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// What stands for a number that JSON cannot write.
const OUT_OF_RANGE: &str = "1e999";

impl<'a> Object<'a> {
    /// Splits a line.
    ///
    /// # Errors
    /// Why it is no JSON object, without "line 1".
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let whole = match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Cow::Borrowed(text),
            Err(error) => match without_non_finite(text, OUT_OF_RANGE) {
                Some(finite) if is_valid(&finite) => Cow::Owned(finite),
                // The number is not at fault: what is comes elsewhere, at the place that a shorter number leaves it at.
                Some(_) => {
                    let finite = without_non_finite(text, "0").unwrap_or_default();
                    let error = serde_json::from_str::<IgnoredAny>(&finite).err().unwrap_or(error);
                    return Err(describe(text, &error));
                }
                None => return Err(describe(text, &error)),
            },
        };
        match whole.as_bytes().first() {
            Some(b'{') => {}
            Some(&first) => return Err(format!("{} instead of an object", kind_of(first))),
            None => return Err("nothing instead of an object".into()),
        }
        let fields = match whole {
            Cow::Borrowed(text) => {
                fields(text).map(|(key, value)| (unescape(key), Cow::Borrowed(value))).collect()
            }
            Cow::Owned(text) => fields(&text)
                .map(|(key, value)| (Cow::Owned(unescape(key).into_owned()), Cow::Owned(value.to_owned())))
                .collect(),
        };
        Ok(Self { fields })
    }

    /// The object that a valid text begins with; more may follow.
    pub(crate) fn first_of(text: &'a str) -> Option<Self> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let fields = fields(&text[..values.byte_offset()]);
        Some(Self { fields: fields.map(|(key, value)| (unescape(key), Cow::Borrowed(value))).collect() })
    }

    /// Keys with the text of their values, in the order of the line.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) fn get(&self, key: &str) -> Result<Option<Value>, Unusable> {
        let mut values = self.fields().filter(|(other, _)| *other == key).map(|(_, value)| value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Unusable::Twice);
        }
        match serde_json::from_str(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) if has_lone_surrogate(value) => Err(Unusable::LoneSurrogate),
            // The parser counts how deep it is in values that it builds, not in those that it skips.
            Err(error) if without_place(&error).contains("recursion limit") => Err(Unusable::TooDeep),
            Err(_) => Err(Unusable::OutOfRange),
        }
    }
}

/// Why the value of a key cannot be used although the line is well formed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The key comes more than once.
    Twice,
    /// Half of a surrogate pair, which is no character.
    LoneSurrogate,
    /// NaN, an infinity or a number out of range.
    OutOfRange,
    /// Lists or objects in more levels than are read.
    TooDeep,
}

fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn kind_of(first: u8) -> &'static str {
    match first {
        b'[' => "a list",
        b'{' => "an object",
        b'"' => "text",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

/// What a parser says, without its "at line 1 column 5": the line is the caller's to name.
pub(crate) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

fn describe(text: &str, error: &serde_json::Error) -> String {
    let message = without_place(error);
    if error.is_eof() {
        return format!("{message}: it breaks off after {} characters", text.chars().count());
    }
    // The parser has read the byte that it stumbled over, or stands before it.
    let near = error.column().saturating_sub(1).min(text.len());
    let at = (0..=near).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let rest: String = text[at..].chars().take(20).collect();
    format!("{message} at character {}, before {rest:?}", text[..at].chars().count() + 1)
}

/// The text with another number in place of `NaN` and infinities outside of strings, padded to their length where it is
/// shorter; `None` if there are none.
fn without_non_finite(text: &str, number: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('"') {
            let end = string_end(rest)?;
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(word) =
            ["NaN", "-NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word))
        {
            found = true;
            out.push_str(number);
            out.extend(std::iter::repeat_n(' ', word.len().saturating_sub(number.len())));
            rest = &rest[word.len()..];
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    found.then_some(out)
}

/// Where the string that `text` begins with ends, its closing quote included.
fn string_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Keys (with their quotes) and values of an object that is known to be valid.
fn fields(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = object.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        let key = &rest[..rest.starts_with('"').then(|| string_end(rest)).flatten()?];
        let (_, after) = rest[key.len()..].split_once(':')?;
        let value = after.trim_start();
        let end = value_end(value)?;
        rest = &value[end..];
        Some((key, value[..end].trim_end()))
    })
}

/// Where the value that `text` begins with ends.
fn value_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => at += string_end(&text[at..])?,
            b',' if depth == 0 => return Some(at),
            b'}' | b']' if depth == 0 => return Some(at),
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            _ => at += 1,
        }
    }
}

/// A key without its quotes.
fn unescape(key: &str) -> Cow<'_, str> {
    let plain = key.get(1..key.len() - 1).unwrap_or(key);
    match plain.contains('\\').then(|| serde_json::from_str(key)) {
        Some(Ok(text)) => Cow::Owned(text),
        // With half a character in its name it is a key that nobody asks for.
        Some(Err(_)) | None => Cow::Borrowed(plain),
    }
}

/// Whether JSON text has the escape of half a surrogate pair.
fn has_lone_surrogate(json: &str) -> bool {
    let bytes = json.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let escape = json.get(at..at + 6)?;
        u16::from_str_radix(escape.strip_prefix("\\u")?, 16).ok()
    };
    let mut at = 0;
    while at < bytes.len() {
        let step = match (bytes[at], unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) => match unit(at + 6) {
                Some(0xdc00..=0xdfff) => 12,
                _ => return true,
            },
            (b'\\', Some(0xdc00..=0xdfff)) => return true,
            (b'\\', _) => 2,
            _ => 1,
        };
        at += step;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_kind_of_value() {
        let text = r#"{ "a" : "x, } \" ]" ,"b":[1,{"c":"]"}], "d\u0065":{"f":{}} , "g":-1.5e3,"h":null}"#;
        let object = Object::parse(text).unwrap();
        let fields: Vec<_> = object.fields().collect();
        let want = [
            ("a", r#""x, } \" ]""#),
            ("b", r#"[1,{"c":"]"}]"#),
            ("de", r#"{"f":{}}"#),
            ("g", "-1.5e3"),
            ("h", "null"),
        ];
        assert_eq!(fields, want);
        assert_eq!(object.get("a").unwrap().unwrap(), Value::from("x, } \" ]"));
        assert_eq!(object.get("z"), Ok(None));
        assert!(Object::parse("{}").unwrap().fields().next().is_none());
    }

    #[test]
    fn what_json_cannot_say_matters_where_it_is_used_only() {
        let text = r#"{"a": "NaN \ud83d\ude00", "b": NaN, "c": [-Infinity, {"d": Infinity}], "e": "\ud83d", "f": "\ude00x"}"#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.get("a").unwrap().unwrap(), Value::from("NaN \u{1f600}"));
        for key in ["b", "c"] {
            assert_eq!(object.get(key), Err(Unusable::OutOfRange), "{key}");
        }
        for key in ["e", "f"] {
            assert_eq!(object.get(key), Err(Unusable::LoneSurrogate), "{key}");
        }
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(Object::parse(&deep).unwrap().get("a"), Err(Unusable::TooDeep));
        let twice = Object::parse(r#"{"a": 1, "b": 2, "a": 3}"#).unwrap();
        assert_eq!((twice.get("a"), twice.get("b")), (Err(Unusable::Twice), Ok(Some(Value::from(2)))));
    }

    #[test]
    fn errors_name_a_place_in_the_line() {
        for (text, wants) in [
            (r#"{"prompt": "p","#, ["EOF", "after 15 characters"]),
            (r#"{"ä": 1, "b": nul}"#, ["expected", "character"]),
            ("[1]", ["a list", "object"]),
            ("NaN", ["a number", "object"]),
            (r#"{"a": NaN, "b": }"#, ["expected value", "character"]),
        ] {
            let error = Object::parse(text).map(|_| ()).unwrap_err();
            assert!(wants.iter().all(|want| error.contains(want)), "{text}: {error}");
            assert!(!error.contains("line 1"), "{error}");
        }
    }
}
