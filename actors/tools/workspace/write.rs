//! Writing: a temporary beside the file, made durable, then renamed over it. A file is the old one or the new one,
//! whole, at every moment and after every crash.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use lakitu_kernel::Hash;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::id::{Seq, ThreadId};
use lakitu_kernel::limits::FILE_READ_BYTES_MAX;
use rustix::fs::{Access, AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::kinds::version_in;
use super::{FileError, Standing, Workspace, beneath, only_files, shown, standing};

/// The name of the temporary of a call. It can be told from the call alone, so that whoever settles the call after a
/// crash finds what was left over.
pub fn temp_name(thread: ThreadId, intent: Seq) -> String {
    format!(".lakitu-{thread}-{intent}.tmp")
}

/// One change at one path.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Relative to the root, without links.
    pub canonical: &'a Path,
    /// What has to stand there until the very end; none: nothing.
    pub before: Option<(FileKind, Hash)>,
    /// What is to stand there, with its bytes; none: nothing.
    pub after: Option<(FileKind, &'a [u8])>,
    /// Permission bits of a file. A directory gets its own when everything stands in it (`Workspace::set_mode`).
    pub mode: u32,
    /// The temporary's name.
    pub temp: &'a str,
}

/// How a change ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is made.
    Done,
    /// The directory that was to go is not empty, so it stays.
    NotEmpty,
}

impl Workspace {
    /// The hash of the file at a canonical path; none: there is no file. Of a file that is larger than any that a tool
    /// makes the size is enough to tell that it is another one.
    pub fn hash(&self, canonical: &Path) -> Result<Option<Hash>, FileError> {
        match self.look(canonical)? {
            None => return Ok(None),
            Some(found) => only_files(canonical.as_os_str().as_bytes(), found)?,
        }
        match self.open_file(canonical) {
            Ok((file, _)) => hash(file, canonical).map(Some),
            Err(FileError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the change, durably: when this returns, the new bytes and their name are on the disk. A directory makes way for
    /// something else, or takes its place, in two steps, between which nothing stands there.
    pub fn change(&self, change: &Change<'_>) -> Result<Changed, FileError> {
        let failed = |cause| FileError::from_errno("writing", change.canonical.as_os_str().as_bytes(), cause);
        let name = change.canonical.file_name().ok_or_else(|| failed(Errno::ISDIR))?;
        let parent = self.parent(change.canonical, change.after.is_some() && change.before.is_none())?;
        let at = Place { parent: &parent, name, change };
        let changed = match change.after {
            None => at.remove()?,
            Some((FileKind::Directory, _)) => at.make_directory()?,
            Some((kind, bytes)) if is_directory(change.before) => {
                at.clear()?;
                let cleared = Change { before: None, ..*change };
                Place { change: &cleared, ..at }.replace(kind, bytes)?;
                Changed::Done
            }
            Some((kind, bytes)) => {
                at.replace(kind, bytes)?;
                Changed::Done
            }
        };
        rustix::fs::fsync(&parent).map_err(failed)?;
        Ok(changed)
    }

    /// Removes what a killed call left beside the file.
    pub fn sweep(&self, canonical: &Path, temp: &str) -> Result<(), FileError> {
        let parent = match self.parent(canonical, false) {
            Ok(parent) => parent,
            Err(FileError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        match rustix::fs::unlinkat(&parent, temp, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(FileError::from_errno("removing", temp, cause)),
        }
    }

    /// Whether the file may be replaced. A rename asks the directory alone, so what protects the file itself is asked
    /// here; root may do everything, so the bits are looked at too.
    pub fn check_writable(&self, canonical: &Path, found: Standing) -> Result<(), FileError> {
        let text = canonical.as_os_str().as_bytes();
        only_files(text, found)?;
        let refused = |why: String| FileError::Refused { path: shown(text), why };
        if found.mode & 0o222 == 0 {
            return Err(refused(format!("is read-only (mode {:04o}); make it writable first", found.mode)));
        }
        let parent = self.parent(canonical, false)?;
        let name = canonical.file_name().unwrap_or_default();
        rustix::fs::accessat(&parent, name, Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(|cause| FileError::from_errno("writing", text, cause))
    }

    /// Opens the directory that holds a canonical path, and makes it if asked to: each new one is durable in its parent
    /// before anything is put into it.
    fn parent(&self, canonical: &Path, make: bool) -> Result<OwnedFd, FileError> {
        let parent = canonical.parent().unwrap_or(Path::new(""));
        match self.open_dir(parent) {
            Err(FileError::NotFound(_)) if make => {}
            other => return other,
        }
        let mut path = PathBuf::new();
        let mut dir = self.open_dir(&path)?;
        for part in parent.components() {
            path.push(part);
            let failed = |cause| FileError::from_errno("making", path.as_os_str().as_bytes(), cause);
            match rustix::fs::mkdirat(&dir, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => rustix::fs::fsync(&dir).map_err(failed)?,
                Err(Errno::EXIST) => {}
                Err(cause) => return Err(failed(cause)),
            }
            // From the root again: a component that became a link meanwhile is not followed.
            dir = self.open_dir(&path)?;
        }
        Ok(dir)
    }
}

/// A name in an open directory, and what is to become of it.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: &'a OwnedFd,
    name: &'a OsStr,
    change: &'a Change<'a>,
}

fn is_directory(before: Option<(FileKind, Hash)>) -> bool {
    before.is_some_and(|(kind, _)| kind == FileKind::Directory)
}

impl Place<'_> {
    fn failed(&self, cause: Errno) -> FileError {
        FileError::from_errno("writing", self.change.canonical.as_os_str().as_bytes(), cause)
    }

    fn replace(&self, kind: FileKind, bytes: &[u8]) -> Result<(), FileError> {
        let filled = if kind == FileKind::Link { self.link_temp(bytes) } else { self.fill_temp(bytes) };
        let outcome = filled.and_then(|()| {
            crash_point(CrashPoint::DuringEffect);
            self.check_before()?;
            self.rename()
        });
        if outcome.is_err() {
            // It was made by this call; whatever else went wrong, it does not stay.
            let _ = rustix::fs::unlinkat(self.parent, self.change.temp, AtFlags::empty());
        }
        outcome
    }

    fn remove(&self) -> Result<Changed, FileError> {
        self.check_before()?;
        crash_point(CrashPoint::DuringEffect);
        let flags = if is_directory(self.change.before) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(self.parent, self.name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(Changed::Done),
            Err(Errno::NOTEMPTY | Errno::EXIST) if is_directory(self.change.before) => Ok(Changed::NotEmpty),
            Err(cause) => Err(self.failed(cause)),
        }
    }

    /// Removes what stands there, where anything does.
    fn clear(&self) -> Result<(), FileError> {
        if self.standing_now()?.is_some() && self.remove()? == Changed::NotEmpty {
            return Err(changed_meanwhile(&shown(self.change.canonical.as_os_str().as_bytes())));
        }
        Ok(())
    }

    fn make_directory(&self) -> Result<Changed, FileError> {
        if self.change.before.is_some() && !is_directory(self.change.before) {
            self.clear()?;
        }
        // Its own permission bits come last: they may forbid to put anything into it.
        match rustix::fs::mkdirat(self.parent, self.name, Mode::RWXU) {
            Ok(()) => Ok(Changed::Done),
            // Whoever made it: it is there.
            Err(Errno::EXIST) if self.standing_now()?.is_some_and(|(kind, _)| kind == FileKind::Directory) => {
                Ok(Changed::Done)
            }
            Err(Errno::EXIST) => Err(changed_meanwhile(&shown(self.change.canonical.as_os_str().as_bytes()))),
            Err(cause) => Err(self.failed(cause)),
        }
    }

    fn link_temp(&self, target: &[u8]) -> Result<(), FileError> {
        let link = || rustix::fs::symlinkat(OsStr::from_bytes(target), self.parent, self.change.temp);
        let made = match link() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(self.parent, self.change.temp, AtFlags::empty()).and_then(|()| link())
            }
            other => other,
        };
        made.map_err(|cause| self.failed(cause))
    }

    fn fill_temp(&self, bytes: &[u8]) -> Result<(), FileError> {
        let failed = |cause| self.failed(cause);
        let mut file = File::from(self.create_temp().map_err(failed)?);
        file.write_all(bytes)
            .map_err(|cause| FileError::from_io("writing", self.change.canonical.as_os_str().as_bytes(), cause))?;
        let old = beneath(self.parent, Path::new(self.name), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        if let Ok(old) = old.and_then(standing) {
            let new = standing(&file).map_err(failed)?;
            if old.owner != new.owner {
                keep_owner(&file, old.owner);
            }
        }
        // Behind the owner: changing that clears bits of the mode.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.change.mode)).map_err(failed)?;
        rustix::fs::fsync(&file).map_err(failed)
    }

    fn create_temp(&self) -> Result<OwnedFd, Errno> {
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            beneath(self.parent, Path::new(self.change.temp), flags, Mode::from_raw_mode(0o600))
        };
        match create() {
            // Left over by this same call before the runtime was killed: its name is nobody else's.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(self.parent, self.change.temp, AtFlags::empty())?;
                create()
            }
            other => other,
        }
    }

    fn standing_now(&self) -> Result<Option<(FileKind, Hash)>, FileError> {
        let path = self.change.canonical;
        version_in(self.parent, self.name, path, |file| hash(file, path))
    }

    /// Whether what the change is based on still stands there.
    fn check_before(&self) -> Result<(), FileError> {
        let shown = shown(self.change.canonical.as_os_str().as_bytes());
        match self.standing_now() {
            Ok(found) if found == self.change.before => Ok(()),
            Ok(Some((FileKind::Directory, _))) | Err(FileError::Refused { .. }) => Err(FileError::Changed(format!(
                "{shown} was replaced by something that is no file while it was being changed; nothing was written"
            ))),
            Ok(_) => Err(changed_meanwhile(&shown)),
            Err(error) => Err(error),
        }
    }

    fn rename(&self) -> Result<(), FileError> {
        let (dir, temp) = (self.parent.as_fd(), self.change.temp);
        let outcome = match self.change.before {
            // Whoever creates the file in this very moment is not overwritten.
            None => match rustix::fs::renameat_with(dir, temp, dir, self.name, RenameFlags::NOREPLACE) {
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(dir, temp, dir, self.name),
                other => other,
            },
            Some(_) => rustix::fs::renameat(dir, temp, dir, self.name),
        };
        outcome.map_err(|cause| match cause {
            Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY => {
                changed_meanwhile(&shown(self.change.canonical.as_os_str().as_bytes()))
            }
            _ => self.failed(cause),
        })
    }
}

fn changed_meanwhile(shown: &str) -> FileError {
    FileError::Changed(format!(
        "{shown} changed while it was being changed here; nothing was written: read it again with file_read"
    ))
}

/// Group and owner as far as the process may set them: where it may not, the file becomes its writer's, as with any
/// editor that renames.
fn keep_owner(file: &File, (uid, gid): (u32, u32)) {
    let _ = rustix::fs::fchown(file, None, Some(Gid::from_raw(gid)));
    let _ = rustix::fs::fchown(file, Some(Uid::from_raw(uid)), None);
}

fn hash(file: File, path: &Path) -> Result<Hash, FileError> {
    let mut hasher = blake3::Hasher::new();
    let mut rest = file.take(FILE_READ_BYTES_MAX + 1);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match rest.read(&mut chunk) {
            Ok(0) => return Ok(Hash(*hasher.finalize().as_bytes())),
            Ok(got) => hasher.update(chunk.get(..got).unwrap_or_default()),
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(FileError::from_io("reading", path.as_os_str().as_bytes(), cause)),
        };
    }
}
