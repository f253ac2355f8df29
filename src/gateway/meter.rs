//! What an answer used, out of its bytes while they pass. Nothing is held back for it: a copy of the end is kept.

use bytes::Bytes;
use lakitu_actors::gateway::usage_of;
use lakitu_kernel::chat::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::budget::Tab;

/// What is kept of a stream's end: usage stands in one of the last chunks.
const TAIL_BYTES: usize = 64 * 1024;
/// What is kept of an answer in one piece, which can be read as a whole alone.
const WHOLE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Counts one answer when it is dropped, wherever it was then.
#[derive(Debug)]
pub(super) struct Meter {
    tab: Tab,
    request_bytes: usize,
    events: bool,
    kept: Vec<u8>,
    /// Line ends that were seen: about two of them are an event, and an event is about a token.
    lines: u64,
    /// The provider took the request: it counts, whatever comes.
    answered: bool,
    /// What is known without reading it.
    told: Option<Usage>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Meter {
    pub(super) fn new(tab: Tab, request_bytes: usize) -> Self {
        Self { tab, request_bytes, events: false, kept: Vec::new(), lines: 0, answered: false, told: None }
    }

    /// The head of an answer came.
    pub(super) fn answered(&mut self, events: bool) {
        self.events = events;
        self.answered = true;
    }

    /// What it uses is known.
    pub(super) fn told(&mut self, usage: Usage) {
        self.told = Some(usage);
    }

    /// A piece of its body passes.
    pub(super) fn pass(&mut self, piece: &Bytes) {
        let most = if self.events { TAIL_BYTES } else { WHOLE_BYTES_MAX };
        let ends = piece.split(|byte| *byte == b'\n').count() - 1;
        self.lines = self.lines.saturating_add(u64::try_from(ends).unwrap_or(u64::MAX));
        // Twice as much is let in before the first half goes, so that little is moved.
        if self.kept.len() + piece.len() > 2 * most {
            let gone = self.kept.len().saturating_sub(most);
            self.kept.drain(..gone);
        }
        self.kept.extend_from_slice(&piece[piece.len().saturating_sub(2 * most)..]);
    }

    fn usage(&self) -> Option<Usage> {
        if !self.events {
            return read(&self.kept);
        }
        let lines = self.kept.split(|byte| matches!(byte, b'\n' | b'\r')).rev();
        lines.filter_map(|line| line.strip_prefix(b"data:")).find_map(read)
    }

    /// Where the answer tells nothing, its size has to say something: else an asker would only have to hang up before
    /// the end, or not to ask for usage.
    fn guess(&self) -> Usage {
        let quarter = |bytes: usize| u64::try_from(bytes / 4).unwrap_or(u64::MAX);
        let output_tokens = if self.events { self.lines / 2 } else { quarter(self.kept.len()) };
        Usage { input_tokens: quarter(self.request_bytes), output_tokens, ..Usage::default() }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.answered {
            self.tab.add(self.told.or_else(|| self.usage()).unwrap_or_else(|| self.guess()));
        }
    }
}

fn read(json: &[u8]) -> Option<Usage> {
    let chunk: Chunk<'_> = serde_json::from_slice(json.trim_ascii()).ok()?;
    usage_of(chunk.usage?)
}
