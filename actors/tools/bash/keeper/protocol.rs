//! What a runtime and a keeper say to each other: one JSON object a line, over `<dir>/sock`.
//!
//! `PROTOCOL.md` beside this file is the description for people; the two change together, with [`VERSION`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Isolation;

/// The version of every line below and of the status file. A keeper outlives the runtime that started it, so a newer
/// runtime can meet an older keeper: `hello` tells, and `shutdown` keeps its shape in all versions.
pub const VERSION: u32 = 2;

/// The longest line either side accepts, newline included. A command may be 1 MiB, and JSON may escape much of it.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// The longest deadline a call may have.
pub const MAX_TIMEOUT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The most calls that may be alive (running, or with survivors) in one keeper.
pub const MAX_JOBS: usize = 64;

/// The most text, in bytes, that waits to be read by one command; so also the most that one `input` may bring.
pub const MAX_INPUT: usize = 64 * 1024;

/// One line from a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Echoed in the answer. The client chooses it; uniqueness is its own business.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub call: Call,
}

impl Request {
    /// Reads one line. A refusal carries the id, if the line has one.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, (Option<u64>, Refusal)> {
        /// What can be told of a line that is no request.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Head {
            id: Option<u64>,
            request: Option<String>,
        }
        const NAMES: [&str; 7] = ["hello", "start", "status", "input", "kill", "list", "shutdown"];

        serde_json::from_slice(line).map_err(|why| {
            let head: Head = serde_json::from_slice(line).unwrap_or_default();
            let refusal = match head.request {
                Some(name) if !NAMES.contains(&name.as_str()) => {
                    Refusal::new(RefusalCode::UnknownRequest, "no request by that name")
                }
                _ => Refusal::new(RefusalCode::BadRequest, why.to_string()),
            };
            (head.id, refusal)
        })
    }
}

/// What can be asked. Everything but `hello` and `shutdown` needs a `hello` first on the same connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Call {
    /// Attaches this connection: from now on it gets events and holds off the lease.
    Hello {
        /// The version the client speaks; any other than the keeper's is refused.
        version: u32,
    },
    /// Runs a command, once: see [`Start`].
    Start(Start),
    /// What is known of one call, alive or not.
    Status {
        /// The call.
        seq: u64,
    },
    /// Gives a command text to read, once: see [`Input`].
    Input(Input),
    /// Ends the whole tree of one call: TERM, two seconds, KILL until none is left. Answered at once.
    Kill {
        /// The call.
        seq: u64,
    },
    /// Every call that is alive.
    List {},
    /// Kills everything, writes the statuses and ends the keeper.
    Shutdown {},
}

/// A command to run. Its claim is taken before it is forked, so one (seq, attempt) never runs twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The number of the call's intent in its thread's journal.
    pub seq: u64,
    /// 1 for the first start of this call; a higher one is a decision of recovery.
    pub attempt: u32,
    /// The program and its arguments. A program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// The whole environment; the keeper adds `LAKITU_CALL=<seq>` and nothing else.
    pub env: Vec<(String, String)>,
    /// The deadline, 1 to [`MAX_TIMEOUT_MS`]: then the whole tree of the call is killed, and what it left behind.
    pub timeout_ms: u64,
    /// A short text for lists; never interpreted.
    pub label: String,
    /// Whether its standard input is a pipe for `input` requests; else it is empty.
    #[serde(default)]
    pub input: bool,
}

/// Text for a command's standard input. It is taken whole or refused whole, and one key's is taken once, however often
/// it is sent: also in the status of an ended call stands which keys those were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The call.
    pub seq: u64,
    /// Greater than that of all input before it, for this call.
    pub key: u64,
    /// At most [`MAX_INPUT`] bytes.
    pub text: String,
    /// Whether the input ends behind it.
    pub end: bool,
}

/// One line from the keeper: the answer to a request, or an event nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "made, written and dropped one at a time")]
pub enum Message {
    /// `{"event": …}`
    Event(Event),
    /// `{"id": …, "ok": …}` or `{"id": …, "error": …}`
    Answer(Answer),
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's id; `None` when the line was too broken to find one.
    pub id: Option<u64>,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// `{"ok": …}` or `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "made, written and dropped one at a time")]
pub enum Outcome {
    /// Done, or begun.
    Ok(Reply),
    /// Refused; nothing happened beyond what the code says.
    Error(Refusal),
}

/// What an accepted request is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "made, written and dropped one at a time")]
pub enum Reply {
    /// To `hello`.
    Hello(Welcome),
    /// To `start`: the command was executed.
    Started {
        /// The command's process, as the commands see it: in a PID namespace not the runtime's number for it.
        pid: i32,
    },
    /// To `status`.
    Status(CallState),
    /// To `input`: it is the command's to read, now or with an earlier request of this key.
    Taken {},
    /// To `kill`: begun. `exited` (if the command still ran) and `gone` follow.
    Killing {},
    /// To `list`.
    Jobs(Vec<JobState>),
    /// To `shutdown`: the connection closes when everything is dead.
    ShuttingDown {},
}

/// Who answered `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The keeper's version, equal to the client's.
    pub version: u32,
    /// The boot under which the keeper runs.
    pub boot_id: String,
    /// What keeps its commands apart from the runtime.
    pub isolation: Isolation,
    /// Every call that is alive.
    pub jobs: Vec<JobState>,
}

/// A call with at least one live process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// The call.
    pub seq: u64,
    /// Which start of it.
    pub attempt: u32,
    /// As given to `start`.
    pub label: String,
    /// The command's process; it may have ended, see `status`.
    pub pid: i32,
    /// When it started, Unix time in milliseconds.
    pub started_ms: u64,
    /// How long ago that is by a clock that never jumps.
    pub elapsed_ms: u64,
    /// Length of its spool.
    pub bytes: u64,
    /// Set once the command itself has ended and only what it left behind lives.
    pub status: Option<Status>,
}

/// What is known of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallState {
    /// Set while a process of it is alive.
    pub job: Option<JobState>,
    /// Set once the command ended, also after its last process is gone.
    pub status: Option<Status>,
}

/// How a command ended. Also the content of `<dir>/<seq>/status`, written by rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The call.
    pub seq: u64,
    /// Which start of it.
    pub attempt: u32,
    /// The boot under which it ran.
    pub boot_id: String,
    /// Why and how the command ended.
    pub end: End,
    /// Unix time in milliseconds.
    pub started_ms: u64,
    /// Unix time in milliseconds; with `started_ms` it is only as good as the wall clock.
    pub ended_ms: u64,
    /// By a clock that never jumps.
    pub duration_ms: u64,
    /// Length of the spool.
    pub bytes: u64,
    /// Output that could not be written to the spool (disk full); 0 is the rule.
    #[serde(default)]
    pub lost_bytes: u64,
    /// How many processes of the call were alive when the command ended.
    pub survivors: u32,
    /// Why those were killed later, if they were: the file is written again then.
    #[serde(default)]
    pub survivors_end: Option<Cause>,
    /// The key of the last input that was taken.
    #[serde(default)]
    pub last_input: Option<u64>,
}

/// Why a command ended, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Who ended it.
    pub cause: Cause,
    /// What the kernel said; `None` when the keeper ended before it was known, or nothing ran.
    pub exit: Option<Exit>,
    /// A word more, for `spawn_failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Who ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It did so itself, or somebody unknown sent it a signal.
    Exited,
    /// Its deadline. Also of what it left behind.
    Timeout,
    /// A `kill` request.
    Killed,
    /// It wrote more than its spool may hold.
    SpoolFull,
    /// No runtime was attached for the length of the lease.
    Lease,
    /// A `shutdown` request or SIGTERM to the keeper.
    Shutdown,
    /// It could not be executed: nothing ran.
    SpawnFailed,
}

/// What the kernel reports of a dead process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// What an attached client hears unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command itself ended; what it left behind may live on.
    Exited {
        /// The call.
        seq: u64,
        /// As in the status file, which is already written.
        status: Status,
    },
    /// The spool grew. Coalesced, and dropped for a slow reader.
    Output {
        /// The call.
        seq: u64,
        /// The spool's length so far.
        bytes: u64,
    },
    /// The last process of the call is dead. Always after `exited`.
    Gone {
        /// The call.
        seq: u64,
    },
}

/// A typed no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct Refusal {
    /// What a program branches on.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Why something was refused. Never rename, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalCode {
    /// Not JSON, a field missing, or a value out of range.
    BadRequest,
    /// A request by a name this version does not know.
    UnknownRequest,
    /// The line is longer than [`MAX_LINE`]; it was skipped.
    LineTooLong,
    /// `hello` with another version.
    UnsupportedVersion,
    /// Not attached yet.
    HelloFirst,
    /// This (seq, attempt) was begun by somebody, or may not begin any more. Nothing ran now.
    AlreadyClaimed,
    /// The claim is taken and the command could not be executed; the status file says so too.
    SpawnFailed,
    /// The claim or the spool could not be written, or the status not read. Nothing ran.
    Storage,
    /// More live calls than [`MAX_JOBS`].
    TooManyJobs,
    /// No live call by that number.
    NotFound,
    /// The call takes no input: it was started without, its input was ended, or nobody holds the other end any more.
    /// Nothing was taken.
    InputClosed,
    /// More than [`MAX_INPUT`] would wait to be read. Nothing was taken; later there may be room.
    InputFull,
    /// Another keeper holds the directory's lock.
    KeeperAlive,
    /// A [`crate::KeeperSpec`] that makes no sense.
    BadSpec,
    /// The keeper could not be set up.
    StartupFailed,
    /// Commands are to be confined, and this kernel cannot.
    NotConfined,
    /// The keeper is ending.
    ShuttingDown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_they_are_written_down() {
        let status = Call::Status { seq: 3 };
        let line = serde_json::to_string(&Request { id: 1, call: status }).unwrap();
        assert_eq!(line, r#"{"id":1,"request":"status","seq":3}"#);
        let answer = Answer { id: Some(1), outcome: Outcome::Ok(Reply::Started { pid: 9 }) };
        let line = serde_json::to_string(&Message::Answer(answer.clone())).unwrap();
        assert_eq!(line, r#"{"id":1,"ok":{"started":{"pid":9}}}"#);
        assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), Message::Answer(answer));
        let event = Message::Event(Event::Gone { seq: 4 });
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"event":"gone","seq":4}"#);
        assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), event);
        let end = End { cause: Cause::Timeout, exit: Some(Exit::Signal(15)), detail: None };
        assert_eq!(serde_json::to_string(&end).unwrap(), r#"{"cause":"timeout","exit":{"signal":15}}"#);
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_id() {
        let rows: [(&[u8], Option<u64>, RefusalCode); 6] = [
            (b"nonsense", None, RefusalCode::BadRequest),
            (br#"{"id":5}"#, Some(5), RefusalCode::BadRequest),
            (br#"{"id":5,"request":"dance"}"#, Some(5), RefusalCode::UnknownRequest),
            (br#"{"id":5,"request":"kill","seq":-1}"#, Some(5), RefusalCode::BadRequest),
            (br#"{"id":5,"request":"start","seq":1}"#, Some(5), RefusalCode::BadRequest),
            (b"[[[[", None, RefusalCode::BadRequest),
        ];
        for (line, id, code) in rows {
            let refused = Request::parse(line).map_err(|(id, refusal)| (id, refusal.code));
            assert_eq!(refused, Err((id, code)), "{}", String::from_utf8_lossy(line));
        }
    }
}
