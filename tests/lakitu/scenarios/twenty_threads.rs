//! Twenty threads at work while every kind of actor fails in every way.

use std::time::Duration;

use lakitu_kernel::ThreadId;
use lakitu_kernel::supervise::FaultKind;
use serde_json::json;
use tokio::time::timeout;

use super::outliving::{impatient, poke};
use crate::harness::{Ended, Harness, Script};

const THREADS: usize = 20;
/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(45);

/// A thread's work: each of its effects leaves one mark in files of its own.
fn work() -> Script {
    Script::new()
        .runs("echo 1 >> marks.{me}")
        .calls("file_write", json!({ "path": "file.{me}", "content": "one\n" }))
        .calls_all([
            ("file_edit", json!({ "path": "file.{me}", "old_string": "one", "new_string": "one two" })),
            ("bash", json!({ "command": "echo 2 >> marks.{me}" })),
            ("file_read", json!({ "path": "file.{me}" })),
        ])
        .calls("file_edit", json!({ "path": "file.{me}", "old_string": "two", "new_string": "two three" }))
        .runs("echo 3 >> marks.{me}")
        .says("{me} is done.")
}

/// Works with twenty threads, and lets `faults` happen one after the other, one every few commits.
async fn all_complete(faults: impl FnOnce(&Harness, &[String]) -> Vec<(String, Option<FaultKind>)>) {
    let lakitu = Harness::start_with(work(), impatient()).await;
    let mut runs = Vec::new();
    for n in 0..THREADS {
        runs.push(lakitu.begin(&format!("t{n}")).await);
    }
    let agents: Vec<String> = runs.iter().map(|run| format!("/threads/{}/agent", run.thread)).collect();
    let threads: Vec<ThreadId> = runs.iter().map(|run| run.thread).collect();
    let faults = faults(&lakitu, &agents);
    let ends = async {
        let mut outcomes = Vec::new();
        for run in runs {
            // One that does not end is looked at below, with what it did so far.
            outcomes.push(timeout(PATIENCE, run.end()).await.unwrap_or(Err(Ended::Cancelled)));
        }
        outcomes
    };
    let chaos = async {
        let mut commits = lakitu.runtime().wiring.store.watch();
        for (path, fault) in &faults {
            for _ in 0..3 {
                commits.changed().await.unwrap();
            }
            let nodes = &lakitu.runtime().wiring.nodes;
            // A thread may be done already, and a node just be starting again.
            match fault {
                Some(kind) if nodes.node(path).is_some() => {
                    lakitu.inject(path, *kind);
                    poke(&lakitu, path).await;
                }
                Some(_) => {}
                None => drop(nodes.restart(path)),
            }
        }
        std::future::pending::<std::convert::Infallible>().await
    };
    let outcomes = tokio::select! { outcomes = ends => outcomes, never = chaos => match never {} };

    let told = |path: &str| format!("{path}: {}", lakitu.lifecycle_of(path));
    let agents: Vec<String> = agents.iter().map(|path| told(path)).collect();
    let tree: Vec<String> = ["/store", "/gateway", "/tools", "/tools/file", "/tools/bash", "/threads"].map(told).into();
    for (n, (outcome, thread)) in outcomes.into_iter().zip(threads).enumerate() {
        lakitu.turn_to(thread);
        let marks = [format!("marks.t{n}"), format!("file.t{n}")].map(|path| lakitu.home.read(&path));
        let all = ["1\n2\n3\n", "one two three\n"].map(str::to_owned);
        if (&outcome, &marks) != (&Ok(format!("t{n} is done.")), &all) {
            panic!("t{n}: {outcome:?} {marks:?} {tree:#?} {agents:#?}\n{}", lakitu.transcript().await);
        }
    }
    lakitu.end().await;
}

const SERVICES: [&str; 7] = ["/store", "/gateway", "/tools/file", "/tools/bash", "/tools", "/threads", "/debug"];

fn each_service(fault: Option<FaultKind>) -> Vec<(String, Option<FaultKind>)> {
    SERVICES.iter().chain(&SERVICES).map(|path| ((*path).to_owned(), fault)).collect()
}

#[tokio::test]
async fn complete_while_services_panic() {
    all_complete(|_, _| each_service(Some(FaultKind::Panic))).await;
}

#[tokio::test]
async fn complete_while_services_fail() {
    all_complete(|_, _| each_service(Some(FaultKind::Error))).await;
}

#[tokio::test]
async fn complete_while_services_hang() {
    all_complete(|_, _| each_service(Some(FaultKind::Hang))).await;
}

#[tokio::test]
async fn complete_while_services_are_restarted() {
    all_complete(|_, _| each_service(None)).await;
}

#[tokio::test]
async fn complete_while_agents_fail_in_every_way() {
    all_complete(|_, agents| {
        let kinds = [Some(FaultKind::Panic), Some(FaultKind::Error), Some(FaultKind::Hang), None];
        agents.iter().enumerate().map(|(n, agent)| (agent.clone(), kinds[n % kinds.len()])).collect()
    })
    .await;
}
