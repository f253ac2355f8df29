//! What a disk may hold after the power went: all that was flushed, and of the rest any sectors.

use lakitu_kernel::Hash;

use super::super::disk::Entry;
use super::session::Run;
use super::*;

/// A disk writes a sector whole or not at all.
const SECTOR: usize = 512;

/// What is found when the power is back.
pub(super) struct Image {
    /// The file.
    pub(super) bytes: Vec<u8>,
    /// Whether it had its name.
    pub(super) born: bool,
    /// The files of large blobs that are there for certain.
    pub(super) blobs: Vec<Hash>,
    /// What may be read in it: all that was acknowledged, with or without the one commit under way.
    pub(super) allowed: Vec<Hash>,
}

/// The power goes when `cut` entries of the log have happened.
pub(super) fn image(run: &Run, cut: usize, dice: &mut Dice) -> Image {
    let happened = &run.log[..cut];
    let flushed = happened.iter().rposition(|entry| matches!(entry, Entry::Flush)).map_or(0, |at| at + 1);
    let (durable, pending) = happened.split_at(flushed);
    let mut file = File { bytes: run.base.clone(), length: run.base.len() };
    for entry in durable {
        file.apply(entry, |_| true);
    }
    let mut lengths = vec![file.length];
    // From almost nothing to everything: each says something else about the order of what was flushed.
    let kept_of_ten = [1, 5, 9, 10][usize::try_from(dice.below(4)).unwrap()];
    for entry in pending {
        file.apply(entry, |_| dice.below(10) < kept_of_ten);
        lengths.push(file.length);
    }
    let length = lengths[usize::try_from(dice.below(lengths.len() as u64)).unwrap()];
    file.bytes.resize(length, 0);

    let marks = happened.iter().filter(|entry| matches!(entry, Entry::Mark)).count();
    let allowed = match marks.checked_sub(1) {
        None => run.before.clone(),
        Some(last) => run.states.iter().skip(last).take(2).copied().collect(),
    };
    let listed = happened.iter().rev().find_map(|entry| match entry {
        Entry::Files(blobs) => Some(blobs.clone()),
        Entry::Write { .. } | Entry::Length(_) | Entry::Flush | Entry::Mark => None,
    });
    let blobs = listed.unwrap_or_else(|| run.blobs.clone());
    Image { bytes: file.bytes, born: !run.base.is_empty() || marks > 0, blobs, allowed }
}

/// A file whose length may be less than what was written.
struct File {
    bytes: Vec<u8>,
    length: usize,
}

impl File {
    /// Applies an entry, of a write the sectors that are kept.
    fn apply(&mut self, entry: &Entry, mut kept: impl FnMut(usize) -> bool) {
        match entry {
            Entry::Write { at, bytes } => {
                let (mut at, mut rest) = (usize::try_from(*at).unwrap(), bytes.as_slice());
                self.reach(at + rest.len());
                while !rest.is_empty() {
                    let (part, behind) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    if kept(at) {
                        self.bytes[at..at + part.len()].copy_from_slice(part);
                    }
                    (at, rest) = (at + part.len(), behind);
                }
                self.length = self.length.max(at);
            }
            Entry::Length(length) => {
                let length = usize::try_from(*length).unwrap();
                self.reach(length);
                self.length = length;
            }
            Entry::Flush => self.bytes.truncate(self.length),
            Entry::Files(_) | Entry::Mark => {}
        }
    }

    fn reach(&mut self, length: usize) {
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
    }
}
