//! What an edit changed, as a unified diff. Only from the bytes before and after, so that recovery says the same.

use std::fmt::Write as _;

use similar::{DiffOp, group_diff_ops};

use super::compare::compare;

/// Lines around a change.
pub(super) const CONTEXT_LINES: usize = 3;
/// A diff is told up to here; the file can be read.
const DIFF_BYTES_MAX: usize = 8 * 1024;
/// A line of a diff is told up to here.
const LINE_BYTES_MAX: usize = 500;
/// Lines of both sides that are compared one by one; more are told as replaced. The work grows with the square.
const COMPARED_LINES_MAX: usize = 4_000;

/// The lines that are new and those that are gone, and the diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diff {
    pub(super) added: usize,
    pub(super) removed: usize,
    pub(super) text: String,
}

/// The lines of a file, each with its end.
pub(super) fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Compares two versions.
pub(super) fn diff(before: &[u8], after: &[u8]) -> Diff {
    let (old, new) = (lines(before), lines(after));
    let ops = changes(&old, &new);
    let removed = ops.iter().map(|op| if is_equal(op) { 0 } else { op.old_range().len() }).sum();
    let added = ops.iter().map(|op| if is_equal(op) { 0 } else { op.new_range().len() }).sum();
    let mut out = Capped { text: String::new(), left_out: 0 };
    for group in group_diff_ops(ops, CONTEXT_LINES) {
        hunk(&mut out, &group, &old, &new);
    }
    if out.left_out > 0 {
        let _ = writeln!(out.text, "[{} more lines of the diff omitted]", out.left_out);
    }
    Diff { added, removed, text: out.text }
}

pub(super) fn is_equal(op: &DiffOp) -> bool {
    matches!(op, DiffOp::Equal { .. })
}

pub(super) fn changes(old: &[&[u8]], new: &[&[u8]]) -> Vec<DiffOp> {
    let same_head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (old.get(same_head..).unwrap_or_default(), new.get(same_head..).unwrap_or_default());
    let same_tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_len, new_len) = (old_rest.len() - same_tail, new_rest.len() - same_tail);
    if old_len + new_len <= COMPARED_LINES_MAX {
        return compare(old, new);
    }
    let (old_index, new_index) = (same_head, same_head);
    let equal = |old_index, new_index, len| DiffOp::Equal { old_index, new_index, len };
    let replaced = DiffOp::Replace { old_index, old_len, new_index, new_len };
    vec![equal(0, 0, same_head), replaced, equal(old_index + old_len, new_index + new_len, same_tail)]
        .into_iter()
        .filter(|op| !op.old_range().is_empty() || !op.new_range().is_empty())
        .collect()
}

/// A hunk's range of lines, from the index of the first to that behind the last.
pub(super) fn range(start: usize, end: usize) -> String {
    match end - start {
        // An empty range stands behind the line that it follows.
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        len => format!("{},{len}", start + 1),
    }
}

fn hunk(out: &mut Capped, ops: &[DiffOp], old: &[&[u8]], new: &[&[u8]]) {
    let (Some(first), Some(last)) = (ops.first(), ops.last()) else { return };
    let old_range = range(first.old_range().start, last.old_range().end);
    let new_range = range(first.new_range().start, last.new_range().end);
    out.line(&format!("@@ -{old_range} +{new_range} @@"));
    for op in ops {
        let equal = is_equal(op);
        for line in old.get(op.old_range()).unwrap_or_default() {
            out.code(if equal { ' ' } else { '-' }, line);
        }
        if !equal {
            for line in new.get(op.new_range()).unwrap_or_default() {
                out.code('+', line);
            }
        }
    }
}

struct Capped {
    text: String,
    left_out: usize,
}

impl Capped {
    fn code(&mut self, sign: char, line: &[u8]) {
        if self.left_out > 0 {
            self.left_out += 1;
            return;
        }
        let (line, whole) = match line.strip_suffix(b"\n") {
            Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), true),
            None => (line, false),
        };
        let (kept, cut) = super::view::head(line, LINE_BYTES_MAX);
        let mut text = format!("{sign}{}", String::from_utf8_lossy(kept));
        if cut > 0 {
            let _ = write!(text, "… [{cut} more bytes]");
        }
        if !whole {
            text.push_str("\n\\ No newline at end of file");
        }
        self.line(&text);
    }

    fn line(&mut self, text: &str) {
        if self.left_out > 0 || self.text.len() + text.len() >= DIFF_BYTES_MAX {
            self.left_out += 1;
        } else {
            self.text.push_str(text);
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_diff_is_unified_and_says_what_a_line_cannot() {
        let told = |before: &str, after: &str| {
            let diff = diff(before.as_bytes(), after.as_bytes());
            format!("+{} -{}\n{}", diff.added, diff.removed, diff.text)
        };
        expect![[r"
            +2 -1
            @@ -2,5 +2,6 @@
             2
             3
             4
            -5
            +five
            +V
             6
            \ No newline at end of file
        "]]
        .assert_eq(&told("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\nfive\nV\n6"));
        expect![[r"
            +1 -1
            @@ -1 +1 @@
            -a
            +a
            \ No newline at end of file
        "]]
        .assert_eq(&told("a\n", "a"));
        assert_eq!(told("a", "a"), "+0 -0\n");
        assert_eq!(told("", "a\n"), "+1 -0\n@@ -0,0 +1 @@\n+a\n");
    }

    #[test]
    fn a_huge_diff_is_bounded_in_work_and_in_text() {
        let before = (0..500_000).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
        let after = (0..500_000).rev().map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
        let diff = diff(before.as_bytes(), after.as_bytes());
        assert!(diff.text.len() < DIFF_BYTES_MAX + 100);
        assert!(diff.text.ends_with("more lines of the diff omitted]\n"));
    }
}
