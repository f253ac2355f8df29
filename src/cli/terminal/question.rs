//! A call that waits for a person's consent, as it is put to them: all that it would do, and nothing that a terminal obeys.

use std::fmt::Write as _;

use serde_json::Value;

use super::escape::printable;
use super::view::{Channel, Ink, Piece, View, push};

/// Lines of one argument that are shown: a person reads no more before they decide.
const LINES_MAX: usize = 40;
/// What is shown of one line, in characters: past it the rest is counted.
const LINE_CHARS_MAX: usize = 2000;

/// Whether a call may be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The call.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// Why it needs consent.
    pub reason: String,
}

impl View {
    /// The question, and where the answer is typed. Shown however quiet it is to be otherwise.
    pub(super) fn question(&mut self, question: &Question) -> Vec<Piece> {
        let mut out = Vec::new();
        self.end_line(&mut out);
        let head = format!("? {}: may it be done? ({})", printable(&question.tool), printable(&question.reason));
        let mut text = self.ink(Ink::Warn, &head);
        text.push('\n');
        for (name, value) in question.arguments.as_object().into_iter().flatten() {
            let value = match value {
                Value::String(value) => value.clone(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    value.to_string()
                }
            };
            argument(&mut text, &printable(name), &value);
        }
        push(&mut out, Channel::Err, text);
        out
    }

    /// Where the answer is typed.
    pub(super) fn prompt(&self) -> Piece {
        Piece { to: Channel::Err, text: self.ink(Ink::Strong, "  [y/N] ") }
    }
}

fn argument(text: &mut String, name: &str, value: &str) {
    let lines: Vec<&str> = value.lines().collect();
    let one = lines.len() <= 1;
    text.push_str("  ");
    text.push_str(name);
    text.push_str(if one { ": " } else { ":\n" });
    for line in lines.iter().take(LINES_MAX) {
        if !one {
            text.push_str("    │ ");
        }
        let head: String = line.chars().take(LINE_CHARS_MAX).collect();
        text.push_str(&printable(&head));
        let left = line.chars().count().saturating_sub(LINE_CHARS_MAX);
        if left > 0 {
            let _ = write!(text, " … {left} more characters");
        }
        text.push('\n');
    }
    if lines.is_empty() {
        text.push('\n');
    }
    if lines.len() > LINES_MAX {
        let _ = writeln!(text, "    │ … {} more lines", lines.len() - LINES_MAX);
    }
}
