//! What agents make for somebody: saved, versioned, read back, listed, written out.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use lakitu_actors::store::ArtifactRow;
use lakitu_kernel::EventBody;
use lakitu_kernel::limits::ARTIFACT_NAME_BYTES_MAX;
use serde_json::{Value, json};

use crate::harness::{Ended, Harness, Script};

fn saves(arguments: Value) -> Script {
    Script::new().calls("artifact_save", arguments)
}

async fn rows(lakitu: &Harness, name: &str) -> Vec<ArtifactRow> {
    let (thread, name) = (lakitu.thread(), name.to_owned());
    lakitu.ask(move |reading| reading.artifact_versions(thread, &name, 100)).await
}

async fn results(lakitu: &Harness) -> Vec<String> {
    let events = lakitu.events(lakitu.thread()).await;
    let result = |event: &lakitu_kernel::Event| match &event.body {
        EventBody::ToolResult { output, .. } => Some(output.clone()),
        _ => None,
    };
    events.iter().filter_map(result).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_saving_is_a_version_that_stays_and_the_newest_stands_in_a_file() {
    // Of one message each call finds what those before it saved.
    let script = Script::new()
        .calls_all([
            ("artifact_save", json!({ "name": "report.md", "content": "one\n", "metadata": { "for": "ann" } })),
            ("artifact_save", json!({ "name": "report.md", "content": "two\n" })),
            ("artifact_save", json!({ "name": "data", "path": "made.bin", "type": "application/x-made" })),
            ("artifact_read", json!({ "name": "report.md" })),
        ])
        .calls("artifact_read", json!({ "name": "report.md", "version": 1 }))
        .calls("artifact_read", json!({ "name": "data" }))
        .calls("artifact_list", json!({}))
        .says("Saved.");
    let home = crate::harness::Home::new();
    home.write_bytes("made.bin", &[0xff, 0, 0xfe]);
    let lakitu = Harness::start_on(home, script, lakitu_kernel::config::Config::default()).await;
    assert_eq!(lakitu.prompt("report").await, Ok("Saved.".to_owned()));

    let versions = rows(&lakitu, "report.md").await;
    let told: Vec<_> = versions.iter().map(|row| (row.version, row.size, row.mime.as_str())).collect();
    assert_eq!(told, [(2, 4, "text/markdown"), (1, 4, "text/markdown")]);
    assert_eq!(versions[1].metadata, Some(json!({ "for": "ann" })));
    assert_eq!(std::fs::read_to_string(&versions[0].path).unwrap(), "two\n");
    let data = rows(&lakitu, "data").await.remove(0);
    assert_eq!((data.mime.as_str(), std::fs::read(&data.path).unwrap()), ("application/x-made", vec![0xff, 0, 0xfe]));

    let results = results(&lakitu).await;
    assert!(results[1].starts_with("Saved report.md, version 2 (text/markdown, 4 bytes), at /"), "{}", results[1]);
    assert_eq!(results[3..5], ["two\n", "one\n"]);
    assert!(results[5].starts_with("data, version 1 (application/x-made, 3 bytes) is no text"), "{}", results[5]);
    let list = "data, version 1 (application/x-made, 3 bytes)\nreport.md, version 2 (text/markdown, 4 bytes)";
    assert_eq!(results[6], list);
    lakitu.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_two_threads_do_not_meet_and_a_checkpoint_names_what_its_thread_saved() {
    let lakitu = Harness::start(saves(json!({ "name": "report.md", "path": "r.md" })).says("Saved.")).await;
    let write = |text: &str| std::fs::write(lakitu.settings().workspace.join("r.md"), text).unwrap();
    write("first");
    let stopped = lakitu.prompt_with("report", |set| set.max_turns = Some(1)).await;
    assert_eq!(stopped, Err(Ended::Checkpointed("turn_limit".to_owned())));
    let thread = lakitu.thread();
    let held = lakitu.ask(move |reading| reading.checkpoints_of(thread)).await.remove(0);
    assert_eq!(held.artifacts_produced, ["report.md"]);
    assert_eq!(lakitu.resume().await, Ok("Saved.".to_owned()));
    let one = rows(&lakitu, "report.md").await.remove(0);
    write("second");
    assert_eq!(lakitu.prompt("another report").await, Ok("Saved.".to_owned()));
    let other = rows(&lakitu, "report.md").await.remove(0);
    assert_ne!((one.thread_id, &one.path), (other.thread_id, &other.path));
    assert_eq!((one.version, other.version), (1, 1));
    assert_eq!(std::fs::read_to_string(&one.path).unwrap(), "first");
    assert_eq!(std::fs::read_to_string(&other.path).unwrap(), "second");
    lakitu.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_saved_or_read_is_told_and_nothing_is_left() {
    let long = "x".repeat(ARTIFACT_NAME_BYTES_MAX + 1);
    let wrong = [
        json!({ "name": "../x", "content": "x" }),
        json!({ "name": long, "content": "x" }),
        json!({ "name": "x" }),
        json!({ "name": "x", "content": "x", "path": "y" }),
        json!({ "name": "x", "content": "x", "type": "a\nb" }),
        json!({ "name": "x", "content": "x", "metadata": { "much": "y".repeat(10_001) } }),
        json!({ "name": "x", "path": "is/nowhere" }),
        json!({ "name": "x", "path": "." }),
        json!({ "name": "x", "path": "/etc/hostname" }),
    ];
    let count = wrong.len();
    let script = wrong.into_iter().fold(Script::new(), |script, arguments| script.then(saves(arguments)));
    let script = script
        .then(saves(json!({ "name": "empty", "content": "" })))
        .calls("artifact_read", json!({ "name": "none" }))
        .calls("artifact_read", json!({ "name": "empty", "version": 2 }))
        .says("Done.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("try").await, Ok("Done.".to_owned()));
    let results = results(&lakitu).await;
    let codes: Vec<&str> = results.iter().map(|result| result.split(':').next().unwrap()).collect();
    assert!(codes[..6].iter().all(|code| *code == "INVALID_ARGUMENTS"), "{codes:?}");
    assert_eq!(codes[6], "FILE_NOT_FOUND", "{}", results[6]);
    assert!(results[7..count].iter().all(|result| !result.starts_with("Saved")), "{results:?}");
    assert!(results[count].starts_with("Saved empty, version 1 (text/plain, 0 bytes)"), "{}", results[count]);
    assert_eq!(codes[count + 1..], ["ARTIFACT_NOT_FOUND", "ARTIFACT_NOT_FOUND"]);
    assert!(results[count + 2].contains("versions 1 to 1"), "{}", results[count + 2]);
    assert_eq!(rows(&lakitu, "x").await, []);
    lakitu.end().await;
}

fn lakitu(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakitu"));
    command.args(args).arg("--data").arg(data).current_dir(data.parent().unwrap());
    command.env_clear().env("HOME", data.parent().unwrap()).stdin(Stdio::null());
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_lists_them_and_writes_them_out_byte_for_byte() {
    let script = saves(json!({ "name": "report.md", "content": "one\r\n" }))
        .then(saves(json!({ "name": "report.md", "content": "two" })))
        .says("Saved.");
    let runtime = Harness::start(script).await;
    assert_eq!(runtime.prompt("report").await, Ok("Saved.".to_owned()));
    let thread = runtime.thread().to_string();
    let (home, _gateway) = runtime.stop().await;
    let data = home.data();

    let listed = lakitu(&data, &["artifacts", "ls", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let versions: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["version"].clone()).collect();
    assert_eq!(versions, [json!(2), json!(1)], "the newest first");
    let id = listed["items"][1]["_id"].as_str().unwrap();
    let table = lakitu(&data, &["artifacts", "ls", &thread]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("report.md"), "{table:?}");

    assert_eq!(lakitu(&data, &["artifacts", "get", "report.md"]).stdout, b"two");
    assert_eq!(lakitu(&data, &["artifacts", "get", id]).stdout, b"one\r\n");
    assert_eq!(lakitu(&data, &["artifacts", "get", "report.md", "--version", "1"]).stdout, b"one\r\n");
    let to = home.path().join("out.md");
    let written = lakitu(&data, &["artifacts", "get", "report.md", "--thread", &thread, "-o", to.to_str().unwrap()]);
    assert!(written.status.success() && std::fs::read(&to).unwrap() == b"two", "{written:?}");
    let twice = lakitu(&data, &["artifacts", "get", "report.md", "-o", to.to_str().unwrap()]);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    for wrong in [&["artifacts", "get", "none"][..], &["artifacts", "get", "report.md", "--version", "3"]] {
        let refused = lakitu(&data, wrong);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("lakitu artifacts ls"), "{refused:?}");
    }
}
