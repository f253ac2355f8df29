//! A patch as models write it, taken apart. Lenient where nothing can be misunderstood, and nowhere else.

/// What is to be done, in the order of the patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tools::file) struct Patch {
    pub(super) sections: Vec<Section>,
}

/// What becomes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Section {
    Add { path: String, lines: Vec<String> },
    Delete { path: String },
    Update { path: String, to: Option<String>, hunks: Vec<Hunk> },
}

/// One place of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hunk {
    /// Lines above the place, the outermost first.
    pub(super) below: Vec<String>,
    pub(super) lines: Vec<Line>,
    /// Whether its last line is the file's.
    pub(super) at_end: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Keep(String),
    Remove(String),
    Add(String),
}

/// Files of one patch.
const SECTIONS_MAX: usize = 256;
const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const END_OF_FILE: &str = "*** End of File";

impl Patch {
    /// Takes a patch apart, or says what is wrong in which line.
    pub(in crate::tools::file) fn parse(text: &str) -> Result<Self, String> {
        let mut lines: Vec<&str> = text.lines().collect();
        if text.contains("*** Begin Patch\r\n") {
            // `lines` took one carriage return of each line: that is how the patch was sent.
        } else {
            lines = text.split('\n').collect();
        }
        let first = lines.iter().position(|line| line.trim() == BEGIN);
        let last = lines.iter().rposition(|line| line.trim() == END);
        let (Some(first), Some(last)) = (first, last) else {
            return Err(format!("a patch begins with the line `{BEGIN}` and ends with the line `{END}`"));
        };
        // Around it there may be what a shell or Markdown would need.
        let wrapped = |line: &&str| {
            let line = line.trim();
            line.is_empty() || line == "EOF" || line.starts_with("```") || line.contains("<<")
        };
        let outside = lines.iter().take(first).chain(lines.iter().skip(last + 1));
        if let Some(line) = outside.into_iter().find(|line| !wrapped(line)) {
            return Err(format!("there is text outside of the patch: {:?}", shorten(line)));
        }
        let mut parser = Parser { lines: &lines, at: first + 1, end: last };
        let mut sections = Vec::new();
        while let Some(section) = parser.section()? {
            sections.push(section);
        }
        match sections.len() {
            0 => Err("the patch holds no file".to_owned()),
            1..=SECTIONS_MAX => Ok(Self { sections }),
            many => Err(format!("{many} files; at most {SECTIONS_MAX} are taken in one patch")),
        }
    }

    /// The paths of all files that it names.
    pub(in crate::tools::file) fn paths(&self) -> Vec<&str> {
        let of = |section| match section {
            &Section::Add { ref path, .. } | &Section::Delete { ref path } => (path, None),
            Section::Update { path, to, .. } => (path, to.as_ref()),
        };
        self.sections
            .iter()
            .map(of)
            .flat_map(|(path, to)| std::iter::once(path).chain(to))
            .map(String::as_str)
            .collect()
    }
}

struct Parser<'a> {
    lines: &'a [&'a str],
    at: usize,
    end: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.lines.get(self.at).copied().filter(|_| self.at < self.end)
    }

    fn wrong(&self, why: &str) -> String {
        let line = self.peek().unwrap_or(END);
        format!("line {} of the patch, {:?}: {why}", self.at + 1, shorten(line))
    }

    /// The path behind a marker, if this line is it.
    fn marked(&self, marker: &str) -> Option<Result<String, String>> {
        let path = self.peek()?.strip_prefix(marker)?.trim();
        Some(if path.is_empty() { Err(self.wrong("the path is missing")) } else { Ok(path.to_owned()) })
    }

    fn section(&mut self) -> Result<Option<Section>, String> {
        while self.peek().is_some_and(|line| line.trim().is_empty()) {
            self.at += 1;
        }
        if self.peek().is_none() {
            return Ok(None);
        }
        if let Some(path) = self.marked("*** Add File:") {
            let path = path?;
            self.at += 1;
            return self.added().map(|lines| Some(Section::Add { path, lines }));
        }
        if let Some(path) = self.marked("*** Delete File:") {
            let path = path?;
            self.at += 1;
            return Ok(Some(Section::Delete { path }));
        }
        let Some(path) = self.marked("*** Update File:") else {
            return Err(self.wrong("expected `*** Add File: PATH`, `*** Update File: PATH` or `*** Delete File: PATH`"));
        };
        let path = path?;
        self.at += 1;
        let to = self.marked("*** Move to:").transpose()?;
        self.at += usize::from(to.is_some());
        let hunks = self.hunks()?;
        if hunks.is_empty() && to.is_none() {
            return Err(self.wrong(&format!("the update of {path} changes nothing")));
        }
        Ok(Some(Section::Update { path, to, hunks }))
    }

    fn added(&mut self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        while let Some(line) = self.peek() {
            match line.strip_prefix('+') {
                Some(line) => lines.push(line.to_owned()),
                None if line.starts_with("*** ") || line.trim().is_empty() => break,
                None => return Err(self.wrong("each line of a new file begins with +")),
            }
            self.at += 1;
        }
        Ok(lines)
    }

    fn hunks(&mut self) -> Result<Vec<Hunk>, String> {
        let mut hunks = Vec::new();
        let mut hunk = Hunk::default();
        while let Some(line) = self.peek() {
            if line.trim_end() == END_OF_FILE {
                hunk.at_end = true;
                hunks.push(std::mem::take(&mut hunk));
            } else if line.starts_with("*** ") {
                break;
            } else if let Some(above) = line.strip_prefix("@@") {
                let above = above_of(above).to_owned();
                if !hunk.lines.is_empty() {
                    hunks.push(std::mem::take(&mut hunk));
                }
                hunk.below.extend((!above.is_empty()).then_some(above));
            } else if let Some(line) = self.line()? {
                hunk.lines.push(line);
            }
            self.at += 1;
        }
        if !hunk.lines.is_empty() {
            hunks.push(hunk);
        } else if !hunk.below.is_empty() {
            return Err(self.wrong("nothing follows the last @@"));
        }
        hunks.retain(|hunk| !hunk.lines.is_empty());
        Ok(hunks)
    }

    fn line(&self) -> Result<Option<Line>, String> {
        let line = self.peek().unwrap_or_default();
        let rest = || line.get(1..).unwrap_or_default().to_owned();
        match line.as_bytes().first() {
            Some(b'+') => Ok(Some(Line::Add(rest()))),
            Some(b'-') => Ok(Some(Line::Remove(rest()))),
            Some(b' ') => Ok(Some(Line::Keep(rest()))),
            // An empty line whose space got lost.
            None | Some(b'\r') => Ok(Some(Line::Keep(String::new()))),
            // `\ No newline at end of file`: the file's own end stays as it is.
            Some(b'\\') => Ok(None),
            Some(_) => Err(self.wrong("a line of a hunk begins with a space, + or -")),
        }
    }
}

/// The line that `@@` names; of a unified diff's head what stands behind the numbers.
fn above_of(text: &str) -> &str {
    let text = text.trim();
    let numbers =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b',' | b' '));
    match text.split_once("@@") {
        Some((head, rest)) if numbers(head) => rest.trim(),
        None if text.starts_with('-') && numbers(text) => "",
        Some(_) | None => text,
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn of(body: &str) -> Result<Patch, String> {
        Patch::parse(&format!("*** Begin Patch\n{body}\n*** End Patch"))
    }

    #[test]
    fn a_patch_is_taken_apart() {
        let body = "*** Add File: a.txt\n+one\n+\n+*** End Patch\n\n*** Delete File: b.txt\n*** Update File: c.txt\n\
                    *** Move to: d.txt\n@@ class A\n@@ def f\n x\n-y\n+z\n\n@@\n+end\n*** End of File";
        let keep = |text: &str| Line::Keep(text.to_owned());
        let first = Hunk {
            below: vec!["class A".to_owned(), "def f".to_owned()],
            lines: vec![keep("x"), Line::Remove("y".to_owned()), Line::Add("z".to_owned()), keep("")],
            at_end: false,
        };
        let last = Hunk { below: Vec::new(), lines: vec![Line::Add("end".to_owned())], at_end: true };
        let patch = of(body).unwrap();
        assert_eq!(
            patch.sections,
            [
                Section::Add {
                    path: "a.txt".to_owned(),
                    lines: ["one", "", "*** End Patch"].map(str::to_owned).to_vec()
                },
                Section::Delete { path: "b.txt".to_owned() },
                Section::Update { path: "c.txt".to_owned(), to: Some("d.txt".to_owned()), hunks: vec![first, last] },
            ]
        );
        assert_eq!(patch.paths(), ["a.txt", "b.txt", "c.txt", "d.txt"]);
    }

    #[test]
    fn what_a_shell_or_a_diff_would_need_is_passed_over() {
        let plain = of("*** Update File: a\n@@\n-x\n+y").unwrap();
        for text in [
            "apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: a\n@@\n-x\n+y\n*** End Patch\nEOF\n",
            "```diff\n*** Begin Patch\n*** Update File: a\n@@ -1,2 +1,2 @@\n-x\n+y\n\\ No newline at end of file\n*** End Patch\n```",
            "*** Begin Patch\r\n*** Update File: a\r\n@@\r\n-x\r\n+y\r\n*** End Patch\r\n",
            "*** Begin Patch\n*** Update File: a\n-x\n+y\n*** End Patch\n",
        ] {
            assert_eq!(Patch::parse(text).unwrap(), plain, "{text}");
        }
        let above = of("*** Update File: a\n@@ -1,2 +1,2 @@ fn main() {\n-x\n+y").unwrap();
        assert!(matches!(&above.sections[0], Section::Update { hunks, .. } if hunks[0].below == ["fn main() {"]));
    }

    #[test]
    fn what_is_no_patch_is_refused_with_its_line() {
        let told: Vec<_> = [
            "*** Update File: a\n@@\nx",
            "*** Update File: a",
            "*** Update File:  \n+x",
            "*** Add File: a\nx",
            "*** Rename File: a",
            "--- a/x\n+++ b/x",
            "*** Update File: a\n@@ fn f",
            "",
        ]
        .iter()
        .map(|body| of(body).unwrap_err())
        .chain(
            ["", "*** Begin Patch\n*** Add File: a\n+x", "Here it is:\n*** Begin Patch\n*** End Patch"]
                .map(|text| Patch::parse(text).unwrap_err()),
        )
        .collect();
        expect![[r#"
            line 4 of the patch, "x": a line of a hunk begins with a space, + or -
            line 3 of the patch, "*** End Patch": the update of a changes nothing
            line 2 of the patch, "*** Update File:  ": the path is missing
            line 3 of the patch, "x": each line of a new file begins with +
            line 2 of the patch, "*** Rename File: a": expected `*** Add File: PATH`, `*** Update File: PATH` or `*** Delete File: PATH`
            line 2 of the patch, "--- a/x": expected `*** Add File: PATH`, `*** Update File: PATH` or `*** Delete File: PATH`
            line 4 of the patch, "*** End Patch": nothing follows the last @@
            the patch holds no file
            a patch begins with the line `*** Begin Patch` and ends with the line `*** End Patch`
            a patch begins with the line `*** Begin Patch` and ends with the line `*** End Patch`
            there is text outside of the patch: "Here it is:""#]].assert_eq(&told.join("\n"));
    }
}
