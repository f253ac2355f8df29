//! What the model will say, as a story is told.

use serde_json::{Value, json};

/// A model script in the making. `{me}` in what it says or calls stands for the first prompt of the thread that asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    turns: Vec<Value>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The model calls one tool.
    pub(crate) fn calls(self, tool: &str, arguments: Value) -> Self {
        self.calls_all([(tool, arguments)])
    }

    /// The model calls several tools in one turn. Arguments that are a text are sent as they stand.
    pub(crate) fn calls_all<'a>(self, calls: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let calls: Vec<Value> =
            calls.into_iter().map(|(name, arguments)| json!({ "name": name, "arguments": arguments })).collect();
        self.turn(json!({ "tool_calls": calls }))
    }

    /// The model runs a command.
    pub(crate) fn runs(self, command: &str) -> Self {
        self.calls("bash", json!({ "command": command }))
    }

    /// The model says its last word.
    pub(crate) fn says(self, text: &str) -> Self {
        self.turn(json!({ "text": text }))
    }

    /// A turn, or a disturbance of the next one, as a script's file has it.
    pub(crate) fn turn(mut self, turn: Value) -> Self {
        self.turns.push(turn);
        self
    }

    /// The next call fails once with this status.
    pub(crate) fn fails(self, status: u16) -> Self {
        self.turn(json!({ "fail": { "status": status } }))
    }

    /// The next answer breaks off once.
    pub(crate) fn cuts(self, after_chunks: u32) -> Self {
        self.turn(json!({ "cut": { "after_chunks": after_chunks } }))
    }

    /// The last turn comes so much later.
    pub(crate) fn after_ms(mut self, delay_ms: u64) -> Self {
        let last = self.turns.last_mut().expect("a turn that comes later");
        last["delay_ms"] = delay_ms.into();
        self
    }

    /// The last turn is cut off at the model's output limit.
    pub(crate) fn at_its_limit(mut self) -> Self {
        let last = self.turns.last_mut().expect("a turn that is cut off");
        last["finish"] = "length".into();
        self
    }

    /// The same turns so many times over.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.turns = std::iter::repeat_n(self.turns, times).flatten().collect();
        self
    }

    /// The turns of another script behind these.
    pub(crate) fn then(mut self, other: Script) -> Self {
        self.turns.extend(other.turns);
        self
    }

    /// As a script's file has it.
    pub(crate) fn yaml(&self) -> String {
        serde_norway::to_string(&json!({ "turns": self.turns })).unwrap()
    }
}
