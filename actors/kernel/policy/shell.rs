//! What a shell would make of a command, as far as rules need to know it. Two readings that err to opposite sides:
//! [`plain`] takes only what certainly runs these commands and nothing else, [`reach`] everything that may run.

/// The simple commands of a list (`;`, `&&`, `||`, `|`, `&`, new lines), each on one line: one space between two words,
/// quotes where they are needed. None: there is something in it that may run more, or write a file: a substitution, a
/// variable, a redirection other than to another descriptor or `/dev/null`, a group, an assignment, a comment.
pub(super) fn plain(command: &str) -> Option<Vec<String>> {
    let mut reader = Reader { left: command.chars().peekable(), words: Vec::new(), commands: Vec::new() };
    while let Some(char) = reader.left.next() {
        match char {
            ' ' | '\t' => {}
            '\n' => reader.end(),
            ';' => reader.end_something()?,
            '|' => {
                let _ = reader.took('|') || reader.took('&');
                reader.end_something()?;
            }
            '&' if reader.took('>') => reader.target()?,
            '&' => {
                reader.took('&');
                reader.end_something()?;
            }
            '>' => reader.redirected()?,
            '#' | '<' | '(' | ')' => return None,
            char => reader.word(char)?,
        }
    }
    reader.end();
    (!reader.commands.is_empty()).then_some(reader.commands)
}

/// Words that are no command's name where one is expected.
const RESERVED: [&str; 22] = [
    "!", "[[", "]]", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in",
    "select", "then", "time", "until", "while", "{", "}",
];

struct Reader<'a> {
    left: std::iter::Peekable<std::str::Chars<'a>>,
    words: Vec<String>,
    commands: Vec<String>,
}

impl Reader<'_> {
    /// Takes the next character if it is this one.
    fn took(&mut self, char: char) -> bool {
        self.left.next_if_eq(&char).is_some()
    }

    fn end(&mut self) {
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words).join(" "));
        }
    }

    /// The end of a command that must have had words.
    fn end_something(&mut self) -> Option<()> {
        if self.words.is_empty() {
            return None;
        }
        self.end();
        Some(())
    }

    /// A word that begins with this character.
    fn word(&mut self, first: char) -> Option<()> {
        let (mut text, mut quoted, mut char) = (String::new(), false, first);
        loop {
            match char {
                '\'' => {
                    quoted = true;
                    loop {
                        match self.left.next()? {
                            '\'' => break,
                            char => text.push(legal(char)?),
                        }
                    }
                }
                '"' => {
                    quoted = true;
                    self.double_quoted(&mut text)?;
                }
                '\\' => {
                    quoted = true;
                    text.push(legal(self.left.next().filter(|next| *next != '\n')?)?);
                }
                '$' | '`' | '{' | '}' => return None,
                char => text.push(legal(char)?),
            }
            char = match self.left.peek() {
                // A number before it is the descriptor that is redirected.
                Some('>') if !quoted && text.chars().all(|char| char.is_ascii_digit()) => {
                    self.left.next();
                    return self.redirected();
                }
                None | Some(' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')') => break,
                Some(_) => self.left.next()?,
            };
        }
        // An assignment is one whatever of its value is quoted; and what stands behind a bracket may belong to one.
        let is_reserved = !quoted && RESERVED.contains(&text.as_str());
        let is_element = text.len() > 1 && text.contains('[');
        if self.words.is_empty() && (is_reserved || is_element || is_assignment(&text)) {
            return None;
        }
        self.words.push(written(&text, quoted));
        Some(())
    }

    fn double_quoted(&mut self, text: &mut String) -> Option<()> {
        loop {
            match self.left.next()? {
                '"' => return Some(()),
                '$' | '`' => return None,
                '\\' => match self.left.next()? {
                    escaped @ ('$' | '`' | '"' | '\\') => text.push(escaped),
                    '\n' => return None,
                    other => text.extend(['\\', legal(other)?]),
                },
                char => text.push(legal(char)?),
            }
        }
    }

    /// What stands behind `>`: another descriptor, or nothing.
    fn redirected(&mut self) -> Option<()> {
        if self.took('&') {
            let mut some = self.took('-');
            while !some && self.left.next_if(char::is_ascii_digit).is_some() {
                some = !self.left.peek().is_some_and(char::is_ascii_digit);
            }
            // Directly behind it a word would go on.
            return (some && self.left.peek().is_none_or(|next| " \t\n;&|".contains(*next))).then_some(());
        }
        let _ = self.took('>') || self.took('|');
        self.target()
    }

    fn target(&mut self) -> Option<()> {
        self.took('>');
        while self.took(' ') {}
        "/dev/null".chars().all(|char| self.took(char)).then_some(())?;
        self.left.peek().is_none_or(|next| " \t\n;&|".contains(*next)).then_some(())
    }
}

/// Whatever a terminal or a shell would obey stands in no plain command.
fn legal(char: char) -> Option<char> {
    (!char.is_control() || matches!(char, '\n' | '\t')).then_some(char)
}

/// Whether a word sets a variable for what follows it.
fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    let legal = |char: char| char.is_ascii_alphanumeric() || char == '_';
    !name.is_empty() && name.chars().all(legal) && !name.starts_with(|char: char| char.is_ascii_digit())
}

/// A word as it is compared: what was quoted and needs it is in single quotes, so that two words are never one.
fn written(text: &str, quoted: bool) -> String {
    let safe = |char: char| char.is_ascii_alphanumeric() || "_@%+=:,./^-".contains(char);
    if !text.is_empty() && (!quoted || text.chars().all(safe)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A piece of a command that a shell may read as commands of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Its words with one space between them, without quotes.
    pub(super) text: String,
    /// Where in it a command's name may stand.
    pub(super) starts: Vec<usize>,
}

/// What runs its arguments, or may.
const WRAPPERS: [&str; 42] = [
    "ash",
    "bash",
    "builtin",
    "busybox",
    "chroot",
    "command",
    "dash",
    "doas",
    "env",
    "eval",
    "exec",
    "find",
    "flock",
    "ionice",
    "ksh",
    "nice",
    "nohup",
    "nsenter",
    "parallel",
    "pkexec",
    "runuser",
    "script",
    "setpriv",
    "setsid",
    "sg",
    "sh",
    "ssh",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "systemd-run",
    "taskset",
    "time",
    "timeout",
    "toybox",
    "trap",
    "unshare",
    "watch",
    "watchexec",
    "xargs",
    "zsh",
];
/// Words before which no name stands.
const BEFORE: [&str; 9] = ["!", "coproc", "do", "elif", "else", "if", "then", "until", "while"];

/// Everything in a command that may be run. Quotes do not hide a separator from it, because a shell within the command may
/// read what is within them.
pub(super) fn reach(command: &str) -> Vec<Fragment> {
    let separates = |char: char| matches!(char, ';' | '&' | '|' | '\n' | '\r' | '(' | ')' | '{' | '}' | '`');
    let unquoted = |piece: &str| {
        let piece = piece.replace("$'", "").replace("$\"", "");
        piece.chars().filter(|char| !matches!(char, '\'' | '"' | '\\')).collect::<String>()
    };
    let whole = Fragment { text: command.split_whitespace().collect::<Vec<_>>().join(" "), starts: vec![0] };
    let pieces = command.split(separates).map(unquoted);
    // A line that goes on behind a backslash is one line.
    let joined = command.contains("\\\n").then(|| command.replace("\\\n", ""));
    let again = joined.into_iter().flat_map(|joined| joined.split(separates).map(unquoted).collect::<Vec<_>>());
    let mut found: Vec<Fragment> =
        pieces.chain(again).map(|piece| fragment(piece.split_whitespace())).chain([whole]).collect();
    found.retain(|fragment| !fragment.text.is_empty());
    found
}

fn fragment<'a>(words: impl Iterator<Item = &'a str>) -> Fragment {
    let (mut text, mut starts) = (String::new(), Vec::new());
    // Nothing but what may stand before a name was seen; or what runs its arguments was.
    let (mut before, mut wrapped) = (true, false);
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        let at = text.len();
        text.push_str(word);
        if !(before || wrapped) {
            continue;
        }
        starts.push(at);
        let name = word.rsplit('/').next().unwrap_or(word);
        if name.len() < word.len() {
            starts.push(at + word.len() - name.len());
        }
        let redirects = word.trim_start_matches(|char: char| char.is_ascii_digit()).starts_with(['<', '>']);
        before = before && (redirects || BEFORE.contains(&word) || is_assignment(word));
        wrapped = wrapped || WRAPPERS.contains(&name);
    }
    Fragment { text, starts }
}
