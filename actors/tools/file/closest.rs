//! What a text that does not occur was probably meant to be. Bounded work: a hint must not cost more than the edit.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::compare::likeness;
use super::diff::lines;
use super::view::head;

/// Lines of the wanted text that are looked for.
const WANTED_LINES_MAX: usize = 50;
/// Lines of the file that are looked at.
const FILE_LINES_MAX: usize = 200_000;
/// Lines that are compared letter by letter.
const FUZZY_MAX: usize = 20;
/// Lines that are shown.
const SHOWN_LINES_MAX: usize = 15;
/// A shown line is cut here.
const SHOWN_LINE_BYTES_MAX: usize = 300;
/// Below this share of equal letters a line is another line.
const ALIKE: f32 = 0.6;

/// The message for a text, named `what`, that does not occur in `file`.
pub(super) fn closest(file: &[u8], wanted: &str, what: &str, shown: &str) -> String {
    let mut message = format!("{what} does not occur in {shown}");
    if looks_numbered(wanted) {
        message.push_str("; it seems to hold the line numbers of file_read, which are no part of the file");
        return message;
    }
    let file = lines(file);
    let wanted: Vec<_> = lines(wanted.as_bytes()).into_iter().map(<[u8]>::trim_ascii).collect();
    let Some((first, all)) = by_lines(&file, &wanted).or_else(|| by_letters(&file, &wanted).map(|at| (at, false)))
    else {
        message.push_str("; nothing in the file is like it: read the file again with file_read");
        return message;
    };
    let last = (first + wanted.len().max(1)).min(file.len());
    message.push_str(if all {
        "; these lines differ from it only in whitespace:"
    } else {
        "; closest are these lines:"
    });
    for (at, line) in file.iter().enumerate().take(last).skip(first).take(SHOWN_LINES_MAX) {
        let (line, cut) = head(line.trim_ascii_end(), SHOWN_LINE_BYTES_MAX);
        let _ = write!(message, "\n{:>6}\t{}{}", at + 1, String::from_utf8_lossy(line), if cut > 0 { "…" } else { "" });
    }
    message
}

fn looks_numbered(wanted: &str) -> bool {
    wanted.lines().all(|line| {
        line.trim_start()
            .split_once('\t')
            .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Where most of the wanted lines stand, whitespace at their ends aside; and whether all do.
fn by_lines(file: &[&[u8]], wanted: &[&[u8]]) -> Option<(usize, bool)> {
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let mut counted = 0;
    for (at, line) in wanted.iter().enumerate().take(WANTED_LINES_MAX).filter(|(_, line)| !line.is_empty()) {
        places.entry(line).or_default().push(at);
        counted += 1;
    }
    let mut scores = vec![0_usize; file.len().min(FILE_LINES_MAX)];
    for (at, line) in file.iter().enumerate().take(FILE_LINES_MAX) {
        for behind in places.get(line.trim_ascii()).into_iter().flatten() {
            if let Some(score) = at.checked_sub(*behind).and_then(|start| scores.get_mut(start)) {
                *score += 1;
            }
        }
    }
    let best = scores.iter().copied().max().filter(|best| *best > 0)?;
    let first = scores.iter().position(|score| *score == best)?;
    // A lone brace somewhere says nothing.
    let telling = best * 3 >= counted || best >= 3;
    telling.then_some((first, best == counted && wanted.len() <= WANTED_LINES_MAX))
}

/// Where the line stands that is most like the longest of the wanted ones.
fn by_letters(file: &[&[u8]], wanted: &[&[u8]]) -> Option<usize> {
    let (behind, longest) = wanted.iter().enumerate().max_by_key(|(_, line)| line.len())?;
    let (longest, _) = head(longest, SHOWN_LINE_BYTES_MAX);
    if longest.is_empty() {
        return None;
    }
    let mut alike: Vec<_> = file
        .iter()
        .take(FILE_LINES_MAX)
        .enumerate()
        .map(|(at, line)| (at, line.trim_ascii()))
        .filter(|(_, line)| line.len() <= longest.len() * 2 && longest.len() <= line.len() * 2)
        .map(|(at, line)| (common_bytes(line, longest), at, line))
        .collect();
    alike.sort_by_key(|(common, at, _)| (std::cmp::Reverse(*common), *at));
    let text = String::from_utf8_lossy(longest);
    let (_, at) = alike
        .iter()
        .take(FUZZY_MAX)
        .map(|(_, at, line)| (likeness(&String::from_utf8_lossy(line), &text), *at))
        .filter(|(ratio, _)| *ratio >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    Some(at.saturating_sub(behind))
}

/// How many bytes two lines have in common, in whatever order, in thousandths of both.
fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    let mut counts = [0_usize; 256];
    for byte in a {
        counts[usize::from(*byte)] += 1;
    }
    let mut common = 0;
    for byte in b {
        let count = &mut counts[usize::from(*byte)];
        if *count > 0 {
            *count -= 1;
            common += 1;
        }
    }
    2000 * common / (a.len() + b.len()).max(1)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_closest_region_is_shown_with_its_lines() {
        let file = b"fn main() {\n    let total = sum(1, 2);\n    println!(\"{total}\");\n}\n";
        let told: Vec<_> = [
            "fn main() {\n  let total = sum(1, 2);\n  println!(\"{total}\");\n}",
            "    let total = sum(1, 3);\n    println!(\"{total}\");",
            "let totals = sum(1, 2)",
            "     2\t    let total = sum(1, 2);",
            "class Foo extends Bar",
            "\n",
        ]
        .iter()
        .map(|wanted| closest(file, wanted, "old_string", "main.rs"))
        .collect();
        expect![[r#"
            old_string does not occur in main.rs; these lines differ from it only in whitespace:
                 1	fn main() {
                 2	    let total = sum(1, 2);
                 3	    println!("{total}");
                 4	}
            --
            old_string does not occur in main.rs; closest are these lines:
                 2	    let total = sum(1, 2);
                 3	    println!("{total}");
            --
            old_string does not occur in main.rs; closest are these lines:
                 2	    let total = sum(1, 2);
            --
            old_string does not occur in main.rs; it seems to hold the line numbers of file_read, which are no part of the file
            --
            old_string does not occur in main.rs; nothing in the file is like it: read the file again with file_read
            --
            old_string does not occur in main.rs; nothing in the file is like it: read the file again with file_read"#]].assert_eq(&told.join("\n--\n"));
    }

    #[test]
    fn the_work_is_bounded() {
        let file = "}\n".repeat(500_000);
        let wanted = "}\n".repeat(500_000) + "x";
        assert!(closest(file.as_bytes(), &wanted, "old_string", "f").len() < 1000);
        let letters = (0..50_000).map(|n| format!("line {n} of many\n")).collect::<Vec<_>>().concat();
        assert!(closest(letters.as_bytes(), "lime 4711 off many", "old_string", "f").contains("line 4711 of many"));
    }
}
