//! States of threads over HTTP: forks, checkpoints, going back.

use serde_json::{Value, json};

use super::Scene;
use crate::harness::Script;

fn names(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Writes a file in the first run and changes it in the second.
fn changing() -> Script {
    Script::new()
        .calls("file_write", json!({ "path": "a", "content": "one\n" }))
        .says("Written.")
        .calls("file_edit", json!({ "path": "a", "old_string": "one", "new_string": "two" }))
        .says("Changed.")
}

/// A thread that has done both, with checkpoints between them.
async fn changed(scene: &Scene) -> (String, Vec<String>) {
    let thread = scene.thread("write").await;
    assert_eq!(scene.ended(thread).await, "completed");
    let (path, mut made) = (format!("/v1/threads/{thread}/checkpoint"), Vec::new());
    for body in [&b""[..], b"{}", br#"{"name":"third","next_task":"read it"}"#] {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("Content-Type", "application/json")] };
        let answer = scene.client.ask("POST", &path, headers, body).await;
        assert_eq!((answer.status, &answer.json()["thread"]), (201, &json!(thread)), "{}", answer.text());
        made.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let seq = scene.client.get(&format!("/v1/threads/{thread}")).await.json()["last_seq"].as_u64().unwrap();
    let more = scene.client.post(&format!("/v1/threads/{thread}/messages"), &json!({ "prompt": "change" })).await;
    assert_eq!(more.status, 202, "{}", more.text());
    let events = format!("/v1/threads/{thread}/events?after={seq}");
    let mut events = scene.client.events(&events, None).await.ok().unwrap();
    while events.durable().await.unwrap().event != "thread.completed" {}
    (thread.to_string(), made)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_made_listed_and_gone_back_to() {
    let scene = Scene::start(changing()).await;
    let (thread, made) = changed(&scene).await;
    let listed = format!("/v1/checkpoints?thread={thread}");
    let all = scene.client.get(&listed).await.json();
    assert_eq!((names(&all), &all["cursor"]), (vec!["third".into(), "-".into(), "-".into()], &Value::Null));
    assert_eq!(all["items"], scene.client.get("/v1/checkpoints").await.json()["items"]);
    let third = &all["items"][0];
    assert_eq!(
        (&third["_id"], &third["threadId"], &third["reason"]),
        (&json!(made[2]), &json!(thread), &json!("manual"))
    );
    assert_eq!((&third["fileState"][0]["path"], &third["nextTask"]), (&json!("a"), &json!("read it")));
    for from in [&*listed, "/v1/checkpoints?"] {
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = scene.client.get(&format!("{from}&limit=2{cursor}")).await.json();
            pages.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(Value::from(pages), all["items"], "{from}");
    }

    scene.lakitu.home.write("a", "somebody's\n");
    let restore = format!("/v1/checkpoints/{}/restore", made[2]);
    let refused = scene.client.ask("POST", &restore, &[], b"").await;
    assert_eq!(refused.error(), (409, "CONFLICT".to_owned()));
    assert_eq!(scene.lakitu.home.read("a"), "somebody's\n");
    let back = scene.client.post(&restore, &json!({ "force": true })).await;
    assert_eq!((back.status, &back.json()["files"]), (201, &json!(["a"])), "{}", back.text());
    assert_eq!(scene.lakitu.home.read("a"), "one\n");
    let new = back.json()["thread"].as_str().unwrap().to_owned();
    assert_eq!(back.header("location"), Some(&*format!("/v1/threads/{new}")));
    assert_eq!(scene.client.get(&format!("/v1/threads/{new}")).await.json()["status"], "completed", "as it was then");
    let row = &scene.client.get(&format!("{listed}&limit=1")).await.json()["items"][0];
    assert_eq!((&row["status"], &row["restoredToThread"]), (&json!("restored"), &json!(new)));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_forked_where_its_history_is_whole() {
    let scene = Scene::start(changing()).await;
    let (thread, _) = changed(&scene).await;
    let path = format!("/v1/threads/{thread}/fork");
    let whole = scene.client.post(&path, &json!({})).await;
    assert_eq!((whole.status, &whole.json()["from"]), (201, &json!(thread)), "{}", whole.text());
    let new = whole.json()["thread"].as_str().unwrap().to_owned();
    assert_eq!(whole.header("location"), Some(&*format!("/v1/threads/{new}")));
    let messages = async |thread: &str| scene.client.get(&format!("/v1/threads/{thread}/messages")).await.json();
    let said = |page: &Value| page["items"].as_array().unwrap().iter().map(|item| item["text"].clone()).collect();
    let (old, forked): (Vec<Value>, Vec<Value>) = (said(&messages(&thread).await), said(&messages(&new).await));
    assert_eq!(forked, old);
    // Within what one message brought: it is taken down to the prompt before.
    let taken_down = scene.client.post(&path, &json!({ "at_seq": 4.0 })).await.json();
    assert_eq!(taken_down["at_seq"], 2, "{taken_down}");
    let resumed = taken_down["thread"].as_str().unwrap();
    assert_eq!(said(&messages(resumed).await), [json!("write")]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_keeps_its_files_and_what_cannot_be_done_is_told() {
    let slow = Script::new().calls("checkpoint_create", json!({})).says("too late").after_ms(600_000);
    let scene = Scene::start(slow).await;
    let thread = scene.thread("take your time").await;
    let mut events = scene.client.events(&format!("/v1/threads/{thread}/events"), None).await.ok().unwrap();
    while events.durable().await.unwrap().event != "checkpoint.created" {}
    let made =
        scene.client.post(&format!("/v1/threads/{thread}/checkpoint"), &json!({ "name": "while it runs" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(scene.client.get(&format!("/v1/threads/{thread}")).await.json()["status"], "running", "it goes on");
    let restore = format!("/v1/checkpoints/{}/restore", made.json()["id"].as_str().unwrap());
    assert_eq!(scene.client.post(&restore, &json!({})).await.error(), (409, "THREAD_BUSY".to_owned()));

    let (fork, checkpoint) = (format!("/v1/threads/{thread}/fork"), format!("/v1/threads/{thread}/checkpoint"));
    let (nobody, none) = ("/v1/threads/thr_00000000000000000000000001", "chk_00000000000000000000000001_3");
    let long = json!({ "name": "x".repeat(201) });
    let cases = [
        (fork.clone(), json!({ "at_seq": 1 }), 422, "INVALID_ARGUMENTS"),
        (fork.clone(), json!({ "at_seq": 2.5 }), 422, "INVALID_ARGUMENTS"),
        (fork.clone(), json!({ "at_seq": 9_007_199_254_740_992_u64 }), 422, "INVALID_ARGUMENTS"),
        (fork.clone(), json!([7]), 422, "INVALID_ARGUMENTS"),
        (fork, json!({ "at": 3 }), 422, "INVALID_ARGUMENTS"),
        (checkpoint.clone(), json!([null, null]), 422, "INVALID_ARGUMENTS"),
        (checkpoint.clone(), long, 422, "INVALID_ARGUMENTS"),
        (checkpoint, json!({ "name": " " }), 422, "INVALID_ARGUMENTS"),
        (restore, json!({ "force": "yes" }), 422, "INVALID_ARGUMENTS"),
        (format!("{nobody}/fork"), json!({}), 404, "THREAD_NOT_FOUND"),
        (format!("{nobody}/checkpoint"), json!({}), 404, "THREAD_NOT_FOUND"),
        (format!("/v1/checkpoints/{none}/restore"), json!({}), 404, "CHECKPOINT_NOT_FOUND"),
        ("/v1/checkpoints/nonsense/restore".to_owned(), json!({}), 404, "CHECKPOINT_NOT_FOUND"),
    ];
    let reader = scene.client("api:read");
    for (path, body, status, code) in cases {
        assert_eq!(scene.client.post(&path, &body).await.error(), (status, code.to_owned()), "{path} {body}");
        assert_eq!(reader.post(&path, &body).await.error(), (403, "SCOPE_MISSING".to_owned()), "{path}");
    }
    let text = scene.client.ask("POST", &format!("/v1/threads/{thread}/checkpoint"), &[], b"name").await;
    assert_eq!(text.error(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
    let unknown = scene.client.get("/v1/checkpoints?thread=thr_00000000000000000000000001").await;
    assert_eq!(unknown.error(), (404, "THREAD_NOT_FOUND".to_owned()));
    // A cursor of another list is a place below or above this one, and leads to no other.
    for (foreign, items) in [("00", 0), ("ff", 2)] {
        let page = reader.get(&format!("/v1/checkpoints?thread={thread}&cursor={foreign}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), items, "{foreign}");
    }
    for wrong in ["limit=0", "limit=101", "thread=x", "cursor=zz", "cursor=", "status=active"] {
        let answer = reader.get(&format!("/v1/checkpoints?{wrong}")).await;
        assert_eq!(answer.error(), (422, "INVALID_ARGUMENTS".to_owned()), "{wrong}");
    }
    assert_eq!(
        reader.get("/v1/checkpoints").await.json()["items"].as_array().unwrap().len(),
        2,
        "none was made by these"
    );
    scene.lakitu.stop().await;
}
