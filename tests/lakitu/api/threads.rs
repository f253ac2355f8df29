//! Threads over HTTP: started, spoken to, given up, taken up again, read.

use serde_json::{Value, json};

use super::Scene;
use crate::harness::Script;

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_started_spoken_to_and_read() {
    let script = Script::new().calls("file_read", json!({ "path": "a.txt" })).says("It says hello.").says("Yes.");
    let scene = Scene::start(script).await;
    scene.lakitu.home.write("a.txt", "hello");
    let asked = json!({
        "prompt": "read a.txt", "context": { "language": "English" }, "mode": "review", "model": "other",
        "timeout_ms": 600_000, "max_turns": 9, "metadata": { "ticket": 7, "of": ["me"] },
    });
    let started = scene.client.post("/v1/threads", &asked).await;
    assert_eq!(started.status, 201, "{}", started.text());
    let id = started.json()["thread"].as_str().unwrap().to_owned();
    let thread = id.parse().unwrap();
    assert_eq!(started.header("location"), Some(&*format!("/v1/threads/{id}")));
    // It is durable when it is answered.
    let journal = scene.journal(thread).await;
    assert_eq!(journal[1]["text"], "{\n  \"language\": \"English\"\n}\n\nread a.txt");
    assert_eq!(scene.ended(thread).await, "completed");

    let path = format!("/v1/threads/{id}");
    let shown = scene.client.get(&path).await.json();
    let of = |name: &str| shown[name].clone();
    assert_eq!((of("id"), of("status"), of("mode")), (json!(id), json!("completed"), json!("review")));
    assert_eq!((of("model"), of("turns"), of("tool_calls")), (json!("other"), json!(2), json!(1)));
    assert_eq!((of("timeout_ms"), of("max_turns")), (json!(600_000), json!(9)));
    assert_eq!(of("metadata"), json!({ "ticket": 7, "of": ["me"] }));
    assert_eq!(of("last_seq"), json!(scene.journal(thread).await.len()));

    let more = scene.client.post(&format!("{path}/messages"), &json!({ "prompt": "sure?" })).await;
    assert_eq!((more.status, &more.json()["thread"]), (202, &json!(id)));
    let seq = more.json()["seq"].as_u64().unwrap();
    let journal = scene.journal(thread).await;
    assert_eq!(
        (&journal[seq as usize - 1]["type"], &journal[seq as usize - 1]["text"]),
        (&json!("prompt"), &json!("sure?"))
    );
    let mut events = scene.client.events(&format!("{path}/events?after={seq}"), None).await.ok().unwrap();
    while events.durable().await.unwrap().event != "thread.completed" {}

    let roles = |items: &Value| -> Vec<String> {
        items.as_array().unwrap().iter().map(|item| item["role"].as_str().unwrap().to_owned()).collect()
    };
    let whole = scene.client.get(&format!("{path}/messages")).await.json();
    assert_eq!(roles(&whole["items"]), ["user", "assistant", "tool", "assistant", "user", "assistant"]);
    assert_eq!(whole["items"][1]["calls"][0]["tool"], "file_read");
    assert!(whole["items"][2]["text"].as_str().unwrap().contains("hello"));
    assert_eq!((&whole["items"][5]["text"], &whole["cursor"]), (&json!("Yes."), &Value::Null));
    let (mut pages, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let behind = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = scene.client.get(&format!("{path}/messages?limit=4{behind}")).await.json();
        pages.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = Some(next.to_owned());
    }
    assert_eq!(Value::from(pages), whole["items"]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_are_listed_in_pages_and_by_status() {
    let scene = Scene::start(Script::new().says("hello")).await;
    let mut threads = Vec::new();
    for number in 0..5 {
        let thread = scene.thread(&format!("number {number}")).await;
        scene.ended(thread).await;
        threads.insert(0, thread.to_string());
    }
    let ids = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = scene.client.get("/v1/threads").await.json();
    assert_eq!((ids(&all), &all["cursor"]), (threads.clone(), &Value::Null));
    assert!(all["commit"].as_u64().unwrap() > 0);
    assert_eq!(all["items"][0]["title"], "number 4");
    let first = scene.client.get("/v1/threads?limit=3").await.json();
    assert_eq!(ids(&first), threads[..3]);
    let cursor = first["cursor"].as_str().unwrap();
    assert_eq!(ids(&scene.client.get(&format!("/v1/threads?limit=3&cursor={cursor}")).await.json()), threads[3..]);
    assert_eq!(ids(&scene.client.get("/v1/threads?status=completed&limit=100").await.json()).len(), 5);
    assert_eq!(ids(&scene.client.get("/v1/threads?status=running").await.json()), Vec::<String>::new());
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=x",
        "status=asleep",
        "cursor=zz",
        "cursor=",
        "cursor=%2Bf",
        "cursor=abc",
        "state=running",
        "limit=1&limit=2",
    ] {
        let answer = scene.client.get(&format!("/v1/threads?{wrong}")).await;
        assert_eq!(answer.error(), (422, "INVALID_ARGUMENTS".to_owned()), "{wrong}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_given_up_and_what_stopped_goes_on() {
    let script = Script::new().says("too late").after_ms(600_000).says("done");
    let scene = Scene::start(script).await;
    let thread = scene.thread("take your time").await;
    let path = format!("/v1/threads/{thread}");
    let busy = scene.client.post(&format!("{path}/resume"), &json!({})).await;
    assert_eq!(busy.error(), (409, "THREAD_BUSY".to_owned()));
    let cancelled = scene.client.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    let last = scene.journal(thread).await.pop().unwrap();
    assert_eq!((&last["type"], &last["seq"]), (&json!("thread.cancelled"), &cancelled.json()["seq"]));
    // Once more is once.
    let again = scene.client.ask("POST", &format!("{path}/cancel"), &[], b"").await;
    assert_eq!((again.status, again.json()), (200, cancelled.json()));
    let settled = scene.client.post(&format!("{path}/resume"), &json!({})).await;
    assert_eq!(settled.error(), (409, "THREAD_BUSY".to_owned()));
    scene.lakitu.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpointed_thread_is_resumed() {
    let script = Script::new().calls("file_read", json!({ "path": "a.txt" })).says("done");
    let scene = Scene::start(script).await;
    let started = scene.client.post("/v1/threads", &json!({ "prompt": "look", "max_turns": 1 })).await;
    let thread = started.json()["thread"].as_str().unwrap().parse().unwrap();
    assert_eq!(scene.ended(thread).await, "checkpointed");
    let resumed = scene.client.ask("POST", &format!("/v1/threads/{thread}/resume"), &[], b"").await;
    assert_eq!(resumed.status, 202, "{}", resumed.text());
    let events = format!("/v1/threads/{thread}/events?after={}", resumed.json()["seq"]);
    let mut events = scene.client.events(&events, None).await.ok().unwrap();
    loop {
        let told = events.durable().await.unwrap();
        if told.event.starts_with("thread.") {
            assert_eq!(told.event, "thread.completed", "the limit counts anew from the resume");
            break;
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_told_with_its_status_and_its_code() {
    let scene = Scene::start(Script::new()).await;
    let json_type: Headers<'_> = &[("Content-Type", "application/json; charset=utf-8")];
    let missing = "/v1/threads/thr_00000000000000000000000001";
    let cases: [(&str, &str, Headers<'_>, &str, u16, &str); 26] = [
        ("POST", "/v1/threads", &[], "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/v1/threads", &[("Content-Type", "text/plain")], "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/v1/threads", json_type, "", 400, "INVALID_JSON"),
        ("POST", "/v1/threads", json_type, "{", 400, "INVALID_JSON"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x"} {}"#, 400, "INVALID_JSON"),
        ("POST", "/v1/threads", json_type, "[]", 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, "{}", 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":7}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":" \n"}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","budget":{}}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","prompt":"y"}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","mode":"sleep"}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","model":""}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","timeout_ms":0}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","timeout_ms":-1}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","max_turns":0}"#, 422, "INVALID_ARGUMENTS"),
        ("POST", "/v1/threads", json_type, r#"{"prompt":"x","metadata":"y"}"#, 422, "INVALID_ARGUMENTS"),
        ("DELETE", "/v1/threads", &[], "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1", &[], "", 404, "NOT_FOUND"),
        ("GET", "/v1/threads/", &[], "", 404, "NOT_FOUND"),
        ("POST", "/v1/threads/x/checkpoints", json_type, "{}", 404, "NOT_FOUND"),
        ("GET", "/v1/threads/x", &[], "", 404, "THREAD_NOT_FOUND"),
        ("GET", "/v1/threads/%ff", &[], "", 404, "THREAD_NOT_FOUND"),
        ("GET", missing, &[], "", 404, "THREAD_NOT_FOUND"),
        ("POST", "/v1/threads/x/messages", json_type, r#"{"prompt":"x"}"#, 404, "THREAD_NOT_FOUND"),
        (
            "POST",
            "/v1/threads/thr_00000000000000000000000001/messages",
            json_type,
            r#"{"prompt":"x"}"#,
            404,
            "THREAD_NOT_FOUND",
        ),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = scene.client.ask(method, path, headers, body.as_bytes()).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{method} {path} {body}");
    }
    let refused = scene.client.ask("DELETE", "/v1/threads", &[], b"").await;
    assert_eq!(refused.header("allow").map(|allowed| allowed.contains("GET") && allowed.contains("POST")), Some(true));
    assert_eq!(scene.client.get("/v1/threads").await.json()["items"], json!([]), "nothing of it was started");
    scene.end().await;
}
