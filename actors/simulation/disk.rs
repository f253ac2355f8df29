//! The disk below the database: what was not flushed may be lost, in any part; flushes may fail; and the power may go
//! with any of them.

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use lakitu_kernel::supervise::Guarded;
use redb::{BackendError, StorageBackend};

use super::dice::Dice;
use super::world::{Flush, World};

/// What reaches the platter is whole sectors.
const SECTOR: usize = 512;

/// The one database file of a simulated world. Shared by everybody who opens it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Guarded<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    content: Vec<u8>,
    /// What a flush has promised.
    durable: Vec<u8>,
    /// What came since, in order.
    pending: Vec<Change>,
    path: PathBuf,
    world: Weak<World>,
    /// Whether the file was opened since the machine came up.
    mounted: bool,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>, mut kept: impl FnMut() -> bool) {
        match self {
            Change::Length(length) => {
                if kept() {
                    to.resize(*length, 0);
                }
            }
            Change::Write(at, bytes) => {
                let mut at = *at;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    // Up to the next sector's beginning.
                    let (piece, more) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
                    if kept() {
                        if to.len() < at + piece.len() {
                            to.resize(at + piece.len(), 0);
                        }
                        to[at..at + piece.len()].copy_from_slice(piece);
                    }
                    at += piece.len();
                    rest = more;
                }
            }
        }
    }
}

impl SimDisk {
    pub(crate) fn belongs_to(&self, world: Weak<World>) {
        self.0.with(|state| state.world = world);
    }

    /// Opens the file. One that was just made is empty; any other is as it was left.
    pub(crate) fn open(&self, path: &Path) -> io::Result<Backend> {
        let length = fs::metadata(path)?.len();
        self.0.with(|state| {
            if length == 0 {
                *state = State { world: state.world.clone(), mounted: true, ..State::default() };
            } else if !state.mounted {
                state.content = fs::read(path)?;
                state.durable = state.content.clone();
                state.pending.clear();
                state.mounted = true;
            }
            path.clone_into(&mut state.path);
            Ok(Backend(self.clone()))
        })
    }

    /// The machine is down. Of what was not flushed any part is there when it comes up again; all of it where only the
    /// process was killed.
    pub(crate) fn crash(&self, home: &Path, power: bool, dice: &mut Dice) {
        self.0.with(|state| {
            state.mounted = false;
            // Made, and not renamed into place: it is removed at the next start.
            let unborn = home.join("lakitu.redb.new");
            let path = if unborn.exists() { unborn } else { home.join("lakitu.redb") };
            if !path.exists() {
                return;
            }
            let image = if power { state.lose(dice) } else { std::mem::take(&mut state.content) };
            fs::write(path, image).unwrap();
            state.pending.clear();
        });
    }
}

impl State {
    fn lose(&mut self, dice: &mut Dice) -> Vec<u8> {
        let chance = dice.pick(&[0, 100, 500, 900, 1000]);
        let mut image = std::mem::take(&mut self.durable);
        // redb writes its pages in no order: sorted, what is lost follows from the seed. A file's growth stays in its place.
        for stretch in self.pending.split_inclusive_mut(|change| matches!(change, Change::Length(_))) {
            stretch.sort_by_key(|change| match change {
                Change::Write(at, _) => *at,
                Change::Length(_) => usize::MAX,
            });
        }
        for change in &self.pending {
            change.apply(&mut image, || dice.permille(chance));
        }
        image
    }
}

/// The file, open.
#[derive(Debug)]
pub(crate) struct Backend(SimDisk);

impl Backend {
    fn world(&self) -> io::Result<Arc<World>> {
        let world = self.0.0.with(|state| state.world.upgrade()).filter(|world| world.is_alive());
        world.ok_or_else(|| io::Error::other("the power is off"))
    }

    /// What may go wrong does here, with a flush. Power that goes between two writes is power that goes before their flush.
    fn may_flush(&self) -> io::Result<()> {
        match self.world()?.flush() {
            Flush::Done => Ok(()),
            Flush::PowerGone => Err(io::Error::other("the power went")),
            Flush::Fails(mut dice) => {
                // What could not be written is forgotten: the pages are clean, and the next flush says that all is well.
                self.0.0.with(|state| {
                    let lost = state.lose(&mut dice);
                    state.content.clone_from(&lost);
                    state.durable = lost;
                    state.pending.clear();
                });
                Err(io::Error::other("the disk fails"))
            }
        }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.0.with(|state| state.content.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.0.0.with(|state| match state.content.get(at..at + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.world()?;
        let length = usize::try_from(len).map_err(io::Error::other)?;
        self.0.0.with(|state| {
            state.content.resize(length, 0);
            state.pending.push(Change::Length(length));
            // Who looks at the file's size sees it.
            OpenOptions::new().write(true).open(&state.path)?.set_len(len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.may_flush()?;
        self.0.0.with(|state| {
            for change in std::mem::take(&mut state.pending) {
                change.apply(&mut state.durable, || true);
            }
        });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.world()?;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.0.0.with(|state| {
            let change = Change::Write(at, data.to_vec());
            change.apply(&mut state.content, || true);
            state.pending.push(change);
        });
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
