//! What the codes in a text say, and how wide they are.

use std::collections::BTreeMap;

use hayro_cmap::{BfString, CMap};
use hayro_syntax::object::{Array, Dict, Name, Object, Stream};

use super::glyphs;

/// What stands for a character that cannot be told.
pub(super) const UNKNOWN: char = char::REPLACEMENT_CHARACTER;
/// The width of a code of which nothing is known, in thousandths of the font's size.
const WIDTH: f64 = 500.0;
/// Entries of a table of widths or names that are looked at.
const ENTRIES_MAX: usize = 70_000;
/// A range of widths is not longer than there are codes.
const CODES: u32 = 0x1_0000;

/// One code of a text.
pub(super) struct Shown {
    /// What it says; none: nobody can tell.
    pub(super) text: Option<String>,
    /// Its width in thousandths of the font's size.
    pub(super) width: f64,
    /// Whether it is the one-byte code of a space, which word spacing makes wider.
    pub(super) space: bool,
}

/// A font.
pub(super) struct Font {
    unicode: Option<CMap>,
    kind: Kind,
}

enum Kind {
    Simple { names: BTreeMap<u8, Option<String>>, base: Base, widths: BTreeMap<u32, f64>, missing: f64 },
    Composite { codes: Codes, widths: BTreeMap<u32, f64>, default: f64 },
}

#[derive(Clone, Copy)]
enum Base {
    Standard,
    WinAnsi,
    MacRoman,
}

/// How codes of two bytes become glyphs.
enum Codes {
    /// They are their numbers.
    Identity,
    /// They are UTF-16.
    Unicode,
    /// As this says.
    Map(Box<CMap>),
    /// Nobody can tell.
    Other,
}

impl Font {
    pub(super) fn of(dict: &Dict<'_>) -> Self {
        let unicode = dict.get::<Stream<'_>>("ToUnicode").and_then(|stream| cmap(&stream));
        let kind = if dict.get::<Name<'_>>("Subtype").is_some_and(|kind| kind.as_ref() == b"Type0") {
            composite(dict)
        } else {
            simple(dict)
        };
        Self { unicode, kind }
    }

    /// The codes of a text.
    pub(super) fn shown(&self, bytes: &[u8]) -> Vec<Shown> {
        match &self.kind {
            Kind::Simple { names, base, widths, missing } => bytes
                .iter()
                .map(|byte| {
                    let code = u32::from(*byte);
                    let named = || match names.get(byte) {
                        Some(name) => name.clone(),
                        None => base.character(*byte),
                    };
                    Shown {
                        text: self.unicode(code).or_else(named),
                        width: widths.get(&code).copied().unwrap_or(*missing),
                        space: *byte == b' ',
                    }
                })
                .collect(),
            Kind::Composite { codes, widths, default } => bytes
                .chunks(2)
                .map(|pair| {
                    let code = pair.iter().fold(0, |code, byte| code << 8 | u32::from(*byte));
                    let glyph = match codes {
                        Codes::Identity | Codes::Unicode | Codes::Other => Some(code),
                        Codes::Map(map) => map.lookup_cid_code(code, 2),
                    };
                    let own = || match codes {
                        Codes::Unicode => char::from_u32(code).map(String::from),
                        Codes::Identity | Codes::Map(_) | Codes::Other => None,
                    };
                    let width = glyph.and_then(|glyph| widths.get(&glyph)).copied().unwrap_or(*default);
                    Shown { text: self.unicode(code).or_else(own), width, space: false }
                })
                .collect(),
        }
    }

    fn unicode(&self, code: u32) -> Option<String> {
        match self.unicode.as_ref()?.lookup_bf_string(code)? {
            BfString::Char('\0') => None,
            BfString::Char(char) => Some(char.to_string()),
            BfString::String(text) => Some(text),
        }
    }
}

fn cmap(stream: &Stream<'_>) -> Option<CMap> {
    CMap::parse(&stream.decoded_data().ok()?, |_| None)
}

fn simple(dict: &Dict<'_>) -> Kind {
    let encoding = dict.get::<Dict<'_>>("Encoding");
    let base = dict.get::<Name<'_>>("Encoding");
    let base = base.or_else(|| encoding.as_ref().and_then(|dict| dict.get::<Name<'_>>("BaseEncoding")));
    let is_true_type = dict.get::<Name<'_>>("Subtype").is_some_and(|kind| kind.as_ref() == b"TrueType");
    let base = match base.as_ref().map(AsRef::as_ref) {
        Some(b"WinAnsiEncoding") => Base::WinAnsi,
        Some(b"MacRomanEncoding") => Base::MacRoman,
        None if is_true_type => Base::WinAnsi,
        Some(_) | None => Base::Standard,
    };
    let mut names = BTreeMap::new();
    let mut code: u32 = 0;
    let differences = encoding.and_then(|dict| dict.get::<Array<'_>>("Differences"));
    #[allow(clippy::wildcard_enum_match_arm, reason = "what is neither a number nor a name means nothing here")]
    for item in differences.iter().flat_map(Array::iter::<Object<'_>>).take(ENTRIES_MAX) {
        match item {
            Object::Number(number) => code = u32::try_from(number.as_i64()).unwrap_or(CODES),
            Object::Name(name) => {
                if let Ok(code) = u8::try_from(code) {
                    names.insert(code, glyphs::characters(name.as_str()));
                }
                code = code.saturating_add(1);
            }
            _ => {}
        }
    }
    let first = dict.get::<u32>("FirstChar").unwrap_or(0);
    let mut widths = BTreeMap::new();
    let listed = dict.get::<Array<'_>>("Widths");
    for (code, width) in (first..).zip(listed.iter().flat_map(Array::iter::<f32>)).take(256) {
        widths.insert(code, f64::from(width));
    }
    let descriptor = dict.get::<Dict<'_>>("FontDescriptor");
    let missing = descriptor.and_then(|dict| dict.get::<f32>("MissingWidth")).filter(|width| *width > 0.0);
    Kind::Simple { names, base, widths, missing: missing.map_or(WIDTH, f64::from) }
}

fn composite(dict: &Dict<'_>) -> Kind {
    let named = dict.get::<Name<'_>>("Encoding");
    let is_unicode =
        |name: &[u8]| name.starts_with(b"Uni") && name.windows(3).any(|part| part == b"UCS" || part == b"UTF");
    let codes = match named.as_ref().map(AsRef::as_ref) {
        Some(b"Identity-H" | b"Identity-V") => Codes::Identity,
        Some(name) if is_unicode(name) => Codes::Unicode,
        Some(_) => Codes::Other,
        None => {
            let map = dict.get::<Stream<'_>>("Encoding").and_then(|stream| cmap(&stream));
            map.map_or(Codes::Other, |map| Codes::Map(Box::new(map)))
        }
    };
    let descendant = dict.get::<Array<'_>>("DescendantFonts").and_then(|fonts| fonts.iter::<Dict<'_>>().next());
    let default = descendant.as_ref().and_then(|font| font.get::<f32>("DW")).map_or(1000.0, f64::from);
    let listed = descendant.as_ref().and_then(|font| font.get::<Array<'_>>("W"));
    let widths = listed.map(|listed| widths(&listed)).unwrap_or_default();
    Kind::Composite { codes, widths, default }
}

/// `first [w w …]`, or `first last w`.
fn widths(listed: &Array<'_>) -> BTreeMap<u32, f64> {
    let mut widths = BTreeMap::new();
    let mut numbers: Vec<f64> = Vec::new();
    // Ranges may name the same codes again and again.
    let mut left = ENTRIES_MAX;
    #[allow(clippy::wildcard_enum_match_arm, reason = "what is neither a number nor a list means nothing here")]
    for item in listed.iter::<Object<'_>>().take(ENTRIES_MAX) {
        match (item, numbers.as_slice()) {
            (Object::Array(each), [.., first]) => {
                for (code, width) in (code(*first)..CODES).zip(each.iter::<f32>()) {
                    widths.insert(code, f64::from(width));
                }
                numbers.clear();
            }
            (Object::Number(width), [first, last]) => {
                for code in (code(*first)..=code(*last)).take(left) {
                    widths.insert(code, width.as_f64());
                    left -= 1;
                }
                numbers.clear();
            }
            (Object::Number(number), _) => numbers.push(number.as_f64()),
            _ => numbers.clear(),
        }
    }
    widths
}

fn code(number: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "kept within the codes")]
    let code = number.clamp(0.0, f64::from(CODES)) as u32;
    code
}

impl Base {
    fn character(self, code: u8) -> Option<String> {
        let encoding = match self {
            Self::Standard => return glyphs::standard(code),
            Self::WinAnsi => encoding_rs::WINDOWS_1252,
            Self::MacRoman => encoding_rs::MACINTOSH,
        };
        let (text, _) = encoding.decode_without_bom_handling(std::slice::from_ref(&code));
        (!text.chars().any(char::is_control)).then(|| text.into_owned())
    }
}
