//! Spools: `<data>/outputs/<thread>/<seq>.out`, what a command put out, both streams in the order they were written.
//!
//! Reads here are of at most 64 KiB from a local file that was written a moment ago, so they are made where they stand:
//! handing them to another thread costs more than they do.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::OUTPUT_BYTES_MAX;

/// A piece of live output.
const PIECE_BYTES_MAX: u64 = 8 * 1024;
/// The longest UTF-8 sequence.
const CHAR_BYTES_MAX: usize = 4;

/// The bytes `from..to` of a spool as the model sees them: head and tail, between them how many bytes are left out.
pub(super) fn shown(path: &Path, from: u64, to: u64) -> io::Result<String> {
    let file = match File::open(path) {
        Ok(file) => file,
        // A command that never put anything out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let to = to.min(file.metadata()?.len());
    let from = from.min(to);
    let whole = OUTPUT_BYTES_MAX as u64;
    if to - from <= whole {
        let bytes = read(&file, from, to)?;
        let text = String::from_utf8_lossy(&bytes);
        if text.len() <= OUTPUT_BYTES_MAX {
            return Ok(text.into_owned());
        }
    }
    let half = OUTPUT_BYTES_MAX / 2;
    let (head, head_bytes) = head(&read(&file, from, to.min(from + half as u64))?, half);
    // Broken bytes are shown longer than they are, so the head may reach into the last half.
    let rest = to.saturating_sub(half as u64).max(from + head_bytes as u64);
    let (tail, tail_bytes) = tail(&read(&file, rest, to)?, half);
    let omitted = (to - from).saturating_sub(head_bytes as u64 + tail_bytes as u64);
    let newline = if head.ends_with('\n') || head.is_empty() { "" } else { "\n" };
    Ok(format!("{head}{newline}[{omitted} bytes omitted; whole output: {}]\n{tail}", path.display()))
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

/// Whole characters, and whole lines where there are any, from the beginning: the text, and how many bytes became it.
fn head(bytes: &[u8], most: usize) -> (String, usize) {
    let mut text = String::new();
    let mut taken = 0;
    for (shown, length) in pieces(bytes) {
        // The last sequence may go on behind `bytes`.
        if text.len() + shown.len() > most || (taken + length == bytes.len() && shown == INVALID) {
            break;
        }
        text.push_str(shown);
        taken += length;
    }
    if let Some(end) = bytes.get(..taken).and_then(|bytes| bytes.iter().rposition(|byte| *byte == b'\n')) {
        let line = String::from_utf8_lossy(bytes.get(..=end).unwrap_or_default());
        if end + 1 > taken / 2 {
            return (line.into_owned(), end + 1);
        }
    }
    (text, taken)
}

/// The same from the end.
fn tail(bytes: &[u8], most: usize) -> (String, usize) {
    let start = bytes.iter().take(CHAR_BYTES_MAX - 1).take_while(|byte| is_continuation(**byte)).count();
    let bytes = bytes.get(start..).unwrap_or_default();
    let all: Vec<(&str, usize)> = pieces(bytes).collect();
    let (mut length, mut taken, mut first) = (0, 0, all.len());
    for (index, (shown, bytes)) in all.iter().enumerate().rev() {
        if length + shown.len() > most {
            break;
        }
        (length, taken, first) = (length + shown.len(), taken + bytes, index);
    }
    let kept = bytes.get(bytes.len() - taken..).unwrap_or_default();
    if let Some(line) = kept.iter().position(|byte| *byte == b'\n').filter(|line| line + 1 < taken / 2) {
        let text = String::from_utf8_lossy(kept.get(line + 1..).unwrap_or_default());
        return (text.into_owned(), taken - line - 1);
    }
    (all.iter().skip(first).map(|(shown, _)| *shown).collect(), taken)
}

const INVALID: &str = "\u{fffd}";

/// The text of each character or broken sequence, and how many bytes it stands for.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = (&str, usize)> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let (valid, broken) = (chunk.valid(), chunk.invalid().len());
        let chars = valid.char_indices().map(move |(at, char)| {
            let end = at + char.len_utf8();
            (valid.get(at..end).unwrap_or_default(), char.len_utf8())
        });
        chars.chain((broken > 0).then_some((INVALID, broken)))
    })
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// What was last written to a file, where that can be said.
pub(super) fn modified(path: &Path) -> Option<Timestamp> {
    let since = path.metadata().ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp(u64::try_from(since.as_millis()).ok()?))
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
    use proptest::prelude::*;

    use super::*;

    fn spool(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("7.out");
        std::fs::write(&path, bytes).unwrap();
        (home, path)
    }

    fn cut(text: &str, path: &Path) -> (String, u64, String) {
        let marker = format!(" bytes omitted; whole output: {}]\n", path.display());
        let at = text.find(&marker).unwrap();
        let open = text[..at].rfind('[').unwrap();
        let omitted = text[open + 1..at].parse().unwrap();
        (text[..open].to_owned(), omitted, text[at + marker.len()..].to_owned())
    }

    #[test]
    fn at_the_limit_all_is_shown_and_one_byte_more_is_counted() {
        let (_home, path) = spool(&vec![b'a'; OUTPUT_BYTES_MAX]);
        assert_eq!(shown(&path, 0, u64::MAX).unwrap().len(), OUTPUT_BYTES_MAX);
        let (_home, path) = spool(&vec![b'a'; OUTPUT_BYTES_MAX + 1]);
        let (head, omitted, tail) = cut(&shown(&path, 0, u64::MAX).unwrap(), &path);
        // The marker stands on a line of its own.
        assert_eq!((head.trim_end().len(), omitted, tail.len()), (OUTPUT_BYTES_MAX / 2, 1, OUTPUT_BYTES_MAX / 2));
    }

    #[test]
    fn a_part_is_shown_from_a_byte_to_a_byte() {
        let (_home, path) = spool(b"one\ntwo\nthree\n");
        assert_eq!(shown(&path, 4, 8).unwrap(), "two\n");
        assert_eq!(shown(&path, 99, 200).unwrap(), "");
        assert_eq!(shown(Path::new("/nowhere/1.out"), 0, 9).unwrap(), "");
    }

    #[test]
    fn lines_are_not_cut_where_there_are_lines() {
        let text = (0..20_000).map(|line| format!("line {line}\n")).collect::<Vec<_>>().concat();
        let (_home, path) = spool(text.as_bytes());
        let (head, omitted, tail) = cut(&shown(&path, 0, u64::MAX).unwrap(), &path);
        assert!(head.ends_with('\n') && tail.starts_with("line "));
        assert_eq!(head.len() as u64 + omitted + tail.len() as u64, text.len() as u64);
        assert!(text.starts_with(&head) && text.ends_with(&tail));
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_shown_is_bounded_and_what_is_not_is_counted(
            unit in proptest::collection::vec(any::<u8>(), 1..40),
            length in 1_usize..200_000,
        ) {
            let bytes: Vec<u8> = unit.iter().copied().cycle().take(length).collect();
            let (_home, path) = spool(&bytes);
            let text = shown(&path, 0, u64::MAX).unwrap();
            prop_assert!(text.len() <= OUTPUT_BYTES_MAX + 100 + path.as_os_str().len());
            if let Ok(whole) = std::str::from_utf8(&bytes) {
                if whole.len() <= OUTPUT_BYTES_MAX {
                    prop_assert_eq!(text, whole);
                } else if !whole.contains(['[', '\n']) {
                    let (head, omitted, tail) = cut(&text, &path);
                    prop_assert_eq!(head.trim_end_matches('\n').len() as u64 + omitted + tail.len() as u64, length as u64);
                }
            }
        }
    }
}
