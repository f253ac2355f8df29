//! A store at work on a disk that keeps a log, and what everybody could read of it after each commit.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use lakitu_kernel::Hash;
use lakitu_kernel::limits::BLOB_INLINE_BYTES_MAX;

use super::super::super::registry::physical;
use super::super::super::row::{Row as _, Source as _, Walk, decode, encode};
use super::super::disk::Entry;
use super::*;

/// Groups of steps that a session commits.
const GROUPS: u64 = 10;

/// What a disk went through, and what was acknowledged meanwhile.
pub(super) struct Run {
    /// The file as it was at first.
    pub(super) base: Vec<u8>,
    /// The files of large blobs that there were at first.
    pub(super) blobs: Vec<Hash>,
    /// What happened since. A mark is an acknowledgement.
    pub(super) log: Vec<Entry>,
    /// What may be found before the first acknowledgement.
    pub(super) before: Vec<Hash>,
    /// What is there with each of the acknowledgements.
    pub(super) states: Vec<Hash>,
    /// The contents of large blobs.
    pub(super) contents: BTreeMap<Hash, Bytes>,
}

/// Everything that can be read, index entries too, but how often the file was opened.
pub(crate) fn fingerprint(reading: &Reading) -> Result<Hash, StoreError> {
    let mut hasher = blake3::Hasher::new();
    for table in physical() {
        hasher.update(table.as_bytes());
        reading.walk(&Walk::all(table), &mut |key, value| {
            let value = if table == MetaRow::NAME {
                encode(&MetaRow { generation: 0, ..decode(key, value)? })?
            } else {
                value.to_vec()
            };
            for part in [key, &value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// Random steps of a few threads, each of which succeeds.
#[derive(Default)]
struct Steps {
    last: BTreeMap<ThreadId, u64>,
    /// References to blobs that can be given back.
    held: Vec<Hash>,
    contents: BTreeMap<Hash, Bytes>,
    stamp: u64,
}

impl Steps {
    fn group(&mut self, dice: &mut Dice) -> Vec<Arc<Step>> {
        (0..=dice.below(3)).map(|_| Arc::new(self.next(dice))).collect()
    }

    fn next(&mut self, dice: &mut Dice) -> Step {
        self.stamp += 1;
        let thread = ThreadId(u128::from(dice.below(4)) + 1);
        let status = ThreadStatus::ALL[usize::try_from(dice.below(2)).unwrap()];
        // A row with a time of its own: no two steps are the same.
        let mut ops = vec![thread_row(thread, status, self.stamp).into()];
        for _ in 0..dice.below(4) {
            ops.push(self.op(dice));
        }
        let expected = self.last.entry(thread).or_default();
        let step = step(thread, *expected, ops);
        *expected += step.events() as u64;
        step
    }

    fn op(&mut self, dice: &mut Dice) -> Op {
        let size = |dice: &mut Dice, max: u64| usize::try_from(dice.below(max)).unwrap();
        match dice.below(8) {
            0..=3 => prompt(&"p".repeat(size(dice, 4_000))),
            4 => Fault::Refuse.into(),
            5 => self.blob(vec![0; size(dice, 9_000)]),
            6 => self.blob(vec![0; BLOB_INLINE_BYTES_MAX + 1 + size(dice, 5_000)]),
            _ => match self.held.pop() {
                Some(hash) => Release { hash }.into(),
                None => Fault::Allow.into(),
            },
        }
    }

    fn blob(&mut self, mut bytes: Vec<u8>) -> Op {
        bytes.extend(self.stamp.to_le_bytes());
        let blob = Blob::of(bytes);
        self.held.insert(self.held.len() / 2, blob.hash);
        self.contents.insert(blob.hash, blob.bytes.clone());
        blob.into()
    }
}

/// A session that a seed determines, from the making of the database to its close, with a start in between.
pub(super) fn session(seed: u64, mode: Mode, lying: bool) -> Run {
    let (bench, mut dice, mut steps) = (mode.bench(), Dice::new(seed), Steps::default());
    let disk = bench.store.disk().clone();
    disk.record();
    let mut writer = bench.writer();
    let small_at_first = writer.file_bytes() <= mode.large_from();
    let mut states = vec![bench.fingerprint()];
    disk.mark();
    if lying {
        disk.lie();
    }
    let pause = dice.below(GROUPS);
    for group in 0..GROUPS {
        for result in writer.commit(&steps.group(&mut dice)) {
            result.unwrap();
        }
        states.push(bench.fingerprint());
        disk.mark();
        if group == pause {
            drop(writer);
            writer = bench.writer();
        }
    }
    let large_at_last = writer.file_bytes() > mode.large_from();
    let crossed = small_at_first && large_at_last;
    assert_eq!(crossed, matches!(mode, Mode::Growing), "{} bytes", writer.file_bytes());
    drop(writer);
    let before = vec![states[0]];
    Run { base: Vec::new(), blobs: Vec::new(), log: disk.take_log(), before, states, contents: steps.contents }
}
