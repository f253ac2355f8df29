//! The writer: commits groups of steps, and knows what to do when the disk does not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lakitu_kernel::Hash;
use lakitu_kernel::clock::Clock;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::planted::{Planted, planted};
use redb::{Database, ReadableDatabase};
use tokio::sync::OwnedMutexGuard;

use super::blob_files::BlobFiles;
use super::compact::{Compacted, compact};
use super::error::StoreError;
use super::handle::Shared;
use super::home::{Home, Lock};
use super::open::{self, How, Opened};
use super::read::Reading;
use super::step::{Admitted, Committed, Step, admit, carry_out};
use super::tables::names_file;
use super::write::Tables;

/// What opening needs.
#[derive(Clone)]
pub(crate) struct Opening {
    pub(crate) home: Home,
    pub(crate) how: How,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
}

/// The only one who writes. While it lives, it owns the database: a successor cannot open before it is dropped.
pub(crate) struct Writer {
    home: Home,
    how: How,
    files: BlobFiles,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    leaving: AtomicBool,
    // The ballast was given away and is to be made again when there is room.
    ballast_spent: AtomicBool,
    // Dropped last of all: then a successor may begin.
    owner: OwnedMutexGuard<Option<Lock>>,
}

/// Why a group was given up.
struct Failure {
    /// The step in which it failed; none: the commit itself, or what came before the steps.
    guilty: Option<usize>,
    error: StoreError,
    /// Whether the database must be opened anew.
    reopen: bool,
}

type Results = Vec<Result<Committed, StoreError>>;

impl Writer {
    /// Opens the database. Blocks.
    pub(crate) fn open(
        opening: Opening,
        mut owner: OwnedMutexGuard<Option<Lock>>,
    ) -> Result<(Self, Opened), StoreError> {
        let Opening { home, how, clock, shared } = opening;
        if owner.is_none() {
            *owner = Some(Lock::take(&home)?);
        }
        let (database, opened) = open::open(&home, &how, clock.now())?;
        let files = BlobFiles::new(home.root());
        let commit = Reading::unbounded(database.begin_read()?, &files).commit()?;
        shared.database.send_replace(Some(Arc::new(database)));
        shared.commits.send_replace(commit);
        let (leaving, ballast_spent) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok((Self { home, how, files, clock, shared, leaving, ballast_spent, owner }, opened))
    }

    /// The size of the file in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.home.file_bytes()
    }

    /// Commits the steps: together where that works, each alone where it does not. Blocks.
    pub(crate) fn commit(&self, steps: &[Arc<Step>]) -> Results {
        let failure = match self.attempt(steps) {
            Ok(results) => return results,
            Err(failure) => failure,
        };
        if failure.error == StoreError::Full && self.home.release_ballast() {
            tracing::error!("the disk is full: the ballast is released for what is under way");
            self.ballast_spent.store(true, Ordering::Relaxed);
            let _ = self.recover(&failure);
            return match self.attempt(steps) {
                Ok(results) => results,
                Err(failure) => self.each_alone(steps, &failure),
            };
        }
        self.each_alone(steps, &failure)
    }

    fn each_alone(&self, steps: &[Arc<Step>], failure: &Failure) -> Results {
        let _ = self.recover(failure);
        if steps.len() == 1 && (failure.guilty.is_some() || failure.error == StoreError::Full) {
            return vec![Err(failure.error.clone())];
        }
        // One that failed through no fault of its own is done again too: if it was durable after all, it is recognised.
        tracing::warn!(error = %failure.error, guilty = failure.guilty, "a group of steps failed: each is done alone");
        let alone = |step: &Arc<Step>| match self.attempt(std::slice::from_ref(step)) {
            Ok(results) => results.into_iter().next().unwrap_or(Err(StoreError::Unavailable)),
            // What keeps the database from being opened says more than what redb says of one that it gave up.
            Err(failure) => Err(self.recover(&failure).err().unwrap_or(failure.error)),
        };
        steps.iter().map(alone).collect()
    }

    /// One transaction for all.
    fn attempt(&self, steps: &[Arc<Step>]) -> Result<Results, Failure> {
        let database = self.database().map_err(Failure::before)?;
        let mut txn = database.begin_write().map_err(|error| Failure::before(error.into()))?;
        txn.set_quick_repair(open::is_large(&self.home, &self.how));
        if planted(Planted::SkippedFsync) {
            txn.set_durability(redb::Durability::None)
                .map_err(|error| Failure::before(StoreError::Io(error.to_string())))?;
        }
        let mut tables = Tables::new(&txn, &self.files, self.clock.now()).map_err(Failure::before)?;
        let (mut results, mut written) = (Vec::with_capacity(steps.len()), false);
        for (n, step) in steps.iter().enumerate() {
            // A panic inside an op is that step's failure, not the writer's.
            let done = catch_unwind(AssertUnwindSafe(|| perform(&mut tables, step, &mut written)));
            match done {
                Ok(Ok(result)) => results.push(result),
                Ok(Err(error)) => return Err(Failure::of(n, error, false)),
                Err(_) => return Err(Failure::of(n, StoreError::Io("the step panicked".to_owned()), true)),
            }
        }
        if !written {
            // Only answers to steps that were stored before, or refused ones: nothing to make durable.
            return Ok(results);
        }
        let commit = tables.commit();
        let unlink = tables.close().map_err(Failure::before)?;
        crash_point(CrashPoint::BeforeCommit);
        txn.commit().map_err(|error| Failure::before(error.into()))?;
        crash_point(CrashPoint::AfterCommit);
        for hash in unlink {
            self.files.remove(hash);
        }
        self.shared.commits.send_replace(commit);
        Ok(results)
    }

    /// The database; opened again where an earlier failure closed it.
    fn database(&self) -> Result<Arc<Database>, StoreError> {
        if let Some(database) = self.shared.database.borrow().as_ref() {
            return Ok(database.clone());
        }
        let database = Arc::new(open::reopen(&self.home, &self.how)?);
        self.shared.database.send_replace(Some(database.clone()));
        Ok(database)
    }

    /// Opens the database anew where redb will not go on with the old one. As long as the file cannot be written at all,
    /// readers keep the old one.
    fn recover(&self, failure: &Failure) -> Result<(), StoreError> {
        if !failure.reopen {
            return Ok(());
        }
        let opened = open::writable(&self.home, &self.how).and_then(|()| {
            retire(&self.shared);
            self.database().map(drop)
        });
        opened.inspect_err(|error| {
            tracing::error!(%error, "the database could not be opened again: the next step tries it once more");
        })
    }

    /// Gives what the file does not need back to the disk. Readers wait meanwhile, so only where that is short. Blocks.
    pub(crate) fn compact(&self) -> Result<Compacted, StoreError> {
        if open::is_large(&self.home, &self.how) {
            let why = "the file is so large that everybody would wait: stop the runtime first, then compact it";
            return Err(StoreError::Invalid(why.to_owned()));
        }
        let before_bytes = self.file_bytes();
        retire(&self.shared);
        let compacted = open::reopen(&self.home, &self.how).and_then(|mut database| {
            compact(&mut database)?;
            self.shared.database.send_replace(Some(Arc::new(database)));
            Ok(())
        });
        // Where it failed, the database is opened again for the readers; that it cannot be, the next step tells.
        let _ = self.database();
        compacted.map(|()| Compacted { before_bytes, after_bytes: self.file_bytes() })
    }

    /// Blobs' files that no row names. Reads only, beside commits: a database that is being replaced is not waited for.
    pub(crate) fn orphans(&self) -> Result<Vec<Hash>, StoreError> {
        let mut orphans = self.files.list()?;
        if orphans.is_empty() {
            return Ok(orphans);
        }
        let txn = match self.shared.database.borrow().as_ref() {
            Some(database) => database.begin_read()?,
            None => return Err(StoreError::Unavailable),
        };
        let reading = Reading::unbounded(txn, &self.files);
        orphans.retain(|hash| matches!(names_file(&reading, *hash), Ok(false)));
        Ok(orphans)
    }

    /// Removes those that are still named by no row. Only between commits: a commit under way may be about to name one.
    pub(crate) fn sweep(&self, orphans: &[Hash]) -> Result<(), StoreError> {
        let reading = Reading::unbounded(self.database()?.begin_read()?, &self.files);
        for hash in orphans {
            if !names_file(&reading, *hash)? {
                tracing::info!(%hash, "a blob's file that nothing names is removed");
                self.files.remove(*hash);
            }
        }
        Ok(())
    }

    /// With the writer goes the ownership of the data directory: it is an orderly stop, not a restart.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Sees to it that there is a ballast, where there is room for it.
    pub(crate) fn keep_ballast(&self) {
        match self.home.keep_ballast() {
            Ok(kept) => self.ballast_spent.store(!kept, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "no ballast could be made"),
        }
    }

    /// Makes a spent ballast again.
    pub(crate) fn restore_ballast(&self) {
        if self.ballast_spent.load(Ordering::Relaxed) {
            self.keep_ballast();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        retire(&self.shared);
        if self.leaving.load(Ordering::Relaxed) {
            *self.owner = None;
        }
    }
}

/// Takes the database away from the readers and closes it.
fn retire(shared: &Shared) {
    let Some(mut database) = shared.database.send_replace(None) else { return };
    loop {
        match Arc::try_unwrap(database) {
            Ok(database) => {
                // Readers under way are told that it is closed, and ask again.
                if let Err(error) = database.close() {
                    tracing::warn!(%error, "the database was not closed cleanly");
                }
                return;
            }
            // A reader holds it only while it begins its transaction.
            Err(shared) => {
                database = shared;
                std::thread::yield_now();
            }
        }
    }
}

/// One step inside the transaction. The outer error ends the group, the inner one is the step's answer.
fn perform(
    tables: &mut Tables<'_>,
    step: &Step,
    written: &mut bool,
) -> Result<Result<Committed, StoreError>, StoreError> {
    match admit(tables, step) {
        Ok(Admitted::Stored(committed)) => Ok(Ok(committed)),
        Ok(Admitted::New { digest, chain }) => {
            *written = true;
            carry_out(tables, step, digest, chain).map(Ok)
        }
        Err(error) => Ok(Err(error)),
    }
}

impl Failure {
    fn before(error: StoreError) -> Self {
        Self { guilty: None, error, reopen: true }
    }

    fn of(step: usize, error: StoreError, panicked: bool) -> Self {
        let reopen = match &error {
            // After an I/O error redb answers nothing else until it is opened anew. After a panic it leaks pages.
            StoreError::Io(_) | StoreError::Full | StoreError::Unavailable => true,
            StoreError::OwnershipLost { .. }
            | StoreError::Gap { .. }
            | StoreError::Corrupt { .. }
            | StoreError::TooNew { .. }
            | StoreError::Busy { .. }
            | StoreError::Missing { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Invalid(_)
            | StoreError::Truncated { .. } => panicked,
        };
        Self { guilty: Some(step), error, reopen }
    }
}
