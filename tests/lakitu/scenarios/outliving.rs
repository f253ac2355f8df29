//! Effects outlive actors: whoever crashes while a command runs, the command runs once, and its thread completes.

use std::time::Duration;

use lakitu_actors::debug::DebugMsg;
use lakitu_actors::gateway::GatewayMsg;
use lakitu_actors::store::StoreMsg;
use lakitu_actors::threads::agent::AgentMsg;
use lakitu_actors::tools::bash::BashMsg;
use lakitu_actors::tools::file::FileMsg;
use lakitu_kernel::config::Config;
use lakitu_kernel::supervise::{FaultKind, What};
use serde_json::json;

use crate::harness::{Ended, Fault, Fifo, Harness, Script};

/// Hung handlers are given up after this.
pub(super) fn impatient() -> Config {
    let mut config = Config::default();
    config.supervision.handler_ms = 400;
    config
}

/// Has an actor handle a message that changes nothing, so that a fault has something to hit.
pub(super) async fn poke(lakitu: &Harness, path: &str) {
    let (wiring, shortly) = (&lakitu.runtime().wiring, Duration::from_secs(5));
    match path {
        "/debug" => drop(wiring.debug.send(DebugMsg::Deaf { listener: std::sync::Arc::new(()) })),
        "/store" => drop(wiring.store.address().send(StoreMsg::Idle)),
        "/gateway" => drop(wiring.gateway.send(GatewayMsg::Retried)),
        "/tools/file" => drop(wiring.file.call(shortly, |reply| FileMsg::Enter { reply }).await),
        "/tools/bash" => drop(wiring.bash.call(shortly, |reply| BashMsg::Enter { reply }).await),
        "/tools" => drop(wiring.tools.remove("nobody", shortly).await),
        "/threads" => drop(wiring.threads.remove("nobody", shortly).await),
        path => {
            let thread = path.split('/').nth(2).expect("a thread's path").parse().expect("a thread's id");
            drop(wiring.agent(thread).send(AgentMsg::StopIsOverdue));
        }
    }
}

/// During one running command, the actor panics, fails, hangs and is restarted.
async fn outlives(path: impl FnOnce(&Harness) -> String) {
    let script = Script::new()
        .runs("echo once >> marks; read -r _ < gate; echo gone on")
        .calls("file_write", json!({ "path": "after.txt", "content": "after\n" }))
        .runs("echo twice >> marks")
        .says("Done.");
    let lakitu = Harness::start_with(script, impatient()).await;
    let gate = Fifo::new(&lakitu.home.workspace(), "gate");
    let run = lakitu.begin("go").await;
    let door = gate.reached().await;
    let path = path(&lakitu);

    let mut starts = 1;
    for fault in [Some(FaultKind::Panic), Some(FaultKind::Error), Some(FaultKind::Hang), None] {
        match fault {
            Some(kind) => {
                lakitu.inject(&path, kind);
                poke(&lakitu, &path).await;
            }
            None => lakitu.restart(&path),
        }
        starts += 1;
        lakitu.has(&path, What::Started, starts).await;
    }
    door.open();

    assert_eq!(run.end().await, Ok("Done.".to_owned()), "{path}");
    assert_eq!(lakitu.home.read("marks"), "once\ntwice\n", "{path}");
    assert_eq!(lakitu.home.read("after.txt"), "after\n", "{path}");
    assert!(lakitu.gateway.request(2).contains("gone on"), "{}", lakitu.gateway.request(2));
    lakitu.end().await;
}

#[tokio::test]
async fn a_thread_that_was_just_started_outlives_the_supervisor_that_took_it_in() {
    let lakitu = Harness::start(Script::new().says("Here.")).await;
    let run = lakitu.begin("are you there?").await;
    lakitu.restart("/threads");
    assert_eq!(run.end().await, Ok("Here.".to_owned()));
    lakitu.end().await;
}

#[tokio::test]
async fn a_command_outlives_its_agent() {
    outlives(|lakitu| format!("/threads/{}/agent", lakitu.thread())).await;
}

#[tokio::test]
async fn a_command_outlives_its_threads_supervisors() {
    outlives(|_| "/threads".to_owned()).await;
}

#[tokio::test]
async fn a_command_outlives_the_shells_actor() {
    outlives(|_| "/tools/bash".to_owned()).await;
}

#[tokio::test]
async fn a_command_outlives_the_files_actor() {
    outlives(|_| "/tools/file".to_owned()).await;
}

#[tokio::test]
async fn a_command_outlives_the_tools_supervisor() {
    outlives(|_| "/tools".to_owned()).await;
}

#[tokio::test]
async fn a_command_outlives_the_store() {
    outlives(|_| "/store".to_owned()).await;
}

#[tokio::test]
async fn a_command_outlives_the_gateway() {
    outlives(|_| "/gateway".to_owned()).await;
}

#[tokio::test]
async fn a_command_outlives_the_debug_socket() {
    outlives(|_| "/debug".to_owned()).await;
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_crashes_again_and_again_fails_and_no_other_does() {
    let read = |path: &str| Script::new().calls("file_read", json!({ "path": path })).after_ms(1_000);
    let lakitu = Harness::start(read("a").then(read("b")).says("Read.")).await;
    let (well, ill) = (lakitu.begin("read").await, lakitu.begin("crash").await);
    lakitu.gateway.asked(2).await;

    let agent = format!("/threads/{}/agent", ill.thread);
    let always = Fault { kind: FaultKind::Panic, ms: 0, times: u32::MAX };
    lakitu.runtime().wiring.nodes.inject(&agent, always).unwrap();

    assert_eq!(ill.end().await, Err(Ended::Failed("CRASH_LOOP".to_owned())));
    assert_eq!(well.end().await, Ok("Read.".to_owned()));
    assert!(lakitu.lifecycle_of(&agent).ends_with("gave up"), "{}", lakitu.lifecycle_of(&agent));
    // It is not lost: with the fault gone, it goes on where it was.
    assert_eq!(lakitu.resume().await, Ok("Read.".to_owned()));
    lakitu.end().await;
}
