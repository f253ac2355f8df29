//! Finding the place of a hunk in a file, and putting it there. Bytes of lines that stay are never written anew.

use super::parse::{Hunk, Line};
use crate::tools::file::closest::closest;
use crate::tools::workspace::FileError;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A line of the file.
#[derive(Debug, Clone, Copy)]
struct Standing<'a> {
    text: &'a [u8],
    end: &'a [u8],
}

/// What of a line is compared.
type Way = fn(&[u8]) -> &[u8];

/// How exactly lines are compared: from the first to the last until one finds the place.
const WAYS: [Way; 3] = [|line| line, <[u8]>::trim_ascii_end, <[u8]>::trim_ascii];

/// How many lines may still be compared. A file and a hunk that repeat themselves could else be compared for hours.
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Budget {
    /// Enough for every patch that a person would call one.
    pub(super) fn new() -> Self {
        Self(50_000_000)
    }

    fn spend(&mut self) -> Result<(), Spent> {
        self.0 = self.0.checked_sub(1).ok_or(Spent)?;
        Ok(())
    }
}

/// There is nothing left of a budget.
struct Spent;

/// The file after all hunks.
pub(super) fn patched(before: &[u8], hunks: &[Hunk], shown: &str, budget: &mut Budget) -> Result<Vec<u8>, FileError> {
    let (bom, body) = match before.strip_prefix(BOM) {
        Some(body) => (BOM, body),
        None => (&b""[..], before),
    };
    let standing: Vec<Standing<'_>> = body.split_inclusive(|byte| *byte == b'\n').map(taken_apart).collect();
    let mut made = Made { standing: &standing, out: Vec::new(), up_to: 0 };
    for (at, hunk) in hunks.iter().enumerate() {
        let number = at + 1;
        let place =
            find(&standing, hunk, made.up_to, budget).map_err(|lost| lost.told((number, hunks.len()), body, shown))?;
        made.put(&place);
    }
    Ok([bom, &made.finish()].concat())
}

fn taken_apart(line: &[u8]) -> Standing<'_> {
    let text = line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
    Standing { text, end: line.get(text.len()..).unwrap_or_default() }
}

/// Where a hunk belongs.
struct Place<'a> {
    at: usize,
    lines: &'a [Line],
}

/// Why a hunk has no place.
enum Lost<'a> {
    /// The line behind `@@` is not there.
    Above(&'a str),
    /// Its lines are not there; or only above, at this line.
    Lines(String, Option<usize>),
    /// They are there, but not at the end.
    NotAtEnd,
    /// They repeat themselves too often to look any further.
    TooOften,
}

impl From<Spent> for Lost<'_> {
    fn from(_: Spent) -> Self {
        Self::TooOften
    }
}

impl Lost<'_> {
    fn told(self, (number, of): (usize, usize), file: &[u8], shown: &str) -> FileError {
        let hunk = if of == 1 { "the hunk".to_owned() } else { format!("hunk {number} of {of}") };
        FileError::Mismatch(match self {
            Self::Above(line) => closest(file, line, &format!("the line behind @@ of {hunk}"), shown),
            Self::Lines(_, Some(at)) => format!(
                "the lines of {hunk} stand in {shown} at line {at}, above the place of the hunk before: give hunks in \
                 the order of the file"
            ),
            Self::Lines(lines, None) => closest(file, &lines, &format!("what {hunk} is to find"), shown),
            Self::TooOften => format!(
                "the place of {hunk} in {shown} cannot be told: its lines repeat themselves too often; give fewer of them"
            ),
            Self::NotAtEnd => format!("the lines of {hunk} do not stand at the end of {shown}"),
        })
    }
}

fn find<'a>(file: &[Standing<'_>], hunk: &'a Hunk, from: usize, budget: &mut Budget) -> Result<Place<'a>, Lost<'a>> {
    let mut start = from;
    let mut named = None;
    for above in &hunk.below {
        let at = seek(file, &[above.as_str()], start, budget)?.ok_or(Lost::Above(above))?;
        named = Some(at);
        start = at + 1;
    }
    let mut lines = hunk.lines.as_slice();
    loop {
        let old = old_lines(lines);
        if old.is_empty() {
            // Nothing to find: below the line that is named, else at the end.
            let at = if named.is_some() && !hunk.at_end { start } else { file.len() };
            return Ok(Place { at, lines });
        }
        let found = if hunk.at_end {
            let at = file.len().checked_sub(old.len()).filter(|at| *at >= from);
            at.map(|at| seek(file, &old, at, budget)).transpose()?.flatten()
        } else {
            match (seek(file, &old, start, budget)?, named) {
                // Some repeat the line behind @@ as their first.
                (None, Some(named)) => seek(file, &old, named, budget)?,
                (found, _) => found,
            }
        };
        match (found, lines.split_last()) {
            (Some(at), _) => return Ok(Place { at, lines }),
            // An empty line before the next part of the patch is none of the file.
            (None, Some((Line::Keep(last), rest))) if last.is_empty() && !rest.is_empty() => lines = rest,
            (None, _) => {
                return Err(match seek(file, &old, 0, budget)? {
                    Some(_) if hunk.at_end => Lost::NotAtEnd,
                    above => Lost::Lines(old.join("\n"), above.map(|at| at + 1)),
                });
            }
        }
    }
}

fn old_lines(lines: &[Line]) -> Vec<&str> {
    let old = |line| match line {
        &Line::Keep(ref text) | &Line::Remove(ref text) => Some(text.as_str()),
        Line::Add(_) => None,
    };
    lines.iter().filter_map(old).collect()
}

/// The first place from `from` on where these lines stand, compared as exactly as possible.
fn seek(file: &[Standing<'_>], old: &[&str], from: usize, budget: &mut Budget) -> Result<Option<usize>, Spent> {
    let Some(last) = file.len().checked_sub(old.len()) else { return Ok(None) };
    for way in WAYS {
        for at in from..=last {
            if matches(file, old, (at, way), budget)? {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

fn matches(file: &[Standing<'_>], old: &[&str], (at, way): (usize, Way), budget: &mut Budget) -> Result<bool, Spent> {
    let lines = file.get(at..at + old.len()).unwrap_or_default();
    for (line, old) in lines.iter().zip(old) {
        budget.spend()?;
        let old = old.as_bytes();
        if way(line.text) != way(old.strip_suffix(b"\r").filter(|_| line.end == b"\r\n").unwrap_or(old)) {
            return Ok(false);
        }
    }
    Ok(lines.len() == old.len())
}

/// A line of the new file: one that stands already, or a new one.
enum New<'a> {
    Stays(Standing<'a>),
    Added(&'a str, &'a [u8]),
}

/// The new file as far as it is made.
struct Made<'a, 'f> {
    standing: &'f [Standing<'a>],
    out: Vec<New<'a>>,
    /// Lines of the file that are dealt with.
    up_to: usize,
}

impl<'a> Made<'a, '_> {
    fn put(&mut self, place: &Place<'a>) {
        self.keep_up_to(place.at);
        for line in place.lines {
            match line {
                Line::Keep(_) => self.keep_up_to(self.up_to + 1),
                Line::Remove(_) => self.up_to += 1,
                Line::Add(text) => {
                    let end = self.line_end();
                    let text = text.strip_suffix('\r').filter(|_| end == b"\r\n").unwrap_or(text);
                    self.out.push(New::Added(text, end));
                }
            }
        }
    }

    fn keep_up_to(&mut self, to: usize) {
        let kept = self.standing.get(self.up_to..to).unwrap_or_default();
        self.out.extend(kept.iter().map(|line| New::Stays(*line)));
        self.up_to = to.max(self.up_to);
    }

    /// The line end of the nearest line: above, below, anywhere.
    fn line_end(&self) -> &'a [u8] {
        let above = self.standing.get(..self.up_to).unwrap_or_default().iter().rev();
        let below = self.standing.get(self.up_to..).unwrap_or_default().iter();
        above.chain(below).map(|line| line.end).find(|end| !end.is_empty()).unwrap_or(b"\n")
    }

    fn finish(mut self) -> Vec<u8> {
        self.keep_up_to(self.standing.len());
        // A file without a line end at its end gets none by a new last line.
        let open = self.standing.last().is_some_and(|line| line.end.is_empty());
        let fallback = self.standing.iter().map(|line| line.end).find(|end| !end.is_empty()).unwrap_or(b"\n");
        let last = self.out.len().saturating_sub(1);
        let mut bytes = Vec::new();
        for (at, line) in self.out.iter().enumerate() {
            match line {
                New::Stays(line) => {
                    bytes.extend_from_slice(line.text);
                    // What was the last line is one in the middle now.
                    let moved = line.end.is_empty() && at < last;
                    bytes.extend_from_slice(if moved { fallback } else { line.end });
                }
                New::Added(text, end) => {
                    bytes.extend_from_slice(text.as_bytes());
                    bytes.extend_from_slice(if open && at == last { b"" } else { end });
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::super::parse::{Patch, Section};
    use super::*;

    fn hunks(body: &str) -> Vec<Hunk> {
        let patch = Patch::parse(&format!("*** Begin Patch\n*** Update File: f\n{body}\n*** End Patch")).unwrap();
        match patch.sections.into_iter().next() {
            Some(Section::Update { hunks, .. }) => hunks,
            other => panic!("{other:?}"),
        }
    }

    fn told(before: impl AsRef<[u8]>, body: &str) -> String {
        match patched(before.as_ref(), &hunks(body), "f", &mut Budget::new()) {
            Ok(after) => String::from_utf8_lossy(&after).into_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_hunk_finds_its_place_and_lines_that_stay_keep_their_bytes() {
        let rows = [
            ("a\nb\nc\n", " a\n-b\n+B\n c", "a\nB\nc\n"),
            // Trailing space, then indentation, may differ; the file's own bytes stay.
            ("a  \n\tb\nc\n", " a\n-  b\n+B", "a  \nB\nc\n"),
            ("x\nb\nx\nb\n", "@@ x\n@@ x\n-b\n+B", "x\nb\nx\nB\n"),
            ("x\nb\nx\nb\n", "@@ x\n x\n-b\n+B", "x\nb\nx\nB\n"),
            ("def f\n  b\n", "@@ def f\n def f\n-  b\n+  B", "def f\n  B\n"),
            ("b\nb\n", "-b\n+B\n*** End of File", "b\nB\n"),
            ("a\nb\n", "+c", "a\nb\nc\n"),
            ("a\nb\n", "@@ a\n+c", "a\nc\nb\n"),
            ("", "+c", "c\n"),
            // The way in which lines end is the file's.
            ("a\r\nb\r\n", " a\n-b\n+B\n+C", "a\r\nB\r\nC\r\n"),
            ("a\nb\r\nc\n", " b\n+B\n c\n+C", "a\nb\r\nB\r\nc\nC\n"),
            ("a\nb", " a\n-b\n+B", "a\nB"),
            ("a\nb", " b\n+c", "a\nb\nc"),
            ("a\nb", " a\n-b", "a\n"),
            ("\u{feff}a\nb\n", "-a\n+A\n b", "\u{feff}A\nb\n"),
            ("a\nb\n", " a\n-b\n+$& \\0 ${1}", "a\n$& \\0 ${1}\n"),
            // An empty line before the next part is none of the file.
            ("a\nb\n", "-a\n+A\n", "A\nb\n"),
            ("a\n\nb\n", " a\n\n-b\n+B", "a\n\nB\n"),
        ];
        for (before, body, after) in rows {
            assert_eq!(told(before, body), after, "{before:?} {body:?}");
        }
        let latin = patched(b"\xe9\nb\n\xff", &hunks("-b\n+c"), "f", &mut Budget::new()).unwrap();
        assert_eq!(latin, b"\xe9\nc\n\xff");
    }

    #[test]
    fn a_hunk_without_a_place_is_refused_with_the_closest_lines() {
        let file = "fn main() {\n    let total = sum(1, 2);\n    print(total);\n}\n";
        let told: Vec<_> = [
            "     let total = sum(1, 3);\n-    print(total);\n+    show(total);",
            "@@ fn mian() {\n-    print(total);\n+    show(total);",
            "@@\n-}\n+};\n@@\n-fn main() {\n+fn start() {",
            "-    print(total);\n+x\n*** End of File",
            "@@\n-}\n+};\n@@\n-nowhere at all\n+x",
        ]
        .map(|body| told(file, body))
        .to_vec();
        expect![[r#"
            what the hunk is to find does not occur in f; closest are these lines:
                 2	    let total = sum(1, 2);
                 3	    print(total);
            --
            the line behind @@ of the hunk does not occur in f; closest are these lines:
                 1	fn main() {
            --
            the lines of hunk 2 of 2 stand in f at line 1, above the place of the hunk before: give hunks in the order of the file
            --
            the lines of the hunk do not stand at the end of f
            --
            what hunk 2 of 2 is to find does not occur in f; nothing in the file is like it: read the file again with file_read"#]].assert_eq(&told.join("\n--\n"));
    }

    #[test]
    fn the_work_is_bounded() {
        let began = std::time::Instant::now();
        let told = told("\n".repeat(1 << 20), &format!("{}-x\n+y", " \n".repeat(100_000)));
        assert!(told.contains("repeat themselves too often"), "{told}");
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
    }

    /// What becomes of a line of the file: whether it stays, and what comes behind it.
    fn turns() -> impl Strategy<Value = Vec<(String, &'static str, bool, Vec<String>)>> {
        let text = prop_oneof!["[a-z$&\\\\\u{e9} ]{0,6}", Just("\\0 $& $1".to_owned())];
        let added = prop::collection::vec("[A-Z$&\\\\\u{e9} ]{1,6}", 0..3);
        let line = (text, prop::sample::select(vec!["\n", "\r\n"]), any::<bool>(), added);
        prop::collection::vec(line, 1..30)
    }

    proptest! {
        #[test]
        fn bytes_outside_the_changes_never_change(mut lines in turns(), open: bool, bom: bool, whole: bool) {
            // The first stays, so that every change has a line above it; each is unlike the others.
            lines[0].2 = true;
            for (at, line) in lines.iter_mut().enumerate() {
                line.0.extend(["#", &at.to_string()]);
            }
            let count = lines.len();
            if open {
                lines[count - 1].1 = "";
            }
            let mut before = if bom { BOM.to_vec() } else { Vec::new() };
            let (mut body, mut above, mut expected) = (String::new(), String::new(), Vec::new());
            for (text, end, stays, added) in &lines {
                before.extend_from_slice(text.as_bytes());
                before.extend_from_slice(end.as_bytes());
                if *stays {
                    above = format!(" {text}\n");
                    expected.push((text.clone(), Some(*end)));
                } else {
                    above.extend(["-", text, "\n"]);
                }
                added.iter().for_each(|text| above.extend(["+", text, "\n"]));
                expected.extend(added.iter().map(|text| (text.clone(), None)));
                if whole {
                    body.push_str(&std::mem::take(&mut above));
                } else if !*stays || !added.is_empty() {
                    // A hunk of its own, below the last line that stays.
                    body = format!("{}@@\n{above}", body.strip_suffix(&last_hunk(&body, &above)).unwrap_or(&body));
                }
            }
            prop_assume!(body.contains("\n+") || body.contains("\n-"));
            let after = patched(&before, &hunks(body.trim_end_matches('\n')), "f", &mut Budget::new()).unwrap();
            let rest = if bom { after.strip_prefix(BOM).unwrap() } else { &after };
            let made: Vec<_> = rest.split_inclusive(|byte| *byte == b'\n').map(taken_apart).collect();
            let texts: Vec<_> = made.iter().map(|line| String::from_utf8_lossy(line.text).into_owned()).collect();
            prop_assert_eq!(texts, expected.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>());
            for (at, (line, (_, end))) in made.iter().zip(&expected).enumerate() {
                let last = at + 1 == made.len();
                match end {
                    Some("") if !last => prop_assert!(!line.end.is_empty()),
                    Some(end) => prop_assert_eq!(line.end, end.as_bytes()),
                    None => prop_assert_eq!(line.end.is_empty(), open && last),
                }
            }
        }
    }

    /// The hunk that `above` goes on with: it was put there while the run of changes was shorter.
    fn last_hunk(body: &str, above: &str) -> String {
        let last = body.rfind("@@\n").map_or("", |at| &body[at..]);
        if !last.is_empty() && above.starts_with(&last["@@\n".len()..]) { last.to_owned() } else { String::new() }
    }
}
