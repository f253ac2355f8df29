//! A message out of its fragments. Tolerant here, because every provider fragments differently; whether the message
//! counts is judged in [`super::stream`].

use std::collections::HashMap;

use lakitu_kernel::ports::{Delta, ModelFailure};
use serde_json::{Map, Value};

use super::calls::Calls;
use super::failure::senseless;
use super::wire::{Message, text_of};

/// Details of reasoning that an answer may have. They go back as they came, so none can be left out.
pub(super) const DETAILS_KEPT_MAX: usize = 4096;

/// The fields of a message that go back as they came, and where their text is thinking that can be shown.
const OPAQUE_TEXTS: [&str; 2] = ["reasoning", "reasoning_content"];
const OPAQUE_DETAILS: &str = "reasoning_details";

/// The message so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Assembly {
    pub(super) text: String,
    pub(super) calls: Calls,
    opaque: Map<String, Value>,
    details: Details,
}

impl Assembly {
    /// Takes a fragment in; tells what of it a person may see.
    pub(super) fn take(&mut self, message: Message, mut show: impl FnMut(Delta)) -> Result<(), ModelFailure> {
        let [mut said, refusal] =
            [&message.content, &message.refusal].map(|text| text.as_ref().map(text_of).unwrap_or_default());
        said.push_str(&refusal);
        let texts = [message.reasoning.as_ref().map(text_of), message.reasoning_content.as_ref().map(text_of)];
        // The same thought often comes under several names: it is kept under all of them and shown once.
        let mut thought = texts.iter().flatten().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        for (name, text) in OPAQUE_TEXTS.iter().zip(texts) {
            self.append_opaque(name, text.unwrap_or_default());
        }
        if let Some(Value::Array(details)) = message.reasoning_details {
            if thought.is_empty() {
                thought = text_of(&Value::Array(details.clone()));
            }
            self.merge_details(details)?;
        }
        if !thought.is_empty() {
            show(Delta::Thinking(thought));
        }
        if !said.is_empty() {
            self.text.push_str(&said);
            show(Delta::Text(said));
        }
        self.calls.take(message.tool_calls.into_iter().flatten().flatten().collect());
        Ok(())
    }

    /// The opaque fields as one object; nothing where there are none.
    pub(super) fn take_opaque(&mut self) -> Option<Value> {
        let mut opaque = std::mem::take(&mut self.opaque);
        let details = std::mem::take(&mut self.details).all;
        if !details.is_empty() {
            opaque.insert(OPAQUE_DETAILS.to_owned(), Value::Array(details));
        }
        (!opaque.is_empty()).then_some(Value::Object(opaque))
    }

    /// Whether nothing came at all: no text, no call, no thought.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty() && self.opaque.is_empty() && self.details.all.is_empty()
    }

    fn append_opaque(&mut self, name: &str, text: String) {
        if text.is_empty() {
            return;
        }
        match self.opaque.get_mut(name) {
            Some(Value::String(whole)) => whole.push_str(&text),
            Some(_) | None => {
                self.opaque.insert(name.to_owned(), Value::String(text));
            }
        }
    }

    fn merge_details(&mut self, details: Vec<Value>) -> Result<(), ModelFailure> {
        for detail in details {
            self.details.take(detail)?;
        }
        Ok(())
    }
}

/// Details of reasoning. They are streamed as pieces under an index and a type: their texts are joined, other fields are
/// the last ones.
#[derive(Debug, Default, Clone)]
struct Details {
    all: Vec<Value>,
    /// Where the last detail of an index and a type stands, and where that of an id among those.
    known: HashMap<(String, Option<String>), usize>,
}

impl Details {
    fn take(&mut self, detail: Value) -> Result<(), ModelFailure> {
        let keys = keys(&detail);
        match (self.place(&detail, &keys), detail) {
            (Some(at), Value::Object(detail)) => {
                if let Some(whole) = self.all[at].as_object_mut() {
                    merge_detail(whole, detail);
                }
                self.known.extend(keys.into_iter().map(|key| (key, at)));
            }
            (_, detail) => {
                if self.all.len() >= DETAILS_KEPT_MAX {
                    return Err(senseless(format!("the answer has over {DETAILS_KEPT_MAX} details of reasoning")));
                }
                self.all.push(detail);
                self.known.extend(keys.into_iter().map(|key| (key, self.all.len() - 1)));
            }
        }
        Ok(())
    }

    /// Which detail this one continues.
    fn place(&self, detail: &Value, keys: &[(String, Option<String>)]) -> Option<usize> {
        if keys.is_empty() {
            // Without an index only the piece right before can be continued.
            let last = self.all.last()?;
            let continues = is_null(last.get("index")) && last.get("type") == detail.get("type");
            return (continues && !id_differs(last, detail)).then(|| self.all.len() - 1);
        }
        let known = |key| self.known.get(key).copied().filter(|at| !id_differs(&self.all[*at], detail));
        keys.iter().rev().find_map(known)
    }
}

/// By what a detail with an index is found again: by index and type, and by its id too where it has one.
fn keys(detail: &Value) -> Vec<(String, Option<String>)> {
    let Some(index) = detail.get("index").filter(|index| !index.is_null()) else { return Vec::new() };
    let kind = format!("{index} {}", detail.get("type").unwrap_or(&Value::Null));
    let id = detail.get("id").filter(|id| !id.is_null()).map(|id| (kind.clone(), Some(id.to_string())));
    std::iter::once((kind, None)).chain(id).collect()
}

fn is_null(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

fn id_differs(one: &Value, other: &Value) -> bool {
    matches!((one.get("id"), other.get("id")), (Some(a), Some(b)) if a != b && !a.is_null() && !b.is_null())
}

fn merge_detail(known: &mut Map<String, Value>, detail: Map<String, Value>) {
    for (key, value) in detail {
        match (known.get_mut(&key), value) {
            (Some(Value::String(whole)), Value::String(piece))
                if matches!(key.as_str(), "text" | "summary" | "data") =>
            {
                whole.push_str(&piece);
            }
            (Some(_), Value::Null) => {}
            (_, value) => {
                known.insert(key, value);
            }
        }
    }
}
