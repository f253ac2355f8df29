//! The power goes: whatever subset of the unflushed sectors the disk then holds, each acknowledged step is there, and
//! none that was not is there by half. Also where the power goes once more while the store comes up again.
//!
//! `LAKITU_LONG=1` looks at 20,000 images; `LAKITU_SEED=<n>` at those of one session.

mod image;
mod session;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::home::{Home, Stamp};
use super::disk::Disk;
use super::*;
use image::{Image, image};
pub(crate) use session::fingerprint;
use session::{Run, session};

/// How a commit is made durable.
#[derive(Debug, Clone, Copy)]
enum Mode {
    /// With one flush; the file is checked at the open.
    Plain,
    /// In two phases, with what a quick repair needs; nothing is checked at the open.
    Quick,
    /// First the one, then the other: the file becomes large on the way.
    Growing,
}

impl Mode {
    /// From which size on a file is large.
    fn large_from(self) -> u64 {
        match self {
            Mode::Plain => u64::MAX,
            Mode::Quick => 0,
            Mode::Growing => 120_000,
        }
    }

    fn bench(self) -> Bench {
        let mut bench = Bench::in_memory();
        bench.store.large_from(self.large_from());
        bench
    }
}

impl Bench {
    fn fingerprint(&self) -> lakitu_kernel::Hash {
        self.read(|reading| fingerprint(reading).unwrap())
    }
}

/// Lays an image out and opens it as any start does. What is wrong; else what the disk went through meanwhile.
fn recover(image: &Image, run: &Run, mode: Mode) -> Result<Run, String> {
    let bench = mode.bench();
    let home = Home::new(bench.data());
    let place = if image.born { home.database() } else { home.unborn() };
    std::fs::write(place, &image.bytes).unwrap();
    if image.born {
        home.write_stamp(&Stamp { format: FORMAT, generation: 1, created_at: Timestamp(1) }).unwrap();
    }
    let files = super::super::blob_files::BlobFiles::new(bench.data());
    for hash in &image.blobs {
        files.write(*hash, &run.contents[hash]).unwrap();
    }
    let disk: Disk = bench.store.disk().clone();
    disk.record();
    let (writer, opened) = bench.try_writer().map_err(|error| format!("it does not open: {error}"))?;
    if let Some(salvaged) = opened.salvaged {
        return Err(format!("it is taken for damaged: {}", salvaged.why));
    }
    let found = bench.read(fingerprint).map_err(|error| format!("it cannot be read: {error}"))?;
    if !image.allowed.contains(&found) {
        return Err("a step is lost, changed, or there by half".to_owned());
    }
    writer
        .orphans()
        .and_then(|orphans| writer.sweep(&orphans))
        .map_err(|error| format!("the sweep failed: {error}"))?;
    let findings = bench.read(verify).map_err(|error| format!("verify fails: {error}"))?;
    if !findings.is_empty() {
        return Err(format!("verify finds {findings:?}"));
    }
    disk.mark();
    let next = bench.read(|reading| reading.last_seq(A)).map_err(|error| error.to_string())?;
    one(&writer, step(A, next.0, vec![prompt("on")])).map_err(|error| format!("it does not go on: {error}"))?;
    let states = vec![found, bench.read(fingerprint).map_err(|error| error.to_string())?];
    disk.mark();
    drop(writer);
    let (base, blobs, before) = (image.bytes.clone(), image.blobs.clone(), image.allowed.clone());
    Ok(Run { base, blobs, log: disk.take_log(), before, states, contents: run.contents.clone() })
}

/// What came of many images.
#[derive(Debug, Default)]
struct Tally {
    images: usize,
    twice: usize,
    failed: Vec<String>,
}

impl Tally {
    fn try_image(&mut self, what: &str, image: &Image, run: &Run, mode: Mode) -> Option<Run> {
        self.images += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| recover(image, run, mode)));
        match outcome.unwrap_or_else(|_| Err("a panic".to_owned())) {
            Ok(run) => Some(run),
            Err(why) => {
                self.failed.push(format!("{what}: {why}"));
                None
            }
        }
    }

    /// Images of one session; behind every second of them, one of its recovery.
    fn session(&mut self, seed: u64, mode: Mode, lying: bool, images: usize) {
        let (run, mut dice) = (session(seed, mode, lying), Dice::new(seed ^ 0x00C0_FFEE));
        let first = run.log.iter().position(|entry| matches!(entry, disk::Entry::Mark)).unwrap_or(0);
        for n in 0..images {
            // A disk that lies was honest while the database was made.
            let from = if lying { first + 1 } else { 0 };
            let cut = from + usize::try_from(dice.below((run.log.len() - from) as u64 + 1)).unwrap();
            let crashed = image(&run, cut, &mut dice);
            let what = format!("LAKITU_SEED={seed} {mode:?}, image {n}, behind entry {cut} of {}", run.log.len());
            let Some(again) = self.try_image(&what, &crashed, &run, mode) else { continue };
            if crashed.born && n % 2 == 1 {
                let cut = usize::try_from(dice.below(again.log.len() as u64 + 1)).unwrap();
                let twice = image(&again, cut, &mut dice);
                self.twice += 1;
                self.try_image(&format!("{what}, and again behind entry {cut}"), &twice, &again, mode);
            }
        }
    }
}

/// Images of many sessions: some hundreds, in the long mode a third of 20,000.
fn images(mode: Mode, lying: bool) -> Tally {
    let long = std::env::var_os("LAKITU_LONG").is_some_and(|long| long == "1");
    // The control need not be long: each of its images is a page of redb's panics.
    let (sessions, each) = if lying {
        (2, 30)
    } else if long {
        (75, 62)
    } else {
        (6, 40)
    };
    let seeds = match std::env::var("LAKITU_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..=seed,
        None => 1..=sessions,
    };
    let mut tally = Tally::default();
    for seed in seeds {
        tally.session(seed, mode, lying, each);
    }
    println!("{mode:?}: {} images, {} of them of a recovery, {} failed", tally.images, tally.twice, tally.failed.len());
    tally
}

fn nothing_is_lost(mode: Mode) {
    let tally = images(mode, false);
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.twice * 4 > tally.images, "{} of {}", tally.twice, tally.images);
}

#[test]
fn no_power_loss_loses_a_step_of_a_small_file() {
    nothing_is_lost(Mode::Plain);
}

#[test]
fn no_power_loss_loses_a_step_of_a_large_file() {
    nothing_is_lost(Mode::Quick);
}

#[test]
fn no_power_loss_loses_a_step_of_a_file_that_becomes_large() {
    nothing_is_lost(Mode::Growing);
}

/// The control: what is looked at above would be found.
#[test]
fn a_disk_that_says_it_flushed_and_did_not_fails_most_images() {
    for mode in [Mode::Plain, Mode::Quick] {
        let tally = images(mode, true);
        assert!(tally.failed.len() * 2 >= tally.images, "{} of {}", tally.failed.len(), tally.images);
    }
}
