//! Streams of events: cut anywhere, gone on with, nothing lost and nothing twice.

use lakitu_kernel::supervise::What;
use lakitu_kernel::{LiveEvent, ThreadId, Turn};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::client::{Client, Events};
use super::{Scene, client};
use crate::harness::Script;

const CLIENTS: u64 = 20;
const CUTS: u64 = 10;

/// A run of so many turns, each of which reads a file of its own and takes its time.
fn long_run(scene: &str, turns: usize, delay_ms: u64) -> Script {
    let turn = |script: Script, turn| {
        let call = json!({ "name": "file_read", "arguments": { "path": format!("{turn}.txt") } });
        script.turn(json!({ "text": format!("{scene} {turn}"), "tool_calls": [call], "delay_ms": delay_ms }))
    };
    (0..turns).fold(Script::new(), turn).says("done")
}

/// The next of a row of numbers that look random and are the same in each run.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// A reader that is cut off at random points, so many times.
pub(super) struct Reader {
    seed: u64,
    cuts: u64,
    /// The durable events that it heard.
    pub(super) heard: Vec<Value>,
    /// The last of them.
    pub(super) last: Option<u64>,
    /// How often it came.
    pub(super) came: u64,
}

impl Reader {
    pub(super) fn new(seed: u64, cuts: u64) -> Self {
        Self { seed, cuts, heard: Vec::new(), last: None, came: 0 }
    }

    /// Reads until it is cut off, behind at most so many frames; whether that was the end of the run.
    pub(super) async fn reads(&mut self, mut events: Events, most: u64) -> bool {
        let mut left = if self.cuts > 0 { 1 + next(&mut self.seed) % most } else { u64::MAX };
        while let Some(told) = events.next().await {
            if told.id.is_some() {
                self.last = told.id;
                self.heard.push(told.data);
                if told.event == "thread.completed" {
                    return true;
                }
            }
            left -= 1;
            if left == 0 {
                self.cuts -= 1;
                return false;
            }
        }
        false
    }
}

/// Reads a thread to the end of its run: its durable events, and how often it came.
async fn followed(client: Client, thread: ThreadId, seed: u64) -> (Vec<Value>, u64) {
    let mut reader = Reader::new(seed, CUTS);
    loop {
        reader.came += 1;
        match client.events(&format!("/v1/threads/{thread}/events"), reader.last).await {
            Ok(events) => {
                if reader.reads(events, 25).await {
                    return (reader.heard, reader.came);
                }
            }
            // The port is closed for a moment.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_readers_that_are_cut_off_ten_times_each_miss_nothing_and_hear_nothing_twice() {
    const TURNS: usize = 80;
    let scene = Scene::start(long_run("turn", TURNS, 5)).await;
    (0..TURNS).for_each(|turn| scene.lakitu.home.write(&format!("{turn}.txt"), &format!("text {turn}")));
    let thread = scene.thread("read them all").await;
    let mut readers = JoinSet::new();
    for seed in 1..=CLIENTS {
        // Each with a token of its own: how often one may ask is bounded.
        readers.spawn(followed(scene.client("api:read"), thread, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    }
    let mut events = scene.client.events(&format!("/v1/threads/{thread}/events"), None).await.ok().unwrap();
    for restart in 1..=2 {
        // Once it is well under way.
        for _ in 0..60 {
            if events.durable().await.is_none() {
                break;
            }
        }
        scene.lakitu.runtime().wiring.nodes.restart("/api").unwrap();
        scene.lakitu.has("/api", What::Started, 1 + restart).await;
        events = scene.client.events(&format!("/v1/threads/{thread}/events"), None).await.ok().unwrap();
    }
    let mut came = Vec::new();
    let mut heard = Vec::new();
    while let Some(reader) = crate::harness::soon(readers.join_next()).await {
        let (all, times) = reader.unwrap();
        heard.push(all);
        came.push(times);
    }
    let journal = scene.journal(thread).await;
    assert!(journal.len() > 5 * TURNS, "{}", journal.len());
    for all in heard {
        assert_eq!(all, journal);
    }
    assert!(came.iter().all(|times| *times > CUTS), "{came:?}");
    scene.end().await;
}

/// A reader with small buffers, so that what it does not read is soon noticed.
async fn narrow(client: &Client, path: &str) -> Events {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(client.at).await.unwrap();
    stream.write_all(client.head("GET", path, &[], None).as_bytes()).await.unwrap();
    client::stream(BufReader::new(stream)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_slow_misses_live_events_and_is_told_and_no_durable_one() {
    const TURNS: usize = 40;
    let scene = Scene::start(long_run(&"a few words more ".repeat(2000), TURNS, 5)).await;
    (0..TURNS).for_each(|turn| scene.lakitu.home.write(&format!("{turn}.txt"), "text"));
    let thread = scene.thread("talk").await;
    let path = format!("/v1/threads/{thread}/events");
    let mut slow = narrow(&scene.client, &path).await;
    // Much more than buffers hold is told live, while somebody else hears the run to its end.
    let (hub, text) = (&scene.lakitu.runtime().wiring.hub, "words ".repeat(300));
    let mut ended = Box::pin(scene.ended(thread));
    let end = loop {
        tokio::select! {
            biased;
            end = &mut ended => break end,
            () = tokio::task::yield_now() => {}
        }
        for index in 0..20 {
            hub.live(thread, LiveEvent::TextDelta { turn: Turn(1), index, text: text.clone() });
        }
    };
    drop(ended);
    assert_eq!(end, "completed");
    let (mut heard, mut gaps, mut live) = (Vec::new(), 0, 0);
    while let Some(told) = slow.next().await {
        match (told.id, &*told.event) {
            (Some(_), end) => {
                let end = end == "thread.completed";
                heard.push(told.data);
                if end {
                    break;
                }
            }
            (None, "gap") => {
                assert!(told.data["dropped"].as_u64().unwrap() > 0);
                gaps += 1;
            }
            (None, _) => live += 1,
        }
    }
    assert_eq!(heard, scene.journal(thread).await);
    assert!(gaps > 0, "{live} live events and no gap");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_where_it_is_asked_to() {
    let scene = Scene::start(Script::new().calls("file_read", json!({ "path": "a.txt" })).says("hello")).await;
    scene.lakitu.home.write("a.txt", "hello");
    let thread = scene.thread("read a.txt").await;
    scene.ended(thread).await;
    let path = format!("/v1/threads/{thread}/events");
    let length = scene.journal(thread).await.len() as u64;
    let cases: [(&str, Option<u64>, u64); 5] =
        [("", None, 1), ("?after=0", None, 1), ("?after=3", None, 4), ("", Some(2), 3), ("?after=4", Some(1), 2)];
    for (query, last, first) in cases {
        let mut events = scene.client.events(&format!("{path}{query}"), last).await.ok().unwrap();
        assert_eq!(events.durable().await.unwrap().id, Some(first), "{query} {last:?}");
        let header = |name: &str| events.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
        assert_eq!((header("content-type"), header("cache-control")), (Some("text/event-stream"), Some("no-store")));
    }
    // At its end there is nothing yet; behind its end is no place.
    scene.client.events(&format!("{path}?after={length}"), None).await.ok().unwrap();
    for (query, last) in [(format!("?after={}", length + 1), None), (String::new(), Some(length + 1))] {
        let refused = scene.client.events(&format!("{path}{query}"), last).await.err().unwrap().unwrap();
        assert_eq!(refused.error(), (409, "CONFLICT".to_owned()));
    }
    for wrong in ["x", "-1", "1.5", "", "99999999999999999999999"] {
        let answer = scene.client.ask("GET", &path, &[("Last-Event-ID", wrong)], b"").await;
        assert_eq!(answer.error(), (422, "INVALID_ARGUMENTS".to_owned()), "{wrong:?}");
    }
    assert_eq!(scene.client.get(&format!("{path}?since=3")).await.error().0, 422);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gives_signs_of_life_and_ends_with_its_token() {
    let scene = Scene::start(Script::new().says("hello")).await;
    let thread = scene.thread("say hello").await;
    scene.ended(thread).await;
    let token = scene.sign(|said| said.exp = said.iat + 120);
    let path = format!("/v1/threads/{thread}/events?after={}", scene.journal(thread).await.len());
    let mut events = scene.client_with(&token).events(&path, None).await.ok().unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = events.frame().await {
        frames.push(frame);
    }
    assert_eq!(frames[0], "retry: 1000");
    assert!(frames[1..].iter().all(|frame| frame == ":"), "{frames:?}");
    assert!((6..=8).contains(&frames[1..].len()), "every 15 s of two minutes: {}", frames.len());
    scene.end().await;
}
