//! The last lines of a run: how it ended, what it took, and how to go on.

use super::output::{End, Summary};
use super::view::{Channel, Ink, Loudness, Piece, View};
use super::words;

/// Lines of an error that are shown.
const ERROR_LINES: usize = 10;

impl View {
    /// What is left to say when the run has ended. The result itself is the caller's to print where texts do not stream.
    pub fn finish(&mut self, summary: &Summary) -> Vec<Piece> {
        let mut out = Vec::new();
        let end = summary.ended();
        if end != End::Completed {
            self.not_the_result(&mut out);
        } else if self.look.streams && self.answer.is_none() && !summary.text.is_empty() {
            self.recite(&mut out, &summary.text);
        }
        if end == End::Completed && self.look.loudness == Loudness::Quiet {
            return out;
        }
        self.close(&mut out);
        let mut said = String::new();
        for line in self.closing(summary, &end) {
            said.push_str(&line);
            said.push('\n');
        }
        out.push(Piece { to: Channel::Err, text: said });
        out
    }

    fn closing(&self, summary: &Summary, end: &End) -> Vec<String> {
        let (mark, ink, status, go_on) = match end {
            End::Completed => ("✓", Ink::Good, "completed".to_owned(), None),
            End::Failed(_) => ("✗", Ink::Bad, "failed".to_owned(), Some("continue")),
            End::Checkpointed(why, _) => {
                ("■", Ink::Warn, format!("checkpointed: {}", words::reason(*why)), Some("resume"))
            }
            End::Cancelled => ("✗", Ink::Warn, "cancelled".to_owned(), Some("continue")),
        };
        let mut lines = vec![self.ink(ink, &format!("{mark} {status}"))];
        if let End::Failed(error) | End::Checkpointed(_, Some(error)) = end {
            let text = error.to_string();
            let shown = text.lines().take(ERROR_LINES).map(super::escape::printable);
            lines.extend(shown.map(|line| self.ink(ink, &format!("  {line}"))));
        }
        let Some(thread) = summary.thread else { return lines };
        if self.look.loudness != Loudness::Quiet {
            lines.extend(self.numbers(summary));
            lines.push(self.ink(Ink::Dim, &format!("  {thread}")));
        }
        match go_on {
            Some("resume") => lines.push(format!("  to go on: {}", self.command(&format!("lakitu resume {thread}")))),
            Some(word) => {
                lines.push(format!("  to go on: {}", self.command(&format!("lakitu {word} {thread} \"…\""))));
            }
            None => {}
        }
        lines
    }

    /// Never cut: it is there to be copied.
    fn command(&self, command: &str) -> String {
        self.ink(Ink::Strong, command)
    }

    /// What the run took, in as few lines as the width allows.
    fn numbers(&self, summary: &Summary) -> Vec<String> {
        let cached = match summary.cached_tokens {
            0 => String::new(),
            cached => format!(" ({} cached)", words::number(cached)),
        };
        let mut parts = vec![words::count(u64::from(summary.turns), "turn"), words::count(summary.tool_calls, "call")];
        if summary.input_tokens + summary.output_tokens > 0 {
            parts.push(format!("{} tokens in{cached}", words::number(summary.input_tokens)));
            parts.push(format!("{} out", words::number(summary.output_tokens)));
        }
        parts.extend(summary.cost.map(|cost| format!("${:.4}", cost.dollars())));
        parts.extend(summary.took().map(words::duration));
        let mut lines = Vec::new();
        let mut line = String::new();
        for part in parts {
            if !line.is_empty() && words::width(&line) + words::width(&part) + 5 > self.width() {
                lines.push(std::mem::take(&mut line) + ",");
            }
            line.push_str(if line.is_empty() { "  " } else { ", " });
            line.push_str(&part);
        }
        lines.push(line);
        lines.iter().map(|line| self.ink(Ink::Dim, line)).collect()
    }
}
