//! What a tool is: its specification as data, a call of it, and what became of the call.

use std::time::Duration;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Saved;
use crate::bead::BeadChange;
use crate::edit::Changes;
use crate::error::{ErrorCode, ToolError};
use crate::event::FileVersion;
use crate::id::{Seq, ThreadId};
use crate::image::Image;
use crate::mode::Mode;
use crate::policy::Subject;

mod arguments;
mod place;

/// What may be assumed of a call whose result is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Changes nothing: run again.
    Read,
    /// The intent's (thread, seq) is the key of a transaction: run again.
    Keyed,
    /// A redo record tells whether it was done: rolled forward.
    Verifiable,
    /// A keeper knows what became of it.
    Detached,
    /// Nobody knows: the model is told so.
    External,
}

/// What those who ask or allow may assume of a tool, in the words of the Model Context Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "the protocol's")]
pub struct Hints {
    /// It changes nothing.
    pub read_only_hint: bool,
    /// It may change or remove what there was.
    pub destructive_hint: bool,
    /// Doing it twice is doing it once.
    pub idempotent_hint: bool,
    /// It may reach beyond the sandbox.
    pub open_world_hint: bool,
}

impl EffectClass {
    /// What follows from the class: recovery and permission never assume different things of one tool.
    pub const fn hints(self) -> Hints {
        Hints {
            read_only_hint: matches!(self, Self::Read),
            destructive_hint: !matches!(self, Self::Read),
            idempotent_hint: matches!(self, Self::Read | Self::Keyed),
            open_world_hint: matches!(self, Self::Detached | Self::External),
        }
    }
}

/// The typed arguments of a tool. Schema, unknown-key check and defaults are derived from the type.
pub trait Arguments: DeserializeOwned + Serialize + JsonSchema {
    /// Other names that models are trained on: (alias, canonical). What stands for the empty name is taken
    /// and means nothing here.
    const ALIASES: &'static [(&'static str, &'static str)] = &[];

    /// What the schema cannot say. The message says what to do differently.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Which actor runs the tool: `/tools/<category>`, or one that is not about tools alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// `/tools/file`
    File,
    /// `/tools/bash`
    Bash,
    /// `/tools/artifact`
    Artifact,
    /// `/tools/beads`
    Beads,
    /// `/checkpoint`
    Checkpoint,
    /// The thread's own agent: what is written stands beside the call's result.
    Agent,
}

/// A tool, as the registry lists it.
#[derive(Debug, Clone, Copy)]
pub struct ToolSpec {
    /// What the model calls.
    pub name: &'static str,
    /// What the model is told about it; the file beside the tool's code.
    pub prompt: &'static str,
    /// What recovery may assume.
    pub effect: EffectClass,
    /// Who runs it.
    pub category: Category,
    /// What the patterns of policy rules are matched against.
    pub subject: Subject,
    /// How long a call may take, from its arguments. The supervisor of effects enforces it; the tool need not cooperate.
    pub deadline: fn(&Value) -> Duration,
    schema: fn() -> Value,
    check: fn(&str) -> Result<Value, ToolError>,
}

impl ToolSpec {
    /// The tool `name` with arguments `A`.
    pub const fn of<A: Arguments>(
        name: &'static str,
        prompt: &'static str,
        effect: EffectClass,
        category: Category,
    ) -> Self {
        Self {
            name,
            prompt,
            effect,
            category,
            subject: Subject::Nothing,
            deadline: |_| Duration::from_secs(30),
            schema: schema_of::<A>,
            check: arguments::check::<A>,
        }
    }

    /// The same tool with its own deadline.
    #[must_use]
    pub const fn deadline(mut self, deadline: fn(&Value) -> Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same tool, which policy rules can name with a pattern.
    #[must_use]
    pub const fn on(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// What those who ask or allow may assume of it.
    pub const fn hints(&self) -> Hints {
        self.effect.hints()
    }

    /// The first sentence of its prompt: what it is for, on one line.
    pub fn summary(&self) -> &'static str {
        let line = self.prompt.lines().next().unwrap_or_default();
        let end = line.find(". ").map_or(line.len(), |at| at + 1);
        line.get(..end).unwrap_or(line)
    }

    /// The JSON schema of the arguments: one closed object, no references.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// Checks a call's arguments as the model wrote them, and gives them back in their canonical form with defaults
    /// filled in. Nothing has run when this fails.
    pub fn check(&self, arguments: &str) -> Result<Value, ToolError> {
        (self.check)(arguments)
    }
}

fn schema_of<A: Arguments>() -> Value {
    schema(SchemaGenerator::into_root_schema_for::<A>)
}

fn schema(of: fn(SchemaGenerator) -> Schema) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = of(SchemaGenerator::new(settings)).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
        object.remove("description");
        object.insert("additionalProperties".into(), Value::Bool(false));
        object.entry("properties").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    schema
}

/// A call on its way to the actor that runs it.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// The thread that called.
    pub thread: ThreadId,
    /// Where its intent stands; (thread, seq) is the call's key everywhere.
    pub intent: Seq,
    /// Its id on the wire to the model.
    pub call_id: String,
    /// The tool's name.
    pub tool: &'static str,
    /// Checked arguments.
    pub arguments: Value,
    /// Which start this is: 1 for the first.
    pub start: u32,
}

/// What became of a call, as its result event will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutcome {
    /// What the model is told. Of a failure the first line is `CODE: message`.
    pub output: String,
    /// The failure.
    pub error: Option<ToolError>,
    /// The versions of files that it saw or made.
    pub files: Vec<FileVersion>,
    /// What it shows to the model, beside the text.
    pub images: Vec<Image>,
    /// What it changed in files.
    pub changes: Changes,
    /// What it changed among beads.
    pub bead: Option<Box<BeadChange>>,
    /// What it saved for somebody, with the content.
    pub artifact: Option<Box<(Saved, Bytes)>>,
}

impl ToolOutcome {
    /// It did what was asked.
    pub fn ok(output: impl Into<String>) -> Self {
        Self {
            output: output.into(),
            error: None,
            files: Vec::new(),
            images: Vec::new(),
            changes: Changes::default(),
            bead: None,
            artifact: None,
        }
    }

    /// It did, and these are the versions of files that it saw or made.
    #[must_use]
    pub fn with_files(mut self, files: Vec<FileVersion>) -> Self {
        self.files = files;
        self
    }

    /// It changed this.
    #[must_use]
    pub fn with_changes(mut self, changes: Changes) -> Self {
        self.changes = changes;
        self
    }

    /// It did, and shows this.
    #[must_use]
    pub fn with_image(mut self, image: Image) -> Self {
        self.images.push(image);
        self
    }

    /// It failed, and what it put out until then follows the error's line.
    pub fn failed_with_output(error: ToolError, output: &str) -> Self {
        let mut text = error.to_string();
        if !output.is_empty() {
            text.push('\n');
            text.push_str(output);
        }
        Self {
            output: text,
            error: Some(error),
            files: Vec::new(),
            images: Vec::new(),
            changes: Changes::default(),
            bead: None,
            artifact: None,
        }
    }
}

impl From<ToolError> for ToolOutcome {
    fn from(error: ToolError) -> Self {
        Self::failed_with_output(error, "")
    }
}

impl From<Result<ToolOutcome, ToolError>> for ToolOutcome {
    fn from(result: Result<ToolOutcome, ToolError>) -> Self {
        result.unwrap_or_else(Into::into)
    }
}

/// The tools that a runtime offers, sorted by name: the order in the prompt, which must not change within a thread.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue(pub &'static [ToolSpec]);

impl Catalogue {
    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&'static ToolSpec> {
        self.0.iter().find(|spec| spec.name == name)
    }

    /// The tools that may be called in this mode.
    pub fn of(&self, mode: Mode) -> impl Iterator<Item = &'static ToolSpec> {
        self.0.iter().filter(move |spec| mode.permits(spec))
    }

    /// The tool of that name, or the error that the model gets: it may not be called in this mode, or there is none.
    pub fn find(&self, name: &str, mode: Mode) -> Result<&'static ToolSpec, ToolError> {
        let names = || self.of(mode).map(|spec| spec.name).collect::<Vec<_>>().join(", ");
        if let Some(spec) = self.get(name) {
            return if mode.permits(spec) { Ok(spec) } else { Err(not_in(mode, name, &names())) };
        }
        Err({
            let shown: String = name.chars().take(64).collect();
            ToolError::new(ErrorCode::UnknownTool, format!("there is no tool {shown:?}; there are {}", names()))
        })
    }
}

fn not_in(mode: Mode, name: &str, names: &str) -> ToolError {
    ToolError::new(
        ErrorCode::NotInMode,
        format!("{name} may not be called in the mode {mode}, which changes nothing; there are {names}"),
    )
}
