//! What a hostile text can do to a person's terminal: nothing. The real binary on a real one.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use crate::harness::{Binary, Script};

/// A name, a text that wants more than to be read, and what is read of it.
const VECTORS: [(&str, &str, &str); 20] = [
    ("clipboard", "G01a\u{1b}]52;c;ZXZpbA==\u{7}b", "G01ab"),
    ("title", "G02a\u{1b}]0;owned\u{1b}\\b", "G02ab"),
    ("status report", "G03a\u{1b}[6nb", "G03ab"),
    ("colour query", "G04a\u{1b}]11;?\u{7}b", "G04ab"),
    ("attributes and settings", "G05a\u{1b}[c\u{1b}[>0c\u{1b}P$qm\u{1b}\\b", "G05ab"),
    ("clear and home", "G06a\u{1b}[2J\u{1b}[Hb", "G06ab"),
    ("alternate screen", "G07a\u{1b}[?1049hb", "G07ab"),
    ("a link to something else", "G08a\u{1b}]8;;file:///etc/passwd\u{1b}\\b\u{1b}]8;;\u{1b}\\", "G08ab"),
    ("controls in one character", "G09a\u{9b}2Jb\u{9d}0;t\u{9c}c", "G09abc"),
    ("overwriting", "G10a\rb\u{8}\u{8}\u{7f}c", "G10abc"),
    ("sixel", "G12a\u{1b}Pq#0;2;0;0;0~-\u{1b}\\b", "G12ab"),
    ("kitty", "G12c\u{1b}_Gf=24,s=10;AAAA\u{1b}\\d", "G12cd"),
    ("bidi", "G13a\u{202e}b\u{2066}c\u{2069}", "G13abc"),
    ("zero width", "G13d\u{200b}e\u{feff}f\u{2060}", "G13def"),
    ("tags", "G13g\u{e0001}\u{e0041}\u{e007f}h", "G13gh"),
    ("towers of marks", "G14a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}b", "G14a\u{300}\u{301}\u{302}\u{303}b"),
    ("an escape at the end", "G15a\u{1b}", "G15a"),
    ("colours", "a\u{1b}[1;31mred\u{1b}[0m", "ared"),
    ("character sets", "b\u{1b}(0q\u{1b}(B", "bq"),
    ("reset", "c\u{1b}cd", "cd"),
];

/// One terminal, 100 columns wide.
struct Terminal {
    person: File,
    program: OwnedFd,
}

impl Terminal {
    fn open() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        tcsetwinsize(&program, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        Self { person: person.into(), program }
    }

    /// Runs a command on it to its end: its exit code, and all that came to the terminal.
    fn runs(mut self, lakitu: &Binary, args: &[&str]) -> (i32, String) {
        let end = |side: &OwnedFd| side.as_fd().try_clone_to_owned().unwrap();
        let mut command = lakitu.command(args);
        command.stdout(end(&self.program)).stderr(self.program).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let mut child = command.spawn().unwrap();
        // Its ends are closed here as well, so that the last one to close is the child.
        drop(command);
        let (mut shown, mut piece) = (Vec::new(), [0; 65_536]);
        // Where nobody writes any more, reading fails.
        while let Ok(count @ 1..) = self.person.read(&mut piece) {
            shown.extend_from_slice(&piece[..count]);
        }
        let text = String::from_utf8(shown).expect("whole characters");
        (child.wait().unwrap().code().unwrap(), text)
    }
}

/// What is read of it, once what Lakitu itself writes is taken away: its line that moves, and its colours.
fn read(shown: &str) -> String {
    let mut text = shown.replace("\r\u{1b}[K", "").replace("\r\n", "\n");
    for colour in ["0", "1", "2", "31", "32", "33", "36"] {
        text = text.replace(&format!("\u{1b}[{colour}m"), "");
    }
    text
}

/// Nothing in it is obeyed, and nothing is hidden.
fn harmless(what: &str, shown: &str) -> String {
    let text = read(shown);
    let hidden = |char: char| {
        matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    let found: Vec<_> =
        text.char_indices().filter(|(_, char)| (char.is_control() && *char != '\n') || hidden(*char)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
    text
}

fn holds(what: &str, text: &str, visible: &str) {
    assert!(text.contains(visible), "{what}: {visible:?} is not in {text:?}");
}

/// A model that says and does all of it.
fn script() -> Script {
    let each =
        |call: fn(usize, &str) -> Value| VECTORS.iter().enumerate().map(move |(at, (_, text, _))| call(at, text));
    let outputs = each(|at, _| json!({ "command": format!("sed -n {}p vectors", at + 1) }));
    let raw = json!({ "command": "printf 'G09x\\2332Jy\\n'" });
    let endless = json!({ "command": "printf 'G11a\\033]0;'; head -c 10485760 /dev/zero | tr '\\0' x" });
    Script::new()
        .calls_all(outputs.chain([raw, endless]).map(|arguments| ("bash", arguments)))
        .calls_all(each(|_, text| json!({ "path": text })).map(|arguments| ("file_read", arguments)))
        .calls_all(each(|_, text| json!({ "command": format!("true {text}") })).map(|arguments| ("bash", arguments)))
        .calls(VECTORS[5].1, json!({}))
        .says(&VECTORS.map(|(_, text, _)| text).join("\n"))
}

#[test]
fn hostile_texts_are_read_and_not_obeyed_wherever_they_come_from() {
    let lakitu = Binary::new();
    lakitu.home.write("vectors", &VECTORS.map(|(_, text, _)| text).join("\n"));
    let script = lakitu.script(&script());
    let prompt = VECTORS.map(|(_, text, _)| text).concat();
    let begun = Instant::now();

    let (exit, shown) = Terminal::open().runs(&lakitu, &["run", &prompt, "--script", &script, "-v"]);

    assert_eq!(exit, 0, "{shown:?}");
    assert!(shown.len() < 256 * 1024, "{} bytes came to the terminal", shown.len());
    assert!(begun.elapsed().as_secs() < 60, "it took {:?}", begun.elapsed());
    let text = harmless("run", &shown);
    for (name, _, visible) in VECTORS {
        let times = text.matches(visible).count();
        assert!(times >= 3, "{name}: {visible:?} is read {times} times in {text}");
    }
    holds("a control that is one byte", &text, "G09x");
    holds("a command that never ends", &text, "G11a");

    let id = text.split_whitespace().find(|word| word.starts_with("thr_")).unwrap().to_owned();
    let reading: [&[&str]; 5] = [
        &["threads", "ls"],
        &["threads", "show", &id],
        &["threads", "events", &id],
        &["threads", "events", &id, "--json"],
        &["resume", &id, "--script", &script],
    ];
    for args in reading {
        let (exit, shown) = Terminal::open().runs(&lakitu, args);
        assert_eq!(exit, 0, "{args:?} {shown:?}");
        holds(&format!("{args:?}"), &harmless(&format!("{args:?}"), &shown), "G01a");
    }
}

#[test]
fn what_is_told_of_a_failure_is_read_too() {
    let lakitu = Binary::new();
    let hostile = VECTORS.map(|(_, text, _)| text).concat();
    let rows: [&[&str]; 4] = [
        &["run", "x", "--workspace", &hostile],
        &["run", "x", "--script", &hostile],
        &["resume", &hostile],
        &["doctor", "--script", &hostile],
    ];
    for args in rows {
        let (exit, shown) = Terminal::open().runs(&lakitu, args);
        assert!(exit == 1 || exit == 2, "{args:?} {exit}");
        let what = args[0];
        holds(what, &harmless(what, &shown), "G01a");
    }
}
