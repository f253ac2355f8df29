//! Directories: their listing, and names near to one that does not exist.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType};

use super::compare::nearest;
use crate::tools::text::count;
use crate::tools::workspace::{FileError, Spot, Workspace, shown};

/// Names that a listing gives.
const LISTED_MAX: usize = 500;
/// Names that are compared with a missing one.
const COMPARED_MAX: usize = 2_000;
/// Entries that are looked at for the same name elsewhere.
const WALKED_MAX: usize = 5_000;
/// Names that are suggested.
const SUGGESTED_MAX: usize = 3;
/// Directories in which nobody means a file.
const SKIPPED: [&[u8]; 3] = [b".git", b"node_modules", b"target"];

/// Names, sorted, directories with `/` behind them, links with their target. What is not kept is only counted.
pub(super) fn listing(spot: &Spot<'_>, keep: impl Fn(&[u8], bool) -> bool) -> Result<String, FileError> {
    let (mut names, mut total, mut left_out) = (BTreeSet::new(), 0, 0);
    each_entry(spot.root, &spot.canonical, |name, kind| {
        if !keep(name, kind == FileType::Directory) {
            left_out += 1;
            return true;
        }
        total += 1;
        names.insert((name.to_vec(), kind == FileType::Directory, kind == FileType::Symlink));
        if names.len() > LISTED_MAX {
            names.pop_last();
        }
        true
    })?;
    let mut out = format!("{} is a directory with {}", spot.shown(), count(total, "entry", "entries"));
    out.push_str(if total == 0 { "\n" } else { ":\n" });
    let dir = spot.root.open_dir(&spot.canonical)?;
    for (name, is_dir, is_link) in &names {
        out.push_str(&shown(name));
        if *is_dir {
            out.push('/');
        }
        if let (true, Ok(target)) = (*is_link, rustix::fs::readlinkat(&dir, name.as_slice(), Vec::new())) {
            let _ = write!(out, " -> {}", shown(target.to_bytes()));
        }
        out.push('\n');
    }
    if total > names.len() {
        let _ = writeln!(out, "[{} more entries; find them by name with glob]", total - names.len());
    }
    if left_out > 0 {
        let _ = writeln!(out, "[{left_out} hidden or ignored left out; `hidden` shows them]");
    }
    Ok(out)
}

/// The error for a path at which nothing stands, with what may have been meant.
pub(super) fn missing(workspace: &Workspace, spot: &Spot<'_>) -> FileError {
    let mut near = near_names(spot);
    if near.is_empty() && std::ptr::eq(spot.root, workspace) {
        near = same_name_elsewhere(spot);
    }
    let mut message = format!("{} does not exist", spot.shown());
    if !near.is_empty() {
        let near: Vec<_> = near.iter().map(|path| shown(path.as_os_str().as_bytes())).collect();
        let _ = write!(message, "; did you mean {}?", near.join(" or "));
    }
    FileError::NotFound(message)
}

fn near_names(spot: &Spot<'_>) -> Vec<PathBuf> {
    let Some(wanted) = spot.canonical.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Vec::new();
    };
    let parent = spot.canonical.parent().unwrap_or(Path::new(""));
    let mut names = Vec::new();
    let _ = each_entry(spot.root, parent, |name, _| {
        names.extend(std::str::from_utf8(name).map(str::to_owned));
        names.len() < COMPARED_MAX
    });
    names.sort_unstable();
    let same = |name: &&String| name.eq_ignore_ascii_case(&wanted) || stem(name) == stem(&wanted);
    let mut near: Vec<_> = names.iter().filter(same).map(String::as_str).collect();
    let candidates: Vec<_> = names.iter().map(String::as_str).filter(|name| !near.contains(name)).collect();
    near.extend(nearest(&wanted, &candidates, SUGGESTED_MAX, 0.7));
    near.truncate(SUGGESTED_MAX);
    near.into_iter().map(|name| parent.join(name)).collect()
}

/// The name without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn same_name_elsewhere(spot: &Spot<'_>) -> Vec<PathBuf> {
    let Some(wanted) = spot.canonical.file_name() else { return Vec::new() };
    let (mut found, mut todo, mut walked) = (Vec::new(), VecDeque::from([PathBuf::new()]), 0);
    while let Some(dir) = todo.pop_front() {
        let _ = each_entry(spot.root, &dir, |name, kind| {
            walked += 1;
            let path = dir.join(std::ffi::OsStr::from_bytes(name));
            match kind {
                FileType::Directory if !SKIPPED.contains(&name) => todo.push_back(path),
                FileType::RegularFile if name == wanted.as_bytes() => found.push(path),
                FileType::RegularFile
                | FileType::Directory
                | FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {}
            }
            walked < WALKED_MAX && found.len() < SUGGESTED_MAX
        });
        if walked >= WALKED_MAX || found.len() >= SUGGESTED_MAX {
            break;
        }
    }
    found.sort_unstable();
    found
}

/// Calls `each` for every entry until it says no.
fn each_entry(
    root: &Workspace,
    canonical: &Path,
    mut each: impl FnMut(&[u8], FileType) -> bool,
) -> Result<(), FileError> {
    let failed = |cause| FileError::from_errno("listing", canonical.as_os_str().as_bytes(), cause);
    let fd = root.open_dir(canonical)?;
    let mut dir = Dir::read_from(&fd).map_err(failed)?;
    while let Some(entry) = dir.read() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            // Not every file system says it with the name.
            kind = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode));
        }
        if !each(name.to_bytes(), kind) {
            break;
        }
    }
    Ok(())
}
