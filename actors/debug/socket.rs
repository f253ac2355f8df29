//! The socket's file: made so that nobody else can reach it, taken over only from the dead, removed by its owner.
//!
//! Every step goes through the open directory (`/proc/self/fd/N/…`): an address holds 108 bytes and paths are longer,
//! and a directory that is renamed meanwhile is still the same one.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with};

use super::protocol::SOCKET;

/// Connects to the runtime that owns a data directory.
///
/// # Errors
/// `NotFound` or `ConnectionRefused`: there is none.
pub fn connect(data: &Path) -> Result<UnixStream> {
    let folder = open(data)?;
    refuse_other_than_socket(&folder)?;
    UnixStream::connect(inside(&folder))
}

/// The bound socket's file. Dropping it does not remove the file: a successor may already have its own there.
pub(super) struct Bound {
    folder: File,
    /// Tells our file from a successor's.
    inode: u64,
}

/// Binds the socket, mode 0600 in a directory of mode 0700.
pub(super) fn bind(data: &Path) -> Result<(UnixListener, Bound)> {
    DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let folder = open(data)?;
    // One that was there may be open to others, and between `bind` and `chmod` it alone keeps them out.
    folder.set_permissions(Permissions::from_mode(0o700))?;
    refuse_other_than_socket(&folder)?;
    remove_if_stale(&folder)?;
    let listener = UnixListener::bind(inside(&folder))?;
    chmodat(&folder, SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
    listener.set_nonblocking(true)?;
    let inode = statat(&folder, SOCKET, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
    Ok((listener, Bound { folder, inode }))
}

impl Bound {
    /// Removes the file, if it is still ours.
    pub(super) fn remove(&self) {
        let ours = statat(&self.folder, SOCKET, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|file| file.st_ino == self.inode);
        if ours {
            let _ = unlinkat(&self.folder, SOCKET, AtFlags::empty());
        }
    }
}

/// Whether a peer of this user may come in: ourselves, or root, who could anyway.
pub(super) fn may_enter(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn open(data: &Path) -> Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::CLOEXEC).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(data)
}

fn inside(folder: &File) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())
}

/// A symlink is never followed, and what somebody put there is never removed.
fn refuse_other_than_socket(folder: &File) -> Result<()> {
    let kind = match statat(folder, SOCKET, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(file) => FileType::from_raw_mode(file.st_mode),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if kind == FileType::Socket {
        return Ok(());
    }
    Err(Error::new(ErrorKind::AlreadyExists, format!("{SOCKET} in the data directory is not a socket: remove it")))
}

/// Removes the socket of a runtime that is gone. The data directory's lock says who owns it; this only keeps a mistake
/// there from taking a live runtime's socket away.
fn remove_if_stale(folder: &File) -> Result<()> {
    // Does not wait: a full queue belongs to somebody who lives.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect_to(&probe, &SocketAddrUnix::new(inside(folder))?) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::CONNREFUSED) => Ok(unlinkat(folder, SOCKET, AtFlags::empty())?),
        Ok(()) | Err(Errno::AGAIN) => {
            Err(Error::new(ErrorKind::AddrInUse, "another runtime answers on this data directory's debug socket"))
        }
        Err(error) => Err(error.into()),
    }
}
