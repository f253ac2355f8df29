//! What `.gitignore` and `.ignore` leave out: the rules of a directory, and of those above it.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::tools::workspace::{Workspace, file_in, stands_in};

/// A file with rules is read up to here; compiling them takes time that nobody could interrupt.
const RULES_BYTES_MAX: u64 = 128 * 1024;

/// The rules of one directory that has some. They stand outside of any repository too.
#[derive(Debug)]
pub(crate) struct Level {
    /// Of the directory's path below the root, with the slash behind it.
    prefix_bytes: usize,
    /// `.ignore`: it decides before every `.gitignore` does.
    own: Option<Gitignore>,
    git: Option<Gitignore>,
    /// Here a repository begins: the `.gitignore` files above it are another one's.
    repository: bool,
    above: Option<Arc<Level>>,
}

impl Level {
    /// The rules that hold in the directory `path` below the root, of which `above` hold there already.
    pub(crate) fn of(dir: &OwnedFd, path: &[u8], above: Option<Arc<Level>>) -> Option<Arc<Level>> {
        let repository = stands_in(dir, c".git");
        let mut git = rules(dir, [".gitignore"]);
        if repository {
            // What a person leaves out for this clone alone; it decides last.
            git = rules(dir, [".git/info/exclude", ".gitignore"]);
        }
        let own = rules(dir, [".ignore"]);
        if git.is_none() && own.is_none() && !(repository && above.is_some()) {
            return above;
        }
        let prefix_bytes = if path.is_empty() { 0 } else { path.len() + 1 };
        Some(Arc::new(Self { prefix_bytes, own, git, repository, above }))
    }

    /// The rules that hold in the parents of the directory `start`.
    pub(super) fn above(root: &Workspace, start: &Path) -> Option<Arc<Level>> {
        let mut level = None;
        let mut parents: Vec<_> = start.ancestors().skip(1).collect();
        parents.reverse();
        for parent in parents {
            if let Ok(dir) = root.open_dir(parent) {
                level = Level::of(&dir, parent.as_os_str().as_bytes(), level);
            }
        }
        level
    }

    /// Whether they leave out what stands at `path` below the root.
    pub(crate) fn leaves_out(&self, path: &[u8], is_dir: bool) -> bool {
        let by = |rules: &Option<Gitignore>, level: &Level| match rules {
            Some(rules) => {
                let below = path.get(level.prefix_bytes..).unwrap_or_default();
                match rules.matched(Path::new(OsStr::from_bytes(below)), is_dir) {
                    Match::None => None,
                    Match::Ignore(_) => Some(true),
                    Match::Whitelist(_) => Some(false),
                }
            }
            None => None,
        };
        let levels = || std::iter::successors(Some(self), |level| level.above.as_deref());
        if let Some(left_out) = levels().find_map(|level| by(&level.own, level)) {
            return left_out;
        }
        for level in levels() {
            if let Some(left_out) = by(&level.git, level) {
                return left_out;
            }
            if level.repository {
                break;
            }
        }
        false
    }
}

/// The rules of these files, the later ones stronger. A line that is no pattern is passed over, as git does.
fn rules<const N: usize>(dir: &OwnedFd, names: [&str; N]) -> Option<Gitignore> {
    let mut builder: Option<GitignoreBuilder> = None;
    for name in names {
        let Ok(Some((file, _))) = file_in(dir, Path::new(name)) else { continue };
        let mut text = Vec::new();
        if file.take(RULES_BYTES_MAX).read_to_end(&mut text).is_err() {
            continue;
        }
        let builder = builder.get_or_insert_with(|| GitignoreBuilder::new("."));
        let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text));
        for line in text.lines() {
            let _ = builder.add_line(None, line);
        }
    }
    builder?.build().ok().filter(|rules| !rules.is_empty())
}
