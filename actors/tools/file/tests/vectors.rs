//! Paths that were chosen to do harm, each against every tool that takes one: what comes of it, in bounded time.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// No call may take longer, however busy the machine is.
const BOUND: Duration = Duration::from_secs(10);

/// What a tool may say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Refused with a typed error; nothing happened.
    Refused,
    /// A name like any other, below the workspace: what is not there is not found, and can be made.
    Literal,
}

impl Bench {
    /// What every tool says of a path.
    async fn all_say(&mut self, path: &str) -> Vec<(&'static str, ToolOutcome)> {
        let add = format!("*** Begin Patch\n*** Add File: {path}\n+x\n*** End Patch");
        let delete = format!("*** Begin Patch\n*** Delete File: {path}\n*** End Patch");
        let edits = json!([{ "old_string": "a", "new_string": "x" }]);
        let calls = [
            (&FILE_READ, json!({ "path": path })),
            (&LS, json!({ "path": path })),
            (&GREP, json!({ "pattern": "root", "path": path })),
            (&GLOB, json!({ "pattern": "*", "path": path })),
            (&FILE_EDIT, json!({ "path": path, "old_string": "a", "new_string": "x" })),
            (&MULTI_EDIT, json!({ "path": path, "edits": edits })),
            (&APPLY_PATCH, json!({ "patch": delete })),
            (&APPLY_PATCH, json!({ "patch": add })),
            (&FILE_WRITE, json!({ "path": path, "content": "x" })),
        ];
        let mut said = Vec::new();
        for (tool, arguments) in calls {
            let checked = tool.check(&arguments.to_string());
            let began = Instant::now();
            let outcome = match checked {
                Ok(_) => self.call(tool, arguments).await,
                Err(error) => error.into(),
            };
            assert!(began.elapsed() < BOUND, "{}: {path:?} took {:?}", tool.name, began.elapsed());
            said.push((tool.name, outcome));
        }
        said
    }
}

/// A01 to A17, A22, A23.
#[tokio::test]
async fn a_path_leads_inside_or_is_refused() {
    let long = "x".repeat(256);
    let deep = format!("{}x", "d/".repeat(2048));
    let rows: Vec<(&str, Says)> = vec![
        ("../etc/passwd", Says::Refused),
        ("/etc/passwd", Says::Refused),
        ("a/../../x", Says::Refused),
        ("a\0.txt", Says::Refused),
        (&long, Says::Refused),
        (&deep, Says::Refused),
        ("absolute", Says::Refused),
        ("upward", Says::Refused),
        ("loop-a", Says::Refused),
        ("absolute/x", Says::Refused),
        ("/proc/self/root/etc/passwd", Says::Refused),
        ("/proc/self/fd/3", Says::Refused),
        ("/dev/fd/0", Says::Refused),
        ("/dev/zero", Says::Refused),
        ("/dev/tty", Says::Refused),
        ("fifo", Says::Refused),
        ("socket", Says::Refused),
        ("~/.ssh/id_rsa", Says::Literal),
        ("$HOME/x", Says::Literal),
        ("%2e%2e%2fx", Says::Literal),
        ("..\\x", Says::Literal),
        ("./n1/./b", Says::Literal),
        ("n2//b///c", Says::Literal),
        ("-rf", Says::Literal),
        ("--help", Says::Literal),
        ("$(touch made)", Says::Literal),
    ];
    for (path, expected) in rows {
        let mut bench = bench();
        for (target, name) in
            [("/etc/passwd", "absolute"), ("../../..", "upward"), ("loop-b", "loop-a"), ("loop-a", "loop-b")]
        {
            symlink(target, bench.path(name)).unwrap();
        }
        rustix::fs::mkfifoat(CWD, bench.path("fifo"), rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(bench.path("socket")).unwrap();
        let before = bench.names();
        for (tool, outcome) in bench.all_say(path).await {
            let code = outcome.error.map(|error| error.code);
            let not_there = code == Some(ErrorCode::FileNotFound);
            match expected {
                // What a tool lists is a name, and of a name that is no file it says so.
                Says::Refused => {
                    let refused = [ErrorCode::PermissionDenied, ErrorCode::InvalidArguments];
                    let listed = tool == "ls" && matches!(path, "fifo" | "socket");
                    assert!(code.is_some_and(|code| refused.contains(&code)) || listed, "{tool} {path:?}: {code:?}");
                }
                Says::Literal => match (tool, code) {
                    // Added by the patch, it is known, and written again.
                    ("apply_patch" | "file_write", None) => {}
                    _ => assert!(not_there, "{tool} {path:?}: {code:?}"),
                },
            }
        }
        match expected {
            Says::Refused => assert_eq!(bench.names(), before, "{path:?}"),
            Says::Literal => assert_eq!(std::fs::read(bench.path(path)).unwrap(), b"x", "{path:?}"),
        }
        assert!(!bench.path("made").exists());
    }
}

/// A06, A07: what names no file.
#[tokio::test]
async fn an_empty_path_and_a_directory_are_no_files() {
    let mut bench = bench();
    bench.put("a.txt", "a");
    for path in ["", ".", "./", "a.txt/x"] {
        for (tool, outcome) in bench.all_say(path).await {
            let code = outcome.error.map(|error| error.code);
            let found = matches!(tool, "ls" | "grep" | "glob" | "file_read");
            assert!(found || code.is_some(), "{tool} {path:?}: {}", outcome.output);
        }
        assert_eq!((bench.names(), bench.bytes("a.txt")), (vec!["a.txt".to_owned()], b"a".to_vec()));
    }
}

/// A11, A12: names that no terminal may see, and that are no text.
#[tokio::test]
async fn names_that_are_no_text_are_escaped_everywhere() {
    let mut bench = bench();
    for name in [b"n\new".as_slice(), b"t\tab", b"\x1b[2J", b"\xff\xfe"] {
        std::fs::write(bench.path("").join(std::ffi::OsStr::from_bytes(name)), "root\n").unwrap();
    }
    let outputs = [
        bench.call(&LS, json!({})).await.output,
        bench.call(&GLOB, json!({ "pattern": "*" })).await.output,
        bench.call(&GREP, json!({ "pattern": "root" })).await.output,
        bench.call(&GREP, json!({ "pattern": "root", "output_mode": "count" })).await.output,
    ];
    for output in outputs {
        for name in ["\"n\\new\"", "\"t\\tab\"", "\"\\u{1b}[2J\"", "\"\\xff\\xfe\""] {
            assert!(output.contains(name), "{name} in {output}");
        }
        assert!(!output.contains(['\t', '\x1b']));
    }
    assert_eq!(bench.call(&GREP, json!({ "pattern": "root", "path": "t\tab" })).await.output, "\"t\\tab\"\n");
}

/// A21: of a file with two names only the one in the workspace is changed.
#[tokio::test]
async fn a_hard_link_to_a_file_outside_is_replaced_and_the_file_outside_stays() {
    let mut bench = bench();
    let outside = bench.dir.path().join("outside");
    std::fs::write(&outside, "a\n").unwrap();
    let patch = "*** Begin Patch\n*** Update File: link\n-a\n+x\n*** End Patch";
    for (tool, arguments) in [
        (&FILE_WRITE, json!({ "path": "link", "content": "x\n" })),
        (&FILE_EDIT, json!({ "path": "link", "old_string": "a", "new_string": "x" })),
        (&MULTI_EDIT, json!({ "path": "link", "edits": [{ "old_string": "a", "new_string": "x" }] })),
        (&APPLY_PATCH, json!({ "patch": patch })),
    ] {
        let _ = std::fs::remove_file(bench.path("link"));
        std::fs::hard_link(&outside, bench.path("link")).unwrap();
        bench.read("link").await;
        let outcome = bench.call(tool, arguments).await;
        assert!(outcome.error.is_none(), "{}", outcome.output);
        assert_eq!((std::fs::read(&outside).unwrap(), bench.bytes("link")), (b"a\n".to_vec(), b"x\n".to_vec()));
        assert_eq!(std::fs::metadata(&outside).unwrap().nlink(), 1);
    }
}

/// A24, A25: files without an end.
#[tokio::test]
async fn a_file_larger_than_any_memory_costs_no_more_than_a_small_one() {
    let mut bench = bench();
    let sparse = std::fs::File::create(bench.path("sparse")).unwrap();
    sparse.set_len(1 << 40).or_else(|_| sparse.set_len(1 << 36)).unwrap();
    for (tool, outcome) in bench.all_say("sparse").await {
        let code = outcome.error.map(|error| error.code);
        let fits = match tool {
            "ls" | "grep" => code.is_none(),
            "glob" => code == Some(ErrorCode::InvalidArguments),
            _ => code == Some(ErrorCode::FileTooLarge),
        };
        assert!(fits, "{tool}: {code:?}");
    }
}

/// A27: what protects a file protects it from every tool.
#[tokio::test]
async fn a_read_only_file_is_not_written() {
    let mut bench = bench();
    bench.put("a.txt", "a\n");
    std::fs::set_permissions(bench.path("a.txt"), PermissionsExt::from_mode(0o444)).unwrap();
    bench.read("a.txt").await;
    for (tool, outcome) in bench.all_say("a.txt").await {
        let writes = matches!(tool, "file_edit" | "multi_edit" | "file_write" | "apply_patch");
        let refused = outcome.error.is_some_and(|error| error.code == ErrorCode::PermissionDenied);
        assert_eq!(refused, writes, "{tool}: {}", outcome.output);
    }
    assert_eq!(bench.bytes("a.txt"), b"a\n");
}

/// A28: names that look the same are two files.
#[tokio::test]
async fn twins_stay_two_files() {
    let mut bench = bench();
    let (composed, combined) = ("caf\u{e9}", "cafe\u{301}");
    bench.write(composed, "one").await;
    bench.write(combined, "two").await;
    assert_eq!((bench.bytes(composed), bench.bytes(combined)), (b"one".to_vec(), b"two".to_vec()));
    assert_eq!(bench.call(&GLOB, json!({ "pattern": composed })).await.output, format!("{composed}\n"));
}

/// A19, A20: while a directory and a link to the outside change places, no tool gives or changes anything outside. Half a
/// second; with `LAKITU_LONG` five.
#[tokio::test(flavor = "multi_thread")]
async fn no_tool_escapes_while_a_directory_and_a_link_to_the_outside_change_places() {
    let mut bench = bench();
    let outside = bench.dir.path().join("secret");
    for dir in [&outside, &bench.path("x")] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(outside.join("key.txt"), "SECRET\n").unwrap();
    std::fs::write(outside.join(".gitignore"), "!key.txt\n").unwrap();
    bench.put("x/key.txt", "inside\n");
    symlink("../secret", bench.path("y")).unwrap();
    let long = std::env::var_os("LAKITU_LONG").is_some();
    let until = Instant::now() + if long { Duration::from_secs(5) } else { Duration::from_millis(500) };
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (x, y, stop) = (bench.path("x"), bench.path("y"), stop.clone());
        std::thread::spawn(move || {
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &x, CWD, &y, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    let add = "*** Begin Patch\n*** Add File: x/added.txt\n+x\n*** End Patch";
    let delete = "*** Begin Patch\n*** Delete File: x/key.txt\n*** End Patch";
    let (mut seen, mut calls) = (0, 0);
    while Instant::now() < until {
        for (tool, arguments) in [
            (&GREP, json!({ "pattern": ".", "output_mode": "content" })),
            (&GREP, json!({ "pattern": ".", "output_mode": "content", "path": "x" })),
            (&GREP, json!({ "pattern": "S", "path": "x/key.txt", "output_mode": "content" })),
            (&GLOB, json!({ "pattern": "x/*.txt" })),
            (&LS, json!({ "path": "x", "hidden": true })),
            (&FILE_READ, json!({ "path": "x/key.txt" })),
            (&FILE_WRITE, json!({ "path": "x/new/made.txt", "content": "x" })),
            (&APPLY_PATCH, json!({ "patch": add })),
            (&APPLY_PATCH, json!({ "patch": delete })),
        ] {
            let output = bench.call(tool, arguments).await.output;
            assert!(!output.contains("SECRET") && !output.contains(".gitignore"), "{}: {output}", tool.name);
            seen += usize::from(output.contains("inside"));
            calls += 1;
        }
        // Before anything is put in order here, which may itself lead outside.
        assert_eq!(names_in(&outside), [".gitignore", "key.txt"], "a tool made or removed something outside");
        assert_eq!(std::fs::read(outside.join("key.txt")).unwrap(), b"SECRET\n");
        for made in ["x/added.txt", "y/added.txt", "x/new/made.txt", "y/new/made.txt"] {
            let _ = std::fs::remove_file(bench.path(made));
        }
        let _ = std::fs::write(bench.path("x/key.txt"), "inside\n");
        std::fs::write(outside.join("key.txt"), "SECRET\n").unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapping.join().unwrap();
    assert!(swaps > 100 && seen > 0, "{swaps} swaps, {calls} calls, {seen} saw the inside");
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
