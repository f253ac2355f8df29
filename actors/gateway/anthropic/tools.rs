//! The functions that the model may call, and whether it must.

use std::collections::BTreeMap;

use lakitu_kernel::ToolError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::blocks::Mark;
use super::request::{Fields, parse, rejected};

/// A function as Messages have it.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<Mark<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    /// As it came, the order of its keys included: models read it.
    Given(&'a RawValue),
    /// One that had to be completed.
    Made(Map<String, Value>),
}

#[derive(Deserialize)]
struct Definition<'a> {
    r#type: Option<String>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

/// What the model may do with its functions.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The field `tool_choice`; nothing where Anthropic's default is meant.
    pub(super) value: Option<Value>,
    /// Whether it must call one, which excludes thinking.
    pub(super) forced: bool,
}

/// The functions of a request.
pub(super) fn tools<'a>(fields: &Fields<'a>) -> Result<Vec<Tool<'a>>, ToolError> {
    let definitions: Vec<&'a RawValue> = fields.read("tools")?.unwrap_or_default();
    definitions.into_iter().enumerate().map(|(at, raw)| tool(&format!("tools[{at}]"), raw)).collect()
}

fn tool<'a>(path: &str, raw: &'a RawValue) -> Result<Tool<'a>, ToolError> {
    let Definition { r#type, function, cache_control } = parse(path, raw)?;
    if let Some(kind) = r#type.filter(|kind| kind != "function") {
        return Err(rejected(&format!("{path}.type"), format!("is `{kind}`; only functions are translated")));
    }
    let path = format!("{path}.function");
    let Function { name, description, parameters } =
        parse(&path, function.ok_or_else(|| rejected(&path, "is missing"))?)?;
    Ok(Tool {
        name,
        description: description.filter(|text| !text.is_empty()),
        input_schema: schema(&format!("{path}.parameters"), parameters)?,
        cache_control: cache_control.map(Mark::Given),
    })
}

/// A schema of an object. Functions without parameters have none with OpenAI, and Anthropic wants one.
fn schema<'a>(path: &str, parameters: Option<&'a RawValue>) -> Result<Schema<'a>, ToolError> {
    let Some(raw) = parameters else {
        return Ok(Schema::Made(Map::from_iter([("type".to_owned(), json!("object"))])));
    };
    let keys: BTreeMap<String, &RawValue> = parse(path, raw)?;
    if keys.contains_key("type") {
        return Ok(Schema::Given(raw));
    }
    let mut schema: Map<String, Value> = parse(path, raw)?;
    schema.insert("type".to_owned(), json!("object"));
    Ok(Schema::Made(schema))
}

/// `tool_choice` and `parallel_tool_calls`; without functions both mean nothing, and Anthropic refuses the first.
pub(super) fn choice(fields: &Fields<'_>, tools: &[Tool<'_>]) -> Result<Choice, ToolError> {
    let asked: Option<Value> = fields.read("tool_choice")?;
    let one_at_a_time = fields.read("parallel_tool_calls")? == Some(false);
    if tools.is_empty() {
        return Ok(Choice::default());
    }
    let unknown = || rejected("tool_choice", "is neither `auto`, `none`, `required` nor a function");
    let (mut value, forced) = match &asked {
        None => (json!({"type": "auto"}), false),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => (json!({"type": "auto"}), false),
            "none" => (json!({"type": "none"}), false),
            "required" => (json!({"type": "any"}), true),
            _ => return Err(unknown()),
        },
        Some(function) => {
            let name = function.pointer("/function/name").and_then(Value::as_str).ok_or_else(unknown)?;
            (json!({"type": "tool", "name": name}), true)
        }
    };
    if one_at_a_time && value["type"] != "none" {
        value["disable_parallel_tool_use"] = json!(true);
    } else if asked.is_none() {
        return Ok(Choice::default());
    }
    Ok(Choice { value: Some(value), forced })
}
