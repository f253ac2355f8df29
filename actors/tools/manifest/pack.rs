//! Bytes of files as they stood, in a file without a name: gone with the process, and no memory of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakitu_kernel::Hash;
use rustix::fs::{Mode, OFlags};

/// Where in the pack a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    file: Option<File>,
    end: u64,
}

impl Pack {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file: None, end: 0 }
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
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                none.insert(File::from(rustix::fs::open(&self.directory, flags, Mode::RUSR | Mode::WUSR)?))
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
