//! Bounds of a run: at the limit and one past it.

use expect_test::expect;
use lakitu_kernel::limits::{CALLS_PER_TURN_MAX, PROMPT_BYTES_MAX};
use lakitu_kernel::supervise::What;
use serde_json::{Value, json};

use crate::harness::{Ended, Harness, Script};

fn checkpointed<T>(why: &str) -> Result<T, Ended> {
    Err(Ended::Checkpointed(why.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn at_its_turn_limit_a_run_is_checkpointed_and_a_resume_counts_anew() {
    let read = |path: &str| Script::new().calls("file_read", json!({ "path": path }));
    let script = read("a").then(read("b")).then(read("c")).says("Read.");
    let lakitu = Harness::start(script).await;

    assert_eq!(lakitu.prompt_with("read", |set| set.max_turns = Some(2)).await, checkpointed("turn_limit"));
    assert_eq!(lakitu.gateway.sent().len(), 2);
    assert_eq!(lakitu.resume().await, Ok("Read.".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn at_its_time_limit_a_run_is_checkpointed_and_goes_on_with_its_whole_history() {
    let script = Script::new().calls("file_read", json!({ "path": "a" })).says("At last.").after_ms(20_000);
    let lakitu = Harness::start(script).await;
    lakitu.home.write("a", "hello\n");

    assert_eq!(lakitu.prompt_with("read a", |set| set.timeout_ms = Some(5_000)).await, checkpointed("timeout"));
    let longer = lakitu.continue_with("take your time", |set| set.timeout_ms = Some(60_000)).await;
    assert_eq!(longer, Ok("At last.".to_owned()));

    expect![[r#"
        user: read a
        call 1: file_read {"path":"a"}
        result 1:      1	hello
        user: take your time
    "#]]
    .assert_eq(&lakitu.gateway.request(2));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_named_anew_gets_the_same_history() {
    let lakitu = Harness::start(Script::new().says("One.").says("Two.").says("Three.")).await;
    let model = |turn: usize| {
        let body: Value = serde_json::from_slice(&lakitu.gateway.sent()[turn - 1].body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };

    assert_eq!(lakitu.prompt("count").await, Ok("One.".to_owned()));
    assert_eq!(lakitu.continue_with("go on", |set| set.model = "larger".to_owned()).await, Ok("Two.".to_owned()));
    assert_eq!(lakitu.continue_("go on").await, Ok("Three.".to_owned()));

    assert_eq!([model(1), model(2), model(3)], ["scripted", "larger", "larger"]);
    expect![[r#"
        user: count
        model: One.
        user: go on
        model: Two.
        user: go on
    "#]]
    .assert_eq(&lakitu.gateway.request(3));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_prompt_of_a_mebibyte_is_taken_and_one_byte_more_is_refused() {
    let lakitu = Harness::start(Script::new().says("Long.")).await;
    let prompt = "x".repeat(PROMPT_BYTES_MAX);

    assert_eq!(lakitu.prompt(&format!("{prompt}x")).await, Err(Ended::Refused("INVALID_ARGUMENTS".to_owned())));
    assert_eq!(lakitu.prompt(&prompt).await, Ok("Long.".to_owned()));
    assert_eq!(lakitu.gateway.request(1), format!("user: {prompt}\n"));
    assert_eq!(lakitu.continue_(&format!("{prompt}x")).await, Err(Ended::Refused("INVALID_ARGUMENTS".to_owned())));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_calls_of_a_turn_run_and_the_sixty_fifth_is_told_to_wait() {
    let call = |n: usize| ("file_write", json!({ "path": format!("{n}.txt"), "content": "x" }));
    let script = Script::new().calls_all((0..CALLS_PER_TURN_MAX).map(call)).says("All.");
    let lakitu = Harness::start(script.then(Script::new().calls_all((100..=164).map(call)).says("Most."))).await;
    let files = || std::fs::read_dir(lakitu.home.workspace()).unwrap().count();

    assert_eq!(lakitu.prompt("write").await, Ok("All.".to_owned()));
    assert_eq!(files(), 64);
    assert_eq!(lakitu.continue_("more").await, Ok("Most.".to_owned()));
    assert_eq!(files(), 128);
    expect!["result 129: INVALID_ARGUMENTS: at most 64 calls are taken in one turn; call again in the next"]
        .assert_eq(lakitu.gateway.request(4).lines().last().unwrap());
    lakitu.end().await;
}

#[tokio::test]
async fn a_thread_that_has_ended_leaves_no_address_behind() {
    const THREADS: usize = 5;
    let lakitu = Harness::start(Script::new().runs("true").says("Done.")).await;
    for n in 0..THREADS {
        assert_eq!(lakitu.prompt(&format!("t{n}")).await, Ok("Done.".to_owned()));
        lakitu.has(&format!("/threads/{}", lakitu.thread()), What::Stopped, 1).await;
    }
    // What nobody holds is let go when the next one comes.
    let held = || lakitu.runtime().wiring.agents.with(|agents| agents.len());
    assert!(held() < THREADS, "{} addresses for one thread at a time", held());
    // Nor is anything kept of their keepers.
    let bash = &lakitu.runtime().wiring.bash_tools;
    crate::harness::soon(async {
        while bash.threads().await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    lakitu.end().await;
}
