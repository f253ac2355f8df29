//! The thin shell: what is a terminal, how wide it is, and writing to it.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use super::view::{Channel, Piece};

/// To the line's beginning, and clear it.
const ERASE: &str = "\r\u{1b}[K";
/// Where a terminal does not tell its width.
const WIDTH_UNKNOWN: usize = 80;

/// What the two channels lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Standard output is a terminal.
    pub stdout: bool,
    /// Standard error is a terminal on which a line can be written over.
    pub stderr: bool,
    /// Standard error may be coloured.
    pub colour: bool,
    /// The terminal's width in columns.
    pub width: Option<usize>,
}

impl Facts {
    /// Of this process. Colour only on a terminal, and never with `NO_COLOR`; a dumb terminal is like none.
    pub fn detect() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let stderr = io::stderr().is_terminal() && !dumb;
        let width = stderr.then(|| width(io::stderr()).unwrap_or(WIDTH_UNKNOWN));
        Self { stdout: io::stdout().is_terminal(), stderr, colour: stderr && set("NO_COLOR").is_none(), width }
    }
}

/// The width of the terminal behind a descriptor, as it is now.
pub(in crate::cli) fn width(of: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(of).ok()?;
    // So narrow is no terminal; some report nothing but zeros.
    (size.ws_col >= 10).then_some(usize::from(size.ws_col))
}

/// The two channels, and the moving line on standard error.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    moving: Option<String>,
    /// Standard output is gone: nobody reads it, or it takes no more (then this is why).
    lost: Option<io::Error>,
}

impl Screen {
    pub(super) fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, moving: None, lost: None }
    }

    /// Writes pieces in their order. Each is one write, so other writers' lines do not get in between.
    pub(super) fn write(&mut self, pieces: &[Piece]) {
        if pieces.iter().all(|piece| piece.text.is_empty()) {
            return;
        }
        self.moving(None);
        for piece in pieces {
            match piece.to {
                Channel::Out => self.out(&piece.text),
                Channel::Err => self.err(&piece.text),
            }
        }
    }

    /// Shows the moving line in place of the one before.
    pub(super) fn moving(&mut self, line: Option<String>) {
        if line == self.moving {
            return;
        }
        let shown = line.as_deref().unwrap_or_default();
        self.err(&format!("{ERASE}{shown}"));
        self.moving = line;
    }

    /// What became of standard output. That nobody reads it any more is no failure.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.moving(None);
        match self.lost.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    fn out(&mut self, text: &str) {
        if self.lost.is_none() {
            self.lost = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).err();
        }
    }

    fn err(&mut self, text: &str) {
        // There is nowhere to tell it: the run matters more than the sight of it.
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }
}
