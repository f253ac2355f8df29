//! Secrets, which print as `***`, and where they come from.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::token_file::TokenFile;
use super::watch::Watch;

/// A token in a file: 8 KiB.
pub const TOKEN_BYTES_MAX: u64 = 8 * 1024;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text in, without the white space around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text that may quote this secret, without it: as it is, in base64 (alone or within something longer), in hex and
    /// percent-encoded.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.redactor().redact(&mut text);
        text
    }

    /// The same for many texts.
    pub fn redactor(&self) -> Redactor {
        Redactor { forms: self.forms(), plain: self.0.clone() }
    }

    /// A watch for it over what passes piece by piece.
    pub fn watch(&self) -> Watch {
        Watch::over(&self.0)
    }

    /// How it may stand in a text, longest first, so that no form leaves the rest of a longer one behind.
    fn forms(&self) -> Vec<String> {
        let bytes = self.0.as_bytes();
        if bytes.is_empty() {
            return Vec::new();
        }
        let hex = hex(bytes);
        let mut forms = vec![self.0.clone(), hex.to_uppercase(), hex];
        for kept in ["", "-_.~", "-_.~!*'()"] {
            forms.extend([percent(bytes, kept, false), percent(bytes, kept, true)]);
        }
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let whole = engine.encode(bytes);
            // Padding is only part of a form where there is some.
            forms.extend((1..=(4 - whole.len() % 4) % 4).map(|count| whole.clone() + &"=".repeat(count)));
            forms.push(whole);
            if bytes.len() >= WITHIN_BYTES_MIN {
                forms.extend((0..3).map(|offset| within(&engine, bytes, offset)));
            }
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        forms
    }
}

/// Takes a secret out of texts; without one it does nothing.
#[derive(Clone, Default)]
pub struct Redactor {
    forms: Vec<String>,
    /// The secret as it is.
    plain: String,
}

impl Redactor {
    /// Puts stars in the place of every form of the secret. What is not there costs no copy.
    pub fn redact(&self, text: &mut String) {
        for form in &self.forms {
            if text.contains(form.as_str()) {
                *text = text.replace(form.as_str(), STARS);
            }
        }
    }
}

impl Redactor {
    /// The same for what a model says. A word that stands in a key's place (`none`, `ollama`) is no secret, and answers
    /// are full of such words: a secret of fewer than [`SECRET_BYTES_MIN`] bytes is let through.
    #[must_use]
    pub fn for_answers(self) -> Self {
        if self.plain.len() < SECRET_BYTES_MIN { Self::default() } else { self }
    }

    /// Whether the secret stands in this text in any form.
    pub fn finds(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }

    /// How many bytes at the end of this text may be the beginning of the secret.
    pub fn may_begin_in(&self, text: &str) -> usize {
        begun(text.as_bytes(), self.plain.as_bytes())
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(STARS)
    }
}

/// A shorter key is a word that stands in a key's place, and that answers are made of.
pub(super) const SECRET_BYTES_MIN: usize = 16;
const STARS: &str = "***";
/// A shorter secret is not looked for inside base64 of something longer: what would be looked for is too common.
const WITHIN_BYTES_MIN: usize = 8;

/// How many bytes at the end of what came may be the beginning of a secret: they wait for what comes next.
pub(super) fn begun(came: &[u8], secret: &[u8]) -> usize {
    let most = secret.len().saturating_sub(1).min(came.len());
    (1..=most).rev().find(|count| came.ends_with(&secret[..*count])).unwrap_or(0)
}

/// The characters of base64 that this text alone decides, wherever it begins.
fn within(engine: &impl base64::Engine, bytes: &[u8], offset: usize) -> String {
    let text = engine.encode([&[0; 2][..offset], bytes].concat());
    let first = (offset * 8).div_ceil(6);
    text[first..(offset + bytes.len()) * 8 / 6].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn percent(bytes: &[u8], kept: &str, lower: bool) -> String {
    let shown = |&byte: &u8| match char::from(byte) {
        char if char.is_ascii_alphanumeric() || kept.contains(char) => char.to_string(),
        _ if lower => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(shown).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Where the token for the gateway comes from.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// None is sent.
    None,
    /// It stays the same.
    Value(Secret),
    /// It stands in a file and may be replaced there. It is read for each request: a file of this size is read faster than
    /// one could find out safely whether it changed.
    File(TokenFile),
}

impl TokenSource {
    /// The token as it is now. The error says what is wrong with the file, never what stands in it.
    pub fn read(&self) -> Result<Option<Secret>, String> {
        match self {
            Self::None => Ok(None),
            Self::Value(secret) => Ok(Some(secret.clone())),
            Self::File(file) => read(file.path()).map(Some),
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let wrong = |what: &dyn fmt::Display| format!("the token file {} {what}", path.display());
    // Looked at first: a pipe would block whoever opens it.
    let metadata = std::fs::metadata(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if !metadata.is_file() {
        return Err(wrong(&"is not a file"));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if text.len() as u64 > TOKEN_BYTES_MAX {
        return Err(wrong(&format!("is over {TOKEN_BYTES_MAX} bytes")));
    }
    let secret = Secret::new(&text);
    if secret.0.is_empty() {
        return Err(wrong(&"is empty"));
    }
    if !secret.0.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(&"holds something that cannot be sent in a header"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars_wherever_it_is_held() {
        let secret = Secret::new(" s3cret\n");
        assert_eq!(format!("{secret:?} {:?}", TokenSource::Value(secret.clone())), "*** Value(***)");
        assert_eq!((secret.expose(), secret.redact("a s3cret b").as_str()), ("s3cret", "a *** b"));
    }

    #[test]
    fn a_secret_is_found_in_every_coat() {
        let secret = Secret::new("sk-Key/with+odd=chars?~1");
        let rows = [
            ("sk-Key/with+odd=chars?~1", "***"),
            ("736b2d4b65792f776974682b6f64643d63686172733f7e31", "***"),
            ("736B2D4B65792F776974682B6F64643D63686172733F7E31", "***"),
            ("c2stS2V5L3dpdGgrb2RkPWNoYXJzP34x", "***"),
            ("sk-Key%2Fwith%2Bodd%3Dchars%3F~1", "***"),
            ("sk-Key%2fwith%2bodd%3dchars%3f~1", "***"),
            ("sk%2DKey%2Fwith%2Bodd%3Dchars%3F%7E1", "***"),
            ("sk-Key/with", "sk-Key/with"),
        ];
        for (text, expected) in rows {
            assert_eq!(secret.redact(&format!("a {text} b")), format!("a {expected} b"));
        }
    }

    #[test]
    fn base64_of_any_length_and_of_what_holds_the_secret_is_redacted() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};
        for key in ["sk-\u{3bf}\u{3bf}>>>???12", "sk-\u{3bf}\u{3bf}>>>???123", "sk-\u{3bf}\u{3bf}>>>???1234"] {
            let secret = Secret::new(key);
            for engine in [STANDARD, URL_SAFE] {
                let padded = engine.encode(key);
                assert_eq!(secret.redact(&format!("<{padded}>")), "<***>");
                assert_eq!(secret.redact(&format!("<{}>", padded.trim_end_matches('='))), "<***>");
                for before in ["", "u:", "user", "Bearer "] {
                    let told = secret.redact(&engine.encode(format!("{before}{key} and more")));
                    assert!(told.contains("***"), "{before}");
                    // What is left of it is less than a character of the secret at either end.
                    let left: usize = told.split("***").map(str::len).sum();
                    assert!(left <= (before.len() + " and more".len()).div_ceil(3) * 4 + 6, "{before} {told}");
                }
            }
        }
        assert_eq!(Secret::new("").redact("abc"), "abc");
    }

    #[test]
    fn a_token_file_is_read_anew_and_refused_without_being_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File(TokenFile::new(&path));
        assert!(source.read().unwrap_err().contains("cannot be read"));
        for (text, expected) in [("one\n", "one"), ("two", "two")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(source.read().unwrap().unwrap().expose(), expected);
        }
        let long = "x".repeat(8 * 1024);
        std::fs::write(&path, &long).unwrap();
        assert!(source.read().is_ok());
        for (text, expected) in
            [("", "empty"), ("hush\nhush", "header"), ("hush ä", "header"), (&*(long + "x"), "8192")]
        {
            std::fs::write(&path, text).unwrap();
            let error = source.read().unwrap_err();
            assert!(error.contains(expected) && !error.contains("hush"), "{error}");
        }
        assert!(TokenSource::File(TokenFile::new(folder.path())).read().unwrap_err().contains("not a file"));
    }
}
