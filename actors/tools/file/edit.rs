//! `file_edit`: the arguments and the pure core.

use lakitu_kernel::limits::FILE_EDIT_BYTES_MAX;
use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closest::closest;
use super::{PATH_ALIASES, aliases};
use crate::tools::workspace::FileError;

/// Replaces a text in a file.
pub const FILE_EDIT: ToolSpec =
    ToolSpec::of::<EditArgs>("file_edit", include_str!("edit.md"), EffectClass::Verifiable, Category::File)
        .on(Subject::Path);

/// Line numbers that an error names.
const NUMBERS_MAX: usize = 10;

/// Arguments of `file_edit`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EditArgs {
    /// The file: relative to the workspace, or absolute.
    pub path: String,
    /// The exact text to replace; it must occur exactly once. Empty: a new file is created.
    pub old_string: String,
    /// What to put in its place, taken literally.
    pub new_string: String,
    /// Replace every occurrence.
    #[serde(default)]
    pub replace_all: bool,
}

/// A text and what takes its place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The exact text to replace.
    pub old_string: String,
    /// What to put in its place.
    pub new_string: String,
    /// Replace every occurrence.
    #[serde(default)]
    pub replace_all: bool,
}

/// How models call the parts of an edit.
pub(super) const EDIT_ALIASES: &[(&str, &str)] = &aliases::<_, _, 16>(
    PATH_ALIASES,
    [
        ("oldString", "old_string"),
        ("old_str", "old_string"),
        ("oldText", "old_string"),
        ("old_text", "old_string"),
        ("old_content", "old_string"),
        ("before", "old_string"),
        ("newString", "new_string"),
        ("new_str", "new_string"),
        ("newText", "new_string"),
        ("new_text", "new_string"),
        ("new_content", "new_string"),
        ("after", "new_string"),
        ("replaceAll", "replace_all"),
    ],
);

impl Arguments for EditArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = EDIT_ALIASES;

    fn check(&self) -> Result<(), String> {
        if same(&self.replace()) {
            return Err("old_string and new_string are the same; there is nothing to change".to_owned());
        }
        Ok(())
    }
}

impl EditArgs {
    pub(super) fn replace(&self) -> Replace {
        let Self { path: _, old_string, new_string, replace_all } = self.clone();
        Replace { old_string, new_string, replace_all }
    }
}

/// Whether it would change nothing.
pub(super) fn same(replace: &Replace) -> bool {
    replace.old_string == replace.new_string
}

/// What stands in the file afterwards. `before` is none where there is no file. Bytes outside the replaced text stay
/// as they are: a file need not be UTF-8.
pub(super) fn edit(before: Option<&[u8]>, args: &Replace, shown: &str) -> Result<Vec<u8>, FileError> {
    let before = before.unwrap_or_default();
    if args.old_string.is_empty() {
        if !before.is_empty() {
            return Err(FileError::Mismatch(format!(
                "old_string is empty, which only creates a file, and {shown} exists; give the text to replace, or use \
                 file_write to replace all of it"
            )));
        }
        return sized(args.new_string.len(), shown).map(|()| args.new_string.clone().into_bytes());
    }
    let (old, new) = with_line_ends_of(before, args);
    let mut found = occurrences(before, &old);
    if found.is_empty() {
        return Err(FileError::Mismatch(closest(before, &args.old_string, "old_string", shown)));
    }
    if found.len() > 1 && !args.replace_all {
        return Err(FileError::Mismatch(ambiguous(before, &found)));
    }
    // Of occurrences that overlap the first is replaced.
    let mut free = 0;
    found.retain(|at| {
        let keep = *at >= free;
        if keep {
            free = at + old.len();
        }
        keep
    });
    sized((before.len() - found.len() * old.len()).saturating_add(found.len().saturating_mul(new.len())), shown)?;
    let mut after = Vec::new();
    let mut from = 0;
    for at in found {
        after.extend_from_slice(before.get(from..at).unwrap_or_default());
        after.extend_from_slice(&new);
        from = at + old.len();
    }
    after.extend_from_slice(before.get(from..).unwrap_or_default());
    Ok(after)
}

/// Refuses what no tool could edit again.
pub(super) fn sized(bytes: usize, shown: &str) -> Result<(), FileError> {
    if bytes as u64 <= FILE_EDIT_BYTES_MAX {
        return Ok(());
    }
    Err(FileError::TooLarge {
        path: format!("{shown} afterwards"),
        bytes: bytes as u64,
        max: FILE_EDIT_BYTES_MAX,
        way_out: "; write less, or make it with bash",
    })
}

/// Both texts as they would stand in the file. Models write LF; where only the CRLF form of `old_string` occurs, that is
/// meant, and what replaces it gets the same line ends.
fn with_line_ends_of(before: &[u8], args: &Replace) -> (Vec<u8>, Vec<u8>) {
    let (old, new) = (args.old_string.as_bytes(), args.new_string.as_bytes());
    if old.contains(&b'\n') && !args.old_string.contains("\r\n") && occurrences(before, old).is_empty() {
        let crlf = args.old_string.replace('\n', "\r\n").into_bytes();
        if !occurrences(before, &crlf).is_empty() {
            return (crlf, args.new_string.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes());
        }
    }
    (old.to_vec(), new.to_vec())
}

fn ambiguous(before: &[u8], found: &[usize]) -> String {
    let mut numbers = Vec::new();
    let (mut line, mut from) = (1, 0);
    for at in found.iter().take(NUMBERS_MAX) {
        line += before.get(from..*at).unwrap_or_default().split(|byte| *byte == b'\n').count() - 1;
        from = *at;
        numbers.push(line.to_string());
    }
    let last = if found.len() > NUMBERS_MAX {
        format!("{} more places", found.len() - NUMBERS_MAX)
    } else {
        numbers.pop().unwrap_or_default()
    };
    format!(
        "old_string occurs {} times, at lines {} and {last}; give more of the lines around the one you mean, or set \
         replace_all",
        found.len(),
        numbers.join(", "),
    )
}

/// Every place where `needle` begins, overlapping ones too. Knuth, Morris and Pratt: linear, whatever the texts are.
fn occurrences(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    if needle.is_empty() || needle.len() > haystack.len() {
        return found;
    }
    let advance = |borders: &[usize], mut matched: usize, byte: u8| {
        while matched > 0 && needle.get(matched) != Some(&byte) {
            matched = borders.get(matched - 1).copied().unwrap_or(0);
        }
        if needle.get(matched) == Some(&byte) { matched + 1 } else { matched }
    };
    let mut borders = vec![0];
    for byte in needle.iter().skip(1) {
        let next = advance(&borders, borders.last().copied().unwrap_or(0), *byte);
        borders.push(next);
    }
    let mut matched = 0;
    for (at, byte) in haystack.iter().enumerate() {
        matched = advance(&borders, matched, *byte);
        if matched == needle.len() {
            found.push(at + 1 - matched);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args(old: &str, new: &str, all: bool) -> Replace {
        Replace { old_string: old.into(), new_string: new.into(), replace_all: all }
    }

    fn told(before: &str, old: &str, new: &str, all: bool) -> String {
        match edit(Some(before.as_bytes()), &args(old, new, all), "f") {
            Ok(after) => String::from_utf8(after).unwrap(),
            Err(error) => lakitu_kernel::error::ToolError::from(error).to_string(),
        }
    }

    #[test]
    fn a_text_that_occurs_once_is_replaced_literally() {
        for new in ["$&", "$1", "\\0", "\0", "${x}", "", "a\r\nb"] {
            assert_eq!(told("one two three", "two", new, false), format!("one {new} three"));
        }
        assert_eq!(told("aXbXc", "X", "--", true), "a--b--c");
        assert_eq!(told("aaaa", "aa", "b", true), "bb");
    }

    #[test]
    fn a_text_that_occurs_more_than_once_is_refused_with_its_lines() {
        let start = "EDIT_MISMATCH: old_string occurs 2 times, at lines 3 and 9; ";
        assert!(told("1\n2\nx\n4\n5\n6\n7\n8\nx", "x", "y", false).starts_with(start));
        // Overlapping places are as little unique as others.
        assert!(told("aaa", "aa", "b", false).contains("occurs 2 times, at lines 1 and 1;"));
        assert!(told(&"x\n".repeat(12), "x", "y", false).contains("9, 10 and 2 more places;"));
    }

    #[test]
    fn line_ends_follow_the_file_where_only_they_keep_the_text_from_matching() {
        assert_eq!(told("a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", false), "x\r\ny\r\nz\r\nc\r\n");
        assert_eq!(told("a\r\nb\nc\nd", "b\nc", "x\ny", false), "a\r\nx\ny\nd");
        assert_eq!(told("a\r\nb", "a\r\nb", "x\ny", false), "x\ny");
        assert!(told("a\r\nb\r\na\r\nb", "a\nb", "c", false).contains("2 times, at lines 1 and 3"));
    }

    #[test]
    fn an_empty_old_string_only_creates() {
        assert_eq!(edit(None, &args("", "new", false), "f").unwrap(), b"new");
        assert_eq!(told("", "", "new", false), "new");
        assert!(told("x", "", "new", false).starts_with("EDIT_MISMATCH: old_string is empty"));
    }

    #[test]
    fn what_an_edit_makes_is_bounded_before_it_is_made() {
        let mebi = usize::try_from(FILE_EDIT_BYTES_MAX).unwrap();
        assert_eq!(told("x", "x", &"y".repeat(mebi), false).len(), mebi);
        assert!(told("x", "x", &"y".repeat(mebi + 1), false).starts_with("FILE_TOO_LARGE"));
        assert!(told(&"x".repeat(mebi), "x", &"y".repeat(mebi), true).starts_with("FILE_TOO_LARGE"));
    }

    #[test]
    fn the_same_text_twice_is_refused_before_anything_runs() {
        let error = FILE_EDIT.check(r#"{"filePath":"f","oldString":"a","newText":"a"}"#).unwrap_err();
        assert!(error.to_string().starts_with("INVALID_ARGUMENTS: old_string and new_string are the same"));
    }

    proptest! {
        #[test]
        fn bytes_outside_the_edit_never_change(
            prefix in prop::collection::vec(any::<u8>(), 0..300),
            suffix in prop::collection::vec(any::<u8>(), 0..300),
            old in "[a-z\u{e9}$\\\\\r\n ]{1,12}",
            new in "(\\$&|\\$1|\\\\0|[a-z\u{e9}\r\n ]){0,12}",
        ) {
            prop_assume!(old != new);
            let before = [prefix.as_slice(), old.as_bytes(), &suffix].concat();
            let expected = [prefix.as_slice(), new.as_bytes(), &suffix].concat();
            match edit(Some(&before), &args(&old, &new, false), "f") {
                Ok(after) => prop_assert_eq!(after, expected),
                // The random surroundings may hold the text again.
                Err(_) => prop_assert!(occurrences(&before, old.as_bytes()).len() > 1),
            }
        }

        #[test]
        fn occurrences_are_those_of_a_plain_search(
            haystack in prop::collection::vec(prop::sample::select(b"ab".as_slice()), 0..60),
            needle in prop::collection::vec(prop::sample::select(b"ab".as_slice()), 1..6),
        ) {
            let plain: Vec<_> =
                haystack.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(at, _)| at).collect();
            prop_assert_eq!(occurrences(&haystack, &needle), plain);
        }
    }
}
