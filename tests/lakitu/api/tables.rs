//! The tables over HTTP: rows by their indexes, and changes as they are committed.

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::clock::{Clock, System, Timestamp};
use lakitu_kernel::config::Config;
use serde_json::{Value, json};

use super::Scene;
use super::client::{Events, Told};
use crate::harness::Script;

/// The next change, with the row's fields of which the test speaks.
async fn change(events: &mut Events) -> (Option<u64>, String, String, Value) {
    let Told { id, event, data } = events.next().await.unwrap();
    assert_eq!((event.as_str(), &data["table"]), ("change", &json!("beads")));
    assert!(id.is_none_or(|id| id == data["commit"].as_u64().unwrap()), "the id is the commit");
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    (id, text("op"), text("id"), data["row"]["status"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_table_is_read_by_any_of_its_indexes() {
    let script = Script::new()
        .calls("file_write", json!({ "path": "a.txt", "content": "a\n" }))
        .calls("artifact_save", json!({ "name": "report.md", "content": "# r" }))
        .calls("beads_create", json!({ "title": "later" }))
        .says("Done.");
    let scene = Scene::start(script).await;
    let thread = scene.thread("do it").await;
    assert_eq!(scene.ended(thread).await, "completed");

    let tables = scene.client.get("/v1/tables").await.json();
    let all: Vec<&str> =
        tables["items"].as_array().unwrap().iter().map(|table| table["name"].as_str().unwrap()).collect();
    assert!(all.contains(&"beads") && all.contains(&"editHistory") && !all.contains(&"journal"), "{all:?}");
    let by_thread = format!("index=by_thread&eq=%22{thread}%22");
    for table in all {
        let rows = scene.client.get(&format!("/v1/tables/{table}?{by_thread}")).await.json();
        // A run that was not stopped has no checkpoint.
        assert_eq!(rows["items"].as_array().unwrap().is_empty(), table == "checkpoints", "{table}: {rows}");
        for row in rows["items"].as_array().unwrap() {
            assert!(row["_id"].is_string() && row["_creationTime"].is_u64(), "{table}: {row}");
            assert_eq!(row["threadId"], thread.to_string(), "{table}");
        }
        let nobodys = "index=by_thread&eq=%22thr_00000000000000000000000007%22";
        let none = scene.client.get(&format!("/v1/tables/{table}?{nobodys}")).await.json();
        assert_eq!((&none["items"], &none["cursor"]), (&json!([]), &json!(null)), "{table}");
    }

    let edits = scene.client.get("/v1/tables/editHistory").await.json();
    assert!(edits["items"][0]["diff"].as_str().unwrap().ends_with("@@ -0,0 +1 @@\n+a\n"), "{edits}");
    let tools = "/v1/tables/toolExecutions?limit=2";
    let first = scene.client.get(tools).await.json();
    let cursor = first["cursor"].as_str().unwrap();
    let rest = scene.client.get(&format!("{tools}&cursor={cursor}")).await.json();
    assert_eq!(rest["cursor"], json!(null));
    let names =
        |page: &Value| page["items"].as_array().unwrap().iter().map(|row| row["toolName"].clone()).collect::<Vec<_>>();
    assert_eq!([names(&first), names(&rest)].concat(), ["file_write", "artifact_save", "beads_create"]);
    let of_one = scene.client.get("/v1/tables/toolExecutions?index=by_tool&eq=%22file_write%22").await.json();
    assert_eq!(names(&of_one), ["file_write"]);
    let pair = format!("[%22{thread}%22,%22report.md%22]");
    let artifact = scene.client.get(&format!("/v1/tables/artifacts?index=by_thread_and_name&eq={pair}")).await.json();
    assert_eq!(artifact["items"][0]["name"], "report.md");

    for (path, status, code) in [
        ("journal", 404, "TABLE_NOT_FOUND"),
        ("%00", 404, "TABLE_NOT_FOUND"),
        ("beads?index=by_colour", 404, "INDEX_NOT_FOUND"),
        ("beads?eq=%22open%22", 404, "INDEX_NOT_FOUND"),
        ("beads?index=by_status&eq=open", 422, "INVALID_ARGUMENTS"),
        ("beads?index=by_status&eq=[]", 422, "INVALID_ARGUMENTS"),
        ("beads?index=by_created&eq=%22x%22", 404, "INDEX_NOT_FOUND"),
        ("beads?limit=0", 422, "INVALID_ARGUMENTS"),
        ("beads?cursor=xyz", 422, "INVALID_ARGUMENTS"),
        ("beads/changes?index=by_status&eq=1", 422, "INVALID_ARGUMENTS"),
        ("beads/changes?after=-1", 422, "INVALID_ARGUMENTS"),
        ("journal/changes", 404, "TABLE_NOT_FOUND"),
        ("beads/changes?after=1000000", 409, "CONFLICT"),
    ] {
        let answer = scene.client.get(&format!("/v1/tables/{path}")).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{path}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_a_tables_rows_hears_what_comes_changes_and_leaves() {
    let scene = Scene::start(Script::new()).await;
    let make = async |title: &str| {
        let made = scene.client.post("/v1/beads", &json!({ "title": title })).await.json();
        made["_id"].as_str().unwrap().to_owned()
    };
    let set = async |id: &str, body: Value| {
        assert_eq!(scene.client.patch(&format!("/v1/beads/{id}"), &body).await.status, 200);
    };
    let first = make("first").await;
    let open = "index=by_status&eq=%22open%22";
    let list = scene.client.get(&format!("/v1/tables/beads?{open}")).await.json();
    assert_eq!(list["items"][0]["_id"], *first);
    let behind = list["commit"].as_u64().unwrap();

    let changes = format!("/v1/tables/beads/changes?{open}&after={behind}");
    let mut live = scene.client.events(&changes, None).await.unwrap();
    let second = make("second").await;
    let (at_second, op, id, status) = change(&mut live).await;
    assert_eq!((op.as_str(), &id, &status), ("put", &second, &json!("open")));
    set(&first, json!({ "status": "in_progress" })).await;
    let (_, op, id, row) = change(&mut live).await;
    assert_eq!((op.as_str(), &id, &row), ("leave", &first, &json!(null)));
    // What was none of these and becomes none of these is not told.
    set(&first, json!({ "status": "closed" })).await;
    set(&first, json!({ "status": "open" })).await;
    let (_, op, id, status) = change(&mut live).await;
    assert_eq!((op.as_str(), &id, &status), ("put", &first, &json!("open")));
    drop(live);

    // Cut off behind the second one, it goes on from there: what each row is by now, and no more of what left and came back.
    set(&second, json!({ "status": "in_progress" })).await;
    let mut again = scene.client.events(&changes, at_second).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let (_, op, id, _) = change(&mut again).await;
        heard.push((op, id));
    }
    let put = |id: &String| ("put".to_owned(), id.clone());
    assert_eq!(heard, [put(&first), put(&first), put(&first), ("leave".to_owned(), second.clone())]);

    // The whole table, from now on.
    let mut whole = scene.client.events("/v1/tables/beads/changes", None).await.unwrap();
    set(&second, json!({ "status": "closed" })).await;
    let (_, op, id, status) = change(&mut whole).await;
    assert_eq!((op.as_str(), &id, &status), ("put", &second, &json!("closed")));
    scene.end().await;
}

/// A clock that is ahead by so much.
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp(System.now().0 + u64::try_from(self.0.as_millis()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_longer_than_changes_are_kept_reads_the_list_again() {
    let scene = Scene::start(Script::new()).await;
    scene.client.post("/v1/beads", &json!({ "title": "first" })).await;
    let known = scene.client.get("/v1/tables/beads").await.json()["commit"].as_u64().unwrap();
    scene.client.post("/v1/beads", &json!({ "title": "second" })).await;
    let (home, _) = scene.lakitu.stop().await;

    // Changes are kept for a day.
    let later = |parts: &mut lakitu_actors::runtime::Parts| parts.clock = Arc::new(Ahead(Duration::from_hours(25)));
    let scene = Scene::start_set(home, Script::new(), Config::default(), later).await;
    scene.client.post("/v1/beads", &json!({ "title": "third" })).await;
    let gone = scene.client.get(&format!("/v1/tables/beads/changes?after={known}")).await;
    assert_eq!(gone.error(), (410, "CHANGES_TRUNCATED".to_owned()));
    let list = scene.client.get("/v1/tables/beads").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    let commit = list["commit"].as_u64().unwrap();
    assert!(scene.client.events(&format!("/v1/tables/beads/changes?after={commit}"), None).await.is_ok());
    scene.end().await;
}
