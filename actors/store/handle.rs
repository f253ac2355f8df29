//! What everybody else holds of the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_kernel::clock::Clock;
use lakitu_kernel::limits::{COMMIT_DEADLINE, STEPS_QUEUED_MAX};
use lakitu_kernel::ports::BoxFuture;
use lakitu_kernel::supervise::{Address, CallError};
use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::backup::{Backup, backup, make_room};
use super::blob_files::BlobFiles;
use super::commit::Opening;
use super::compact::Compacted;
use super::error::StoreError;
use super::home::{Home, Lock};
use super::open::{How, Opened};
use super::read::Reading;
use super::row::Row as _;
use super::step::{Committed, Step};
use super::tables::BlobRow;
use super::verify::{self, Finding};
use super::{StoreArgs, StoreMsg};

/// What the actor's incarnations and the handles share.
pub(crate) struct Shared {
    /// The open database. A reader holds it only while it begins its transaction.
    pub(crate) database: watch::Sender<Option<Arc<Database>>>,
    /// Whose turn it is, of those who wait for the database: they come in the order in which they began to wait.
    pub(crate) turns: Mutex<()>,
    /// The number of the last commit.
    pub(crate) commits: watch::Sender<u64>,
    /// What the last start found, or why it failed.
    pub(crate) start: watch::Sender<Option<Result<Opened, StoreError>>>,
    /// The permit to own the database, with the data directory's lock, which the process keeps over restarts.
    pub(crate) owner: Arc<Mutex<Option<Lock>>>,
}

/// How a store is set up.
#[derive(Clone)]
pub struct StoreOptions {
    /// The data directory.
    pub data: PathBuf,
    /// Pages kept in memory, in bytes: 8 MiB is a good number.
    pub cache_bytes: usize,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// The store's handle: cheap to clone, good over restarts.
#[derive(Clone)]
pub struct Store {
    address: Address<StoreMsg>,
    options: Arc<StoreOptions>,
    how: How,
    files: BlobFiles,
    shared: Arc<Shared>,
}

/// How long a step that was not taken waits for a commit before it is sent again.
const BACK_OFF: std::time::Duration = std::time::Duration::from_millis(50);
/// A file that is smaller takes no room worth the while: 16 MiB.
const TIGHTENED_FROM: u64 = 16 * 1024 * 1024;
/// How often a backup is begun.
const BACKUP_TRIES: u32 = 3;
/// How long a compaction may take, with the commits before it: 5 min.
const COMPACT_DEADLINE: std::time::Duration = std::time::Duration::from_mins(5);
/// How long a reader waits for a store that is starting: 10 s.
const OPEN_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// A read that is on its way waits for the disk no longer than this: 30 s. What of it blocks a thread is left to itself.
const READ_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// A question that hands its answer on itself.
type Question = Box<dyn FnOnce(&Reading) + Send>;

impl Store {
    /// A store that is not running yet: the supervisor starts `/store` with [`Store::args`].
    pub fn new(options: StoreOptions) -> Self {
        let how = How { cache_bytes: options.cache_bytes, ..How::default() };
        let shared = Shared {
            database: watch::Sender::new(None),
            turns: Mutex::new(()),
            commits: watch::Sender::new(0),
            start: watch::Sender::new(None),
            owner: Arc::new(Mutex::new(None)),
        };
        Self {
            // What does not fit waits in its sender.
            address: Address::new("/store", STEPS_QUEUED_MAX),
            files: BlobFiles::new(&options.data),
            options: Arc::new(options),
            how,
            shared: Arc::new(shared),
        }
    }

    /// The actor's address.
    pub fn address(&self) -> &Address<StoreMsg> {
        &self.address
    }

    /// The disk below it.
    #[cfg(test)]
    pub(crate) fn disk(&self) -> &super::tests::disk::Disk {
        &self.how.disk
    }

    /// From which size on its file is taken for large.
    #[cfg(test)]
    pub(crate) fn large_from(&mut self, bytes: u64) {
        self.how.plain_bytes_max = bytes;
    }

    /// What the actor is started from.
    pub fn args(&self) -> StoreArgs {
        let opening = Opening {
            home: Home::new(&self.options.data),
            how: self.how.clone(),
            clock: self.options.clock.clone(),
            shared: self.shared.clone(),
        };
        StoreArgs { opening }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.options.data
    }

    /// Takes the data directory for this process before anything is started; it is kept until the store is stopped.
    ///
    /// # Errors
    /// [`StoreError::Busy`] names the owner.
    pub async fn claim(&self) -> Result<(), StoreError> {
        let mut owner = self.shared.owner.lock().await;
        if owner.is_none() {
            *owner = Some(Lock::take(&Home::new(&self.options.data))?);
        }
        Ok(())
    }

    /// What the last start of the actor found, or why it failed; nothing before the first one.
    pub fn last_start(&self) -> Option<Result<Opened, StoreError>> {
        self.shared.start.borrow().clone()
    }

    /// Commits a step. Where it is not known what became of it, the same step is sent again: it is done once.
    pub async fn submit(&self, step: Step) -> Result<Committed, StoreError> {
        let (step, until) = (Arc::new(step), Instant::now() + COMMIT_DEADLINE);
        let mut commits = self.shared.commits.subscribe();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let sent = step.clone();
            let answer = self.address.call(left, |reply| StoreMsg::Submit { step: sent, reply }).await;
            match answer {
                // The queue was full, and the step was not taken: there is room after the next commit.
                Ok(Err(StoreError::Unavailable)) if Instant::now() < until => {
                    let _ = timeout(BACK_OFF, commits.changed()).await;
                }
                Ok(result) => return result,
                Err(CallError::Unknown) if Instant::now() < until => {}
                Err(CallError::Unavailable | CallError::Unknown | CallError::Timeout) => {
                    return Err(StoreError::Unavailable);
                }
            }
        }
    }

    /// Asks something in one read transaction, on a thread that may block. The answer must come within a second.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reading) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(question, Reading::new, Some(READ_DEADLINE)).await
    }

    /// Looks at everything. The one read without a deadline beside a backup: it keeps old pages while it runs.
    pub async fn verify(&self) -> Result<Vec<Finding>, StoreError> {
        self.ask(verify::verify, Reading::unbounded, None).await
    }

    /// Copies everything to a new data directory, which must be missing or empty. One at a time; it keeps old pages while
    /// it runs, and gives up where they become too many.
    pub async fn backup(&self, to: PathBuf) -> Result<Backup, StoreError> {
        make_room(&to)?;
        let mut tries = BACKUP_TRIES;
        loop {
            let (home, to) = (Home::new(&self.options.data), to.clone());
            let question = move |reading: &Reading| {
                let first = home.file_bytes();
                backup(reading, &to, &|| home.file_bytes().saturating_sub(first))
            };
            tries -= 1;
            match self.ask(question, Reading::unbounded, None).await {
                // A blob that is missing may have been released since the reading began: a later one does not name it.
                Err(StoreError::Corrupt { table, .. }) if table == BlobRow::NAME && tries > 0 => {}
                done => return done,
            }
        }
    }

    /// Gives what the file does not need back to the disk, between commits. Readers and writers wait meanwhile.
    pub async fn compact(&self) -> Result<Compacted, StoreError> {
        let answer = self.address.call(COMPACT_DEADLINE, |reply| StoreMsg::Compact { reply }).await;
        answer.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Compacts the file where more than half of it is not needed, once nothing was committed for so long. Nothing: it is
    /// small or large, what it holds fills it, or it is not idle.
    pub(crate) async fn tighten(&self, idle_for: std::time::Duration) -> Result<Option<Compacted>, StoreError> {
        let file = Home::new(&self.options.data).file_bytes();
        if file < TIGHTENED_FROM || file > self.how.plain_bytes_max {
            return Ok(None);
        }
        let holds = |reading: &Reading| Ok(reading.tables()?.iter().map(|table| table.bytes).sum::<u64>());
        if self.ask(holds, Reading::unbounded, None).await? > file / 2 {
            return Ok(None);
        }
        let mut commits = self.watch();
        commits.mark_unchanged();
        if timeout(idle_for, commits.changed()).await.is_ok() {
            return Ok(None);
        }
        self.compact().await.map(Some)
    }

    /// The number of the last commit, as it changes: subscribers then read [`Reading::changes`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reading) -> Result<T, StoreError> + Send + 'static,
        reading: fn(ReadTransaction, &BlobFiles) -> Reading,
        within: Option<std::time::Duration>,
    ) -> Result<T, StoreError> {
        let (told, mut answer) = oneshot::channel();
        let question: Question = Box::new(move |reading| drop(told.send(question(reading))));
        let put = self.put(question, reading);
        // Behind one type: there are many types of questions, and what is done with each is the same.
        let asked: BoxFuture<'_, _> = match within {
            None => Box::pin(put),
            Some(within) => Box::pin(async move { timeout(within, put).await.unwrap_or(Err(StoreError::Unavailable)) }),
        };
        asked.await?;
        answer.try_recv().unwrap_or(Err(StoreError::Unavailable))
    }

    /// Puts a question, which hands its answer on itself.
    async fn put(
        &self,
        question: Question,
        reading: fn(ReadTransaction, &BlobFiles) -> Reading,
    ) -> Result<(), StoreError> {
        let until = Instant::now() + OPEN_DEADLINE;
        let mut question = question;
        loop {
            let mut database = self.shared.database.subscribe();
            let files = self.files.clone();
            // Not the guard: it would keep the writer from replacing the database.
            let opened = async {
                let _turn = self.shared.turns.lock().await;
                database.wait_for(Option::is_some).await.is_ok()
            };
            let open = timeout_at(until, opened).await.is_ok_and(|open| open);
            if !open {
                return Err(StoreError::Unavailable);
            }
            let answer = crate::blocking::spawn_blocking(move || {
                let txn = match database.borrow().as_ref() {
                    Some(database) => database.begin_read(),
                    // Closed again before it was asked: the question waits for the next one.
                    None => return Err(question),
                };
                Ok(txn.map_err(StoreError::from).map(|txn| question(&reading(txn, &files))))
            });
            match answer.await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(unasked)) => question = unasked,
                // A question that panicked has no answer; the panic was reported where it arose.
                Err(error) => return Err(StoreError::Io(format!("the read failed: {error}"))),
            }
        }
    }
}
