use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use expect_test::expect;
use lakitu_kernel::error::ToolError;
use lakitu_kernel::tool::ToolSpec;
use serde_json::{Value, json};

use super::*;
use crate::tools::Place;

mod bounds;

/// A place to search.
struct Tree {
    dir: tempfile::TempDir,
    minute: u64,
}

fn tree() -> Tree {
    let dir = tempfile::tempdir().unwrap();
    for name in ["w", "artifacts", "data/outputs"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    Tree { dir, minute: 0 }
}

impl Tree {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("w").join(below)
    }

    /// A file that is newer than all before it.
    fn put(&mut self, below: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        self.minute += 1;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + self.minute * 60);
        std::fs::File::open(&path).unwrap().set_modified(at).unwrap();
    }

    fn roots_with(&self, data: &Path) -> Roots {
        let place = Place { workspace: self.path(""), artifacts: self.dir.path().join("artifacts") };
        Roots::open(&place, &data.join("outputs"), data).unwrap()
    }

    fn within(&self, tool: &ToolSpec, arguments: &Value, span: &Span) -> String {
        self.of(&self.roots_with(&self.dir.path().join("data")), tool, arguments, span)
    }

    fn of(&self, roots: &Roots, tool: &ToolSpec, arguments: &Value, span: &Span) -> String {
        let told = tool.check(&arguments.to_string()).and_then(|arguments| {
            let outcome = match tool.name {
                "glob" => glob(roots, &serde_json::from_value(arguments).unwrap(), span),
                "grep" => grep(roots, &serde_json::from_value(arguments).unwrap(), span),
                _ => ls(roots, &serde_json::from_value(arguments).unwrap()),
            };
            outcome.map_err(ToolError::from)
        });
        let told = told.map_or_else(|error| format!("{error}\n"), |outcome| outcome.output);
        told.replace(self.dir.path().to_str().unwrap(), "/T")
    }

    fn glob(&self, arguments: Value) -> String {
        self.within(&GLOB, &arguments, &Span::of(SEARCH_DEADLINE))
    }

    fn grep(&self, arguments: Value) -> String {
        self.within(&GREP, &arguments, &Span::of(SEARCH_DEADLINE))
    }

    fn ls(&self, arguments: Value) -> String {
        self.within(&LS, &arguments, &Span::of(SEARCH_DEADLINE))
    }
}

fn small() -> Tree {
    let mut tree = tree();
    tree.put("src/main.rs", "fn main() {\n    run();\n}\n");
    tree.put("src/deep/run.rs", "pub fn run() {}\r\n// run\r\n");
    tree.put("README.md", "Run it.\n");
    tree.put("a/x.txt", "one\n");
    tree.put("a/b/x.txt", "two\n");
    tree.put("target/out.rs", "fn run() {}\n");
    tree.put(".github/ci.yml", "run: x\n");
    tree.put(".gitignore", "target/\n*.log\n");
    tree.put("noise.log", "run\n");
    tree.put(".git/config", "run\n");
    tree
}

#[test]
fn glob_finds_names_and_paths_the_newest_first() {
    let tree = small();
    let told: Vec<_> = [
        json!({ "pattern": "*.rs" }),
        json!({ "pattern": "src/**/*.rs" }),
        json!({ "pattern": "a/*.txt" }),
        json!({ "pattern": "*.txt", "path": "a/b" }),
        json!({ "pattern": "b/*.txt", "directory": "a" }),
        json!({ "include": "*.{md,txt}" }),
        json!({ "pattern": format!("{}/a/**", tree.path("").to_str().unwrap()) }),
        json!({ "pattern": ".github/*" }),
        json!({ "pattern": "target/*.rs" }),
        json!({ "pattern": "*.log" }),
        json!({ "pattern": "none/*.rs" }),
        json!({ "pattern": "[a" }),
        json!({ "pattern": "*.rs", "path": "README.md" }),
        json!({ "pattern": "*.rs", "path": "scr" }),
        json!({ "pattern": "../*" }),
        json!({ "pattern": "/etc/*" }),
        json!({ "pattern": "*.rs", "type": "rust" }),
    ]
    .into_iter()
    .map(|arguments| tree.glob(arguments))
    .collect();
    expect![[r#"
        src/deep/run.rs
        src/main.rs
        --
        src/deep/run.rs
        src/main.rs
        --
        a/x.txt
        --
        a/b/x.txt
        --
        a/b/x.txt
        --
        a/b/x.txt
        a/x.txt
        README.md
        --
        a/b/x.txt
        a/x.txt
        --
        .github/ci.yml
        --
        target/out.rs
        --
        no file matches *.log
        --
        no file matches none/*.rs
        --
        INVALID_ARGUMENTS: unclosed character class; missing ']'; to match one of *?[]{} itself put a backslash before it
        --
        INVALID_ARGUMENTS: README.md is no directory; give one as `path`, or leave it out
        --
        FILE_NOT_FOUND: scr does not exist
        --
        PERMISSION_DENIED: .. leads outside the workspace /T/w; give a path below it, relative or absolute
        --
        PERMISSION_DENIED: /etc leads outside the workspace /T/w; give a path below it, relative or absolute
        --
        INVALID_ARGUMENTS: unknown argument "type"; known are path, pattern
    "#]]
    .assert_eq(&told.join("--\n"));
}

#[test]
fn grep_gives_files_lines_or_counts() {
    let tree = small();
    let told: Vec<_> = [
        json!({ "pattern": "run" }),
        json!({ "pattern": "run", "output_mode": "content" }),
        json!({ "pattern": "run", "output_mode": "content", "-n": true, "-C": "1", "include": "*.rs" }),
        json!({ "pattern": "RUN", "-i": "true", "output_mode": "count" }),
        json!({ "pattern": "run$", "path": "src", "output_mode": "content" }),
        json!({ "pattern": "run", "glob": "!*.rs" }),
        json!({ "pattern": "run", "glob": "src/*.rs", "head_limit": 1 }),
        json!({ "pattern": "run", "output_mode": "content", "limit": 1 }),
        json!({ "pattern": "run", "path": ".github" }),
        json!({ "pattern": "run", "glob": ".github/**" }),
        json!({ "pattern": "run", "path": "target/out.rs", "output_mode": "content" }),
        json!({ "pattern": "nowhere" }),
        json!({ "pattern": "run(" }),
        json!({ "pattern": "a\nb" }),
        json!({ "pattern": "" }),
        json!({ "pattern": "run", "output_mode": "lines" }),
        json!({ "pattern": "run", "paths": "x" }),
    ]
    .into_iter()
    .map(|arguments| tree.grep(arguments))
    .collect();
    expect![[r#"
        src/deep/run.rs
        src/main.rs
        --
        src/deep/run.rs:1:pub fn run() {}
        src/deep/run.rs:2:// run
        src/main.rs:2:    run();
        --
        src/deep/run.rs:1:pub fn run() {}
        src/deep/run.rs:2:// run
        --
        src/main.rs-1-fn main() {
        src/main.rs:2:    run();
        src/main.rs-3-}
        --
        README.md:1
        src/deep/run.rs:2
        src/main.rs:1
        --
        src/deep/run.rs:2:// run
        --
        no match for run
        --
        src/main.rs
        --
        src/deep/run.rs:1:pub fn run() {}
        [2 more matching lines left out; narrow the pattern, `path` or `glob`]
        --
        .github/ci.yml
        --
        .github/ci.yml
        --
        target/out.rs:1:fn run() {}
        --
        no match for nowhere
        --
        INVALID_ARGUMENTS: regex parse error:
            (?:run()
            ^
        error: unclosed group
        to search for these characters themselves escape them with backslashes: run\(
        --
        INVALID_ARGUMENTS: the literal "\n" is not allowed in a regex
        lines are searched one by one: give the part that stands on one line
        --
        INVALID_ARGUMENTS: pattern is empty, which matches every line; use glob or ls for names
        --
        INVALID_ARGUMENTS: output_mode: unknown variant `lines`, expected one of `files_with_matches`, `content`, `count`
        --
        INVALID_ARGUMENTS: unknown argument "paths"; known are context, glob, ignore_case, limit, output_mode, path, pattern
    "#]].assert_eq(&told.join("--\n"));
}

#[test]
fn rules_of_a_directory_hold_below_it_and_the_nearest_decides() {
    let mut tree = tree();
    for (path, text) in [
        (".gitignore", "*.log\n/build\nsecret.*\n"),
        ("keep/.gitignore", "!a.log\n"),
        ("own/.ignore", "*.txt\n!b.log\n"),
        ("nested/.git/info/exclude", "x.txt\n"),
    ] {
        tree.put(path, text);
    }
    for path in [
        "a.log",
        "build/x.txt",
        "src/build/x.txt",
        "keep/a.log",
        "keep/b.log",
        "own/a.txt",
        "own/b.log",
        "nested/a.log",
        "nested/x.txt",
        "secret.txt",
    ] {
        tree.put(path, "found\n");
    }
    // `.ignore` decides before `.gitignore`; a repository within begins anew.
    let expected = ["nested/a.log", "own/b.log", "keep/a.log", "src/build/x.txt"].join("\n") + "\n";
    assert_eq!(tree.grep(json!({ "pattern": "found" })), expected);
    assert_eq!(tree.glob(json!({ "pattern": "*.{log,txt}" })), expected);
    // The rules above the place that is searched hold in it.
    assert_eq!(tree.grep(json!({ "pattern": "found", "path": "keep" })), "keep/a.log\n");
}

#[test]
fn ls_leaves_out_what_is_hidden_or_ignored_and_says_so() {
    let tree = small();
    let told =
        [json!({}), json!({ "path": "a", "hidden": "true" }), json!({ "path": "a/x.txt" }), json!({ "path": "b" })]
            .map(|arguments| tree.ls(arguments));
    expect![[r#"
        . is a directory with 3 entries:
        README.md
        a/
        src/
        [5 hidden or ignored left out; `hidden` shows them]
        --
        a is a directory with 2 entries:
        b/
        x.txt
        --
        a/x.txt
        --
        FILE_NOT_FOUND: b does not exist
    "#]]
    .assert_eq(&told.join("--\n"));
    assert!(tree.ls(json!({ "hidden": true })).contains("\n.git/\n.github/\n.gitignore\nREADME.md\n"));
}

#[test]
fn results_are_capped_at_the_limit_and_not_before_and_the_rest_is_counted() {
    let mut tree = tree();
    for n in 0..1000 {
        tree.put(&format!("f{n:04}.txt"), if n < 500 { "x\n" } else { "" });
    }
    assert_eq!(tree.glob(json!({ "pattern": "*.txt" })).lines().count(), 1000);
    assert_eq!(tree.grep(json!({ "pattern": "x" })).lines().count(), 500);
    tree.put("g.txt", "x\n");
    let globbed = tree.glob(json!({ "pattern": "*.txt" }));
    assert!(globbed.starts_with("g.txt\nf0999.txt\n"));
    assert!(globbed.ends_with("\nf0001.txt\n[1 older files left out; narrow the pattern or give `path`]\n"));
    let told = tree.grep(json!({ "pattern": "x" }));
    assert!(told.starts_with("g.txt\nf0499.txt\n") && told.contains("\nf0001.txt\n[1 more older files that match"));
    for mode in ["content", "count"] {
        let told = tree.grep(json!({ "pattern": "x", "output_mode": mode, "limit": 9999 }));
        assert_eq!(told.lines().count(), 501, "{mode}");
        assert!(told.contains("\nf0499.txt:1") && told.contains("[1 more "), "{mode}: {told}");
    }
    tree.put("big.txt", format!("x{}\n", "é".repeat(600)).repeat(400));
    let told = tree.grep(json!({ "pattern": "x", "path": "big.txt", "output_mode": "content" }));
    assert!(told.len() <= lakitu_kernel::limits::OUTPUT_BYTES_MAX);
    assert!(told.starts_with(&format!("big.txt:1:x{}… [line of 1201 bytes]\n", "é".repeat(499))), "{}", &told[..1100]);
    assert!(told.ends_with("more matching lines left out; narrow the pattern, `path` or `glob`]\n"));
}

#[test]
fn what_is_no_text_is_skipped_and_what_is_no_utf8_is_not() {
    let mut tree = tree();
    tree.put("bin", b"needle\n\0\n");
    tree.put("late", [b"needle\n".repeat(20_000), vec![0, b'\n']].concat());
    tree.put("latin", b"\xe9 needle\n");
    tree.put("utf16", b"\xff\xfen\0e\0e\0d\0l\0e\0\n\0");
    tree.put("empty", b"");
    std::fs::File::create(tree.path("sparse")).unwrap().set_len(1 << 36).unwrap();
    std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.path("fifo"), rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    let told = tree.grep(json!({ "pattern": "needle", "output_mode": "content" }));
    assert_eq!(told, "latin:1:\u{fffd} needle\nutf16:1:needle\n");
    assert!(tree.grep(json!({ "pattern": "x", "path": "fifo" })).starts_with("PERMISSION_DENIED: "));
}

#[test]
fn links_are_not_followed_and_those_that_lead_outside_are_not_there() {
    let mut tree = tree();
    tree.put("in/a.txt", "needle\n");
    std::fs::create_dir(tree.dir.path().join("out")).unwrap();
    std::fs::write(tree.dir.path().join("out/b.txt"), "needle\n").unwrap();
    for (target, name) in [("in", "dir"), ("in/a.txt", "l.txt"), ("../out", "away"), ("../../out/b.txt", "in/m.txt")] {
        symlink(target, tree.path(name)).unwrap();
    }
    symlink("loop.txt", tree.path("loop.txt")).unwrap();
    assert_eq!(tree.grep(json!({ "pattern": "needle" })), "in/a.txt\n");
    let mut listed: Vec<_> = tree.glob(json!({ "pattern": "*.txt" })).lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, ["in/a.txt", "l.txt"]);
    // A link that is named is gone through, as everywhere; not outside.
    assert_eq!(tree.grep(json!({ "pattern": "needle", "path": "dir" })), "in/a.txt\n");
    for path in ["away", "in/m.txt", "/proc/self/root", "loop.txt"] {
        for told in [tree.grep(json!({ "pattern": "x", "path": path })), tree.ls(json!({ "path": path }))] {
            assert!(told.starts_with("PERMISSION_DENIED: "), "{path}: {told}");
        }
    }
    assert!(tree.glob(json!({ "pattern": "away/*" })).starts_with("PERMISSION_DENIED: "));
}

#[test]
fn the_runtimes_own_directory_is_not_searched() {
    let mut tree = tree();
    tree.put("state/lakitu.redb", "needle\n");
    tree.put("state/outputs/1.out", "needle\n");
    tree.put("a.txt", "needle\n");
    let roots = tree.roots_with(&tree.path("state"));
    let span = Span::of(SEARCH_DEADLINE);
    assert_eq!(tree.of(&roots, &GREP, &json!({ "pattern": "needle" }), &span), "a.txt\n");
    assert_eq!(tree.of(&roots, &GLOB, &json!({ "pattern": "**/*" }), &span), "a.txt\n");
    let told = tree.of(&roots, &GREP, &json!({ "pattern": "needle", "path": "state/outputs" }), &span);
    assert_eq!(told, "state/outputs/1.out\n");
    let told = tree.of(&roots, &GREP, &json!({ "pattern": "needle", "path": "state" }), &span);
    assert!(told.starts_with("PERMISSION_DENIED: "), "{told}");
}

#[test]
fn names_are_shown_without_loss_and_a_pattern_is_never_an_option() {
    let mut tree = tree();
    for name in [b"new\nline".as_slice(), b"\xff\xfe", b"-rf", b"--help"] {
        let name = std::ffi::OsStr::from_bytes(name);
        std::fs::write(tree.path("").join(name), "-e\n").unwrap();
    }
    tree.put("last", "");
    let mut told: Vec<_> = tree.grep(json!({ "pattern": "-e" })).lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, ["\"\\xff\\xfe\"", "\"new\\nline\"", "--help", "-rf"]);
    assert_eq!(tree.glob(json!({ "pattern": "--help" })), "--help\n");
    assert_eq!(tree.glob(json!({ "pattern": "-*", "path": "." })).lines().count(), 2);
}
