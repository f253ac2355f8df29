//! Opening the database: found and whole, made new, set aside and salvaged, or refused.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lakitu_kernel::clock::Timestamp;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};

use super::blob_files::{BlobFiles, sync_folder};
use super::error::StoreError;
use super::home::{Home, Stamp};
use super::key::Only;
use super::read::Reading;
use super::registry;
use super::row;
use super::salvage::{Salvage, salvage};
use super::tables::{FORMAT, MetaRow};
use super::write::{Raw, Tables};

/// Up to this size a file is checked whole when it is opened, and a commit is one flush; above, each commit keeps what
/// a quick repair needs, and nothing is read at the open.
pub(crate) const PLAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What was found when the database was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// How often it was opened for writing, this time included.
    pub generation: u64,
    /// Whether it was made new.
    pub created: bool,
    /// What was saved of a damaged file, where it was one.
    pub salvaged: Option<Salvage>,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) cache_bytes: usize,
    /// Up to this size the file is checked whole at the open: [`PLAIN_BYTES_MAX`], less only in tests.
    pub(crate) plain_bytes_max: u64,
    #[cfg(test)]
    pub(crate) disk: super::tests::disk::Disk,
}

impl Default for How {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES,
            plain_bytes_max: PLAIN_BYTES_MAX,
            #[cfg(test)]
            disk: super::tests::disk::Disk::default(),
        }
    }
}

/// Pages kept in memory unless something else is configured: 8 MiB.
pub const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Why redb did not open a file.
enum Refused {
    /// It is damaged.
    Damaged(String),
    /// Anything else.
    Other(StoreError),
}

/// Opens the database for writing. The lock is held.
pub(crate) fn open(home: &Home, how: &How, now: Timestamp) -> Result<(Database, Opened), StoreError> {
    home.make()?;
    let (stamp, there) = look(home)?;
    if !there {
        // It stays open under its new name: what was just made is not read again, and the first start waits for few
        // flushes.
        let generation = 1;
        let database = create(home, how, MetaRow { created_at: now, generation, ..MetaRow::default() }, |_| Ok(()))?;
        home.write_stamp(&Stamp { format: FORMAT, generation, created_at: now })?;
        return Ok((database, Opened { generation, created: true, salvaged: None }));
    }
    let (database, generation, salvaged) = match begin(home, how) {
        Ok((database, generation)) => (database, generation, None),
        Err(Refused::Damaged(why)) => {
            tracing::error!(why, "the database is damaged: it is set aside, and what can be read is saved");
            let salvaged = salvage(home, how, why, now)?;
            let (database, generation) = begin(home, how).map_err(Refused::into_error)?;
            (database, generation, Some(salvaged))
        }
        Err(refused @ Refused::Other(_)) => return Err(refused.into_error()),
    };
    if stamp.is_none() {
        home.write_stamp(&Stamp { format: FORMAT, generation, created_at: now })?;
    }
    Ok((database, Opened { generation, created: false, salvaged }))
}

/// Opens a database that is there, without adding to it. The lock is held.
pub(crate) fn open_existing(home: &Home, how: &How) -> Result<Database, StoreError> {
    let (_, there) = look(home)?;
    if !there {
        return Err(StoreError::Invalid(format!("{} holds no database", home.root().display())));
    }
    let database = database(home, how).map_err(Refused::into_error)?;
    check_format(meta(&database, home)?.format)?;
    Ok(database)
}

/// The stamp, and whether there is a database. One that is gone although the stamp knows of it is an error, never a
/// new database.
fn look(home: &Home) -> Result<(Option<Stamp>, bool), StoreError> {
    let stamp = home.stamp()?;
    if let Some(stamp) = &stamp {
        check_format(stamp.format)?;
    }
    let there = match fs::metadata(home.database()) {
        Ok(file) => file.len() > 0,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    match &stamp {
        Some(stamp) if !there => {
            let path = home.database().display().to_string();
            Err(StoreError::Missing { path, generation: stamp.generation })
        }
        Some(_) | None => Ok((stamp, there)),
    }
}

fn meta(database: &Database, home: &Home) -> Result<MetaRow, StoreError> {
    let files = BlobFiles::new(home.root());
    Ok(row::get(&Reading::unbounded(database.begin_read()?, &files), &Only)?.unwrap_or_default())
}

/// Whether the file can be opened for writing. It is left alone.
#[cfg_attr(not(test), allow(unused_variables, reason = "tests have a simulated disk"))]
pub(crate) fn writable(home: &Home, how: &How) -> Result<(), StoreError> {
    #[cfg(test)]
    how.disk.writable()?;
    Ok(OpenOptions::new().read(true).write(true).open(home.database()).map(drop)?)
}

/// Opens a database again within the same generation.
pub(crate) fn reopen(home: &Home, how: &How) -> Result<Database, StoreError> {
    if let Ok(file) = File::open(home.database()) {
        // After a failed flush the page cache holds what the disk does not: only the disk counts.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
    database(home, how).map_err(Refused::into_error)
}

/// Opens the file and counts the generation.
fn begin(home: &Home, how: &How) -> Result<(Database, u64), Refused> {
    let database = database(home, how)?;
    match count_generation(&database, home, how) {
        Ok(generation) => Ok((database, generation)),
        Err(StoreError::Corrupt { table, key, what }) => Err(Refused::Damaged(format!("{table} {key}: {what}"))),
        Err(error) => Err(Refused::Other(error)),
    }
}

fn check_format(found: u32) -> Result<(), StoreError> {
    if found > FORMAT { Err(StoreError::TooNew { found, known: FORMAT }) } else { Ok(()) }
}

fn count_generation(database: &Database, home: &Home, how: &How) -> Result<u64, StoreError> {
    let files = BlobFiles::new(home.root());
    // Looked at before anything is written.
    let meta = meta(database, home)?;
    check_format(meta.format)?;
    let generation = meta.generation + 1;
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(is_large(home, how));
    for name in registry::physical() {
        // A table that this version brings is made now, so that nobody finds it missing.
        txn.open_table(Raw::new(name))?;
    }
    let mut tables = Tables::new(&txn, &files, Timestamp::default())?;
    tables.put(&MetaRow { generation, ..meta })?;
    drop(tables);
    txn.commit()?;
    Ok(generation)
}

/// Whether the file is so large that it is not read whole when it is opened.
pub(crate) fn is_large(home: &Home, how: &How) -> bool {
    home.file_bytes() > how.plain_bytes_max
}

/// Makes a database under another name, lets it be filled, and gives it its name: it is whole or not there.
pub(crate) fn create(
    home: &Home,
    how: &How,
    meta: MetaRow,
    fill: impl FnOnce(&mut Tables<'_>) -> Result<(), StoreError>,
) -> Result<Database, StoreError> {
    let unborn = home.unborn();
    match fs::remove_file(&unborn) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let files = BlobFiles::new(home.root());
    let database = create_file(Builder::new().set_cache_size(how.cache_bytes), &unborn, how)?;
    let txn = database.begin_write()?;
    for name in registry::physical() {
        txn.open_table(Raw::new(name))?;
    }
    let mut tables = Tables::new(&txn, &files, meta.created_at)?;
    tables.put(&meta)?;
    fill(&mut tables)?;
    drop(tables);
    txn.commit()?;
    // The commit has flushed the file; its name is what is left.
    fs::rename(&unborn, home.database())?;
    sync_folder(home.root())?;
    Ok(database)
}

/// Opens the file. redb may panic on one that was damaged from outside.
fn database(home: &Home, how: &How) -> Result<Database, Refused> {
    let mut builder = Builder::new();
    builder.set_cache_size(how.cache_bytes).set_check_integrity_on_open(!is_large(home, how));
    match catch_unwind(AssertUnwindSafe(|| open_file(&builder, home, how))) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(Refused::from(error)),
        Err(_) => Err(Refused::Damaged("redb panicked while it opened the file".to_owned())),
    }
}

#[cfg(not(test))]
fn create_file(builder: &Builder, path: &Path, _: &How) -> Result<Database, DatabaseError> {
    builder.create(path)
}

#[cfg(test)]
fn create_file(builder: &Builder, path: &Path, how: &How) -> Result<Database, DatabaseError> {
    File::create(path).map_err(|error| DatabaseError::Storage(StorageError::Io(error)))?;
    match crate::simulation::current() {
        Some(world) => builder.create_with_backend(world.disk.open(path)?),
        None => builder.create_with_backend(how.disk.backend(path)?),
    }
}

#[cfg(not(test))]
fn open_file(builder: &Builder, home: &Home, _: &How) -> Result<Database, DatabaseError> {
    builder.open(home.database())
}

#[cfg(test)]
fn open_file(builder: &Builder, home: &Home, how: &How) -> Result<Database, DatabaseError> {
    match crate::simulation::current() {
        Some(world) => builder.create_with_backend(world.disk.open(&home.database())?),
        None => builder.create_with_backend(how.disk.backend(&home.database())?),
    }
}

impl From<DatabaseError> for Refused {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(StorageError::Corrupted(why)) => Refused::Damaged(why),
            // Not a database at all, or cut off.
            DatabaseError::Storage(StorageError::Io(io))
                if matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Refused::Damaged(io.to_string())
            }
            // The data directory's lock is ours, so somebody opened the file without it.
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Refused::Other(StoreError::Busy { pid: 0 })
            }
            DatabaseError::Storage(_)
            | DatabaseError::RepairAborted
            | DatabaseError::UpgradeRequired(_)
            | DatabaseError::TransactionInProgress
            // redb's enum is open to more variants.
            | _ => Refused::Other(error.into()),
        }
    }
}

impl Refused {
    fn into_error(self) -> StoreError {
        match self {
            Refused::Damaged(why) => StoreError::corrupt("the database file", "", why),
            Refused::Other(error) => error,
        }
    }
}
