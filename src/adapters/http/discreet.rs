//! Deltas without the key: it may come in two pieces.

use std::sync::Arc;

use lakitu_kernel::ports::{Delta, DeltaSink};
use lakitu_kernel::supervise::Guarded;

use super::super::secret::Redactor;

/// Shows deltas. Only what may be the beginning of the key is held back, until the next piece tells.
pub(super) struct Discreet {
    redactor: Arc<Redactor>,
    deltas: DeltaSink,
    held: Guarded<[String; 2]>,
}

impl Discreet {
    pub(super) fn new(redactor: Arc<Redactor>, deltas: DeltaSink) -> Self {
        Self { redactor, deltas, held: Guarded::new([String::new(), String::new()]) }
    }

    pub(super) fn show(&self, delta: Delta) {
        let (kind, text): (fn(String) -> Delta, String) = match delta {
            Delta::Text(text) => (Delta::Text, text),
            Delta::Thinking(text) => (Delta::Thinking, text),
        };
        // A sign of life goes on at once.
        if text.is_empty() {
            return (self.deltas)(kind(text));
        }
        let at = usize::from(matches!(kind(String::new()), Delta::Thinking(_)));
        let now = self.held.with(|held| {
            let mut whole = std::mem::take(&mut held[at]) + &text;
            self.redactor.redact(&mut whole);
            held[at] = whole.split_off(whole.len() - self.redactor.may_begin_in(&whole));
            whole
        });
        (self.deltas)(kind(now));
    }

    /// The answer is whole: what was held back was nothing.
    pub(super) fn end(&self) {
        let [text, thinking] = self.held.with(std::mem::take);
        for delta in [Delta::Thinking(thinking), Delta::Text(text)] {
            let (Delta::Text(held) | Delta::Thinking(held)) = &delta;
            if !held.is_empty() {
                (self.deltas)(delta);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::Secret;

    #[test]
    fn a_key_in_pieces_is_not_shown_and_nothing_else_waits() {
        let secret = Secret::new("sk-0123456789abcdef");
        for (pieces, expected) in [
            (vec!["abc", "def"], vec!["abc", "def"]),
            (vec!["a sk-01", "23456789abc", "def b"], vec!["a ", "", "*** b"]),
            (vec!["ends with s"], vec!["ends with ", "s"]),
            (vec!["s", "k", "-not it"], vec!["", "", "sk-not it"]),
        ] {
            let shown = Arc::new(Guarded::new(Vec::new()));
            let to = shown.clone();
            let sink: DeltaSink = Arc::new(move |delta| {
                if let Delta::Text(text) = delta {
                    to.with(|shown| shown.push(text));
                }
            });
            let discreet = Discreet::new(Arc::new(secret.redactor().for_answers()), sink);
            pieces.iter().for_each(|piece| discreet.show(Delta::Text((*piece).to_owned())));
            discreet.end();
            assert_eq!(shown.with(|shown| shown.clone()), expected);
        }
    }
}
