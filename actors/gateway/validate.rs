//! What strict servers demand of a request, in one pure function: a request that passes here is refused nowhere for its
//! form. Run on every request of every test.

use std::collections::{HashSet, VecDeque};

use serde_json::{Map, Value};

/// Checks a request's body. The error names the message.
pub fn validate(body: &[u8]) -> Result<(), String> {
    let body: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("not a JSON object: {error}"))?;
    if body.get("model").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err("`model` is missing".into());
    }
    tools(body.get("tools"))?;
    let messages = body.get("messages").and_then(Value::as_array).ok_or("`messages` is missing")?;
    let mut history = History::default();
    for (at, message) in messages.iter().enumerate() {
        history.take(message).map_err(|error| format!("messages[{at}]: {error}"))?;
    }
    history.end()
}

fn is_name(name: &str) -> bool {
    let legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    !name.is_empty() && name.len() <= 64 && name.chars().all(legal)
}

fn tools(tools: Option<&Value>) -> Result<(), String> {
    let Some(tools) = tools else { return Ok(()) };
    let tools =
        tools.as_array().filter(|tools| !tools.is_empty()).ok_or("`tools` is not a list with something in it")?;
    let mut names = HashSet::new();
    for (at, tool) in tools.iter().enumerate() {
        let name = tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default();
        if !is_name(name) {
            return Err(format!("tools[{at}]: `{name}` is not a function's name"));
        }
        if !names.insert(name) {
            return Err(format!("tools[{at}]: `{name}` is there twice"));
        }
        if !tool.pointer("/function/parameters").is_some_and(Value::is_object) {
            return Err(format!("tools[{at}]: `{name}` has no parameters"));
        }
    }
    Ok(())
}

/// What was read of a conversation.
#[derive(Default)]
struct History {
    last_role: String,
    /// Calls that wait for their results, in order.
    open: VecDeque<String>,
    ids: HashSet<String>,
}

impl History {
    fn take(&mut self, message: &Value) -> Result<(), String> {
        let role = message.get("role").and_then(Value::as_str).ok_or("no role")?;
        if let Some(id) = self.open.front().filter(|_| role != "tool") {
            return Err(format!("a message of `{role}` while the call `{id}` has no result"));
        }
        let legal = match role {
            "system" => self.last_role.is_empty(),
            "user" => true,
            "assistant" => matches!(self.last_role.as_str(), "user" | "tool"),
            "tool" => matches!(self.last_role.as_str(), "assistant" | "tool"),
            _ => return Err(format!("`{role}` is not a role")),
        };
        if !legal {
            return Err(format!("`{role}` behind `{}`", self.last_role));
        }
        match role {
            "assistant" => self.assistant(message)?,
            "tool" => self.tool(message)?,
            "user" => content(message, true)?,
            _ => content(message, false)?,
        }
        role.clone_into(&mut self.last_role);
        Ok(())
    }

    fn assistant(&mut self, message: &Value) -> Result<(), String> {
        let Some(calls) = message.get("tool_calls") else { return content(message, false) };
        match message.get("content") {
            None | Some(Value::Null | Value::String(_) | Value::Array(_)) => {}
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err("the content is not text".into()),
        }
        let calls =
            calls.as_array().filter(|calls| !calls.is_empty()).ok_or("`tool_calls` is not a list with a call")?;
        for call in calls {
            let id =
                call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or("a call without an id")?;
            if !self.ids.insert(id.to_owned()) {
                return Err(format!("the call id `{id}` is there twice"));
            }
            if call.get("type").and_then(Value::as_str) != Some("function") {
                return Err(format!("the call `{id}` is not of type `function`"));
            }
            if !call.pointer("/function/name").and_then(Value::as_str).is_some_and(is_name) {
                return Err(format!("the call `{id}` has no function's name"));
            }
            let arguments = call.pointer("/function/arguments").and_then(Value::as_str);
            let arguments = arguments.ok_or_else(|| format!("the arguments of `{id}` are not a text"))?;
            serde_json::from_str::<Map<String, Value>>(arguments)
                .map_err(|error| format!("the arguments of `{id}` are not a JSON object: {error}"))?;
            self.open.push_back(id.to_owned());
        }
        Ok(())
    }

    fn tool(&mut self, message: &Value) -> Result<(), String> {
        let id = message.get("tool_call_id").and_then(Value::as_str).ok_or("no tool_call_id")?;
        match self.open.pop_front() {
            Some(open) if open == id => content(message, false),
            Some(open) => Err(format!("a result for `{id}` where `{open}` is next")),
            None => Err(format!("a result for `{id}`, which waits for none")),
        }
    }

    fn end(&self) -> Result<(), String> {
        if let Some(id) = self.open.front() {
            return Err(format!("at the end the call `{id}` has no result"));
        }
        match self.last_role.as_str() {
            "user" | "tool" => Ok(()),
            role => Err(format!("the last message is of `{role}`: nothing is asked")),
        }
    }
}

/// Text, or a list of parts; images are a user's alone.
fn content(message: &Value, images: bool) -> Result<(), String> {
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) if !parts.is_empty() => parts
            .iter()
            .enumerate()
            .try_for_each(|(at, one)| part(one, images).map_err(|error| format!("content[{at}]: {error}"))),
        Some(_) | None => Err("no content".into()),
    }
}

fn part(part: &Value, images: bool) -> Result<(), String> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let text = |field: &str| match part.get(field).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(()),
        Some(_) | None => Err(format!("`{field}` is empty")),
    };
    match kind {
        "text" => text("text"),
        "refusal" if !images => text("refusal"),
        "image_url" if images => {
            let url =
                part.pointer("/image_url/url").and_then(Value::as_str).ok_or("no url in an object `image_url`")?;
            image(url)
        }
        _ => Err(format!("`{kind}` is no part of such a message")),
    }
}

/// An image's address: on the web, or the image itself in one of the forms that every provider takes.
fn image(url: &str) -> Result<(), String> {
    if url.starts_with("https://") {
        return Ok(());
    }
    let data = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
    let (kind, data) = data.ok_or("the url is neither https nor data in base64")?;
    if !matches!(kind, "image/png" | "image/jpeg" | "image/gif" | "image/webp") {
        return Err(format!("`{kind}` is no image that is taken"));
    }
    let digits = data.trim_end_matches('=');
    let legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '/');
    if digits.is_empty() || data.len() % 4 != 0 || data.len() - digits.len() > 2 || !digits.chars().all(legal) {
        return Err("the data is not base64".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(messages: &Value) -> Result<(), String> {
        validate(json!({"model": "m", "messages": messages}).to_string().as_bytes())
    }

    fn calls(ids: &[&str]) -> Value {
        let calls: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "type": "function", "function": {"name": "ls", "arguments": "{}"}}))
            .collect();
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    }

    fn images(url: &Value) -> Value {
        let parts = json!([{"type": "text", "text": "a.png:"}, {"type": "image_url", "image_url": url}]);
        json!({"role": "user", "content": parts})
    }

    fn result(id: &str) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": "ok"})
    }

    #[test]
    fn legal_conversations_pass() {
        let (system, user) = (json!({"role": "system", "content": "s"}), json!({"role": "user", "content": "u"}));
        let said = json!({"role": "assistant", "content": "a"});
        for legal in [
            json!([user]),
            json!([system, user, user]),
            json!([system, user, calls(&["a", "b"]), result("a"), result("b")]),
            json!([
                user,
                calls(&["a"]),
                result("a"),
                images(&json!({"url": "data:image/png;base64,aGk="})),
                said,
                user
            ]),
            json!([user, calls(&["a"]), result("a"), user, said, user, calls(&["b"]), result("b"), said, user]),
        ] {
            assert_eq!(check(&legal), Ok(()), "{legal}");
        }
    }

    #[test]
    fn illegal_ones_are_refused_by_name() {
        let user = json!({"role": "user", "content": "u"});
        let said = json!({"role": "assistant", "content": "a"});
        let broken = json!({"role": "assistant", "tool_calls":
            [{"id": "a", "type": "function", "function": {"name": "ls", "arguments": "{\"a"}}]});
        let listed = json!({"role": "assistant", "tool_calls":
            [{"id": "a", "type": "function", "function": {"name": "ls", "arguments": "[]"}}]});
        let rows = [
            (json!([images(&json!("https://a.example/b.png"))]), "content[1]: no url in an object"),
            (json!([images(&json!({"url": "data:image/tiff;base64,aGk="}))]), "`image/tiff` is no image"),
            (json!([images(&json!({"url": "data:image/png;base64,a_k="}))]), "not base64"),
            (json!([images(&json!({"url": "data:image/png;base64,aGk"}))]), "not base64"),
            (json!([images(&json!({"url": "file:///a.png"}))]), "neither https nor data"),
            (
                json!([user, calls(&["a"]), {"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url"}]}]),
                "`image_url` is no part of such a message",
            ),
            (json!([{"role": "user", "content": [{"type": "text", "text": ""}]}]), "`text` is empty"),
            (json!([]), "nothing is asked"),
            (json!([user, said]), "nothing is asked"),
            (json!([user, said, said, user]), "`assistant` behind `assistant`"),
            (json!([said, user]), "`assistant` behind ``"),
            (json!([user, {"role": "system", "content": "s"}]), "`system` behind"),
            (json!([user, {"role": "developer", "content": "s"}]), "not a role"),
            (json!([user, calls(&["a"]), user]), "`a` has no result"),
            (json!([user, calls(&["a", "b"]), result("a")]), "`b` has no result"),
            (json!([user, calls(&["a", "b"]), result("b"), result("a")]), "where `a` is next"),
            (json!([user, calls(&["a"]), result("a"), result("a")]), "waits for none"),
            (json!([user, result("a")]), "`tool` behind"),
            (json!([user, calls(&["a", "a"])]), "twice"),
            (json!([user, calls(&["a"]), result("a"), calls(&["a"]), result("a")]), "twice"),
            (json!([user, calls(&[""])]), "without an id"),
            (json!([user, calls(&[])]), "`tool_calls`"),
            (json!([user, broken, result("a")]), "not a JSON object"),
            (json!([user, listed, result("a")]), "not a JSON object"),
            (json!([{"role": "user"}]), "no content"),
            (json!([user, {"role": "assistant", "content": null}, user]), "no content"),
        ];
        for (messages, expected) in rows {
            match check(&messages) {
                Err(error) => assert!(error.contains(expected), "{messages}: {error}"),
                Ok(()) => panic!("{messages} passed"),
            }
        }
        assert!(validate(b"{").is_err());
        assert!(validate(b"{\"messages\":[]}").unwrap_err().contains("model"));
    }
}
