//! A client of the debug socket. Blocking: a command line has nothing else to do meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lakitu_actors::debug::protocol::{ANSWER_BYTES_MAX, Incoming, Part, RpcError};
use lakitu_kernel::limits::DEBUG_LINE_BYTES_MAX;
use serde::Serialize;
use serde_json::{Value, json};

/// How long an answer may take. Looking at a large store takes minutes.
const ANSWER_DEADLINE: Duration = Duration::from_mins(10);
/// How long the runtime may take to read a request.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody serves this data directory.
    NoRuntime,
    /// The runtime went away.
    Gone,
    /// The runtime says no.
    Refused(RpcError),
    /// The runtime says something that this client does not understand.
    Protocol(String),
    /// The socket failed.
    Io(Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NoRuntime => out.write_str("no runtime serves this data directory"),
            ClientError::Gone => out.write_str("the runtime is gone"),
            ClientError::Refused(error) => match &error.data {
                Some(data) => write!(out, "{}: {}", data.code, error.message),
                None => out.write_str(&error.message),
            },
            ClientError::Protocol(what) => write!(out, "the runtime speaks another protocol: {what}"),
            ClientError::Io(error) => write!(out, "the debug socket: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<Error> for ClientError {
    fn from(error: Error) -> Self {
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof];
        if gone.contains(&error.kind()) { ClientError::Gone } else { ClientError::Io(error) }
    }
}

/// A connection.
pub(super) struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    /// What has come of a line so far: a wait that ran out does not lose it.
    line: Vec<u8>,
    notifications: VecDeque<Value>,
    last_id: u64,
}

impl Client {
    /// Connects to the runtime that serves a data directory.
    pub(super) fn connect(data: &Path) -> Result<Self, ClientError> {
        let nobody = [ErrorKind::NotFound, ErrorKind::ConnectionRefused, ErrorKind::NotADirectory];
        let stream = lakitu_actors::debug::connect(data).map_err(|error| {
            if nobody.contains(&error.kind()) { ClientError::NoRuntime } else { ClientError::Io(error) }
        })?;
        stream.set_write_timeout(Some(SEND_DEADLINE))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader, line: Vec::new(), notifications: VecDeque::new(), last_id: 0 })
    }

    /// Calls a method.
    pub(super) fn call(&mut self, method: &str, params: &impl Serialize) -> Result<Value, ClientError> {
        self.ask(method, serde_json::to_value(params).map_err(not_understood)?)
    }

    /// [`Client::call`] with parameters of any type.
    fn ask(&mut self, method: &str, params: Value) -> Result<Value, ClientError> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        // One that was turned away at the door is told why before it can send anything.
        let sent = self.stream.write_all(format!("{request}\n").as_bytes());
        self.stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        let mut text = String::new();
        loop {
            let Some(incoming) = self.next()? else {
                sent?;
                return Err(ClientError::Io(ErrorKind::TimedOut.into()));
            };
            match incoming.method.as_deref() {
                Some("part") => {
                    let part: Part<'_> = serde_json::from_value(incoming.params).map_err(not_understood)?;
                    if part.id == id && text.len() + part.text.len() <= ANSWER_BYTES_MAX {
                        text.push_str(&part.text);
                    }
                }
                Some(_) => self.notifications.push_back(incoming.params),
                None => {
                    if let Some(error) = incoming.error {
                        return Err(ClientError::Refused(error));
                    }
                    if incoming.id != Some(id.into()) {
                        return Err(ClientError::Protocol("an answer to another request".to_owned()));
                    }
                    return if text.is_empty() {
                        Ok(incoming.result)
                    } else {
                        serde_json::from_str(&text).map_err(not_understood)
                    };
                }
            }
        }
    }

    /// The next notification; nothing within `wait`: none.
    pub(super) fn notification(&mut self, wait: Duration) -> Result<Option<Value>, ClientError> {
        if let Some(params) = self.notifications.pop_front() {
            return Ok(Some(params));
        }
        // 0 would be no limit at all.
        self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let incoming = self.next()?;
        Ok(incoming.filter(|incoming| incoming.method.is_some()).map(|incoming| incoming.params))
    }

    /// The next line; none: it did not come in time.
    fn next(&mut self) -> Result<Option<Incoming>, ClientError> {
        // One line of ours is a little longer than the text that it carries.
        let max = 2 * DEBUG_LINE_BYTES_MAX;
        let left = max.saturating_sub(self.line.len());
        let mut bounded = (&mut self.reader).take(left as u64);
        match bounded.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => {
                let incoming = serde_json::from_slice(&self.line).map_err(not_understood);
                self.line.clear();
                incoming.map(Some)
            }
            Ok(_) if self.line.len() >= max => Err(ClientError::Protocol("a line without end".to_owned())),
            Ok(_) => Err(ClientError::Gone),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn not_understood(error: serde_json::Error) -> ClientError {
    ClientError::Protocol(error.to_string())
}
