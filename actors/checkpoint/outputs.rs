//! How much of what commands put out is kept.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakitu_kernel::ThreadId;
use lakitu_kernel::clock::Timestamp;

use crate::store::{Reading, Store, StoreError};

/// What was put out lately is kept, whatever there is of it: somebody may be about to read it.
const KEPT_FOR: Duration = Duration::from_hours(1);

/// What a command put out.
#[derive(Debug)]
struct Spool {
    path: PathBuf,
    bytes: u64,
    written: Timestamp,
    thread: ThreadId,
}

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes what settled threads' commands put out, the oldest first, until all there is fits into so many bytes. What a
/// thread that goes on may still read stays, and what a job still writes.
///
/// # Errors
/// What is the matter with the store. A file that cannot be removed is left.
pub async fn sweep(store: &Store, outputs: PathBuf, most: u64, now: Timestamp) -> Result<Removed, StoreError> {
    let listed = crate::blocking::spawn_blocking(move || list(&outputs)).await;
    let mut spools = match listed {
        Ok(Ok(spools)) => spools,
        Ok(Err(error)) => return Err(StoreError::Io(format!("the outputs cannot be listed: {error}"))),
        Err(error) => return Err(StoreError::Io(format!("the look at the outputs failed: {error}"))),
    };
    let surplus = spools.iter().map(|spool| spool.bytes).sum::<u64>().saturating_sub(most);
    if surplus == 0 {
        return Ok(Removed::default());
    }
    spools.retain(|spool| now.since(spool.written) >= KEPT_FOR);
    spools.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
    let mut threads: BTreeSet<ThreadId> = spools.iter().map(|spool| spool.thread).collect();
    let at_rest = store.read(move |reading| {
        let mut looked_at = Ok(());
        threads.retain(|thread| {
            is_at_rest(reading, *thread).unwrap_or_else(|error| {
                looked_at = Err(error);
                false
            })
        });
        looked_at.map(|()| threads)
    });
    let at_rest = at_rest.await?;
    spools.retain(|spool| at_rest.contains(&spool.thread));
    let removed = crate::blocking::spawn_blocking(move || remove(&spools, surplus)).await;
    Ok(removed.unwrap_or_default())
}

/// Whether nothing of a thread reads or writes outputs before somebody wakes it. One that has no row came to nothing.
fn is_at_rest(reading: &Reading, thread: ThreadId) -> Result<bool, StoreError> {
    let settled = reading.thread(thread)?.is_none_or(|row| row.status.is_settled());
    Ok(settled && reading.open_jobs_of(thread)?.is_empty())
}

/// The spools of all threads. What is no thread's is none of them.
fn list(outputs: &Path) -> io::Result<Vec<Spool>> {
    let directory = match fs::read_dir(outputs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        directory => directory?,
    };
    let mut spools = Vec::new();
    for entry in directory {
        let entry = entry?;
        let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(entry.path())? {
            let file = file?;
            let metadata = file.metadata()?;
            if metadata.is_file() {
                let written = Timestamp::of(metadata.modified()?);
                spools.push(Spool { path: file.path(), bytes: metadata.len(), written, thread });
            }
        }
    }
    Ok(spools)
}

/// Removes the first of these, until so many bytes are gone.
fn remove(spools: &[Spool], surplus: u64) -> Removed {
    let mut removed = Removed::default();
    for spool in spools {
        if removed.bytes >= surplus {
            break;
        }
        match fs::remove_file(&spool.path) {
            Ok(()) => {
                removed.files += 1;
                removed.bytes += spool.bytes;
            }
            Err(error) => tracing::debug!(%error, path = %spool.path.display(), "an output stays"),
        }
    }
    removed
}
