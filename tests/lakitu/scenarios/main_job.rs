//! The main job: a person asks, the model reads and changes, and says what it did.

use expect_test::expect;
use serde_json::json;

use std::time::{Duration, Instant};

use crate::harness::{Ended, Fifo, Harness, Script};

#[tokio::test(start_paused = true)]
async fn a_file_is_read_and_edited_and_the_model_says_so() {
    let script = Script::new()
        .calls("file_read", json!({ "path": "calc.sh" }))
        .calls("file_edit", json!({ "path": "calc.sh", "old_string": "a - b", "new_string": "a + b" }))
        .says("Fixed.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("calc.sh", "echo $((a - b))\n");

    assert_eq!(lakitu.prompt("fix calc.sh").await, Ok("Fixed.".to_owned()));

    assert_eq!(lakitu.home.read("calc.sh"), "echo $((a + b))\n");
    expect![[r#"
        user: fix calc.sh
        call 1: file_read {"path":"calc.sh"}
        result 1:      1	echo $((a - b))
        call 2: file_edit {"new_string":"a + b","old_string":"a - b","path":"calc.sh"}
        result 2: Changed calc.sh (+1 -1 lines)
          @@ -1 +1 @@
          -echo $((a - b))
          +echo $((a + b))
    "#]]
    .assert_eq(&lakitu.gateway.request(3));
    expect![[r#"
        user: fix calc.sh
        call 1: file_read {"path":"calc.sh"}
        result 1:      1	echo $((a - b))
        call 2: file_edit {"new_string":"a + b","old_string":"a - b","path":"calc.sh","replace_all":false}
        result 2: Changed calc.sh (+1 -1 lines)
          @@ -1 +1 @@
          -echo $((a - b))
          +echo $((a + b))
        model: Fixed.
        (thread.completed)
    "#]]
    .assert_eq(&lakitu.transcript().await);
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn reads_of_one_turn_come_back_in_call_order_and_in_one_step() {
    let reads = ["a.txt", "missing.txt", "b.txt"].map(|path| ("file_read", json!({ "path": path })));
    let lakitu = Harness::start(Script::new().calls_all(reads).says("Two of three.")).await;
    lakitu.home.write("a.txt", "first\n");
    lakitu.home.write("b.txt", "second\n");

    assert_eq!(lakitu.prompt("read them").await, Ok("Two of three.".to_owned()));

    expect![[r#"
        user: read them
        call 1: file_read {"path":"a.txt"}
        call 2: file_read {"path":"missing.txt"}
        call 3: file_read {"path":"b.txt"}
        result 1:      1	first
        result 2: FILE_NOT_FOUND: missing.txt does not exist
        result 3:      1	second
    "#]]
    .assert_eq(&lakitu.gateway.request(2));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_said_during_a_run_is_taken_in_before_the_next_model_call() {
    let script = Script::new().calls("file_read", json!({ "path": "a.txt" })).after_ms(5_000).says("Both.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("a.txt", "hello\n");

    let run = lakitu.begin("read a.txt").await;
    lakitu.gateway.asked(1).await;
    lakitu.interject("and count its letters").await;
    assert_eq!(run.end().await, Ok("Both.".to_owned()));

    expect![[r#"
        user: read a.txt
        call 1: file_read {"path":"a.txt"}
        result 1:      1	hello
        user: and count its letters
    "#]]
    .assert_eq(&lakitu.gateway.request(2));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_the_model_ends_is_answered_too() {
    let lakitu = Harness::start(Script::new().says("Done.").after_ms(5_000).says("That as well.")).await;

    let run = lakitu.begin("do this").await;
    lakitu.gateway.asked(1).await;
    lakitu.interject("and that").await;
    assert_eq!(run.end().await, Ok("That as well.".to_owned()));

    expect![[r#"
        user: do this
        model: Done.
        user: and that
    "#]]
    .assert_eq(&lakitu.gateway.request(2));
    lakitu.end().await;
}

#[tokio::test]
async fn a_command_is_run_and_its_thread_goes_on_with_its_whole_history() {
    let script = Script::new().runs("cat calc.sh; exit 3").says("It fails.").runs("rm calc.sh").says("Gone.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("calc.sh", "exit 3\n");

    assert_eq!(lakitu.prompt("run it").await, Ok("It fails.".to_owned()));
    assert_eq!(lakitu.continue_("remove it").await, Ok("Gone.".to_owned()));

    expect![[r#"
        user: run it
        call 1: bash {"command":"cat calc.sh; exit 3"}
        result 1: COMMAND_FAILED: exit code 3
          exit 3
          [exit 3]
        model: It fails.
        user: remove it
        call 2: bash {"command":"rm calc.sh"}
        result 2: [exit 0]
    "#]]
    .assert_eq(&lakitu.gateway.request(4));
    lakitu.end().await;
}

#[tokio::test]
async fn cancel_answers_within_a_second_and_leaves_a_history_that_goes_on() {
    let command = "trap '' TERM; echo waiting; read -r _ < gate; touch never";
    let script = Script::new()
        .calls_all([
            ("bash", json!({ "command": command })),
            ("file_write", json!({ "path": "b.txt", "content": "b" })),
        ])
        .says("Nothing of it happened.");
    let lakitu = Harness::start(script).await;
    let gate = Fifo::new(&lakitu.home.workspace(), "gate");

    let run = lakitu.begin("wait for me").await;
    let door = gate.reached().await;
    let asked = Instant::now();
    lakitu.cancel().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "cancel took {:?}", asked.elapsed());
    assert_eq!(run.end().await, Err(Ended::Cancelled));
    drop(door);

    assert_eq!(lakitu.continue_("what happened?").await, Ok("Nothing of it happened.".to_owned()));
    assert_eq!((lakitu.home.read("never"), lakitu.home.read("b.txt")), (String::new(), String::new()));
    expect![[r#"
        user: wait for me
        call 1: bash {"command":"trap '' TERM; echo waiting; read -r _ < gate; touch never"}
        call 2: file_write {"content":"b","path":"b.txt"}
        result 1: INTERRUPTED: the run was stopped and the command was killed after 0.0 s; what it did until then stands
          waiting
          [killed: the run was stopped]
        result 2: CANCELLED: the run was stopped before this began; nothing of it ran
        user: what happened?
    "#]]
    .assert_eq(&lakitu.gateway.request(2));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn two_runtimes_in_one_process_do_not_know_of_each_other() {
    let script = |word: &str| Script::new().calls("file_write", json!({ "path": "who", "content": word })).says(word);
    let (one, other) = (Harness::start(script("one")).await, Harness::start(script("other")).await);

    let (first, second) = tokio::join!(one.prompt("who are you?"), other.prompt("who are you?"));

    assert_eq!((first, second), (Ok("one".to_owned()), Ok("other".to_owned())));
    assert_eq!((one.home.read("who"), other.home.read("who")), ("one".to_owned(), "other".to_owned()));
    one.end().await;
    other.end().await;
}
