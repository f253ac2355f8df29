//! The newest of many files, however many there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

/// When a file was last changed, in nanoseconds.
pub(super) type Changed = i128;

/// Keeps the newest of what is put in; of two of one moment the one whose path comes first.
#[derive(Debug)]
pub(super) struct Newest {
    max: usize,
    kept: BinaryHeap<(Reverse<Changed>, PathBuf)>,
    /// How many were put in.
    pub(super) total: usize,
}

impl Newest {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: BinaryHeap::new(), total: 0 }
    }

    pub(super) fn put(&mut self, changed: Changed, path: &Path) {
        self.total += 1;
        if self.kept.len() >= self.max {
            let later = self
                .kept
                .peek()
                .is_some_and(|(worst, worst_path)| (Reverse(changed), path) < (*worst, worst_path.as_path()));
            if !later {
                return;
            }
            self.kept.pop();
        }
        self.kept.push((Reverse(changed), path.to_owned()));
    }

    pub(super) fn add(&mut self, other: Self) {
        let total = self.total + other.total;
        for (Reverse(changed), path) in other.kept {
            self.put(changed, &path);
        }
        self.total = total;
    }

    /// The newest first.
    pub(super) fn sorted(self) -> Vec<PathBuf> {
        self.kept.into_sorted_vec().into_iter().map(|(_, path)| path).collect()
    }
}

/// The moment of a file's last change.
pub(super) fn changed(stat: &rustix::fs::Stat) -> Changed {
    Changed::from(stat.st_mtime) * 1_000_000_000 + Changed::from(stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept_and_all_are_counted() {
        let (mut one, mut two) = (Newest::new(3), Newest::new(3));
        for (at, name) in [(1, "a"), (9, "b"), (5, "c"), (5, "bb")] {
            one.put(at, Path::new(name));
        }
        for (at, name) in [(7, "d"), (0, "e")] {
            two.put(at, Path::new(name));
        }
        one.add(two);
        assert_eq!(one.total, 6);
        assert_eq!(one.sorted(), ["b", "d", "bb"].map(PathBuf::from));
    }
}
