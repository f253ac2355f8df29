//! A gateway that is away for long, or does not know the model: the thread waits, goes on elsewhere, or stops whole.

use std::time::Duration;

use lakitu_actors::gateway::Patience;
use lakitu_actors::store::ThreadStatus;
use lakitu_kernel::ThreadId;
use lakitu_kernel::config::Config;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Ended, Following, Harness, Home, Recorder, Script};

const HOUR: Duration = Duration::from_hours(1);

async fn status(lakitu: &Harness, thread: ThreadId) -> ThreadStatus {
    lakitu.ask(move |reading| reading.thread(thread)).await.unwrap().status
}

async fn until(run: &mut Following, name: &str) {
    while run.next().await.unwrap().body.name() != name {}
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_a_gateway_is_waited_out_and_shown_as_waiting() {
    let script = Script::new().calls("file_read", json!({ "path": "a" })).says("Back.").after_ms(5_000);
    let patient = |parts: &mut lakitu_actors::runtime::Parts| parts.patience = Some(Patience::Endless);
    let lakitu = Harness::boot_with(Home::new(), Recorder::new(&script), Config::default(), patient).await;
    lakitu.gateway.goes_away_for(HOUR);
    let begun = Instant::now();
    let mut run = lakitu.begin("read a").await.patient(2 * HOUR);
    let thread = run.thread;
    until(&mut run, "prompt").await;
    assert_eq!(status(&lakitu, thread).await, ThreadStatus::Running);

    until(&mut run, "stalled").await;
    let stalled = begun.elapsed().as_secs();
    assert!((30..40).contains(&stalled), "after {stalled} s");
    assert_eq!(status(&lakitu, thread).await, ThreadStatus::Waiting);
    assert_eq!(lakitu.runtime().wiring.nodes.inspect("/gateway").unwrap().gauges["breaker"], 1);

    until(&mut run, "message").await;
    assert_eq!(status(&lakitu, thread).await, ThreadStatus::Running);
    assert_eq!(run.end().await, Ok("Back.".to_owned()));
    assert_eq!(status(&lakitu, thread).await, ThreadStatus::Completed);
    let waited = begun.elapsed();
    assert!(waited >= HOUR && waited < HOUR + Duration::from_mins(2), "{waited:?}");
    let sent = lakitu.gateway.sent();
    assert!(sent.len() <= 70 + 2, "{} requests", sent.len());
    assert!(
        sent.iter().filter(|sent| sent.turn == 1).all(|again| *again == sent[0]),
        "an attempt differs from the first"
    );
    let stalls = lakitu.events(thread).await.iter().filter(|event| event.body.name() == "stalled").count();
    assert_eq!(stalls, 1);
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_threads_wait_together_and_do_not_come_back_in_one_wave() {
    const AWAY: Duration = Duration::from_mins(10);
    let script = Script::new().says("Back.").after_ms(1_000);
    let patient = |parts: &mut lakitu_actors::runtime::Parts| parts.patience = Some(Patience::Endless);
    let lakitu = Harness::boot_with(Home::new(), Recorder::new(&script), Config::default(), patient).await;
    lakitu.gateway.goes_away_for(AWAY);
    let begun = Instant::now();
    let mut runs = Vec::new();
    for n in 0..64 {
        runs.push(lakitu.begin(&format!("thread {n}")).await.patient(2 * AWAY));
    }
    for run in &mut runs {
        until(run, "stalled").await;
        assert_eq!(status(&lakitu, run.thread).await, ThreadStatus::Waiting);
    }
    for run in runs {
        assert_eq!(run.end().await, Ok("Back.".to_owned()));
    }
    let arrivals = lakitu.gateway.arrivals();
    let back: Vec<Instant> = arrivals.iter().copied().filter(|at| at.duration_since(begun) >= AWAY).collect();
    let width = Duration::from_millis(100);
    let within = |from: &Instant| back.iter().filter(|at| *at >= from && at.duration_since(*from) < width).count();
    let wave = back.iter().map(within).max().unwrap();
    assert!(back.len() == 64 && wave <= 16, "{wave} of {} within 100 ms", back.len());
    // Before the breaker opened, and one probe at a time from then on.
    assert!(arrivals.len() - back.len() < 64 * 5 + 20, "{} requests", arrivals.len());
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_gives_up_within_ten_minutes_and_goes_on_when_it_is_resumed() {
    let lakitu = Harness::start(Script::new().says("Back.")).await;
    lakitu.gateway.goes_away_for(HOUR);
    let begun = Instant::now();
    let run = lakitu.begin("hello").await.patient(HOUR);
    let thread = run.thread;
    assert_eq!(run.end().await, Err(Ended::Checkpointed("gateway: GATEWAY_UNREACHABLE".to_owned())));
    let took = begun.elapsed();
    assert!(took > Duration::from_mins(8) && took <= Duration::from_mins(10), "{took:?}");
    let requests = lakitu.gateway.sent().len();
    assert!((10..70).contains(&requests), "{requests} requests");
    assert_eq!(status(&lakitu, thread).await, ThreadStatus::Checkpointed);

    lakitu.gateway.goes_away_for(Duration::ZERO);
    assert_eq!(lakitu.resume().await, Ok("Back.".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_unknown_is_replaced_for_the_rest_of_the_process() {
    let mut config = Config::default();
    config.gateway.fallback_models = vec!["other".to_owned()];
    let unknown = json!({ "fail": { "status": 404, "message": "the model `scripted` does not exist" } });
    let script = Script::new().turn(unknown).calls("file_read", json!({ "path": "a" })).says("Done.");
    let lakitu = Harness::start_with(script, config).await;

    assert_eq!(lakitu.prompt("read a").await, Ok("Done.".to_owned()));

    let model = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["model"].as_str().unwrap().to_owned();
    let models: Vec<String> = lakitu.gateway.sent().iter().map(|sent| model(&sent.body)).collect();
    assert_eq!(models, ["scripted", "other", "other"]);
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_no_model_is_left_the_thread_is_checkpointed() {
    let unknown = json!({ "fail": { "status": 404, "message": "the model `scripted` does not exist" } });
    let lakitu = Harness::start(Script::new().turn(unknown).says("Here.")).await;

    let refused = Err(Ended::Checkpointed("gateway: GATEWAY_REJECTED".to_owned()));
    assert_eq!(lakitu.prompt("hello").await, refused);
    assert_eq!(lakitu.resume().await, Ok("Here.".to_owned()));
    lakitu.end().await;
}
