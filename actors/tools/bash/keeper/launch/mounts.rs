//! The mount namespace of a keeper: what commands must not see is covered, and what would undo it is read-only.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::Failure;
use super::plan::{Step, plan};
use crate::protocol::{Refusal, RefusalCode};
use crate::{KeeperSpec, Visible, sys};

/// Through these root can reach out of its namespaces without any capability: kernel settings (`core_pattern` names a
/// program that the kernel runs outside), the magic key, hardware.
const READ_ONLY_IN_PROC: [&str; 4] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"];

/// More block devices than this are not covered one by one.
const MAX_DEVICES: usize = 1024;

/// The numbers that the kernel keeps free for its own use once they were all given away.
const RESERVED_NUMBERS: u64 = 300;

/// Arranges the mounts of the namespace this process is alone in, and bounds its processes, if they are to be.
pub(super) fn isolate(spec: &KeeperSpec, processes: Option<u64>) -> Result<(), Failure> {
    let steps = plan(&hidden(spec)?, &spec.visible);
    // Opened while their paths still lead to them.
    let sources: Vec<Option<OwnedFd>> = steps.iter().map(source).collect::<Result<_, Failure>>()?;
    let null = open(Path::new("/dev/null")).map_err(|error| kernel("/dev/null", &error))?;

    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|error| kernel("private mounts", &error.into()))?;
    let old = rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let result = steps.iter().zip(&sources).try_for_each(|(step, source)| match (step, source) {
        (Step::Cover(path), _) => {
            cover(path, &null).map_err(|error| kernel(&format!("cover {}", path.display()), &error))
        }
        (Step::Reveal(visible), Some(source)) => {
            reveal(visible, source).map_err(|error| kernel(&format!("reveal {}", visible.path.display()), &error))
        }
        (Step::Reveal(_), None) => Ok(()),
    });
    rustix::process::umask(old);
    result?;
    for step in &steps {
        if let Step::Cover(path) = step
            && path.is_dir()
        {
            sys::make_read_only(path, false).map_err(|error| kernel("read-only cover", &error))?;
        }
    }
    cover_devices(&null).map_err(|error| kernel("cover block devices", &error))?;
    fresh_proc(processes).map_err(|error| kernel("/proc", &error))?;
    match sys::make_read_only(Path::new("/sys"), true) {
        // Not a mount, or not there: then there is no kernel behind it.
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
            Err(kernel("/sys", &error))
        }
        _ => Ok(()),
    }
}

/// Where links lead, because a mount covers what a path leads to. What does not exist is nothing to hide.
fn hidden(spec: &KeeperSpec) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in spec.hidden.iter().chain([&spec.dir]) {
        match fs::canonicalize(path) {
            Ok(path) => found.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(bad_spec("hidden", path, &error)),
        }
    }
    Ok(found)
}

fn source(step: &Step) -> Result<Option<OwnedFd>, Failure> {
    match step {
        Step::Cover(_) => Ok(None),
        Step::Reveal(wish) => {
            let (flags, links) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::NO_SYMLINKS);
            match rustix::fs::openat2(CWD, &wish.path, flags, Mode::empty(), links) {
                Ok(opened) => Ok(Some(opened)),
                Err(error) => Err(bad_spec("visible", &wish.path, &error.into())),
            }
        }
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn cover(path: &Path, null: &OwnedFd) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        return Ok(rustix::mount::mount("lakitu-hidden", path, "tmpfs", flags, c"mode=0755,size=64k,nr_inodes=1k")?);
    }
    bind(null, path)
}

/// Binds a source over a path that leads into a cover, where its mount point is made first.
fn reveal(visible: &Visible, source: &OwnedFd) -> io::Result<()> {
    let origin = PathBuf::from(format!("/proc/self/fd/{}", source.as_fd().as_raw_fd()));
    if fs::metadata(origin)?.is_dir() {
        fs::create_dir_all(&visible.path)?;
    } else {
        if let Some(parent) = visible.path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(&visible.path)?;
    }
    bind(source, &visible.path)?;
    if visible.read_only { sys::make_read_only(&visible.path, true) } else { Ok(()) }
}

fn bind(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    // Recursive, because what is mounted below must neither vanish nor, in a user namespace, be uncovered.
    Ok(rustix::mount::mount_bind_recursive(source, target)?)
}

/// Without this, root reads a hidden file from the disk below it.
fn cover_devices(null: &OwnedFd) -> io::Result<()> {
    let device = fs::metadata("/dev")?.dev();
    let mut folders = vec![PathBuf::from("/dev")];
    let mut covered = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                // Other file systems in there (shared memory, terminals) hold no device nodes, but perhaps many files.
                if entry.metadata().is_ok_and(|folder| folder.dev() == device) {
                    folders.push(entry.path());
                }
            } else if kind.is_block_device() {
                bind(null, &entry.path())?;
                covered += 1;
            }
        }
        if covered > MAX_DEVICES {
            return Err(io::Error::other("too many block devices"));
        }
    }
    Ok(())
}

/// A `/proc` that shows this PID namespace only.
fn fresh_proc(processes: Option<u64>) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None)?;
    if let Some(most) = processes {
        bound_numbers(most);
    }
    for path in READ_ONLY_IN_PROC.map(Path::new) {
        match rustix::mount::mount_bind(path, path) {
            Ok(()) => sys::make_read_only(path, false)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Bounds the processes of this PID namespace by the numbers that there are for them, root's too, where the kernel can.
fn bound_numbers(most: u64) {
    if has_numbers_of_its_own(rustix::system::uname().release().to_bytes()) {
        let _ = fs::write("/proc/sys/kernel/pid_max", most.saturating_add(RESERVED_NUMBERS).to_string());
    }
}

/// Whether a PID namespace has a bound of its own: since Linux 6.14. Before, this would be that of the whole machine.
fn has_numbers_of_its_own(release: &[u8]) -> bool {
    let mut parts =
        release.split(|byte| !byte.is_ascii_digit()).map(|part| std::str::from_utf8(part).ok()?.parse().ok());
    let version: (Option<u32>, Option<u32>) = (parts.next().flatten(), parts.next().flatten());
    version >= (Some(6), Some(14))
}

fn kernel(what: &str, error: &io::Error) -> Failure {
    Failure::Kernel(format!("{what}: {error}"))
}

fn bad_spec(list: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Refused(Refusal::new(RefusalCode::BadSpec, format!("{list} path {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_own_bound_is_left_alone() {
        for release in ["6.14.0", "6.18.44-fc-v595", "7.0.1", "10.1"] {
            assert!(has_numbers_of_its_own(release.as_bytes()), "{release}");
        }
        for release in ["6.13.12", "6.1.0-14-amd64", "5.15.0", "4.19", "6", "", "v7.1"] {
            assert!(!has_numbers_of_its_own(release.as_bytes()), "{release}");
        }
    }
}
