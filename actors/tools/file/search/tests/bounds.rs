//! What a search costs, whatever it is asked for and whatever it goes through.

use std::time::Instant;

use super::*;

#[test]
fn a_search_ends_with_its_time_or_when_nobody_waits_and_says_so() {
    let tree = small();
    let stopped = Span::of(SEARCH_DEADLINE);
    drop(stopped.stop_on_drop());
    for span in [Span::of(Duration::ZERO), stopped] {
        for (tool, arguments) in [(GLOB, json!({ "pattern": "**/*" })), (GREP, json!({ "pattern": "run" }))] {
            let told = tree.within(&tool, &arguments, &span);
            assert_eq!(told, "[stopped early after 0 files: not all was searched; name a smaller `path`]\n");
        }
    }
    let told = tree.within(&GREP, &json!({ "pattern": "run", "path": "README.md" }), &Span::of(Duration::ZERO));
    assert!(told.starts_with("[stopped early after 1 file"), "{told}");
}

/// A33: no pattern takes more than linear time.
#[test]
fn a_pattern_that_kills_others_takes_linear_time() {
    let mut tree = tree();
    tree.put("a.txt", "a".repeat(1 << 20) + "b\n");
    let began = Instant::now();
    assert_eq!(tree.grep(json!({ "pattern": "(a+)+$" })), "no match for (a+)+$\n");
    assert!(tree.grep(json!({ "pattern": "((a{100}){100}){100}" })).starts_with("INVALID_ARGUMENTS: "));
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Rules are compiled without anybody being able to interrupt it: what is compiled is bounded.
#[test]
fn a_file_of_rules_without_an_end_takes_bounded_time() {
    let mut tree = tree();
    tree.put(".gitignore", "*a?b[c-x]*y{1,2,3}\n".repeat(100_000));
    tree.put("found.txt", "x\n");
    let began = Instant::now();
    assert_eq!(tree.grep(json!({ "pattern": "x" })), "found.txt\n");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A32. Making a million files takes longer than finding them, so only where there is time: `LAKITU_LONG`.
#[test]
fn a_million_files_are_gone_through_in_bounded_time() {
    let files = if std::env::var_os("LAKITU_LONG").is_some() { 1_000_000 } else { 20_000 };
    let tree = tree();
    for n in 0..files {
        let dir = tree.path(&format!("d{}", n / 1000));
        if n % 1000 == 0 {
            std::fs::create_dir(&dir).unwrap();
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join(n.to_string()),
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    }
    let began = Instant::now();
    let told = tree.glob(json!({ "pattern": "**/*" }));
    assert!(told.len() <= lakitu_kernel::limits::OUTPUT_BYTES_MAX);
    assert!(told.ends_with(&format!("[{} older files left out; narrow the pattern or give `path`]\n", files - 1000)));
    assert!(began.elapsed() < SEARCH_DEADLINE, "{:?}", began.elapsed());
}
