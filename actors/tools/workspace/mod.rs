//! The one way to files: everything is reached from an open directory, and nothing outside it can be.
//!
//! A path is first resolved by reading links one by one, which gives its canonical form below the root; then the
//! canonical form is opened by `openat2` with links forbidden. Whoever exchanges a component for a link in between gets
//! an error and never a file outside: comparing paths and opening afterwards cannot promise that.

use std::collections::VecDeque;
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat};
use rustix::io::Errno;

mod error;
mod kinds;
mod names;
mod roots;
#[cfg(test)]
mod tests;
mod write;

pub use error::FileError;
pub use kinds::Content;
pub(crate) use kinds::link_in;
pub use names::shown;
pub use roots::{Roots, Spot};
pub use write::{Change, Changed, temp_name};

use names::{Step, steps};

/// Links that one path may lead over, as in the kernel.
const LINKS_MAX: u32 = 40;
/// How often an open is tried again that lost a race against somebody who renames.
const RACES_MAX: u32 = 64;

/// A directory, and everything below it.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    given: PathBuf,
    dir: OwnedFd,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Of which kind it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and its owner's group.
    pub owner: (u32, u32),
}

/// The kinds that make a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link. A located path never ends at one.
    Link,
    /// A pipe, a socket, a device: never opened.
    Other,
}

/// A path below a root after every link on it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Relative to the root, without links, `.` and `..`; empty is the root itself.
    pub canonical: PathBuf,
    /// What stands there; none: nothing yet.
    pub standing: Option<Standing>,
}

impl Workspace {
    /// Opens the directory `root`.
    pub fn open(root: &Path) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let failed = |cause| FileError::from_errno("opening", root.as_os_str().as_bytes(), cause);
        let dir = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
        let given = std::path::absolute(root)
            .map_err(|cause| FileError::from_io("opening", root.as_os_str().as_bytes(), cause))?;
        // The kernel's own name of what was opened; without /proc what was asked for stands in.
        let root = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
            .or_else(|_| given.canonicalize())
            .unwrap_or_else(|_| given.clone());
        Ok(Self { root, given, dir })
    }

    /// The canonical path of the root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What of `path` lies below the root, by its text alone; none: nothing does. A relative path is below it.
    pub fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        if path.is_relative() {
            return Some(path);
        }
        path.strip_prefix(&self.root).or_else(|_| path.strip_prefix(&self.given)).ok()
    }

    /// Finds where `path` leads: relative to the root, or absolute and below it. What does not exist yet is located by
    /// its last existing directory.
    pub fn locate(&self, path: &Path) -> Result<Located, FileError> {
        names::check(path)?;
        for _ in 0..RACES_MAX {
            match self.walk(path) {
                Err(Lost::Race) => {}
                Err(Lost::Error(error)) => return Err(error),
                Ok(located) => return Ok(located),
            }
        }
        Err(FileError::from_errno("finding", path.as_os_str().as_bytes(), Errno::LOOP))
    }

    fn walk(&self, path: &Path) -> Result<Located, Lost> {
        let text = path.as_os_str().as_bytes();
        let failed = |cause| Lost::Error(FileError::from_errno("finding", text, cause));
        let outside = || Lost::Error(self.outside(path));
        let mut todo: VecDeque<Step> = steps(self.below(path).ok_or_else(outside)?).collect();
        let mut canonical = PathBuf::new();
        let mut standing = Some(self.stat(Path::new("")).map_err(failed)?);
        let mut links = 0;
        let mut above_nothing = false;
        while let Some(step) = todo.pop_front() {
            let name = match step {
                Step::Into(name) => name,
                Step::Up if !canonical.pop() => return Err(outside()),
                Step::Up if standing.is_none() => {
                    // Above a directory that does not exist there is nothing; but first it is told what leads outside.
                    above_nothing = true;
                    continue;
                }
                Step::Up => {
                    standing = Some(self.stat(&canonical).map_err(Lost::race)?);
                    continue;
                }
            };
            let before = standing;
            canonical.push(name);
            if before.is_none() {
                continue;
            }
            standing = match self.stat(&canonical) {
                Ok(found) => Some(found),
                Err(Errno::NOENT) => None,
                // A component became a link since it was looked at.
                Err(Errno::LOOP) => return Err(Lost::Race),
                Err(cause) => return Err(failed(cause)),
            };
            if standing.is_some_and(|found| found.kind == Kind::Link) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(failed(Errno::LOOP));
                }
                let target = self.read_link(&canonical).map_err(Lost::race)?;
                canonical.pop();
                if target.is_absolute() {
                    canonical = PathBuf::new();
                }
                for step in steps(self.below(&target).ok_or_else(outside)?).rev() {
                    todo.push_front(step);
                }
                standing = Some(self.stat(&canonical).map_err(Lost::race)?);
            }
        }
        if above_nothing {
            return Err(failed(Errno::NOENT));
        }
        Ok(Located { canonical, standing })
    }

    /// What stands at a canonical path now.
    pub fn look(&self, canonical: &Path) -> Result<Option<Standing>, FileError> {
        match self.stat(canonical) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(cause) => Err(FileError::from_errno("finding", canonical.as_os_str().as_bytes(), cause)),
        }
    }

    /// Opens the regular file at a canonical path for reading. Nothing else is ever opened, so nothing can block.
    pub fn open_file(&self, canonical: &Path) -> Result<(File, Standing), FileError> {
        let text = canonical.as_os_str().as_bytes();
        let failed = |cause| FileError::from_errno("reading", text, cause);
        only_files(text, self.stat(canonical).map_err(failed)?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let file = self.at(canonical, flags).map_err(failed)?;
        // It may be another one than the one looked at; nonblocking, so that even a pipe was opened without waiting.
        let standing = standing(&file).map_err(failed)?;
        only_files(text, standing)?;
        Ok((File::from(file), standing))
    }

    /// Opens the directory at a canonical path.
    pub fn open_dir(&self, canonical: &Path) -> Result<OwnedFd, FileError> {
        self.at(canonical, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
            .map_err(|cause| FileError::from_errno("opening", canonical.as_os_str().as_bytes(), cause))
    }

    fn outside(&self, path: &Path) -> FileError {
        FileError::Outside { path: shown(path.as_os_str().as_bytes()), root: self.root.display().to_string() }
    }

    fn at(&self, canonical: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if canonical.as_os_str().is_empty() { Path::new(".") } else { canonical };
        beneath(&self.dir, path, flags, Mode::empty())
    }

    fn stat(&self, canonical: &Path) -> Result<Standing, Errno> {
        standing(&self.at(canonical, OFlags::PATH | OFlags::NOFOLLOW)?)
    }

    fn read_link(&self, canonical: &Path) -> Result<PathBuf, Errno> {
        let link = self.at(canonical, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }
}

/// Opens a regular file by its path in an open directory, over no link, with what is known of it; none: nothing stands
/// there, or something else.
pub(crate) fn file_in(dir: &OwnedFd, path: impl rustix::path::Arg) -> Result<Option<(File, Stat)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let opened = path.into_with_c_str(|path| beneath(dir, path, flags, Mode::empty()));
    let file = match opened {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file.then(|| (File::from(file), stat)))
}

/// Whether anything has this name in an open directory.
pub(crate) fn stands_in(dir: &OwnedFd, name: &CStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Why one walk came to no end.
enum Lost {
    /// Somebody renames on the path: walk again.
    Race,
    Error(FileError),
}

impl Lost {
    /// What was there a moment ago is not what is there now.
    fn race(_: Errno) -> Self {
        Self::Race
    }
}

/// Opens below `dir`, over no link of any kind.
fn beneath(dir: impl AsFd, path: impl rustix::path::Arg + Copy, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..RACES_MAX {
        match rustix::fs::openat2(dir.as_fd(), path, flags | OFlags::CLOEXEC, mode, resolve) {
            // A rename somewhere on the system made the kernel doubt its own walk.
            Err(again @ (Errno::AGAIN | Errno::INTR)) => last = again,
            other => return other,
        }
    }
    Err(last)
}

fn standing(file: impl AsFd) -> Result<Standing, Errno> {
    let stat = rustix::fs::statat(file, c"", AtFlags::EMPTY_PATH)?;
    let kind = match FileType::from_raw_mode(stat.st_mode as RawMode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            Kind::Other
        }
    };
    Ok(Standing {
        kind,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
    })
}

/// Refuses what is no regular file, with what to do instead.
pub(crate) fn only_files(path: &[u8], found: Standing) -> Result<(), FileError> {
    let why = match found.kind {
        Kind::File => return Ok(()),
        Kind::Directory => "is a directory; give the path of a file",
        Kind::Link => "became a link meanwhile; try again",
        Kind::Other => "is a pipe, a socket or a device; only regular files are read and written",
    };
    Err(FileError::Refused { path: shown(path), why: why.to_owned() })
}
