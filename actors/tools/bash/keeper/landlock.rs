//! Where commands may write, and whom they reach: a Landlock domain. What they may read is a matter of the mounts.
//!
//! **Invariant:** a keeper's commands share one domain. Two of them in domains of their own could neither signal nor look
//! into each other, so a later command could not end the server that an earlier one started.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::spec::Confinement;
use crate::sys;

/// Accesses to files, by the kernel's bits.
const WRITE_FILE: u64 = 1 << 1;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
/// Renaming and linking between directories: since version 2.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;
/// Commands to devices: since version 5.
const IOCTL_DEV: u64 = 1 << 15;

/// What a version 2 knows.
const BASIC: u64 = WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_CHAR
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_BLOCK
    | MAKE_SYM
    | REFER;
/// Allowed nowhere: a device node is a way around every path.
const NEVER: u64 = MAKE_CHAR | MAKE_BLOCK;
/// What a rule on a file may say; the others are about directories.
const OF_FILES: u64 = WRITE_FILE | TRUNCATE | IOCTL_DEV;

/// Scopes, by the kernel's bits: since version 6.
const ABSTRACT_SOCKETS: u64 = 1 << 0;
const SIGNALS: u64 = 1 << 1;

/// Version 1 refuses every rename between directories, and no rule can allow it.
const VERSION_LEAST: u32 = 2;

/// The devices that programs write to, and where they make terminals and shared memory.
const DEVICES: [&str; 9] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
];

/// What a domain refuses where nothing allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    files: u64,
    scopes: u64,
}

/// As much as this version can refuse.
fn refused(version: u32) -> Refused {
    let since = |version_of: u32, bits: u64| if version >= version_of { bits } else { 0 };
    Refused { files: BASIC | since(3, TRUNCATE) | since(5, IOCTL_DEV), scopes: since(6, ABSTRACT_SOCKETS | SIGNALS) }
}

/// What this version confines, in words.
fn level(version: u32) -> Confinement {
    let missing: Vec<&str> = [(3, "truncating"), (6, "signals and abstract sockets")]
        .into_iter()
        .filter_map(|(since, what)| (version < since).then_some(what))
        .collect();
    if missing.is_empty() {
        return Confinement::Yes;
    }
    Confinement::Partly(format!("version {version} of Landlock does not hold off {}", missing.join(", ")))
}

/// What this kernel would do for commands: the same that a keeper finds.
pub fn confinement() -> Confinement {
    match version() {
        Ok(version) => level(version),
        Err(reason) => Confinement::No(reason),
    }
}

fn version() -> Result<u32, String> {
    match sys::landlock_version() {
        Ok(version) if version >= VERSION_LEAST => Ok(version),
        Ok(version) => Err(format!("version {version} of Landlock allows no renames; Linux 5.19 has the next")),
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            Err("Landlock is switched off; boot with lsm=landlock,…".to_owned())
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) => {
            Err("this kernel, or what filters its calls, has no Landlock; Linux 5.19 has".to_owned())
        }
        Err(error) => Err(format!("Landlock: {error}")),
    }
}

/// Confines this thread, and whatever it forks from now on, for good: it writes only below these paths and to the usual
/// devices, and gains no rights by executing programs. Paths that are not there are left out.
pub(crate) fn enter(write: &[PathBuf]) -> Confinement {
    let entered = version().and_then(|version| {
        restrict(refused(version), write).map_err(|error| format!("Landlock: {error}"))?;
        Ok(level(version))
    });
    entered.unwrap_or_else(Confinement::No)
}

fn restrict(refused: Refused, write: &[PathBuf]) -> io::Result<()> {
    let rules = sys::landlock_rules(refused.files, refused.scopes)?;
    // A command of another keeper may be at work where these are, so no link is followed to them; to devices it may be.
    let devices = DEVICES.iter().map(|path| (Path::new(path), ResolveFlags::empty()));
    for (path, how) in devices.chain(write.iter().map(|path| (path.as_path(), ResolveFlags::NO_SYMLINKS))) {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::openat2(CWD, path, flags, Mode::empty(), how) else { continue };
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) == FileType::Directory;
        let allowed = refused.files & if is_directory { !NEVER } else { OF_FILES };
        // What the kernel does not take as a rule allows nothing.
        let _ = sys::landlock_allow(rules.as_fd(), allowed, opened.as_fd());
    }
    rustix::thread::set_no_new_privs(true)?;
    sys::landlock_enter(rules.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_asked_for_what_it_knows() {
        assert_eq!(refused(2), Refused { files: BASIC, scopes: 0 });
        assert_eq!(refused(4), Refused { files: BASIC | TRUNCATE, scopes: 0 });
        assert_eq!(refused(5), Refused { files: BASIC | TRUNCATE | IOCTL_DEV, scopes: 0 });
        let whole = Refused { files: BASIC | TRUNCATE | IOCTL_DEV, scopes: ABSTRACT_SOCKETS | SIGNALS };
        assert_eq!((refused(6), refused(99)), (whole, whole));
    }

    #[test]
    fn what_a_version_leaves_open_is_said() {
        let missing = |what: &str| Confinement::Partly(what.to_owned());
        assert_eq!(
            level(2),
            missing("version 2 of Landlock does not hold off truncating, signals and abstract sockets")
        );
        assert_eq!(level(5), missing("version 5 of Landlock does not hold off signals and abstract sockets"));
        assert_eq!(level(6), Confinement::Yes);
    }
}
