//! A look at a workspace: what stands there, and which of it is another version than at the look before.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lakitu_kernel::config::Edits;
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::limits::FILE_READ_BYTES_MAX;
use lakitu_kernel::{Hash, pathname};
use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::compare::{Difference, Seen};
use super::hidden::{Look, Repositories, sort_out};
use super::note::{self, Command, Noted, Writing};
use super::pack::{Kept, Pack};
use crate::tools::file::{Level, whole};
use crate::tools::workspace::{FileError, Workspace, link_in};

/// What one read of a directory's names takes.
const NAMES_BYTES: usize = 32 * 1024;
/// A file that was changed so shortly before it was read may change again without its times telling.
const RACY_NS: i64 = 30_000_000;
/// How the runtime's own temporaries begin.
const TEMPORARY: &[u8] = b".lakitu-";
const NS_PER_S: i64 = 1_000_000_000;

/// What tells a version of a file, a link or a directory without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) kind: FileKind,
    pub(super) bytes: u64,
    pub(super) mode: u32,
    pub(super) inode: u64,
    modified_ns: i64,
    pub(super) changed_ns: i64,
}

impl Stamp {
    /// None: it is never recorded.
    fn recorded(stat: &Stat) -> Option<Self> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(Self::of(FileKind::File, stat)),
            FileType::Symlink => Some(Self::of(FileKind::Link, stat)),
            FileType::Directory => Some(Self::directory(stat)),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => None,
        }
    }

    /// Of a directory, what it is and its permission bits: its size and times tell what is in it.
    fn directory(stat: &Stat) -> Self {
        let mode = stat.st_mode & 0o7777;
        Self { kind: FileKind::Directory, bytes: 0, mode, inode: 0, modified_ns: 0, changed_ns: 0 }
    }

    fn of(kind: FileKind, stat: &Stat) -> Self {
        let ns = |s: i64, ns: u64| s.saturating_mul(NS_PER_S).saturating_add_unsigned(ns);
        Self {
            kind,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            inode: stat.st_ino,
            modified_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// A file at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    /// None: it was not read, because that was over a budget, or failed.
    pub(super) hash: Option<Hash>,
    pub(super) kept: Option<Kept>,
    /// It may have changed since without its stamp telling.
    racy: bool,
}

/// What is known of a workspace.
#[derive(Debug)]
pub(super) struct Manifest {
    files: BTreeMap<String, Entry>,
    pub(super) pack: Pack,
    repositories: Repositories,
    /// When the last whole look began; none: there was none.
    looked_ns: Option<i64>,
    /// Whether the last look was one: of any other nothing is noted.
    is_whole: bool,
    given_up: bool,
    /// Where packs and notes lie.
    directory: PathBuf,
    /// Whether `files` is on the disk as it is.
    written: bool,
}

/// A workspace as its names and stamps tell it.
#[derive(Default)]
struct Names {
    files: BTreeMap<String, Stamp>,
    /// Directories that nobody may look into: what was in them is taken to be in them still.
    closed: Vec<String>,
    repositories: Repositories,
    end: End,
}

/// How far a look came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// It saw all.
    #[default]
    Whole,
    /// There are too many files.
    TooMany,
    /// It took too long.
    Late,
}

impl Manifest {
    /// Nothing is known yet. `data`: where bytes are kept.
    pub(super) fn new(data: &Path) -> Self {
        let directory = directory(data);
        let pack = Pack::new(&directory);
        let (files, repositories) = (BTreeMap::new(), Repositories::new());
        let (looked_ns, is_whole, given_up, written) = (None, false, false, false);
        Self { files, pack, repositories, looked_ns, is_whole, given_up, directory, written }
    }

    /// As an earlier runtime knew it when a command began that has outlived it; none: nobody does.
    pub(super) fn of(data: &Path, command: Command) -> Option<Self> {
        let directory = directory(data);
        let (Noted { files, repositories, looked_ns }, pack) = note::of(&directory, command)?;
        let (pack, looked_ns) = (Pack::found(&directory, &pack), Some(looked_ns));
        Some(Self { files, pack, repositories, looked_ns, is_whole: true, given_up: false, directory, written: false })
    }

    /// Notes that a command begins, for whoever adopts it.
    pub(super) fn note(&mut self, command: Command) -> io::Result<()> {
        let Some(looked_ns) = self.looked_ns.filter(|_| self.is_whole) else { return Ok(()) };
        if !self.written {
            let (files, repositories) = (&self.files, &self.repositories);
            note::write(&self.directory, self.pack.id(), &Writing { files, repositories, looked_ns })?;
            self.written = true;
        }
        note::begin(&self.directory, self.pack.id(), command)
    }

    /// Brings it up to date: what differs from the look before, and what is not looked at. None: the workspace is too
    /// large, which was said before. `alone`: nobody is about to ask for bytes that an earlier look saw.
    pub(super) fn look(
        &mut self,
        workspace: &Path,
        data: &Path,
        (limits, alone): (&Edits, bool),
    ) -> Result<Option<(Seen, Option<String>)>, FileError> {
        if self.given_up {
            return Ok(None);
        }
        let until = Instant::now() + super::span(limits);
        let root = Workspace::open(workspace)?;
        // By the clock that files get their times from: what is changed from now on is no older.
        let (now_ns, began_ns) = (now_ns(), ns_of(ClockId::RealtimeCoarse));
        self.is_whole = false;
        let names = Names::of(&root, data, (limits.files_max, until))?;
        match names.end {
            End::Whole => {}
            End::TooMany => {
                *self = Self { given_up: true, ..Self::new(data) };
                let why = format!(
                    "the workspace has more than {} files ([edits] files_max): what commands change in it is not recorded",
                    limits.files_max
                );
                return Ok(Some((Seen::default(), Some(why))));
            }
            End::Late => {
                let why = format!(
                    "a look at the workspace took longer than {} ms ([edits] look_ms): what this command changed is not \
                     recorded",
                    limits.look_ms
                );
                return Ok(Some((Seen::default(), Some(why))));
            }
        }
        if alone {
            self.repack(limits);
        }
        let (known, was_written) = (self.files.len(), self.written);
        let before = std::mem::take(&mut self.files);
        let (mut same, mut unread) = (BTreeMap::new(), Vec::new());
        for closed in &names.closed {
            let within = |path: &str| path.strip_prefix(closed.as_str()).is_some_and(|below| below.starts_with('/'));
            same.extend(before.iter().filter(|(path, _)| within(path)).map(|(path, entry)| (path.clone(), *entry)));
        }
        for (path, stamp) in names.files {
            match before.get(&path) {
                Some(entry) if entry.stamp == stamp && !entry.racy => drop(same.insert(path, *entry)),
                Some(_) | None => unread.push((path, stamp)),
            }
        }
        self.files = same;
        self.written = was_written && unread.is_empty() && self.files.len() == known;
        // Small ones first: of them the budgets hold the most.
        unread.sort_by_key(|(_, stamp)| stamp.bytes);
        let mut budget = limits.keep_bytes.saturating_sub(self.live());
        for (path, stamp) in unread {
            let known = before.get(&path);
            let entry = self.read(&root, (&path, stamp), known, (&mut budget, until, now_ns));
            self.files.insert(path, entry);
        }
        let repositories = std::mem::replace(&mut self.repositories, names.repositories);
        self.is_whole = true;
        let Some(looked_ns) = self.looked_ns.replace(began_ns) else { return Ok(Some((Seen::default(), None))) };
        let seen = differences(&before, &self.files);
        let before = Look { files: &before, repositories: &repositories, at_ns: looked_ns };
        let after = Look { files: &self.files, repositories: &self.repositories, at_ns: began_ns };
        Ok(Some((sort_out(seen, before, after, &root), None)))
    }

    /// Reads a file whose stamp tells nothing.
    fn read(
        &mut self,
        root: &Workspace,
        (path, stamp): (&str, Stamp),
        known: Option<&Entry>,
        (budget, until, now_ns): (&mut u64, Instant, i64),
    ) -> Entry {
        let mut entry = Entry { stamp, hash: None, kept: None, racy: false };
        if stamp.kind == FileKind::Directory {
            entry.hash = Some(Hash::of(b""));
            entry.kept = Some(Kept::NOTHING);
            return entry;
        }
        if stamp.bytes > FILE_READ_BYTES_MAX || Instant::now() > until {
            return entry;
        }
        let Some((bytes, now)) = bytes_of(root, &pathname::path(path), stamp.kind) else { return entry };
        // As it is now: what was read belongs to no earlier stamp.
        entry.racy = now != stamp || stamp.changed_ns.max(stamp.modified_ns) > now_ns - RACY_NS;
        let hash = Hash::of(&bytes);
        entry.hash = Some(hash);
        entry.kept = match known.filter(|known| known.hash == Some(hash)).and_then(|known| known.kept) {
            Some(kept) => Some(kept),
            None if bytes.len() as u64 <= *budget => self.pack.keep(&bytes).ok(),
            None => None,
        };
        *budget = budget.saturating_sub(entry.kept.map_or(0, |kept| kept.bytes));
        entry
    }

    /// Bytes that the budget is used up by.
    fn live(&self) -> u64 {
        self.files.values().filter_map(|entry| entry.kept).map(|kept| kept.bytes).sum()
    }

    /// Gives the disk back what nobody names, once that is as much as may be kept.
    fn repack(&mut self, limits: &Edits) {
        if self.pack.len() > limits.keep_bytes.saturating_mul(4) {
            let named = self.files.values_mut().filter_map(|entry| Some((&mut entry.kept, entry.hash?)));
            self.pack = self.pack.repacked(named);
            self.written = false;
        }
    }
}

/// What a file holds, or where a link leads, and its stamp by then.
fn bytes_of(root: &Workspace, path: &Path, kind: FileKind) -> Option<(Vec<u8>, Stamp)> {
    if kind == FileKind::Link {
        let parent = root.open_dir(path.parent().unwrap_or(Path::new(""))).ok()?;
        let target = link_in(&parent, path.file_name()?).ok()?;
        let stat = rustix::fs::statat(&parent, path.file_name()?, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        return Some((target.to_vec(), Stamp::of(kind, &stat)));
    }
    let (file, _) = root.open_file(path).ok()?;
    let bytes = whole(&file, FILE_READ_BYTES_MAX, "", "").ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    Some((bytes, Stamp::of(kind, &stat)))
}

pub(super) fn now_ns() -> i64 {
    ns_of(ClockId::Realtime)
}

fn ns_of(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec.saturating_mul(NS_PER_S).saturating_add(now.tv_nsec)
}

/// Where packs and notes lie.
pub(super) fn directory(data: &Path) -> PathBuf {
    data.join("looks")
}

/// What is another version now, came, or went.
fn differences(before: &BTreeMap<String, Entry>, after: &BTreeMap<String, Entry>) -> Seen {
    let mut seen = Seen::default();
    for (path, now) in after {
        let was = before.get(path);
        let same = was.is_some_and(|was| {
            let told = was.hash.zip(now.hash).map(|(was, now)| was == now);
            was.stamp.kind == now.stamp.kind
                && was.stamp.mode == now.stamp.mode
                && told.unwrap_or(was.stamp == now.stamp)
        });
        if !same {
            seen.put(path.clone(), Difference { before: was.copied(), after: Some(*now) });
        }
    }
    for (path, was) in before.iter().filter(|(path, _)| !after.contains_key(*path)) {
        seen.put(path.clone(), Difference { before: Some(*was), after: None });
    }
    seen
}

/// A path below the workspace as the journal has it.
fn name_of(path: &[u8]) -> String {
    pathname::text(Path::new(OsStr::from_bytes(path)))
}

impl Names {
    fn of(root: &Workspace, data: &Path, (max, until): (u64, Instant)) -> Result<Self, FileError> {
        let mut names = Self::default();
        let closed = data.strip_prefix(root.root()).ok().map(|closed| closed.as_os_str().as_bytes().to_vec());
        let mut todo: Vec<(Vec<u8>, Option<Arc<Level>>)> = vec![(Vec::new(), None)];
        let mut buffer = vec![MaybeUninit::uninit(); NAMES_BYTES];
        while let Some((path, above)) = todo.pop() {
            if names.files.len() as u64 > max {
                names.end = End::TooMany;
                break;
            }
            if Instant::now() > until {
                names.end = End::Late;
                break;
            }
            let dir = match root.open_dir(Path::new(OsStr::from_bytes(&path))) {
                Ok(dir) => dir,
                Err(error) if path.is_empty() => return Err(error),
                Err(FileError::NotFound(_)) => continue,
                Err(_) => {
                    names.closed.push(name_of(&path));
                    continue;
                }
            };
            let level = Level::of(&dir, &path, above);
            let mut entries = RawDir::new(&dir, &mut buffer);
            while let Some(Ok(entry)) = entries.next() {
                let name = entry.file_name().to_bytes();
                if name == b".git" {
                    names.repositories.insert(name_of(&path));
                }
                if matches!(name, b"." | b".." | b".git") || name.starts_with(TEMPORARY) {
                    continue;
                }
                let mut full = path.clone();
                if !full.is_empty() {
                    full.push(b'/');
                }
                full.extend_from_slice(name);
                let stat = match rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(_) => {
                        names.closed.push(name_of(&path));
                        break;
                    }
                };
                let Some(stamp) = Stamp::recorded(&stat) else { continue };
                let is_dir = stamp.kind == FileKind::Directory;
                if level.as_ref().is_some_and(|level| level.leaves_out(&full, is_dir))
                    || is_dir && closed.as_deref() == Some(&full)
                {
                    continue;
                }
                names.files.insert(name_of(&full), stamp);
                if is_dir {
                    todo.push((full, level.clone()));
                }
            }
        }
        if names.files.len() as u64 > max {
            names.end = End::TooMany;
        }
        Ok(names)
    }
}
