//! The task graph for a person, and for an agent: `lakitu beads`, and what a thread's calls make of it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use lakitu_actors::checkpoint::CreateArgs;
use lakitu_actors::planning;
use lakitu_actors::store::{BeadKey, ChangeBeads, CheckpointRow};
use lakitu_kernel::EventBody;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::CHECKPOINT_BEADS_MAX;
use serde_json::{Value, json};

use crate::harness::{Ended, Harness, Script};

fn lakitu(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakitu"));
    command.args(args).arg("--data").arg(data).current_dir(data.parent().unwrap());
    command.env_clear().env("HOME", data.parent().unwrap()).env("USER", "ann").stdin(Stdio::null());
    command.output().unwrap()
}

fn good(data: &Path, args: &[&str]) -> String {
    let done = lakitu(data, args);
    assert!(done.status.success(), "{args:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn read(data: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&good(data, &[args, &["--json"]].concat())).unwrap()
}

#[test]
fn a_person_makes_claims_and_closes_beads_with_nothing_running() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let none = lakitu(&data, &["beads", "ls"]);
    assert!(none.status.success() && String::from_utf8_lossy(&none.stderr).contains("no beads"), "{none:?}");

    let epic = good(&data, &["beads", "create", "whole", "--type", "epic"]).trim().to_owned();
    let first = good(&data, &["beads", "create", "first", "-p", "0", "--parent", &epic]).trim().to_owned();
    let second = good(&data, &["beads", "create", "second", "--blocked-by", &first]).trim().to_owned();
    let ready = read(&data, &["beads", "ready"]);
    let ids: Vec<&str> = ready["items"].as_array().unwrap().iter().map(|bead| bead["_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&first, &epic], "the most urgent first");

    let early = lakitu(&data, &["beads", "update", &second, "--status", "in_progress"]);
    assert_eq!(early.status.code(), Some(1), "{early:?}");
    assert_eq!(good(&data, &["beads", "update", &first, "--status", "in_progress"]), format!("{first} in_progress\n"));
    assert_eq!(read(&data, &["beads", "show", &first])["assignee"], "ann");
    let closed = lakitu(&data, &["beads", "close", &first, "--reason", "done"]);
    assert!(String::from_utf8_lossy(&closed.stderr).contains(&format!("no longer blocked: {second}")), "{closed:?}");
    assert_eq!(read(&data, &["beads", "show", &epic])["progress"], json!({ "closed": 1, "total": 1 }));
    let ring = lakitu(&data, &["beads", "dep", &first, "--add", &second]);
    let ring = String::from_utf8_lossy(&ring.stderr).into_owned();
    assert!(ring.contains(&format!("{first} → {second} → {first}")), "{ring}");
    let listed = good(&data, &["beads", "ls", "--type", "epic"]);
    assert!(listed.contains("whole (1/1 closed)") && !listed.contains("second"), "{listed}");
    assert_eq!(lakitu(&data, &["beads", "show", "bd-none"]).status.code(), Some(2));
}

#[test]
fn two_thousand_lines_of_bd_are_merged_and_go_back_out_and_a_bad_one_is_named() {
    let home = tempfile::tempdir().unwrap();
    let (data, file) = (home.path().join("data"), home.path().join("issues.jsonl"));
    let line = |n: usize| {
        json!({
            "id": format!("p-{n}"), "title": format!("task {n}"), "description": "d".repeat(200), "status": "open",
            "priority": n % 5, "issue_type": "task", "created_at": "2025-10-14T14:43:06.907657-07:00",
            "updated_at": "2025-10-14T14:43:06.907657-07:00", "estimated_minutes": n, "design": "so",
            "dependencies": if n.is_multiple_of(10) { json!([]) } else {
                json!([{ "issue_id": format!("p-{n}"), "depends_on_id": format!("p-{}", n - 1), "type": "blocks" }])
            },
        })
    };
    let records: Vec<Value> = (0..2000).map(line).collect();
    let mut lines: Vec<String> = records.iter().map(Value::to_string).collect();
    lines.insert(4, "{\"id\": \"p-x\", ".to_owned());
    std::fs::write(&file, lines.join("\n")).unwrap();

    let done = lakitu(&data, &["beads", "import", file.to_str().unwrap(), "--json"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["created"], &told["problems"][0]["line"]), (&json!(2000), &json!(5)), "{told}");
    let out = good(&data, &["beads", "export"]);
    let by_id = |values: Vec<Value>| -> std::collections::BTreeMap<String, Value> {
        let mut values = values;
        // No dependency is as good as an empty list of them.
        values.iter_mut().for_each(|value| value.as_object_mut().unwrap().retain(|_, value| *value != json!([])));
        values.into_iter().map(|value| (value["id"].as_str().unwrap().to_owned(), value)).collect()
    };
    let exported = by_id(out.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    assert_eq!(exported, by_id(records));

    // Its own export changes nothing, and a newer one wins.
    std::fs::write(&file, &out).unwrap();
    let again = read(&data, &["beads", "import", file.to_str().unwrap()]);
    assert_eq!((&again["kept"], &again["updated"]), (&json!(2000), &json!(0)));
    good(&data, &["beads", "close", "p-0"]);
    assert_eq!(read(&data, &["beads", "import", file.to_str().unwrap()])["kept"], 2000);
    assert_eq!(read(&data, &["beads", "show", "p-0"])["status"], "closed", "the older one does not win");
}

#[tokio::test(start_paused = true)]
async fn what_a_thread_makes_of_beads_stands_in_its_journal_and_is_held_by_it() {
    let script = Script::new()
        .calls("beads_create", json!({ "title": "first" }))
        .calls("beads_ready", json!({}))
        .calls("beads_get", json!({ "id": "bd-none" }))
        .says("So it is.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("plan").await, Ok("So it is.".to_owned()));
    let thread = lakitu.thread();
    let rows = lakitu.ask(|reading| reading.beads_after(None, 10)).await;
    assert_eq!((rows.len(), rows[0].thread_id), (1, Some(thread)));
    let events = lakitu.ask(move |reading| reading.events(thread, lakitu_kernel::Seq::ZERO, 100)).await;
    let changed =
        |event: &&lakitu_kernel::Event| matches!(&event.body, EventBody::BeadChanged { id, .. } if *id == rows[0].id);
    assert_eq!(events.iter().filter(changed).count(), 1);
    let results: Vec<&str> = events
        .iter()
        .filter_map(
            |event| if let EventBody::ToolResult { output, .. } = &event.body { Some(output.as_str()) } else { None },
        )
        .collect();
    assert_eq!(results[1], format!("{} open P2 task: first", rows[0].id));
    assert!(results[2].starts_with("BEAD_NOT_FOUND: "), "{}", results[2]);
    lakitu.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_holds_the_beads_that_its_thread_changed_as_they_were_then() {
    let creates = |range: std::ops::RangeInclusive<usize>| {
        range.map(|n| ("beads_create", json!({ "title": format!("task {n}"), "priority": 1 })))
    };
    let script =
        Script::new().calls_all(creates(0..=50)).calls_all(creates(51..=CHECKPOINT_BEADS_MAX)).says("Planned.");
    let lakitu = Harness::start(script).await;
    let stopped = lakitu.prompt_with("plan", |set| set.max_turns = Some(2)).await;
    assert_eq!(stopped, Err(Ended::Checkpointed("turn_limit".to_owned())));
    let thread = lakitu.thread();
    let held = checkpoints(&lakitu).await.remove(0).beads_state;
    let titles: Vec<_> = held.iter().map(|bead| bead.title.clone()).collect();
    let newest: Vec<_> = (1..=CHECKPOINT_BEADS_MAX).map(|n| format!("task {n}")).collect();
    assert_eq!(titles, newest, "the oldest change first");
    assert!(held.iter().all(|bead| (bead.status.as_str(), bead.priority) == ("open", 1)));

    // Somebody else closes one: what the first checkpoint says of it stays, the next one says what it is now.
    let store = lakitu.runtime().wiring.store.clone();
    let close = planning::Change::Update {
        id: held[0].id.to_string(),
        patch: planning::BeadPatch { status: Some("closed".to_owned()), ..Default::default() },
    };
    let asked = ChangeBeads { key: BeadKey::Person(7), by: "ann".to_owned(), at: Timestamp(1), change: close };
    planning::change(&store, asked).await.unwrap();
    lakitu.runtime().threads().checkpoint(thread, CreateArgs { name: None, next_task: None }).await.unwrap();
    let rows = checkpoints(&lakitu).await;
    assert_eq!(rows[0].beads_state, held);
    assert_eq!(rows[1].beads_state[0].status.as_str(), "closed");
    assert_eq!(rows[1].beads_state[1..], held[1..]);
    assert_eq!(lakitu.resume().await, Ok("Planned.".to_owned()));
    lakitu.end().await;
}

async fn checkpoints(lakitu: &Harness) -> Vec<CheckpointRow> {
    let thread = lakitu.thread();
    lakitu.ask(move |reading| reading.checkpoints_of(thread)).await
}
