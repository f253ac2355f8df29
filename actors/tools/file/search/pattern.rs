//! Patterns of names, as gitignore and ripgrep read them: without a slash a pattern is of the name alone, in whatever
//! directory; with one it is of the path below the place that is searched. `*` crosses no slash, `**` does.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::tools::workspace::FileError;

/// A pattern's bytes. What is longer was not written by hand.
const PATTERN_BYTES_MAX: usize = 4096;

/// Which hidden names count: those begin with a dot, and are left out unless a pattern names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shown {
    hidden: bool,
    git: bool,
}

impl Shown {
    /// Those that this pattern names.
    fn named_in(pattern: &str) -> Self {
        let names = || pattern.split(['/', '{', ',']).map(|name| name.trim_end_matches('}'));
        Self {
            hidden: names().any(|name| name.starts_with('.') && !matches!(name, "." | "..")),
            git: names().any(|name| name == ".git"),
        }
    }

    pub(super) fn shows(self, name: &[u8]) -> bool {
        match name {
            b".git" => self.git,
            [b'.', ..] => self.hidden,
            _ => true,
        }
    }
}

/// A pattern, taken apart: where it leads by its text alone, and what remains to be compared.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The directories before the first wildcard: there is no need to search anywhere else.
    pub(super) base: String,
    /// How many directories below `base` a match can lie; none: any number.
    pub(super) depth: Option<usize>,
    pub(super) shown: Shown,
    set: GlobSet,
}

impl Pattern {
    /// Takes a pattern apart.
    pub(super) fn parse(text: &str) -> Result<Self, FileError> {
        let text = text.strip_prefix("./").unwrap_or(text);
        let wild = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
        let cut = text.get(..wild).and_then(|plain| plain.rfind('/'));
        let (base, rest) = match cut {
            Some(0) => ("/", text.get(1..).unwrap_or_default()),
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
            None => ("", text),
        };
        let depth = if rest.contains("**") || rest.contains('{') || cut.is_none() && !rest.contains('/') {
            None
        } else {
            Some(rest.matches('/').count())
        };
        // Below a base even a single name is a path.
        let anchored = cut.is_some() || rest.contains('/');
        let set = compile(rest, anchored)?;
        Ok(Self { base: base.to_owned(), depth, shown: Shown::named_in(text), set })
    }

    /// Whether a path below `base` matches.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }
}

/// Which files a search of text looks into.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) shown: Shown,
    set: Option<(GlobSet, bool)>,
}

impl Filter {
    /// By a pattern; with `!` before it, what does not match.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, FileError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let (pattern, wanted) = text.strip_prefix('!').map_or((text, true), |rest| (rest, false));
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let rest = pattern.strip_prefix('/').unwrap_or(pattern);
        let shown = if wanted { Shown::named_in(pattern) } else { Shown::default() };
        Ok(Self { shown, set: Some((compile(rest, pattern.contains('/'))?, wanted)) })
    }

    /// Whether the file with this path below the place that is searched is looked into.
    pub(super) fn takes(&self, path: &Path) -> bool {
        self.set.as_ref().is_none_or(|(set, wanted)| set.is_match(path) == *wanted)
    }
}

fn compile(pattern: &str, anchored: bool) -> Result<GlobSet, FileError> {
    let refused = |why: &str| Err(FileError::BadPattern(why.to_owned()));
    if pattern.is_empty() {
        return refused("the pattern is empty or names a directory; add what to match in it, such as `**/*.rs`");
    }
    if pattern.len() > PATTERN_BYTES_MAX {
        return refused("the pattern is longer than 4096 bytes");
    }
    let whole = if anchored { pattern.to_owned() } else { format!("**/{pattern}") };
    let glob = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).empty_alternates(true).build();
    let set = glob.and_then(|glob| GlobSetBuilder::new().add(glob).build());
    set.map_err(|error| {
        FileError::BadPattern(format!("{}; to match one of *?[]{{}} itself put a backslash before it", error.kind()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_the_name_or_of_the_path_and_says_where_it_leads() {
        let rows = [
            ("*.rs", "", None, "a/b/c.rs", true),
            ("*.rs", "", None, "c.rs", true),
            ("src/**/*.rs", "src", None, "a/b.rs", true),
            ("src/**/*.rs", "src", None, "b.rs", true),
            ("a/*.txt", "a", Some(0), "x.txt", true),
            ("a/*.txt", "a", Some(0), "b/x.txt", false),
            ("a/*/x.txt", "a", Some(1), "b/x.txt", true),
            ("./src/main.rs", "src", Some(0), "main.rs", true),
            ("**/b/*.{c,h}", "", None, "a/b/x.h", true),
            ("{a,b/c}/*.rs", "", None, "b/c/x.rs", true),
            ("/w/a?.txt", "/w", Some(0), "ab.txt", true),
            ("a\\*b", "", None, "a*b", true),
            ("a\\*b", "", None, "axb", false),
            ("[ab].txt", "", None, "b.txt", true),
        ];
        for (text, base, depth, path, matches) in rows {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!((pattern.base.as_str(), pattern.depth), (base, depth), "{text}");
            assert_eq!(pattern.matches(Path::new(path)), matches, "{text} {path}");
        }
    }

    #[test]
    fn hidden_names_count_where_the_pattern_names_one() {
        let shown = |text: &str| Pattern::parse(text).unwrap().shown;
        assert_eq!(shown("**/*.yml"), Shown { hidden: false, git: false });
        assert_eq!(shown("../x/*"), Shown { hidden: false, git: false });
        assert_eq!(shown(".github/**/*.yml"), Shown { hidden: true, git: false });
        assert_eq!(shown("{.env,.npmrc}"), Shown { hidden: true, git: false });
        assert_eq!(shown(".git/config"), Shown { hidden: true, git: true });
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_a_bomb_is_only_a_pattern() {
        for text in ["", "src/", "[a", "{a", &"x".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(matches!(Pattern::parse(text), Err(FileError::BadPattern(_))), "{text}");
        }
        let bomb = "{a,b}".repeat(800);
        let began = std::time::Instant::now();
        assert!(Pattern::parse(&bomb).unwrap().matches(Path::new(&"ab".repeat(400))));
        assert!(began.elapsed().as_secs() < 5);
    }
}
