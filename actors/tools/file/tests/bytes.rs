//! Bytes outside an edit never change, whatever stands in the file and whichever tool makes the edit: the whole way, over
//! the disk.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// What stands on the line that is edited, and nowhere else.
const MARK: &str = "=mark=";
/// What a template language, a shell or a regular expression would make something else of.
const LITERAL: [&str; 10] =
    ["$&", "$1", "$$", "\\0", "\\n", "${x}", "%s", "a\u{301}\u{feff}", "`id`", "\u{0}\u{7f}\u{1b}[0m"];

/// A file with the marked line in it: what stands before that line, how it ends, and what stands behind it.
#[derive(Debug, Clone)]
struct Sample {
    before: Vec<u8>,
    end: &'static [u8],
    behind: Vec<u8>,
    mode: u32,
    new: String,
}

/// Lines of any bytes but the ends of lines, each with an end of its own.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let end = prop::sample::select(vec![b"\n".as_slice(), b"\r\n"]);
    // Latin-1, UTF-8 and bytes that are neither, a lone CR and NUL among them.
    let pieces: Vec<&[u8]> =
        vec![b"a", b" ", b"\t", b"\xe9", b"\xff\xfe", b"\xc3\xa9", b"\xf0\x9f", b"\r", b"\0", b"+", b"-"];
    let line = prop::collection::vec(prop::sample::select(pieces), 0..8).prop_map(|pieces| pieces.concat());
    prop::collection::vec((line, end), 0..6)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end.to_vec()].concat()).collect())
}

fn samples() -> impl Strategy<Value = Sample> {
    let mode = prop::sample::select(vec![0o600, 0o640, 0o644, 0o755, 0o700, 0o664]);
    let new = prop::collection::vec(prop::sample::select(LITERAL.to_vec()), 1..4).prop_map(|words| words.concat());
    let tail = prop::sample::select(vec![b"".as_slice(), b"open end", b"\xe9"]);
    (any::<bool>(), lines(), any::<bool>(), lines(), tail, mode, new).prop_map(
        |(bom, above, crlf, below, tail, mode, new)| {
            let bom = if bom { b"\xef\xbb\xbf".as_slice() } else { b"" };
            let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
            // Without anything behind it, the last line may be open.
            let behind = [below.as_slice(), tail].concat();
            Sample { before: [bom, &above].concat(), end, behind, mode, new }
        },
    )
}

#[test]
fn every_tool_that_edits_keeps_every_byte_outside_the_edit_and_the_mode() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let run = runner.run(&samples(), |sample| runtime.block_on(check(&sample)));
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn check(sample: &Sample) -> Result<(), TestCaseError> {
    let Sample { before, end, behind, mode, new } = sample;
    let file = [before.as_slice(), MARK.as_bytes(), end, behind].concat();
    let expected = [before.as_slice(), new.as_bytes(), end, behind].concat();
    let one = json!({ "old_string": MARK, "new_string": new });
    // Through another text and back to where it began, then on.
    let several = json!([
        { "old_string": MARK, "new_string": "=other=" },
        { "old_string": "=other=", "new_string": MARK },
        one,
    ]);
    let patch = format!("*** Begin Patch\n*** Update File: f\n@@\n-{MARK}\n+{new}\n*** End Patch");
    for (tool, arguments) in [
        (&FILE_EDIT, json!({ "path": "f", "old_string": MARK, "new_string": new })),
        (&MULTI_EDIT, json!({ "path": "f", "edits": several })),
        (&APPLY_PATCH, json!({ "patch": patch })),
    ] {
        let mut bench = bench();
        bench.put("f", &file);
        std::fs::set_permissions(bench.path("f"), PermissionsExt::from_mode(*mode)).unwrap();
        bench.read("f").await;
        let outcome = bench.call(tool, arguments).await;
        prop_assert!(outcome.error.is_none(), "{}: {}", tool.name, outcome.output);
        prop_assert_eq!(bench.bytes("f"), expected.clone(), "{}", tool.name);
        let kept = std::fs::metadata(bench.path("f")).unwrap().permissions().mode() & 0o7777;
        prop_assert_eq!(kept, *mode, "{}", tool.name);
    }
    Ok(())
}

/// What a whole file is replaced with is what is written, and its mode stays.
#[tokio::test]
async fn a_file_that_is_written_holds_what_was_given_and_keeps_its_mode() {
    let mut bench = bench();
    for (name, content) in [
        ("plain", "a\n"),
        ("crlf", "a\r\nb\r\n"),
        ("mixed", "a\r\nb\n"),
        ("bom", "\u{feff}a"),
        ("literal", "$&\\0${x}"),
    ] {
        bench.put(name, "before\n");
        std::fs::set_permissions(bench.path(name), PermissionsExt::from_mode(0o751)).unwrap();
        bench.read(name).await;
        bench.write(name, content).await;
        assert_eq!(bench.bytes(name), content.as_bytes(), "{name}");
        assert_eq!(std::fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o7777, 0o751, "{name}");
    }
}
