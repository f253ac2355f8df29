//! What differs between two looks, as the journal tells it.

use std::collections::BTreeMap;

use bytes::Bytes;
use lakitu_kernel::config::Edits;
use lakitu_kernel::edit::{Changes, FileChange, FileState};

use super::look::Entry;
use super::pack::Pack;
use crate::tools::file::line_changes;

/// Files that one command is told to have changed; of more, only the number is.
const CHANGES_MAX: usize = 1000;

/// One file at both looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) before: Option<Entry>,
    pub(super) after: Option<Entry>,
}

/// What differs, by path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen(BTreeMap<String, Difference>);

impl Seen {
    pub(super) fn put(&mut self, path: String, difference: Difference) {
        self.0.insert(path, difference);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Difference)> {
        self.0.iter()
    }

    /// The same without those that this holds of.
    pub(super) fn without(mut self, left_out: impl Fn(&str, &Difference) -> bool) -> Self {
        self.0.retain(|path, difference| !left_out(path, difference));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was seen after this.
    pub(super) fn add(&mut self, later: Seen) {
        for (path, Difference { before, after }) in later.0 {
            let before = self.0.get(&path).map_or(before, |earlier| earlier.before);
            self.0.insert(path, Difference { before, after });
        }
    }
}

/// Bytes that a call may still keep, and those that it keeps.
struct Budget {
    left: u64,
    blobs: Vec<Bytes>,
}

impl Budget {
    fn take(&mut self, pack: &Pack, entry: Option<&Entry>) -> Option<Bytes> {
        let entry = entry?;
        let (kept, hash) = entry.kept.zip(entry.hash)?;
        if kept.bytes > self.left {
            return None;
        }
        let bytes = pack.bytes(kept, hash)?;
        self.left -= kept.bytes;
        self.blobs.push(bytes.clone());
        Some(bytes)
    }
}

/// What is told of a command's changes, with as many of their bytes as the budget of a call takes: small files first.
pub(super) fn told(seen: Seen, pack: &Pack, limits: &Edits, left_out: Option<String>) -> Changes {
    let size = |entry: Option<Entry>| entry.map_or(0, |entry| entry.stamp.bytes);
    let same = |change: &Difference| match (change.before, change.after) {
        (None, None) => true,
        (Some(before), Some(after)) => {
            before.hash.is_some()
                && before.hash == after.hash
                && (before.stamp.kind, before.stamp.mode) == (after.stamp.kind, after.stamp.mode)
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    let mut changed: Vec<(String, Difference)> = seen.0.into_iter().filter(|(_, change)| !same(change)).collect();
    let more = changed.len().saturating_sub(CHANGES_MAX);
    changed.truncate(CHANGES_MAX);
    changed.sort_by_key(|(_, change)| size(change.before) + size(change.after));
    let mut budget = Budget { left: limits.call_bytes, blobs: Vec::new() };
    let mut files: Vec<FileChange> = changed
        .into_iter()
        .map(|(path, Difference { before, after })| {
            // What stood there first: without it nothing can be taken back.
            let old = budget.take(pack, before.as_ref());
            let new = budget.take(pack, after.as_ref());
            let lines = match (&before, &old, &after, &new) {
                (Some(_), None, ..) | (_, _, Some(_), None) => (0, 0),
                _ => line_changes(text(before.as_ref(), old.as_ref()), text(after.as_ref(), new.as_ref())),
            };
            FileChange {
                path,
                before: before.map(|entry| state(&entry, old.is_some())),
                after: after.map(|entry| state(&entry, new.is_some())),
                added: lines.1,
                removed: lines.0,
                // What a command leaves is seen; what it meant to leave nobody knows.
                verified: false,
            }
        })
        .collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let over = (more > 0).then(|| format!("{more} more files were changed and are not recorded"));
    let left_out = [left_out, over].into_iter().flatten().reduce(|one, other| format!("{one}; {other}"));
    Changes { files, left_out, blobs: budget.blobs }
}

/// The lines of a file. Where a link leads is no line.
fn text<'a>(entry: Option<&Entry>, bytes: Option<&'a Bytes>) -> &'a [u8] {
    let bytes = bytes.filter(|_| entry.is_some_and(|entry| entry.stamp.kind.is_file()));
    bytes.map_or(&[][..], |bytes| bytes.as_ref())
}

fn state(entry: &Entry, kept: bool) -> FileState {
    FileState { kind: entry.stamp.kind, hash: entry.hash, mode: entry.stamp.mode, bytes: entry.stamp.bytes, kept }
}
