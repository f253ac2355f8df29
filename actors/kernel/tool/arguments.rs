//! Arguments as a model writes them become arguments as a tool takes them, or an error that says what to write instead.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{Arguments, place, schema_of};
use crate::error::{ErrorCode, ToolError};
use crate::limits::ARGUMENTS_BYTES_MAX;

pub(super) fn check<A: Arguments>(text: &str) -> Result<Value, ToolError> {
    let given = given(text, &schema_of::<A>(), A::ALIASES)?;
    let arguments = A::deserialize(&given).map_err(|error| {
        wrong(&given, &error.to_string(), &|value| A::deserialize(value).err().map(|it| it.to_string()))
    })?;
    arguments.check().map_err(invalid)?;
    serde_json::to_value(arguments).map_err(|error| invalid(error.to_string()))
}

/// The arguments by the names and types that the schema has for them.
fn given(text: &str, schema: &Value, aliases: &[(&str, &str)]) -> Result<Value, ToolError> {
    if text.len() > ARGUMENTS_BYTES_MAX {
        return Err(invalid(format!("{} bytes of arguments; at most {ARGUMENTS_BYTES_MAX} are taken", text.len())));
    }
    let value: Value = if text.trim().is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_str(text).map_err(|error| invalid(format!("the arguments are not valid JSON: {error}")))?
    };
    let Value::Object(given) = value else {
        return Err(invalid("the arguments must be one JSON object".to_owned()));
    };
    if let Some(name) = repeated(text) {
        return Err(invalid(format!("argument {:?} is given twice", shorten(&name))));
    }
    canonical(given, schema, aliases).map(Value::Object)
}

/// What is wrong with arguments that are not what their type asks for, and where.
fn wrong(given: &Value, said: &str, error: &dyn Fn(&Value) -> Option<String>) -> ToolError {
    let place = place::of(given, said, error);
    invalid(if place.is_empty() { said.to_owned() } else { format!("{place}: {said}") })
}

/// The object with the names and the types that its schema asks for.
fn canonical(
    given: Map<String, Value>,
    schema: &Value,
    aliases: &[(&str, &str)],
) -> Result<Map<String, Value>, ToolError> {
    let empty = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let mut object = Map::new();
    for (key, value) in given {
        let name = match aliases.iter().find(|(alias, _)| *alias == key) {
            Some((_, "")) => continue,
            Some((_, canonical)) if !known.contains_key(&key) => canonical,
            Some(_) | None => key.as_str(),
        };
        let Some(property) = known.get(name) else {
            let names: Vec<_> = known.keys().map(String::as_str).collect();
            return Err(invalid(format!("unknown argument {:?}; known are {}", shorten(&key), names.join(", "))));
        };
        let value = match (coerce(value, property), property.get("items")) {
            (Value::Array(items), Some(of_each)) if of_each.get("properties").is_some() => {
                let items = items.into_iter().map(|mut item| match item.as_object_mut() {
                    Some(object) => canonical(std::mem::take(object), of_each, aliases).map(Value::Object),
                    None => Ok(item),
                });
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (value, _) => value,
        };
        if object.insert(name.to_owned(), value).is_some() {
            return Err(invalid(format!("argument {name:?} is given twice")));
        }
    }
    Ok(object)
}

/// The first name that an object gives twice: parsed values keep the last of them and tell nothing.
fn repeated(object: &str) -> Option<String> {
    struct Names(BTreeSet<String>, Option<String>);
    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<Option<String>, M::Error> {
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if !self.0.insert(name.clone()) && self.1.is_none() {
                    self.1 = Some(name);
                }
            }
            Ok(self.1)
        }
    }
    // What is no object was parsed before, or is empty.
    serde_json::Deserializer::from_str(object).deserialize_map(Names(BTreeSet::new(), None)).unwrap_or_default()
}

fn invalid(message: String) -> ToolError {
    ToolError::new(ErrorCode::InvalidArguments, message)
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Models write `"5"` for 5 and `"true"` for true; what the schema asks for decides.
fn coerce(value: Value, property: &Value) -> Value {
    let wants = |name: &str| match property.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(many)) => many.iter().any(|one| one == name),
        _ => false,
    };
    match &value {
        Value::String(text) if !wants("string") => match text.as_str() {
            "true" if wants("boolean") => Value::Bool(true),
            "false" if wants("boolean") => Value::Bool(false),
            digits if wants("integer") => digits.parse::<i64>().map_or(value, Value::from),
            // A list within quotes.
            list if wants("array") => serde_json::from_str(list).ok().filter(Value::is_array).unwrap_or(value),
            digits if wants("number") => digits.parse::<f64>().map_or(value, Value::from),
            _ => value,
        },
        Value::Number(number) if wants("integer") && number.is_f64() => match number.as_f64() {
            // 2^53: beyond it a float no longer names one integer.
            Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 =>
            {
                #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53, checked above")]
                Value::from(float as i64)
            }
            _ => value,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            value
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Sample {
        /// Where.
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        #[serde(default)]
        all: bool,
    }

    impl Arguments for Sample {
        const ALIASES: &'static [(&'static str, &'static str)] = &[("file_path", "path"), ("filePath", "path")];

        fn check(&self) -> Result<(), String> {
            if self.path.is_empty() { Err("path is empty".to_owned()) } else { Ok(()) }
        }
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Many {
        items: Vec<Sample>,
    }

    impl Arguments for Many {
        const ALIASES: &'static [(&'static str, &'static str)] = &[("file_path", "path"), ("-n", "")];
    }

    #[test]
    fn what_stands_in_a_list_is_made_canonical_too() {
        let told = |text: &str| match check::<Many>(text) {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        };
        let rows = [
            r#"{"items":[{"file_path":"a","all":"true"}],"-n":true}"#,
            r#"{"items":"[{\"path\":\"a\"}]"}"#,
            r#"{"items":[{"path":"a","more":1}]}"#,
            r#"{"items":["a"]}"#,
            r#"{"items":[{"path":"a"},{"path":"b","limit":-1},{"path":1}]}"#,
            r#"{"items":[{"path":"a"},{"all":true}]}"#,
            r#"{"items":5}"#,
            "{}",
        ];
        expect![[r#"
            {"items":[{"all":true,"path":"a"}]}
            {"items":[{"all":false,"path":"a"}]}
            INVALID_ARGUMENTS: unknown argument "more"; known are all, limit, path
            INVALID_ARGUMENTS: items[0]: invalid type: string "a", expected struct Sample
            INVALID_ARGUMENTS: items[1].limit: invalid value: integer `-1`, expected u32
            INVALID_ARGUMENTS: items[1]: missing field `path`
            INVALID_ARGUMENTS: items: invalid type: integer `5`, expected a sequence
            INVALID_ARGUMENTS: missing field `items`"#]]
        .assert_eq(&rows.map(told).join("\n"));
    }

    fn told(text: &str) -> String {
        match check::<Sample>(text) {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn arguments_up_to_5_mib_are_taken_and_one_byte_more_is_refused() {
        let frame = r#"{"path":""}"#.len();
        for (size, taken) in [(ARGUMENTS_BYTES_MAX - frame, true), (ARGUMENTS_BYTES_MAX - frame + 1, false)] {
            let text = format!(r#"{{"path":"{}"}}"#, "x".repeat(size));
            assert_eq!(check::<Sample>(&text).is_ok(), taken);
        }
    }

    #[test]
    fn arguments_are_made_canonical_or_refused_with_what_to_write_instead() {
        let rows = [
            r#"{"path":"a"}"#,
            r#"{"file_path":"a","all":"true","limit":"5"}"#,
            r#"{"path":"a","limit":5.0}"#,
            r#"{"path":"a","limit":5.5}"#,
            r#"{"path":"a","limit":-1}"#,
            r#"{"path":"a","limit":1e400}"#,
            r#"{"path":"a","filePath":"b"}"#,
            r#"{"path":"a","path":"b"}"#,
            r#"{"path":"a","limit":1,"limit":1}"#,
            r#"{"path":"a","limit":NaN}"#,
            r#"{"path":"a","limit":-0}"#,
            r#"{"path":"a","limit":9007199254740993}"#,
            r#"{"path":"a","$ref":"x"}"#,
            &format!(r#"{{"path":{}1{}}}"#, "[".repeat(127), "]".repeat(127)),
            r#"{"path":"a\u0000b"}"#,
            "\u{feff}{}",
            r#"{"path":"a"}{"path":"b"}"#,
            r#"{"path":"a","__proto__":1}"#,
            r#"{"path":""}"#,
            "",
            "null",
            r#""{}""#,
            r#"{"path":"a"#,
            r#"{"path":"\ud800"}"#,
        ];
        let told: Vec<_> = rows.iter().map(|row| told(row)).collect();
        expect![[r#"
            {"all":false,"path":"a"}
            {"all":true,"limit":5,"path":"a"}
            {"all":false,"limit":5,"path":"a"}
            INVALID_ARGUMENTS: limit: invalid type: floating point `5.5`, expected u32
            INVALID_ARGUMENTS: limit: invalid value: integer `-1`, expected u32
            INVALID_ARGUMENTS: the arguments are not valid JSON: number out of range at line 1 column 25
            INVALID_ARGUMENTS: argument "path" is given twice
            INVALID_ARGUMENTS: argument "path" is given twice
            INVALID_ARGUMENTS: argument "limit" is given twice
            INVALID_ARGUMENTS: the arguments are not valid JSON: expected value at line 1 column 21
            {"all":false,"limit":0,"path":"a"}
            INVALID_ARGUMENTS: limit: invalid value: integer `9007199254740993`, expected u32
            INVALID_ARGUMENTS: unknown argument "$ref"; known are all, limit, path
            INVALID_ARGUMENTS: the arguments are not valid JSON: recursion limit exceeded at line 1 column 135
            {"all":false,"path":"a\u0000b"}
            INVALID_ARGUMENTS: the arguments are not valid JSON: expected value at line 1 column 1
            INVALID_ARGUMENTS: the arguments are not valid JSON: trailing characters at line 1 column 13
            INVALID_ARGUMENTS: unknown argument "__proto__"; known are all, limit, path
            INVALID_ARGUMENTS: path is empty
            INVALID_ARGUMENTS: missing field `path`
            INVALID_ARGUMENTS: the arguments must be one JSON object
            INVALID_ARGUMENTS: the arguments must be one JSON object
            INVALID_ARGUMENTS: the arguments are not valid JSON: EOF while parsing a string at line 1 column 10
            INVALID_ARGUMENTS: the arguments are not valid JSON: unexpected end of hex escape at line 1 column 16"#]]
        .assert_eq(&told.join("\n"));
    }
}
