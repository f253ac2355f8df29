//! Jobs in a conversation: what the model sees of them over turns and prompts, and what a stop does.

use std::time::{Duration, Instant};

use expect_test::expect;
use lakitu_kernel::EventBody;
use serde_json::json;

use crate::harness::{Ended, Harness, Script};

#[tokio::test]
async fn a_job_goes_on_over_turns_and_prompts_until_it_is_told_to_end() {
    let reads = "while read -r line; do echo \"heard $line\"; done";
    let script = Script::new()
        .calls("bash", json!({ "command": reads, "run_in_background": true }))
        .calls("bash_input", json!({ "job": "job_6", "text": "one\n" }))
        .says("It listens.")
        .calls("bash_input", json!({ "job": "job_6", "text": "two\n", "eof": true }))
        .calls("bash_output", json!({ "job": "job_6", "wait": 60_000 }))
        .calls("bash_input", json!({ "job": "job_6", "text": "three\n" }))
        .calls("bash_list", json!({}))
        .says("It has ended.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("start it").await, Ok("It listens.".to_owned()));
    assert_eq!(lakitu.continue_("tell it more").await, Ok("It has ended.".to_owned()));
    // What comes after the second text may be the answer to the first.
    let told = lakitu.gateway.request(8).replace("input is ended [since: 0]", "input is ended [since: 10]");
    expect![[r#"
        user: start it
        call 1: bash {"command":"while read -r line; do echo \"heard $line\"; done","run_in_background":true}
        result 1: [job_6 was started in the background; see bash_output, bash_input, bash_kill]
        call 2: bash_input {"job":"job_6","text":"one\n"}
        result 2: 4 bytes given to job_6 [since: 0]
        model: It listens.
        user: tell it more
        call 3: bash_input {"eof":true,"job":"job_6","text":"two\n"}
        result 3: 4 bytes given to job_6, and its input is ended [since: 10]
        call 4: bash_output {"job":"job_6","wait":60000}
        result 4: heard one
          heard two
          [job_6: exit 0; since: 20]
        call 5: bash_input {"job":"job_6","text":"three\n"}
        result 5: JOB_NOT_FOUND: job_6 has ended [exit 0]; nothing was given
        call 6: bash_list {}
        result 6: no jobs are running
    "#]]
    .assert_eq(&told);
    lakitu.end().await;
}

#[tokio::test]
async fn a_command_that_outlasts_its_call_is_a_job_in_the_next_turn() {
    let script = Script::new()
        .calls(
            "bash",
            json!({ "command": "echo half; until [ -e go ]; do sleep 0.02; done; echo whole", "timeout": 700 }),
        )
        .runs("touch go")
        .calls("bash_output", json!({ "job": "job_6", "wait": 60_000 }))
        .says("It took its time.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("run it").await, Ok("It took its time.".to_owned()));
    let told = lakitu.gateway.request(4);
    let (before, rest) = told.split_once("[job_6: running for ").unwrap();
    let (_, behind) = rest.split_once(" s; since: 5]").unwrap();
    let told = format!("{before}[job_6: running for SOME s; since: 5]{behind}");
    expect![[r#"
        user: run it
        call 1: bash {"command":"echo half; until [ -e go ]; do sleep 0.02; done; echo whole","timeout":700}
        result 1: COMMAND_TIMEOUT: it is still running after 0.7 s and goes on as job_6; wait for it with bash_output (wait), end it with bash_kill
          half
          [job_6: running for SOME s; since: 5]
        call 2: bash {"command":"touch go"}
        result 2: [exit 0]
        call 3: bash_output {"job":"job_6","wait":60000}
        result 3: half
          whole
          [job_6: exit 0; since: 11]
    "#]].assert_eq(&told);
    lakitu.end().await;
}

#[tokio::test]
async fn a_cancel_ends_a_wait_for_a_job_at_once_and_the_job_with_it() {
    let script = Script::new()
        .calls("bash", json!({ "command": "trap '' TERM; while :; do sleep 1; done", "run_in_background": true }))
        .calls("bash_output", json!({ "job": "job_6", "wait": 600_000 }))
        .calls("bash_output", json!({ "job": "job_6" }))
        .says("It was stopped.");
    let lakitu = Harness::start(script).await;
    let mut run = lakitu.begin("start it").await;
    while !matches!(run.next().await.unwrap().body, EventBody::ToolIntent { tool, .. } if tool == "bash_output") {}
    let asked = Instant::now();
    lakitu.cancel().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "cancel took {:?}", asked.elapsed());
    assert_eq!(run.end().await, Err(Ended::Cancelled));
    assert_eq!(lakitu.continue_("what happened?").await, Ok("It was stopped.".to_owned()));
    let told = lakitu.gateway.request(4);
    assert!(told.contains("[job_6: killed: the run was stopped"), "{told}");
    lakitu.end().await;
}
