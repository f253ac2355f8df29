//! A call that waits for consent, over HTTP.

use serde_json::json;

use super::Scene;
use crate::harness::Script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_allowed_and_another_refused_by_whoever_follows_the_thread() {
    let write = |path: &str| json!({ "name": "file_write", "arguments": { "path": path, "content": "x" } });
    let script = Script::new().turn(json!({ "tool_calls": [write("yes"), write("no")] })).says("One of two.");
    let scene = Scene::start_asking(script, json!({ "ask": ["file_write"] })).await;
    let thread = scene.thread("go").await;
    let path = format!("/v1/threads/{thread}");
    let mut events = scene.client.events(&format!("{path}/events"), None).await.ok().unwrap();
    let mut asked = Vec::new();
    while asked.len() < 2 {
        let told = events.durable().await.unwrap();
        if told.event == "approval.asked" {
            asked.push(told.data["call_id"].as_str().unwrap().to_owned());
            assert_eq!(told.data["arguments"]["path"], ["yes", "no"][asked.len() - 1]);
        }
    }
    let shown = scene.client.get(&path).await.json();
    assert_eq!((&shown["status"], shown["questions"].as_array().unwrap().len()), (&json!("waiting"), 2));
    let question = json!({ "call_id": asked[1], "tool": "file_write", "reason": "the rule `file_write`",
        "arguments": { "path": "no", "content": "x" } });
    assert_eq!(shown["questions"][1], question);
    let approve = format!("{path}/approve");
    for (body, status) in [
        (json!({ "call_id": asked[0] }), 422),
        (json!({ "call_id": asked[0], "allow": "yes" }), 422),
        (json!({ "call_id": asked[0], "allow": true, "for": "ever" }), 422),
        (json!({ "call_id": "call_7_7", "allow": true }), 409),
    ] {
        assert_eq!(scene.client.post(&approve, &body).await.status, status, "{body}");
    }
    let elsewhere = "/v1/threads/thr_00000000000000000000000001/approve";
    assert_eq!(scene.client.post(elsewhere, &json!({ "call_id": "x", "allow": true })).await.status, 404);
    let reader = scene.client("api:read");
    assert_eq!(reader.post(&approve, &json!({ "call_id": asked[0], "allow": true })).await.status, 403);

    for (call_id, allow) in asked.iter().zip([true, false]) {
        let answer = scene.client.post(&approve, &json!({ "call_id": call_id, "allow": allow })).await;
        assert_eq!((answer.status, &answer.json()["thread"]), (200, &json!(thread.to_string())), "{}", answer.text());
    }
    assert_eq!(scene.ended(thread).await, "completed");
    let there = |path: &str| scene.lakitu.home.workspace().join(path).exists();
    assert_eq!((there("yes"), there("no")), (true, false));
    let journal = scene.journal(thread).await;
    let answers: Vec<_> = journal.iter().filter(|event| event["type"] == "approval.answered").collect();
    assert_eq!((&answers[0]["allow"], &answers[1]["allow"]), (&json!(true), &json!(false)));
    scene.end().await;
}

/// A thread that a run without a person began is asked about once somebody speaks to it here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_to_a_thread_through_the_api_can_be_asked_by_it() {
    let script = Script::new().says("Hello.").calls("file_write", json!({ "path": "a", "content": "x" })).says("Done.");
    let scene = Scene::start_asking(script, json!({ "ask": ["file_write"] })).await;
    assert_eq!(scene.lakitu.prompt("hello").await, Ok("Hello.".to_owned()));
    let thread = scene.lakitu.thread();
    let path = format!("/v1/threads/{thread}");
    let mut events = scene.client.events(&format!("{path}/events"), None).await.ok().unwrap();
    let said = scene.client.post(&format!("{path}/messages"), &json!({ "prompt": "write" })).await;
    assert_eq!(said.status, 202, "{}", said.text());
    let call_id = loop {
        let told = events.durable().await.unwrap();
        if told.event == "approval.asked" {
            break told.data["call_id"].clone();
        }
    };
    let answer = scene.client.post(&format!("{path}/approve"), &json!({ "call_id": call_id, "allow": true })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    while events.durable().await.unwrap().event != "tool.result" {}
    assert_eq!(scene.lakitu.home.read("a"), "x");
    while events.durable().await.unwrap().event != "thread.completed" {}
    scene.end().await;
}
