//! Redo records of writes and edits: how one is computed. `carry` carries them out.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::event::PreparedFile;
use lakitu_kernel::limits::FILE_EDIT_BYTES_MAX;
use lakitu_kernel::{Hash, pathname};

use super::edit::{EditArgs, edit, sized};
use super::listing::missing;
use super::multi_edit::{MultiEditArgs, multi_edit};
use super::read::whole;
use super::write::WriteArgs;
use crate::tools::workspace::{FileError, Roots, Spot, shown};
use crate::tools::{Known, Redo, RedoFile};

/// Permission bits of a file that a tool creates.
const NEW_MODE: u32 = 0o644;
/// Permission bits of a directory that has to be made for it.
const NEW_DIRECTORY_MODE: u32 = 0o755;

/// A file that a call wants to change, as it stands now.
pub(super) struct Target<'a> {
    spot: Spot<'a>,
    name: String,
    before: Option<Vec<u8>>,
    mode: u32,
}

/// Where the paths of a call lead, without links, sorted: what its locks go by.
pub(super) fn locate(roots: &Roots, paths: &[&str]) -> Result<Vec<PathBuf>, FileError> {
    let mut located = paths
        .iter()
        .map(|path| Ok(roots.locate(Path::new(path))?.absolute()))
        .collect::<Result<Vec<_>, FileError>>()?;
    located.sort_unstable();
    located.dedup();
    Ok(located)
}

/// The redo record of `file_write`, and the paths that it is about.
pub(super) fn plan_write(roots: &Roots, args: &WriteArgs, known: &Known) -> Result<(Vec<PathBuf>, Redo), FileError> {
    sized(args.content.len(), &shown(args.path.as_bytes()))?;
    let target = target(roots, &args.path, known, "overwrite it")?;
    Ok(target.planned(Bytes::from(args.content.clone().into_bytes())))
}

/// The redo record of `file_edit`, and the paths that it is about.
pub(super) fn plan_edit(roots: &Roots, args: &EditArgs, known: &Known) -> Result<(Vec<PathBuf>, Redo), FileError> {
    let target = target(roots, &args.path, known, "edit it")?;
    if target.before.is_none() && !args.old_string.is_empty() {
        return Err(missing(roots.workspace(), &target.spot));
    }
    let after = edit(target.before.as_deref(), &args.replace(), &target.spot.shown())?;
    Ok(target.planned(Bytes::from(after)))
}

/// The redo record of `multi_edit`, and the paths that it is about.
pub(super) fn plan_multi_edit(
    roots: &Roots,
    args: &MultiEditArgs,
    known: &Known,
) -> Result<(Vec<PathBuf>, Redo), FileError> {
    let target = target(roots, &args.path, known, "edit it")?;
    if target.before.is_none() && args.edits.first().is_some_and(|first| !first.old_string.is_empty()) {
        return Err(missing(roots.workspace(), &target.spot));
    }
    let after = multi_edit(target.before.as_deref(), args, &target.spot.shown())?;
    Ok(target.planned(Bytes::from(after)))
}

/// Opens what is to be changed, and refuses where it may not be, or where the thread does not know what it would change.
pub(super) fn target<'a>(roots: &'a Roots, path: &str, known: &Known, then: &str) -> Result<Target<'a>, FileError> {
    let spot = roots.locate(Path::new(path))?;
    let shown = spot.shown();
    let refused = |why: &str| FileError::Refused { path: shown.clone(), why: why.to_owned() };
    if !spot.writable {
        return Err(refused("is kept by the runtime and can only be read"));
    }
    let Some(name) = spot.name.clone() else {
        return Err(FileError::BadPath(format!("{shown} is not valid UTF-8; rename it with bash first")));
    };
    let Some(standing) = spot.standing else {
        if path.ends_with('/') {
            return Err(FileError::BadPath(format!(
                "{} names a directory; give the path of a file",
                self::shown(path.as_bytes())
            )));
        }
        return Ok(Target { spot, name, before: None, mode: NEW_MODE });
    };
    spot.root.check_writable(&spot.canonical, standing)?;
    let way_out = "; change it with bash";
    if standing.bytes > FILE_EDIT_BYTES_MAX {
        return Err(FileError::TooLarge { path: shown, bytes: standing.bytes, max: FILE_EDIT_BYTES_MAX, way_out });
    }
    let (file, standing) = spot.root.open_file(&spot.canonical)?;
    let before = whole(file, FILE_EDIT_BYTES_MAX, &shown, way_out)?;
    match known.get(&name) {
        Some(hash) if *hash == Hash::of(&before) => {
            Ok(Target { spot, name, before: Some(before), mode: standing.mode })
        }
        Some(_) => Err(FileError::Changed(format!(
            "{shown} changed since you last saw it (by a command, or by somebody else): read it again with file_read, then {then}"
        ))),
        None => Err(FileError::Changed(format!(
            "{shown} exists and you have not read it: read it first with file_read, then {then}"
        ))),
    }
}

impl<'a> Target<'a> {
    /// What stands there.
    pub(super) fn before(&self) -> Option<&[u8]> {
        self.before.as_deref()
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Its path in the journal.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn spot(&self) -> &Spot<'a> {
        &self.spot
    }

    pub(super) fn shown(&self) -> String {
        self.spot.shown()
    }

    pub(super) fn absolute(&self) -> PathBuf {
        self.spot.absolute()
    }

    fn planned(self, after: Bytes) -> (Vec<PathBuf>, Redo) {
        let (path, mode) = (self.absolute(), self.mode);
        let mut files = missing_parents(&self.spot);
        files.push(record(self, Some(after), mode));
        (vec![path], Redo { files })
    }
}

/// The directories that have to be made before anything can stand there: they are a part of the change, and go with it.
pub(super) fn missing_parents(spot: &Spot<'_>) -> Vec<RedoFile> {
    let mut missing = Vec::new();
    let (mut below, mut name) = (spot.canonical.as_path(), spot.name.as_deref().map(Path::new));
    while let Some((parent, path)) = below.parent().zip(name.and_then(Path::parent)) {
        if parent.as_os_str().is_empty() || !matches!(spot.root.standing(parent), Ok(None)) {
            break;
        }
        let nothing = Bytes::new();
        missing.push(RedoFile {
            file: PreparedFile {
                path: pathname::text(path),
                kind: FileKind::Directory,
                kind_before: None,
                mode: NEW_DIRECTORY_MODE,
                mode_before: None,
                hash_before: None,
                hash_after: Some(Hash::of(&nothing)),
            },
            before: None,
            after: Some(nothing),
        });
        (below, name) = (parent, Some(path));
    }
    missing.reverse();
    missing
}

/// What is to become of a file; none: it is removed.
pub(super) fn record(target: Target<'_>, after: Option<impl Into<Bytes>>, mode: u32) -> RedoFile {
    let after: Option<Bytes> = after.map(Into::into);
    let file = PreparedFile {
        path: target.name,
        kind: FileKind::File,
        kind_before: None,
        mode,
        mode_before: target.before.is_some().then_some(target.mode).filter(|before| *before != mode),
        hash_before: target.before.as_deref().map(Hash::of),
        hash_after: after.as_deref().map(Hash::of),
    };
    RedoFile { file, before: target.before.map(Bytes::from), after }
}
