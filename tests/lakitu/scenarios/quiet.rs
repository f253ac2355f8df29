//! Never a hang: what is waited for comes to its end or is given up, and who waits says so.

use std::time::{Duration, Instant};

use lakitu_actors::effects::{Done, Key, Work};
use lakitu_kernel::config::Config;
use lakitu_kernel::supervise::FaultKind;
use lakitu_kernel::{EventBody, Seq, Turn};
use serde_json::json;

use super::outliving::impatient;
use crate::harness::{Ended, Fault, Harness, Script};

/// Where the intent of a thread's first call stands.
const FIRST: Seq = Seq(6);

fn quiet_after(ms: u64) -> Config {
    let mut config = Config::default();
    config.limits.stalled_ms = ms;
    config.limits.model_first_byte_ms = 3_600_000;
    config
}

/// What the last thread said of being stalled.
async fn stalls(lakitu: &Harness) -> Vec<String> {
    let events = lakitu.events(lakitu.thread()).await;
    let reason = |body| if let EventBody::Stalled { reason } = body { Some(reason) } else { None };
    events.into_iter().filter_map(|event| reason(event.body)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thread_says_what_it_waits_for_when_its_time_is_over_and_not_before() {
    for (answers_after, said) in [
        (59_000, vec![]),
        (61_000, vec!["nothing for 60 s: it waits for the model's answer to turn 1"]),
        (3 * 60_000, vec!["nothing for 60 s: it waits for the model's answer to turn 1"]),
    ] {
        let script = Script::new().says("At last.").after_ms(answers_after);
        let lakitu = Harness::start_with(script, quiet_after(60_000)).await;
        let run = lakitu.begin("think").await.patient(Duration::from_hours(1));
        assert_eq!(run.end().await, Ok("At last.".to_owned()));
        assert_eq!(stalls(&lakitu).await, said, "an answer after {answers_after} ms");
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_whose_work_was_lost_says_so_and_goes_on() {
    let script = Script::new().says("Asked again.").after_ms(20_000);
    let lakitu = Harness::start_with(script, quiet_after(60_000)).await;
    let run = lakitu.begin("think").await.patient(Duration::from_hours(1));
    lakitu.gateway.asked(1).await;
    // As nothing in the tree ever does, it vanishes without a word, when nobody looks at the thread any more.
    let nobody_looks = std::future::pending::<()>();
    assert!(tokio::time::timeout(Duration::from_secs(10), nobody_looks).await.is_err());
    lakitu.runtime().wiring.effects.cancel(&key(&lakitu, Work::Model { turn: Turn(1), changes: 0 }));
    assert_eq!(run.end().await, Ok("Asked again.".to_owned()));
    let said = "nothing for 60 s, and nothing is under way that could bring it on: its actor begins again";
    assert_eq!(stalls(&lakitu).await, [said]);
    lakitu.end().await;
}

fn key(lakitu: &Harness, work: Work) -> Key {
    Key { thread: lakitu.thread(), work }
}

/// Puts work in the place of a thread's own that comes to no end within a moment.
fn hangs(lakitu: &Harness, work: Work) {
    let within = Duration::from_secs(10);
    let late = Some((within, Done::Late(within)));
    let begin =
        |key| lakitu.runtime().wiring.effects.begin_within(key, late, |_| std::future::pending(), |_| Done::Over);
    begin(key(lakitu, work));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_to_no_end_is_given_up_by_its_class_and_the_run_goes_on() {
    let write = json!({ "path": "a.txt", "content": "a" });
    let run = json!({ "command": "touch b.txt" });
    for (tool, arguments, told) in [
        ("ls", json!({}), "TIMEOUT: no end within 10 s; ask for less at a time"),
        ("file_write", write, "INTERRUPTED: no end within 10 s; how far it got is not known: look before you go on"),
        (
            "bash",
            run,
            "COMMAND_TIMEOUT: nothing was heard of it within 10 s; where it runs it goes on as job_6 (bash_list, bash_output)",
        ),
    ] {
        let script = Script::new().calls(tool, arguments).after_ms(300).says("So be it.");
        let lakitu = Harness::start(script).await;
        let run = lakitu.begin("do it").await;
        hangs(&lakitu, Work::Tool(FIRST, 1));
        assert_eq!(run.end().await, Ok("So be it.".to_owned()));
        let request = lakitu.gateway.request(2);
        assert!(request.contains(&format!("result 1: {told}")), "{request}");
        let said = stalls(&lakitu).await;
        assert!(said.len() == 1 && said[0].contains(&format!("no end within 10 s of {tool} (")), "{said:?}");
        assert_eq!((lakitu.home.read("a.txt"), lakitu.home.read("b.txt")), Default::default());
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_to_the_model_that_comes_to_no_end_is_asked_anew() {
    let script = Script::new().calls("ls", json!({})).after_ms(300).says("Asked anew.");
    let lakitu = Harness::start(script).await;
    let run = lakitu.begin("look").await;
    lakitu.gateway.asked(1).await;
    hangs(&lakitu, Work::Model { turn: Turn(2), changes: 0 });
    assert_eq!(run.end().await, Ok("Asked anew.".to_owned()));
    assert_eq!((lakitu.gateway.sent().len(), stalls(&lakitu).await.len()), (2, 1));
    lakitu.end().await;
}

#[tokio::test]
async fn a_command_that_had_not_begun_when_its_run_was_cancelled_never_begins() {
    let script = Script::new().runs("echo late > late.txt").after_ms(300).says("Nothing of it ran.");
    let lakitu = Harness::start_with(script, impatient()).await;
    let mut run = lakitu.begin("do it").await;
    lakitu.gateway.asked(1).await;
    // The door hangs, is killed, and hangs again.
    let hang = Fault { kind: FaultKind::Hang, ms: 0, times: 3 };
    lakitu.runtime().wiring.nodes.inject("/tools/bash", hang).unwrap();
    while !matches!(run.next().await.unwrap().body, EventBody::ToolIntent { .. }) {}
    let asked = Instant::now();
    lakitu.cancel().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "cancel took {:?}", asked.elapsed());
    assert_eq!(run.end().await, Err(Ended::Cancelled));
    // Until the door stands open again and the call has come through it.
    lakitu.runtime().wiring.effects.idle(&lakitu.thread()).await;
    assert_eq!(lakitu.home.read("late.txt"), "");
    assert_eq!(lakitu.continue_("and?").await, Ok("Nothing of it ran.".to_owned()));
    lakitu.end().await;
}
