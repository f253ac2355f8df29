//! What commands put out is kept up to a budget: of threads that came to their end the oldest goes first.

use std::path::PathBuf;
use std::time::Duration;

use lakitu_actors::checkpoint::outputs::{Removed, sweep};
use lakitu_kernel::ThreadId;
use lakitu_kernel::clock::{Clock as _, System, Timestamp};
use serde_json::json;

use crate::harness::{Harness, Script};

const BYTES: u64 = 3000;

fn spools(lakitu: &Harness, thread: ThreadId) -> Vec<PathBuf> {
    let directory = lakitu.home.data().join("outputs").join(thread.to_string());
    let mut found: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// So many hours from now.
fn hours(n: u64) -> Timestamp {
    Timestamp(System.now().0 + u64::try_from(Duration::from_hours(n).as_millis()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_outputs_of_settled_threads_go_and_what_is_young_or_still_written_stays() {
    let puts_out = format!("head -c {BYTES} /dev/zero | tr '\\0' x");
    // Each thread plays it from the beginning.
    let script = Script::new()
        .runs(&puts_out)
        .says("Done.")
        .calls("bash", json!({ "command": format!("{puts_out}; read -r line"), "run_in_background": true }))
        .says("It runs.")
        .calls("bash_output", json!({ "job": "job_6" }))
        .says("Gone.");
    let lakitu = Harness::start(script).await;
    let mut threads = Vec::new();
    for _ in 0..3 {
        assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()));
        threads.push(lakitu.thread());
    }
    let [first, second, runs] = threads[..] else { panic!("{threads:?}") };
    assert_eq!(lakitu.continue_("and in the background").await, Ok("It runs.".to_owned()));
    // What is still written is there when it is.
    let whole = || spools(&lakitu, runs).iter().all(|spool| std::fs::metadata(spool).unwrap().len() == BYTES);
    crate::up::until("it put out", whole);
    let store = lakitu.runtime().wiring.store.clone();
    let outputs = lakitu.home.data().join("outputs");
    // The order is told from the files' own times, whatever the clock's ticks.
    for (thread, age) in [(second, 20), (runs, 30), (first, 10)] {
        let at = std::time::SystemTime::now() - Duration::from_secs(60 - age);
        for spool in spools(&lakitu, thread) {
            std::fs::File::options().append(true).open(spool).unwrap().set_modified(at).unwrap();
        }
    }
    let none = Removed::default();
    assert_eq!(sweep(&store, outputs.clone(), 4 * BYTES, hours(2)).await, Ok(none), "it fits");
    assert_eq!(sweep(&store, outputs.clone(), 0, hours(0)).await, Ok(none), "it is young");
    let one = Removed { files: 1, bytes: BYTES };
    assert_eq!(sweep(&store, outputs.clone(), 4 * BYTES - 1, hours(2)).await, Ok(one));
    assert_eq!((spools(&lakitu, first).len(), spools(&lakitu, second).len()), (0, 1), "the oldest");
    assert_eq!(sweep(&store, outputs.clone(), 0, hours(2)).await, Ok(one));
    assert_eq!((spools(&lakitu, second).len(), spools(&lakitu, runs).len()), (0, 2), "a job writes there");
    assert_eq!(sweep(&store, outputs.join("none"), 0, hours(2)).await, Ok(none));

    // Whoever asks for what is gone is told so.
    lakitu.turn_to(first);
    assert_eq!(lakitu.continue_("and in the background").await, Ok("It runs.".to_owned()));
    assert_eq!(lakitu.continue_("and?").await, Ok("Gone.".to_owned()));
    let told = lakitu.gateway.request(6);
    assert!(told.contains("(its output of 3000 bytes is no longer kept)"), "{told}");
    lakitu.end().await;
}
