//! The library's run with a time limit: it returns when nothing of the run is under way any more, and in bounded time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakitu::session::Opening;
use lakitu::state::{Query, Told};
use lakitu::{ENDED_WITHIN, Lakitu, Outcome, run_with_timeout, start_thread};
use lakitu_actors::effects::{Done, Key, Work};
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_actors::tools::file::pdf::Reader;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::CheckpointReason;
use lakitu_kernel::{Seq, ToolError};
use serde_json::json;
use tokio::time::Instant;

use super::stays;
use crate::harness::{Home, Recorder, Script, alive, soon};

/// A runtime of the library's, and who answers in it.
async fn library(home: &Home, script: &Script) -> (Lakitu, Recorder) {
    let gateway = Recorder::new(script);
    let opening = Opening {
        config: Config::default(),
        data: home.data(),
        upstream: Arc::new(gateway.clone()),
        starter: KeeperStarter::Helper(PathBuf::from(env!("CARGO_BIN_EXE_lakitu-keeper"))),
        hidden: Vec::new(),
        exit: None,
        log: None,
        patience: None,
        serves: None,
        api: None,
        reader: Reader::none(),
    };
    (Lakitu::open(opening, home.workspace(), "scripted").await.unwrap(), gateway)
}

fn timed_out(outcome: Result<Outcome, ToolError>) -> lakitu::Finished {
    match outcome {
        Ok(Outcome::Incomplete(finished, CheckpointReason::Timeout)) => finished,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_run_of_the_library_returns_nothing_of_it_is_under_way() {
    let home = Home::new();
    let marker = format!("lakitu-test-of-the-library-{}", std::process::id());
    // Until the limit it writes, whoever asks it to stop.
    let command = format!(
        ": {marker}; trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; while :; do echo behind >> marks; sleep 0.01; \
         done; : {marker}' >/dev/null 2>&1 &); while :; do echo before >> marks; sleep 0.01; done"
    );
    let (lakitu, gateway) = library(&home, &Script::new().runs(&command).says("never")).await;
    let finished = timed_out(soon(run_with_timeout(&lakitu, "go", None, Duration::from_secs(6))).await);
    assert!(!home.read("marks").is_empty());
    // The kernel may be burying what was killed.
    crate::up::until("nothing runs", || alive(&marker).is_empty());
    stays(Duration::from_millis(500), || (gateway.sent().len(), home.read("marks").len()));
    assert_eq!(gateway.sent().len(), 1);
    let [call] = &finished.tool_calls[..] else { panic!("{finished:?}") };
    assert!(call.result.starts_with("INTERRUPTED: "), "{call:?}");
    let thread = finished.thread;
    let kept =
        lakitu.session().runtime().wiring.store.read(move |reading| reading.checkpoints_of(thread)).await.unwrap();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(kept.next_task, "Go on with: go");
    assert_eq!(kept.message_history.unwrap().count, 3);
    lakitu.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_waited_for_in_bounded_time_and_told() {
    let home = Home::new();
    let (lakitu, gateway) = library(&home, &Script::new().says("never").after_ms(600_000)).await;
    let limit = Duration::from_secs(5);
    let begun = Instant::now();
    let run = run_with_timeout(&lakitu, "go", None, limit);
    // Something of the run that no one can cut off, as a write to a disk that does not answer.
    let stuck = async {
        gateway.asked(1).await;
        let key = Key { thread: gateway.sent()[0].thread, work: Work::Tool(Seq(1_000), 1) };
        let effects = &lakitu.session().runtime().wiring.effects;
        effects.begin(key, |_| std::future::pending(), |_| Done::Over);
        std::future::pending::<std::convert::Infallible>().await
    };
    let outcome = tokio::select! { outcome = run => outcome, never = stuck => match never {} };
    let Ok(Outcome::StillEnding(finished, CheckpointReason::Timeout)) = outcome else { panic!("{outcome:?}") };
    let took = begun.elapsed();
    assert!(took >= limit + ENDED_WITHIN && took < limit + ENDED_WITHIN + Duration::from_secs(5), "{took:?}");
    // Without that, nothing is waited for: once more on the same runtime.
    let begun = Instant::now();
    let again = timed_out(run_with_timeout(&lakitu, "go", Some(&json!({ "again": true })), limit).await);
    assert!(begun.elapsed() < limit + Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_ne!(again.thread, finished.thread);
    lakitu.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_shows_rows_and_says_when_they_change() {
    let home = Home::new();
    let script = Script::new().calls("beads_create", json!({ "title": "by the agent" })).says("Done.");
    let (lakitu, _gateway) = library(&home, &script).await;
    let query = Query::new("beads", Some("by_status"), Some(&json!("open"))).unwrap();
    let page = lakitu.state().rows(&query, 10, None).await.unwrap();
    assert_eq!(page.items, Vec::<serde_json::Value>::new());

    let finished = soon(start_thread(&lakitu, "go", None)).await.unwrap();
    let came = soon(lakitu.state().changes(&query, page.commit)).await.unwrap();
    let Told::Put { row } = &came.items[0].told else { panic!("{came:?}") };
    assert_eq!((&row["title"], &row["threadId"]), (&json!("by the agent"), &json!(finished.thread)));

    let close = async { drop(lakitu.beads("alice").close(came.items[0].id.clone(), None).await.unwrap()) };
    let state = lakitu.state();
    let (left, ()) = soon(async { tokio::join!(state.changes(&query, came.upto), close) }).await;
    assert_eq!(left.unwrap().items[0].told, Told::Leave);

    let stats = lakitu.state().decisions(finished.thread).await.unwrap();
    assert_eq!((stats.total, stats.by_outcome.success), (1, 1));
    lakitu.close().await;
}
