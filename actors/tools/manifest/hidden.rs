//! What a look does not see any more, or sees for the first time, because what is left out changed, and no file did: a command
//! wrote an ignore file, or made a repository. Nothing came and nothing went, so none of it is told: taking it back would
//! remove what has been there all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lakitu_kernel::edit::FileKind;
use lakitu_kernel::pathname;

use super::compare::{Difference, Seen};
use super::look::Entry;
use crate::tools::workspace::Workspace;

/// What decides about what is left out, beside the files that a look sees.
pub(super) type Repositories = BTreeSet<String>;

/// One look.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) files: &'a BTreeMap<String, Entry>,
    pub(super) repositories: &'a Repositories,
    /// When it began, in nanoseconds of the clock that files get their times from.
    pub(super) at_ns: i64,
}

/// Takes out of what was seen what merely came into view, or went out of it.
pub(super) fn sort_out(seen: Seen, before: Look<'_>, after: Look<'_>, root: &Workspace) -> Seen {
    if !rules_changed(&seen, before, after) {
        return seen;
    }
    // What was moved has its old time and its old inode.
    let inodes: BTreeSet<u64> = before.files.values().map(|entry| entry.stamp.inode).collect();
    let has_been_there = |entry: &Entry| {
        let stamp = entry.stamp;
        stamp.kind != FileKind::Directory && stamp.changed_ns < before.at_ns && !inodes.contains(&stamp.inode)
    };
    let still_there = |path: &str, was: &Entry| {
        let found = root.version(&pathname::path(path)).ok().flatten();
        found.is_some_and(|found| found.kind == was.stamp.kind)
    };
    let mut unseen = BTreeSet::new();
    for (path, difference) in seen.all() {
        match difference {
            Difference { before: None, after: Some(now) } if has_been_there(now) => {
                // And with it the directories that it is in, which were left out too.
                unseen.extend(Path::new(path).ancestors().filter_map(Path::to_str).map(str::to_owned));
            }
            Difference { before: Some(was), after: None } if still_there(path, was) => {
                unseen.extend([path.clone()]);
            }
            Difference { .. } => {}
        }
    }
    seen.without(|path, difference| unseen.contains(path) && difference.before.is_some() != difference.after.is_some())
}

fn rules_changed(seen: &Seen, before: Look<'_>, after: Look<'_>) -> bool {
    let is_rule = |path: &str| matches!(path.rsplit('/').next(), Some(".gitignore" | ".ignore"));
    before.repositories != after.repositories || seen.all().any(|(path, _)| is_rule(path))
}
