//! From a thread's events to what a person reads. Pure: pieces of text out, no clock, no terminal.
//!
//! **Invariant:** whatever came from outside passes [`escape`](super::escape) on its way into a piece.
//! **Invariant:** live events only say sooner what journaled ones say for certain; any of them may be lost.

use std::time::Duration;

use lakitu_kernel::event::Resumed;
use lakitu_kernel::{Event, EventBody, LiveEvent, ToolError};
use serde_json::Value;

use super::escape::{Filter, printable};
use super::texts::Streamed;
use super::words::{self, Telling};

/// Text that stands unfinished in its line so long makes room for the moving line.
const PAUSE: Duration = Duration::from_millis(1500);
/// What is over sooner is not worth a moving line.
const MOVES_AFTER: Duration = Duration::from_millis(200);
/// Lines of a tool's output that are shown with `-v`.
const OUTPUT_LINES: usize = 10;
/// The width where there is no terminal: lines still have to be read.
const WIDTH_ELSEWHERE: usize = 120;
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Where a piece goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output: results.
    Out,
    /// Standard error: everything else.
    Err,
}

/// Text for one of the two channels, newlines included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it goes.
    pub to: Channel,
    /// The text.
    pub text: String,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    /// `-q`: errors and results.
    Quiet,
    /// What happens, a line each.
    Normal,
    /// `-v`: the first lines of what tools gave, too.
    Verbose,
}

/// How it is to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Whether the assistant's text is shown as it arrives, on standard output: where a person looks at both channels.
    /// Otherwise only texts that are not the result are shown, whole, on standard error.
    pub streams: bool,
    /// Whether standard error is coloured.
    pub colour: bool,
    /// The terminal's width; none: no terminal.
    pub width: Option<usize>,
    /// How much is told.
    pub loudness: Loudness,
}

/// Colours, by what they mean.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Good,
    Bad,
    Warn,
    Strong,
    Dim,
}

/// What stood on the screen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Nothing,
    Line,
    Text,
}

/// A call without a result.
#[derive(Debug, Clone)]
struct Running {
    call_id: String,
    tool: String,
    telling: Telling,
    /// Since when nothing before it is waited for.
    since: Duration,
}

/// What is waited for, other than calls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    Nothing,
    Model(Duration),
    Retry(Duration),
}

/// What a person sees of one thread.
#[derive(Debug)]
pub struct View {
    pub(super) look: Look,
    pub(super) now: Duration,
    calls: Vec<Running>,
    pub(super) wait: Wait,
    pub(super) streamed: Streamed,
    /// When text was last shown; none: the cursor does not stand in a text's line.
    pub(super) mid_line: Option<Duration>,
    pub(super) last: Last,
    /// The last message, if it asks for nothing: the result, should the run end now.
    pub(super) answer: Option<String>,
    prompted: bool,
}

impl View {
    /// Of a thread that begins or goes on.
    pub fn new(look: Look) -> Self {
        Self {
            look,
            now: Duration::ZERO,
            calls: Vec::new(),
            wait: Wait::Nothing,
            streamed: Streamed::default(),
            mid_line: None,
            last: Last::Nothing,
            answer: None,
            prompted: false,
        }
    }

    /// The terminal has another width now.
    pub fn resized(&mut self, width: usize) {
        self.look.width = Some(width);
    }

    /// Takes in what happened before anybody looked, so that what follows can be named. Nothing is shown.
    pub fn recall(&mut self, event: &Event) {
        drop(self.event(event));
        // Calls are all that is kept: the next prompt is this run's first.
        (self.mid_line, self.last, self.answer, self.wait) = (None, Last::Nothing, None, Wait::Nothing);
        self.prompted = false;
    }

    /// What the journal's next event adds.
    pub fn event(&mut self, event: &Event) -> Vec<Piece> {
        let mut out = Vec::new();
        match &event.body {
            EventBody::ThreadResumed { why, .. } => {
                self.wait = Wait::Model(self.now);
                // A run that goes on has its prompt already.
                self.prompted |= *why != Resumed::Continue;
                match why {
                    Resumed::Continue => {}
                    Resumed::Resume => self.note(&mut out, "going on from where it stopped"),
                    Resumed::Boot => self.note(&mut out, "the runtime was restarted; going on from where it stopped"),
                }
            }
            EventBody::Prompt { text } => {
                self.not_the_result(&mut out);
                // The first one was typed by who looks at this; a later one may have come from elsewhere.
                if std::mem::replace(&mut self.prompted, true) {
                    self.note(&mut out, &format!("› {}", words::first_line(text)));
                }
                self.wait = Wait::Model(self.now);
            }
            EventBody::Message { turn, text, calls, .. } => self.message(&mut out, *turn, text, calls),
            EventBody::ToolIntent { call_id, tool, arguments, .. } => self.called(call_id, tool, arguments),
            EventBody::ApprovalAsked { call_id, tool, arguments, reason, .. } => {
                self.called(call_id, tool, arguments);
                self.note(&mut out, &format!("{tool} waits for consent: {reason}"));
            }
            EventBody::ToolResult { call_id, ok, output, error, duration_ms, .. } => {
                let run = self.ended(call_id);
                let took = Duration::from_millis(*duration_ms);
                self.result(&mut out, &run, took, if *ok { Ok(output) } else { Err((error.as_ref(), output)) });
            }
            EventBody::ToolRestarted { call_id, start, .. } => {
                let tool = self.calls.iter().find(|call| call.call_id == *call_id).map_or("a call", |call| &call.tool);
                let line = format!("{tool}: started again after a crash (start {start})");
                self.note(&mut out, &line);
            }
            EventBody::HistoryPruned { results, images, bytes, refused, .. } => {
                self.note(&mut out, &pruned([(*results, "old result"), (*images, "image")], *bytes, *refused));
            }
            EventBody::ModelNudged { .. } => self.note(&mut out, "the model said nothing; it was told so"),
            EventBody::HistoryRepaired { reason, .. } => {
                self.note(&mut out, &format!("history repaired: {}", words::first_line(reason)));
            }
            EventBody::Stalled { reason } => {
                let line = format!("nothing happens: {}", words::first_line(reason));
                self.told(&mut out, Ink::Warn, &line);
            }
            EventBody::ThreadCompleted {}
            | EventBody::ThreadFailed { .. }
            | EventBody::ThreadCheckpointed { .. }
            | EventBody::ThreadCancelled {} => {
                self.calls.clear();
                self.wait = Wait::Nothing;
            }
            EventBody::CheckpointCreated { id, .. } => self.note(&mut out, &format!("checkpoint {id}")),
            EventBody::ThreadStarted { .. }
            | EventBody::ThreadForked { .. }
            | EventBody::CheckpointRestored { .. }
            | EventBody::ApprovalAnswered { .. }
            | EventBody::ToolPrepared { .. }
            | EventBody::BeadChanged { .. }
            | EventBody::ArtifactSaved { .. }
            | EventBody::EditRecorded { .. }
            | EventBody::EditRestoring { .. }
            | EventBody::EditRestored { .. }
            | EventBody::Decision { .. }
            | EventBody::Usage { .. } => {}
        }
        out
    }

    /// Says that the first Ctrl-C was heard.
    pub fn stopping(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        self.note(&mut out, "stopping where the thread can go on; Ctrl-C again quits at once");
        out
    }

    /// What something that is told while it happens adds.
    pub fn live(&mut self, event: &LiveEvent) -> Vec<Piece> {
        let mut out = Vec::new();
        match event {
            LiveEvent::TurnStarted { turn } => {
                self.streamed = Streamed::of(*turn, 0);
                self.wait = Wait::Model(self.now);
            }
            LiveEvent::TextDelta { turn, index, text } => {
                if self.follows(&mut out, *turn, *index) {
                    self.streamed.raw.push_str(text);
                    self.say(&mut out, text);
                }
            }
            LiveEvent::ThinkingDelta { turn, index, .. } => {
                self.follows(&mut out, *turn, *index);
            }
            LiveEvent::Retry { attempt, after_ms, reason } => self.retry(&mut out, *attempt, *after_ms, reason),
            LiveEvent::ActorRestarted { path } => self.note(&mut out, &format!("{} restarted", printable(path))),
            // Output is shown when the call ends; what a gap swallowed is shown with the whole message.
            LiveEvent::ToolOutput { .. } | LiveEvent::Gap { .. } => {}
        }
        out
    }

    /// Time goes on: `elapsed` since the view began. What it adds, and the moving line as it stands now.
    pub fn tick(&mut self, elapsed: Duration) -> (Vec<Piece>, Option<String>) {
        self.now = elapsed;
        let mut out = Vec::new();
        let status = self.status();
        match (&status, self.mid_line) {
            (Some(_), Some(said)) if elapsed.saturating_sub(said) < PAUSE => return (out, None),
            // The text is most likely over, and the model is writing a call. If not, it goes on in the next line.
            (Some(_), Some(_)) => self.end_line(&mut out),
            (Some(_) | None, None) | (None, Some(_)) => {}
        }
        (out, status)
    }

    /// Ends what stands open, before the closing lines.
    pub(super) fn close(&mut self, out: &mut Vec<Piece>) {
        self.end_line(out);
        if self.last != Last::Nothing {
            push(out, Channel::Err, "\n".to_owned());
        }
    }

    fn status(&self) -> Option<String> {
        let (what, since, rest) = match (self.calls.first(), self.wait) {
            (Some(call), _) => (call.tool.as_str(), call.since, Some(call)),
            (None, Wait::Model(since)) => ("thinking", since, None),
            (None, Wait::Retry(until)) if until > self.now => {
                let left = until.saturating_sub(self.now).as_millis().div_ceil(1000);
                return Some(self.moving(&format!("gateway: trying again in {left} s")));
            }
            (None, Wait::Retry(until)) => ("thinking", until, None),
            (None, Wait::Nothing) => return None,
        };
        let waited = self.now.saturating_sub(since);
        if waited < MOVES_AFTER || self.look.loudness == Loudness::Quiet {
            return None;
        }
        let waited = match waited.as_secs() {
            0 => String::new(),
            s @ 1..60 => format!(" {s} s"),
            _ => format!(" {}", words::duration(waited)),
        };
        let others = if self.calls.len() > 1 { format!(" (+{})", self.calls.len() - 1) } else { String::new() };
        let telling = rest.map(|call| call.telling.within(self.width())).filter(|telling| !telling.is_empty());
        let telling = telling.map(|telling| format!(": {telling}")).unwrap_or_default();
        Some(self.moving(&format!("{what}{waited}{others}{telling}")))
    }

    /// One column stays free, or some terminals go to the next line.
    fn moving(&self, line: &str) -> String {
        let frame = usize::try_from(self.now.as_millis() / 100).unwrap_or(0) % FRAMES.len();
        let line = words::beginning(line, self.width().saturating_sub(3));
        self.ink(Ink::Dim, &format!("{} {line}", FRAMES[frame]))
    }

    fn retry(&mut self, out: &mut Vec<Piece>, attempt: u32, after_ms: u64, reason: &str) {
        // The next attempt says everything again.
        self.end_line(out);
        self.streamed = Streamed::of(self.streamed.turn, self.streamed.next);
        let after = Duration::from_millis(after_ms);
        self.wait = Wait::Retry(self.now + after);
        let code = |code: &str| code.chars().all(|char| char.is_ascii_uppercase() || char == '_');
        let reason = reason.split_once(": ").filter(|(head, _)| code(head)).map_or(reason, |(_, said)| said);
        let why = format!("gateway: {}", words::first_line(reason));
        let then = format!("trying again in {} (attempt {})", words::duration(after), attempt.saturating_add(1));
        let whole = format!("{why}, {then}");
        if words::width(&whole) <= self.width() {
            self.told(out, Ink::Warn, &whole);
        } else {
            self.told(out, Ink::Warn, &why);
            self.told(out, Ink::Warn, &format!("  {then}"));
        }
    }

    /// A call was asked for; its intent may say better with what.
    pub(super) fn called(&mut self, call_id: &str, tool: &str, arguments: &Value) {
        if let Some(known) = self.calls.iter_mut().find(|call| call.call_id == call_id) {
            if arguments.is_object() {
                known.telling = Telling::of(arguments);
            }
            return;
        }
        let tool = words::beginning(&printable(tool), 40);
        self.calls.push(Running {
            call_id: call_id.to_owned(),
            tool,
            telling: Telling::of(arguments),
            since: self.now,
        });
    }

    fn ended(&mut self, call_id: &str) -> Running {
        let at = self.calls.iter().position(|call| call.call_id == call_id);
        let unknown = |now| Running {
            call_id: call_id.to_owned(),
            tool: "a call".to_owned(),
            telling: Telling::default(),
            since: now,
        };
        let run = at.map_or_else(|| unknown(self.now), |at| self.calls.remove(at));
        match self.calls.first_mut() {
            // Calls that wait for each other run one by one: the next one's time begins now.
            Some(next) if at == Some(0) => next.since = self.now,
            Some(_) => {}
            None => self.wait = Wait::Model(self.now),
        }
        run
    }

    fn result(
        &mut self,
        out: &mut Vec<Piece>,
        run: &Running,
        lasted: Duration,
        end: Result<&String, (Option<&ToolError>, &String)>,
    ) {
        let took = words::duration(lasted);
        let room = self.width().saturating_sub(6 + words::width(&run.tool) + words::width(&took));
        let telling = run.telling.within(room);
        let gap = if telling.is_empty() { "" } else { "  " };
        let (mark, ink) = if end.is_ok() { ("✓", Ink::Good) } else { ("✗", Ink::Bad) };
        let (mark, name, took) = (self.ink(ink, mark), self.ink(Ink::Strong, &run.tool), self.ink(Ink::Dim, &took));
        self.line(out, &format!("{mark} {name}{gap}{telling}  {took}"));
        if let Err((error, output)) = end {
            let why = error.map_or_else(|| words::first_line(output), |error| words::first_line(&error.to_string()));
            self.told(out, Ink::Bad, &format!("  {why}"));
        }
        if self.look.loudness == Loudness::Verbose {
            // The first line of a failed call's output is its error, which is told already.
            self.output(out, end.unwrap_or_else(|(_, output)| output), usize::from(end.is_err()));
        }
    }

    fn output(&mut self, out: &mut Vec<Piece>, output: &str, skip: usize) {
        let mut shown = String::new();
        Filter::new().push(output, &mut shown);
        let lines: Vec<&str> = shown.lines().skip(skip).collect();
        for line in lines.iter().take(OUTPUT_LINES) {
            self.note(out, &format!("  │ {}", line.replace('\t', "    ")));
        }
        if lines.len() > OUTPUT_LINES {
            let more = u64::try_from(lines.len() - OUTPUT_LINES).unwrap_or(u64::MAX);
            self.note(out, &format!("  │ … {} more", words::count(more, "line")));
        }
    }

    /// A dim line, cut to the width.
    fn note(&mut self, out: &mut Vec<Piece>, line: &str) {
        self.told(out, Ink::Dim, line);
    }

    fn told(&mut self, out: &mut Vec<Piece>, ink: Ink, line: &str) {
        let line = self.ink(ink, &words::beginning(line, self.width()));
        self.line(out, &line);
    }

    /// A line of its own, as it is.
    pub(super) fn line(&mut self, out: &mut Vec<Piece>, line: &str) {
        if self.look.loudness == Loudness::Quiet {
            return;
        }
        self.end_line(out);
        self.last = Last::Line;
        push(out, Channel::Err, format!("{line}\n"));
    }

    pub(super) fn width(&self) -> usize {
        self.look.width.unwrap_or(WIDTH_ELSEWHERE)
    }

    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            _ if !self.look.colour => return text.to_owned(),
            Ink::Good => 32,
            Ink::Bad => 31,
            Ink::Warn => 33,
            Ink::Strong => 1,
            Ink::Dim => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Adds text, to the last piece if that goes the same way.
pub(super) fn push(out: &mut Vec<Piece>, to: Channel, text: String) {
    match out.last_mut() {
        Some(last) if last.to == to => last.text.push_str(&text),
        Some(_) | None => out.push(Piece { to, text }),
    }
}

/// What was taken out of the prompt, and why.
fn pruned(what: [(u32, &str); 2], bytes: u64, refused: bool) -> String {
    let why = if refused { "the model's server refused the prompt" } else { "the prompt did not fit the model" };
    let what: Vec<String> = what
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| words::count(u64::from(count), what))
        .collect();
    format!("{why}: {} taken out of it, {} bytes", what.join(" and "), words::number(bytes))
}
