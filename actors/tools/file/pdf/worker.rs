//! The process of `child`, as seen from outside: started, read from within bounds, and ended.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;

use super::child::{LATE, NAME, REFUSED};
use crate::tools::file::search::Span;

/// From the start to the last piece of text.
const TIME_MAX: Duration = Duration::from_secs(12);
/// Text that is taken: 4 MiB.
pub(super) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often it is looked whether anybody still waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of the text came.
    Whole,
    /// There is none, and what came says why.
    Refused,
    /// Its time was up.
    Late,
    /// There is more.
    TooMuch,
    /// It fell over its bounds, or over the document.
    Died,
}

/// A process at work. It does not outlive this.
pub(super) struct Worker {
    child: Child,
    began: Instant,
}

impl Worker {
    /// Starts one on a document.
    pub(super) fn start(program: &Path, bytes: &[u8]) -> io::Result<Self> {
        // Not the file itself: it may change, and what is read is what was hashed.
        let mut input = std::fs::File::from(rustix::fs::memfd_create("document", MemfdFlags::CLOEXEC)?);
        input.write_all(bytes)?;
        io::Seek::rewind(&mut input)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "no command: it is this program's own, and nothing of it is kept"
        )]
        let mut command = std::process::Command::new(program);
        command.arg(NAME).env_clear().current_dir("/");
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Self { child: command.spawn()?, began: Instant::now() })
    }

    /// Waits for its text and its end, as long as anybody waits for them.
    pub(super) fn end(mut self, span: &Span) -> (String, End) {
        let mut bytes = Vec::new();
        let end = self.read(span, &mut bytes).unwrap_or(End::Died);
        if end != End::Whole {
            let _ = self.child.kill();
        }
        let code = self.child.wait().ok().and_then(|status| u8::try_from(status.code()?).ok());
        let end = match (end, code) {
            (End::Whole, Some(0)) => End::Whole,
            (End::Whole, Some(REFUSED)) => End::Refused,
            (End::Whole, Some(LATE)) => End::Late,
            // By a signal, as a rule: it fell over its bounds.
            (End::Whole, Some(_) | None) => End::Died,
            (end, _) => end,
        };
        // Cut off between two pieces, a character may be half.
        (String::from_utf8_lossy(&bytes).into_owned(), end)
    }

    fn read(&mut self, span: &Span, bytes: &mut Vec<u8>) -> io::Result<End> {
        let Some(mut output) = self.child.stdout.take() else { return Ok(End::Died) };
        let mut piece = vec![0; 64 * 1024];
        loop {
            if self.began.elapsed() > TIME_MAX || span.is_over() {
                return Ok(End::Late);
            }
            let mut fds = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
            match poll(&mut fds, Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let got = output.read(&mut piece)?;
            if got == 0 {
                return Ok(End::Whole);
            }
            let room = TEXT_BYTES_MAX.saturating_sub(bytes.len());
            bytes.extend(piece.iter().take(got.min(room)));
            if got > room {
                return Ok(End::TooMuch);
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
