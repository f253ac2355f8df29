//! The assistant's texts: shown as they arrive, made whole by the message that follows, never shown twice.

use lakitu_kernel::Turn;
use lakitu_kernel::event::Call;
use serde_json::Value;

use super::escape::Filter;
use super::view::{Channel, Last, Loudness, Piece, View, Wait, push};

/// What was shown of a turn's text while it arrived.
#[derive(Debug, Default)]
pub(super) struct Streamed {
    pub(super) turn: Turn,
    /// The deltas since the attempt began, as they came.
    pub(super) raw: String,
    filter: Filter,
    /// The index that the next delta must have.
    pub(super) next: u64,
    /// A delta was lost: the rest is shown when the whole message is here.
    torn: bool,
    /// Whether anything of it was shown, and line ends that wait for text behind them.
    begun: bool,
    ends: usize,
}

impl Streamed {
    /// Nothing yet of a turn's attempt whose first delta will have this index.
    pub(super) fn of(turn: Turn, next: u64) -> Self {
        Self { turn, next, ..Self::default() }
    }
}

impl View {
    /// The whole message: what of it was not shown yet is.
    pub(super) fn message(&mut self, out: &mut Vec<Piece>, turn: Turn, text: &str, calls: &[Call]) {
        self.not_the_result(out);
        if calls.is_empty() {
            self.answer = Some(text.to_owned());
        }
        // Arguments that do not parse have an intent without any.
        for call in calls {
            self.called(&call.call_id, &call.tool, &serde_json::from_str(&call.arguments).unwrap_or(Value::Null));
        }
        self.wait = Wait::Nothing;
        if self.look.streams || !calls.is_empty() {
            let known = self.look.streams && self.streamed.turn == turn;
            let shown = if known { text.strip_prefix(self.streamed.raw.as_str()) } else { None };
            if shown.is_none() {
                // Not what had arrived: a retry was lost on the way here, or another attempt answered.
                self.end_line(out);
                self.streamed = Streamed::default();
            }
            self.say(out, shown.unwrap_or(text));
        }
        self.end_line(out);
        self.streamed = Streamed { turn, torn: true, ..Streamed::default() };
    }

    /// The message before was held back as the result, and something followed it.
    pub(super) fn not_the_result(&mut self, out: &mut Vec<Piece>) {
        let Some(text) = self.answer.take().filter(|_| !self.look.streams) else { return };
        self.streamed = Streamed::default();
        self.say(out, &text);
        self.end_line(out);
    }

    /// Whether a delta stands where the one before ended.
    pub(super) fn follows(&mut self, out: &mut Vec<Piece>, turn: Turn, index: u64) -> bool {
        if turn != self.streamed.turn || index == 0 {
            self.end_line(out);
            self.streamed = Streamed::of(turn, 0);
        }
        self.streamed.torn |= index != self.streamed.next;
        self.streamed.next = index.saturating_add(1);
        if !matches!(self.wait, Wait::Model(_)) {
            self.wait = Wait::Model(self.now);
        }
        self.look.streams && !self.streamed.torn
    }

    /// The next piece of the assistant's text. Empty lines around the whole text are left out.
    pub(super) fn say(&mut self, out: &mut Vec<Piece>, text: &str) {
        if !self.look.streams && self.look.loudness == Loudness::Quiet {
            return;
        }
        let mut shown = String::new();
        self.streamed.filter.push(text, &mut shown);
        let body = shown.trim_end_matches('\n');
        let ends = shown.len() - body.len();
        let body = if self.streamed.begun { body } else { body.trim_start_matches('\n') };
        if body.is_empty() {
            self.streamed.ends += ends;
            return;
        }
        let mut said = String::new();
        if self.streamed.begun {
            // Nobody needs more than an empty line, and the line may have been ended to make room.
            let ended = usize::from(self.mid_line.is_none());
            said.push_str(&"\n".repeat(self.streamed.ends.min(2).saturating_sub(ended)));
        } else if self.last != Last::Nothing {
            said.push('\n');
        }
        said.push_str(body);
        (self.streamed.begun, self.streamed.ends, self.last) = (true, ends, Last::Text);
        self.mid_line = Some(self.now);
        push(out, if self.look.streams { Channel::Out } else { Channel::Err }, said);
    }

    /// Ends the line that the text stands in, if it does.
    pub(super) fn end_line(&mut self, out: &mut Vec<Piece>) {
        if self.mid_line.take().is_some() {
            push(out, if self.look.streams { Channel::Out } else { Channel::Err }, "\n".to_owned());
        }
    }

    /// Shows a settled thread's answer, which no event told.
    pub(super) fn recite(&mut self, out: &mut Vec<Piece>, text: &str) {
        self.streamed = Streamed::default();
        self.say(out, text);
        self.end_line(out);
    }
}
