//! A connection to the debug socket on which a run is heard: answers and notifications as they come.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::path::Path;

use lakitu_actors::debug::protocol::{ANSWER_BYTES_MAX, Incoming, Part, RpcError, RunEnd};
use lakitu_kernel::limits::DEBUG_LINE_BYTES_MAX;
use lakitu_kernel::{Event, LiveEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Why a connection is of no more use, or a request was refused.
#[derive(Debug)]
pub(super) enum WireError {
    /// The runtime went away, or closed this connection.
    Gone,
    /// The runtime says no.
    Refused(RpcError),
    /// The runtime says something that this client does not understand.
    Protocol(String),
}

/// What is told without having been asked for.
#[derive(Debug)]
pub(super) enum Notice {
    Event(Box<Event>),
    Live(LiveEvent),
    End(Option<RpcError>),
    /// A request that nobody waits for was refused.
    Refused(RpcError),
}

/// A line that is whole.
enum Said {
    Answer(Option<u64>, Result<Value, RpcError>),
    Notice(Notice),
}

pub(super) struct Wire {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// What has come of a line so far: whoever stops listening within it loses nothing.
    line: Vec<u8>,
    /// What has come of an answer or a notification that is longer than a line.
    parts: String,
    notices: VecDeque<Notice>,
    last_id: u64,
}

impl Wire {
    /// Connects to the runtime that serves a data directory; none: nobody does.
    pub(super) fn connect(data: &Path) -> Result<Option<Self>, Error> {
        let nobody = [ErrorKind::NotFound, ErrorKind::ConnectionRefused, ErrorKind::NotADirectory];
        let stream = match lakitu_actors::debug::connect(data) {
            Err(error) if nobody.contains(&error.kind()) => return Ok(None),
            stream => stream?,
        };
        stream.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let (read, line, parts) = (BufReader::new(read), Vec::new(), String::new());
        Ok(Some(Self { read, write, line, parts, notices: VecDeque::new(), last_id: 0 }))
    }

    /// Asks, and waits for the answer; notifications that come before it are kept.
    pub(super) async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, WireError> {
        // One that was turned away at the door is told why before it can send anything.
        let (asked, sent) = self.send(method, params).await;
        loop {
            match self.said().await {
                Ok(Said::Answer(id, outcome)) if id == asked || id.is_none() => {
                    let result = outcome.map_err(WireError::Refused)?;
                    return serde_json::from_value(result).map_err(not_understood);
                }
                Ok(Said::Answer(..)) => {}
                Ok(Said::Notice(notice)) => self.notices.push_back(notice),
                Err(error) => return Err(sent.err().unwrap_or(error)),
            }
        }
    }

    /// Asks, and waits for nothing: a refusal comes as a notice.
    pub(super) async fn tell(&mut self, method: &str, params: &impl Serialize) -> Result<(), WireError> {
        self.send(method, params).await.1
    }

    /// What is told next. Cancel-safe.
    pub(super) async fn notice(&mut self) -> Result<Notice, WireError> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(notice);
            }
            match self.said().await? {
                Said::Notice(notice) => return Ok(notice),
                Said::Answer(_, Err(error)) => return Ok(Notice::Refused(error)),
                Said::Answer(_, Ok(_)) => {}
            }
        }
    }

    async fn send(&mut self, method: &str, params: &impl Serialize) -> (Option<u64>, Result<(), WireError>) {
        self.last_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        let sent = self.write.write_all(format!("{request}\n").as_bytes()).await;
        (Some(self.last_id), sent.map_err(|_| WireError::Gone))
    }

    async fn said(&mut self) -> Result<Said, WireError> {
        loop {
            let Incoming { id, method, mut params, mut result, error } = self.incoming().await?;
            if method.as_deref() == Some("part") {
                let part: Part<'_> = serde_json::from_value(params).map_err(not_understood)?;
                if self.parts.len() + part.text.len() > ANSWER_BYTES_MAX {
                    return Err(WireError::Protocol("an answer without end".to_owned()));
                }
                self.parts.push_str(&part.text);
                continue;
            }
            let whole = std::mem::take(&mut self.parts);
            if !whole.is_empty() && error.is_none() {
                let text = if method.is_some() { &mut params } else { &mut result };
                *text = serde_json::from_str(&whole).map_err(not_understood)?;
            }
            let notice = match method.as_deref() {
                None => {
                    let id = id.and_then(|id| id.as_u64());
                    return Ok(Said::Answer(id, error.map_or(Ok(result), Err)));
                }
                Some("event") => Notice::Event(serde_json::from_value(params).map_err(not_understood)?),
                Some("live") => match serde_json::from_value(params) {
                    Ok(live) => Notice::Live(live),
                    // A newer runtime may tell more; nothing rests on it.
                    Err(_) => continue,
                },
                Some("end") => {
                    let RunEnd { error } = serde_json::from_value(params).map_err(not_understood)?;
                    Notice::End(error)
                }
                Some(_) => continue,
            };
            return Ok(Said::Notice(notice));
        }
    }

    /// Cancel-safe.
    async fn incoming(&mut self) -> Result<Incoming, WireError> {
        // One line is a little longer than the text that it carries.
        let max = 2 * DEBUG_LINE_BYTES_MAX;
        let left = max.saturating_sub(self.line.len());
        let mut bounded = (&mut self.read).take(left as u64);
        match bounded.read_until(b'\n', &mut self.line).await {
            Ok(_) if self.line.ends_with(b"\n") => {
                let incoming = serde_json::from_slice(&self.line).map_err(not_understood);
                self.line.clear();
                incoming
            }
            Ok(_) if self.line.len() >= max => Err(WireError::Protocol("a line without end".to_owned())),
            Ok(_) | Err(_) => Err(WireError::Gone),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn not_understood(error: serde_json::Error) -> WireError {
    WireError::Protocol(error.to_string())
}
