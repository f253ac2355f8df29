//! What a thread made for somebody: named files, each saving of which is a version that stays.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Hash;
use crate::limits::ARTIFACT_NAME_BYTES_MAX;

/// One version of an artifact, as its event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its name, which is a file's name. Another thread may have one of that name too.
    pub name: String,
    /// Counts what was saved under that name, from 1.
    pub version: u32,
    /// What it is, as a MIME type.
    #[serde(rename = "type")]
    pub mime: String,
    /// Of its content, which is a blob.
    pub hash: Hash,
    /// Of its content.
    pub bytes: u64,
    /// Where it was put, for those who look into files. The next version takes its place there.
    pub path: PathBuf,
    /// What whoever saved it has to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// Why a name can be no artifact's; none: it can. A name is one part of a path, visible, and not too long for a file.
pub fn wrong_name(name: &str) -> Option<String> {
    let why = if name.trim().is_empty() {
        "is empty; give a file's name, such as report.md".to_owned()
    } else if name.len() > ARTIFACT_NAME_BYTES_MAX {
        format!("has {} bytes, of at most {ARTIFACT_NAME_BYTES_MAX}; give a shorter one", name.len())
    } else if name.contains(['/', '\\']) {
        "names directories; give a file's name alone, such as report.md".to_owned()
    } else if name.starts_with('.') {
        "begins with a dot; give one that is shown in listings".to_owned()
    } else if name.chars().any(char::is_control) {
        "has control characters in it; give a plain one".to_owned()
    } else {
        return None;
    };
    Some(format!("the name {why}"))
}

/// MIME types by the ends of names that agents give.
const TYPES: [(&str, &str); 26] = [
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("diff", "text/x-diff"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("md", "text/markdown"),
    ("mp4", "video/mp4"),
    ("patch", "text/x-diff"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("toml", "application/toml"),
    ("txt", "text/plain"),
    ("webp", "image/webp"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("zip", "application/zip"),
];

/// How contents begin whose kind can be told from that.
const BEGINNINGS: [(&[u8], &str); 6] = [
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
];

/// What a content is, by its name; where that says nothing, by its bytes.
pub fn mime_of(name: &str, content: &[u8]) -> &'static str {
    let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
    let by_name = end.and_then(|end| TYPES.iter().find(|(known, _)| *known == end));
    let by_content = || BEGINNINGS.iter().find(|(beginning, _)| content.starts_with(beginning)).map(|(_, mime)| *mime);
    let text = || if std::str::from_utf8(content).is_ok() { "text/plain" } else { "application/octet-stream" };
    by_name.map(|(_, mime)| *mime).or_else(by_content).unwrap_or_else(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_part_of_a_path() {
        for good in ["report.md", "Über uns.pdf", "a", &"x".repeat(ARTIFACT_NAME_BYTES_MAX)] {
            assert_eq!(wrong_name(good), None, "{good}");
        }
        let long = "x".repeat(ARTIFACT_NAME_BYTES_MAX + 1);
        for wrong in ["", " ", ".", "..", "../x", "a/b", "/a", "a\\b", ".hidden", "a\nb", "a\0b", "a\u{1b}[m", &long] {
            assert!(wrong_name(wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn a_type_is_told_by_the_name_and_else_by_the_content() {
        let told = [
            ("report.md", b"x".as_slice(), "text/markdown"),
            ("PAGE.HTML", b"x", "text/html"),
            ("paper", b"%PDF-1.7", "application/pdf"),
            ("shot", b"\x89PNG\r\n\x1a\n..", "image/png"),
            ("notes", b"words", "text/plain"),
            ("notes", b"", "text/plain"),
            ("core.bin", b"\xff\xfe\x00", "application/octet-stream"),
        ];
        for (name, content, mime) in told {
            assert_eq!(mime_of(name, content), mime, "{name}");
        }
        assert!(TYPES.is_sorted());
    }
}
