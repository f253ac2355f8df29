//! Spools: `<data>/outputs/<thread>/<seq>.out`, what a command put out, both streams in the order they were written.
//!
//! Reads here are of at most 64 KiB from a local file that was written a moment ago, so they are made where they stand:
//! handing them to another thread costs more than they do.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::OUTPUT_BYTES_MAX;

use crate::tools::text;

/// A piece of live output.
const PIECE_BYTES_MAX: u64 = 8 * 1024;
/// The longest UTF-8 sequence.
const CHAR_BYTES_MAX: usize = 4;

/// The first `length` bytes of a spool as the model sees them: head and tail, between them how many are left out.
pub(super) fn shown(path: &Path, length: u64) -> io::Result<String> {
    let Some(mut file) = open(path)? else { return Ok(String::new()) };
    let length = length.min(file.metadata()?.len());
    text::truncate_file(&mut file, length, OUTPUT_BYTES_MAX, &path.display().to_string())
}

/// A piece of a spool from a byte on, as long as the model is given one, and where the next one begins.
pub(super) fn page(path: &Path, from: u64) -> io::Result<(String, u64)> {
    let Some(file) = open(path)? else { return Ok((String::new(), from)) };
    let length = file.metadata()?.len();
    let from = from.min(length);
    let mut bytes = read(&file, from, length.min(from + OUTPUT_BYTES_MAX as u64))?;
    if String::from_utf8_lossy(&bytes).len() > OUTPUT_BYTES_MAX {
        // A broken byte is shown as a character of three.
        bytes.truncate(OUTPUT_BYTES_MAX / 3);
    }
    bytes.truncate(bytes.len() - unfinished(&bytes));
    Ok((String::from_utf8_lossy(&bytes).into_owned(), from + bytes.len() as u64))
}

/// A command that never put anything out has no spool.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or_default()];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// What was last written to a file, where that can be said.
pub(super) fn modified(path: &Path) -> Option<Timestamp> {
    Some(Timestamp::of(path.metadata().ok()?.modified().ok()?))
}

/// How long a spool is by now; 0 where there is none.
pub(super) fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Follows a spool while it grows, for a person who watches.
#[derive(Debug, Default)]
pub(super) struct Follower {
    told: u64,
}

impl Follower {
    /// The next piece of a spool that is `length` long by now, and where it begins. What a piece does not hold is left
    /// out, not queued; half a character waits for its rest.
    pub(super) fn next(&mut self, path: &Path, length: u64) -> Option<(u64, String)> {
        if length <= self.told {
            return None;
        }
        let mut from = self.told.max(length.saturating_sub(PIECE_BYTES_MAX));
        // Progress may be lossy; what it is made from is in the spool.
        let mut bytes = read(&File::open(path).ok()?, from, length).ok()?;
        if from > self.told {
            let cut = bytes.iter().take(CHAR_BYTES_MAX - 1).take_while(|byte| is_continuation(**byte)).count();
            bytes.drain(..cut);
            from += cut as u64;
        }
        let open = match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => bytes.len() - error.valid_up_to(),
            Ok(_) | Err(_) => unfinished(&bytes),
        };
        bytes.truncate(bytes.len() - open);
        self.told = from + bytes.len() as u64;
        (!bytes.is_empty()).then(|| (from, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// How many bytes at the end begin a character that is not whole.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(last) {
        Err(error) if error.error_len().is_none() => last.len(),
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("7.out");
        std::fs::write(&path, bytes).unwrap();
        (home, path)
    }

    #[test]
    fn at_the_limit_all_is_shown_and_one_byte_more_is_counted() {
        let (_home, path) = spool(&vec![b'a'; OUTPUT_BYTES_MAX + 1]);
        assert_eq!(shown(&path, OUTPUT_BYTES_MAX as u64).unwrap().len(), OUTPUT_BYTES_MAX);
        let cut = shown(&path, u64::MAX).unwrap();
        assert!(cut.len() <= OUTPUT_BYTES_MAX);
        assert!(cut.contains(&format!(" bytes omitted; whole output: {}]\n", path.display())));
        assert_eq!(shown(Path::new("/nowhere/1.out"), 9).unwrap(), "");
    }

    #[test]
    fn pages_make_up_the_whole() {
        assert_eq!(page(Path::new("/nowhere/1.out"), 9).unwrap(), (String::new(), 9));
        for unit in [&b"one\n"[..], "漢é".as_bytes(), b"\xff"] {
            let bytes: Vec<u8> = unit.iter().copied().cycle().take(unit.len() * 30_000).collect();
            let (_home, path) = spool(&bytes);
            let (mut from, mut all) = (0, String::new());
            loop {
                let (text, next) = page(&path, from).unwrap();
                assert!(text.len() <= OUTPUT_BYTES_MAX);
                if text.is_empty() {
                    break;
                }
                all.push_str(&text);
                from = next;
            }
            assert_eq!((from, all), (bytes.len() as u64, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }

    #[test]
    fn a_follower_tells_each_byte_once_and_holds_half_a_character_back() {
        let (_home, path) = spool("aé漢".as_bytes());
        let mut follower = Follower::default();
        let mut told = Vec::new();
        for length in 0..=6 {
            told.extend(follower.next(&path, length));
        }
        assert_eq!(told, [(0, "a".to_owned()), (1, "é".to_owned()), (3, "漢".to_owned())]);
        let (_home, path) = spool(&[b"x".repeat(20_000), vec![0xff, b'y', 0xe6]].concat());
        let (from, text) = Follower::default().next(&path, 20_003).unwrap();
        assert_eq!((from, text.len()), (20_003 - 8192, 8192 - 1 - 1 + 3));
        assert!(text.ends_with("x\u{fffd}y"));
    }
}
