//! A file as the model sees it: numbered lines of a window, from bytes that come in pieces of any size. The file is never
//! held as a whole.

use std::fmt::Write as _;

use lakitu_kernel::limits::{FILE_READ_LINE_BYTES_MAX, OUTPUT_BYTES_MAX};

/// Kept free for what is said after the lines.
pub(super) const NOTES_BYTES: usize = 512;
/// A NUL among so many first bytes: the file is no text.
pub(super) const SNIFFED_BYTES: usize = 8 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The head of a line, cut between characters, and how many bytes are missing.
pub(super) fn head(line: &[u8], max: usize) -> (&[u8], usize) {
    if line.len() <= max {
        return (line, 0);
    }
    let is_boundary = |at: &usize| line.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    // A character has at most four bytes; where none ends there, it is no UTF-8 and any cut will do.
    let at = (max.saturating_sub(3)..=max).rev().find(is_boundary).unwrap_or(max);
    let kept = line.get(..at).unwrap_or(line);
    (kept, line.len() - kept.len())
}

/// Collects the window while the file goes by.
#[derive(Debug)]
pub(super) struct View {
    offset: u64,
    limit: u64,
    out: String,
    /// Complete lines that went by.
    lines: u64,
    shown: Option<(u64, u64)>,
    full: bool,
    /// The beginning of the line that is going by, and all its bytes so far.
    line: Vec<u8>,
    line_bytes: usize,
    last: Option<u8>,
    seen: Seen,
}

/// What of the shown lines cannot be seen in them.
#[derive(Debug, Default)]
struct Seen {
    crlf: bool,
    bom: bool,
    lossy: bool,
}

impl View {
    /// A window of `limit` lines from the line `offset`, 1 the first.
    pub(super) fn new(offset: u64, limit: u64) -> Self {
        Self {
            offset: offset.max(1),
            limit,
            out: String::new(),
            lines: 0,
            shown: None,
            full: false,
            line: Vec::new(),
            line_bytes: 0,
            last: None,
            seen: Seen::default(),
        }
    }

    /// The next bytes of the file.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.extend(line);
            self.end_line(true);
            self.last = Some(b'\n');
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        // A byte more than is shown, so that a cut finds its boundary; the BOM may go away.
        let room = (FILE_READ_LINE_BYTES_MAX + BOM.len() + 1).saturating_sub(self.line.len());
        self.line.extend(bytes.iter().take(room));
        self.line_bytes += bytes.len();
        self.last = bytes.last().copied().or(self.last);
    }

    fn end_line(&mut self, newline: bool) {
        self.lines += 1;
        let wanted = self.lines >= self.offset && self.lines - self.offset < self.limit && !self.full;
        if wanted {
            let crlf = newline && self.last == Some(b'\r') && self.line_bytes > 0;
            self.show(crlf);
        }
        self.line.clear();
        self.line_bytes = 0;
    }

    fn show(&mut self, crlf: bool) {
        let mut line = self.line.as_slice();
        let mut bytes = self.line_bytes;
        let bom = self.lines == 1 && line.starts_with(BOM);
        if bom {
            line = line.get(BOM.len()..).unwrap_or_default();
            bytes -= BOM.len();
        }
        if crlf {
            bytes -= 1;
            line = line.get(..line.len().min(bytes)).unwrap_or(line);
        }
        let (kept, _) = head(line, FILE_READ_LINE_BYTES_MAX);
        let cut = bytes - kept.len();
        let lossy = std::str::from_utf8(kept).is_err();
        let mut text = format!("{:>6}\t{}", self.lines, String::from_utf8_lossy(kept));
        if cut > 0 {
            let _ = write!(text, "… [{cut} more bytes of this line]");
        }
        text.push('\n');
        if self.shown.is_some() && self.out.len() + text.len() > OUTPUT_BYTES_MAX - NOTES_BYTES {
            self.full = true;
            return;
        }
        self.out.push_str(&text);
        self.shown = Some((self.shown.map_or(self.lines, |(first, _)| first), self.lines));
        self.seen.crlf |= crlf;
        self.seen.bom |= bom;
        self.seen.lossy |= lossy;
    }

    /// The end of the file: the lines, and what has to be said about them.
    pub(super) fn finish(mut self) -> String {
        let unended = self.line_bytes > 0;
        if unended {
            self.end_line(false);
        }
        let total = self.lines;
        let mut note = |text: &str| {
            self.out.push_str(text);
            self.out.push('\n');
        };
        let Some((first, last)) = self.shown else {
            note(&match total {
                0 => "[the file is empty]".to_owned(),
                _ => format!("[offset {} is past the end: the file has {total} lines]", self.offset),
            });
            return self.out;
        };
        if last < total {
            note(&format!("[lines {first}-{last} of {total}; go on with offset {}]", last + 1));
        } else if first > 1 {
            note(&format!("[lines {first}-{last} of {total}; the end of the file]"));
        }
        if self.seen.bom {
            note("[the file begins with a byte order mark, which is not shown]");
        }
        if self.seen.crlf {
            note("[lines end with CRLF; the CR is not shown]");
        }
        if self.seen.lossy {
            note("[not valid UTF-8: \u{fffd} stands for bytes that cannot be shown; edits of other places keep them]");
        }
        if unended && last == total {
            note("[no newline at the end of the file]");
        }
        self.out
    }
}

/// Whether the first bytes are no text's, and then what they are.
pub(super) fn binary(first: &[u8]) -> Option<&'static str> {
    first.get(..SNIFFED_BYTES.min(first.len()))?.contains(&0).then(|| kind(first))
}

fn kind(first: &[u8]) -> &'static str {
    const MAGIC: [(usize, &[u8], &str); 25] = [
        (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
        (0, b"\xff\xd8\xff", "JPEG image"),
        (0, b"GIF8", "GIF image"),
        (8, b"WEBP", "WebP image"),
        (0, b"BM", "BMP image"),
        (0, b"\0\0\x01\0", "icon"),
        (0, b"%PDF-", "PDF document"),
        (0, b"PK\x03\x04", "ZIP archive"),
        (0, b"\x1f\x8b", "gzip data"),
        (0, b"BZh", "bzip2 data"),
        (0, b"\xfd7zXZ\0", "xz data"),
        (0, b"\x28\xb5\x2f\xfd", "zstd data"),
        (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
        (257, b"ustar", "tar archive"),
        (0, b"\x7fELF", "ELF program or library"),
        (0, b"MZ", "Windows program or library"),
        (0, b"\xca\xfe\xba\xbe", "Java class or macOS program"),
        (0, b"\0asm", "WebAssembly module"),
        (0, b"!<arch>\n", "ar archive"),
        (0, b"SQLite format 3\0", "SQLite database"),
        (4, b"ftyp", "MP4 media"),
        (0, b"OggS", "Ogg media"),
        (0, b"wOF", "web font"),
        (0, b"\xff\xfe", "UTF-16 text, little endian"),
        (0, b"\xfe\xff", "UTF-16 text, big endian"),
    ];
    MAGIC
        .iter()
        .find(|(at, magic, _)| first.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
        .map_or("unknown type", |(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn view(bytes: &[u8], offset: u64, limit: u64) -> String {
        let mut view = View::new(offset, limit);
        view.push(bytes);
        view.finish()
    }

    #[test]
    fn a_window_is_numbered_and_says_what_is_missing() {
        let all = [
            view(b"a\nb\nc\n", 1, 2000),
            view(b"a\nb\nc\n", 0, 2),
            view(b"a\nb\nc", 2, 1),
            view(b"a\nb\nc", 3, 9),
            view(b"a\nb\nc", 4, 9),
            view(b"", 1, 9),
            view(b"\n", 1, 9),
            view(b"\xef\xbb\xbfa\r\n\r\n\xe9t\xe9\r\n", 1, 9),
        ];
        expect![[r"
                 1	a
                 2	b
                 3	c
            --
                 1	a
                 2	b
            [lines 1-2 of 3; go on with offset 3]
            --
                 2	b
            [lines 2-2 of 3; go on with offset 3]
            --
                 3	c
            [lines 3-3 of 3; the end of the file]
            [no newline at the end of the file]
            --
            [offset 4 is past the end: the file has 3 lines]
            --
            [the file is empty]
            --
                 1	
            --
                 1	a
                 2	
                 3	�t�
            [the file begins with a byte order mark, which is not shown]
            [lines end with CRLF; the CR is not shown]
            [not valid UTF-8: � stands for bytes that cannot be shown; edits of other places keep them]
        "]]
        .assert_eq(&all.join("--\n"));
    }

    #[test]
    fn a_line_at_its_limit_is_whole_and_one_byte_more_is_cut_between_characters() {
        let line = |bytes: usize| "x".repeat(bytes);
        assert_eq!(view(line(2000).as_bytes(), 1, 1).lines().next().unwrap().len(), 7 + 2000);
        assert!(view(line(2001).as_bytes(), 1, 1).contains("x… [1 more bytes of this line]"));
        assert!(view(format!("{}\r\n", line(2000)).as_bytes(), 1, 1).starts_with(&format!("     1\t{}\n", line(2000))));
        let umlauts = format!("{}é", line(1999));
        assert!(view(umlauts.as_bytes(), 1, 1).contains("x… [2 more bytes of this line]"));
        let marked = format!("\u{feff}{}", line(2001));
        assert!(view(marked.as_bytes(), 1, 1).contains("x… [1 more bytes of this line]"));
    }

    #[test]
    fn the_whole_is_bounded_and_the_footer_goes_on_where_it_ended() {
        let bytes = format!("{}\n", "y".repeat(99)).repeat(5000);
        let text = view(bytes.as_bytes(), 1, 5000);
        assert!(text.len() <= OUTPUT_BYTES_MAX);
        assert!(text.ends_with("[lines 1-462 of 5000; go on with offset 463]\n"), "{}", &text[text.len() - 99..]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_view(
            bytes in prop::collection::vec(prop::sample::select(b"ab\r\n\xc3\xa9\xef\xbb\xbf".as_slice()), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..8),
            offset in 0u64..6,
            limit in 1u64..6,
        ) {
            let mut pieces = View::new(offset, limit);
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                pieces.push(&bytes[pair[0]..pair[1]]);
            }
            prop_assert_eq!(pieces.finish(), view(&bytes, offset, limit));
        }
    }
}
