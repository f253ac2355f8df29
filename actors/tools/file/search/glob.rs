//! `glob`

use std::fmt::Write as _;
use std::path::Path;

use lakitu_kernel::limits::{GLOB_RESULTS_MAX, OUTPUT_BYTES_MAX};
use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use rustix::fs::AtFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::newest::{Newest, changed};
use super::pattern::Pattern;
use super::walk::{Found, Visit, Walk, walk};
use super::{PATH_ALIASES, Span, notes, start};
use crate::tools::file::aliases;
use crate::tools::file::view::NOTES_BYTES;
use crate::tools::workspace::{FileError, Kind, Roots, Workspace, shown};

/// Finds files by their names.
pub const GLOB: ToolSpec =
    ToolSpec::of::<GlobArgs>("glob", include_str!("glob.md"), EffectClass::Read, Category::File).on(Subject::Path);

/// Arguments of `glob`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GlobArgs {
    /// Such as `src/**/*.rs`, `*.{ts,tsx}`.
    pub pattern: String,
    /// The directory to search; all of the workspace if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Arguments for GlobArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &aliases::<_, _, 9>(PATH_ALIASES, [("include", "pattern"), ("glob", "pattern"), ("glob_pattern", "pattern")]);
}

/// Finds files, the newest first.
pub(in crate::tools::file) fn glob(roots: &Roots, args: &GlobArgs, span: &Span) -> Result<ToolOutcome, FileError> {
    let pattern = Pattern::parse(&args.pattern)?;
    let begin = start(roots, args.path.as_deref())?;
    if begin.kind() != Some(Kind::Directory) {
        let shown = begin.spot.shown();
        return Err(FileError::BadPattern(format!("{shown} is no directory; give one as `path`, or leave it out")));
    }
    let nothing = || Ok(ToolOutcome::ok(format!("no file matches {}\n", shown(args.pattern.as_bytes()))));
    let base = match args.path.as_deref() {
        _ if pattern.base.is_empty() => None,
        Some(path) if !path.is_empty() && !pattern.base.starts_with('/') => Some(format!("{path}/{}", pattern.base)),
        Some(_) | None => Some(pattern.base.clone()),
    };
    let begin = match base {
        None => begin,
        Some(base) => match start(roots, Some(&base)) {
            Ok(inner) if inner.kind() == Some(Kind::Directory) => inner,
            Ok(_) | Err(FileError::NotFound(_)) => return nothing(),
            Err(error) => return Err(error),
        },
    };
    let spot = &begin.spot;
    let (visitors, walked) = walk(
        &Walk {
            root: spot.root,
            start: &spot.canonical,
            closed: begin.closed.as_deref(),
            shown: pattern.shown,
            depth: pattern.depth,
            wanted: &|path| pattern.matches(path),
            span,
        },
        || Names { root: spot.root, newest: Newest::new(GLOB_RESULTS_MAX) },
    );
    let mut newest = Newest::new(GLOB_RESULTS_MAX);
    visitors.into_iter().for_each(|names| newest.add(names.newest));
    if newest.total == 0 && !walked.cut_off {
        return nothing();
    }
    let total = newest.total;
    let mut out = String::new();
    let listed = list(&mut out, newest.sorted().iter().map(|path| spot.shown_of(path)));
    if total > listed {
        let _ = writeln!(out, "[{} older files left out; narrow the pattern or give `path`]", total - listed);
    }
    notes(&mut out, &walked);
    Ok(ToolOutcome::ok(out))
}

/// Writes lines as long as there is room; how many.
pub(super) fn list(out: &mut String, lines: impl Iterator<Item = String>) -> usize {
    let mut listed = 0;
    for line in lines {
        if out.len() + line.len() + 1 > OUTPUT_BYTES_MAX - NOTES_BYTES {
            break;
        }
        out.push_str(&line);
        out.push('\n');
        listed += 1;
    }
    listed
}

struct Names<'a> {
    root: &'a Workspace,
    newest: Newest,
}

impl Visit for Names<'_> {
    fn visit(&mut self, found: &Found<'_>) -> bool {
        if found.is_link && !leads_to_a_file(self.root, found.path) {
            return true;
        }
        match rustix::fs::statat(found.dir, found.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.newest.put(changed(&stat), found.path),
            // It was removed meanwhile.
            Err(rustix::io::Errno::NOENT) => {}
            Err(_) => return false,
        }
        true
    }
}

/// Whether a link leads to a file below the root; another one is no file for the tools.
fn leads_to_a_file(root: &Workspace, path: &Path) -> bool {
    let located = root.locate(path).ok();
    located.and_then(|located| located.standing).is_some_and(|standing| standing.kind == Kind::File)
}
