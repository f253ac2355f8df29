//! PDF documents as text.
//!
//! What is in a file is somebody else's, and no parser of such a format can promise to end, or to stay small. So it runs in
//! a process of its own (`child`), with bounds that the kernel enforces, and `worker` ends it when its time is up. Read
//! `text` for what is made of a document, then `page` (where text stands) and `font` (what it says).

mod child;
mod font;
mod glyphs;
mod page;
#[cfg(test)]
mod tests;
mod text;
mod worker;

use std::path::PathBuf;

pub use child::{NAME, main};

use lakitu_kernel::Hash;
use lakitu_kernel::event::FileVersion;
use lakitu_kernel::tool::ToolOutcome;

use super::search::Span;
use super::view::View;
use crate::tools::text::count;
use crate::tools::workspace::{FileError, Spot};
use worker::{End, Worker};

/// Who turns documents into text: an executable that becomes [`main`] when it is called with [`NAME`] alone.
#[derive(Debug, Clone)]
pub struct Reader(Option<PathBuf>);

impl Reader {
    /// This executable.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Some(path.into()))
    }

    /// Nobody: of a document only its kind is told.
    pub fn none() -> Self {
        Self(None)
    }
}

/// Whether a file is a document, by its first bytes. Some begin with a few bytes of something else.
pub(super) fn is_document(first: &[u8]) -> bool {
    first.get(..1024.min(first.len())).is_some_and(|head| head.windows(5).any(|five| five == b"%PDF-"))
}

/// A window of a document's text.
pub(super) fn read(
    bytes: Vec<u8>,
    view: View,
    reader: &Reader,
    (spot, span): (&Spot<'_>, &Span),
) -> Result<ToolOutcome, FileError> {
    let (size, hash) = (bytes.len(), Hash::of(&bytes));
    let text = match &reader.0 {
        None => format!("[PDF document of {size} bytes, not shown: this runtime reads none]\n"),
        Some(program) => {
            let worker =
                Worker::start(program, &bytes).map_err(|cause| FileError::from_io("reading", spot.shown(), cause))?;
            shown(worker.end(span), view, size)
        }
    };
    let files = spot.name.clone().map(|path| FileVersion { path, hash }).into_iter().collect();
    Ok(ToolOutcome::ok(text).with_files(files))
}

/// What came of it: the lines of the window, behind one that says what they are.
fn shown((text, end): (String, End), mut view: View, bytes: usize) -> String {
    let pages = text.lines().rev().find_map(text::pages);
    let why = match end {
        End::Whole => None,
        // What the child says itself.
        End::Refused => return format!("[PDF document of {bytes} bytes, not shown: {}]\n", text.trim()),
        End::Late => Some("reading it takes too long"),
        End::TooMuch => Some("there is more text than is taken"),
        End::Died => Some("it is broken, or needs too much memory"),
    };
    let Some(pages) = pages else {
        return format!("[PDF document of {bytes} bytes, not shown: {}]\n", why.unwrap_or("it is broken"));
    };
    view.push(text.as_bytes());
    if let Some(why) = why {
        let line = if text.ends_with('\n') { "" } else { "\n" };
        view.push(format!("{line}[the rest is not shown: {why}]\n").as_bytes());
    }
    format!("[PDF document of {}, {bytes} bytes: its text]\n{}", count(pages, "page", "pages"), view.finish())
}
