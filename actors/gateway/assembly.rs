//! A message out of its fragments. Tolerant here, because every provider fragments differently; whether the message
//! counts is judged in [`super::stream`].

use lakitu_kernel::chat::RawCall;
use lakitu_kernel::ports::Delta;
use serde_json::{Map, Value};

use super::wire::{Fragment, Function, Message, text_of};

/// Calls that are kept. An agent takes far fewer; the others it must still be able to refuse one by one.
const CALLS_KEPT_MAX: usize = 4096;

/// The fields of a message that go back as they came, and where their text is thinking that can be shown.
const OPAQUE_TEXTS: [&str; 2] = ["reasoning", "reasoning_content"];
const OPAQUE_DETAILS: &str = "reasoning_details";

/// The message so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Assembly {
    pub(super) text: String,
    pub(super) calls: Vec<RawCall>,
    opaque: Map<String, Value>,
    /// Which call a provider's index means now. A provider that numbers every call 0 moves it.
    by_index: Vec<(i64, usize)>,
}

impl Assembly {
    /// Takes a fragment in; tells what of it a person may see.
    pub(super) fn take(&mut self, message: Message, mut show: impl FnMut(Delta)) {
        let mut said = message.content.as_ref().map(text_of).unwrap_or_default();
        said.push_str(message.refusal.as_deref().unwrap_or_default());
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
            self.merge_details(details);
        }
        if !thought.is_empty() {
            show(Delta::Thinking(thought));
        }
        if !said.is_empty() {
            self.text.push_str(&said);
            show(Delta::Text(said));
        }
        let fragments = message.tool_calls.unwrap_or_default();
        let several = fragments.len() > 1;
        for (position, fragment) in fragments.into_iter().enumerate() {
            self.take_fragment(fragment, several.then_some(position));
        }
    }

    /// The opaque fields as one object; nothing where there are none.
    pub(super) fn take_opaque(&mut self) -> Option<Value> {
        let opaque = std::mem::take(&mut self.opaque);
        (!opaque.is_empty()).then_some(Value::Object(opaque))
    }

    /// Whether nothing came at all: no text, no call, no thought.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty() && self.opaque.is_empty()
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

    /// Details are streamed as pieces under an index and a type: their texts are joined, other fields are the last ones.
    fn merge_details(&mut self, details: Vec<Value>) {
        let whole = self.opaque.entry(OPAQUE_DETAILS).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(whole) = whole else { return };
        for detail in details {
            let last = whole.len().saturating_sub(1);
            let same = |(at, other): &(usize, &mut Value)| {
                let indexed = detail.get("index").is_some_and(|index| !index.is_null());
                let id_differs = matches!((detail.get("id"), other.get("id")), (Some(a), Some(b)) if a != b && !a.is_null() && !b.is_null());
                detail.get("index") == other.get("index")
                    && detail.get("type") == other.get("type")
                    && !id_differs
                    // Without an index only the piece right before can be continued.
                    && (indexed || *at == last)
            };
            let known = whole.iter_mut().enumerate().find(same).and_then(|(_, other)| other.as_object_mut());
            match (known, detail) {
                (Some(known), Value::Object(detail)) => merge_detail(known, detail),
                (_, detail) => whole.push(detail),
            }
        }
        if whole.is_empty() {
            self.opaque.remove(OPAQUE_DETAILS);
        }
    }

    /// `position` is the fragment's place among several of one chunk: what tells them apart where indices are missing.
    fn take_fragment(&mut self, fragment: Fragment, position: Option<usize>) {
        let id = fragment.id();
        let function = fragment.function.unwrap_or_default();
        let index = fragment.index.or(position.and_then(|position| i64::try_from(position).ok()));
        let known = match index {
            Some(index) => self.by_index.iter().find(|(known, _)| *known == index).map(|(_, slot)| *slot),
            None if id.is_empty() => self.calls.len().checked_sub(1),
            None => self.calls.iter().position(|call| call.id == id),
        };
        let arguments = function.arguments();
        let slot =
            known.filter(|slot| !begins_another(&self.calls[*slot], &id, &function, &arguments, index.is_some()));
        let slot = slot.unwrap_or_else(|| {
            // Past the bound everything goes into the last call, which makes it one that is refused.
            if self.calls.len() < CALLS_KEPT_MAX {
                self.calls.push(RawCall::default());
            }
            let slot = self.calls.len() - 1;
            if let Some(index) = index {
                self.by_index.retain(|(known, _)| *known != index);
                self.by_index.push((index, slot));
            }
            slot
        });
        let call = &mut self.calls[slot];
        if call.id.is_empty() {
            call.id = id;
        }
        join_name(call, function.name.unwrap_or_default());
        call.arguments.push_str(&arguments);
    }
}

/// Whether this fragment, although its index or place says so, is not a piece of that call but a call of its own.
fn begins_another(call: &RawCall, id: &str, function: &Function, arguments: &str, indexed: bool) -> bool {
    if function.name.as_deref().unwrap_or_default().is_empty() {
        // Some send another id with every piece: an id alone begins nothing.
        return false;
    }
    let same_id = !id.is_empty() && id == call.id;
    if !id.is_empty() && !call.id.is_empty() && !same_id {
        return true;
    }
    // A name again, without an id that says which call is meant: a new one if that one is complete.
    !same_id && !arguments.is_empty() && is_object(&call.arguments)
        || (!indexed && id.is_empty() && !call.name.is_empty() && function.name.as_deref() != Some(&call.name))
}

fn is_object(text: &str) -> bool {
    // The first test is the cheap one: it keeps a stream that repeats the name in every piece from being read n² times.
    text.trim_end().ends_with('}') && serde_json::from_str::<Map<String, Value>>(text).is_ok()
}

/// Names come once, or again and again, or growing, or in two pieces before the arguments.
fn join_name(call: &mut RawCall, name: String) {
    if name.starts_with(&call.name) {
        call.name = name;
    } else if call.arguments.is_empty() {
        call.name.push_str(&name);
    }
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
