//! Columns, times, colours: what all commands print with.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::terminal::escape::printable;

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A cell: its text, and the colour that it may get.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    colour: Option<&'static str>,
}

impl Cell {
    /// Untrusted text is filtered here.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), colour: None }
    }

    pub(super) fn coloured(text: impl AsRef<str>, colour: Option<&'static str>) -> Self {
        Self { colour, ..Self::new(text) }
    }
}

/// Lines with aligned columns; the last column is not padded.
pub(super) fn lines(columns: &[(&str, Align)], rows: &[Vec<Cell>], colour: bool) -> Vec<String> {
    let head = columns.iter().map(|(name, _)| Cell::new(name)).collect();
    let rows: Vec<&Vec<Cell>> = std::iter::once(&head).chain(rows).collect();
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &&Vec<Cell>| {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, (_, align)), width)| {
            let pad = " ".repeat(width.saturating_sub(cell.text.width()));
            let text = match cell.colour.filter(|_| colour) {
                Some(code) => format!("\x1b[{code}m{}\x1b[0m", cell.text),
                None => cell.text.clone(),
            };
            match align {
                Align::Left => text + &pad,
                Align::Right => pad + &text,
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The beginning of a line of ours in so many columns, with a sign where more follows. Its colours take none.
pub(super) fn beginning(line: &str, width: usize) -> String {
    let (mut shown, mut used, mut coloured) = (String::new(), 0, false);
    let mut rest = line;
    while let Some(char) = rest.chars().next() {
        if let Some((colour, behind)) = rest.strip_prefix('\x1b').and_then(|sequence| sequence.split_once('m')) {
            shown.extend(["\x1b", colour, "m"]);
            (coloured, rest) = (colour != "[0", behind);
            continue;
        }
        let wide = char.width().unwrap_or(0);
        // The sign needs a column of its own, unless this is the last that is needed.
        if used + wide > width || (used + wide == width && visible(&rest[char.len_utf8()..])) {
            shown.push('…');
            break;
        }
        shown.push(char);
        used += wide;
        rest = &rest[char.len_utf8()..];
    }
    if coloured && !shown.ends_with('m') { shown + "\x1b[0m" } else { shown }
}

/// Whether anything but colours follows.
fn visible(mut rest: &str) -> bool {
    while let Some((_, behind)) = rest.strip_prefix('\x1b').and_then(|sequence| sequence.split_once('m')) {
        rest = behind;
    }
    !rest.is_empty()
}

/// `850ms`, `12s`, `3m04s`, `2h05m`, `3d04h`.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        86_400.. => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// At most so many characters, the last one `…` where it was more.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A number with its unit: `831 B`, `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = count.saturating_mul(10);
    let mut unit = "B";
    for next in units {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    if unit == "B" { format!("{count} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_a_terminal_and_its_colours_end_with_it() {
        let rows = [
            ("", 5, ""),
            ("12345", 5, "12345"),
            ("123456", 5, "1234…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("ab \x1b[32mrunning\x1b[0m", 10, "ab \x1b[32mrunning\x1b[0m"),
            ("ab \x1b[32mrunning\x1b[0m", 8, "ab \x1b[32mrunn…\x1b[0m"),
            ("ab \x1b[32mrunning\x1b[0m and", 10, "ab \x1b[32mrunnin…\x1b[0m"),
            ("ab \x1b[32mrunning\x1b[0m and", 12, "ab \x1b[32mrunning\x1b[0m …"),
        ];
        for (line, width, expected) in rows {
            assert_eq!(beginning(line, width), expected, "{line:?} in {width}");
        }
    }
}
