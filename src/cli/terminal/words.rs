//! Small words for a person: durations, counts, the telling part of a call, and texts cut to a width.

use std::time::Duration;

use lakitu_kernel::event::CheckpointReason;
use serde_json::{Map, Value};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape::printable;

/// How much of an argument is looked at: more is never shown, and a file's whole text may stand in one.
const LOOKED_AT_CHARS_MAX: usize = 2000;

/// Arguments by how much they tell, the most telling first.
const KEYS: [&str; 13] =
    ["command", "pattern", "query", "url", "path", "title", "name", "id", "job", "task", "ref", "symbol", "type"];

/// A duration as a person says it: `12 ms`, `0.3 s`, `2 s`, `1 m 12 s`, `2 h 5 m`.
pub(super) fn duration(of: Duration) -> String {
    let (ms, s) = (of.as_millis(), of.as_secs());
    match s {
        0 if ms < 100 => format!("{ms} ms"),
        0..10 if ms % 1000 >= 100 => format!("{s}.{} s", ms % 1000 / 100),
        0..60 => format!("{s} s"),
        60..3600 => format!("{} m {} s", s / 60, s % 60),
        _ => format!("{} h {} m", s / 3600, s % 3600 / 60),
    }
}

/// A number with its thousands apart.
pub(super) fn number(of: u64) -> String {
    let digits = of.to_string();
    let mut apart = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// `1 turn`, `2 turns`.
pub(in crate::cli) fn count(of: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(of), if of == 1 { "" } else { "s" })
}

/// Why a thread was checkpointed.
pub(super) fn reason(of: CheckpointReason) -> &'static str {
    match of {
        CheckpointReason::Timeout => "the run's time is used up",
        CheckpointReason::TurnLimit => "the run's turns are used up",
        CheckpointReason::TokenLimit => "the conversation no longer fits the model",
        CheckpointReason::BudgetLimit => "the budget is used up",
        CheckpointReason::Manual => "as asked",
        CheckpointReason::Interrupted => "interrupted",
        CheckpointReason::Gateway => "no answer from the gateway",
        CheckpointReason::ErrorRecovery => "after an error",
    }
}

/// The argument that tells most about a call, and whether its end matters more than its beginning (a path's does).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Telling {
    text: String,
    path: bool,
}

impl Telling {
    /// Of a call's arguments.
    pub(super) fn of(arguments: &Value) -> Self {
        let Some(arguments) = arguments.as_object() else { return Self::default() };
        if let Some(patch) = arguments.get("patch").and_then(Value::as_str) {
            return Self { text: patched(patch), path: true };
        }
        let Some((key, text)) = KEYS.iter().find_map(|key| Some((*key, scalar(arguments, key)?))) else {
            return Self::default();
        };
        Self { text: first_line(&text), path: key == "path" }
    }

    /// Cut to a width.
    pub(super) fn within(&self, width: usize) -> String {
        if self.path { ending(&self.text, width) } else { beginning(&self.text, width) }
    }
}

fn scalar(arguments: &Map<String, Value>, key: &str) -> Option<String> {
    match arguments.get(key)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.chars().take(LOOKED_AT_CHARS_MAX).collect()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The files that a patch names.
fn patched(patch: &str) -> String {
    let named = |line: &str| {
        let unified = || line.strip_prefix("+++ ").map(|file| file.strip_prefix("b/").unwrap_or(file));
        let file = line.split_once(" File: ").map(|(_, file)| file).or_else(unified)?;
        Some(printable(file.split('\t').next().unwrap_or(file)).trim().to_owned())
    };
    let files: Vec<String> = patch.lines().filter_map(named).take(4).collect();
    files.join(" ")
}

/// The first line that says something, with a sign where more follow. Safe to print.
pub(super) fn first_line(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().trim();
    let head: String = first.chars().take(LOOKED_AT_CHARS_MAX).collect();
    let more = if lines.next().is_some() { " …" } else { "" };
    format!("{}{more}", printable(&head))
}

/// The columns that a text takes.
pub(in crate::cli) fn width(text: &str) -> usize {
    text.width()
}

/// A text in lines of so many columns; a word that is wider has a line of its own.
pub(in crate::cli) fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.width() + 1 + word.width() <= width => line.extend([" ", word]),
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The beginning of a text, in so many columns.
pub(super) fn beginning(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |char: &char| {
        used += char.width().unwrap_or(0);
        used <= width
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    cut.truncate(cut.trim_end().len());
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// The end of a text, in so many columns.
pub(super) fn ending(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |char: &char| {
        used += char.width().unwrap_or(0);
        used <= width
    };
    let tail: Vec<char> = text.chars().rev().take_while(fits).collect();
    let mut cut = String::from(if width > 0 { "…" } else { "" });
    // A mark whose character was cut off would stand on the sign.
    cut.extend(tail.into_iter().rev().skip_while(|char| char.width() == Some(0)));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_and_numbers_read_as_said() {
        let said = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            [0, 99, 340, 2_000, 9_990, 12_345, 72_000, 3_600_000, 7_530_000].map(said),
            ["0 ms", "99 ms", "0.3 s", "2 s", "9.9 s", "12 s", "1 m 12 s", "1 h 0 m", "2 h 5 m"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((count(1, "turn"), count(1_000, "call")), ("1 turn".to_owned(), "1,000 calls".to_owned()));
    }

    #[test]
    fn a_text_is_folded_between_words() {
        assert_eq!(folded("one two three", 7), ["one two", "three"]);
        assert_eq!(folded("one unmistakable 日本 語", 6), ["one", "unmistakable", "日本", "語"]);
        assert_eq!(folded("", 0), [""]);
    }

    #[test]
    fn the_telling_argument_is_found_and_fits() {
        let rows = [
            (json!({"command": "\n cargo test \\\n  --all", "cwd": "x"}), 30, "cargo test \\ …"),
            (json!({"path": "src/cli/terminal/escape.rs", "content": "x"}), 14, "…nal/escape.rs"),
            (json!({"pattern": "fn main", "path": "src"}), 30, "fn main"),
            (json!({"patch": "*** Begin Patch\n*** Update File: a.rs\n*** Add File: b/c.rs\n"}), 30, "a.rs b/c.rs"),
            (json!({"patch": "--- a/x.rs\n+++ b/x.rs\t2026\n"}), 30, "x.rs"),
            (json!({"job": 3}), 30, "3"),
            (json!({"path": "", "limit": 3, "hidden": true}), 30, ""),
            (json!({"command": "echo \u{1b}]0;x\u{7}hi\u{202e}"}), 30, "echo hi"),
            (json!({"command": "echo 日本語日本語"}), 10, "echo 日本…"),
            (json!({"command": "echo a"}), 1, "…"),
            (json!({"command": "echo a"}), 0, ""),
            (json!({"path": "日本語"}), 4, "…語"),
            (json!(null), 30, ""),
        ];
        for (arguments, width, expected) in rows {
            assert_eq!(Telling::of(&arguments).within(width), expected, "{arguments}");
        }
    }
}
