//! Secrets, which print as `***`, and where they come from.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

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

    /// A text that may quote this secret, without it.
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }
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
    /// It stands in a file and is replaced there by temp and rename. It is read for each request: a file of this size is
    /// read faster than one could find out safely whether it changed.
    File(PathBuf),
}

impl TokenSource {
    /// The token as it is now. The error says what is wrong with the file, never what stands in it.
    pub fn read(&self) -> Result<Option<Secret>, String> {
        match self {
            Self::None => Ok(None),
            Self::Value(secret) => Ok(Some(secret.clone())),
            Self::File(path) => read(path).map(Some),
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
    fn a_token_file_is_read_anew_and_refused_without_being_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File(path.clone());
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
        assert!(TokenSource::File(folder.path().into()).read().unwrap_err().contains("not a file"));
    }
}
