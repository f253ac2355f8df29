//! The command line by the real binary: what is printed and which exit code says it.

use std::net::TcpListener;

use expect_test::expect;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Binary, Fifo, Script, answering, response};

fn hello() -> Script {
    Script::new().calls("file_write", json!({ "path": "a", "content": "hello\n" })).says("Written.")
}

/// A run's object without what differs from run to run.
fn steady(mut object: Value) -> String {
    assert!(object["thread"].as_str().is_some_and(|id| id.starts_with("thr_")), "{object}");
    object["thread"] = "THREAD".into();
    // What the system's text weighs is nobody's business here.
    assert!(object["usage"]["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{object}");
    object["usage"]["input_tokens"] = "SOME".into();
    serde_json::to_string_pretty(&object).unwrap()
}

#[test]
fn a_completed_run_prints_one_object() {
    let ran = Binary::new().plays(&hello(), "write", &["--output", "json"]);
    assert_eq!(ran.exit, 0, "{}", ran.err);
    expect![[r#"
        {
          "artifacts": [],
          "status": "completed",
          "text": "Written.",
          "thread": "THREAD",
          "tool_calls": 1,
          "turns": 2,
          "usage": {
            "cached_tokens": 0,
            "input_tokens": "SOME",
            "output_tokens": 10
          }
        }"#]]
    .assert_eq(&steady(ran.object()));
}

#[test]
fn a_stream_ends_with_the_same_object() {
    // What a turn rests on is durable by then: nothing of an answer is shown before.
    let ran = Binary::new().plays(&hello().after_ms(200), "write", &["--output", "stream-json"]);
    let mut lines = ran.lines();
    expect![[r#"
        {
          "artifacts": [],
          "status": "completed",
          "text": "Written.",
          "thread": "THREAD",
          "tool_calls": 1,
          "turns": 2,
          "type": "result",
          "usage": {
            "cached_tokens": 0,
            "input_tokens": "SOME",
            "output_tokens": 10
          }
        }"#]]
    .assert_eq(&steady(lines.pop().unwrap()));
    let journaled = lines.iter().filter_map(|line| line["seq"].as_u64());
    assert!(journaled.clone().eq(1..=journaled.count() as u64), "seqs have gaps");
    assert!(lines.iter().any(|line| line["type"] == "text.delta"), "nothing streams");
}

#[test]
fn a_failed_run_prints_its_error_and_exits_with_1() {
    let ran = Binary::new().plays(&hello().says("Nobody asks for this."), "write", &["--output", "json"]);
    assert_eq!(ran.exit, 1, "{}", ran.err);
    expect![[r#"
        {
          "artifacts": [],
          "error": {
            "code": "SCRIPT_MISMATCH",
            "message": "the run ended behind turn 2, and the script's `turns` has 3"
          },
          "status": "failed",
          "text": "Written.",
          "thread": "THREAD",
          "tool_calls": 1,
          "turns": 2,
          "usage": {
            "cached_tokens": 0,
            "input_tokens": "SOME",
            "output_tokens": 10
          }
        }"#]]
    .assert_eq(&steady(ran.object()));
}

#[test]
fn limits_exit_with_3_and_resume_goes_on() {
    let lakitu = Binary::new();
    let script = lakitu.script(&hello().after_ms(1_500));
    let ran = lakitu.run(&["run", "write", "--script", &script, "--output", "json", "--max-turns", "1"]);
    assert_eq!((ran.exit, &ran.object()["status"]), (3, &json!("checkpointed")), "{}", ran.err);
    let ran = lakitu.run(&["resume", "--script", &script, "--output", "json", "--timeout", "1s", "--max-turns", "9"]);
    assert_eq!((ran.exit, &ran.object()["status"]), (3, &json!("checkpointed")), "{}", ran.err);
    let ran = lakitu.run(&["resume", "--script", &script, "--output", "json", "--timeout", "1m"]);
    assert_eq!((ran.exit, &ran.object()["text"]), (0, &json!("Written.")), "{}", ran.err);
    // Of a thread that completed, resume shows the result.
    let ran = lakitu.run(&["resume", "--script", &script, "--output", "json"]);
    assert_eq!((ran.exit, &ran.object()["text"]), (0, &json!("Written.")), "{}", ran.err);
}

#[tokio::test]
async fn a_second_process_is_told_who_owns_the_data_and_an_interrupt_checkpoints() {
    let lakitu = Binary::new();
    let gate = Fifo::new(&lakitu.workspace(), "gate");
    let script = lakitu.script(&Script::new().runs("read -r _ < gate").says("Through."));
    let first = lakitu.begin(&["run", "wait", "--script", &script, "--output", "json"]);
    let door = gate.reached().await;

    let second = lakitu.run(&["run", "me too", "--script", &script]);
    assert_eq!((second.exit, second.out.as_str()), (75, ""), "{}", second.err);
    assert!(second.err.contains(&first.pid().to_string()), "{}", second.err);

    first.signal(Signal::INT);
    let first = first.end();
    drop(door);
    assert_eq!((first.exit, &first.object()["status"]), (130, &json!("checkpointed")), "{}", first.err);
    assert!(first.err.contains("Ctrl-C again"), "{}", first.err);
    let resumed = lakitu.run(&["resume", "--script", &script, "--output", "json"]);
    assert_eq!((resumed.exit, &resumed.object()["text"]), (0, &json!("Through.")), "{}", resumed.err);
}

#[test]
fn paths_are_taken_as_they_are_written() {
    let mut lakitu = Binary::new();
    let home = lakitu.home.path();
    std::fs::write(home.join("token"), "secret").unwrap();
    std::fs::create_dir(home.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(home.join("elsewhere"), home.join("link")).unwrap();
    lakitu.data_flag = Some("../link/./new/../data".into());
    let script =
        Script::new().runs("cat ../token ../elsewhere/data/lakitu.redb; echo done > ../elsewhere/out/a").says("Done.");
    let more = ["--output", "stream-json", "--artifacts", "../link/out", "--token-file", "../token"];

    let ran = lakitu.plays(&script, "go", &more);

    assert_eq!(ran.exit, 0, "{}", ran.err);
    let result = ran.lines().into_iter().find(|line| line["type"] == "tool.result").unwrap();
    assert_eq!(std::fs::read_to_string(home.join("elsewhere/out/a")).unwrap_or_default(), "done\n", "{result}");
    assert!(!ran.out.contains("secret"), "{result}");
    assert!(home.join("elsewhere/data/lakitu.redb").is_file());
}

#[test]
fn a_gateway_out_of_reach_exits_with_4() {
    let lakitu = Binary::new().env("LAKITU__LIMITS__MODEL_ATTEMPTS", "2");
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ran = lakitu.run(&["run", "hello", "--gateway", &format!("http://127.0.0.1:{port}"), "--output", "json"]);
    assert_eq!(ran.exit, 4, "{}", ran.err);
    assert_eq!(
        (&ran.object()["status"], &ran.object()["error"]["code"]),
        (&json!("checkpointed"), &json!("GATEWAY_UNREACHABLE"))
    );
}

#[test]
fn a_gateway_that_refuses_exits_with_4() {
    let lakitu = Binary::new().env("LAKITU_TOKEN", "wrong");
    let (url, server) = answering(vec![response("401 Unauthorized", "no"); 2]);
    let ran = lakitu.run(&["run", "hello", "--gateway", &url, "--output", "json"]);
    server.join().unwrap();
    assert_eq!(ran.exit, 4, "{}", ran.err);
    assert_eq!(
        (&ran.object()["status"], &ran.object()["error"]["code"]),
        (&json!("checkpointed"), &json!("GATEWAY_REFUSED"))
    );
}

#[test]
fn what_a_run_costs_is_summed_up_from_the_configured_prices() {
    let lakitu = Binary::new();
    let config = lakitu.home.path().join("prices.toml");
    std::fs::write(&config, "[gateway.server.prices.m]\ninput = 3.0\noutput = 15.0\ncached = 0.3\n").unwrap();
    let usage = json!({ "input_tokens": 1_000_000, "output_tokens": 100_000, "cached_tokens": 500_000 });
    let turn = |more: Value| {
        let mut turn = json!({ "usage": usage });
        turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        turn
    };
    let script = Script::new()
        .turn(turn(json!({ "tool_calls": [{ "name": "file_read", "arguments": { "path": "a" } }] })))
        .turn(turn(json!({ "text": "Dear." })));
    let config = config.display().to_string();

    let ran = lakitu.plays(&script, "spend", &["--config", &config, "--model", "m", "--output", "stream-json"]);

    assert_eq!(ran.exit, 0, "{}", ran.err);
    let lines = ran.lines();
    let told: Vec<f64> =
        lines.iter().filter(|line| line["type"] == "usage").filter_map(|line| line["cost_usd"].as_f64()).collect();
    // 0.5 × 3 + 0.5 × 0.3 + 0.1 × 15
    assert_eq!(told, [3.15, 3.15]);
    let result = lines.last().unwrap();
    assert_eq!(
        result["usage"],
        json!({ "input_tokens": 2_000_000, "output_tokens": 200_000, "cached_tokens": 1_000_000, "cost_usd": 6.3 })
    );
    let listed = lakitu.run(&["threads", "ls", "--json"]);
    assert!(listed.out.contains("\"cost_usd\":6.3"), "{}", listed.out);
}

#[test]
fn bash_completes_what_can_be_typed() {
    let lakitu = Binary::new();
    let script = lakitu.run(&["completions", "bash"]);
    assert_eq!((script.exit, script.err.as_str()), (0, ""));
    let file = lakitu.home.path().join("completions");
    std::fs::write(&file, &script.out).unwrap();
    let complete = |words: &[&str]| {
        let (last, before) = (words.len() - 1, words[words.len() - 2]);
        let ask = format!(
            "source \"$0\"; COMP_WORDS=({}); COMP_CWORD={last}; _lakitu lakitu '{}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words[last],
        );
        let ran = std::process::Command::new("bash").args(["--norc", "-c", &ask]).arg(&file).output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["lakitu", "re"]), "resume restart");
    assert_eq!(complete(&["lakitu", "threads", "e"]), "events");
    assert_eq!(complete(&["lakitu", "run", "--mode", "pl"]), "plan");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let other = lakitu.run(&["completions", shell]);
        assert!(other.exit == 0 && other.out.contains("doctor"), "{shell}");
    }
    assert_eq!(lakitu.run(&["completions", "tcsh"]).exit, 2);
}
