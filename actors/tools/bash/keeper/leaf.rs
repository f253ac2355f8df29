//! A cgroup of a keeper's own for its commands, where the kernel gives one (version 2, pure or hybrid): what is in it is
//! killed at one blow, however it hid from its parents.
//!
//! Commands are born in it. Moving a process costs several milliseconds, because the kernel waits for every processor;
//! a birth costs nothing that can be measured.
//!
//! **Invariant:** only what this crate made is killed or removed: a cgroup named after the data directory, of which
//! nobody alive holds the lock. The keeper and its parent hold it together, and a command never does.

use std::fs;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::spec::Limits;
use crate::sys::{self, Side};
use crate::{files, wait};

/// How long the end of what was killed is waited for. What hangs in the kernel is left to whoever comes next.
const END: Duration = Duration::from_millis(500);
/// How often a new cgroup is made again that another keeper's start took for a dead one's.
const TRIES: usize = 4;
/// `cgroup.events` is two short lines.
const MAX_EVENTS: u64 = 1024;

/// One keeper's cgroup. It is not removed by being dropped: its holders come and go.
#[derive(Debug)]
pub(crate) struct Leaf {
    base: OwnedFd,
    /// Holds the lock too. Opened before the keeper has mounts of its own, in which `/sys` is read-only.
    dir: OwnedFd,
    name: String,
}

impl Leaf {
    /// Makes one for the keeper of this directory, below this process's own cgroup, and clears away what dead keepers
    /// of the same data directory left there. The error is for people: why there is none.
    pub(crate) fn make(keeper_dir: &Path) -> Result<(Self, Probe), String> {
        let path = own(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)?;
        let base = open(CWD, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        let prefix = prefix(keeper_dir).map_err(|error| format!("jobs directory: {error}"))?;
        clear(&base, &prefix);
        for _ in 0..TRIES {
            if let Some(leaf) = Self::create(&base, &prefix).map_err(|error| format!("{}: {error}", path.display()))? {
                return leaf.tried();
            }
        }
        Err("others removed it again and again".to_owned())
    }

    /// `None`: it was taken for a dead keeper's between its making and its locking.
    fn create(base: &OwnedFd, prefix: &str) -> io::Result<Option<Self>> {
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = format!("{prefix}{unique:x}");
        match rustix::fs::mkdirat(base, &name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let locked = Self::lock(base, &name);
        if locked.is_err() {
            let _ = rustix::fs::unlinkat(base, &name, AtFlags::REMOVEDIR);
        }
        locked
    }

    /// Takes a cgroup over. `None`: somebody holds its lock, or has removed it.
    fn lock(base: &OwnedFd, name: &str) -> io::Result<Option<Self>> {
        let locked = || {
            let dir = open(base.as_fd(), name)?;
            rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            // Between the two somebody may have removed it.
            let (held, named) = (rustix::fs::fstat(&dir)?, rustix::fs::statat(base, name, AtFlags::empty())?);
            Ok((dir, (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)))
        };
        match locked() {
            Ok((dir, true)) => Ok(Some(Self { base: base.try_clone()?, dir, name: name.to_owned() })),
            Ok((_, false)) | Err(Errno::NOENT | Errno::NODEV | Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it does what it is for shows by doing it: kernels, containers and filters differ in what they refuse.
    fn tried(self) -> Result<(Self, Probe), String> {
        let result = rustix::fs::openat(&self.dir, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| format!("cgroup.kill: {error}"))
            .and_then(|_| match sys::fork_to_execute(Some(self.dir.as_fd())) {
                Ok(Side::Child) => sys::exit_now(0),
                Ok(Side::Parent { child }) => Ok(Probe(child)),
                Err(error) => Err(format!("a birth in it: {error}")),
            });
        match result {
            Ok(probe) => Ok((self, probe)),
            Err(reason) => {
                self.end();
                Err(reason)
            }
        }
    }

    /// The descriptors that a process must keep which takes it over.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.base.as_fd(), self.dir.as_fd()]
    }

    /// Where to be born.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Bounds what all commands together may use up. What is left has to be bounded otherwise: this cgroup has no such
    /// controller.
    pub(crate) fn bound(&self, limits: Limits) -> Limits {
        let unheld = |file: &str, most: Option<u64>| most.filter(|most| self.set(file, *most).is_err());
        let memory = unheld("memory.max", limits.memory);
        if limits.memory.is_some() && memory.is_none() {
            let _ = self.set("memory.swap.max", 0); // where there is none, nothing swaps
        }
        Limits { processes: unheld("pids.max", limits.processes), memory, file: limits.file }
    }

    fn set(&self, file: &str, value: u64) -> io::Result<()> {
        let file = rustix::fs::openat(&self.dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, value.to_string().as_bytes())?;
        Ok(())
    }

    /// Kills everything in it, also what is being forked meanwhile.
    pub(crate) fn kill(&self) {
        // Not held open: a writer would keep the mount from being made read-only.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(&self.dir, "cgroup.kill", flags, Mode::empty()) {
            let _ = rustix::io::write(file, b"1");
        }
    }

    /// Kills everything in it and removes it. What does not die in time keeps it; then the next start tries again.
    pub(crate) fn end(self) {
        self.kill();
        self.remove(Instant::now() + END);
    }

    /// Waits until nobody lives in it, and removes it. Zombies do not count.
    fn remove(&self, until: Instant) {
        if self.try_remove() {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let Ok(events) = rustix::fs::openat(&self.dir, "cgroup.events", flags, Mode::empty()) else { return };
        let mut events = fs::File::from(events);
        while is_populated(&mut events) {
            let left = until.saturating_duration_since(Instant::now());
            let changed = wait::poll_for(&mut [PollFd::new(&events, PollFlags::PRI)], Some(left));
            if left.is_zero() || changed.is_err() {
                return;
            }
        }
        self.try_remove();
    }

    /// False: it is still in use.
    fn try_remove(&self) -> bool {
        rustix::fs::unlinkat(&self.base, &self.name, AtFlags::REMOVEDIR) != Err(Errno::BUSY)
    }
}

/// The child that was born in a new cgroup, and has ended. On a busy machine that takes a while, in which there is other
/// work; so it is waited for last.
#[must_use]
pub(crate) struct Probe(i32);

impl Probe {
    pub(crate) fn reap(self) {
        if let Some(pid) = Pid::from_raw(self.0) {
            while matches!(rustix::process::waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
        }
    }
}

/// Kills and removes what dead keepers of this data directory left behind.
fn clear(base: &OwnedFd, prefix: &str) {
    let Ok(entries) = rustix::fs::Dir::read_from(base) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
    let stale: Vec<Leaf> =
        names.filter(|name| name.starts_with(prefix)).filter_map(|name| Leaf::lock(base, &name).ok()?).collect();
    stale.iter().for_each(Leaf::kill);
    let until = Instant::now() + END;
    for leaf in &stale {
        leaf.remove(until);
    }
}

fn is_populated(events: &mut fs::File) -> bool {
    let mut text = String::new();
    let read = events.rewind().and_then(|()| events.take(MAX_EVENTS).read_to_string(&mut text));
    read.is_ok() && text.lines().any(|line| line == "populated 1")
}

/// What the names of all keepers' cgroups of one data directory begin with: no two live directories have the same.
fn prefix(keeper_dir: &Path) -> io::Result<String> {
    files::open_dir(keeper_dir)?;
    let jobs = fs::metadata(keeper_dir.parent().unwrap_or(keeper_dir))?;
    Ok(format!("lakitu-{:x}-{:x}-", jobs.dev(), jobs.ino()))
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// The directory of this process's own cgroup.
fn own(cgroup: &str, mountinfo: &str) -> Result<PathBuf, String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
    let path = path.ok_or("the kernel has no cgroup version 2 for this process")?;
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("this process's cgroup lies outside its namespace".to_owned());
    }
    // The last one: mounts that cover others come later.
    let found = mountinfo.lines().filter_map(|line| below_mount(line, path)).next_back();
    found.ok_or_else(|| "no cgroup version 2 is mounted that shows this process's own".to_owned())
}

/// `id parent device root mount-point options … - type source options`, of a mount that shows this cgroup.
fn below_mount(line: &str, path: &Path) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    // Where a path holds blanks it is written with escapes, and nobody mounts this there.
    let usable = kind.starts_with("cgroup2 ") && !point.contains('\\');
    let below = path.strip_prefix(root).ok().filter(|_| usable)?;
    Some(Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw shared:1 - cgroup cgroup rw,name=systemd\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_cgroup_is_found_in_every_layout() {
        let container = "9 8 0:30 /docker/abc /sys/fs/cgroup rw shared:4 master:1 - cgroup2 cgroup rw\n";
        let rows = [
            ("9:name=systemd:/\n0::/\n", HYBRID, Some("/sys/fs/cgroup/unified")),
            ("0::/user.slice/a\n", HYBRID, Some("/sys/fs/cgroup/unified/user.slice/a")),
            ("0::/docker/abc/x\n", container, Some("/sys/fs/cgroup/x")),
            ("0::/docker/other\n", container, None),
            ("0::/../../elsewhere\n", HYBRID, None),
            ("9:name=systemd:/\n", HYBRID, None),
            ("0::/\n", "", None),
        ];
        for (cgroup, mountinfo, expected) in rows {
            assert_eq!(own(cgroup, mountinfo).ok(), expected.map(PathBuf::from), "{cgroup}");
        }
    }

    #[test]
    fn each_data_directory_has_names_of_its_own() {
        let home = tempfile::tempdir().unwrap();
        let name = |data: &str, thread: &str| prefix(&home.path().join(data).join("jobs").join(thread)).unwrap();
        assert_eq!(name("a", "thr_1"), name("a", "thr_2"));
        assert_ne!(name("a", "thr_1"), name("b", "thr_1"));
    }
}
