//! Bytes of files as they stood, in a file of their own: gone with the runtime, and no memory of it. Only where a runtime is
//! killed it stays, for the commands that outlive it (`note`).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakitu_kernel::Hash;
use serde::{Deserialize, Serialize};

/// Where in the pack a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    at: u64,
    pub(super) bytes: u64,
}

impl Kept {
    /// No bytes, wherever.
    pub(super) const NOTHING: Self = Self { at: 0, bytes: 0 };
}

/// The file.
#[derive(Debug)]
pub(super) struct Pack {
    directory: PathBuf,
    id: String,
    file: Option<File>,
    end: u64,
    /// It is an earlier runtime's: others may need it still.
    found: bool,
}

impl Pack {
    /// A new one, which has no file before something is kept. `directory`: where such files lie.
    pub(super) fn new(directory: &Path) -> Self {
        // Two of a machine that was copied while it ran never lie in one directory.
        let id = format!("{}-{}", std::process::id(), super::look::now_ns());
        Self { directory: directory.to_owned(), id, file: None, end: 0, found: false }
    }

    /// One that an earlier runtime left.
    pub(super) fn found(directory: &Path, id: &str) -> Self {
        let file = File::options().read(true).write(true).open(path(directory, id)).ok();
        let end = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        Self { directory: directory.to_owned(), id: id.to_owned(), file, end, found: true }
    }

    /// What its file is called by.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How long it is: with what nobody names any more.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Puts bytes behind the others.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> io::Result<Kept> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                std::fs::create_dir_all(&self.directory)?;
                let path = path(&self.directory, &self.id);
                none.insert(File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?)
            }
        };
        file.write_all_at(bytes, self.end)?;
        let kept = Kept { at: self.end, bytes: bytes.len() as u64 };
        self.end += kept.bytes;
        Ok(kept)
    }

    /// The bytes, where they are the ones that were put there.
    pub(super) fn bytes(&self, kept: Kept, hash: Hash) -> Option<Bytes> {
        if kept.bytes == 0 {
            return (Hash::of(b"") == hash).then(Bytes::new);
        }
        let mut bytes = vec![0; usize::try_from(kept.bytes).ok()?];
        self.file.as_ref()?.read_exact_at(&mut bytes, kept.at).ok()?;
        (Hash::of(&bytes) == hash).then(|| Bytes::from(bytes))
    }

    /// A new pack with these alone: what nobody names any more is gone.
    pub(super) fn repacked<'a>(&self, named: impl Iterator<Item = (&'a mut Option<Kept>, Hash)>) -> Self {
        let mut new = Self::new(&self.directory);
        for (place, hash) in named {
            *place = place.and_then(|kept| self.bytes(kept, hash)).and_then(|bytes| new.keep(&bytes).ok());
        }
        new
    }
}

impl Drop for Pack {
    fn drop(&mut self) {
        if !self.found {
            super::note::forget(&self.directory, &self.id);
        }
    }
}

/// Where a pack lies.
pub(super) fn path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.pack"))
}
