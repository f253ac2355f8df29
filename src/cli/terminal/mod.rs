//! How a run is shown to a person, or to the program that started it.
//!
//! | | standard output | standard error |
//! |---|---|---|
//! | text, both on a terminal | the assistant's texts, as they arrive | tool lines, the moving line, the summary |
//! | text, otherwise or with `-q` | the final text of a completed run, at the end | tool lines, earlier texts, the summary |
//! | `json` | the result object | as above |
//! | `stream-json` | every event, then the result object | errors (with `-v` as above) |
//!
//! `-q` leaves of standard error why a run did not complete and the command to go on. The moving line needs standard
//! error to be a terminal. Everything shown passes [`escape`]; what a program reads does not: a text goes unchanged to
//! a pipe or a file, and in JSON what a terminal would obey is escaped, which means the same.
//!
//! Start with [`view`], the pure part: events in, lines out.

mod closing;
pub mod escape;
#[cfg(test)]
mod made_up;
pub mod output;
pub mod question;
pub mod screen;
#[cfg(test)]
mod tests;
mod texts;
pub mod view;
pub(super) mod words;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use lakitu_kernel::{Event, LiveEvent};
use serde::Serialize;

pub use output::{End, Summary};
pub use question::Question;
pub use screen::Facts;
pub use view::Loudness;

use screen::Screen;
use view::{Channel, Look, Piece, View};

/// What standard output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The assistant's text.
    Text,
    /// One object at the end.
    Json,
    /// A line of JSON for everything that happens, and that object as the last one.
    StreamJson,
}

/// What shows one thread's run. Writes at once, and so may wait for a terminal that was stopped: keep it in a task or
/// a thread of its own.
pub struct Ui {
    output: Output,
    facts: Facts,
    view: View,
    screen: Screen,
    began: Instant,
    /// A question stands on the screen, and the cursor behind it.
    asks: bool,
    /// Whether the real terminal is asked for its width.
    real: bool,
}

impl Ui {
    /// On this process's own standard output and standard error.
    pub fn new(output: Output, loudness: Loudness, facts: Facts) -> Self {
        let ui = Self::over(output, loudness, facts, (Box::new(io::stdout()), Box::new(io::stderr())));
        Self { real: true, ..ui }
    }

    /// On other channels, standard output's first.
    pub fn over(
        output: Output,
        loudness: Loudness,
        facts: Facts,
        (out, err): (Box<dyn Write + Send>, Box<dyn Write + Send>),
    ) -> Self {
        let loudness = match (output, loudness) {
            // The stream says everything already.
            (Output::StreamJson, Loudness::Normal) => Loudness::Quiet,
            (Output::Text | Output::Json | Output::StreamJson, loudness) => loudness,
        };
        let streams = output == Output::Text && facts.stdout && facts.stderr && loudness != Loudness::Quiet;
        let look = Look { streams, colour: facts.colour, width: facts.width, loudness };
        let screen = Screen::new(out, err);
        Self { output, facts, view: View::new(look), screen, began: Instant::now(), asks: false, real: false }
    }

    /// Takes in an event of before, so that what follows can be named (the tool of an open call). Shows nothing.
    pub fn recall(&mut self, event: &Event) {
        self.view.recall(event);
    }

    /// Shows the journal's next event.
    pub fn event(&mut self, event: &Event) {
        self.stream(event);
        let pieces = self.view.event(event);
        self.show(pieces);
    }

    /// Shows something that is told while it happens.
    pub fn live(&mut self, event: &LiveEvent) {
        self.stream(event);
        let pieces = self.view.live(event);
        self.show(pieces);
    }

    /// Says that the first Ctrl-C was heard.
    pub fn stopping(&mut self) {
        let pieces = self.view.stopping();
        self.show(pieces);
    }

    /// Asks whether a call may be made.
    pub fn ask(&mut self, question: &Question) {
        let mut pieces = self.view.question(question);
        pieces.push(self.view.prompt());
        self.screen.write(&pieces);
        self.asks = true;
    }

    /// Says again where the answer is typed: the one before was none.
    pub fn ask_again(&mut self) {
        self.screen.write(&[self.view.prompt()]);
    }

    /// The question is answered, here or elsewhere.
    pub fn asked(&mut self) {
        self.asks = false;
    }

    /// What happens while a question stands on the screen is shown below it, and the place of the answer again.
    fn show(&mut self, mut pieces: Vec<Piece>) {
        if self.asks && !pieces.is_empty() {
            pieces.insert(0, Piece { to: Channel::Err, text: "\n".to_owned() });
            pieces.push(self.view.prompt());
        }
        self.screen.write(&pieces);
    }

    /// Whether there is a line that moves.
    pub fn moves(&self) -> bool {
        self.facts.stderr
    }

    /// Moves the moving line: to be called ten times a second, whatever happens.
    pub fn tick(&mut self) {
        if let Some(width) = (self.real && self.facts.stderr).then(|| screen::width(io::stderr())).flatten() {
            self.view.resized(width);
        }
        self.tick_at(self.began.elapsed());
    }

    fn tick_at(&mut self, elapsed: Duration) {
        if !self.facts.stderr || self.asks {
            return;
        }
        let (pieces, moving) = self.view.tick(elapsed);
        self.screen.write(&pieces);
        self.screen.moving(moving);
    }

    /// Shows what the run came to. An error is that standard output did not take all of it (a full disk).
    pub fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let mut pieces = self.view.finish(summary);
        match self.output {
            Output::Text if self.view.look.streams || summary.ended() != End::Completed => {}
            Output::Text => pieces.push(self.result(&summary.text)),
            Output::Json => pieces.push(json(&summary.json())?),
            Output::StreamJson => {
                let mut object = summary.json();
                object["type"] = "result".into();
                pieces.push(json(&object)?);
            }
        }
        self.screen.write(&pieces);
        self.screen.finish()
    }

    fn stream(&mut self, event: &impl Serialize) {
        if self.output == Output::StreamJson {
            match json(event) {
                Ok(line) => self.screen.write(&[line]),
                // Events are plain data; one that is not must not end the run.
                Err(error) => tracing::error!(%error, "an event is no JSON"),
            }
        }
    }

    /// To a program or a file the text goes as it is, to a terminal through the filter.
    fn result(&self, text: &str) -> Piece {
        let mut shown = String::new();
        if self.facts.stdout {
            escape::Filter::new().push(text, &mut shown);
        } else {
            shown.push_str(text);
        }
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        Piece { to: Channel::Out, text: shown }
    }
}

fn json(value: &impl Serialize) -> io::Result<Piece> {
    let line = escape::json_line(value).map_err(io::Error::other)?;
    Ok(Piece { to: Channel::Out, text: line + "\n" })
}
