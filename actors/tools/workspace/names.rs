//! Paths as text: what is taken as a path, and how a name is shown.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use lakitu_kernel::limits::{PATH_BYTES_MAX, PATH_COMPONENT_BYTES_MAX};

use super::error::FileError;

/// How much of a path an error repeats.
const SHOWN_BYTES_MAX: usize = 300;

/// Refuses what no path can be. Nothing is expanded: `~`, `$HOME` and `%2e` are literal names.
pub(super) fn check(path: &Path) -> Result<(), FileError> {
    let bytes = path.as_os_str().as_bytes();
    let bad = |why: String| Err(FileError::BadPath(why));
    if bytes.is_empty() {
        return bad("the path is empty".to_owned());
    }
    if bytes.contains(&0) {
        return bad(format!("the path {} holds a NUL byte", shown(bytes)));
    }
    if bytes.len() > PATH_BYTES_MAX {
        return bad(format!("the path has {} bytes; at most {PATH_BYTES_MAX} are possible", bytes.len()));
    }
    if let Some(long) = bytes.split(|byte| *byte == b'/').find(|part| part.len() > PATH_COMPONENT_BYTES_MAX) {
        return bad(format!(
            "the name {} has {} bytes; at most {PATH_COMPONENT_BYTES_MAX} are possible",
            shown(long),
            long.len()
        ));
    }
    Ok(())
}

/// One step of a path below a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Up,
    Into(OsString),
}

/// The steps of a path that is taken as relative, whatever it begins with.
pub(super) fn steps(path: &Path) -> impl DoubleEndedIterator<Item = Step> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::ParentDir => Some(Step::Up),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

/// A name for the model's and a person's eyes: as it is, or quoted and escaped where it holds control characters or
/// bytes that are no UTF-8, so that two names never look the same and none reaches a terminal as a command. The empty
/// path is the root.
pub fn shown(name: &[u8]) -> String {
    if name.is_empty() {
        return ".".to_owned();
    }
    let (name, rest) = match name.get(..SHOWN_BYTES_MAX) {
        Some(head) => (head, name.len() - SHOWN_BYTES_MAX),
        None => (name, 0),
    };
    let plain = |c: char| !c.is_control() && c != '\u{fffd}' && !is_invisible(c);
    let mut text = match std::str::from_utf8(name) {
        Ok(text) if rest == 0 && text.chars().all(plain) => text.to_owned(),
        _ => escaped(name),
    };
    if rest > 0 {
        let _ = write!(text, "… (and {rest} bytes)");
    }
    text
}

/// Characters that reorder or hide what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn escaped(name: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_invisible(c) || c.is_control() || matches!(c, '"' | '\\') {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_loss_and_without_control_characters() {
        let rows: [(&[u8], &str); 7] = [
            (b"src/main.rs", "src/main.rs"),
            (b"a\\b", "a\\b"),
            (b"a\nb\t\x1b[2J", "\"a\\nb\\t\\u{1b}[2J\""),
            (b"\xff\xfe", "\"\\xff\\xfe\""),
            (b"\"\n", "\"\\\"\\n\""),
            ("e\u{202e}x".as_bytes(), "\"e\\u{202e}x\""),
            ("é".as_bytes(), "é"),
        ];
        for (name, expected) in rows {
            assert_eq!(shown(name), expected);
        }
        assert!(shown(&[b'a'; 1000]).ends_with("(and 700 bytes)"));
    }

    #[test]
    fn a_path_at_its_limits_is_taken_and_one_past_it_is_not() {
        let component = |bytes: usize| "a".repeat(bytes);
        assert!(check(Path::new(&component(255))).is_ok());
        assert!(check(Path::new(&component(256))).is_err());
        assert!(check(Path::new(&"a/".repeat(2047))).is_ok());
        assert!(check(Path::new(&format!("{}a", "a/".repeat(2047)))).is_ok());
        assert!(check(Path::new(&"a/".repeat(2048))).is_err());
        assert!(check(Path::new("")).is_err());
        assert!(check(Path::new("a\0.txt")).is_err());
    }
}
