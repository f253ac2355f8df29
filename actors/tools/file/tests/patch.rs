//! `multi_edit` and `apply_patch` on a disk.

use super::*;

impl Bench {
    async fn patch(&mut self, body: &str) -> String {
        let patch = format!("*** Begin Patch\n{body}\n*** End Patch\n");
        self.call(&APPLY_PATCH, json!({ "input": patch })).await.output
    }

    /// Files that the thread has read.
    async fn read_files(&mut self, files: &[(&str, &[u8])]) {
        for (name, bytes) in files {
            std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            self.put(name, bytes);
            self.read(name).await;
        }
    }
}

#[tokio::test]
async fn several_edits_are_made_one_after_the_other_or_none_is() {
    let mut bench = bench();
    bench.read_files(&[("a.txt", b"\xef\xbb\xbfone\r\ntwo \xe9\r\ntwo")]).await;
    let told = [
        json!({ "filePath": "a.txt", "edits": [
            { "old_str": "one\ntwo", "new_str": "1\n2" },
            { "oldText": "2", "newText": "$& \\0" },
            { "old_string": "two", "new_string": "2", "replaceAll": "true" },
        ] }),
        json!({ "path": "a.txt", "edits": [{ "old_string": "1", "new_string": "x" }, { "old_string": "1", "new_string": "y" }] }),
        json!({ "path": "new.txt", "edits": [{ "old_string": "", "new_string": "a\n" }, { "old_string": "a", "new_string": "b" }] }),
        json!({ "path": "none.txt", "edits": [{ "old_string": "a", "new_string": "b" }] }),
    ];
    let mut out = Vec::new();
    for arguments in told {
        out.push(bench.call(&MULTI_EDIT, arguments).await.output);
    }
    expect![[r#"
        Changed a.txt (+3 -3 lines)
        @@ -1,3 +1,3 @@
        -﻿one
        -two �
        -two
        \ No newline at end of file
        +﻿1
        +$& \0 �
        +2
        \ No newline at end of file
        --
        EDIT_MISMATCH: edit 2 of 2 cannot be made, so nothing was changed: old_string does not occur in a.txt; nothing in the file is like it: read the file again with file_read--
        Created new.txt (1 line, 2 bytes)
        --
        FILE_NOT_FOUND: none.txt does not exist; did you mean new.txt?"#]].assert_eq(&out.join("--\n"));
    assert_eq!(bench.bytes("a.txt"), b"\xef\xbb\xbf1\r\n$& \\0 \xe9\r\n2");
    assert_eq!(bench.bytes("new.txt"), b"b\n");
    let refused = [
        json!({ "path": "a", "edits": [] }),
        json!({ "path": "a", "edits": [{ "old_string": "x", "new_string": "x" }] }),
        json!({ "path": "a", "edits": [{ "old_string": "x", "new_string": "y", "path": "b" }] }),
    ];
    let told: Vec<_> = refused.iter().map(|row| MULTI_EDIT.check(&row.to_string()).unwrap_err().to_string()).collect();
    expect![[r#"
        INVALID_ARGUMENTS: edits is empty; there is nothing to change
        INVALID_ARGUMENTS: of edit 1 old_string and new_string are the same
        INVALID_ARGUMENTS: unknown argument "path"; known are new_string, old_string, replace_all"#]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn a_patch_adds_changes_moves_and_removes() {
    let mut bench = bench();
    bench.read_files(&[("src/a.sh", b"one\r\ntwo\r\n"), ("b.txt", b"b\n"), ("c.txt", b"c\n")]).await;
    std::fs::set_permissions(bench.path("src/a.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let told = bench
        .patch(
            "*** Update File: src/a.sh\n*** Move to: bin/a.sh\n@@\n one\n-two\n+2\n*** Delete File: b.txt\n\
             *** Add File: deep/er/new.txt\n+new\n*** Update File: c.txt\n-c\n+C\n*** Update File: c.txt\n+more\n\
             *** Add File: gone.txt\n+x\n*** Delete File: gone.txt",
        )
        .await;
    expect![[r#"
        Removed b.txt
        Created bin/a.sh (2 lines, 8 bytes)
        Changed c.txt (+2 -1 lines)
        @@ -1 +1,2 @@
        -c
        +C
        +more
        Created deep/er/new.txt (1 line, 4 bytes)
        Removed src/a.sh
    "#]]
    .assert_eq(&told);
    assert_eq!(bench.bytes("bin/a.sh"), b"one\r\n2\r\n");
    assert_eq!(std::fs::metadata(bench.path("bin/a.sh")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(bench.bytes("c.txt"), b"C\nmore\n");
    assert_eq!(bench.names(), ["bin", "c.txt", "deep", "src"]);
    assert!(!bench.path("src/a.sh").exists());
    // What it made is known, and can be changed again.
    assert!(bench.edit("bin/a.sh", "2", "3").await.starts_with("Changed"));
}

#[tokio::test]
async fn of_a_patch_that_fails_nothing_is_applied() {
    let mut bench = bench();
    bench.read_files(&[("a.txt", b"a\n"), ("b.txt", b"b\n")]).await;
    bench.put("unread.txt", "u\n");
    symlink("/etc/passwd", bench.path("link")).unwrap();
    let before = bench.names();
    let first = "*** Update File: a.txt\n-a\n+A\n*** Add File: new.txt\n+x\n";
    let mut told = Vec::new();
    for rest in [
        "*** Update File: b.txt\n-x\n+y",
        "*** Update File: unread.txt\n-u\n+y",
        "*** Delete File: unread.txt",
        "*** Delete File: nome.txt",
        "*** Add File: b.txt\n+x",
        "*** Update File: b.txt\n*** Move to: a.txt",
        "*** Delete File: b.txt\n*** Update File: b.txt\n-b\n+c",
        "*** Add File: ../out.txt\n+x",
        "*** Update File: link\n-root\n+x",
        "*** Add File: .\n+x",
    ] {
        told.push(bench.patch(&format!("{first}{rest}")).await.replace(bench.dir.path().to_str().unwrap(), "/T"));
    }
    told.push(bench.patch("*** Add File: x\n+x\n*** Delete File: x").await);
    expect![[r#"
        EDIT_MISMATCH: nothing of the patch was applied: what the hunk is to find does not occur in b.txt; nothing in the file is like it: read the file again with file_read
        FILE_CHANGED: unread.txt exists and you have not read it: read it first with file_read, then change it
        FILE_CHANGED: unread.txt exists and you have not read it: read it first with file_read, then remove it
        FILE_NOT_FOUND: nome.txt does not exist
        EDIT_MISMATCH: nothing of the patch was applied: b.txt exists, so it cannot be added: change it with *** Update File
        EDIT_MISMATCH: nothing of the patch was applied: b.txt cannot be moved to a.txt, which exists
        EDIT_MISMATCH: nothing of the patch was applied: b.txt is removed by the sections before
        PERMISSION_DENIED: ../out.txt leads outside the workspace /T/w; give a path below it, relative or absolute
        PERMISSION_DENIED: link leads outside the workspace /T/w; give a path below it, relative or absolute
        PERMISSION_DENIED: . is a directory; give the path of a file
        EDIT_MISMATCH: the patch undoes what it does: there is nothing to change"#]].assert_eq(&told.join("\n"));
    assert_eq!((bench.names(), bench.bytes("a.txt")), (before, b"a\n".to_vec()));
}

#[tokio::test]
async fn a_patch_that_cannot_be_written_to_its_end_is_undone() {
    let mut bench = bench();
    bench.read_files(&[("a.txt", b"a\n"), ("b.txt", b"b\n"), ("d/c.txt", b"c\n")]).await;
    let patch = "*** Begin Patch\n*** Update File: a.txt\n-a\n+A\n*** Update File: d/c.txt\n-c\n+C\n*** Delete File: b.txt\n\
                 *** End Patch";
    let ask = bench.ask(&APPLY_PATCH, &json!({ "patch": patch }));
    let prepared = bench.tools.prepare(&ask).await.unwrap();
    // The temporary of the second file has no place: its name is taken by a directory.
    let temp = crate::tools::workspace::temp_name(ask.call.thread, ask.call.intent);
    std::fs::create_dir(bench.path("d").join(&temp)).unwrap();
    let outcome = bench.tools.run(&ask, Some(&prepared.redo)).await;
    assert!(outcome.error.is_some() && outcome.output.ends_with("\nnothing was changed\n"), "{}", outcome.output);
    assert_eq!(outcome.files, []);
    for (name, bytes) in [("a.txt", b"a\n"), ("b.txt", b"b\n"), ("d/c.txt", b"c\n")] {
        assert_eq!(bench.bytes(name), bytes);
    }
    std::fs::remove_dir(bench.path("d").join(&temp)).unwrap();
    assert!(bench.tools.run(&ask, Some(&prepared.redo)).await.error.is_none());
}

#[tokio::test]
async fn recovery_of_a_patch_goes_on_from_every_state_between() {
    let files: [(&str, &[u8]); 3] = [("a.txt", b"a\n"), ("b.txt", b"b\n"), ("c.txt", b"c\n")];
    let patch = "*** Begin Patch\n*** Update File: a.txt\n-a\n+A\n*** Update File: b.txt\n*** Move to: m.txt\n-b\n+B\n\
                 *** Delete File: c.txt\n*** End Patch";
    for state in 0..16 {
        let mut bench = bench();
        bench.read_files(&files).await;
        let ask = bench.ask(&APPLY_PATCH, &json!({ "patch": patch }));
        let redo = bench.tools.prepare(&ask).await.unwrap().redo;
        let live = bench.tools.run(&ask, Some(&redo)).await;
        for (at, file) in redo.files.iter().enumerate() {
            let at_disk = bench.path(&file.file.path);
            match (&file.before, state >> at & 1) {
                (_, 1) => {}
                (Some(bytes), _) => std::fs::write(at_disk, bytes).unwrap(),
                (None, _) => std::fs::remove_file(at_disk).unwrap(),
            }
        }
        let Settled::Outcome(outcome) = bench.tools.recover(&ask, Some(&redo)).await else { panic!("not settled") };
        assert_eq!(outcome, live, "{state}");
        assert_eq!(
            (bench.names(), bench.bytes("m.txt")),
            (vec!["a.txt".to_owned(), "m.txt".to_owned()], b"B\n".to_vec())
        );
    }
}
