//! One path: live, at a restart and in a replay a thread is the same state and sends the same bytes.

use lakitu_actors::threads::agent::State;
use lakitu_actors::threads::journal;
use lakitu_kernel::chat::{self, SUFFIX};
use lakitu_kernel::config::Config;
use lakitu_kernel::event::EventBody;
use lakitu_kernel::image::ImageRef;
use lakitu_kernel::limits::SNAPSHOT_EVERY_EVENTS;
use lakitu_kernel::{Event, Hash, Seq, ThreadId};
use serde_json::json;

use crate::harness::{Ended, Harness, Script};

/// Turns of every kind: reads, writes, an edit, mistakes, a failing model.
fn rounds(count: usize) -> Script {
    (0..count).fold(Script::new(), |script, n| {
        let path = format!("{n}.txt");
        script.calls("file_write", json!({ "path": path, "content": format!("{n}\n") })).fails(503).calls_all([
            ("file_read", json!({ "path": path })),
            ("file_read", json!({ "path": format!("{}.png", n % 3) })),
            ("file_read", json!({ "path": "missing" })),
            ("file_edit", json!({ "path": path, "old_string": n.to_string(), "new_string": "x" })),
            ("file_write", json!("{\"path\":")),
        ])
    })
}

/// Two of the three that are read.
fn pictures(lakitu: &Harness) {
    for (name, size) in [("0.png", 2), ("1.png", 3)] {
        lakitu.home.write_bytes(name, &[b"GIF89a\x01\0".as_slice(), &[size], b"\0\0\0\0;"].concat());
    }
}

/// Folds the journal event by event, and looks at each request: it must be what the state before its answer makes.
async fn every_request_follows_from_the_journal(lakitu: &Harness, thread: ThreadId) -> usize {
    let events = lakitu.events(thread).await;
    assert!(events.iter().map(|event| event.seq.0).eq(1..=events.len() as u64), "the journal has gaps");
    let sent = lakitu.gateway.sent();
    let mut state = State::new(thread);
    let mut compared = 0;
    for event in &events {
        if let EventBody::Message { turn, .. } = &event.body {
            let made = request_of(lakitu, &state).await;
            for sent in sent.iter().filter(|sent| sent.thread == thread && sent.turn == turn.0) {
                assert!(sent.body == made, "turn {turn}: what was sent is not what the journal makes");
                compared += 1;
            }
        }
        state.evolve(event);
    }
    same_state(lakitu, &state, &events).await;
    compared
}

/// The next request of a thread in this state.
async fn request_of(lakitu: &Harness, state: &State) -> Vec<u8> {
    let prefix: Hash = state.prefix.expect("a thread that was started");
    let history = state.history.clone();
    lakitu
        .ask(move |reading| {
            let image = |image: &ImageRef| chat::image_part(image.media_type, &reading.blob(image.hash).unwrap());
            Ok([reading.blob(prefix)?.to_vec(), history.body(image).concat(), SUFFIX.to_vec()].concat())
        })
        .await
}

/// The snapshot is the live state at its event. With the events behind it, it gives what all events give.
async fn same_state(lakitu: &Harness, folded: &State, events: &[Event]) {
    let thread = folded.thread;
    let replayed = lakitu.ask(move |reading| journal::replay(reading, thread)).await;
    let restored = lakitu.ask(move |reading| journal::fold(reading, thread)).await;
    assert!(replayed == *folded, "a replay gives another state");
    assert!(restored == *folded, "the snapshot gives another state");
    let snapshot = lakitu.ask(move |reading| reading.snapshot(thread)).await.map(|snapshot| snapshot.seq);
    let boundary = events.len() as u64 >= SNAPSHOT_EVERY_EVENTS;
    assert_eq!(snapshot.is_some_and(|seq| seq > Seq::ZERO), boundary, "{snapshot:?} of {} events", events.len());
}

#[tokio::test(start_paused = true)]
async fn every_request_is_what_the_journal_makes_of_it() {
    let lakitu = Harness::start(rounds(4).says("Done.").says("Again.")).await;
    pictures(&lakitu);

    assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()));
    assert_eq!(lakitu.continue_with("more", |set| set.model = "other".to_owned()).await, Ok("Again.".to_owned()));

    let compared = every_request_follows_from_the_journal(&lakitu, lakitu.thread()).await;
    assert_eq!(compared, lakitu.gateway.sent().len());
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn also_over_snapshots_and_a_restart_of_the_process() {
    let script = rounds(16).says("Done.").says("Again.");
    let lakitu = Harness::start(script.clone()).await;
    pictures(&lakitu);
    assert_eq!(
        lakitu.prompt_with("go", |set| set.max_turns = Some(29)).await,
        Err(Ended::Checkpointed("turn_limit".to_owned()))
    );
    let thread = lakitu.thread();
    every_request_follows_from_the_journal(&lakitu, thread).await;
    let (home, before) = lakitu.stop().await;

    let lakitu = Harness::start_on(home, script, Config::default()).await;
    assert_eq!(lakitu.resume_thread(thread).await, Ok("Done.".to_owned()));
    assert_eq!(lakitu.continue_("more").await, Ok("Again.".to_owned()));

    let compared = every_request_follows_from_the_journal(&lakitu, thread).await;
    assert_eq!(compared, lakitu.gateway.sent().len());
    let (last, next) = (before.sent().pop().unwrap(), lakitu.gateway.sent().remove(0));
    assert_eq!(next.turn, last.turn + 1);
    assert!(next.body.starts_with(&last.body[..last.body.len() - SUFFIX.len()]), "the restart changed bytes of before");
    lakitu.end().await;
}
