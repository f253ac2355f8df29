//! Lines of a bounded length.

use std::io::Result;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its end.
    Whole,
    /// The last one: its end is the end of the input.
    Last,
    /// One that is longer than a line may be.
    TooLong,
    /// Nothing more.
    End,
}

/// Reads one line into `line`. Safe to give up between two calls of it only when nothing of a line was read.
pub(super) async fn next(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>, max: usize) -> Result<Line> {
    loop {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            return Ok(if line.is_empty() { Line::End } else { Line::Last });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > max {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(available.get(..taken).unwrap_or_default());
        from.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Line::Whole);
        }
    }
}
