//! Going through a tree on a few threads.
//!
//! It cannot leave the root, whoever exchanges names for links meanwhile: each directory is opened anew from the root's
//! own descriptor with links forbidden (`openat2`), its names are read from that descriptor, and each file is opened as
//! one name in it, links forbidden again. No path is ever handed to something that would follow it.

use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RawDir};
use rustix::io::Errno;

use super::Span;
use super::ignored::Level;
use super::pattern::Shown;
use crate::tools::workspace::Workspace;

/// Threads of one walk. More wait for the same disk.
const THREADS_MAX: usize = 4;
/// Files that a thread hands to an idle one at a time.
const CHUNK_FILES: usize = 64;
/// Entries that one walk looks at.
const ENTRIES_MAX: usize = 2_000_000;
/// What one read of a directory's names takes.
const NAMES_BYTES: usize = 32 * 1024;

/// What is walked, and what of it is of interest.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Workspace,
    /// The directory to begin at, canonical below the root.
    pub(super) start: &'a Path,
    /// A directory that is passed over, canonical below the root.
    pub(super) closed: Option<&'a Path>,
    /// Which hidden names count.
    pub(super) shown: Shown,
    /// How many directories deep; none: to the end.
    pub(super) depth: Option<usize>,
    /// Whether a file is of interest, by its path below `start`.
    pub(super) wanted: &'a (dyn Fn(&Path) -> bool + Sync),
    pub(super) span: &'a Span,
}

/// A file that was found.
pub(super) struct Found<'a> {
    /// Its directory.
    pub(super) dir: &'a OwnedFd,
    /// Its name in it.
    pub(super) name: &'a CStr,
    /// Its path below the root.
    pub(super) path: &'a Path,
    /// Whether a link has this name. Nothing follows it.
    pub(super) is_link: bool,
}

/// Who is told of files. Each thread has one of its own.
pub(super) trait Visit: Send {
    /// A file that is wanted; false: it could not be read.
    fn visit(&mut self, found: &Found<'_>) -> bool;
}

/// What a walk came by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walked {
    /// Wanted files.
    pub(super) files: usize,
    entries: usize,
    /// Files and directories that could not be read.
    pub(super) unread: usize,
    /// Whether it ended before it was done.
    pub(super) cut_off: bool,
}

impl Walked {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.entries += other.entries;
        self.unread += other.unread;
        self.cut_off |= other.cut_off;
    }
}

enum Job {
    Dir { path: Vec<u8>, deep: usize, above: Option<Arc<Level>> },
    Files { dir: Arc<OwnedFd>, path: Vec<u8>, names: Vec<(CString, bool)> },
}

/// Walks, with one visitor a thread, and gives them back.
pub(super) fn walk<V: Visit>(walk: &Walk<'_>, visitor: impl Fn() -> V) -> (Vec<V>, Walked) {
    let start = walk.start.as_os_str().as_bytes().to_vec();
    let above = Level::above(walk.root, walk.start);
    let jobs = Jobs::new(Job::Dir { path: start, deep: 0, above });
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, THREADS_MAX);
    let work = |visitor| work_off(walk, &jobs, visitor);
    let done: Vec<(V, Walked)> = std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|_| visitor()).map(|visitor| scope.spawn(move || work(visitor))).collect();
        let mine = work(visitor());
        let others = others.into_iter().map(|other| match other.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(mine).chain(others).collect()
    });
    let mut walked = Walked::default();
    let visitors = done.into_iter().map(|(visitor, by_one)| {
        walked.add(by_one);
        visitor
    });
    (visitors.collect(), walked)
}

fn work_off<V: Visit>(walk: &Walk<'_>, jobs: &Jobs, mut visitor: V) -> (V, Walked) {
    let _ends = EndsOnPanic(jobs);
    let mut walker = Walker { walk, jobs, walked: Walked::default() };
    while let Some(job) = jobs.next() {
        walker.carry_out(job, &mut visitor);
        jobs.done();
    }
    (visitor, walker.walked)
}

struct Walker<'a> {
    walk: &'a Walk<'a>,
    jobs: &'a Jobs,
    walked: Walked,
}

impl Walker<'_> {
    fn carry_out(&mut self, job: Job, visitor: &mut impl Visit) {
        if self.is_over() {
            return;
        }
        match job {
            Job::Dir { path, deep, above } => {
                let Ok(dir) = self.walk.root.open_dir(Path::new(OsStr::from_bytes(&path))) else {
                    self.walked.unread += 1;
                    return;
                };
                let level = Level::of(&dir, &path, above);
                if self.names(Arc::new(dir), path, (deep, level), visitor).is_err() {
                    self.walked.unread += 1;
                }
            }
            Job::Files { dir, mut path, names } => self.visit(&dir, &mut path, &names, visitor),
        }
    }

    fn is_over(&mut self) -> bool {
        let over = self.walked.entries > ENTRIES_MAX || self.walk.span.is_over();
        self.walked.cut_off |= over;
        over
    }

    fn names(
        &mut self,
        dir: Arc<OwnedFd>,
        mut path: Vec<u8>,
        (deep, level): (usize, Option<Arc<Level>>),
        visitor: &mut impl Visit,
    ) -> Result<(), Errno> {
        if !path.is_empty() {
            path.push(b'/');
        }
        let prefix = path.len();
        let mut buffer = vec![MaybeUninit::uninit(); NAMES_BYTES];
        let mut entries = RawDir::new(&dir, &mut buffer);
        let mut files = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            self.walked.entries += 1;
            if matches!(name.to_bytes(), b"." | b"..") || !self.walk.shown.shows(name.to_bytes()) {
                continue;
            }
            let kind = kind(&dir, name, entry.file_type());
            let is_dir = kind == FileType::Directory;
            if !is_dir && !matches!(kind, FileType::RegularFile | FileType::Symlink) {
                continue;
            }
            path.truncate(prefix);
            path.extend_from_slice(name.to_bytes());
            if !is_dir && !(self.walk.wanted)(self.below_start(&path)) {
                continue;
            }
            if level.as_ref().is_some_and(|level| level.leaves_out(&path, is_dir)) {
                continue;
            }
            if is_dir {
                self.enter(&path, deep, level.as_ref());
                continue;
            }
            files.push((name.to_owned(), kind == FileType::Symlink));
            if files.len() >= CHUNK_FILES {
                if self.is_over() {
                    return Ok(());
                }
                path.truncate(prefix);
                if self.jobs.someone_is_idle() {
                    let names = std::mem::take(&mut files);
                    self.jobs.push(Job::Files { dir: dir.clone(), path: path.clone(), names });
                } else {
                    self.visit(&dir, &mut path, &files, visitor);
                    files.clear();
                }
            }
        }
        path.truncate(prefix);
        self.visit(&dir, &mut path, &files, visitor);
        Ok(())
    }

    fn enter(&self, path: &[u8], deep: usize, level: Option<&Arc<Level>>) {
        let too_deep = self.walk.depth.is_some_and(|depth| deep >= depth);
        let closed = self.walk.closed.is_some_and(|closed| closed.as_os_str().as_bytes() == path);
        if !too_deep && !closed {
            self.jobs.push(Job::Dir { path: path.to_vec(), deep: deep + 1, above: level.cloned() });
        }
    }

    /// `path` is the directory's with its slash.
    fn visit(&mut self, dir: &OwnedFd, path: &mut Vec<u8>, names: &[(CString, bool)], visitor: &mut impl Visit) {
        let prefix = path.len();
        for (name, is_link) in names {
            if self.is_over() {
                break;
            }
            path.truncate(prefix);
            path.extend_from_slice(name.to_bytes());
            let found = Found { dir, name, path: Path::new(OsStr::from_bytes(path)), is_link: *is_link };
            self.walked.files += 1;
            if !visitor.visit(&found) {
                self.walked.unread += 1;
            }
        }
        path.truncate(prefix);
    }

    fn below_start<'a>(&self, path: &'a [u8]) -> &'a Path {
        let start = self.walk.start.as_os_str().len();
        let below = if start == 0 { path } else { path.get(start + 1..).unwrap_or_default() };
        Path::new(OsStr::from_bytes(below))
    }
}

fn kind(dir: &OwnedFd, name: &CStr, told: FileType) -> FileType {
    if told != FileType::Unknown {
        return told;
    }
    // Not every file system says it with the name.
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_or(told, |stat| FileType::from_raw_mode(stat.st_mode))
}

/// What is to be done: the last come is the first served, so few directories are open and waiting at a time.
#[allow(clippy::disallowed_types, reason = "threads of one walk share its work, and wait for it without a runtime")]
struct Jobs {
    queue: std::sync::Mutex<Queue>,
    more: std::sync::Condvar,
    idle: std::sync::atomic::AtomicUsize,
}

struct Queue {
    waiting: Vec<Job>,
    under_way: usize,
    broken: bool,
}

/// A thread that panics does its job never: the others must not wait for it.
struct EndsOnPanic<'a>(&'a Jobs);

impl Drop for EndsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().broken = true;
            self.0.more.notify_all();
        }
    }
}

impl Jobs {
    #[allow(clippy::disallowed_types, reason = "see the type")]
    fn new(first: Job) -> Self {
        let queue = Queue { waiting: vec![first], under_way: 0, broken: false };
        Self { queue: std::sync::Mutex::new(queue), more: std::sync::Condvar::new(), idle: 0.into() }
    }

    #[allow(clippy::disallowed_types, reason = "see the type")]
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        self.lock().waiting.push(job);
        if self.someone_is_idle() {
            self.more.notify_one();
        }
    }

    fn someone_is_idle(&self) -> bool {
        self.idle.load(std::sync::atomic::Ordering::Relaxed) > 0
    }

    /// The next job; none once nothing is waiting and nothing is under way that could bring more.
    fn next(&self) -> Option<Job> {
        use std::sync::atomic::Ordering::Relaxed;
        let mut queue = self.lock();
        loop {
            if queue.broken {
                return None;
            }
            if let Some(job) = queue.waiting.pop() {
                queue.under_way += 1;
                return Some(job);
            }
            if queue.under_way == 0 {
                return None;
            }
            self.idle.fetch_add(1, Relaxed);
            queue = self.more.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
            self.idle.fetch_sub(1, Relaxed);
        }
    }

    fn done(&self) {
        let mut queue = self.lock();
        queue.under_way -= 1;
        if queue.under_way == 0 && queue.waiting.is_empty() {
            drop(queue);
            self.more.notify_all();
        }
    }
}
