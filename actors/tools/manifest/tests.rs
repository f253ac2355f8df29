//! Commands are played by the tests themselves: between both looks they change files.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use lakitu_kernel::config::Edits;
use lakitu_kernel::edit::{Changes, FileKind, FileState};
use lakitu_kernel::{Hash, Seq, ThreadId, limits};

use super::{Command, Manifests};

const FIRST: Command = (ThreadId(1), Seq(1));

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("w")).unwrap();
        fs::create_dir_all(directory.path().join("data")).unwrap();
        Self { directory }
    }

    fn workspace(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("w")
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.workspace().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn manifests(&self, limits: Edits) -> Manifests {
        Manifests::new(self.directory.path().canonicalize().unwrap().join("data"), limits)
    }
}

/// What is told of a command that does this.
async fn told(manifests: &Manifests, workspace: &Path, command: impl FnOnce()) -> Changes {
    let before = manifests.before(workspace, FIRST).await.expect("a workspace that is looked at");
    command();
    manifests.after(before, workspace).await
}

/// `path +added -removed`, with the bytes before where they are kept.
fn lines(changes: &Changes) -> Vec<String> {
    let side = |state: Option<FileState>| match state {
        None => "nothing".to_owned(),
        Some(FileState { hash: None, bytes, .. }) => format!("{bytes} unread bytes"),
        Some(FileState { kept: false, bytes, .. }) => format!("{bytes} bytes"),
        Some(FileState { kind, hash: Some(hash), mode, .. }) => {
            let blob = changes.blobs.iter().find(|blob| Hash::of(blob) == hash).expect("bytes that are kept");
            let kind = match kind {
                FileKind::File => "",
                FileKind::Link => "link ",
                FileKind::Directory => "directory ",
            };
            format!("{kind}{:?} {mode:o}", String::from_utf8_lossy(blob))
        }
    };
    let line = |change: &lakitu_kernel::edit::FileChange| {
        let (before, after) = (side(change.before), side(change.after));
        format!("{} +{} -{}: {before} -> {after}", change.path, change.added, change.removed)
    };
    changes.files.iter().map(line).collect()
}

#[tokio::test]
async fn what_a_command_changed_is_told_with_the_bytes_from_before() {
    let place = Place::new();
    for (path, text) in [("a", "one\n"), ("b/c", "two\n"), ("gone", "three\n"), ("run", "x\n"), ("same", "y\n")] {
        place.write(path, text.as_bytes());
    }
    let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
    let changes = told(&manifests, &workspace, || {
        place.write("a", b"ONE\nand more\n");
        fs::rename(workspace.join("b/c"), workspace.join("b/d")).unwrap();
        fs::remove_file(workspace.join("gone")).unwrap();
        fs::set_permissions(workspace.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        place.write("same", b"y\n");
        place.write("new", b"");
    })
    .await;
    assert_eq!(
        lines(&changes),
        [
            r#"a +2 -1: "one\n" 644 -> "ONE\nand more\n" 644"#,
            r#"b/c +0 -1: "two\n" 644 -> nothing"#,
            r#"b/d +1 -0: nothing -> "two\n" 644"#,
            r#"gone +0 -1: "three\n" 644 -> nothing"#,
            r#"new +0 -0: nothing -> "" 644"#,
            r#"run +0 -0: "x\n" 644 -> "x\n" 755"#,
        ]
    );
    assert_eq!(changes.left_out, None);
    // The next one's before is this one's after, and it is not read again.
    let changes = told(&manifests, &workspace, || place.write("a", b"ONE\n")).await;
    assert_eq!(lines(&changes), [r#"a +0 -1: "ONE\nand more\n" 644 -> "ONE\n" 644"#]);
    assert!(told(&manifests, &workspace, || ()).await.is_empty());
}

#[tokio::test]
async fn a_change_that_keeps_size_and_time_is_seen_all_the_same() {
    let place = Place::new();
    place.write("a", b"one\n");
    let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
    let file = workspace.join("a");
    let modified = file.metadata().unwrap().modified().unwrap();
    let changes = told(&manifests, &workspace, || {
        place.write("a", b"two\n");
        fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    })
    .await;
    assert_eq!(lines(&changes), [r#"a +1 -1: "one\n" 644 -> "two\n" 644"#]);
}

#[tokio::test]
async fn what_others_change_between_commands_is_nobodys_and_meanwhile_it_is_told_once() {
    let place = Place::new();
    place.write("a", b"1\n");
    let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
    told(&manifests, &workspace, || ()).await;
    place.write("a", b"2\n");
    assert!(told(&manifests, &workspace, || ()).await.is_empty());

    let first = manifests.before(&workspace, FIRST).await.unwrap();
    place.write("a", b"3\n");
    let second = manifests.before(&workspace, FIRST).await.unwrap();
    place.write("a", b"4\n");
    let of_second = manifests.after(second, &workspace).await;
    let of_first = manifests.after(first, &workspace).await;
    assert_eq!(lines(&of_first), [r#"a +1 -1: "2\n" 644 -> "3\n" 644"#]);
    assert_eq!(lines(&of_second), [r#"a +1 -1: "3\n" 644 -> "4\n" 644"#]);
    // One whose call was given up leaves nothing behind.
    drop(manifests.before(&workspace, FIRST).await);
    assert!(told(&manifests, &workspace, || ()).await.is_empty());
}

#[tokio::test]
async fn what_is_ignored_or_no_file_of_the_workspace_is_not_looked_at() {
    let place = Place::new();
    place.write(".gitignore", b"target/\n*.log\n");
    place.write(".git/HEAD", b"x");
    let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
    let changes = told(&manifests, &workspace, || {
        for path in ["target/big", "x.log", ".git/HEAD", ".git/new", ".lakitu-x.tmp"] {
            place.write(path, b"changed");
        }
        symlink("/etc/passwd", workspace.join("link")).unwrap();
        place.write(".env", b"seen");
    })
    .await;
    assert_eq!(
        lines(&changes),
        [r#".env +1 -0: nothing -> "seen" 644"#, r#"link +0 -0: nothing -> link "/etc/passwd" 777"#]
    );

    // Nor is the runtime's own directory, where it lies within.
    let inside = Manifests::new(workspace.join("data"), Edits::default());
    fs::create_dir(workspace.join("data")).unwrap();
    assert!(told(&inside, &workspace, || place.write("data/lakitu.redb", b"x")).await.is_empty());
    let off = place.manifests(Edits { commands: false, ..Edits::default() });
    assert!(off.before(&workspace, FIRST).await.is_none());
}

#[tokio::test]
async fn a_budget_is_kept_to_the_byte_and_what_is_over_it_is_said() {
    let place = Place::new();
    place.write("a", b"1234");
    place.write("b", b"12345");
    let workspace = place.workspace();
    let change = || {
        place.write("a", b"abcd");
        place.write("b", b"abcde");
    };
    let back = || {
        place.write("a", b"1234");
        place.write("b", b"12345");
    };
    let all = Edits { keep_bytes: 9, call_bytes: 18, ..Edits::default() };
    let changes = told(&place.manifests(all.clone()), &workspace, change).await;
    assert_eq!(changes.blobs.len(), 4, "{:?}", lines(&changes));
    back();
    // One byte less before the command: the larger file is known by its hash alone.
    let less = Edits { keep_bytes: 8, ..all.clone() };
    let changes = told(&place.manifests(less), &workspace, change).await;
    let b = changes.files[1].before.unwrap();
    assert_eq!((b.kept, b.hash), (false, Some(Hash::of(b"12345"))));
    back();
    // One byte less for the call: the last version is let go of, and no earlier one.
    let less = Edits { call_bytes: 17, ..all };
    let changes = told(&place.manifests(less), &workspace, change).await;
    let kept: Vec<bool> =
        changes.files.iter().flat_map(|file| [file.before, file.after]).map(|state| state.unwrap().kept).collect();
    assert_eq!(kept, [true, true, true, false]);
}

#[tokio::test]
async fn a_file_that_is_larger_than_any_tool_reads_is_known_by_its_stamp() {
    let place = Place::new();
    let workspace = place.workspace();
    let file = |bytes| fs::File::create(workspace.join("sparse")).unwrap().set_len(bytes).unwrap();
    file(limits::FILE_READ_BYTES_MAX + 1);
    let manifests = place.manifests(Edits::default());
    let changes = told(&manifests, &workspace, || file(limits::FILE_READ_BYTES_MAX + 2)).await;
    assert_eq!(lines(&changes), ["sparse +0 -0: 10485761 unread bytes -> 10485762 unread bytes"]);
    assert!(told(&manifests, &workspace, || ()).await.is_empty());
}

#[tokio::test]
async fn a_workspace_with_too_many_files_is_not_looked_at_and_that_is_said_once() {
    let place = Place::new();
    for name in ["a", "b", "c"] {
        place.write(name, b"x");
    }
    let (workspace, limits) = (place.workspace(), Edits { files_max: 3, ..Edits::default() });
    let manifests = place.manifests(limits);
    assert!(told(&manifests, &workspace, || ()).await.is_empty());
    let changes = told(&manifests, &workspace, || place.write("d", b"x")).await;
    assert_eq!(changes.files, []);
    assert!(changes.left_out.unwrap().contains("more than 3 files"));
    assert!(manifests.before(&workspace, FIRST).await.is_none());
}

#[tokio::test]
async fn the_file_of_kept_bytes_does_not_grow_with_what_is_overwritten() {
    let place = Place::new();
    let (workspace, limits) = (place.workspace(), Edits { keep_bytes: 100, ..Edits::default() });
    let manifests = place.manifests(limits);
    place.write("a", &[b'x'; 60]);
    for n in 0..40_u8 {
        let changes = told(&manifests, &workspace, || place.write("a", &[b'a' + n % 26; 60])).await;
        assert_eq!(changes.blobs.len(), 2, "round {n}");
    }
    let watched = manifests.watched(&workspace);
    assert!(watched.manifest.lock().await.pack.len() <= 4 * 100 + 2 * 60);
}

#[tokio::test]
async fn links_directories_and_names_that_are_no_text_are_told_as_files_are() {
    let place = Place::new();
    place.write("a", b"one\n");
    place.write("d/x", b"x\n");
    place.write("e/y", b"y\n");
    let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
    symlink("a", workspace.join("link")).unwrap();
    let odd = workspace.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    let changes = told(&manifests, &workspace, || {
        fs::remove_file(workspace.join("link")).unwrap();
        symlink("nowhere", workspace.join("link")).unwrap();
        fs::remove_file(workspace.join("a")).unwrap();
        symlink("d", workspace.join("a")).unwrap();
        fs::remove_dir_all(workspace.join("d")).unwrap();
        fs::write(workspace.join("d"), b"a file\n").unwrap();
        fs::set_permissions(workspace.join("e"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::create_dir_all(workspace.join("new/empty")).unwrap();
        fs::write(&odd, b"odd\n").unwrap();
    })
    .await;
    assert_eq!(
        lines(&changes),
        [
            r#"a +0 -1: "one\n" 644 -> link "d" 777"#,
            "caf\0e9 +1 -0: nothing -> \"odd\\n\" 644",
            r#"d +1 -0: directory "" 755 -> "a file\n" 644"#,
            r#"d/x +0 -1: "x\n" 644 -> nothing"#,
            r#"e +0 -0: directory "" 755 -> directory "" 750"#,
            r#"link +0 -0: link "a" 777 -> link "nowhere" 777"#,
            r#"new +0 -0: nothing -> directory "" 755"#,
            r#"new/empty +0 -0: nothing -> directory "" 755"#,
        ]
    );
    assert!(told(&manifests, &workspace, || ()).await.is_empty());
}

#[tokio::test]
async fn as_many_changes_as_are_recorded_of_one_command_are_and_of_one_more_the_number_is_said() {
    for (files, more) in [(1000, None), (1001, Some("1 more files were changed and are not recorded"))] {
        let place = Place::new();
        let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
        let make = || (0..files).for_each(|n| fs::write(workspace.join(format!("f{n}")), b"x").unwrap());
        let changes = told(&manifests, &workspace, make).await;
        assert_eq!((changes.files.len(), changes.left_out.as_deref()), (1000, more));
    }
}

#[tokio::test]
async fn whoever_adopts_a_command_of_a_killed_runtime_tells_what_it_changed_and_nobody_else_can() {
    let place = Place::new();
    place.write("a", b"before\n");
    let (killed, workspace) = (place.manifests(Edits::default()), place.workspace());
    let earlier = killed.before(&workspace, FIRST).await.unwrap();
    let second: Command = (ThreadId(1), Seq(9));
    let before = killed.before(&workspace, second).await.unwrap();
    place.write("a", b"by the command\n");
    place.write("new", b"");
    // Killed: nothing of it ends in order.
    std::mem::forget((before, earlier, killed));

    let next = place.manifests(Edits::default());
    for _ in 0..2 {
        let changes = next.adopted(&workspace, second).await.expect("what was noted");
        assert_eq!(
            lines(&changes),
            [r#"a +1 -1: "before\n" 644 -> "by the command\n" 644"#, r#"new +0 -0: nothing -> "" 644"#]
        );
        assert_eq!(changes.left_out, None);
        // What the next runtime looks at changes nothing of it.
        drop(next.before(&workspace, (ThreadId(2), Seq(1))).await);
    }
    assert_eq!(next.adopted(&workspace, FIRST).await, None, "its result was durable before the second began");
    // The thread's next command comes when that one's result is durable; in order, nothing stays.
    drop(next.before(&workspace, (ThreadId(1), Seq(12))).await);
    assert_eq!(next.adopted(&workspace, second).await, None);
    drop(next);
    let last = place.manifests(Edits::default());
    drop(last.before(&workspace, FIRST).await);
    drop(last);
    let looks = fs::read_dir(workspace.parent().unwrap().join("data/looks")).unwrap();
    assert_eq!(looks.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
}

/// A command that changes what is left out makes and removes nothing by that: taking it back must not remove what was there.
#[tokio::test]
async fn what_an_ignore_file_shows_or_hides_was_neither_made_nor_removed() {
    let place = Place::new();
    place.write(".gitignore", b"hidden/\n");
    for path in ["hidden/deep/old", "shown/x", "y.log", "moved/in/z"] {
        place.write(path, b"old\n");
    }
    let (manifests, workspace) = (place.manifests(Edits::default()), place.workspace());
    // The clock of files goes in ticks, behind the time, and a file may get the time itself: until that clock has come past
    // it they are as new as what the command makes.
    let clock = |id| {
        let now = rustix::time::clock_gettime(id);
        (now.tv_sec, now.tv_nsec)
    };
    let made = clock(rustix::time::ClockId::Realtime);
    while clock(rustix::time::ClockId::RealtimeCoarse) <= made {}
    let changes = told(&manifests, &workspace, || {
        place.write(".gitignore", b"*.log\nshown/\n");
        fs::write(workspace.join("hidden/new"), b"new\n").unwrap();
        fs::rename(workspace.join("moved"), workspace.join("elsewhere")).unwrap();
    })
    .await;
    assert_eq!(
        lines(&changes),
        [
            r#".gitignore +2 -1: "hidden/\n" 644 -> "*.log\nshown/\n" 644"#,
            r#"elsewhere +0 -0: nothing -> directory "" 755"#,
            r#"elsewhere/in +0 -0: nothing -> directory "" 755"#,
            r#"elsewhere/in/z +1 -0: nothing -> "old\n" 644"#,
            r#"hidden/new +1 -0: nothing -> "new\n" 644"#,
            r#"moved +0 -0: directory "" 755 -> nothing"#,
            r#"moved/in +0 -0: directory "" 755 -> nothing"#,
            r#"moved/in/z +0 -1: "old\n" 644 -> nothing"#,
        ]
    );
    // A repository begins: the rules above it are another one's.
    let changes = told(&manifests, &workspace, || {
        place.write("elsewhere/.git/HEAD", b"x");
        place.write("elsewhere/b.log", b"new\n");
    })
    .await;
    assert_eq!(lines(&changes), [r#"elsewhere/b.log +1 -0: nothing -> "new\n" 644"#]);
}

/// Of a look that did not see all, nothing is noted: by it everything there is would have been made since.
#[tokio::test]
async fn a_look_that_was_cut_short_is_not_noted() {
    let place = Place::new();
    (0..4).for_each(|n| place.write(&format!("f{n}"), b"x"));
    let (killed, workspace) = (place.manifests(Edits { files_max: 3, ..Edits::default() }), place.workspace());
    std::mem::forget(killed.before(&workspace, FIRST).await);
    std::mem::forget(killed);
    assert_eq!(place.manifests(Edits::default()).adopted(&workspace, FIRST).await, None);
}
