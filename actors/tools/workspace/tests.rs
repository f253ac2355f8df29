use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lakitu_kernel::Hash;
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::error::{ErrorCode, ToolError};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    workspace: Workspace,
}

/// A workspace `w` beside a directory `secret` that must stay out of reach.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("w");
    std::fs::create_dir_all(root.join("sub/deep")).unwrap();
    std::fs::create_dir(dir.path().join("secret")).unwrap();
    std::fs::write(dir.path().join("secret/key"), "secret").unwrap();
    std::fs::write(root.join("a.txt"), "a").unwrap();
    std::fs::write(root.join("sub/b.txt"), "b").unwrap();
    let workspace = Workspace::open(&root).unwrap();
    Bench { dir, workspace }
}

impl Bench {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn told(&self, path: &str) -> String {
        match self.workspace.locate(Path::new(path)) {
            Ok(Located { canonical, standing }) => {
                let kind = standing.map_or("nothing".to_owned(), |found| format!("{:?}", found.kind));
                format!("{}: {kind}", canonical.display())
            }
            Err(error) => ToolError::from(error).code.to_string(),
        }
    }

    fn change(&self, path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Result<(), FileError> {
        self.workspace
            .change(&Change {
                canonical: Path::new(path),
                before: before.map(|bytes| (FileKind::File, Hash::of(bytes))),
                after: after.map(|bytes| (FileKind::File, bytes)),
                mode: 0o644,
                temp: ".lakitu-t-1.tmp",
            })
            .map(drop)
    }

    fn names(&self, below: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path(below))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn paths_are_located_below_the_root_or_refused() {
    let bench = bench();
    let root = bench.path("w");
    symlink("/etc/passwd", root.join("to-etc")).unwrap();
    symlink("../../..", root.join("up")).unwrap();
    symlink("loop-b", root.join("loop-a")).unwrap();
    symlink("loop-a", root.join("loop-b")).unwrap();
    symlink("sub/b.txt", root.join("to-b")).unwrap();
    symlink(root.join("sub"), root.join("abs-sub")).unwrap();
    symlink("../abs-sub/deep/../b.txt", root.join("sub/round")).unwrap();
    symlink("sub/not-yet", root.join("dangling")).unwrap();
    let absolute = root.join("sub/b.txt");
    let long = "x".repeat(256);
    let deep = "d/".repeat(2049);
    let rows = [
        ("../etc/passwd", "PERMISSION_DENIED"),      // A01
        ("/etc/passwd", "PERMISSION_DENIED"),        // A02
        ("sub/../../x", "PERMISSION_DENIED"),        // A03
        ("./sub/./b.txt", "sub/b.txt: File"),        // A04
        ("sub//deep///c", "sub/deep/c: nothing"),    // A05
        ("", "INVALID_ARGUMENTS"),                   // A06
        (".", ": Directory"),                        // A07
        ("a\0.txt", "INVALID_ARGUMENTS"),            // A08
        (&long, "INVALID_ARGUMENTS"),                // A09
        (&deep, "INVALID_ARGUMENTS"),                // A10
        ("~/.ssh/id_rsa", "~/.ssh/id_rsa: nothing"), // A13
        ("$HOME/x", "$HOME/x: nothing"),             // A14
        ("%2e%2e%2fx", "%2e%2e%2fx: nothing"),       // A14
        ("..\\x", "..\\x: nothing"),                 // A14
        ("to-etc", "PERMISSION_DENIED"),             // A15
        ("up", "PERMISSION_DENIED"),                 // A16
        ("up/x", "PERMISSION_DENIED"),               // A16
        ("loop-a", "PERMISSION_DENIED"),             // A17
        ("to-b", "sub/b.txt: File"),                 // A18
        ("abs-sub/b.txt", "sub/b.txt: File"),        // A18
        ("sub/round", "sub/b.txt: File"),            // A18
        ("dangling", "sub/not-yet: nothing"),
        ("/proc/self/root/etc/passwd", "PERMISSION_DENIED"), // A22
        ("/proc/self/fd/3", "PERMISSION_DENIED"),            // A22
        ("/dev/fd/0", "PERMISSION_DENIED"),                  // A22
        ("-rf", "-rf: nothing"),                             // A34
        ("--help", "--help: nothing"),                       // A34
        (absolute.to_str().unwrap(), "sub/b.txt: File"),
        ("a.txt/x", "PERMISSION_DENIED"),
        ("none/../a.txt", "FILE_NOT_FOUND"),
        ("none/../../x", "PERMISSION_DENIED"),
    ];
    for (path, expected) in rows {
        assert_eq!(bench.told(path), expected, "{path:?}");
    }
}

#[test]
fn forty_links_are_followed_and_one_more_is_not() {
    let bench = bench();
    for n in 0..41 {
        symlink(if n == 0 { "a.txt".into() } else { format!("l{}", n - 1) }, bench.path("w").join(format!("l{n}")))
            .unwrap();
    }
    assert_eq!(bench.told("l39"), "a.txt: File");
    assert_eq!(bench.told("l40"), "PERMISSION_DENIED");
}

#[test]
fn a_root_given_over_a_link_is_reached_by_both_names() {
    let bench = bench();
    symlink(bench.path("w"), bench.path("alias")).unwrap();
    let workspace = Workspace::open(&bench.path("alias")).unwrap();
    for root in ["w", "alias"] {
        let located = workspace.locate(&bench.path(root).join("a.txt")).unwrap();
        assert_eq!(located.canonical, Path::new("a.txt"));
    }
}

#[test]
fn what_is_no_regular_file_is_refused_without_blocking() {
    let bench = bench();
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, bench.path("w").join(name), kind, Mode::from_raw_mode(0o666), device)
    };
    make("fifo", FileType::Fifo, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("w/socket")).unwrap();
    let mut names = vec!["fifo", "socket", "sub"];
    // Devices can be made by root alone.
    if make("zero", FileType::CharacterDevice, rustix::fs::makedev(1, 5)).is_ok() {
        make("tty", FileType::CharacterDevice, rustix::fs::makedev(5, 0)).unwrap();
        make("loop", FileType::BlockDevice, rustix::fs::makedev(7, 0)).unwrap();
        names.extend(["zero", "tty", "loop"]);
    }
    for name in names {
        let error = ToolError::from(bench.workspace.open_file(Path::new(name)).unwrap_err());
        assert_eq!(error.code, ErrorCode::PermissionDenied, "{name}");
        let error = ToolError::from(bench.change(name, Some(b"x"), Some(b"y")).unwrap_err());
        assert_eq!(error.code, ErrorCode::FileChanged, "{name}");
    }
    assert!(!bench.names("w").iter().any(|name| name.starts_with(".lakitu-")));
}

#[test]
fn a_change_replaces_the_name_and_leaves_no_trace() {
    let bench = bench();
    std::fs::hard_link(bench.path("w/a.txt"), bench.path("secret/linked")).unwrap(); // A21
    bench.change("a.txt", Some(b"a"), Some(b"new")).unwrap();
    bench.change("x/y/z.txt", None, Some(b"made")).unwrap();
    bench.change("sub/b.txt", Some(b"b"), None).unwrap();
    assert_eq!(std::fs::read(bench.path("w/a.txt")).unwrap(), b"new");
    assert_eq!(std::fs::read(bench.path("secret/linked")).unwrap(), b"a");
    assert_eq!(std::fs::read(bench.path("w/x/y/z.txt")).unwrap(), b"made");
    assert_eq!(bench.names("w"), ["a.txt", "sub", "x"]);
    assert_eq!(bench.names("w/sub"), ["deep"]);
}

#[test]
fn a_change_keeps_mode_and_owner() {
    let bench = bench();
    let file = bench.path("w/a.txt");
    let as_root = std::os::unix::fs::chown(&file, Some(12_345), Some(23_456)).is_ok();
    bench
        .workspace
        .change(&Change {
            canonical: Path::new("a.txt"),
            before: Some((FileKind::File, Hash::of(b"a"))),
            after: Some((FileKind::File, b"new")),
            mode: 0o4751,
            temp: ".lakitu-t-1.tmp",
        })
        .unwrap();
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o4751);
    if as_root {
        assert_eq!((after.uid(), after.gid()), (12_345, 23_456));
    }
}

#[test]
fn what_is_not_the_version_before_is_never_overwritten() {
    let bench = bench();
    let rows: [(&str, Option<&[u8]>); 4] =
        [("a.txt", Some(b"other")), ("a.txt", None), ("sub/deep", Some(b"x")), ("sub/deep", None)];
    for (path, before) in rows {
        let error = bench.change(path, before, Some(b"lost")).unwrap_err();
        assert!(matches!(error, FileError::Changed(_)), "{path}: {error}");
    }
    assert!(matches!(bench.change("gone/x", Some(b"x"), Some(b"y")), Err(FileError::NotFound(_))));
    assert_eq!(std::fs::read(bench.path("w/a.txt")).unwrap(), b"a");
    assert_eq!(bench.names("w"), ["a.txt", "sub"]);
}

#[test]
fn a_temporary_left_over_is_replaced_and_swept() {
    let bench = bench();
    std::fs::write(bench.path("w/.lakitu-t-1.tmp"), "half").unwrap();
    bench.change("a.txt", Some(b"a"), Some(b"new")).unwrap();
    assert_eq!(bench.names("w"), ["a.txt", "sub"]);
    std::fs::write(bench.path("w/.lakitu-t-1.tmp"), "half").unwrap();
    bench.workspace.sweep(Path::new("a.txt"), ".lakitu-t-1.tmp").unwrap();
    bench.workspace.sweep(Path::new("a.txt"), ".lakitu-t-1.tmp").unwrap();
    bench.workspace.sweep(Path::new("gone/a.txt"), ".lakitu-t-1.tmp").unwrap();
    assert_eq!(bench.names("w"), ["a.txt", "sub"]);
    // A link in its place is replaced too, not followed.
    symlink("../secret/key", bench.path("w/.lakitu-t-1.tmp")).unwrap();
    bench.change("a.txt", Some(b"new"), Some(b"newer")).unwrap();
    assert_eq!(std::fs::read(bench.path("secret/key")).unwrap(), b"secret");
}

#[test]
fn a_file_that_may_not_be_written_is_refused() {
    let bench = bench();
    let file = bench.path("w/a.txt");
    let writable = || {
        let located = bench.workspace.locate(Path::new("a.txt")).unwrap();
        bench.workspace.check_writable(&located.canonical, located.standing.unwrap())
    };
    assert!(writable().is_ok());
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    assert!(matches!(writable(), Err(FileError::Refused { .. })));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = std::fs::File::open(&file).unwrap();
    // Only root can, and not on every file system.
    if rustix::fs::ioctl_setflags(&open, rustix::fs::IFlags::IMMUTABLE).is_ok() {
        let error = bench.change("a.txt", Some(b"a"), Some(b"b")).unwrap_err();
        rustix::fs::ioctl_setflags(&open, rustix::fs::IFlags::empty()).unwrap();
        assert!(matches!(error, FileError::Refused { .. }), "{error}");
        assert_eq!(bench.names("w"), ["a.txt", "sub"]);
    }
}

#[test]
fn twins_of_case_and_of_unicode_stay_two_files() {
    let bench = bench();
    for (name, bytes) in [("\u{e9}", "nfc"), ("e\u{301}", "nfd"), ("A", "upper"), ("a", "lower")] {
        bench.change(name, None, Some(bytes.as_bytes())).unwrap();
    }
    assert_eq!(std::fs::read(bench.path("w/\u{e9}")).unwrap(), b"nfc");
    assert_eq!(std::fs::read(bench.path("w/e\u{301}")).unwrap(), b"nfd");
    assert_eq!(std::fs::read(bench.path("w/A")).unwrap(), b"upper");
}

#[test]
fn a_name_that_is_no_utf_8_is_opened() {
    let bench = bench();
    let name = OsString::from_vec(b"\xff\xfe".to_vec());
    std::fs::write(bench.path("w").join(&name), "bytes").unwrap();
    let located = bench.workspace.locate(Path::new(&name)).unwrap();
    assert!(bench.workspace.open_file(&located.canonical).is_ok());
}

/// A19, A20: for a second `w/x` and `w/y` change places, one leading inside and the other out; with `LAKITU_LONG` for
/// five.
fn racing(bench: &Bench, work: impl Fn()) -> u64 {
    let stop = AtomicBool::new(false);
    let (x, y) = (bench.path("w/x"), bench.path("w/y"));
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &x, CWD, &y, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let long = std::env::var_os("LAKITU_LONG").is_some();
        let until = Instant::now() + Duration::from_secs(if long { 5 } else { 1 });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while Instant::now() < until {
                work();
            }
        }));
        // Else a failed assertion would wait for the swaps for ever.
        stop.store(true, Ordering::Relaxed);
        let swaps = swaps.join().unwrap();
        worked.unwrap();
        swaps
    })
}

#[test]
fn no_read_escapes_while_a_directory_and_a_link_to_the_outside_change_places() {
    let bench = bench();
    std::fs::create_dir(bench.path("w/x")).unwrap();
    std::fs::write(bench.path("w/x/key"), "inside").unwrap();
    symlink("../secret", bench.path("w/y")).unwrap();
    let reads = AtomicU32::new(0);
    let swaps = racing(&bench, || {
        use std::io::Read as _;
        let Ok(located) = bench.workspace.locate(Path::new("x/key")) else { return };
        if let Ok((mut file, _)) = bench.workspace.open_file(&located.canonical) {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside");
            reads.fetch_add(1, Ordering::Relaxed);
        }
    });
    let reads = reads.into_inner();
    assert!(swaps > 100 && reads > 100, "{swaps} swaps, {reads} reads");
}

#[test]
fn no_write_escapes_while_a_directory_and_a_link_to_the_outside_change_places() {
    let bench = bench();
    std::fs::create_dir_all(bench.path("w/x/new")).unwrap();
    std::fs::create_dir(bench.path("secret/new")).unwrap();
    symlink("../secret", bench.path("w/y")).unwrap();
    let writes = AtomicU32::new(0);
    let swaps = racing(&bench, || {
        let made = bench.change("x/new/file", None, Some(b"inside")).is_ok();
        writes.fetch_add(u32::from(made), Ordering::Relaxed);
        assert!(!bench.path("secret/new/file").exists());
        let _ = bench.change("x/key", None, Some(b"inside"));
        let _ = bench.change("x/new/file", Some(b"inside"), None);
        let _ = bench.change("x/made/deep/file", None, Some(b"inside"));
    });
    let writes = writes.into_inner();
    assert!(swaps > 100 && writes > 0, "{swaps} swaps, {writes} writes");
    assert_eq!(bench.names("secret"), ["key", "new"]);
    assert!(bench.names("secret/new").is_empty());
    assert_eq!(std::fs::read(bench.path("secret/key")).unwrap(), b"secret");
}
