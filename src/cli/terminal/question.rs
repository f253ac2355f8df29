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

/// What a terminal would obey, or not show, is written out: whoever consents to it has to know that it is there.
fn visible(text: &mut String, char: char) {
    let mut bytes = [0; 4];
    let shown = printable(char.encode_utf8(&mut bytes));
    if shown.is_empty() {
        text.extend(char.escape_unicode());
    } else {
        text.push_str(&shown);
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
        line.chars().take(LINE_CHARS_MAX).for_each(|char| visible(text, char));
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

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::view::{Look, Loudness};
    use super::*;

    fn asked(arguments: Value) -> String {
        let look = Look { streams: false, colour: false, width: Some(40), loudness: Loudness::Quiet };
        let mut view = View::new(look);
        let (call_id, tool) = ("c".to_owned(), "ba\u{1b}[2Jsh".to_owned());
        let question = Question { call_id, tool, arguments, reason: "the rule `bash`".to_owned() };
        let mut pieces = view.question(&question);
        pieces.push(view.prompt());
        assert!(pieces.iter().all(|piece| piece.to == Channel::Err));
        pieces.into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn all_of_a_call_is_shown_and_nothing_that_would_hide_a_part_of_it() {
        let long = format!("echo {}", "x".repeat(60));
        let hidden = "echo fine\r\u{1b}[1A\u{1b}[2Krm -rf x\u{202e}\u{8}\n# \u{1b}]0;t\u{7}more";
        let shown = [
            asked(json!({ "command": long, "timeout": 120_000 })),
            asked(json!({ "command": hidden })),
            asked(json!({ "path": "a", "content": "" })),
            asked(json!({ "edits": [{ "old_string": "a\u{1b}[2J" }] })),
        ];
        expect![[r#"
            ? bash: may it be done? (the rule `bash`)
              command: echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
              timeout: 120000
              [y/N] 
            --
            ? bash: may it be done? (the rule `bash`)
              command:
                │ echo fine\u{d}\u{1b}[1A\u{1b}[2Krm -rf x\u{202e}\u{8}
                │ # \u{1b}]0;t\u{7}more
              [y/N] 
            --
            ? bash: may it be done? (the rule `bash`)
              content: 
              path: a
              [y/N] 
            --
            ? bash: may it be done? (the rule `bash`)
              edits: [{"old_string":"a\u001b[2J"}]
              [y/N] "#]]
        .assert_eq(&shown.join("\n--\n"));
    }

    #[test]
    fn what_nobody_would_read_is_counted() {
        let lines = |count: usize| asked(json!({ "content": "line\n".repeat(count) }));
        assert!(!lines(LINES_MAX).contains('…'));
        assert!(lines(LINES_MAX + 1).contains("    │ … 1 more lines\n"));
        let line = |count: usize| asked(json!({ "command": "x".repeat(count) }));
        assert!(!line(LINE_CHARS_MAX).contains('…'));
        assert!(line(LINE_CHARS_MAX + 7).contains("x … 7 more characters\n"));
    }
}
