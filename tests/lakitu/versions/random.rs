//! Random operations through the real tools and real commands, then back: by the step, by the thread, to a checkpoint.

use std::path::Path;

use lakitu_kernel::edit::FileKind;
use lakitu_kernel::{ErrorCode, Seq};
use serde_json::json;

use super::{Dice, Tree, long, touched, tree};
use crate::harness::{Harness, Script};

const CASES: u64 = 6;
const CASES_LONG: u64 = 200;
/// Prompts of a case; a checkpoint is made behind half of them.
const PROMPTS: usize = 12;

const NAMES: [&str; 9] = ["a", "b", "c", "link", "d", "d/x", "d/e", "d/e/z", "n/m"];
const MODES: [&str; 5] = ["600", "755", "750", "640", "555"];

/// What one prompt does. A call that cannot be made is refused, and a command that fails changes nothing: both are as good.
fn step(dice: &mut Dice, n: usize) -> Script {
    let (p, q, mode) = (*dice.of(&NAMES), *dice.of(&NAMES), *dice.of(&MODES));
    let read = || Script::new().calls("file_read", json!({ "path": p }));
    let patch = |text: String| {
        Script::new().calls("apply_patch", json!({ "patch": format!("*** Begin Patch\n{text}\n*** End Patch") }))
    };
    let runs = |command: String| Script::new().runs(&format!("({command}) 2>&1"));
    let script = match dice.below(17) {
        0 => runs(format!("printf 'x{n}\\n' >> {p}")),
        1 => runs(format!("rm -rf {p}")),
        2 => runs(format!("mv -T {p} {q}")),
        3 => runs(format!("chmod {mode} {p}")),
        4 => runs(format!("ln -sfnT {q} {p}")),
        5 => runs(format!("mkdir -p {p}")),
        6 => runs(format!("rmdir {p}")),
        7 => runs(format!("rm -rf {p}; mkdir -p {p}; echo in > {p}/inner; chmod {mode} {p}")),
        8 => runs(format!("rm -rf {p}; ln -s nowhere {p}")),
        9 => runs(format!("rm -rf {p}; printf '\\351\\0b' > {p}; chmod {mode} {p}")),
        10 => {
            runs(format!("mkdir -p d && echo odd{n} > \"d/$(printf 'caf\\351')\" && ln -sfnT \"$(printf '\\377')\" b"))
        }
        11 => runs(format!("cp -rT {p} {q}; mkdir -p new/{n}/empty")),
        12 => read().calls("file_write", json!({ "path": p, "content": format!("written {n}\n") })),
        13 => read().calls("file_edit", json!({ "path": p, "old_string": "one", "new_string": "two\nthree" })),
        14 => patch(format!("*** Add File: deep/{n}/er/file\n+new\n*** Add File: deep/{n}/other\n+new")),
        15 => read().then(patch(format!("*** Delete File: {p}"))),
        _ => read().then(patch(format!("*** Update File: {p}\n*** Move to: moved/{n}/{p}\n@@\n-one\n+1"))),
    };
    script.says("Done.")
}

/// What stood there before anybody did anything.
fn prepare(home: &crate::harness::Home) {
    for name in ["a", "b", "d/x", "theirs/one", "theirs/deep/two"] {
        home.write(name, "one\nof them\n");
    }
    std::os::unix::fs::symlink("a", home.workspace().join("link")).unwrap();
}

#[track_caller]
fn same(found: &Tree, expected: &Tree, what: &str) {
    let differs =
        |(path, one): (&std::path::PathBuf, &_), other: &Tree| (other.get(path) != Some(one)).then(|| path.clone());
    let paths: std::collections::BTreeSet<_> = found
        .iter()
        .filter_map(|entry| differs(entry, expected))
        .chain(expected.iter().filter_map(|entry| differs(entry, found)))
        .collect();
    let told: Vec<_> = paths.iter().map(|path| (path, found.get(path), expected.get(path))).collect();
    assert!(told.is_empty(), "{what}: (path, found, expected) {told:#?}");
}

/// One case; gives how many files changed, so that it is known to have done something.
async fn case(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let steps: Vec<Script> = (0..PROMPTS).map(|n| step(&mut dice, n)).collect();
    let half = PROMPTS / 2;
    let script = steps.iter().enumerate().fold(Script::new(), |script, (n, step)| {
        let script = script.then(step.clone());
        if n + 1 == half { script.calls("checkpoint_create", json!({ "name": "half" })).says("Kept.") } else { script }
    });
    let home = crate::harness::Home::new();
    prepare(&home);
    let lakitu = Harness::start_on(home, script, lakitu_kernel::config::Config::default()).await;
    let workspace = lakitu.home.workspace();
    let theirs = ["theirs", "theirs/one", "theirs/deep/two"].map(|path| workspace.join(path));
    let untouched = theirs.each_ref().map(|path| touched(path));
    let mut trees = vec![tree(&workspace)];
    let mut behind: Vec<usize> = Vec::new();
    for n in 0..PROMPTS {
        let ran = if n == 0 { lakitu.prompt("go").await } else { lakitu.continue_("go on").await };
        assert_eq!(ran, Ok("Done.".to_owned()), "seed {seed}, prompt {n}");
        trees.push(tree(&workspace));
        behind.push(lakitu.recorded().await.len());
        if n + 1 == half {
            assert_eq!(lakitu.continue_("keep it").await, Ok("Kept.".to_owned()), "seed {seed}");
        }
    }
    let (first, last) = (&trees[0], trees.last().unwrap());
    somebody_else(&lakitu, first, last, seed).await;
    to_the_checkpoint(&lakitu, (&trees[half], last), seed).await;
    by_the_thread(&lakitu, (first, last), seed).await;

    let recorded = lakitu.recorded().await;
    for n in (0..PROMPTS).rev() {
        let from = if n == 0 { 0 } else { behind[n - 1] };
        for seq in recorded[from..behind[n]].iter().rev() {
            back(&lakitu, *seq).await.unwrap_or_else(|error| panic!("seed {seed}, prompt {n}: {error}"));
        }
        same(&tree(&workspace), &trees[n], &format!("seed {seed}, back before prompt {n}: {:?}", steps[n]));
    }
    assert_eq!(theirs.each_ref().map(|path| touched(path)), untouched, "seed {seed}: what nobody touched");
    let changed = lakitu.rows_of_edits().await.len();
    lakitu.end().await;
    changed
}

/// A step is taken back.
async fn back(lakitu: &Harness, seq: Seq) -> Result<(), lakitu_kernel::ToolError> {
    let step = format!("{}/{}", lakitu.thread(), seq.0);
    lakitu.runtime().threads().rollback(&step, "", false).await.map(drop)
}

/// Somebody else changes a file that the thread changed: it is named, and nothing at all is put back.
async fn somebody_else(lakitu: &Harness, first: &Tree, last: &Tree, seed: u64) {
    let workspace = lakitu.home.workspace();
    let changed = last.iter().find(|(path, what)| what.0 == FileKind::File && first.get(*path) != Some(what));
    let Some((path, (_, _, bytes))) = changed else { return };
    let write = |bytes: &[u8]| {
        let file = workspace.join(path);
        let mode = file.metadata().unwrap().permissions();
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, mode).unwrap();
    };
    write(b"mine");
    let found = tree(&workspace);
    let thread = lakitu.thread().to_string();
    let refused = lakitu.runtime().threads().rollback(&thread, "", false).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict, "seed {seed}: {refused}");
    let name = path.file_name().map(Path::new).and_then(Path::to_str).unwrap_or("caf\\xe9");
    assert!(refused.message.contains(name), "seed {seed}: {refused} names {name}");
    same(&tree(&workspace), &found, &format!("seed {seed}: what is refused"));
    write(bytes);
}

/// A checkpoint is gone back to, and that is taken back.
async fn to_the_checkpoint(lakitu: &Harness, (half, last): (&Tree, &Tree), seed: u64) {
    let (thread, workspace) = (lakitu.thread(), lakitu.home.workspace());
    let rows = lakitu.ask(move |reading| reading.checkpoints_of(thread)).await;
    let id = rows.iter().find(|row| row.name.as_deref() == Some("half")).unwrap().id;
    let before = lakitu.recorded().await.len();
    lakitu.runtime().threads().restore(id, false).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    same(&tree(&workspace), half, &format!("seed {seed}, at the checkpoint"));
    if let Some(seq) = lakitu.recorded().await.get(before) {
        back(lakitu, *seq).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    same(&tree(&workspace), last, &format!("seed {seed}, back from the checkpoint"));
}

/// All of the thread is taken back, and that is taken back.
async fn by_the_thread(lakitu: &Harness, (first, last): (&Tree, &Tree), seed: u64) {
    let (thread, workspace) = (lakitu.thread().to_string(), lakitu.home.workspace());
    match lakitu.runtime().threads().rollback(&thread, "", false).await {
        Ok(_) => {}
        Err(error) => assert!(error.message.contains("nothing to take back"), "seed {seed}: {error}"),
    }
    same(&tree(&workspace), first, &format!("seed {seed}, without the thread"));
    if first != last {
        let seq = *lakitu.recorded().await.last().unwrap();
        back(lakitu, seq).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    same(&tree(&workspace), last, &format!("seed {seed}, with the thread again"));
}

/// `LAKITU_SEED=n` is one case.
#[tokio::test]
async fn whatever_a_thread_did_is_taken_back_step_by_step_as_a_whole_and_to_a_checkpoint() {
    let one = std::env::var("LAKITU_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = one.map_or(0..if long() { CASES_LONG } else { CASES }, |seed| seed..seed + 1);
    let mut changed = 0;
    for seed in seeds {
        println!("LAKITU_SEED={seed}");
        changed += case(seed).await;
    }
    assert!(changed > 20, "{changed} changes are not enough to have seen anything");
}
