//! A crowd of readers, each cut off again and again, over a runtime that is killed and started anew.

use std::net::SocketAddr;
use std::sync::Arc;

use lakitu_kernel::clock::System;
use lakitu_kernel::config;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::Client;
use super::stream::Reader;
use crate::harness::{Binary, Running, Script, free_port, soon};

const CLIENTS: u64 = 200;
const CUTS: u64 = 20;
const TURNS: usize = 60;
/// Of the journal's events, which are at least five a turn.
const KILLED_BEHIND: u64 = 120;

/// An `up` on that port.
fn start(lakitu: &Binary, script: &str) -> Running {
    let workspace = lakitu.workspace().display().to_string();
    let artifacts = lakitu.home.path().join("artifacts").display().to_string();
    let mut up = lakitu.begin(&["up", "--workspace", &workspace, "--artifacts", &artifacts, "--script", script]);
    let ready = up.line();
    assert!(ready.starts_with("lakitu ready "), "{ready:?}: {:?}", up.end());
    up
}

/// Reads a thread to the end of its run: its durable events, and how often it came.
async fn followed(client: Client, path: String, seed: u64, mut up: watch::Receiver<bool>) -> (Vec<Value>, u64) {
    let mut reader = Reader::new(seed, CUTS);
    loop {
        reader.came += 1;
        match client.events(&path, reader.last).await {
            Ok(events) => {
                if reader.reads(events, 12).await {
                    return (reader.heard, reader.came);
                }
            }
            Err(Some(answer)) => panic!("{}: {}", answer.status, answer.text()),
            Err(None) => drop(soon(up.wait_for(|up| *up)).await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_readers_cut_off_twenty_times_each_hear_the_journal_over_a_runtime_that_is_killed() {
    let at: SocketAddr = format!("127.0.0.1{}", free_port()).parse().unwrap();
    let lakitu = Binary::new().env("LAKITU__API__BIND", &at.to_string());
    let turn = |script: Script, turn: usize| {
        lakitu.home.write(&format!("{turn}.txt"), &format!("text {turn}"));
        let call = json!({ "name": "file_read", "arguments": { "path": format!("{turn}.txt") } });
        script.turn(json!({ "text": format!("turn {turn}"), "tool_calls": [call], "delay_ms": 20 }))
    };
    let script = lakitu.script(&(0..TURNS).fold(Script::new(), turn).says("done"));
    let first = start(&lakitu, &script);
    let keys = lakitu::api::keys(&config::Api::default(), &lakitu.data(), Arc::new(System)).unwrap();
    let client = || Client { at, token: Some(super::token(&keys, "api:read api:write")) };
    let started = client().post("/v1/threads", &json!({ "prompt": "read them all" })).await;
    let thread = started.json()["thread"].as_str().unwrap().to_owned();
    let path = format!("/v1/threads/{thread}/events");

    let (up, is_up) = watch::channel(true);
    let mut readers = JoinSet::new();
    for seed in 1..=CLIENTS {
        let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // Each with a token of its own: how often one may ask is bounded.
        readers.spawn(followed(client(), path.clone(), seed, is_up.clone()));
    }
    let mut events = client().events(&path, None).await.ok().unwrap();
    while events.durable().await.is_some_and(|told| told.id < Some(KILLED_BEHIND)) {}
    up.send_replace(false);
    first.signal(rustix::process::Signal::KILL);
    first.end();
    let second = start(&lakitu, &script);
    up.send_replace(true);

    let mut heard = Vec::new();
    while let Some(reader) = soon(readers.join_next()).await {
        heard.push(reader.unwrap());
    }
    second.signal(rustix::process::Signal::TERM);
    let ran = second.end();
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{ran:?}");
    // From the file: nobody serves it any more.
    let journal = lakitu.run(&["threads", "events", &thread, "--json"]).lines();
    assert!(journal.len() > 5 * TURNS, "{}", journal.len());
    assert!(journal.iter().zip(1..).all(|(event, seq)| event["seq"] == json!(seq)), "gaps");
    assert!(journal.iter().any(|event| event["type"] == "thread.resumed" && event["why"] == "boot"), "no restart");
    assert_eq!(heard.len() as u64, CLIENTS);
    for (reader, (all, came)) in heard.iter().enumerate() {
        assert!(*all == journal, "reader {reader} heard {} events of {}", all.len(), journal.len());
        assert!(*came > CUTS, "reader {reader} came {came} times");
    }
}
