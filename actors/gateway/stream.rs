//! An answer out of the body of a response. Pure: bytes in, an answer or a failure out.
//!
//! **Invariant:** an answer is given only after its terminal, `data: [DONE]`, however its body ends and however complete
//! it looks: a proxy may frame anew what was cut behind it. So nothing of a cut stream ever runs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use lakitu_kernel::chat::{Finish, ModelAnswer, Usage};
use lakitu_kernel::limits::STREAM_EVENT_BYTES_MAX;
use lakitu_kernel::planted::{Planted, planted};
use lakitu_kernel::ports::{Delta, DeltaSink, ModelFailure};
use tokio::time::timeout;

use super::assembly::Assembly;
use super::failure::{cut, empty, in_band, protocol, quote, senseless};
use super::sse::Sse;
use super::wire::{Choice, Chunk, usage_of};

/// A whole answer, its events' data together: 64 MiB.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the end of a body is waited for when the answer is complete …
const BODY_END_DEADLINE: Duration = Duration::from_millis(20);
/// … and how much may come before it: 64 KiB. A connection on which more comes is not used again.
const BODY_END_BYTES_MAX: u64 = 64 * 1024;

/// What a piece of the body was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Data of the answer came.
    Data,
    /// Nothing but comments and beginnings: no sign of life.
    Nothing,
    /// The terminal came: [`AnswerStream::end`] gives the answer, and what follows does not matter.
    Done,
}

/// Reads a body to the end of its answer. `framed`: the protocol tells where the body ends, so it is read to there, for
/// a little while, and its connection can be used again.
pub async fn read(
    body: impl Stream<Item = Result<Bytes, ModelFailure>>,
    framed: bool,
    deltas: DeltaSink,
) -> Result<ModelAnswer, ModelFailure> {
    let mut body = pin!(body);
    let mut answer = AnswerStream::new(Arc::clone(&deltas));
    while let Some(piece) = body.next().await {
        match answer.push(&piece?)? {
            Progress::Data => deltas(Delta::Text(String::new())),
            Progress::Nothing => {}
            Progress::Done => break,
        }
    }
    if framed && answer.done {
        let rest = async {
            while answer.bytes_behind() <= BODY_END_BYTES_MAX
                && let Some(Ok(piece)) = body.next().await
                && answer.push(&piece).is_ok()
            {}
        };
        let _ = timeout(BODY_END_DEADLINE, rest).await;
    }
    if answer.bytes_behind() > 0 {
        tracing::debug!(bytes = answer.bytes_behind(), "what came behind the end of an answer is ignored");
    }
    answer.end()
}

/// What the body is, known from its first character: servers' content types are not to be relied on.
#[derive(Debug, Clone)]
enum Body {
    Unknown(Vec<u8>),
    Events(Sse),
    Json(Vec<u8>),
}

/// Reads one response's body.
#[derive(Clone)]
pub struct AnswerStream {
    body: Body,
    deltas: DeltaSink,
    message: Assembly,
    finish: Option<String>,
    usage: Option<Usage>,
    model: Option<String>,
    done: bool,
    bytes_seen: usize,
    bytes_behind: u64,
}

impl AnswerStream {
    /// A stream whose deltas go there.
    pub fn new(deltas: DeltaSink) -> Self {
        Self {
            body: Body::Unknown(Vec::new()),
            deltas,
            message: Assembly::default(),
            finish: None,
            usage: None,
            model: None,
            done: false,
            bytes_seen: 0,
            bytes_behind: 0,
        }
    }

    /// Bytes that came behind the terminal and were ignored.
    pub(super) fn bytes_behind(&self) -> u64 {
        self.bytes_behind
    }

    /// Takes a piece of the body in.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Progress, ModelFailure> {
        if self.done {
            self.bytes_behind += bytes.len() as u64;
            return Ok(Progress::Done);
        }
        self.bytes_seen = self.bytes_seen.saturating_add(bytes.len());
        if self.bytes_seen > ANSWER_BYTES_MAX {
            return Err(senseless(format!("the answer is over {ANSWER_BYTES_MAX} bytes")));
        }
        match &mut self.body {
            Body::Events(sse) => {
                let mut events = Vec::new();
                let parsed = sse.push(bytes, &mut events);
                let progress = self.take_events(events)?;
                // Events that were complete before the one that is too long may hold the terminal.
                if progress != Progress::Done {
                    parsed.map_err(|error| senseless(error.to_string()))?;
                }
                Ok(progress)
            }
            Body::Json(json) if json.len() + bytes.len() > STREAM_EVENT_BYTES_MAX => {
                Err(senseless(format!("the answer is one JSON text over {STREAM_EVENT_BYTES_MAX} bytes")))
            }
            Body::Json(json) => {
                json.extend_from_slice(bytes);
                Ok(Progress::Data)
            }
            Body::Unknown(head) => {
                head.extend_from_slice(bytes);
                let head = std::mem::take(head);
                self.open(head)
            }
        }
    }

    /// Looks at the first character that tells what the body is.
    fn open(&mut self, head: Vec<u8>) -> Result<Progress, ModelFailure> {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        if BOM.starts_with(&head) {
            self.body = Body::Unknown(head);
            return Ok(Progress::Nothing);
        }
        let text = head.strip_prefix(BOM).unwrap_or(&head).trim_ascii_start();
        match text.first() {
            // Blank lines say nothing yet. The mark stays in front, whatever follows.
            None => {
                let marked = head.starts_with(BOM);
                self.body = Body::Unknown(if marked { BOM.to_vec() } else { Vec::new() });
                Ok(Progress::Nothing)
            }
            Some(b'{' | b'[') => {
                let text = text.to_vec();
                self.bytes_seen -= text.len();
                self.body = Body::Json(Vec::new());
                self.push(&text)
            }
            Some(b'<') => Err(protocol(format!("the gateway sent a page, not an answer: {}", quote(text)))),
            Some(_) => {
                self.bytes_seen -= head.len();
                self.body = Body::Events(Sse::new(STREAM_EVENT_BYTES_MAX));
                self.push(&head)
            }
        }
    }

    fn take_events(&mut self, events: Vec<Vec<u8>>) -> Result<Progress, ModelFailure> {
        let mut progress = Progress::Nothing;
        for event in events {
            if self.done {
                self.bytes_behind += event.len() as u64;
                continue;
            }
            if event.trim_ascii().is_empty() {
                continue;
            }
            progress = Progress::Data;
            self.take_event(&event)?;
        }
        Ok(if self.done { Progress::Done } else { progress })
    }

    fn take_event(&mut self, event: &[u8]) -> Result<(), ModelFailure> {
        if is_terminal(event) {
            self.done = true;
            return Ok(());
        }
        let chunk = Chunk::read(event)
            .map_err(|error| senseless(format!("an event of the stream is not a chunk ({error}): {}", quote(event))))?;
        self.take_chunk(chunk)
    }

    fn take_chunk(&mut self, chunk: Chunk) -> Result<(), ModelFailure> {
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(in_band(&error));
        }
        self.usage = chunk.usage.and_then(|usage| usage_of(&usage)).or(self.usage);
        self.model = chunk.model.filter(|model| !model.is_empty()).or(self.model.take());
        // One answer is asked for; a provider that gives more gets the first one read.
        for choice in chunk.choices.unwrap_or_default().into_iter().filter(|choice| choice.index.unwrap_or(0) == 0) {
            self.take_choice(choice)?;
        }
        Ok(())
    }

    fn take_choice(&mut self, choice: Choice) -> Result<(), ModelFailure> {
        if let Some(error) = choice.error.filter(|error| !error.is_null()) {
            return Err(in_band(&error));
        }
        let deltas = &self.deltas;
        for message in [choice.delta, choice.message].into_iter().flatten() {
            self.message.take(message, |delta| deltas(delta))?;
        }
        self.finish = choice.finish_reason.filter(|reason| !reason.is_empty()).or(self.finish.take());
        if self.finish.as_deref() == Some("error") {
            return Err(protocol("the provider broke the answer off with an error that it does not name"));
        }
        Ok(())
    }

    /// The body ended: the answer, or why it does not count.
    pub fn end(mut self) -> Result<ModelAnswer, ModelFailure> {
        let streamed = matches!(self.body, Body::Events(_));
        match std::mem::replace(&mut self.body, Body::Unknown(Vec::new())) {
            Body::Unknown(_) => return Err(protocol("the gateway sent an empty answer")),
            // A JSON text says itself where it ends.
            Body::Json(json) => {
                let chunk = Chunk::read(&json).map_err(|error| {
                    protocol(format!("the answer is not a chat completion ({error}): {}", quote(&json)))
                })?;
                if chunk.error.is_none() && chunk.choices.is_none() {
                    return Err(protocol(format!("the answer is not a chat completion: {}", quote(&json))));
                }
                self.take_chunk(chunk)?;
                self.done = true;
            }
            // The terminal may lack its blank line: it cannot be the beginning of anything else.
            Body::Events(sse) => self.done |= sse.finish().is_some_and(|event| is_terminal(&event)),
        }
        if !self.done && !planted(Planted::AcceptedCutStream) {
            return Err(match self.finish {
                Some(_) => senseless("the stream says why it stops, and ends without `data: [DONE]`"),
                None => cut("its end is missing"),
            });
        }
        // Some relays write `[DONE]` behind whatever broke off. A text without a reason to stop is taken for what it is,
        // but a call that may be cut is not run.
        if streamed && self.finish.is_none() && !self.message.calls.is_empty() {
            return Err(senseless("the answer calls tools and gives no reason to stop"));
        }
        let finish = finish_of(self.finish.as_deref(), !self.message.calls.is_empty());
        if self.message.is_empty() && matches!(finish, Finish::Stop | Finish::ToolCalls) {
            return Err(empty());
        }
        Ok(ModelAnswer {
            text: std::mem::take(&mut self.message.text),
            opaque: self.message.take_opaque(),
            calls: self.message.calls.into_calls(),
            finish,
            usage: self.usage,
            model: self.model,
        })
    }
}

fn is_terminal(event: &[u8]) -> bool {
    event.trim_ascii() == b"[DONE]"
}

/// Providers have their own words. One that is not known means no more than that the model stopped.
fn finish_of(reason: Option<&str>, calls: bool) -> Finish {
    match reason {
        Some("length" | "max_tokens" | "model_length") => Finish::Length,
        Some("content_filter" | "content-filter" | "refusal") => Finish::ContentFilter,
        Some(_) | None if calls => Finish::ToolCalls,
        Some(_) | None => Finish::Stop,
    }
}
