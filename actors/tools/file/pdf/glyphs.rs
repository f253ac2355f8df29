//! The names that fonts give to their characters.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Names as fonts use them, sorted, each with its characters behind a space.
static NAMES: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| include_str!("glyphs.txt").lines().filter_map(|line| line.split_once(' ')).collect());

/// What a name stands for.
pub(super) fn characters(name: &str) -> Option<String> {
    // What stands behind a full stop is only another form of it.
    let name = name.split('.').next().filter(|name| !name.is_empty())?;
    if let Some(known) = NAMES.get(name) {
        return Some((*known).to_owned());
    }
    if let Some((first, rest)) = name.split_once('_') {
        // Several characters in one form.
        return Some(characters(first)? + &characters(rest)?);
    }
    let number = name.strip_prefix("uni").or_else(|| name.strip_prefix('u')).filter(|digits| digits.len() >= 4)?;
    let code = u32::from_str_radix(number, 16).ok()?;
    char::from_u32(code).map(String::from)
}

/// The standard encoding's upper half, and where its lower half is not ASCII.
const STANDARD: [(u8, &str); 57] = [
    (39, "quoteright"),
    (96, "quoteleft"),
    (161, "exclamdown"),
    (162, "cent"),
    (163, "sterling"),
    (164, "fraction"),
    (165, "yen"),
    (166, "florin"),
    (167, "section"),
    (168, "currency"),
    (169, "quotesingle"),
    (170, "quotedblleft"),
    (171, "guillemotleft"),
    (172, "guilsinglleft"),
    (173, "guilsinglright"),
    (174, "fi"),
    (175, "fl"),
    (177, "endash"),
    (178, "dagger"),
    (179, "daggerdbl"),
    (180, "periodcentered"),
    (182, "paragraph"),
    (183, "bullet"),
    (184, "quotesinglbase"),
    (185, "quotedblbase"),
    (186, "quotedblright"),
    (187, "guillemotright"),
    (188, "ellipsis"),
    (189, "perthousand"),
    (191, "questiondown"),
    (193, "grave"),
    (194, "acute"),
    (195, "circumflex"),
    (196, "tilde"),
    (197, "macron"),
    (198, "breve"),
    (199, "dotaccent"),
    (200, "dieresis"),
    (202, "ring"),
    (203, "cedilla"),
    (205, "hungarumlaut"),
    (206, "ogonek"),
    (207, "caron"),
    (208, "emdash"),
    (225, "AE"),
    (227, "ordfeminine"),
    (232, "Lslash"),
    (233, "Oslash"),
    (234, "OE"),
    (235, "ordmasculine"),
    (241, "ae"),
    (245, "dotlessi"),
    (248, "lslash"),
    (249, "oslash"),
    (250, "oe"),
    (251, "germandbls"),
    (32, "space"),
];

/// A character of the standard encoding.
pub(super) fn standard(code: u8) -> Option<String> {
    match STANDARD.iter().find(|(known, _)| *known == code) {
        Some((_, name)) => characters(name),
        None => (0x20..0x7f).contains(&code).then(|| char::from(code).to_string()),
    }
}
