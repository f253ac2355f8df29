//! Where things are: the workspace, the data, the port.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lakitu_kernel::config::Config;
use rustix::fs::{Access, StatVfs, access};

use super::{Check, State};
use crate::api;
use crate::cli::args::Global;
use crate::cli::hidden::Hidden;
use crate::cli::{Failure, paths};

/// Less free room than this is worth a word, in bytes: a database, the outputs of commands, and what they build.
const ROOM_LITTLE: u64 = 1024 * 1024 * 1024;
/// With less than this the first run may fail.
const ROOM_NONE: u64 = 64 * 1024 * 1024;

/// Workspace, data directory, port: in this order, because each rests on the one before.
pub(super) fn checks(global: &Global, workspace: Option<&Path>, config: &Config) -> Vec<Check> {
    let workspace = match paths::workspace(workspace, config) {
        Ok(workspace) => workspace,
        Err(Failure { message, .. }) => return vec![Check::told("workspace", State::Missing, message)],
    };
    let data = match paths::data(global, config, &workspace) {
        Ok(data) => data,
        Err(Failure { message, .. }) => return vec![Check::told("data", State::Failed, message)],
    };
    let owner = owner(&data);
    vec![self::workspace(&workspace), self::data(&data, owner), port(config, &data, owner)]
}

fn workspace(at: &Path) -> Check {
    match access(at, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Check::ok("workspace", at.display().to_string()),
        Err(error) => Check::not(
            "workspace",
            State::Note,
            format!("{} cannot be written to: {error}", at.display()),
            "an agent can only look around there; make it writable, or name another with --workspace",
        ),
    }
}

fn data(at: &Path, owner: Option<i32>) -> Check {
    const NAME: &str = "data";
    const OTHER: &str = "make it writable, or name another directory with --data or [paths] data";
    let shown = at.display();
    let there = nearest(at);
    if !there.is_dir() {
        return Check::not(NAME, State::Failed, format!("{} is no directory", there.display()), OTHER);
    }
    if let Err(error) = access(&there, Access::WRITE_OK | Access::EXEC_OK) {
        return Check::not(NAME, State::Failed, format!("{shown} cannot be written to: {error}"), OTHER);
    }
    let (room, kind) = match (rustix::fs::statvfs(&there), rustix::fs::statfs(&there)) {
        (Ok(room), Ok(kind)) => (free(&room), file_system(kind.f_type.cast_unsigned())),
        (Err(error), _) | (_, Err(error)) => {
            return Check::not(NAME, State::Failed, format!("{shown}: {error}"), OTHER);
        }
    };
    let served = owner.map(|pid| format!(", served by process {pid}")).unwrap_or_default();
    let new = if there == at { "" } else { ", not made yet" };
    let detail = format!("{shown}{new}: {} free on {}{served}", size(room), kind.name());
    match (room, kind) {
        (..ROOM_NONE, _) => Check::not(NAME, State::Failed, detail, "free some room: nothing can be kept there"),
        (..ROOM_LITTLE, _) => Check::not(NAME, State::Note, detail, "free some room before long runs"),
        (_, FileSystem::Memory) => {
            Check::not(NAME, State::Note, detail, "it is gone with the machine; a disk keeps it: --data")
        }
        (_, FileSystem::Shared(_)) => {
            let fix =
                "locks and flushes may not hold there, and everything rests on them: name a local disk with --data";
            Check::not(NAME, State::Note, detail, fix)
        }
        (_, FileSystem::Local(_) | FileSystem::Unknown) => Check::ok(NAME, detail),
    }
}

/// The process that serves a data directory. It need not answer.
fn owner(data: &Path) -> Option<i32> {
    let stream = lakitu_actors::debug::connect(data).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

/// The directory itself, or the first above it that is there.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn free(room: &StatVfs) -> u64 {
    room.f_bavail.saturating_mul(room.f_frsize)
}

/// `20.3 GiB`, or `512 MiB`.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    let (gib, tenths) = (bytes / (1024 * MIB), bytes % (1024 * MIB) * 10 / (1024 * MIB));
    if gib > 0 { format!("{gib}.{tenths} GiB") } else { format!("{} MiB", bytes / MIB) }
}

/// What holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileSystem {
    /// A disk of this machine.
    Local(&'static str),
    /// Memory.
    Memory,
    /// Somewhere else, or behind a program.
    Shared(&'static str),
    Unknown,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Local(name) | Self::Shared(name) => name,
            Self::Memory => "tmpfs",
            Self::Unknown => "a file system without a name here",
        }
    }
}

/// By the numbers of `linux/magic.h`.
fn file_system(magic: u64) -> FileSystem {
    match magic & 0xffff_ffff {
        0xef53 => FileSystem::Local("ext4"),
        0x5846_5342 => FileSystem::Local("xfs"),
        0x9123_683e => FileSystem::Local("btrfs"),
        0xf2f5_2010 => FileSystem::Local("f2fs"),
        0x2fc1_2fc1 => FileSystem::Local("zfs"),
        0x794c_7630 => FileSystem::Local("overlayfs"),
        0x0102_1994 | 0x8584_58f6 => FileSystem::Memory,
        0x6969 => FileSystem::Shared("nfs"),
        0x6573_5546 => FileSystem::Shared("fuse"),
        0x0102_1997 => FileSystem::Shared("9p"),
        0xff53_4d42 | 0xfe53_4d42 => FileSystem::Shared("smb"),
        0x00c3_6400 => FileSystem::Shared("ceph"),
        0x6a65_6a63 => FileSystem::Shared("virtiofs"),
        _ => FileSystem::Unknown,
    }
}

/// Where `lakitu up` would serve its API. A `run` needs no port, so one that is taken is only worth a word.
fn port(config: &Config, data: &Path, owner: Option<i32>) -> Check {
    const NAME: &str = "api";
    let bind = config.api.bind;
    if let Err(error) = api::named_keys(&config.api, data) {
        return Check::not(NAME, State::Failed, error.message, "or leave [api] bind away: loopback needs no key");
    }
    match (TcpListener::bind(bind), owner) {
        (Ok(_), _) => Check::ok(NAME, format!("{bind} is free for `lakitu up`")),
        (Err(error), Some(pid)) if error.kind() == ErrorKind::AddrInUse => {
            Check::ok(NAME, format!("{bind} is taken, and process {pid} serves this data"))
        }
        (Err(error), _) => Check::not(
            NAME,
            State::Note,
            format!("{bind} cannot be listened on by `lakitu up`: {error}"),
            "name another with [api] bind or LAKITU__API__BIND; port 0 is whatever is free",
        ),
    }
}

/// The file that the token comes from: whether commands never see it, and nobody else does. Whoever can read it can be the
/// agent.
pub(super) fn token_file(file: Option<&Path>, config: &Config) -> Result<Vec<Check>, Failure> {
    const NAME: &str = "token file";
    let hidden = Hidden::of(file, config, config.paths.data.as_deref(), &[])?;
    let Some(file) = hidden.token() else { return Ok(Vec::new()) };
    let told = file.display();
    let mut checks = vec![match hidden.seen_when_replaced() {
        None => Check::ok(NAME, format!("{told}: its directory is hidden from commands")),
        Some(_) => Check::not(
            NAME,
            State::Note,
            format!("{told}: commands that run while somebody replaces it can read it"),
            "put it into a directory of its own",
        ),
    }];
    let open = std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if open {
        checks.push(Check::not(
            "token",
            State::Note,
            format!("{told} can be read by others"),
            format!("chmod 600 {told}"),
        ));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_name_and_by_what_can_be_relied_on() {
        let tmpfs = rustix::fs::statfs("/dev/shm").unwrap().f_type.cast_unsigned();
        assert_eq!(file_system(tmpfs), FileSystem::Memory);
        assert_eq!(file_system(0x6969), FileSystem::Shared("nfs"));
        assert_eq!(file_system(0x6969).name(), "nfs");
        assert_eq!(file_system(1), FileSystem::Unknown);
        assert_eq!(
            [0, 64 << 20, (1 << 30) - 1, 1 << 30, 21 << 29].map(size),
            ["0 MiB", "64 MiB", "1023 MiB", "1.0 GiB", "10.5 GiB"]
        );
    }
}
