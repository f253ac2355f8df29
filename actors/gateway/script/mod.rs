//! The script upstream: a model whose answers are written down, for tests, for the demo and for everybody who builds
//! on Lakitu without a key.
//!
//! The position is the turn that the request names (at a server, without such a name: the number of answers that it
//! holds), so a resumed thread goes on at its place, and several threads play the same script without getting into each
//! other's way. Shared between them are only the marks of what was used up.
//!
//! An entry is a turn (`text`, `thinking`, `tool_calls [{name, arguments?, id?}]`, `expect`, `delay_ms`, `finish`,
//! `usage`) or a disturbance of the next turn: `fail {status, retry_after?, message?}`, `cut {after_chunks}`. `arguments`
//! that are a text are sent as they stand, valid or not. `expect` knows `last_tool_result` and `last_user`, each with
//! `contains` and `not_contains`, a text or a list of them. An id that is not given is `call_<turn>_<n>`, both from 1.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest, Usage};
use lakitu_kernel::ports::{BoxFuture, Delta, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ThreadId, ToolError, Turn};
use serde::Deserialize;
use serde_json::{Value, json};

use self::format::{Disturbance, Expect, Match, ScriptTurn};
use super::failure::{cut, quote, status};
use super::validate::validate;
use super::wire::text_of;

mod format;

pub use self::format::ScriptError;

/// Pieces in which a text is streamed.
const PIECES: usize = 4;
/// What a mismatch shows of what came, in characters.
const SHOWN_CHARS_MAX: usize = 300;

/// A script that answers.
#[derive(Debug, Clone)]
pub struct ScriptGateway {
    /// Who plays it: in messages.
    list: String,
    scene: Arc<Scene>,
    agents: Arc<BTreeMap<String, Arc<Scene>>>,
    side: Arc<Scene>,
    strict: bool,
}

/// Why a turn gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unplayed {
    /// The script fails here.
    Fail {
        /// With this status.
        status: u16,
        /// And this wish to be left alone.
        after: Option<Duration>,
        /// And this text.
        message: String,
    },
    /// The script cuts the answer off here, behind what was shown of it.
    Cut,
    /// The script does not fit the request.
    Unfit(ModelFailure),
}

impl From<Unplayed> for ModelFailure {
    fn from(unplayed: Unplayed) -> Self {
        match unplayed {
            Unplayed::Fail { status: code, after, message } => status(code, after, message.as_bytes()),
            Unplayed::Cut => cut("the script says so"),
            Unplayed::Unfit(failure) => failure,
        }
    }
}

/// One list of turns.
#[derive(Debug)]
struct Scene {
    turns: Vec<ScriptTurn>,
    /// The highest turn that was answered.
    answered: AtomicU32,
}

impl ScriptGateway {
    /// Reads a script.
    pub fn parse(yaml: &str) -> Result<Self, ScriptError> {
        let raw = format::parse(yaml)?;
        let scene = |list: &str, entries| {
            let turns = format::turns(list, entries)?;
            Ok(Arc::new(Scene { turns, answered: AtomicU32::new(0) }))
        };
        let agents = raw
            .agents
            .into_iter()
            .map(|(name, agent)| Ok((name.clone(), scene(&format!("agents.{name}.turns"), agent.turns)?)))
            .collect::<Result<_, ScriptError>>()?;
        Ok(Self {
            list: "turns".into(),
            scene: scene("turns", raw.turns)?,
            agents: Arc::new(agents),
            side: scene("side", raw.side)?,
            strict: false,
        })
    }

    /// Reads a script's file.
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        let yaml = std::fs::read_to_string(path)
            .map_err(|error| ScriptError::Unreadable { path: path.display().to_string(), error: error.to_string() })?;
        Self::parse(&yaml)
    }

    /// Whether every request is checked by [`validate`] first, as the strictest servers do.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// What the subagent of this name is answered; nothing where the script has no such agent.
    pub fn agent(&self, name: &str) -> Option<Self> {
        let scene = Arc::clone(self.agents.get(name)?);
        Some(Self { list: format!("agents.{name}.turns"), scene, ..self.clone() })
    }

    /// What summaries and titles are answered.
    #[must_use]
    pub fn side(&self) -> Self {
        Self { list: "side".into(), scene: Arc::clone(&self.side), ..self.clone() }
    }

    /// A request as it comes to a server. Its turn is the one that the idempotency key `<thread>:<turn>` names; without
    /// such a key, the one behind those that its messages hold already.
    pub fn request(key: Option<&str>, model: String, body: Bytes) -> ModelRequest {
        let named = key.and_then(|key| key.rsplit_once(':'));
        let named = named.and_then(|(thread, turn)| Some((thread.parse().ok()?, turn.parse().ok()?)));
        let (thread, turn) = named.unwrap_or_else(|| (ThreadId(0), answered(&body) + 1));
        ModelRequest { thread, turn: Turn(turn), model, body: vec![body] }
    }

    /// Plays the turn that a request asks for.
    pub async fn play(&self, request: &ModelRequest, deltas: DeltaSink) -> Result<ModelAnswer, Unplayed> {
        if self.strict {
            validate(&request.body_bytes()).map_err(|error| {
                fatal(ErrorCode::GatewayRejected, format!("turn {}: the request is not valid: {error}", request.turn))
            })?;
        }
        let position = usize::try_from(request.turn.0).ok().and_then(|turn| turn.checked_sub(1));
        let turn = position.and_then(|position| self.scene.turns.get(position)).ok_or_else(|| {
            let turns = self.scene.turns.len();
            mismatch(format!("turn {} is asked for, and the script's `{}` has {turns}", request.turn, self.list))
        })?;
        let disturbance = turn.disturbances.iter().find(|(_, used)| !used.swap(true, Ordering::Relaxed));
        let pieces = match disturbance {
            Some((Disturbance::Fail { status: code, after, message }, _)) => {
                return Err(Unplayed::Fail { status: *code, after: *after, message: message.clone() });
            }
            Some((Disturbance::Cut { after_chunks }, _)) => Some(*after_chunks),
            None => None,
        };
        if let Some(expect) = &turn.expect {
            check(expect, request)?;
        }
        if !turn.delay.is_zero() {
            tokio::time::sleep(turn.delay).await;
        }
        let chunks = turn.chunks();
        for chunk in chunks.into_iter().take(pieces.unwrap_or(usize::MAX)) {
            deltas(chunk);
            // A stream has gaps in which others run.
            tokio::task::yield_now().await;
        }
        if pieces.is_some() {
            return Err(Unplayed::Cut);
        }
        self.scene.answered.fetch_max(request.turn.0, Ordering::Relaxed);
        Ok(turn.answer(request))
    }
}

impl Gateway for ScriptGateway {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let script = self.clone();
        Box::pin(async move { Ok(script.play(&request, deltas).await?) })
    }

    fn finish(&self) -> Result<(), ToolError> {
        let (turns, answered) = (self.scene.turns.len(), self.scene.answered.load(Ordering::Relaxed));
        if usize::try_from(answered).is_ok_and(|answered| answered >= turns) {
            return Ok(());
        }
        let message = format!("the run ended behind turn {answered}, and the script's `{}` has {turns}", self.list);
        Err(ToolError::new(ErrorCode::ScriptMismatch, message))
    }
}

impl ScriptTurn {
    /// What streams: the thinking, the text in a few pieces, a sign of life for each call.
    fn chunks(&self) -> Vec<Delta> {
        let thinking = split(&self.thinking).map(Delta::Thinking);
        let text = split(&self.text).map(Delta::Text);
        let calls = self.calls.iter().map(|_| Delta::Text(String::new()));
        thinking.chain(text).chain(calls).collect()
    }

    fn answer(&self, request: &ModelRequest) -> ModelAnswer {
        let bytes_in: usize = request.body.iter().map(Bytes::len).sum();
        let arguments: usize = self.calls.iter().map(|call| call.arguments.len()).sum();
        let bytes_out = self.text.len() + self.thinking.len() + arguments;
        // Made up, but always the same: so totals can be tested.
        let quarter = |bytes: usize| u64::try_from(bytes / 4).unwrap_or(u64::MAX);
        let usage = Usage { input_tokens: quarter(bytes_in), output_tokens: quarter(bytes_out), ..Usage::default() };
        ModelAnswer {
            text: self.text.clone(),
            calls: self.calls.clone(),
            finish: self.finish,
            usage: Some(self.usage.unwrap_or(usage)),
            model: Some(request.model.clone()),
            opaque: (!self.thinking.is_empty()).then(|| json!({"reasoning_content": self.thinking})),
        }
    }
}

/// A text in at most [`PIECES`] pieces; none where there is none.
fn split(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len().div_ceil(PIECES).max(1);
    let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

fn check(expect: &Expect, request: &ModelRequest) -> Result<(), Unplayed> {
    let turn = request.turn;
    let body: Value = serde_json::from_slice(&request.body_bytes())
        .map_err(|error| mismatch(format!("turn {turn}: the request is not JSON: {error}")))?;
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (role, name, expected) in [
        ("tool", "the last tool result", &expect.last_tool_result),
        ("user", "the last user message", &expect.last_user),
    ] {
        let Some(expected) = expected else { continue };
        let last = messages.iter().rfind(|message| message.get("role").and_then(Value::as_str) == Some(role));
        let came = last.and_then(|message| message.get("content")).map(text_of);
        let came = came.ok_or_else(|| mismatch(format!("turn {turn}: {name} was expected, and there is none")))?;
        expected.check(&came).map_err(|what| {
            let shown: String = quote(came.as_bytes()).chars().take(SHOWN_CHARS_MAX).collect();
            mismatch(format!("turn {turn}: {name} was expected {what}; it is: {shown:?}"))
        })?;
    }
    Ok(())
}

impl Match {
    fn check(&self, text: &str) -> Result<(), String> {
        if let Some(missing) = self.contains.texts().iter().find(|part| !text.contains(part.as_str())) {
            return Err(format!("to contain {missing:?}"));
        }
        match self.not_contains.texts().iter().find(|part| text.contains(part.as_str())) {
            Some(there) => Err(format!("not to contain {there:?}")),
            None => Ok(()),
        }
    }
}

/// How many answers of the model a request holds.
fn answered(body: &[u8]) -> u32 {
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow, default)]
        messages: Vec<Message<'a>>,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow, default)]
        role: Cow<'a, str>,
    }
    let request = serde_json::from_slice::<Request<'_>>(body);
    let count = request.map_or(0, |request| request.messages.iter().filter(|one| one.role == "assistant").count());
    u32::try_from(count).unwrap_or(u32::MAX - 1)
}

fn mismatch(message: String) -> Unplayed {
    fatal(ErrorCode::ScriptMismatch, message)
}

fn fatal(code: ErrorCode, message: String) -> Unplayed {
    Unplayed::Unfit(ModelFailure { class: FailureClass::Fatal, error: ToolError::new(code, message) })
}
