//! `file_read`

use std::io::{ErrorKind, Read};
use std::path::Path;

use lakitu_kernel::Hash;
use lakitu_kernel::event::FileVersion;
use lakitu_kernel::image::MediaType;
use lakitu_kernel::limits::{FILE_READ_BYTES_MAX, FILE_READ_LINES};
use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listing::{listing, missing};
use super::search::Span;
use super::view::{SNIFFED_BYTES, View, binary};
use super::{PATH_ALIASES, aliases, pdf, picture};
use crate::tools::workspace::{FileError, Kind, Roots};

/// Reads a file, or lists a directory.
pub const FILE_READ: ToolSpec =
    ToolSpec::of::<ReadArgs>("file_read", include_str!("read.md"), EffectClass::Read, Category::File).on(Subject::Path);

/// Arguments of `file_read`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReadArgs {
    /// The file: relative to the workspace, or absolute.
    pub path: String,
    /// The first line to show, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many lines to show; 2000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Arguments for ReadArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &aliases::<_, _, 6>(PATH_ALIASES, [("line", "offset"), ("start_line", "offset"), ("startLine", "offset")]);

    fn check(&self) -> Result<(), String> {
        if self.limit == Some(0) {
            return Err("limit is 0; give at least 1 line, or leave it out".to_owned());
        }
        Ok(())
    }
}

/// Reads.
pub(super) fn read(
    roots: &Roots,
    args: &ReadArgs,
    reader: &pdf::Reader,
    span: &Span,
) -> Result<ToolOutcome, FileError> {
    let spot = roots.locate(Path::new(&args.path))?;
    match spot.standing.map(|standing| standing.kind) {
        None => return Err(missing(roots.workspace(), &spot)),
        Some(Kind::Directory) => return listing(&spot, |_, _| true).map(ToolOutcome::ok),
        Some(Kind::File | Kind::Link | Kind::Other) => {}
    }
    let (mut file, standing) = spot.root.open_file(&spot.canonical)?;
    let shown = spot.shown();
    let mut first = vec![0; SNIFFED_BYTES];
    let got = fill(&mut file, &mut first).map_err(|cause| FileError::from_io("reading", &shown, cause))?;
    first.truncate(got);
    if let Some(kind) = MediaType::of(&first) {
        return picture::read(first.as_slice().chain(file), kind, standing.bytes, &spot);
    }
    if standing.bytes > FILE_READ_BYTES_MAX {
        return Err(too_large(&shown, standing.bytes));
    }
    let view = View::new(args.offset.unwrap_or(1), args.limit.unwrap_or(FILE_READ_LINES as u64));
    if pdf::is_document(&first) {
        let bytes = whole(first.as_slice().chain(file), FILE_READ_BYTES_MAX, &shown, WAY_OUT)?;
        return pdf::read(bytes, view, reader, (&spot, span));
    }
    let (text, hash) = scan(first.as_slice().chain(file), view, &shown)?;
    let files = spot.name.map(|path| FileVersion { path, hash }).into_iter().collect();
    Ok(ToolOutcome::ok(text).with_files(files))
}

/// What can be done with a file that is too large.
const WAY_OUT: &str = "; look at parts of it with bash (head, tail, sed -n, grep)";

fn too_large(shown: &str, bytes: u64) -> FileError {
    FileError::TooLarge { path: shown.to_owned(), bytes, max: FILE_READ_BYTES_MAX, way_out: WAY_OUT }
}

/// Lets the whole file go by once: for its hash, its lines and its length, whatever the length was said to be.
fn scan(file: impl Read, mut view: View, shown: &str) -> Result<(String, Hash), FileError> {
    // A byte more, so that a file that grew past the limit meanwhile is told from one that is exactly as large.
    let mut file = file.take(FILE_READ_BYTES_MAX + 1);
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut bytes = 0;
    let mut no_text = None;
    loop {
        let got = fill(&mut file, &mut chunk).map_err(|cause| FileError::from_io("reading", shown, cause))?;
        let piece = chunk.get(..got).unwrap_or_default();
        if bytes == 0 {
            no_text = binary(piece.get(..SNIFFED_BYTES).unwrap_or(piece));
        }
        bytes += got as u64;
        if bytes > FILE_READ_BYTES_MAX {
            return Err(too_large(shown, bytes));
        }
        hasher.update(piece);
        if no_text.is_none() {
            view.push(piece);
        }
        if got < chunk.len() {
            break;
        }
    }
    let text = match no_text {
        Some(kind) => format!("[binary file, not shown: {kind}, {bytes} bytes]\n"),
        None => view.finish(),
    };
    Ok((text, Hash(*hasher.finalize().as_bytes())))
}

/// Fills the buffer; less only at the end.
pub(super) fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

/// A whole file of at most `max` bytes.
pub(crate) fn whole(file: impl Read, max: u64, shown: &str, way_out: &'static str) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|cause| FileError::from_io("reading", shown, cause))?;
    if bytes.len() as u64 > max {
        return Err(FileError::TooLarge { path: shown.to_owned(), bytes: bytes.len() as u64, max, way_out });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_limit_is_read_and_one_that_grows_past_it_is_refused_while_it_is_read() {
        let told = |bytes: u64| scan(std::io::repeat(b'\n').take(bytes), View::new(1, 1), "f");
        assert!(told(FILE_READ_BYTES_MAX).is_ok());
        assert!(matches!(told(FILE_READ_BYTES_MAX + 1), Err(FileError::TooLarge { .. })));
        assert!(matches!(scan(std::io::repeat(b'x'), View::new(1, 1), "f"), Err(FileError::TooLarge { .. })));
    }
}
