//! Output that is longer than what the model is given: head and tail, and between them one line that says what is
//! missing and where all of it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// At most `max` bytes of text, invalid UTF-8 replaced: all of `bytes`, or head and tail around
/// `[N bytes omitted; whole output: PATH]`, cut between lines where lines are not too long.
pub fn truncate(bytes: &[u8], max: usize, whole_at: &str) -> String {
    let window = bytes.len().min(max);
    let (head, _) = bytes.split_at(window);
    let (_, tail) = bytes.split_at(bytes.len() - window);
    cut(head, tail, bytes.len() as u64, max, whole_at)
}

/// The same of a file's first `len` bytes. Only what is shown is read.
pub fn truncate_file(file: &mut File, len: u64, max: usize, whole_at: &str) -> io::Result<String> {
    let window = usize::try_from(len).unwrap_or(usize::MAX).min(max);
    let mut head = vec![0; window];
    file.read_exact_at(&mut head, 0)?;
    if window as u64 == len {
        return Ok(cut(&head, &head, len, max, whole_at));
    }
    let mut tail = vec![0; window];
    file.read_exact_at(&mut tail, len - window as u64)?;
    Ok(cut(&head, &tail, len, max, whole_at))
}

/// `head` and `tail` are the first and the last bytes of an output of `len` bytes: as many as there are, or `max`.
fn cut(head: &[u8], tail: &[u8], len: u64, max: usize, whole_at: &str) -> String {
    let whole = head.len() as u64 == len;
    if whole && lossy_len(head) <= max {
        return String::from_utf8_lossy(head).into_owned();
    }
    let notice = |omitted: u64| format!("[{omitted} bytes omitted; whole output: {whole_at}]\n");
    // A newline before the notice may have to be added.
    let room = max.saturating_sub(notice(len).len() + 1);
    let first = first_part(head, room / 2);
    let last = last_part(tail, room - room / 2);
    let omitted = len - first.len() as u64 - last.len() as u64;
    let mut text = String::from_utf8_lossy(first).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&notice(omitted));
    text.push_str(&String::from_utf8_lossy(last));
    text
}

/// How long the text of these bytes is once invalid ones are replaced.
fn lossy_len(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().map(|chunk| chunk.valid().len() + replaced(chunk.invalid())).sum()
}

fn replaced(invalid: &[u8]) -> usize {
    if invalid.is_empty() { 0 } else { char::REPLACEMENT_CHARACTER.len_utf8() }
}

/// The first bytes whose text is no longer than `room`.
fn first_part(bytes: &[u8], room: usize) -> &[u8] {
    let (mut end, mut used) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if used + valid.len() > room {
            end += valid.floor_char_boundary(room - used);
            break;
        }
        used += valid.len();
        end += valid.len();
        if used + replaced(chunk.invalid()) > room {
            break;
        }
        used += replaced(chunk.invalid());
        end += chunk.invalid().len();
    }
    let kept = bytes.get(..end).unwrap_or_default();
    // A line is given up only if that costs less than half of what there is.
    match kept.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) if newline + 1 >= end / 2 => kept.get(..=newline).unwrap_or(kept),
        _ => kept,
    }
}

/// The last bytes whose text is no longer than `room`.
fn last_part(bytes: &[u8], room: usize) -> &[u8] {
    // No part of a text is shorter than its bytes by more than the replacements add, so older bytes need no look.
    let mut from = bytes.len().saturating_sub(room);
    // Not in the middle of a character.
    while from > 0
        && bytes.len() - from > room.saturating_sub(3)
        && bytes.get(from).is_some_and(|byte| byte & 0xc0 == 0x80)
    {
        from += 1;
    }
    let mut excess = lossy_len(bytes.get(from..).unwrap_or_default()).saturating_sub(room);
    for chunk in bytes.get(from..).unwrap_or_default().utf8_chunks() {
        if excess == 0 {
            break;
        }
        let valid = chunk.valid();
        if valid.len() >= excess {
            from += valid.ceil_char_boundary(excess);
            break;
        }
        excess -= valid.len();
        from += valid.len() + chunk.invalid().len();
        excess = excess.saturating_sub(replaced(chunk.invalid()));
    }
    let kept = bytes.get(from..).unwrap_or_default();
    match kept.iter().position(|byte| *byte == b'\n') {
        Some(newline) if newline < kept.len() / 2 => kept.get(newline + 1..).unwrap_or_default(),
        _ => kept,
    }
}

/// `1 line`, `2 lines`.
pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_whole_and_one_byte_more_is_cut() {
        let text = "a\n".repeat(100);
        assert_eq!(truncate(text.as_bytes(), 200, "/o"), text);
        let cut = truncate(text.as_bytes(), 199, "/o");
        assert!(cut.len() <= 199);
        assert!(cut.contains("\n[42 bytes omitted; whole output: /o]\n"), "{cut}");
    }

    #[test]
    fn head_and_tail_are_cut_between_lines_and_long_lines_between_characters() {
        let lines = (0..100).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
        let cut = truncate(lines.as_bytes(), 120, "/o");
        assert_eq!(
            cut,
            "line 0\nline 1\nline 2\nline 3\nline 4\n[715 bytes omitted; whole output: /o]\nline 95\nline 96\nline 97\nline 98\nline 99\n"
        );
        let cut = truncate("é".repeat(100).as_bytes(), 61, "/o");
        assert_eq!(cut, "ééééé\n[180 bytes omitted; whole output: /o]\nééééé");
    }

    #[test]
    fn invalid_bytes_count_as_what_they_are_shown_as() {
        assert_eq!(truncate(b"\xff\xff", 6, "/o"), "\u{fffd}\u{fffd}");
        let cut = truncate(&[0xff; 100], 100, "/o");
        assert!(cut.len() <= 100 && cut.contains("bytes omitted"), "{cut}");
    }

    proptest! {
        #[test]
        fn the_parts_and_what_is_omitted_are_the_whole(
            bytes in prop::collection::vec(prop::sample::select(b"ab\n\xff\xc3\xa9\xf0\x9f\x98\x80".as_slice()), 0..400),
            max in 45usize..300,
        ) {
            let text = truncate(&bytes, max, "/o");
            prop_assert!(text.len() <= max);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            prop_assert_eq!(&truncate_file(&mut file, bytes.len() as u64, max, "/o").unwrap(), &text);
            if let Some((head, rest)) = text.split_once('[') {
                let (omitted, rest) = rest.split_once(" bytes omitted; whole output: /o]\n").unwrap();
                let whole = String::from_utf8_lossy(&bytes);
                prop_assert!(whole.starts_with(head) || whole.starts_with(&head[..head.len() - 1]));
                let omitted: usize = omitted.parse().unwrap();
                prop_assert!(omitted <= bytes.len());
                // Where every byte is text, the three make up the whole.
                if std::str::from_utf8(&bytes).is_ok() {
                    let added = usize::from(!whole.starts_with(head));
                    prop_assert_eq!(head.len() - added + omitted + rest.len(), bytes.len());
                    prop_assert!(whole.ends_with(rest));
                }
            }
        }
    }
}
