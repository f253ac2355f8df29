//! Every method, and every way in which one says no.

use lakitu_kernel::Turn;
use lakitu_kernel::event::Call;
use lakitu_kernel::tool::EffectClass;

use super::*;

#[tokio::test]
async fn version_tells_who_answers() {
    let fixture = Fixture::start().await;
    let found = fixture.client().good("version", json!({})).await;
    let data = fixture.data.to_string_lossy().into_owned();
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"), "protocol": 1, "pid": std::process::id(), "data": data,
        // Nobody opened it to runs of others.
        "up": null,
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_tree_is_told_while_an_actor_is_stuck() {
    let fixture = Fixture::start().await;
    fixture.world.probe.send(Probing::Hang).unwrap();
    while fixture.world.nodes.node("/probe").unwrap().handling.is_none() {
        tokio::task::yield_now().await;
    }
    let tree = fixture.client().good("tree", json!({})).await;
    let paths: Vec<&str> = tree["children"].as_array().unwrap().iter().map(|n| n["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/debug", "/store", "/probe"]);
    assert_eq!(tree["path"], "/");
    assert_eq!(tree["children"][2]["handling"]["type"], "Hang");
    assert_eq!(tree["children"][0]["state"], "running");
}

#[tokio::test]
async fn inspect_adds_gauges_and_messages_without_payloads() {
    let fixture = Fixture::start().await;
    for _ in 0..25 {
        fixture.world.probe.call(PATIENCE, Probing::Ping).await.unwrap();
    }
    let found = fixture.client().good("inspect", json!({ "path": "/probe" })).await;
    assert_eq!(
        (&found["path"], &found["kind"], &found["gauges"]),
        (&json!("/probe"), &json!("probe"), &json!({ "level": 7 }))
    );
    let messages = found["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 20);
    let fields: Vec<&String> = messages[0].as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 3);
    for field in ["type", "at_ms", "took_us"] {
        assert!(messages[0].get(field).is_some(), "{field} of {:?}", messages[0]);
    }
}

#[tokio::test]
async fn restart_and_stop_do_what_they_say() {
    let fixture = Fixture::start().await;
    let mut events = fixture.world.nodes.subscribe();
    let mut client = fixture.client();
    assert_eq!(client.good("restart", json!({ "path": "/probe" })).await, json!({ "path": "/probe" }));
    until(&mut events, "/probe", What::Started).await;
    assert_eq!(client.good("tree", json!({})).await["children"][2]["restarts"], 1);
    client.good("stop", json!({ "path": "/probe" })).await;
    until(&mut events, "/probe", What::Stopped).await;
    while client.good("inspect", json!({ "path": "/probe" })).await["state"] != "stopped" {}
    client.good("restart", json!({ "path": "/probe" })).await;
    until(&mut events, "/probe", What::Started).await;
}

#[tokio::test]
async fn the_socket_itself_is_restarted_after_it_answered() {
    let fixture = Fixture::start().await;
    let mut events = fixture.world.nodes.subscribe();
    let mut client = fixture.client();
    client.good("restart", json!({ "path": "/debug" })).await;
    assert_eq!(client.line().await, None, "the old connection ends");
    until(&mut events, "/debug", What::Started).await;
    fixture.client().good("version", json!({})).await;
}

#[tokio::test]
async fn what_is_watched_comes_as_notifications() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    client.good("watch", json!({})).await;
    assert_eq!(client.bad("watch", json!({})).await, (-32000, "CONFLICT".to_owned()));
    fixture.world.nodes.restart("/probe").unwrap();
    let mut told = Vec::new();
    while told.last() != Some(&json!("started")) {
        let line = client.line().await.unwrap();
        assert_eq!((&line["method"], &line["params"]["path"]), (&json!("supervision"), &json!("/probe")));
        assert!(line["params"].get("reason").is_some() && line.get("id").is_none());
        told.push(line["params"]["what"].clone());
    }
    assert_eq!(told, ["stopped", "restarting", "started"]);
}

#[tokio::test]
async fn the_level_is_set_and_a_wrong_one_is_refused() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    assert_eq!(client.good("log", json!({ "level": "debug" })).await, json!({ "level": "debug" }));
    assert_eq!(fixture.world.level.0.with(|kept| kept.clone()).as_deref(), Some("debug"));
    assert_eq!(client.bad("log", json!({ "level": "loud" })).await.0, -32602);
    assert_eq!(client.bad("log", json!({ "level": "x".repeat(1025) })).await.0, -32602);
}

#[tokio::test]
async fn faults_are_injected_only_where_that_is_allowed() {
    let fault = json!({ "path": "/probe", "fault": "panic" });
    let forbidden = Fixture::start().await;
    let error = forbidden.client().call("inject", fault.clone()).await.unwrap_err();
    assert_eq!(error["data"]["code"], "PERMISSION_DENIED");
    assert!(error["message"].as_str().unwrap().contains("debug.fault_injection"), "{error}");
    drop(forbidden);

    let allowed = Fixture::with(Setup { fault_injection: true, ..Setup::default() }).await;
    let mut events = allowed.world.nodes.subscribe();
    let mut client = allowed.client();
    client.good("inject", fault).await;
    // The next message is hit, whoever sends it.
    assert!(allowed.world.probe.call(PATIENCE, Probing::Ping).await.is_err());
    until(&mut events, "/probe", What::Started).await;
    for fault in ["panic", "hang", "slow", "error"] {
        let wish = json!({ "path": "/probe", "fault": fault, "ms": 1, "times": 0 });
        client.good("inject", wish).await;
    }
    assert_eq!(client.bad("inject", json!({ "path": "/x", "fault": "error" })).await.1, "INVALID_ARGUMENTS");
    assert_eq!(client.bad("inject", json!({ "path": "/probe", "fault": "fire" })).await.0, -32602);
    assert_eq!(client.bad("inject", json!({ "path": "/probe", "fault": "slow", "ms": 600_001 })).await.0, -32602);
}

#[tokio::test]
async fn what_is_unknown_or_not_understood_is_said_so() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    assert_eq!(client.bad("make_tea", json!({})).await.0, -32601);
    for (method, params) in [
        ("tree", json!({ "depth": 1 })),
        ("tree", json!([])),
        ("tree", json!("x")),
        ("inspect", json!({})),
        ("inspect", json!({ "path": 1 })),
        ("watch", json!({ "path": "/" })),
        ("threads.show", json!({ "id": "thr_1" })),
        ("threads.ls", json!({ "limit": -1 })),
        ("db.get", json!({ "table": "threads" })),
    ] {
        assert_eq!(client.bad(method, params.clone()).await.0, -32602, "{method} {params}");
    }
    let unknown = ThreadId(99).to_string();
    for (method, params, code) in [
        ("inspect", json!({ "path": "/x" }), "INVALID_ARGUMENTS"),
        ("inspect", json!({ "path": "x".repeat(100_000) }), "INVALID_ARGUMENTS"),
        ("restart", json!({ "path": "/x" }), "INVALID_ARGUMENTS"),
        ("stop", json!({ "path": "/" }), "INVALID_ARGUMENTS"),
        ("threads.show", json!({ "id": unknown }), "THREAD_NOT_FOUND"),
        ("threads.events", json!({ "id": unknown }), "THREAD_NOT_FOUND"),
        ("threads.ls", json!({ "limit": 0 }), "INVALID_ARGUMENTS"),
        ("threads.ls", json!({ "limit": 101 }), "INVALID_ARGUMENTS"),
        ("threads.ls", json!({ "cursor": "zz" }), "INVALID_ARGUMENTS"),
        ("threads.ls", json!({ "status": "tired" }), "INVALID_ARGUMENTS"),
        ("db.get", json!({ "table": "cats", "key": "1" }), "INVALID_ARGUMENTS"),
        ("db.dump", json!({ "table": "cats" }), "INVALID_ARGUMENTS"),
        ("db.dump", json!({ "table": "threads", "limit": 1001 }), "INVALID_ARGUMENTS"),
    ] {
        assert_eq!(client.bad(method, params.clone()).await, (-32000, code.to_owned()), "{method} {params}");
    }
}

#[tokio::test]
async fn threads_are_listed_in_pages_the_newest_first() {
    let fixture = Fixture::start().await;
    for number in 1..=5 {
        let status = if number == 3 { ThreadStatus::Failed } else { ThreadStatus::Completed };
        fixture.thread(number, status, vec![prompt("go")]).await;
    }
    let mut client = fixture.client();
    let (mut titles, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let asked = if cursor.is_null() { json!({ "limit": 2 }) } else { json!({ "limit": 2, "cursor": cursor }) };
        let page = client.good("threads.ls", asked).await;
        titles.extend(page["items"].as_array().unwrap().iter().map(|row| row["title"].clone()));
        pages += 1;
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(titles, ["thread 5", "thread 4", "thread 3", "thread 2", "thread 1"]);
    assert_eq!(pages, 3);
    let failed = client.good("threads.ls", json!({ "status": "failed" })).await;
    assert_eq!((&failed["items"][0]["title"], failed["items"].as_array().unwrap().len()), (&json!("thread 3"), 1));
    assert_eq!(failed["items"][0]["status"], "failed");
}

fn call(id: &str) -> Call {
    Call { call_id: id.to_owned(), tool: "bash".to_owned(), arguments: "{}".to_owned() }
}

#[tokio::test]
async fn a_thread_is_shown_with_its_last_message_and_its_open_calls() {
    let fixture = Fixture::start().await;
    let message = EventBody::Message {
        role: "assistant".to_owned(),
        turn: Turn(1),
        text: "Looking.".to_owned(),
        calls: vec![call("a"), call("b"), call("c")],
        opaque: None,
        cut: false,
        request: None,
    };
    let intent = |id: &str| EventBody::ToolIntent {
        call_id: id.to_owned(),
        tool: "bash".to_owned(),
        arguments: json!({}),
        effect: EffectClass::Read,
    };
    let result = EventBody::ToolResult {
        call_id: "a".to_owned(),
        ok: true,
        output: "1".to_owned(),
        error: None,
        files: Vec::new(),
        images: Vec::new(),
        duration_ms: 1,
    };
    let mut bodies = vec![prompt("go"), message, intent("a"), intent("b"), result];
    // More than one look back.
    bodies.extend((0..300).map(|_| prompt("and this")));
    let id = fixture.thread(1, ThreadStatus::Running, bodies).await;
    let shown = fixture.client().good("threads.show", json!({ "id": id })).await;
    assert_eq!(shown["thread"]["status"], "running");
    assert_eq!((&shown["last_message"]["seq"], &shown["last_message"]["text"]), (&json!(2), &json!("Looking.")));
    let open: Vec<(&str, bool)> = shown["open_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| (call["call_id"].as_str().unwrap(), call["begun_at"].is_string()))
        .collect();
    assert_eq!(open, [("b", true), ("c", false)]);

    let silent = fixture.thread(2, ThreadStatus::Running, vec![prompt("go")]).await;
    let shown = fixture.client().good("threads.show", json!({ "id": silent })).await;
    assert_eq!((&shown["last_message"], &shown["open_calls"]), (&Value::Null, &json!([])));
}

#[tokio::test]
async fn events_come_in_pages_without_gaps_and_exactly_as_the_journal_has_them() {
    let fixture = Fixture::start().await;
    let bodies = (1..=25).map(|number| prompt(number.to_string())).collect();
    let id = fixture.thread(1, ThreadStatus::Running, bodies).await;
    let mut client = fixture.client();
    let whole = client.good("threads.events", json!({ "id": id })).await;
    assert_eq!(
        whole["items"][0],
        json!({ "seq": 1, "thread": id, "at": "1970-01-01T00:00:01.500Z", "type": "prompt", "text": "1" })
    );
    assert_eq!((whole["items"].as_array().unwrap().len(), &whole["cursor"]), (25, &Value::Null));
    let mut page = client.good("threads.events", json!({ "id": id, "after": 3, "limit": 10 })).await;
    let mut seqs = Vec::new();
    loop {
        seqs.extend(page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()));
        if page["cursor"].is_null() {
            break;
        }
        page = client.good("threads.events", json!({ "id": id, "limit": 10, "cursor": page["cursor"] })).await;
    }
    assert_eq!(seqs, (4..=25).collect::<Vec<u64>>());
    let none = client.good("threads.events", json!({ "id": id, "after": 1_000_000 })).await;
    assert_eq!((&none["items"], &none["cursor"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn an_answer_longer_than_a_line_comes_in_parts_that_each_fit() {
    let fixture = Fixture::start().await;
    // Quotes and backslashes double when they are escaped, and again in a part.
    let text = "\"\\é".repeat(400_000);
    let id = fixture.thread(1, ThreadStatus::Running, vec![prompt(text.clone()), prompt("small")]).await;
    let mut client = fixture.client();
    client.ask("threads.events", json!({ "id": id })).await;
    let (mut joined, mut parts) = (String::new(), 0);
    let last = loop {
        let line = client.line().await.unwrap();
        assert!(line.to_string().len() <= DEBUG_LINE_BYTES_MAX);
        if line["method"] != "part" {
            break line;
        }
        joined.push_str(line["params"]["text"].as_str().unwrap());
        parts += 1;
    };
    assert_eq!(last["result"], json!({ "parts": parts }));
    let page: Value = serde_json::from_str(&joined).unwrap();
    assert_eq!(page["items"][0]["text"], text);
    assert_eq!(
        (page["items"].as_array().unwrap().len(), &page["cursor"]),
        (1, &json!("1")),
        "a page ends with a large row"
    );
}

#[tokio::test]
async fn tables_are_told_got_dumped_and_verified() {
    let fixture = Fixture::start().await;
    let id = fixture.thread(1, ThreadStatus::Completed, (0..7).map(|n| prompt(n.to_string())).collect()).await;
    let mut client = fixture.client();
    let tables = client.good("db.tables", json!({})).await;
    let journal = tables["items"].as_array().unwrap().iter().find(|table| table["name"] == "journal").unwrap();
    assert_eq!(journal["rows"], 7);
    let row = client.good("db.get", json!({ "table": "threads", "key": id })).await;
    assert_eq!(row["row"]["title"], "thread 1");
    let none = client.good("db.get", json!({ "table": "threads", "key": ThreadId(2) })).await;
    assert_eq!(none["row"], Value::Null);
    let (mut rows, mut cursor) = (0, Value::Null);
    loop {
        let mut asked = json!({ "table": "journal", "limit": 3 });
        if !cursor.is_null() {
            asked["cursor"] = cursor;
        }
        let page = client.good("db.dump", asked).await;
        rows += page["items"].as_array().unwrap().len();
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(rows, 7);
    assert_eq!(client.good("db.verify", json!({})).await, json!({ "ok": true, "findings": [] }));
}

#[tokio::test]
async fn the_store_is_copied_and_compacted_while_it_runs() {
    let fixture = Fixture::start().await;
    let id = fixture.thread(1, ThreadStatus::Completed, vec![prompt("kept".to_owned())]).await;
    let mut client = fixture.client();
    let to = tempfile::tempdir().unwrap();
    let made = client.good("db.backup", json!({ "to": to.path() })).await;
    assert!(made["rows"].as_u64() >= Some(2), "{made}");
    let copy = crate::store::OpenStore::read_only(to.path()).unwrap();
    assert_eq!(copy.read().unwrap().thread(id).unwrap().unwrap().title, "thread 1");
    let error = client.bad("db.backup", json!({ "to": to.path() })).await;
    assert_eq!(error.1, "INVALID_ARGUMENTS", "nothing is overwritten");
    let done = client.good("db.compact", json!({})).await;
    assert!(done["after_bytes"].as_u64() <= done["before_bytes"].as_u64(), "{done}");
    assert_eq!(client.good("db.verify", json!({})).await, json!({ "ok": true, "findings": [] }));
    let other = fixture.thread(2, ThreadStatus::Completed, vec![prompt("goes on".to_owned())]).await;
    assert_eq!(client.good("db.get", json!({ "table": "threads", "key": other })).await["row"]["title"], "thread 2");
}
