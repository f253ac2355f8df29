//! Names of files as text. A name on Linux is bytes, the journal and JSON hold text, so what is no UTF-8 is escaped: NUL, which
//! no name holds, and the byte in two hexadecimal digits. Any name comes back to the byte, and one that is UTF-8 stands as it is.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What stands before the two digits of a byte.
const ESCAPE: char = '\0';

/// A path as text, without loss.
pub fn text(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "{ESCAPE}{byte:02x}");
        }
    }
    text
}

/// The path that such a text stands for. What is no escape stands for itself, and then for no path that can exist.
pub fn path(text: &str) -> PathBuf {
    let mut pieces = text.split(ESCAPE);
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            bytes.extend(piece.bytes().skip(2));
        } else {
            bytes.push(0);
            bytes.extend(piece.bytes());
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_is_no_text_is_escaped_and_every_other_stands_as_it_is() {
        for (name, expected) in [
            (&b"src/main.rs"[..], "src/main.rs"),
            (b"caf\xe9.txt", "caf\0e9.txt"),
            (b"\xff/\xfe00", "\0ff/\0fe00"),
            ("caf\u{e9}\\x41%20\n".as_bytes(), "caf\u{e9}\\x41%20\n"),
        ] {
            assert_eq!(text(Path::new(OsStr::from_bytes(name))), expected);
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back_to_the_byte(name in prop::collection::vec(1_u8.., 0..40)) {
            let name = Path::new(OsStr::from_bytes(&name));
            prop_assert_eq!(path(&text(name)), name);
        }
    }
}
