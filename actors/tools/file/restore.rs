//! Putting files back to earlier versions: the redo record of that, computed as for any write.

use std::path::PathBuf;

use bytes::Bytes;
use lakitu_kernel::Hash;
use lakitu_kernel::event::PreparedFile;
use lakitu_kernel::limits::FILE_READ_BYTES_MAX;

use super::read::whole;
use crate::tools::workspace::{FileError, Roots, Spot, shown};
use crate::tools::{Redo, RedoFile};

/// A version of a file: its permission bits, and the hash of its bytes.
pub type Version = (u32, Hash);

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
    /// Permission bits and bytes of what is to stand there; none: nothing.
    pub to: Option<(u32, Bytes)>,
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
    let mut changed = Vec::new();
    for file in files {
        let spot = roots.exact(&file.path)?;
        if !spot.writable {
            return Err(FileError::Refused { path: spot.shown(), why: "can only be read".to_owned() });
        }
        let now = match standing(&spot) {
            // What is no file that a tool could have left there is another version, whatever it is.
            Err(FileError::Refused { .. } | FileError::TooLarge { .. }) if file.found != Found::Anything => {
                changed.push(spot.shown());
                continue;
            }
            now => now?,
        };
        let version = now.as_ref().map(|(mode, bytes)| (*mode, Hash::of(bytes)));
        let to = file.to.as_ref().map(|(mode, bytes)| (*mode, Hash::of(bytes)));
        match file.found {
            Found::Only(only) if version != only && version != to => changed.push(spot.shown()),
            Found::Only(_) | Found::Anything => redo.files.push(record(file, now)),
        }
    }
    if changed.is_empty() {
        redo.files.sort_by(|one, other| one.file.path.cmp(&other.file.path));
        return Ok(redo);
    }
    Err(FileError::Conflict(format!(
        "changed since, by a later edit or by somebody else, so nothing was put back: {}",
        changed.join(", ")
    )))
}

fn record(file: &PutBack, now: Option<(u32, Bytes)>) -> RedoFile {
    let (mode_before, before) = now.unzip();
    let (mode, after) = file.to.clone().unzip();
    let mode = mode.or(mode_before).unwrap_or_default();
    RedoFile {
        file: PreparedFile {
            path: file.path.clone(),
            mode,
            mode_before: mode_before.filter(|before| *before != mode),
            hash_before: before.as_deref().map(Hash::of),
            hash_after: after.as_deref().map(Hash::of),
        },
        before,
        after,
    }
}

/// The file that stands there, whole; none: nothing does.
fn standing(spot: &Spot<'_>) -> Result<Option<(u32, Bytes)>, FileError> {
    // Not what was found with the spot: there an error is nothing.
    if spot.root.look(&spot.canonical)?.is_none() {
        return Ok(None);
    }
    let (file, standing) = spot.root.open_file(&spot.canonical)?;
    let bytes = whole(file, FILE_READ_BYTES_MAX, &shown(spot.canonical.as_os_str().as_encoded_bytes()), "")?;
    Ok(Some((standing.mode, Bytes::from(bytes))))
}
