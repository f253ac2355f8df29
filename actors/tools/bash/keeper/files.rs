//! The files of a keeper's directory: lock, claims and statuses. The runtime reads them when no keeper is left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::KeeperError;
use crate::protocol::{Status, VERSION};

const LOCK: &str = "lock";
const STATUS: &str = "status";
/// A status is below a kilobyte; whatever is larger is not ours.
const MAX_STATUS: u64 = 64 * 1024;

/// Who began one (seq, attempt). Its existence is what counts; of its content, whether a runtime took it.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    version: u32,
    attempt: u32,
    boot_id: String,
    by: String,
}

/// The running boot. Processes of another boot are certainly dead.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A path to `sock` in an open directory, short enough for a socket address however long the directory's own path is.
pub fn socket_path(dirfd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/sock", dirfd.as_raw_fd()))
}

/// Is a keeper alive for this directory? Asks for its lock without taking it, so it never disturbs one that starts.
pub fn is_alive(dir: &Path) -> io::Result<bool> {
    let file = match OpenOptions::new().read(true).write(true).open(dir.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Takes the directory's lock for as long as the file stays open. `None`: another keeper has it.
///
/// An open-file-description lock: it belongs to this file, which commands do not inherit, and not to a process.
pub(crate) fn lock(dir: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => Ok(Some(file)),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[allow(clippy::cast_possible_truncation)] // the constants are 0 to 2; the field is a short
fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the claim of one (seq, attempt) for a runtime. True: no keeper had it and none can, so this command never began
/// and never will. False: a keeper began it.
///
/// For recovery: a runtime that finds neither a running job nor a status calls this before it starts the next attempt.
/// One that was killed between the two is followed by another that finds the claim a runtime's.
pub fn claim(dir: &Path, seq: u64, attempt: u32) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let dir = File::open(dir)?;
    Ok(claim_at(dir.as_fd(), seq, attempt, RUNTIME, &boot_id()?)? || claimed_by(dir.as_fd(), seq, attempt) == RUNTIME)
}

/// Who takes claims for recovery.
const RUNTIME: &str = "runtime";

/// Who has a claim; nobody whom its bytes name where they cannot be read.
fn claimed_by(dir: BorrowedFd<'_>, seq: u64, attempt: u32) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(file) = rustix::fs::openat(dir, format!("{seq}/claim.{attempt}"), flags, Mode::empty()) else {
        return String::new();
    };
    serde_json::from_reader::<_, Claim>(File::from(file)).map_or_else(|_| String::new(), |claim| claim.by)
}

/// [`claim`] in a directory that is already open.
pub(crate) fn claim_at(dir: BorrowedFd<'_>, seq: u64, attempt: u32, by: &str, boot_id: &str) -> io::Result<bool> {
    match rustix::fs::mkdirat(dir, seq.to_string(), Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, format!("{seq}/claim.{attempt}"), flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(rustix::io::Errno::EXIST) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let claim = Claim { version: VERSION, attempt, boot_id: boot_id.to_owned(), by: by.to_owned() };
    File::from(file).write_all(&serde_json::to_vec(&claim)?)?;
    Ok(true)
}

/// How the call ended; `None` while there is no status.
///
/// A status is not synced to the disk: after a power failure it may be missing or `Corrupt`, and the boot id of the
/// call's row tells that apart.
pub fn read_status(dir: &Path, seq: u64) -> Result<Option<Status>, KeeperError> {
    match rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(dir) => read_status_at(dir.as_fd(), seq),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(KeeperError::Io(error.into())),
    }
}

/// [`read_status`] in a directory that is already open.
pub(crate) fn read_status_at(dir: BorrowedFd<'_>, seq: u64) -> Result<Option<Status>, KeeperError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::openat(dir, format!("{seq}/{STATUS}"), flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(KeeperError::Io(error.into())),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::from(file), MAX_STATUS), &mut bytes)?;
    let status: Status = serde_json::from_slice(&bytes).map_err(|why| KeeperError::corrupt("status", &why))?;
    if status.version != VERSION {
        return Err(KeeperError::corrupt("status", &format!("version {}", status.version)));
    }
    Ok(Some(status))
}

/// Replaces the status of a call: readers see the old one or the new one.
pub(crate) fn write_status_at(dir: BorrowedFd<'_>, status: &Status) -> io::Result<()> {
    let target = format!("{}/{STATUS}", status.seq);
    let temporary = format!("{target}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(&serde_json::to_vec(status)?)?;
    rustix::fs::renameat(dir, &temporary, dir, &target)?;
    Ok(())
}

/// Opens a directory, making it (0700) if it is missing.
pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Removes a socket that a dead keeper left behind. Only for the holder of the lock.
pub(crate) fn remove_socket(dir: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, "sock", AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Cause, End, Exit};

    #[test]
    fn a_claim_is_taken_once_for_each_attempt_and_stays_a_runtimes_for_every_runtime() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("jobs/thread");
        assert!(claim(&dir, 7, 1).unwrap());
        // A runtime that was killed behind its claim is followed by another.
        assert!(claim(&dir, 7, 1).unwrap());
        let open = File::open(&dir).unwrap();
        assert!(!claim_at(open.as_fd(), 7, 1, "keeper", "boot").unwrap());
        // What a keeper began, no runtime can say it never began.
        assert!(claim_at(open.as_fd(), 7, 2, "keeper", "boot").unwrap());
        assert!(!claim(&dir, 7, 2).unwrap());
    }

    #[test]
    fn the_lock_is_seen_without_being_taken() {
        let home = tempfile::tempdir().unwrap();
        assert!(!is_alive(home.path()).unwrap());
        let dir = File::open(home.path()).unwrap();
        let held = lock(dir.as_fd()).unwrap().unwrap();
        assert!(is_alive(home.path()).unwrap());
        assert!(lock(dir.as_fd()).unwrap().is_none());
        drop(held);
        assert!(!is_alive(home.path()).unwrap());
        assert!(lock(dir.as_fd()).unwrap().is_some());
    }

    #[test]
    fn a_status_comes_back_as_it_was_written() {
        let home = tempfile::tempdir().unwrap();
        let dir = File::open(home.path()).unwrap();
        assert!(claim(home.path(), 3, 1).unwrap());
        assert!(read_status(home.path(), 3).unwrap().is_none());
        let status = Status {
            version: VERSION,
            seq: 3,
            attempt: 1,
            boot_id: boot_id().unwrap(),
            end: End { cause: Cause::Timeout, exit: Some(Exit::Signal(15)), detail: None },
            started_ms: 1,
            ended_ms: 2,
            duration_ms: 1,
            bytes: 0,
            lost_bytes: 0,
            survivors: 0,
            survivors_end: None,
            last_input: Some(4),
        };
        write_status_at(dir.as_fd(), &status).unwrap();
        assert_eq!(read_status(home.path(), 3).unwrap(), Some(status));
        fs::write(home.path().join("3/status"), b"{\"version\":9").unwrap();
        assert!(matches!(read_status(home.path(), 3), Err(KeeperError::Corrupt { .. })));
    }
}
