//! Questions to the person at this terminal: whether a call may be made.

use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal, Read};

use lakitu_kernel::{Event, EventBody};
use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc;

use super::terminal::{Question, Ui};

/// Lines that were typed and that nobody waits for.
const LINES_MAX: usize = 16;
/// Of a line only its beginning matters.
const LINE_BYTES_MAX: u64 = 1024;
/// A terminal that says so often in a row that there is nothing more to read is gone.
const ENDS_MAX: usize = 3;

/// Whether somebody sits here who can be asked.
pub(super) fn person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// What is to be asked, and what is.
pub(super) struct Questions {
    person: bool,
    open: VecDeque<Question>,
    /// Whether the first of them stands on the screen.
    shown: bool,
    lines: Option<mpsc::Receiver<Option<String>>>,
}

impl Questions {
    /// Of one run. Where nobody sits here, nothing is asked here.
    pub(super) fn new() -> Self {
        Self { person: person(), open: VecDeque::new(), shown: false, lines: None }
    }

    /// What happened may ask something, or be the answer of what is asked.
    pub(super) fn event(&mut self, event: &Event, ui: &mut Ui) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "questions are few of many kinds of events")]
        match &event.body {
            EventBody::ApprovalAsked { call_id, tool, arguments, reason, .. }
                if self.person && self.open.iter().all(|question| question.call_id != *call_id) =>
            {
                let (call_id, tool) = (call_id.clone(), tool.clone());
                let (arguments, reason) = (arguments.clone(), reason.clone());
                self.open.push_back(Question { call_id, tool, arguments, reason });
            }
            // Somebody else was quicker, or the run was stopped.
            EventBody::ApprovalAnswered { call_id, .. } | EventBody::ToolResult { call_id, .. } => {
                if self.open.front().is_some_and(|question| question.call_id == *call_id) {
                    self.take(ui);
                }
                self.open.retain(|question| question.call_id != *call_id);
            }
            _ => {}
        }
    }

    /// Whether an answer is waited for.
    pub(super) fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// Asks the first of the open questions: the call, and whether it may be made. Cancel-safe.
    pub(super) async fn answer(&mut self, ui: &mut Ui) -> Option<(String, bool)> {
        loop {
            let question = self.open.front()?;
            let lines = self.lines.get_or_insert_with(read);
            if !self.shown {
                // What was typed before is no answer to it.
                let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
                while lines.try_recv().is_ok() {}
                ui.ask(question);
                self.shown = true;
            }
            let allow = match lines.recv().await {
                Some(Some(line)) => match line.trim().to_ascii_lowercase().as_str() {
                    "y" | "yes" => true,
                    "n" | "no" | "" => false,
                    _ => {
                        ui.ask_again();
                        continue;
                    }
                },
                // Nobody is there any more.
                Some(None) | None => false,
            };
            return self.take(ui).map(|question| (question.call_id, allow));
        }
    }

    fn take(&mut self, ui: &mut Ui) -> Option<Question> {
        if std::mem::take(&mut self.shown) {
            ui.asked();
        }
        self.open.pop_front()
    }
}

/// Reads what is typed, in a thread of its own: a read from a terminal cannot be cut off, and nothing waits for its end.
fn read() -> mpsc::Receiver<Option<String>> {
    let (to, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut ends = 0;
        while ends < ENDS_MAX {
            let mut line = Vec::new();
            let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) | Err(_) => None,
                Ok(_) => Some(String::from_utf8_lossy(&line).into_owned()),
            };
            ends = if line.is_none() { ends + 1 } else { 0 };
            if to.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
