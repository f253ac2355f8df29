use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use expect_test::expect;
use lakitu_kernel::error::ErrorCode;
use lakitu_kernel::id::{Seq, ThreadId};
use lakitu_kernel::limits::{FILE_EDIT_BYTES_MAX, FILE_READ_BYTES_MAX};
use lakitu_kernel::tool::{EffectClass, ToolSpec};
use lakitu_kernel::{Hash, event};
use serde_json::json;

use super::*;
use crate::tools::{Known, Place};

mod arguments;
mod bytes;
mod patch;
mod pictures;
mod put_back;
mod recovery;
mod vectors;

/// A place, and a thread that remembers what it saw.
struct Bench {
    dir: tempfile::TempDir,
    tools: FileTools,
    place: Arc<Place>,
    known: BTreeMap<String, Hash>,
    seq: u64,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    for name in ["w", "artifacts", "data/outputs"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let place = Place { workspace: dir.path().join("w"), artifacts: dir.path().join("artifacts") };
    let tools = FileTools::new(dir.path().join("data/outputs"), dir.path().join("data"), pdf::Reader::none());
    Bench { dir, tools, place: Arc::new(place), known: BTreeMap::new(), seq: 0 }
}

impl Bench {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("w").join(below)
    }

    fn put(&self, below: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(below), bytes).unwrap();
    }

    fn bytes(&self, below: &str) -> Vec<u8> {
        std::fs::read(self.path(below)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn ask(&mut self, tool: &ToolSpec, arguments: &serde_json::Value) -> Ask {
        self.seq += 1;
        let call = ToolCall {
            thread: ThreadId(1),
            intent: Seq(self.seq),
            call_id: format!("call_{}", self.seq),
            tool: tool.name,
            arguments: tool.check(&arguments.to_string()).unwrap(),
            start: 1,
        };
        Ask { call, place: self.place.clone(), known: Known::new(self.known.clone()), lease: None }
    }

    /// The whole way of a call.
    async fn call(&mut self, tool: &ToolSpec, arguments: serde_json::Value) -> ToolOutcome {
        let ask = self.ask(tool, &arguments);
        let outcome = if tool.effect == EffectClass::Read {
            self.tools.run(&ask, None).await
        } else {
            match self.tools.prepare(&ask).await {
                Ok(prepared) => self.tools.run(&ask, Some(&prepared.redo)).await,
                Err(error) => error.into(),
            }
        };
        self.learn(&outcome.files);
        outcome
    }

    fn learn(&mut self, files: &[event::FileVersion]) {
        self.known.extend(files.iter().map(|file| (file.path.clone(), file.hash)));
    }

    async fn read(&mut self, path: &str) -> String {
        self.call(&FILE_READ, json!({ "path": path })).await.output
    }

    async fn write(&mut self, path: &str, content: &str) -> String {
        self.call(&FILE_WRITE, json!({ "path": path, "content": content })).await.output
    }

    async fn edit(&mut self, path: &str, old: &str, new: &str) -> String {
        self.call(&FILE_EDIT, json!({ "path": path, "old_string": old, "new_string": new })).await.output
    }
}

#[tokio::test]
async fn a_file_is_created_read_edited_and_overwritten() {
    let mut bench = bench();
    let mut told = vec![
        bench.write("src/calc.sh", "add() {\n  echo $(($1 - $2))\n}\n").await,
        bench.edit("src/calc.sh", "$1 - $2", "$1 + $2").await,
        bench.read("src/calc.sh").await,
        bench.write("src/calc.sh", "exit 1").await,
        bench.write("src/calc.sh", "exit 1").await,
        bench.read("src").await,
        bench.read(".").await,
    ];
    told.push(bench.edit("new.txt", "", "made by an edit\n").await);
    expect![[r"
        Created src/calc.sh (3 lines, 30 bytes)
        --
        Changed src/calc.sh (+1 -1 lines)
        @@ -1,3 +1,3 @@
         add() {
        -  echo $(($1 - $2))
        +  echo $(($1 + $2))
         }
        --
             1	add() {
             2	  echo $(($1 + $2))
             3	}
        --
        Changed src/calc.sh (+1 -3 lines)
        @@ -1,3 +1 @@
        -add() {
        -  echo $(($1 + $2))
        -}
        +exit 1
        \ No newline at end of file
        --
        src/calc.sh holds this already; nothing was changed
        --
        src is a directory with 1 entry:
        calc.sh
        --
        . is a directory with 1 entry:
        src/
        --
        Created new.txt (1 line, 16 bytes)
    "]]
    .assert_eq(&told.join("--\n"));
    assert_eq!(std::fs::metadata(bench.path("src/calc.sh")).unwrap().permissions().mode() & 0o7777, 0o644);
}

#[tokio::test]
async fn what_the_thread_does_not_know_is_not_changed() {
    let mut bench = bench();
    bench.put("a.txt", "a\n");
    let mut told = vec![bench.write("a.txt", "x").await, bench.edit("a.txt", "a", "b").await];
    bench.read("a.txt").await;
    bench.put("a.txt", "changed\n");
    told.push(bench.write("a.txt", "x").await);
    told.push(bench.edit("a.txt", "changed", "x").await);
    assert_eq!(bench.bytes("a.txt"), b"changed\n");
    bench.read("a.txt").await;
    told.push(bench.edit("a.txt", "changed", "x").await);
    told.push(bench.edit("none.txt", "a", "b").await);
    told.push(bench.edit("a.txt", "", "b").await);
    expect![[r"
        FILE_CHANGED: a.txt exists and you have not read it: read it first with file_read, then overwrite it
        FILE_CHANGED: a.txt exists and you have not read it: read it first with file_read, then edit it
        FILE_CHANGED: a.txt changed since you last saw it (by a command, or by somebody else): read it again with file_read, then overwrite it
        FILE_CHANGED: a.txt changed since you last saw it (by a command, or by somebody else): read it again with file_read, then edit it
        Changed a.txt (+1 -1 lines)
        @@ -1 +1 @@
        -changed
        +x

        FILE_NOT_FOUND: none.txt does not exist
        EDIT_MISMATCH: old_string is empty, which only creates a file, and a.txt exists; give the text to replace, or use file_write to replace all of it"]].assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_answered_with_what_may_be_meant() {
    let mut bench = bench();
    std::fs::create_dir_all(bench.path("src/deep")).unwrap();
    for name in ["src/main.rs", "src/deep/parser.rs", "README.md", "src/caf\u{e9}.txt"] {
        bench.put(name, "");
    }
    let mut told = Vec::new();
    for path in ["src/mian.rs", "src/main.py", "readme.md", "parser.rs", "lib/parser.rs", "nothing/alike.zig"] {
        told.push(bench.read(path).await);
    }
    expect![[r"
        FILE_NOT_FOUND: src/mian.rs does not exist; did you mean src/main.rs?
        FILE_NOT_FOUND: src/main.py does not exist; did you mean src/main.rs?
        FILE_NOT_FOUND: readme.md does not exist; did you mean README.md?
        FILE_NOT_FOUND: parser.rs does not exist; did you mean src/deep/parser.rs?
        FILE_NOT_FOUND: lib/parser.rs does not exist; did you mean src/deep/parser.rs?
        FILE_NOT_FOUND: nothing/alike.zig does not exist"]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn hostile_paths_are_refused_by_every_tool_and_nothing_is_made() {
    let mut bench = bench();
    std::fs::write(bench.dir.path().join("secret"), "secret").unwrap();
    std::fs::write(bench.dir.path().join("data/lakitu.redb"), "store").unwrap();
    std::fs::write(bench.dir.path().join("data/outputs/1.out"), "spool\n").unwrap();
    symlink("/etc/passwd", bench.path("link")).unwrap();
    symlink("../secret", bench.path("link2")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("fifo"), rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    let before = bench.names();
    let data = bench.dir.path().join("data");
    let (store, spool) = (data.join("lakitu.redb"), data.join("outputs/1.out"));
    let (store, spool) = (store.to_str().unwrap(), spool.to_str().unwrap());
    let long = "x".repeat(256);
    let rows: Vec<&str> = vec![
        "../secret",
        "/etc/passwd",
        "a/../../x",
        "",
        "a\0.txt",
        &long,
        "link",
        "link2",
        "/proc/self/root/etc/passwd",
        "/proc/self/fd/3",
        "/dev/fd/0",
        "/dev/zero",
        "/dev/tty",
        "fifo",
        store,
        "../data/lakitu.redb",
    ];
    for path in rows {
        for told in [bench.read(path).await, bench.write(path, "x").await, bench.edit(path, "", "x").await] {
            let refused = ["PERMISSION_DENIED: ", "INVALID_ARGUMENTS: "].iter().any(|code| told.starts_with(code));
            assert!(refused, "{path:?}: {told}");
        }
    }
    for path in [".", "new/", "sub/../"] {
        let told = bench.write(path, "x").await;
        assert!(!told.starts_with("Created"), "{path:?}: {told}");
    }
    assert!(bench.read(spool).await.contains("spool"));
    assert!(bench.write(spool, "x").await.starts_with("PERMISSION_DENIED: "));
    assert_eq!(bench.names(), before);
}

#[tokio::test]
async fn the_runtimes_own_directory_is_out_of_reach_inside_the_workspace_too() {
    let mut bench = bench();
    let data = bench.path(".lakitu");
    for name in ["outputs", "artifacts"] {
        std::fs::create_dir_all(data.join(name)).unwrap();
    }
    std::fs::write(data.join("lakitu.redb"), "store").unwrap();
    std::fs::write(data.join("outputs/1.out"), "spool\n").unwrap();
    symlink(".lakitu", bench.path("alias")).unwrap();
    bench.tools = FileTools::new(data.join("outputs"), data.clone(), pdf::Reader::none());
    bench.place = Arc::new(Place { workspace: bench.path(""), artifacts: data.join("artifacts") });
    for path in [".lakitu/lakitu.redb", "alias/lakitu.redb", ".lakitu", ".lakitu/new"] {
        let told = bench.read(path).await;
        assert!(told.starts_with("PERMISSION_DENIED: ") && told.contains("out of reach"), "{path}: {told}");
        assert!(bench.write(path, "x").await.starts_with("PERMISSION_DENIED: "), "{path}");
    }
    assert!(bench.read("alias/outputs/1.out").await.contains("spool"));
    assert!(bench.write("alias/outputs/1.out", "x").await.starts_with("PERMISSION_DENIED: "));
    assert_eq!(bench.write("alias/artifacts/a.md", "x").await, "Created .lakitu/artifacts/a.md (1 line, 1 byte)\n");
    let absolute = data.join("artifacts/a.md");
    assert!(bench.edit(absolute.to_str().unwrap(), "x", "y").await.starts_with("Changed .lakitu/artifacts/a.md"));
}

#[tokio::test]
async fn artifacts_are_reached_by_their_absolute_path() {
    let mut bench = bench();
    let path = bench.place.artifacts.join("report.md");
    let path = path.to_str().unwrap();
    assert_eq!(bench.write(path, "# R\n").await, format!("Created {path} (1 line, 4 bytes)\n"));
    assert!(bench.edit(path, "R", "Report").await.starts_with(&format!("Changed {path} (+1 -1 lines)\n")));
}

#[tokio::test]
async fn sizes_are_limited_at_the_limit_and_not_before() {
    let mut bench = bench();
    let content = |bytes: u64| "x".repeat(usize::try_from(bytes).unwrap());
    assert!(bench.write("at", &content(FILE_EDIT_BYTES_MAX)).await.starts_with("Created"));
    assert!(bench.write("past", &content(FILE_EDIT_BYTES_MAX + 1)).await.starts_with("FILE_TOO_LARGE: "));
    bench.put("big", content(FILE_EDIT_BYTES_MAX + 1));
    bench.read("big").await;
    for told in [bench.edit("big", "x", "y").await, bench.write("big", "small").await] {
        assert!(told.starts_with("FILE_TOO_LARGE: big has 1048577 bytes; at most 1048576 are taken"), "{told}");
    }
    let sparse = |name: &str, bytes| std::fs::File::create(bench.path(name)).unwrap().set_len(bytes);
    sparse("at-most", FILE_READ_BYTES_MAX).unwrap();
    sparse("one-more", FILE_READ_BYTES_MAX + 1).unwrap();
    // 1 TB where the file system can name it.
    sparse("sparse", 1 << 40).or_else(|_| sparse("sparse", 1 << 36)).unwrap();
    assert_eq!(bench.read("at-most").await, "[binary file, not shown: unknown type, 10485760 bytes]\n");
    for name in ["one-more", "sparse"] {
        assert!(bench.read(name).await.starts_with("FILE_TOO_LARGE: "), "{name}");
    }
}

#[tokio::test]
async fn a_read_carries_the_version_that_it_saw() {
    let mut bench = bench();
    bench.put("a.bin", b"\x89PNG\r\n\x1a\n\0\0");
    symlink("a.bin", bench.path("link")).unwrap();
    let outcome = bench.call(&FILE_READ, json!({ "file_path": "link", "line": "1" })).await;
    assert_eq!(outcome.output, "[PNG image of 10 bytes, not shown: it is broken]\n");
    let hash = Hash::of(b"\x89PNG\r\n\x1a\n\0\0");
    assert_eq!(outcome.files, [event::FileVersion { path: "a.bin".into(), hash }]);
    assert_eq!(bench.call(&FILE_READ, json!({ "path": "." })).await.files, []);
    // A link stays, and what it leads to is written.
    assert!(bench.write("link", "text").await.starts_with("Changed a.bin"));
    assert!(std::fs::symlink_metadata(bench.path("link")).unwrap().is_symlink());
    assert_eq!(bench.bytes("a.bin"), b"text");
}

#[tokio::test]
async fn names_in_a_listing_are_escaped_and_the_listing_is_bounded() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut bench = bench();
    for name in [b"new\nline".as_slice(), b"\xff\xfe", b"tab\t", b"\x1b[2J", b"-rf"] {
        std::fs::write(bench.path("").join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
    }
    symlink("-rf", bench.path("zlink")).unwrap();
    std::fs::create_dir(bench.path("zdir")).unwrap();
    expect![[r#"
        . is a directory with 7 entries:
        "\u{1b}[2J"
        -rf
        "new\nline"
        "tab\t"
        zdir/
        zlink -> -rf
        "\xff\xfe"
    "#]]
    .assert_eq(&bench.read(".").await);
    for n in 0..500 {
        bench.put(&format!("n{n:03}"), "");
    }
    let told = bench.read(".").await;
    assert!(told.ends_with("n497\n[7 more entries; find them by name with glob]\n"), "{told}");
}

#[tokio::test]
async fn bytes_outside_an_edit_stay_and_so_does_the_mode() {
    let mut bench = bench();
    for (name, before, after) in [
        ("bom", b"\xef\xbb\xbfa\r\nold\r\nb".as_slice(), b"\xef\xbb\xbfa\r\nnew $&\\0\r\nb".as_slice()),
        ("latin", b"\xe9\xff old \xe8".as_slice(), b"\xe9\xff new $&\\0 \xe8".as_slice()),
        ("open", b"old".as_slice(), b"new $&\\0".as_slice()),
    ] {
        bench.put(name, before);
        std::fs::set_permissions(bench.path(name), PermissionsExt::from_mode(0o750)).unwrap();
        bench.read(name).await;
        let told = bench.edit(name, "old", "new $&\\0").await;
        assert!(told.starts_with("Changed"), "{told}");
        assert_eq!(bench.bytes(name), after, "{name}");
        assert_eq!(std::fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o7777, 0o750);
    }
}

#[tokio::test]
async fn a_workspace_that_is_made_again_is_found_again() {
    let mut bench = bench();
    bench.write("a.txt", "a").await;
    std::fs::remove_dir_all(bench.path("")).unwrap();
    assert!(bench.read("a.txt").await.starts_with("FILE_NOT_FOUND: "));
    std::fs::create_dir(bench.path("")).unwrap();
    assert!(bench.write("a.txt", "a").await.starts_with("Created"));
}
