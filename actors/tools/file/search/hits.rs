//! What a search of text found: collected by each thread in bounded memory, put together, and told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use grep_searcher::{Searcher, Sink, SinkContext, SinkFinish, SinkMatch};
use lakitu_kernel::limits::{GREP_LINE_CHARS_MAX, OUTPUT_BYTES_MAX};

use super::glob::list;
use super::grep::OutputMode;
use super::newest::{Changed, Newest};
use crate::tools::file::view::head;
use crate::tools::workspace::Spot;

/// Hits of many files: of all of them the number, and of the first ones by path what they are.
#[derive(Debug)]
pub(super) struct Hits {
    mode: OutputMode,
    max: usize,
    newest: Newest,
    kept: BTreeMap<PathBuf, OfFile>,
    /// Results of the kept files.
    kept_results: usize,
    files: usize,
    matches: u64,
}

/// Hits of one file.
#[derive(Debug)]
pub(super) struct OfFile {
    mode: OutputMode,
    max: usize,
    matches: u64,
    lines: Vec<Line>,
    bytes: usize,
    is_binary: bool,
}

#[derive(Debug)]
enum Line {
    Match(u64, String),
    Context(u64, String),
    Gap,
}

impl Hits {
    pub(super) fn new(mode: OutputMode, max: usize) -> Self {
        let newest = Newest::new(max);
        Self { mode, max, newest, kept: BTreeMap::new(), kept_results: 0, files: 0, matches: 0 }
    }

    /// An empty file's.
    pub(super) fn of_file(&self) -> OfFile {
        OfFile { mode: self.mode, max: self.max, matches: 0, lines: Vec::new(), bytes: 0, is_binary: false }
    }

    /// Takes a file's hits in.
    pub(super) fn take(&mut self, of_file: OfFile, path: &Path, changed: Changed) {
        if of_file.matches == 0 || of_file.is_binary {
            return;
        }
        self.files += 1;
        self.matches += of_file.matches;
        if self.mode == OutputMode::FilesWithMatches {
            self.newest.put(changed, path);
        } else {
            self.keep(path.to_owned(), of_file);
        }
    }

    /// Takes in what another thread found.
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.matches += other.matches;
        self.newest.add(other.newest);
        for (path, of_file) in other.kept {
            self.keep(path, of_file);
        }
    }

    /// Files behind those that give enough results already are let go.
    fn keep(&mut self, path: PathBuf, of_file: OfFile) {
        self.kept_results += of_file.results();
        self.kept.insert(path, of_file);
        while let Some(last) = self.kept.last_entry() {
            let results = last.get().results();
            if self.kept_results - results < self.max {
                break;
            }
            self.kept_results -= results;
            last.remove();
        }
    }

    /// The text for the model; empty: nothing was found.
    pub(super) fn told(self, spot: &Spot<'_>) -> String {
        let mut out = String::new();
        let (left_out, what) = match self.mode {
            OutputMode::FilesWithMatches => {
                let total = self.newest.total;
                let paths = self.newest.sorted();
                (total - list(&mut out, paths.iter().map(|path| spot.shown_of(path))), "older files that match")
            }
            OutputMode::Count => {
                let lines =
                    self.kept.iter().map(|(path, of_file)| format!("{}:{}", spot.shown_of(path), of_file.matches));
                (self.files - list(&mut out, lines.take(self.max)), "files that match")
            }
            OutputMode::Content => {
                let given = content(&mut out, &self.kept, self.max, spot);
                (usize::try_from(self.matches).unwrap_or(usize::MAX) - given, "matching lines")
            }
        };
        if left_out > 0 {
            let _ = writeln!(out, "[{left_out} more {what} left out; narrow the pattern, `path` or `glob`]");
        }
        out
    }
}

/// Writes matches with what stands around them, as long as there is room; how many.
fn content(out: &mut String, kept: &BTreeMap<PathBuf, OfFile>, max: usize, spot: &Spot<'_>) -> usize {
    let mut given = 0;
    for (path, of_file) in kept {
        let path = spot.shown_of(path);
        if of_file.lines.iter().any(|line| !matches!(line, Line::Match(..))) && !out.is_empty() {
            out.push_str("--\n");
        }
        let lines = of_file.lines.iter().map(|line| match line {
            Line::Match(number, text) => (1, format!("{path}:{number}:{text}")),
            Line::Context(number, text) => (0, format!("{path}-{number}-{text}")),
            Line::Gap => (0, "--".to_owned()),
        });
        for (is_match, text) in lines {
            if given + is_match > max || list(out, std::iter::once(text)) == 0 {
                return given;
            }
            given += is_match;
        }
    }
    given
}

impl OfFile {
    fn results(&self) -> usize {
        match self.mode {
            OutputMode::FilesWithMatches | OutputMode::Count => 1,
            OutputMode::Content => usize::try_from(self.matches).unwrap_or(usize::MAX).min(self.max),
        }
    }

    /// Keeps a line, up to what could be shown at all.
    fn push(&mut self, line: impl FnOnce() -> Line) {
        if self.bytes <= OUTPUT_BYTES_MAX && self.matches <= self.max as u64 {
            let line = line();
            self.bytes += match &line {
                Line::Match(_, text) | Line::Context(_, text) => text.len() + 1,
                Line::Gap => 3,
            };
            self.lines.push(line);
        }
    }
}

impl Sink for &mut OfFile {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.matches += 1;
        if self.mode == OutputMode::Content {
            self.push(|| Line::Match(found.line_number().unwrap_or(0), cut(found.bytes())));
        }
        Ok(self.mode != OutputMode::FilesWithMatches)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        self.push(|| Line::Context(context.line_number().unwrap_or(0), cut(context.bytes())));
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        self.push(|| Line::Gap);
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, finish: &SinkFinish) -> io::Result<()> {
        self.is_binary = finish.binary_byte_offset().is_some();
        Ok(())
    }
}

/// A line as it is shown.
fn cut(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // A character has at most four bytes.
    let (kept, _) = head(line, GREP_LINE_CHARS_MAX * 4);
    let text = String::from_utf8_lossy(kept);
    let end = text.char_indices().nth(GREP_LINE_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let mut shown = text.get(..end).unwrap_or_default().to_owned();
    if end < text.len() || kept.len() < line.len() {
        let _ = write!(shown, "… [line of {} bytes]", line.len());
    }
    shown
}
