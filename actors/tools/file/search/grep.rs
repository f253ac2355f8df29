//! `grep`

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use grep_matcher::LineTerminator;
use grep_regex::{ErrorKind, RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use lakitu_kernel::limits::GREP_RESULTS_MAX;
use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hits::Hits;
use super::newest::{Changed, changed};
use super::pattern::Filter;
use super::walk::{Found, Visit, Walk, Walked, walk};
use super::{PATH_ALIASES, Span, notes, start};
use crate::tools::file::aliases;
use crate::tools::workspace::{FileError, Kind, Roots, file_in, shown};

/// Finds text in files.
pub const GREP: ToolSpec =
    ToolSpec::of::<GrepArgs>("grep", include_str!("grep.md"), EffectClass::Read, Category::File).on(Subject::Path);

/// A line that is longer is not searched: the file is then counted as unread.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A compiled pattern.
const COMPILED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What matching may remember between two places.
const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines around a match.
const CONTEXT_LINES_MAX: u32 = 20;

/// What `grep` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// Paths, the newest first.
    #[default]
    FilesWithMatches,
    /// Lines.
    Content,
    /// How many lines of each file.
    Count,
}

/// Arguments of `grep`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GrepArgs {
    /// The regular expression.
    pub pattern: String,
    /// The file or directory to search; all of the workspace if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only files that match this, such as `*.rs`; with `!` before it, only others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// What to give.
    #[serde(default)]
    #[schemars(with = "ModeNames")]
    pub output_mode: OutputMode,
    /// Without regard to case.
    #[serde(default)]
    pub ignore_case: bool,
    /// With `content`: lines to show around each match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Results to give; 500 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// The modes as the schema names them: one flat list, which every provider takes.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum ModeNames {
    FilesWithMatches,
    Content,
    Count,
}

impl Arguments for GrepArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &aliases::<_, _, 20>(
        PATH_ALIASES,
        [
            ("regex", "pattern"),
            ("query", "pattern"),
            ("include", "glob"),
            ("file_pattern", "glob"),
            ("outputMode", "output_mode"),
            ("-i", "ignore_case"),
            ("ignoreCase", "ignore_case"),
            ("case_insensitive", "ignore_case"),
            ("-C", "context"),
            ("-A", "context"),
            ("-B", "context"),
            ("head_limit", "limit"),
            ("max_results", "limit"),
            // Lines are numbered in any case.
            ("-n", ""),
        ],
    );

    fn check(&self) -> Result<(), String> {
        if self.pattern.is_empty() {
            return Err("pattern is empty, which matches every line; use glob or ls for names".to_owned());
        }
        Ok(())
    }
}

/// Searches.
pub(in crate::tools::file) fn grep(roots: &Roots, args: &GrepArgs, span: &Span) -> Result<ToolOutcome, FileError> {
    let lines_end_in = line_end(&args.pattern);
    let matcher = matcher(args, lines_end_in)?;
    let filter = Filter::parse(args.glob.as_deref())?;
    let begin = start(roots, args.path.as_deref())?;
    let max = match args.limit.and_then(|limit| usize::try_from(limit).ok()) {
        // None at all was never meant.
        None | Some(0) => GREP_RESULTS_MAX,
        Some(limit) => limit.min(GREP_RESULTS_MAX),
    };
    let search = || Search {
        matcher: &matcher,
        searcher: searcher(args, lines_end_in),
        span,
        hits: Hits::new(args.output_mode, max),
    };
    let (mut hits, mut walked) = (Hits::new(args.output_mode, max), Walked::default());
    if begin.kind() == Some(Kind::Directory) {
        let walk_of = Walk {
            root: begin.spot.root,
            start: &begin.spot.canonical,
            closed: begin.closed.as_deref(),
            shown: filter.shown,
            depth: None,
            wanted: &|path| filter.takes(path),
            span,
        };
        let visitors;
        (visitors, walked) = walk(&walk_of, search);
        visitors.into_iter().for_each(|search| hits.add(search.hits));
    } else {
        let mut search = search();
        let (file, _) = begin.spot.root.open_file(&begin.spot.canonical)?;
        walked.unread += usize::from(!search.look_into(file, &begin.spot.canonical, 0));
        walked.files = 1;
        hits.add(search.hits);
    }
    // A file that the end came over was begun and not finished.
    walked.cut_off |= span.is_over();
    let mut out = hits.told(&begin.spot);
    if out.is_empty() && !walked.cut_off {
        out = format!("no match for {}\n", shown(args.pattern.as_bytes()));
    }
    notes(&mut out, &walked);
    Ok(ToolOutcome::ok(out))
}

/// `$` stands before the whole line end, be it LF or CRLF. Without one in the pattern the plain way is the faster one.
fn line_end(pattern: &str) -> LineTerminator {
    if pattern.contains('$') && !pattern.contains("\\r") { LineTerminator::crlf() } else { LineTerminator::byte(b'\n') }
}

fn matcher(args: &GrepArgs, lines_end_in: LineTerminator) -> Result<RegexMatcher, FileError> {
    let mut builder = RegexMatcherBuilder::new();
    builder.multi_line(true).case_insensitive(args.ignore_case);
    builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(MEMORY_BYTES_MAX).nest_limit(250);
    if lines_end_in.is_crlf() {
        builder.crlf(true);
    } else {
        builder.line_terminator(Some(b'\n'));
    }
    builder.build(&args.pattern).map_err(|error| {
        let hint = if matches!(error.kind(), ErrorKind::NotAllowed(_)) {
            "lines are searched one by one: give the part that stands on one line".to_owned()
        } else {
            let text = shown(escaped(&args.pattern).as_bytes());
            format!("to search for these characters themselves escape them with backslashes: {text}")
        };
        FileError::BadPattern(format!("{error}\n{hint}"))
    })
}

/// The pattern that matches just this text.
fn escaped(text: &str) -> String {
    let special =
        |c: char| matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn searcher(args: &GrepArgs, lines_end_in: LineTerminator) -> Searcher {
    let content = args.output_mode == OutputMode::Content;
    let around = args.context.filter(|_| content).unwrap_or(0).min(CONTEXT_LINES_MAX) as usize;
    SearcherBuilder::new()
        .line_terminator(lines_end_in)
        .line_number(content)
        .before_context(around)
        .after_context(around)
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(Some(LINE_BYTES_MAX))
        .build()
}

struct Search<'a> {
    matcher: &'a RegexMatcher,
    searcher: Searcher,
    span: &'a Span,
    hits: Hits,
}

impl Search<'_> {
    /// Searches a file; false: it could not be read.
    fn look_into(&mut self, file: File, path: &Path, changed: Changed) -> bool {
        let mut of_file = self.hits.of_file();
        let file = Watched { file, span: self.span };
        let done = self.searcher.search_reader(self.matcher, file, &mut of_file);
        self.hits.take(of_file, path, changed);
        // What was cut off is told by the walk.
        done.is_ok() || self.span.is_over()
    }
}

impl Visit for Search<'_> {
    fn visit(&mut self, found: &Found<'_>) -> bool {
        // What a link leads to is searched under its own name, if it lies here.
        if found.is_link {
            return true;
        }
        match file_in(found.dir, found.name) {
            Ok(Some((file, stat))) => self.look_into(file, found.path, changed(&stat)),
            // It is gone, or no file any more.
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

/// A file that has an end: that of the search at the latest, however fast it grows.
struct Watched<'a> {
    file: File,
    span: &'a Span,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.span.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(buffer)
    }
}
