//! What kind of content an artifact is: as its name says, where its bytes agree, and else as its bytes say.

/// What a type's bytes look like.
#[derive(Clone, Copy)]
enum Looks {
    /// Text in UTF-8.
    Text,
    /// They begin so.
    As(&'static [&'static [u8]]),
}

const ZIP: Looks = Looks::As(&[b"PK\x03\x04", b"PK\x05\x06"]);
const OLE: Looks = Looks::As(&[b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"]);
const PNG: Looks = Looks::As(&[b"\x89PNG\r\n\x1a\n"]);
const JPEG: Looks = Looks::As(&[b"\xff\xd8\xff"]);
const GIF: Looks = Looks::As(&[b"GIF87a", b"GIF89a"]);
const PDF: Looks = Looks::As(&[b"%PDF-"]);
const GZIP: Looks = Looks::As(&[b"\x1f\x8b"]);

/// Types by the last extension of a name. Of source code and the like, `text/plain` is what every reader shows.
const BY_EXTENSION: &[(&[&str], &str, Looks)] = &[
    (&["md", "markdown"], "text/markdown", Looks::Text),
    (&["txt", "text", "log"], "text/plain", Looks::Text),
    (&["html", "htm"], "text/html", Looks::Text),
    (&["css"], "text/css", Looks::Text),
    (&["csv"], "text/csv", Looks::Text),
    (&["tsv"], "text/tab-separated-values", Looks::Text),
    (&["js", "mjs"], "text/javascript", Looks::Text),
    (&["json", "map"], "application/json", Looks::Text),
    (&["jsonl", "ndjson"], "application/x-ndjson", Looks::Text),
    (&["yaml", "yml"], "application/yaml", Looks::Text),
    (&["toml"], "application/toml", Looks::Text),
    (&["xml", "xsd"], "application/xml", Looks::Text),
    (&["sql"], "application/sql", Looks::Text),
    (&["svg"], "image/svg+xml", Looks::Text),
    (&["diff", "patch"], "text/x-diff", Looks::Text),
    (&["png"], "image/png", PNG),
    (&["jpg", "jpeg"], "image/jpeg", JPEG),
    (&["gif"], "image/gif", GIF),
    (&["webp"], "image/webp", Looks::As(&[b"RIFF"])),
    (&["pdf"], "application/pdf", PDF),
    (&["zip"], "application/zip", ZIP),
    (&["gz", "tgz"], "application/gzip", GZIP),
    (&["xz"], "application/x-xz", Looks::As(&[b"\xfd7zXZ\0"])),
    (&["zst"], "application/zstd", Looks::As(&[b"\x28\xb5\x2f\xfd"])),
    (&["docx"], "application/vnd.openxmlformats-officedocument.wordprocessingml.document", ZIP),
    (&["xlsx"], "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ZIP),
    (&["pptx"], "application/vnd.openxmlformats-officedocument.presentationml.presentation", ZIP),
    (&["odt"], "application/vnd.oasis.opendocument.text", ZIP),
    (&["epub"], "application/epub+zip", ZIP),
    (&["doc"], "application/msword", OLE),
    (&["xls"], "application/vnd.ms-excel", OLE),
    (&["wasm"], "application/wasm", Looks::As(&[b"\0asm"])),
    (&["sqlite", "db"], "application/vnd.sqlite3", Looks::As(&[b"SQLite format 3\0"])),
    (&["mp3"], "audio/mpeg", Looks::As(&[b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"])),
    (&["wav"], "audio/wav", Looks::As(&[b"RIFF"])),
    (&["ogg", "oga"], "audio/ogg", Looks::As(&[b"OggS"])),
    (&["woff2"], "font/woff2", Looks::As(&[b"wOF2"])),
];

/// What is known by its first bytes alone. What other types are packed in is last.
const BY_CONTENT: &[(Looks, &str)] = &[
    (PNG, "image/png"),
    (JPEG, "image/jpeg"),
    (GIF, "image/gif"),
    (PDF, "application/pdf"),
    (GZIP, "application/gzip"),
    (ZIP, "application/zip"),
];

/// What models call types by, for short.
const SHORT: &[(&str, &str)] = &[
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("text", "text/plain"),
    ("plain", "text/plain"),
    ("json", "application/json"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("pdf", "application/pdf"),
];

/// A type, in bytes.
const TYPE_BYTES_MAX: usize = 127;

impl Looks {
    fn fit(self, bytes: &[u8]) -> bool {
        match self {
            Self::Text => is_text(bytes),
            Self::As(beginnings) => beginnings.iter().any(|beginning| bytes.starts_with(beginning)),
        }
    }
}

/// Whether these bytes are text that can be shown.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
}

/// The type of what has this name and these bytes.
pub(super) fn of(name: &str, bytes: &[u8]) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    let named = BY_EXTENSION.iter().find(|(extensions, ..)| extensions.contains(&extension.as_str()));
    if let Some((_, media_type, looks)) = named
        && looks.fit(bytes)
    {
        return media_type;
    }
    match BY_CONTENT.iter().find(|(looks, _)| looks.fit(bytes)) {
        Some((_, media_type)) => media_type,
        None if is_text(bytes) => "text/plain",
        None => "application/octet-stream",
    }
}

/// A type that somebody gave, as it is kept: `type/subtype`, parameters behind it; or one of the short names.
pub(super) fn given(text: &str) -> Result<String, String> {
    if let Some((_, long)) = SHORT.iter().find(|(short, _)| short.eq_ignore_ascii_case(text)) {
        return Ok((*long).to_owned());
    }
    let (essence, parameters) = text.split_once(';').map_or((text, None), |(essence, rest)| (essence, Some(rest)));
    let is_token = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let whole = essence.trim().split_once('/').is_some_and(|(top, sub)| is_token(top) && is_token(sub));
    let plain = parameters.is_none_or(|text| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    if !whole || !plain || text.len() > TYPE_BYTES_MAX {
        let shown: String = text.chars().take(40).collect();
        return Err(format!("type {shown:?} is none; give one such as text/markdown or application/json, or leave it out"));
    }
    let essence = essence.trim().to_ascii_lowercase();
    Ok(parameters.map_or(essence.clone(), |rest| format!("{essence};{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_what_name_and_bytes_agree_on_and_else_what_the_bytes_say() {
        let text = b"# A title\n".as_slice();
        let rows: [(&str, &[u8], &str); 28] = [
            ("report.md", text, "text/markdown"),
            ("REPORT.MD", text, "text/markdown"),
            ("archive.tar.gz", b"\x1f\x8b\x08", "application/gzip"),
            ("notes", text, "text/plain"),
            ("notes.unheard-of", text, "text/plain"),
            (".md", text, "text/markdown"),
            ("md", text, "text/plain"),
            ("main.rs", b"fn main() {}\n", "text/plain"),
            ("data.json", b"{}", "application/json"),
            ("rows.jsonl", b"{}\n", "application/x-ndjson"),
            ("page.html", b"<p>", "text/html"),
            ("table.csv", b"a,b\n", "text/csv"),
            ("picture.svg", b"<svg/>", "image/svg+xml"),
            ("picture.png", b"\x89PNG\r\n\x1a\n....", "image/png"),
            ("paper.pdf", b"%PDF-1.7\n%\xff", "application/pdf"),
            ("sheet.xlsx", b"PK\x03\x04\x14\0", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            // Names that the bytes contradict.
            ("report.md", b"\x89PNG\r\n\x1a\n....", "image/png"),
            ("report.md", b"a\0b", "application/octet-stream"),
            ("report.md", b"\xff\xfe", "application/octet-stream"),
            ("picture.png", text, "text/plain"),
            ("picture.png", b"\xff\xd8\xff\xe0", "image/jpeg"),
            ("sheet.xlsx", b"\0\x01", "application/octet-stream"),
            ("bundle.bin", b"PK\x03\x04", "application/zip"),
            ("anim.dat", b"GIF89a...", "image/gif"),
            ("scan", b"%PDF-1.4", "application/pdf"),
            // Nothing is text.
            ("report.md", b"", "text/markdown"),
            ("picture.png", b"", "text/plain"),
            ("nothing", b"", "text/plain"),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(of(name, bytes), expected, "{name} {bytes:?}");
        }
    }

    #[test]
    fn a_type_that_is_given_is_a_type_or_a_short_name() {
        for (text, kept) in [
            ("text/markdown", "text/markdown"),
            ("Markdown", "text/markdown"),
            ("json", "application/json"),
            ("Image/PNG", "image/png"),
            ("text/html; charset=utf-8", "text/html; charset=utf-8"),
            ("application/vnd.x+json", "application/vnd.x+json"),
        ] {
            assert_eq!(given(text).as_deref(), Ok(kept));
        }
        let long = format!("text/{}", "x".repeat(123));
        let huge = "x".repeat(1024 * 1024);
        for wrong in ["", "texts", "text/", "/plain", "a/b/c", "te xt/plain", "text/plain\r\nX: y", "text/plain; a=\n", "a/é", &long, &huge] {
            assert!(given(wrong).unwrap_err().len() < 200, "{wrong:.40}");
        }
        assert!(given(&long[..127]).is_ok());
    }
}
