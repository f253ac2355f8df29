//! `[policy]`: which calls may be made, which only after somebody was asked, and which never. Pure.
//!
//! A rule is `TOOL` or `TOOL(PATTERN)`; in `TOOL` a `*` stands for any text. What `PATTERN` is matched against is the tool's
//! [`Subject`]:
//!
//! - **a command**: `bash(git status)` is that command, `bash(git log *)` that with any arguments or none. To *allow*, a rule
//!   must cover each of the commands in a list, and nothing else may be in it (`shell::plain`): whoever adds `; rm -rf x`,
//!   `$(…)` or `> file` to a command that is allowed has another one. To *ask* or *deny* it is enough that it covers one,
//!   wherever in the text a shell might find it (`shell::reach`).
//! - **a path**: `file_write(src/**)`, relative to the workspace, or absolute. Without a `/` it is a name anywhere; one of a
//!   directory covers what is below it. A path is matched as it was given and as links lead it; to *allow*, both must fit.
//!
//! `deny` goes before `ask`, and `ask` before `allow`. What no rule names is done if it changes nothing, and else as
//! `default` says.
//!
//! This guards against mistakes. A program that is run may do what no pattern of its command shows: confinement is the wall.

mod shell;
#[cfg(test)]
mod tests;

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ErrorCode, ToolError};
use crate::tool::Catalogue;

/// A rule's text, in bytes.
const RULE_BYTES_MAX: usize = 1024;

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Calls that are made without asking.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub allow: Vec<Rule>,
    /// Calls that somebody has to consent to.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub ask: Vec<Rule>,
    /// Calls that are refused.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub deny: Vec<Rule>,
    /// What becomes of a call that changes something and that no rule names.
    pub default: Otherwise,
}

/// What becomes of a call that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// It is made.
    #[default]
    Allow,
    /// Somebody has to consent to it.
    Ask,
    /// It is refused.
    Deny,
}

/// What a rule's pattern is matched against.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// Nothing: only the tool can be named.
    Nothing,
    /// The argument `command`.
    Command,
    /// The argument `path`; without one, the workspace.
    Path,
    /// Several paths, out of the arguments.
    Paths(fn(&Value) -> Vec<String>),
}

impl Subject {
    /// What a call with these arguments is about. A path has one name yet: as it was given.
    pub fn about(self, arguments: &Value) -> About {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match self {
            Self::Nothing => About::Nothing,
            Self::Command => About::Command(text("command")),
            Self::Path => About::Paths(vec![vec![text("path")]]),
            Self::Paths(paths) => About::Paths(paths(arguments).into_iter().map(|path| vec![path]).collect()),
        }
    }
}

/// A call as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The tool's name.
    pub tool: &'a str,
    /// Whether it changes nothing.
    pub reads: bool,
    /// What it is about.
    pub about: About,
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// Nothing that has a pattern.
    Nothing,
    /// A command.
    Command(String),
    /// Paths, each under every name that it has: as it was given, and as links lead it. Relative to the workspace, or
    /// absolute where they lie elsewhere; the workspace itself is empty.
    Paths(Vec<Vec<String>>),
}

/// What a policy says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// Somebody has to consent: because of this.
    Ask(String),
    /// It is refused: because of this.
    Deny(String),
}

impl Policy {
    /// Whether there is anything to look at.
    pub fn is_empty(&self) -> bool {
        self.ask.is_empty() && self.deny.is_empty() && self.default == Otherwise::Allow
    }

    /// What becomes of a call. `every_change`: whoever started the run wants to be asked before anything is changed.
    pub fn judge(&self, call: &Asked<'_>, every_change: bool) -> Verdict {
        let reach = match &call.about {
            About::Command(command) => shell::reach(command),
            About::Nothing | About::Paths(_) => Vec::new(),
        };
        if let Some(rule) = self.deny.iter().find(|rule| rule.reaches(call, &reach)) {
            return Verdict::Deny(format!("the rule `{rule}`"));
        }
        if let Some(rule) = self.ask.iter().find(|rule| rule.reaches(call, &reach)) {
            return Verdict::Ask(format!("the rule `{rule}`"));
        }
        let asks = every_change && self.default == Otherwise::Allow;
        let default = if asks { Otherwise::Ask } else { self.default };
        if call.reads || default == Otherwise::Allow || self.allows(call) {
            return Verdict::Allow;
        }
        let why = "no `allow` rule covers it".to_owned();
        if default == Otherwise::Deny { Verdict::Deny(why) } else { Verdict::Ask(why) }
    }

    fn allows(&self, call: &Asked<'_>) -> bool {
        let rules = || self.allow.iter().filter(|rule| rule.tool.fits(call.tool));
        if rules().any(|rule| rule.pattern.is_none()) {
            return true;
        }
        let patterns = || rules().filter_map(|rule| rule.pattern.as_ref());
        match &call.about {
            About::Nothing => false,
            About::Command(command) => {
                patterns().any(|pattern| pattern.text == "*")
                    || shell::plain(command).is_some_and(|commands| {
                        commands.iter().all(|command| patterns().any(|pattern| pattern.line.fits(command)))
                    })
            }
            About::Paths(paths) => {
                !paths.is_empty() && paths.iter().flatten().all(|name| patterns().any(|pattern| pattern.covers(name)))
            }
        }
    }

    /// Whether every rule can ever mean something. The error names the key.
    pub fn check(&self, tools: &Catalogue) -> Result<(), ToolError> {
        for (key, rules) in [("allow", &self.allow), ("ask", &self.ask), ("deny", &self.deny)] {
            for rule in rules {
                let wrong = |what: String| {
                    Err(ToolError::new(ErrorCode::InvalidConfig, format!("policy.{key}: the rule `{rule}` {what}")))
                };
                let mut meant = tools.0.iter().filter(|spec| rule.tool.fits(spec.name)).peekable();
                if meant.peek().is_none() {
                    let names: Vec<&str> = tools.0.iter().map(|spec| spec.name).collect();
                    return wrong(format!("names no tool; there are {}", names.join(", ")));
                }
                let Some(pattern) = &rule.pattern else { continue };
                let (mut commands, mut paths) = (false, false);
                for spec in meant {
                    commands |= matches!(spec.subject, Subject::Command);
                    paths |= matches!(spec.subject, Subject::Path | Subject::Paths(_));
                }
                if !commands && !paths {
                    return wrong(
                        "has a pattern, and its tool has neither a command nor a path: leave the pattern out".into(),
                    );
                }
                if paths && pattern.glob.is_none() {
                    return wrong("has a pattern that is no path: no `..`, and brackets and braces closed".into());
                }
                if key == "allow" && commands && !pattern.is_plain {
                    return wrong(
                        "allows nothing: an allowed command is one without `;`, `|`, `$`, redirections and the like"
                            .into(),
                    );
                }
            }
        }
        Ok(())
    }
}

/// A rule as it was written, and what it means.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    text: String,
    tool: Wild,
    pattern: Option<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    /// For commands, as [`shell::plain`] writes them.
    line: Line,
    /// For commands, as [`shell::reach`] finds them: without quotes.
    bare: Line,
    /// Whether it is one plain command.
    is_plain: bool,
    /// For paths; none: it cannot be one.
    glob: Option<GlobMatcher>,
}

impl Rule {
    fn reaches(&self, call: &Asked<'_>, reach: &[shell::Fragment]) -> bool {
        if !self.tool.fits(call.tool) {
            return false;
        }
        let Some(pattern) = &self.pattern else { return true };
        match &call.about {
            About::Nothing => false,
            About::Command(_) => reach.iter().any(|fragment| pattern.bare.begins_in(fragment)),
            About::Paths(paths) => paths.iter().flatten().any(|name| pattern.covers(name)),
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("the rule {text:?} {what}; rules are `TOOL` or `TOOL(PATTERN)`"));
        if text.len() > RULE_BYTES_MAX {
            return wrong("is too long");
        }
        let (tool, pattern) = match text.split_once('(') {
            None => (text.as_str(), None),
            Some((tool, rest)) => match rest.strip_suffix(')').map(str::trim) {
                Some("") => return wrong("has an empty pattern"),
                Some(pattern) => (tool, Some(Pattern::of(pattern))),
                None => return wrong("does not end with `)`"),
            },
        };
        let legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '*');
        if tool.is_empty() || !tool.chars().all(legal) {
            return wrong("does not begin with a tool's name");
        }
        let tool = Wild::of(tool);
        Ok(Self { text, tool, pattern })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rule {}

impl Pattern {
    fn of(text: &str) -> Self {
        let plain = shell::plain(text).and_then(|commands| <[String; 1]>::try_from(commands).ok());
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let bare: String = squeezed.chars().filter(|char| !matches!(char, '\'' | '"' | '\\')).collect();
        Self {
            is_plain: plain.is_some(),
            line: Line::of(plain.map_or_else(|| squeezed.clone(), |[line]| line)),
            bare: Line::of(bare),
            glob: glob(text),
            text: text.to_owned(),
        }
    }

    /// Whether a path, or a directory above it, fits.
    fn covers(&self, name: &str) -> bool {
        let Some(glob) = &self.glob else { return false };
        let above = name.match_indices('/').map(|(at, _)| &name[..at]).filter(|above| !above.is_empty());
        std::iter::once(name).chain(above).any(|path| glob.is_match(path))
    }
}

fn glob(pattern: &str) -> Option<GlobMatcher> {
    let plain = pattern.strip_prefix("./").unwrap_or(pattern);
    let plain = plain.strip_suffix('/').unwrap_or(plain);
    if plain.is_empty() || plain.split('/').any(|part| part == "..") {
        return None;
    }
    // A name without a place is one anywhere.
    let anywhere = if plain.contains('/') || plain == "." { plain.to_owned() } else { format!("**/{plain}") };
    let anywhere = if plain == "." { String::new() } else { anywhere };
    GlobBuilder::new(&anywhere).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
}

/// A text in which `*` stands for any text.
#[derive(Debug, Clone)]
struct Wild {
    /// The pieces between the stars: one more than there are stars.
    pieces: Vec<String>,
}

impl Wild {
    fn of(text: &str) -> Self {
        Self { pieces: text.split('*').map(str::to_owned).collect() }
    }

    /// The first piece, and those behind the stars.
    fn head(&self) -> (&str, &[String]) {
        self.pieces.split_first().map_or(("", &[]), |(head, rest)| (head.as_str(), rest))
    }

    fn fits(&self, text: &str) -> bool {
        let (head, rest) = self.head();
        text.strip_prefix(head).is_some_and(|left| Self::fits_behind(rest, left))
    }

    /// Each piece as early as it can be, the last one at the end.
    fn fits_behind(rest: &[String], mut left: &str) -> bool {
        let Some((last, between)) = rest.split_last() else { return left.is_empty() };
        for piece in between {
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}

/// A command's pattern: one that ends with ` *` covers the command without arguments too.
#[derive(Debug, Clone)]
struct Line {
    wild: Wild,
    /// Without the ` *`.
    alone: Option<Wild>,
}

impl Line {
    fn of(text: String) -> Self {
        Self { alone: text.strip_suffix(" *").map(Wild::of), wild: Wild::of(&text) }
    }

    fn fits(&self, line: &str) -> bool {
        self.wild.fits(line) || self.alone.as_ref().is_some_and(|alone| alone.fits(line))
    }

    /// Whether it fits from one of the places on at which a command may begin, to the fragment's end.
    fn begins_in(&self, fragment: &shell::Fragment) -> bool {
        let from = |at: usize| fragment.text.get(at..).unwrap_or_default();
        [Some(&self.wild), self.alone.as_ref()].into_iter().flatten().any(|wild| {
            let (head, rest) = wild.head();
            let mut begins = fragment.starts.iter().filter_map(|at| from(*at).strip_prefix(head));
            if rest.is_empty() {
                return begins.any(str::is_empty);
            }
            // What does not fit behind the first place does not fit behind a later one, where there is less text.
            begins.next().is_some_and(|left| Wild::fits_behind(rest, left))
        })
    }
}
