//! A document's text, page by page. Pure: bytes in, text out.

use std::fmt::Write as _;
use std::time::Instant;

use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};

use super::page;

/// Pages that are read.
const PAGES_MAX: usize = 10_000;

/// Why there is no text, or no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is none, because of this.
    Refused(String),
    /// There was no time for more.
    Late,
}

/// Gives the text to `write`, piece by piece, until that takes no more or the time is up: a line that numbers each page,
/// and what stands on it.
pub(super) fn document(bytes: Vec<u8>, until: Instant, write: &mut impl FnMut(&str) -> bool) -> Result<(), Failure> {
    let refused = |why: &str| Failure::Refused(why.to_owned());
    let pdf = Pdf::new(bytes).map_err(|error| match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => refused(
            "it is encrypted and needs a password; decrypt it with bash (qpdf --password=… --decrypt IN OUT) and read that",
        ),
        LoadPdfError::Decryption(_) => refused("it is encrypted in a way that is not understood"),
        LoadPdfError::Invalid => refused("it is broken"),
    })?;
    let pages = pdf.pages();
    let count = pages.len();
    if count == 0 {
        return Err(refused("it has no pages"));
    }
    let mut seen = page::Seen::default();
    let mut held = String::new();
    for (at, page) in pages.iter().enumerate().take(PAGES_MAX) {
        let text = page::text(page, until, &mut seen).ok_or(Failure::Late)?;
        let _ = writeln!(held, "--- page {} of {count} ---", at + 1);
        held.push_str(text.trim_matches('\n'));
        if !held.ends_with('\n') {
            held.push('\n');
        }
        // A document without any text is refused as a whole, with what to do instead.
        if seen.known + seen.unknown > 0 && !write(&std::mem::take(&mut held)) {
            return Ok(());
        }
    }
    if seen.known + seen.unknown == 0 {
        return Err(Failure::Refused(format!(
            "its {count} pages hold no text: they are images, most likely scans; make images of them with bash (pdftoppm -r \
             100 -png IN OUT) and read those"
        )));
    }
    if seen.unknown > seen.known {
        write("[most of this cannot be told: the document's fonts do not say which characters they show]\n");
    }
    if count > PAGES_MAX {
        write(&format!("[{} more pages are not read]\n", count - PAGES_MAX));
    }
    Ok(())
}

/// How many pages there are, of a line that begins one.
pub(super) fn pages(line: &str) -> Option<usize> {
    let (_, all) = line.strip_prefix("--- page ")?.strip_suffix(" ---")?.split_once(" of ")?;
    all.parse().ok()
}
