//! What of an untrusted text may reach a person's terminal. Pure, streaming, of constant size.
//!
//! Kept: printable text of every script, newline and tab. Dropped: everything that a terminal would obey instead of
//! show (colours too: nobody can then paint text over or hide it), and what makes a text read otherwise than it is.
//!
//! A parser of its own instead of the `vte` crate: nothing here is obeyed, so it need not know what a sequence means,
//! only where it ends; and `vte` keeps an operating system command in memory until it ends, however long it is.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Marks that may stand on one character. Living scripts need up to four; a tower of them covers the lines around it.
const MARKS_MAX: u8 = 4;

/// Where in a control sequence the text before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In none.
    Text,
    /// After ESC and perhaps its intermediates.
    Escape,
    /// In a control sequence (CSI).
    Control,
    /// In an operating system command (OSC): BEL ends it too, and so does a newline, which none contains.
    Command,
    /// In a device control, application, privacy or start-of-string sequence. Sixel graphics hold newlines.
    Opaque,
}

/// Lets through what is safe to show. Its state survives the boundaries of the pieces that a text comes in.
#[derive(Debug, Clone)]
pub struct Filter {
    state: State,
    /// Marks on the last visible character.
    marks: u8,
    /// Whether a joiner may follow: after a character of a script (or an emoji) that uses them.
    joins: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter {
    /// At the beginning of a text.
    pub fn new() -> Self {
        // A mark needs a character of this same text under it, or it would stand on whatever was printed before.
        Self { state: State::Text, marks: MARKS_MAX, joins: false }
    }

    /// Appends to `out` what may be shown of the text's next piece.
    pub fn push(&mut self, text: &str, out: &mut String) {
        out.reserve(text.len().min(64 * 1024));
        for char in text.chars() {
            self.char(char, out);
        }
    }

    fn char(&mut self, char: char, out: &mut String) {
        match char {
            '\u{1b}' => self.state = State::Escape,
            // CAN and SUB end every sequence.
            '\u{18}' | '\u{1a}' => self.state = State::Text,
            _ => match self.state {
                State::Text => self.text(char, out),
                State::Escape => self.escape(char, out),
                State::Control => self.control(char, out),
                State::Command if matches!(char, '\u{7}' | '\u{9c}') => self.state = State::Text,
                State::Command if char == '\n' => self.resume(char, out),
                State::Opaque if char == '\u{9c}' => self.state = State::Text,
                State::Command | State::Opaque => {}
            },
        }
    }

    fn escape(&mut self, char: char, out: &mut String) {
        match char {
            '[' => self.state = State::Control,
            ']' => self.state = State::Command,
            'P' | 'X' | '^' | '_' => self.state = State::Opaque,
            ' '..='/' => {}
            '0'..='~' => self.state = State::Text,
            _ => self.resume(char, out),
        }
    }

    fn control(&mut self, char: char, out: &mut String) {
        match char {
            ' '..='?' => {}
            '@'..='~' => self.state = State::Text,
            _ => self.resume(char, out),
        }
    }

    /// The sequence is broken off by something that is no part of one.
    fn resume(&mut self, char: char, out: &mut String) {
        self.state = State::Text;
        self.text(char, out);
    }

    fn text(&mut self, char: char, out: &mut String) {
        match char {
            '\n' | '\t' => {
                (self.marks, self.joins) = (MARKS_MAX, false);
                out.push(char);
            }
            '\u{9b}' => self.state = State::Control,
            '\u{9d}' => self.state = State::Command,
            '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => self.state = State::Opaque,
            // Emoji and several scripts need joiners, one at a time; anywhere else they only hide something.
            '\u{200c}' | '\u{200d}' => {
                if std::mem::take(&mut self.joins) {
                    out.push(char);
                }
            }
            _ if char.is_control() || deceives(char) => {}
            _ if char.width() == Some(0) => {
                if self.marks < MARKS_MAX {
                    self.marks += 1;
                    out.push(char);
                }
            }
            _ => {
                self.marks = 0;
                self.joins = char >= '\u{590}';
                out.push(char);
            }
        }
    }
}

/// Whether a character has no look of its own and changes how others read, or carries what nobody sees.
fn deceives(char: char) -> bool {
    matches!(char,
        // Soft hyphen, Arabic letter mark, Hangul fillers, Khmer inherent vowels, Mongolian separator.
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        // Zero-width space, direction marks; line and paragraph separator, embeddings and overrides.
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        // Word joiner, invisible operators, isolates, deprecated controls.
        | '\u{2060}'..='\u{206f}'
        // Byte order mark, interlinear annotations.
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        // Shorthand and musical format controls.
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Tags, and the supplementary variation selectors: both can carry a whole hidden text.
        | '\u{e0000}'..='\u{e0fff}')
}

/// A text as it may stand inside one line: filtered, newlines visible, tabs spaces.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    Filter::new().push(text, &mut shown);
    Cow::Owned(shown.replace('\n', "↵").replace('\t', " "))
}

/// JSON in which everything that [`Filter`] would drop is escaped: it means the same, and is safe to look at.
pub fn json_line(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    let plain = serde_json::to_string(value)?;
    if plain.is_ascii() && !plain.contains('\u{7f}') {
        return Ok(plain);
    }
    let mut line = String::with_capacity(plain.len() + plain.len() / 8);
    for char in plain.chars() {
        if char.is_control() || deceives(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(char);
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        Filter::new().push(text, &mut out);
        out
    }

    #[test]
    fn of_every_known_trick_only_the_text_is_left() {
        let rows = [
            ("G01 clipboard", "a\u{1b}]52;c;ZXZpbA==\u{7}b", "ab"),
            ("G02 title", "a\u{1b}]0;owned\u{1b}\\b", "ab"),
            ("G03 status report", "a\u{1b}[6nb", "ab"),
            ("G04 colour query", "a\u{1b}]11;?\u{7}b", "ab"),
            ("G05 attributes, settings", "a\u{1b}[c\u{1b}[>0c\u{1b}P$qm\u{1b}\\b\u{1b}Zc", "abc"),
            ("G06 clear and home", "a\u{1b}[2J\u{1b}[Hb\u{1b}cc", "abc"),
            ("G07 alternate screen", "a\u{1b}[?1049hb", "ab"),
            ("G08 link", "\u{1b}]8;;file:///etc/passwd\u{1b}\\click\u{1b}]8;;\u{1b}\\", "click"),
            ("G09 8-bit controls", "a\u{9b}2Jb\u{9d}0;t\u{9c}c\u{90}q\u{9c}d\u{85}e\u{84}", "abcde"),
            ("G10 overwrite", "safe\revil\u{8}\u{8}\u{7f}\u{b}\u{c}\r\n", "safeevil\n"),
            ("G12 sixel", "a\u{1b}Pq#0;2;0;0;0~-\n~\u{1b}\\b", "ab"),
            ("G12 kitty", "a\u{1b}_Gf=24,s=10;AAAA\u{1b}\\b\u{1b}^pm\u{1b}\\c\u{1b}Xsos\u{1b}\\d", "abcd"),
            ("G13 bidi", "a\u{202e}b\u{202a}\u{2066}c\u{2069}\u{200f}d\u{61c}", "abcd"),
            ("G13 zero width", "a\u{200b}b\u{200d}c\u{feff}d\u{2060}\u{ad}e\u{3164}", "abcde"),
            ("G13 tags", "a\u{e0001}\u{e0041}\u{e007f}b\u{e0100}c", "abc"),
            ("G14 marks", "z\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{489}y", "z\u{300}\u{301}\u{302}\u{303}y"),
            ("G14 marks on nothing", "\u{300}a\n\u{301}b", "a\nb"),
            ("colours", "\u{1b}[1;31mred\u{1b}[0m \u{1b}[38;5;12mblue\u{1b}[m", "red blue"),
            ("character sets", "a\u{1b}(0b\u{1b}%Gc\u{1b}7d\u{1b}8", "abcd"),
            ("nested", "a\u{1b}]0;x\u{1b}[31mb\u{1b}]0;y\u{7}c", "abc"),
            ("cut by a newline", "a\u{1b}]0;never ends\nb\u{1b}[31\nc", "a\nb\nc"),
            ("cut by CAN", "a\u{1b}[12\u{18}b\u{1b}Pq\u{1a}c\0", "abc"),
            ("separators", "a\u{2028}b\u{2029}c", "abc"),
        ];
        for (name, text, expected) in rows {
            assert_eq!(shown(text), expected, "{name}");
        }
    }

    #[test]
    fn text_of_every_script_stays_as_it_is() {
        for text in [
            "plain\ttext\nof two lines",
            "Grüße, žluťoučký kůň, Ελληνικά, Русский",
            "日本語 한국어 中文 ﷽",
            "نمی‌خواهم عربى שָׁלוֹם",
            "क्‍ष हिन्दी ไทยน้ำ བོད་སྐད",
            "👩‍👩‍👧‍👦 ❤️ 👍🏽 🇩🇪 🏳️‍🌈",
            "e\u{301} ✓ ✗ │ ⠋ \u{e0b0}",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn a_command_of_ten_megabytes_that_never_ends_leaves_nothing() {
        let mut filter = Filter::new();
        let mut out = String::new();
        filter.push("a\u{1b}]0;", &mut out);
        let piece = "x".repeat(64 * 1024);
        for _ in 0..160 {
            filter.push(&piece, &mut out);
        }
        assert_eq!(out, "a");
        assert!(out.capacity() <= 64 * 1024 + 16);
        assert!(std::mem::size_of::<Filter>() <= 8);
        filter.push("\u{7}b", &mut out);
        assert_eq!(out, "ab");
    }

    #[test]
    fn an_escape_at_the_end_of_a_piece_is_not_forgotten() {
        for text in ["a\u{1b}[31mb", "a\u{1b}]0;t\u{1b}\\b", "a\u{9b}6nb", "a\u{1b}P1$r\u{1b}\\b"] {
            let mut filter = Filter::new();
            let mut out = String::new();
            text.chars().for_each(|char| filter.push(&char.to_string(), &mut out));
            assert_eq!(out, "ab", "{text:?}");
        }
    }

    #[test]
    fn a_text_for_one_line_stays_on_it() {
        assert!(matches!(printable("cargo test"), Cow::Borrowed("cargo test")));
        assert_eq!(printable("a\n\tb\u{1b}[2J.txt"), "a↵ b.txt");
    }

    #[test]
    fn json_is_safe_to_look_at_and_reads_back() {
        let text = "ü\u{9b}2J\u{202e}\u{7f}\u{e0041}\u{1b}日本";
        let line = json_line(&text).unwrap();
        assert_eq!(line, r#""ü\u009b2J\u202e\u007f\udb40\udc41\u001b日本""#);
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    /// Texts that are dense in what the filter has to know about.
    fn nasty() -> impl Strategy<Value = String> {
        let char = prop_oneof![
            3 => prop::sample::select("\u{1b}[]P_^X\\;?0123mhJ\n\t\r\u{7}\u{8}\u{18}a é日".chars().collect::<Vec<_>>()),
            1 => prop::char::range('\u{7f}', '\u{a0}'),
            1 => prop::char::range('\u{300}', '\u{320}'),
            1 => prop::char::range('\u{2000}', '\u{2070}'),
            1 => any::<char>(),
        ];
        prop::collection::vec(char, 0..200).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_comes_out_holds_no_control_and_is_stable(text in nasty()) {
            let out = shown(&text);
            prop_assert!(out.chars().all(|char| matches!(char, '\n' | '\t') || !(char.is_control() || deceives(char))));
            prop_assert!(out.len() <= text.len());
            prop_assert_eq!(shown(&out), out.clone());
            prop_assert!(printable(&text).chars().all(|char| !char.is_control()));
        }

        #[test]
        fn pieces_make_no_difference(text in nasty(), at in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut cuts: Vec<usize> = at.iter().map(|at| at.index(text.len() + 1)).collect();
            cuts.retain(|cut| text.is_char_boundary(*cut));
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut filter, mut out) = (Filter::new(), String::new());
            cuts.windows(2).for_each(|cut| filter.push(&text[cut[0]..cut[1]], &mut out));
            prop_assert_eq!(out, shown(&text));
        }
    }
}
