//! A real file system that is full, at a hundred levels, and one that is mounted for reading only. Mounting needs root:
//! without it only the disk of `failing` is full.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::*;

/// Enough for a ballast, which asks for eight times its size.
const SIZE: &str = "size=40m";
const LEVELS: u64 = 100;
/// From one level to the next: less than a commit takes.
const LEVEL_BYTES: u64 = 12 * 1024;

/// A small file system in memory, for as long as it is held.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mounted() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(SIZE).unwrap();
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str()) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                println!("not looked at: a tmpfs cannot be mounted here ({error})");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn bench(&self) -> Bench {
        std::fs::create_dir_all(self.data()).unwrap();
        let mut bench = Bench::new();
        bench.store = store_on(&self.data(), bench.clock.clone());
        bench
    }

    /// Leaves so much room.
    fn fill(&self, left: u64) -> PathBuf {
        let filler = self.0.path().join("filler");
        let space = statvfs(self.0.path()).unwrap();
        let bytes = (space.f_bavail * space.f_frsize).saturating_sub(left);
        fallocate(File::create(&filler).unwrap(), FallocateFlags::empty(), 0, bytes).unwrap();
        filler
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

fn last(bench: &Bench) -> Seq {
    bench.read(|reading| reading.last_seq(A).unwrap())
}

/// A step with an event, a row's blob and a file's.
fn heavy(seq: u64) -> Step {
    let blob = |size: usize| Blob::of([vec![1; size], seq.to_le_bytes().to_vec()].concat());
    step(A, seq, vec![prompt(&"x".repeat(3_000)), blob(60_000).into(), blob(150_000).into()])
}

#[test]
fn a_full_disk_at_a_hundred_levels_loses_nothing_and_it_goes_on_when_there_is_room() {
    let Some(disk) = Tmpfs::mounted() else { return };
    let mut refused = 0;
    for level in 0..LEVELS {
        let bench = disk.bench();
        let writer = bench.writer();
        one(&writer, heavy(0)).unwrap();
        writer.keep_ballast();
        let filler = disk.fill(level * LEVEL_BYTES);
        let mut done = 1;
        let error = loop {
            match one(&writer, heavy(done)) {
                Ok(_) => done += 1,
                Err(error) => break error,
            }
            assert!(done < 1_000, "it never becomes full");
        };
        assert_eq!(error, StoreError::Full, "level {level}");
        assert!(done > 10, "level {level}: the ballast's room was not used");
        refused += 1;
        // Reads go on, and show all that was acknowledged and nothing else. So does a second refusal.
        for _ in 0..2 {
            assert_eq!(last(&bench), Seq(done), "level {level}");
            assert_eq!(bench.read(|reading| verify(reading).unwrap()), [], "level {level}");
            assert_eq!(one(&writer, heavy(done)), Err(StoreError::Full), "level {level}");
        }
        // It is stopped on the full disk, and either starts there or says why not.
        drop(writer);
        match bench.try_writer() {
            Ok((_, opened)) => assert_eq!(opened.salvaged, None, "level {level}"),
            Err(error) => assert_eq!(error, StoreError::Full, "level {level}"),
        }
        std::fs::remove_file(filler).unwrap();
        let writer = bench.writer();
        assert_eq!(last(&bench), Seq(done), "level {level}");
        one(&writer, heavy(done)).unwrap();
        writer.sweep(&writer.orphans().unwrap()).unwrap();
        assert_eq!(bench.read(|reading| verify(reading).unwrap()), [], "level {level}");
        drop(writer);
        std::fs::remove_dir_all(disk.data()).unwrap();
    }
    assert_eq!(refused, LEVELS);
}

#[test]
fn the_same_writer_goes_on_when_there_is_room_and_makes_a_ballast_again() {
    let Some(disk) = Tmpfs::mounted() else { return };
    let bench = disk.bench();
    let writer = bench.writer();
    one(&writer, heavy(0)).unwrap();
    writer.keep_ballast();
    let filler = disk.fill(0);
    let mut done = 1;
    while one(&writer, heavy(done)).is_ok() {
        done += 1;
    }
    assert!(!disk.data().join("ballast").exists());
    std::fs::remove_file(filler).unwrap();
    one(&writer, heavy(done)).unwrap();
    writer.restore_ballast();
    assert!(disk.data().join("ballast").exists());
    assert_eq!(last(&bench), Seq(done + 1));
    assert_eq!(bench.read(|reading| verify(reading).unwrap()), []);
}

#[test]
fn a_store_on_a_file_system_for_reading_only_is_refused_and_left_as_it_is() {
    let Some(disk) = Tmpfs::mounted() else { return };
    let bench = disk.bench();
    let writer = bench.writer();
    one(&writer, heavy(0)).unwrap();
    writer.leave();
    drop(writer);
    let file = disk.data().join("lakitu.redb");
    let before = std::fs::read(&file).unwrap();
    mount_remount(disk.0.path(), MountFlags::RDONLY, SIZE).unwrap();
    let error = bench.try_writer().err().unwrap();
    assert!(matches!(&error, StoreError::Io(why) if why.contains("Read-only file system")), "{error:?}");
    assert_eq!(error.code(), lakitu_kernel::ErrorCode::StoreFailed);
    mount_remount(disk.0.path(), MountFlags::empty(), SIZE).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let writer = bench.writer();
    one(&writer, heavy(1)).unwrap();
    assert_eq!(last(&bench), Seq(2));
}
