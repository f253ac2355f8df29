//! Versions of a workspace: whatever a thread does to it, with its tools and with commands, goes back exactly.

mod outlived;
mod random;
mod sequences;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lakitu_actors::store::{EditRow, EditsBy, Key as _};
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::{EventBody, Seq};

use crate::harness::Harness;

/// What stands in a workspace, by path: kind, permission bits (of a link none), bytes or where it leads.
type Tree = BTreeMap<PathBuf, (FileKind, u32, Vec<u8>)>;

fn tree(root: &Path) -> Tree {
    let (mut found, mut folders) = (Tree::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let what = if metadata.is_symlink() {
                (FileKind::Link, 0, std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else if metadata.is_dir() {
                folders.push(path.clone());
                (FileKind::Directory, mode, Vec::new())
            } else if metadata.is_file() {
                (FileKind::File, mode, std::fs::read(&path).unwrap())
            } else {
                continue;
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
        }
    }
    found
}

/// What tells that nobody touched a file.
fn touched(path: &Path) -> (u64, i64, i64) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// Numbers that a seed determines.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn long() -> bool {
    std::env::var_os("LAKITU_LONG").is_some_and(|long| long == "1")
}

impl Harness {
    /// The thread's events that recorded changes, the oldest first.
    async fn recorded(&self) -> Vec<Seq> {
        let events = self.events(self.thread()).await;
        let recorded = events.iter().filter_map(|event| match &event.body {
            EventBody::EditRecorded { left_out, .. } => {
                assert_eq!(*left_out, None, "everything is recorded");
                Some(event.seq)
            }
            _ => None,
        });
        recorded.collect()
    }

    /// Every edit of the thread, the oldest first.
    async fn rows_of_edits(&self) -> Vec<EditRow> {
        let by = EditsBy { thread: Some(self.thread()), path: None };
        let mut rows = self.ask(move |reading| reading.edits_by(&by, 10_000, None)).await.items;
        rows.sort_by_key(EditRow::bytes_of_key);
        rows
    }
}

trait Keyed {
    fn bytes_of_key(&self) -> Vec<u8>;
}

impl Keyed for EditRow {
    fn bytes_of_key(&self) -> Vec<u8> {
        (self.thread, (self.seq, self.n)).bytes()
    }
}
