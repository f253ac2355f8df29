//! The file of an artifact: the redo record that writes it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::limits::{ARTIFACT_BYTES_MAX, PREPARE_DEADLINE};
use lakitu_kernel::{ArtifactName, ThreadId, ToolError, pathname};
use tokio::time::Instant;

use super::listing::missing;
use super::redo::{NEW_MODE, missing_parents};
use super::restore::{Found, PutBack, record};
use super::{FileTools, Prepared, whole, within};
use crate::tools::workspace::{Content, FileError, Kind, Roots, Spot, shown};
use crate::tools::{Ask, Redo};

const PARTS: &str = "; save a part of it, or pack it with bash first";
const IN_THE_WAY: &str = "; it stands where the artifact's file belongs: move it away with bash";

impl FileTools {
    /// Computes the redo record that writes an artifact's file, and takes the lock of its path: `content`, or what `path`
    /// holds. What stands there already is replaced. Writes nothing but an artifacts directory that was not there.
    pub async fn prepare_artifact(
        &self,
        ask: &Ask,
        name: &ArtifactName,
        content: Option<String>,
        path: Option<String>,
    ) -> Result<Prepared, ToolError> {
        let deadline = Instant::now() + PREPARE_DEADLINE;
        within(deadline, made(ask.place.artifacts.clone())).await?;
        let name = name.clone();
        let found = self.blocking(ask, move |roots, ask| {
            let spot = place(roots, ask, &name)?;
            let bytes = match (content, path) {
                (Some(content), _) => Bytes::from(content),
                (None, path) => source(roots, &path.unwrap_or_default())?,
            };
            Ok((named(&spot)?, spot.absolute(), bytes))
        });
        let (name, absolute, bytes) = within(deadline, found).await?;
        let locks = self.0.locks.take(vec![absolute], (ask.call.thread, ask.call.intent), deadline).await?;
        let planned = self.blocking(ask, move |roots, _| plan(roots, name, bytes));
        Ok(Prepared { redo: within(deadline, planned).await?, locks })
    }
}

/// Makes the artifacts directory, where it is not there yet.
async fn made(directory: PathBuf) -> Result<(), FileError> {
    let text = shown(directory.as_os_str().as_encoded_bytes());
    let made = crate::blocking::spawn_blocking(move || std::fs::create_dir_all(directory)).await;
    made.map_err(|_| FileError::Stopping)?.map_err(|cause| FileError::from_io("making", text, cause))
}

/// Where the artifact's file belongs: below the artifacts directory, in a directory of its thread's own.
fn place<'a>(roots: &'a Roots, ask: &Ask, name: &ArtifactName) -> Result<Spot<'a>, FileError> {
    let path = ask.place.artifacts.join(directory(ask.call.thread)).join(name.as_str());
    roots.exact(&pathname::text(&path))
}

fn directory(thread: ThreadId) -> String {
    thread.to_string()
}

/// Its path in the journal.
fn named(spot: &Spot<'_>) -> Result<String, FileError> {
    let refused = || FileError::BadPath(format!("{} is not valid UTF-8; rename that directory first", spot.shown()));
    spot.name.clone().ok_or_else(refused)
}

/// What a file holds, read once: what becomes of it meanwhile is another version.
fn source(roots: &Roots, path: &str) -> Result<Bytes, FileError> {
    let spot = roots.locate(Path::new(path))?;
    let shown = spot.shown();
    let kind = spot.standing.map(|standing| standing.kind).ok_or_else(|| missing(roots.workspace(), &spot))?;
    if kind == Kind::Directory {
        return Err(FileError::Refused { path: shown, why: "is a directory; pack it with bash first".to_owned() });
    }
    let (file, standing) = spot.root.open_file(&spot.canonical)?;
    if standing.bytes > ARTIFACT_BYTES_MAX {
        let (bytes, max) = (standing.bytes, ARTIFACT_BYTES_MAX);
        return Err(FileError::TooLarge { path: shown, bytes, max, way_out: PARTS });
    }
    whole(file, ARTIFACT_BYTES_MAX, &shown, PARTS).map(Bytes::from)
}

fn plan(roots: &Roots, name: String, bytes: Bytes) -> Result<Redo, FileError> {
    let spot = roots.exact(&name)?;
    let refused = |why: &str| FileError::Refused { path: spot.shown(), why: why.to_owned() };
    if !spot.writable {
        return Err(refused("can only be read"));
    }
    if let Some(parent) = spot.canonical.parent()
        && spot.root.standing(parent)?.is_some_and(|standing| standing.kind != Kind::Directory)
    {
        let why = "should be a directory, for the artifacts of this thread; move it away with bash".to_owned();
        return Err(FileError::Refused { path: spot.shown_of(parent), why });
    }
    let now = match spot.root.content(&spot.canonical, ARTIFACT_BYTES_MAX) {
        Err(FileError::TooLarge { path, bytes, max, way_out: _ }) => {
            return Err(FileError::TooLarge { path, bytes, max, way_out: IN_THE_WAY });
        }
        now => now?,
    };
    if now.as_ref().is_some_and(|now| now.kind == FileKind::Directory) {
        return Err(refused("is a directory; it stands where the artifact's file belongs: move it away with bash"));
    }
    let mut files = missing_parents(&spot);
    let mode = now.as_ref().filter(|now| now.kind.is_file()).map_or(NEW_MODE, |now| now.mode);
    let to = Some(Content { kind: FileKind::File, mode, bytes });
    files.push(record(&PutBack { path: name, found: Found::Anything, to }, now));
    Ok(Redo { files })
}
