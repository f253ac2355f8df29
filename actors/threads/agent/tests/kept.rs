//! What a checkpoint holds: at its limits and one past them.

use lakitu_kernel::edit::{Changes, FileChange, FileKind, FileState};

use super::*;

fn change(path: String, bytes: u64) -> FileChange {
    let after =
        Some(FileState { kind: FileKind::File, hash: Some(Hash::of(path.as_bytes())), mode: 0o644, bytes, kept: true });
    FileChange { path, before: None, after, added: 1, removed: 0, verified: false }
}

#[test]
fn the_newest_fifty_messages_are_held_and_the_one_before_them_is_not() {
    let mut drive = Drive::new(None);
    // The prompt is the first.
    let held = |drive: &Drive| drive.state.kept.messages.len();
    for turn in 1..=24 {
        drive.take(answer(turn, "", vec![call(EffectClass::Read, "", &format!("{{\"n\":{turn}}}"))]));
        let intent = drive.intents()[0];
        drive.take(done(intent, &format!("{turn}")));
    }
    assert_eq!(held(&drive), 49);
    drive.take(answer(25, "", vec![call(EffectClass::Read, "", "{\"n\":25}")]));
    assert_eq!((held(&drive), drive.state.kept.messages[0]), (50, Seq(2)));
    let intent = drive.intents()[0];
    drive.take(done(intent, "25"));
    assert_eq!((held(&drive), drive.state.kept.messages[0]), (50, Seq(3)));
}

#[test]
fn a_thousand_files_are_held_those_that_changed_last_and_the_others_are_counted() {
    let mut drive = Drive::new(None);
    let changes = |from: usize, to: usize| {
        let files = (from..to).map(|n| change(format!("f{n:04}"), n as u64)).collect();
        ToolOutcome::ok("").with_changes(Changes { files, left_out: None, blobs: Vec::new() })
    };
    let rounds = [(0, 1), (1, limits::CHECKPOINT_FILES_MAX), (limits::CHECKPOINT_FILES_MAX, 1001)];
    let omitted = rounds.map(|(from, to)| {
        let turn = drive.state.turn().0;
        let arguments = format!("{{\"n\":{from}}}");
        drive.take(answer(turn, "", vec![call(EffectClass::Keyed, "", &arguments)]));
        let msg = Msg::Result { intent: drive.intents()[0], outcome: changes(from, to), duration_ms: 1 };
        drive.state.take(msg, Timestamp(u64::from(turn)), |_, _| {});
        let (files, omitted) = drive.state.kept.newest_files();
        (files.len(), omitted)
    });
    assert_eq!(omitted, [(1, 0), (1000, 0), (1000, 1)]);
    let (files, _) = drive.state.kept.newest_files();
    assert_eq!((files[0].0.as_str(), files[999].0.as_str()), ("f0001", "f1000"), "the oldest is left out");
}
