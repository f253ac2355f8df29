//! What stands at a path whatever it is: a file, a link, a directory. A link is read and never followed.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;
use lakitu_kernel::Hash;
use lakitu_kernel::edit::{FileKind, Version};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{FileError, Kind, Standing, Workspace, beneath, shown, standing};
use crate::tools::file::whole;

/// What one read of a directory's names takes.
const NAMES_BYTES: usize = 8 * 1024;

/// What stands, or is to stand, at a path, with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Of a link, where it leads; of a directory, none.
    pub bytes: Bytes,
}

impl Content {
    /// Which version it is.
    pub fn version(&self) -> Version {
        Version { kind: self.kind, mode: self.mode, hash: Hash::of(&self.bytes) }
    }
}

/// The kind as it is recorded; of what is never recorded, why.
pub(super) fn recorded(path: &[u8], found: Standing) -> Result<FileKind, FileError> {
    match found.kind {
        Kind::File => Ok(FileKind::File),
        Kind::Link => Ok(FileKind::Link),
        Kind::Directory => Ok(FileKind::Directory),
        Kind::Other => Err(FileError::Refused {
            path: shown(path),
            why: "is a pipe, a socket or a device; only files, links and directories are put back".to_owned(),
        }),
    }
}

/// Where a link leads, by its name in an open directory.
pub(crate) fn link_in(dir: &OwnedFd, name: impl rustix::path::Arg) -> Result<Bytes, Errno> {
    rustix::fs::readlinkat(dir, name, Vec::new()).map(|target| Bytes::from(target.into_bytes()))
}

impl Workspace {
    /// What stands at a canonical path itself; none: nothing, or a component on the way is no directory any more.
    pub fn standing(&self, canonical: &Path) -> Result<Option<Standing>, FileError> {
        match self.stat(canonical) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(cause) => Err(FileError::from_errno("finding", canonical.as_os_str().as_bytes(), cause)),
        }
    }

    /// What stands at a canonical path, with its bytes, of which there may be so many.
    pub fn content(&self, canonical: &Path, bytes_max: u64) -> Result<Option<Content>, FileError> {
        let text = canonical.as_os_str().as_bytes();
        let Some(found) = self.standing(canonical)? else { return Ok(None) };
        let content = |mode, bytes| Ok(Some(Content { kind: recorded(text, found)?, mode, bytes }));
        match recorded(text, found)? {
            FileKind::Directory => content(found.mode, Bytes::new()),
            FileKind::Link => {
                let target = self.read_link(canonical);
                let target = target.map_err(|cause| FileError::from_errno("reading", text, cause))?;
                content(found.mode, Bytes::copy_from_slice(target.as_os_str().as_bytes()))
            }
            FileKind::File => {
                let (file, found) = self.open_file(canonical)?;
                content(found.mode, Bytes::from(whole(&file, bytes_max, &shown(text), "")?))
            }
        }
    }

    /// Which version stands at a canonical path. Of a file that is larger than any that a tool makes the size is enough to
    /// tell that it is another one.
    pub fn version(&self, canonical: &Path) -> Result<Option<Version>, FileError> {
        let text = canonical.as_os_str().as_bytes();
        let Some(found) = self.standing(canonical)? else { return Ok(None) };
        let kind = recorded(text, found)?;
        let hash = match kind {
            FileKind::Directory => Some(Hash::of(b"")),
            FileKind::File => self.hash(canonical)?,
            FileKind::Link => {
                let target = self.read_link(canonical);
                let target = target.map_err(|cause| FileError::from_errno("reading", text, cause))?;
                Some(Hash::of(target.as_os_str().as_bytes()))
            }
        };
        Ok(hash.map(|hash| Version { kind, mode: found.mode, hash }))
    }

    /// Sets the permission bits of a directory.
    pub fn set_mode(&self, canonical: &Path, mode: u32) -> Result<(), FileError> {
        let failed = |cause| FileError::from_errno("changing", canonical.as_os_str().as_bytes(), cause);
        // A path handle needs no permission to read, and its name in /proc leads to what was opened and nowhere else.
        let dir = self.at(canonical, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(failed)?;
        let own = format!("/proc/self/fd/{}", dir.as_raw_fd());
        rustix::fs::chmod(own, Mode::from_raw_mode(mode)).map_err(failed)
    }

    /// The first name in a directory that `known` does not know; none: there is no other, or no directory.
    pub fn other_in(&self, canonical: &Path, known: impl Fn(&OsStr) -> bool) -> Result<Option<String>, FileError> {
        let failed = |cause| FileError::from_errno("reading", canonical.as_os_str().as_bytes(), cause);
        let dir = self.open_dir(canonical)?;
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); NAMES_BYTES];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if !matches!(name.as_bytes(), b"." | b"..") && !known(name) {
                return Ok(Some(shown(canonical.join(name).as_os_str().as_bytes())));
            }
        }
        Ok(None)
    }
}

/// Which version stands under a name in an open directory, without its permission bits.
pub(super) fn version_in(
    parent: &OwnedFd,
    name: &OsStr,
    path: &Path,
    hash: impl Fn(std::fs::File) -> Result<Hash, FileError>,
) -> Result<Option<(FileKind, Hash)>, FileError> {
    let text = path.as_os_str().as_bytes();
    let failed = |cause| FileError::from_errno("writing", text, cause);
    let open = beneath(parent, Path::new(name), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
    let found = match open.and_then(standing) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let kind = recorded(text, found)?;
    let hash = match kind {
        FileKind::Directory => Hash::of(b""),
        FileKind::Link => Hash::of(&link_in(parent, name).map_err(failed)?),
        FileKind::File => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
            hash(beneath(parent, Path::new(name), flags, Mode::empty()).map_err(failed)?.into())?
        }
    };
    Ok(Some((kind, hash)))
}
