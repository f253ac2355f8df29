//! Putting files back to earlier versions: the redo record of that, computed as for any write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lakitu_kernel::edit::{FileKind, Version};
use lakitu_kernel::event::PreparedFile;
use lakitu_kernel::limits::FILE_READ_BYTES_MAX;
use lakitu_kernel::{Hash, pathname};

use crate::tools::workspace::{Content, FileError, Kind, Roots, Spot};
use crate::tools::{Redo, RedoFile};

/// What may stand at a path that is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Whatever does.
    Anything,
    /// This version, or none. Where it is another one, nothing at all is put back.
    Only(Option<Version>),
}

/// A file that is to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// As the journal has it: relative to the workspace, or absolute. It leads over no link.
    pub path: String,
    /// What may stand there now. What is to stand there always may.
    pub found: Found,
    /// What is to stand there; none: nothing.
    pub to: Option<Content>,
}

/// Where these lead, sorted: what their locks go by.
pub(super) fn places(roots: &Roots, files: &[PutBack]) -> Result<Vec<PathBuf>, FileError> {
    let mut places =
        files.iter().map(|file| Ok(roots.exact(&file.path)?.absolute())).collect::<Result<Vec<_>, FileError>>()?;
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// The redo record. Every file that is neither what may be found nor what is to stand there is named, and then there is
/// none.
pub(super) fn plan(roots: &Roots, files: &[PutBack]) -> Result<Redo, FileError> {
    let mut redo = Redo::default();
    let mut changed = BTreeSet::new();
    let all: BTreeMap<&str, &PutBack> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    for file in files {
        let spot = roots.exact(&file.path)?;
        if !spot.writable {
            return Err(FileError::Refused { path: spot.shown(), why: "can only be read".to_owned() });
        }
        let now = match spot.root.content(&spot.canonical, FILE_READ_BYTES_MAX) {
            // What is nothing that could have been left there is another version, whatever it is.
            Err(FileError::Refused { .. } | FileError::TooLarge { .. }) if file.found != Found::Anything => {
                changed.insert(spot.shown());
                continue;
            }
            now => now?,
        };
        changed.extend(in_the_way(roots, &spot, file, &all)?);
        let version = now.as_ref().map(Content::version);
        let to = file.to.as_ref().map(Content::version);
        match file.found {
            Found::Only(only) if version != only && version != to => drop(changed.insert(spot.shown())),
            Found::Only(_) | Found::Anything => redo.files.push(record(file, now)),
        }
    }
    if changed.is_empty() {
        redo.files.sort_by(|one, other| one.file.path.cmp(&other.file.path));
        return Ok(redo);
    }
    let changed: Vec<String> = changed.into_iter().collect();
    Err(FileError::Conflict(format!(
        "changed since, by a later edit or by somebody else, so nothing was put back: {}",
        changed.join(", ")
    )))
}

/// What keeps something from standing at a path, and is no part of the same plan: what took a directory's place on the way to
/// it, or what lies in a directory that would have to make way.
fn in_the_way(
    roots: &Roots,
    spot: &Spot<'_>,
    file: &PutBack,
    all: &BTreeMap<&str, &PutBack>,
) -> Result<Option<String>, FileError> {
    let Some(to) = &file.to else { return Ok(None) };
    let name = pathname::path(&file.path);
    let planned = |path: &Path| all.get(pathname::text(path).as_str()).map(|file| file.to.as_ref().map(|to| to.kind));
    let above = spot.canonical.ancestors().zip(name.ancestors()).skip(1);
    for (canonical, name) in above.take_while(|(canonical, _)| !canonical.as_os_str().is_empty()) {
        let stands = match planned(name) {
            Some(kind) => kind.is_none_or(|kind| kind == FileKind::Directory),
            None => spot.root.standing(canonical)?.is_none_or(|found| found.kind == Kind::Directory),
        };
        if !stands {
            return Ok(Some(roots.exact(&pathname::text(name))?.shown()));
        }
    }
    let makes_way = spot.root.standing(&spot.canonical)?.is_some_and(|found| found.kind == Kind::Directory)
        && to.kind != FileKind::Directory;
    if !makes_way {
        return Ok(None);
    }
    spot.root.other_in(&spot.canonical, |below| matches!(planned(&name.join(below)), Some(None)))
}

fn record(file: &PutBack, now: Option<Content>) -> RedoFile {
    let side = |content: Option<Content>| content.map(|content| (content.kind, content.mode, content.bytes));
    let (before, after) = (side(now), side(file.to.clone()));
    let (kind, mode) = after.as_ref().or(before.as_ref()).map_or_else(Default::default, |side| (side.0, side.1));
    let (kind_before, mode_before) = before.as_ref().map(|side| (side.0, side.1)).unzip();
    let (before, after) = (before.map(|side| side.2), after.map(|side| side.2));
    RedoFile {
        file: PreparedFile {
            path: file.path.clone(),
            kind,
            kind_before: kind_before.filter(|before| *before != kind),
            mode,
            mode_before: mode_before.filter(|before| *before != mode),
            hash_before: before.as_deref().map(Hash::of),
            hash_after: after.as_deref().map(Hash::of),
        },
        before,
        after,
    }
}
