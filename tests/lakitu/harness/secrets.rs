//! The watch over secrets: every run of the real binary is given a token, and when its directory goes, nothing in it may
//! hold that token in any form. So the whole suite is searched, whatever a test is about.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use memchr::memmem::Finder;

/// The token. It has what other forms write differently.
pub(crate) const TOKEN: &str = "lkt-canary/7f3a9c51+d2e84b60~q==";
/// A provider's key.
pub(crate) const KEY: &str = "sk-canary/0b77+4e1f9d~c3a2==";
/// Fills the disk on purpose; nothing but zeros.
const BALLAST: &str = "ballast";

/// Looks for both in every file below this directory, but where a test put them itself.
pub(crate) fn assert_none_below(directory: &Path, but: &[&Path]) {
    let finders: Vec<(String, Finder<'_>)> =
        forms().into_iter().map(|(name, form)| (name, Finder::new(&form).into_owned())).collect();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        // A process that is still ending may be removing what is listed here.
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() && entry.file_name() != BALLAST && !but.contains(&&*path) {
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert_none(&finders, &bytes, &path.display().to_string());
            }
        }
    }
}

/// Looks for both in what a process said.
pub(crate) fn assert_none_in(text: &[u8], name: &str) {
    let forms = forms();
    let finders: Vec<(String, Finder<'_>)> =
        forms.iter().map(|(name, form)| (name.clone(), Finder::new(form))).collect();
    assert_none(&finders, text, name);
}

fn assert_none(finders: &[(String, Finder<'_>)], bytes: &[u8], place: &str) {
    for (form, finder) in finders {
        assert!(finder.find(bytes).is_none(), "a secret stands in {place}: {form}");
    }
}

/// As they are, in hexadecimal, in base64 at each of its three alignments, and as in a URL.
fn forms() -> Vec<(String, Vec<u8>)> {
    let mut forms = Vec::new();
    for (name, secret) in [("the token", TOKEN), ("the key", KEY)] {
        let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let url = secret.bytes().fold(String::new(), |mut url, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                url.push(char::from(byte));
            } else {
                let _ = write!(url, "%{byte:02X}");
            }
            url
        });
        for (form, text) in
            [("as it is", secret.to_owned()), ("hex", hex.clone()), ("HEX", hex.to_uppercase()), ("URL", url)]
        {
            forms.push((format!("{name}, {form}"), text.into_bytes()));
        }
        for offset in 0..3 {
            let shifted = [&b"xx"[..offset], secret.as_bytes()].concat();
            for (form, coded) in [("base64", STANDARD.encode(&shifted)), ("base64url", URL_SAFE.encode(&shifted))] {
                // Its first and last characters also tell of what stands around it.
                let inner = &coded.as_bytes()[4..coded.len() - 8];
                forms.push((format!("{name}, {form} at {offset}"), inner.to_vec()));
            }
        }
    }
    forms
}

#[test]
fn the_watch_finds_every_form() {
    let place = tempfile::tempdir().unwrap();
    for (name, form) in forms() {
        let file = place.path().join("f");
        std::fs::write(&file, [b"{\"a\":\"", form.as_slice(), b"\"}"].concat()).unwrap();
        let found = std::panic::catch_unwind(|| assert_none_below(place.path(), &[]));
        assert!(found.is_err(), "{name}");
        assert_none_below(place.path(), &[&file]);
    }
    let around = STANDARD.encode(format!("Authorization: Bearer {TOKEN}\r\nHost: x"));
    assert!(std::panic::catch_unwind(|| assert_none_in(around.as_bytes(), "a log")).is_err());
}
