//! What goes over the socket: JSON-RPC 2.0, one object a line. Both ends are built from these types.
//!
//! A line has at most 1 MiB. An answer that is longer (a row can be) comes in `part` notifications, whose texts joined
//! are its `result`; the answer itself then is `{"parts": n}`.

use std::path::PathBuf;

use lakitu_kernel::{CheckpointId, ErrorCode, Seq, ThreadId, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::store::ThreadRow;
use crate::threads::cancel::ScopeName;
use crate::threads::desk::Wish;

/// Changes when a client of before would misunderstand an answer.
pub const PROTOCOL: u32 = 1;
/// The socket's name in the data directory.
pub const SOCKET: &str = "debug.sock";
/// Text of one `part`, in bytes: escaped as a JSON string it still fits into a line.
pub const PART_BYTES: usize = 384 * 1024;
/// An answer's text over all parts: 256 MiB. A longer one is refused.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, and no request.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The method takes other parameters.
pub const INVALID_PARAMS: i64 = -32602;
/// Refused or failed: `data.code` is an [`ErrorCode`].
pub const FAILED: i64 = -32000;

/// An error as it goes on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// One of this module's numbers.
    pub code: i64,
    /// What to do differently.
    pub message: String,
    /// What to branch on, where the code is [`FAILED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

/// See [`RpcError::data`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The code's text: a newer runtime may have codes that this client does not know.
    pub code: String,
}

impl RpcError {
    /// One of JSON-RPC's own errors.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// One of ours.
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Self {
        let data = Some(ErrorData { code: code.as_str().to_owned() });
        Self { code: FAILED, message: message.into(), data }
    }

    /// Whether it is this one of ours.
    pub fn is(&self, code: ErrorCode) -> bool {
        self.data.as_ref().is_some_and(|data| data.code == code.as_str())
    }
}

impl From<ToolError> for RpcError {
    fn from(error: ToolError) -> Self {
        Self::failed(error.code, error.message)
    }
}

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Nothing: a notification, which gets no answer.
    pub(super) id: Option<Value>,
    pub(super) method: String,
    pub(super) params: Value,
}

/// An id's text, in bytes: it stands in the answer, which has to fit into a line.
const ID_BYTES_MAX: usize = 256;

/// Reads a line. An error comes with the id it is to be answered under.
pub(super) fn request(line: &[u8]) -> Result<Request, (Value, RpcError)> {
    let no = |id: Value, message: &str| Err((id, RpcError::new(INVALID_REQUEST, message)));
    let mut fields = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Array(_)) => return no(Value::Null, "batches are not taken: send one request a line"),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            return no(Value::Null, "a request is an object");
        }
        Err(error) => return Err((Value::Null, RpcError::new(PARSE_ERROR, format!("this is not JSON: {error}")))),
    };
    let id = match fields.remove("id") {
        None => None,
        Some(Value::String(text)) if text.len() > ID_BYTES_MAX => return no(Value::Null, "the id is too long"),
        Some(id @ (Value::Null | Value::Number(_) | Value::String(_))) => Some(id),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return no(Value::Null, "an id is a string or a number");
        }
    };
    let answered = id.clone().unwrap_or_default();
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return no(answered, r#"`"jsonrpc": "2.0"` is missing"#);
    }
    let Some(Value::String(method)) = fields.remove("method") else { return no(answered, "`method` is missing") };
    let params = fields.remove("params").unwrap_or_else(|| json!({}));
    Ok(Request { id, method, params })
}

/// The lines of an answer.
pub(super) fn answer(id: &Value, outcome: Result<Value, RpcError>) -> Vec<String> {
    let result = match outcome {
        Ok(result) => result.to_string(),
        Err(error) => return vec![failure(id, &error)],
    };
    if result.len() > ANSWER_BYTES_MAX {
        let message = format!("the answer has {} bytes: ask for less at a time", result.len());
        return vec![failure(id, &RpcError::failed(ErrorCode::FileTooLarge, message))];
    }
    if result.len() <= PART_BYTES {
        return vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)];
    }
    let mut lines = in_parts(id, &result);
    lines.push(json!({ "jsonrpc": "2.0", "id": id, "result": { "parts": lines.len() } }).to_string());
    lines
}

/// The lines of a notification; one that is longer than a line comes in parts as an answer does, under the id `null`.
pub(super) fn notice(method: &str, params: &impl Serialize) -> Vec<String> {
    let text = json!(params).to_string();
    if text.len() <= PART_BYTES {
        return vec![format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{text}}}"#)];
    }
    let mut lines = in_parts(&Value::Null, &text);
    lines.push(notification(method, &json!({ "parts": lines.len() })));
    lines
}

fn in_parts(id: &Value, text: &str) -> Vec<String> {
    parts(text).map(|text| notification("part", &Part { id: id.clone(), text: text.into() })).collect()
}

/// An error's line.
pub(super) fn failure(id: &Value, error: &RpcError) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

/// A notification's line.
pub(super) fn notification(method: &str, params: &impl Serialize) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}

/// Cuts between characters.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, behind) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
        rest = behind;
        Some(part)
    })
}

/// A line from the runtime as its clients read it: an answer, or a notification (then it has a method).
#[derive(Debug, Deserialize)]
pub struct Incoming {
    /// Of an answer: the request's.
    pub id: Option<Value>,
    /// Of a notification.
    pub method: Option<String>,
    /// Of a notification.
    #[serde(default)]
    pub params: Value,
    /// Of an answer.
    #[serde(default)]
    pub result: Value,
    /// Of an answer that is none.
    pub error: Option<RpcError>,
}

/// Of `part`: a piece of what is longer than a line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part<'a> {
    /// The answer's; `null`: of a notification.
    pub id: Value,
    /// The piece.
    pub text: std::borrow::Cow<'a, str>,
}

/// Of methods that take nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Of `inspect`, `restart` and `stop`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnPath {
    /// The node's path.
    pub path: String,
}

/// Of `log`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `error` to `trace`, or a filter as `LAKITU_LOG` takes it.
    pub level: String,
}

/// Of `inject`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// The node's path.
    pub path: String,
    /// What goes wrong.
    pub fault: FaultName,
    /// For `slow`: how long the handling waits first. Default: 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// How many messages are hit. Default: 1; 0 takes an earlier fault back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Of `edits.ls`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EditsLs {
    /// Only those of this thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// Only those of this file, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// At most so many. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Of `edits.diff`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditsDiff {
    /// The edit, as `edits.ls` has its `_id`.
    pub edit: String,
}

/// Of `edits.rollback`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditsRollback {
    /// The edit, as `edits.ls` has its `_id`.
    pub edit: String,
    /// Why it is taken back.
    #[serde(default)]
    pub reason: String,
    /// Put the file back even if it changed since.
    #[serde(default)]
    pub force: bool,
}

/// See [`Inject::fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultName {
    /// The handler panics.
    Panic,
    /// The handler never ends.
    Hang,
    /// The handler takes longer.
    Slow,
    /// The handler fails.
    Error,
}

/// Of `threads.ls`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsLs {
    /// Threads a page: 1 to 100, default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page begins: the `cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Of `threads.show`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsShow {
    /// The thread.
    pub id: ThreadId,
}

/// Of `threads.events`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsEvents {
    /// The thread.
    pub id: ThreadId,
    /// Only what is behind this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Events a page: 1 to 1,000, default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page begins: the `cursor` of the page before. It goes before `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Of `threads.draft`: a piece of the prompt that the next `threads.start` or `threads.prompt` of this connection begins
/// with, because a prompt may be longer than a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsDraft {
    /// The piece.
    pub text: String,
}

/// Of `threads.start`: a new thread. Answered with [`Began`]; then, as `threads.follow`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsStart {
    /// Its first prompt.
    pub prompt: String,
    /// What is not as the runtime is configured.
    #[serde(default)]
    pub wish: Wish,
}

/// Of `threads.prompt`: the next prompt of a thread. Answered with [`Began`]; then, as `threads.follow`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsPrompt {
    /// The thread. None: the newest of the workspace.
    #[serde(default)]
    pub id: Option<ThreadId>,
    /// The prompt.
    pub prompt: String,
    /// What is not as it is stored.
    #[serde(default)]
    pub wish: Wish,
}

/// Of `threads.resume`: a thread goes on. Answered with [`Began`]; then, unless it is settled, as `threads.follow`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsResume {
    /// The thread. None: the unfinished one that was last active.
    #[serde(default)]
    pub id: Option<ThreadId>,
    /// Commands that survived are ended first.
    #[serde(default)]
    pub no_adopt: bool,
    /// What is not as it is stored.
    #[serde(default)]
    pub wish: Wish,
}

/// Of `threads.follow`: a run is heard from behind an event on, to its end. Every durable event comes as an `event`
/// notification, what happens live as `live`, and `end` is the last. One run a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsFollow {
    /// The thread.
    pub id: ThreadId,
    /// The last event that is known already.
    pub after: Seq,
}

/// Of `threads.stop`: the run is checkpointed, as by Ctrl-C. Answered once that is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsStop {
    /// The thread.
    pub id: ThreadId,
}

/// Of `threads.cancel`: what of a thread is given up. Answered within a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsCancel {
    /// The thread.
    pub id: ThreadId,
    /// What of it: the run with all its commands and jobs where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeName>,
    /// This job alone, whatever the scope: `job_12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// Of `threads.approve`: whether a call may be made that waits for consent. Answered once that is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsApprove {
    /// The thread.
    pub id: ThreadId,
    /// The call, as its `approval.asked` names it.
    pub call_id: String,
    /// Whether it may be made.
    pub allow: bool,
}

/// Of `threads.fork`: a thread out of another one's beginning. Answered with [`Forked`](crate::threads::fork::Forked).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsFork {
    /// The thread.
    pub id: ThreadId,
    /// The last event that is taken over. None: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_seq: Option<Seq>,
    /// A new directory that it works in, absolute. None: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<PathBuf>,
}

/// Of `threads.replay`: the journal is gone through again, and nothing outside is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadsReplay {
    /// The thread.
    pub id: ThreadId,
}

/// Of `checkpoints.ls`: the newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointsLs {
    /// Only those of this thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// At most so many: 1 to 100, default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Of `checkpoints.create`. Answered with `{"id": …}` once it is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointsCreate {
    /// The thread. None: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is to be done from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_task: Option<String>,
}

/// Of `checkpoints.restore`. Answered with [`WentBack`](crate::threads::restore::WentBack) once it is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointsRestore {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Whatever somebody else made of the files since.
    #[serde(default)]
    pub force: bool,
}

/// A run that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Began {
    /// Its thread.
    pub thread: ThreadId,
    /// What is heard of it is behind this event.
    pub after: Seq,
    /// There was nothing to go on with: the thread's journal has its end.
    pub settled: bool,
    /// The thread as it was before; none: it is new.
    pub before: Option<ThreadRow>,
}

/// Of an `end` notification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunEnd {
    /// Why nothing more comes, where the journal does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// Of `db.get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbGet {
    /// The table.
    pub table: String,
    /// The key as text, as `db.dump` shows it.
    pub key: String,
}

/// Of `db.backup`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbBackup {
    /// A directory that is missing or empty, as an absolute path.
    pub to: std::path::PathBuf,
}

/// Of `db.dump`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbDump {
    /// The table.
    pub table: String,
    /// Rows a page: 1 to 1,000, default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page begins: the `cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
