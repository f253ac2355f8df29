//! Files that were changed from outside: bits, zeros, cuts. No panic gets out, no wrong value is ever given out, and of
//! what is damaged every record is saved that the file still leads to. `LAKITU_LONG=1` looks at 2,000 of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::registry::physical;
use super::super::row::{Row as _, Source as _, Walk};
use super::*;

/// Every entry of every table by its key, but the row that an opening changes.
type Entries = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

fn entries(reading: &Reading) -> Result<Entries, StoreError> {
    let mut all = Entries::new();
    for table in physical().filter(|table| *table != MetaRow::NAME) {
        reading.walk(&Walk::all(table), &mut |key, value| {
            all.insert((table, key.to_vec()), value.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(all)
}

/// A store with some pages in each table; the states of its last two commits, and the file closed and not.
struct Original {
    states: [Entries; 2],
    clean: Vec<u8>,
    unclean: Vec<u8>,
}

fn original() -> Original {
    let bench = Bench::in_memory();
    let writer = bench.writer();
    let file = bench.data().join("lakitu.redb");
    for n in 1..=60_u64 {
        let id = ThreadId(u128::from(n));
        let ops = vec![
            prompt(&"x".repeat(usize::try_from(n * 40).unwrap())),
            thread_row(id, ThreadStatus::Running, n).into(),
            Blob::of(n.to_string().repeat(200)).into(),
        ];
        one(&writer, step(id, 0, ops)).unwrap();
    }
    let before = bench.read(entries).unwrap();
    one(&writer, step(ThreadId(1), 1, vec![prompt("the last")])).unwrap();
    let last = bench.read(entries).unwrap();
    let unclean = std::fs::read(&file).unwrap();
    drop(writer);
    Original { states: [before, last], clean: std::fs::read(&file).unwrap(), unclean }
}

fn mutated(whole: &[u8], dice: &mut Dice) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
    let what = match dice.below(4) {
        0 | 1 => {
            let bit = dice.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        2 => {
            let end = bytes.len().min(at + 1 + usize::try_from(dice.below(4096)).unwrap());
            bytes[at..end].fill(0);
            format!("zeros from {at} to {end}")
        }
        _ => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
    };
    (bytes, what)
}

#[derive(Debug, Default)]
struct Tally {
    whole: usize,
    one_commit_back: usize,
    salvaged: usize,
    refused: usize,
    saved: usize,
    lost: usize,
}

impl Original {
    /// Opens a mutated file as any start does.
    fn look(&self, bytes: &[u8], tally: &mut Tally) -> Result<(), String> {
        let bench = Bench::in_memory();
        drop(bench.writer());
        std::fs::write(bench.data().join("lakitu.redb"), bytes).unwrap();
        let (_writer, opened) = match bench.try_writer() {
            Ok(opened) => opened,
            // The header says that it is something else: refused, and left as it is. Nothing left is a missing one.
            Err(StoreError::Io(_) | StoreError::TooNew { .. } | StoreError::Missing { .. }) => {
                tally.refused += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("{error:?}")),
        };
        let found = bench.read(entries).map_err(|error| format!("it cannot be read: {error}"))?;
        let [before, last] = &self.states;
        let Some(salvage) = opened.salvaged else {
            return match &found {
                found if found == last => {
                    tally.whole += 1;
                    Ok(())
                }
                // What a commit that was torn by a crash leaves looks just so.
                found if found == before => {
                    tally.one_commit_back += 1;
                    Ok(())
                }
                _ => Err("rows are missing or wrong, and nobody said so".to_owned()),
            };
        };
        tally.salvaged += 1;
        let wrong =
            found.iter().find(|(key, value)| [before, last].iter().all(|state| state.get(*key) != Some(*value)));
        if let Some(((table, key), _)) = wrong {
            return Err(format!("{table} {key:?} is no value that there ever was"));
        }
        let rows = |state: &Entries| state.keys().filter(|(table, _)| !table.contains('.')).count();
        let missing = rows(before).saturating_sub(rows(&found));
        tally.saved += rows(&found);
        tally.lost += missing;
        // A page whose order is destroyed gives its rows names that they never had: they are told as what they look like.
        if salvage.incomplete.is_empty() && salvage.lost.is_empty() && missing > 0 {
            return Err(format!("{missing} rows are gone, and nobody said so"));
        }
        let in_index = |finding: &Finding| finding.table.contains('.');
        let findings = bench.read(verify).map_err(|error| error.to_string())?;
        match findings.iter().find(|finding| in_index(finding)) {
            Some(finding) => Err(format!("an index does not fit: {finding:?}")),
            None => Ok(()),
        }
    }
}

#[test]
fn no_mutated_file_gives_a_wrong_value_and_what_can_be_read_is_saved() {
    let long = std::env::var_os("LAKITU_LONG").is_some_and(|long| long == "1");
    let (original, mut dice) = (original(), Dice::new(1));
    let mut failed = Vec::new();
    for (name, file) in [("clean", &original.clean), ("unclean", &original.unclean)] {
        let mut tally = Tally::default();
        for n in 0..if long { 1_000 } else { 100 } {
            let (bytes, what) = mutated(file, &mut dice);
            let outcome = catch_unwind(AssertUnwindSafe(|| original.look(&bytes, &mut tally)));
            match outcome.unwrap_or_else(|_| Err("a panic".to_owned())) {
                Ok(()) => {}
                Err(why) => failed.push(format!("{name} file {n}, {what}: {why}")),
            }
        }
        println!("{name}: {tally:?}");
        assert!(tally.salvaged > 10, "{name}: {tally:?}");
    }
    assert_eq!(failed, Vec::<String>::new());
}
