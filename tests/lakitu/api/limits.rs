//! Bounds, each at its limit and one past it.

use lakitu_kernel::limits::{API_BODY_BYTES_MAX, API_CONNECTIONS_MAX, API_REQUESTS_BURST, API_STREAMS_MAX};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Scene, client};
use crate::harness::{Script, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_a_mebibyte_is_read_and_one_byte_more_is_not() {
    let scene = Scene::start(Script::new()).await;
    let path = "/v1/threads/thr_00000000000000000000000001/messages";
    let frame = json!({ "prompt": "" }).to_string().len();
    for (bytes, status, code) in [
        (API_BODY_BYTES_MAX, 404, "THREAD_NOT_FOUND"),
        (API_BODY_BYTES_MAX + 1, 413, "BODY_TOO_LARGE"),
        (8 * API_BODY_BYTES_MAX, 413, "BODY_TOO_LARGE"),
    ] {
        let answer = scene.client.post(path, &json!({ "prompt": "x".repeat(bytes - frame) })).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{bytes}");
    }
    let over = json!({ "prompt": "x", "metadata": { "x": "y".repeat(16 * 1024) } });
    assert_eq!(scene.client.post("/v1/threads", &over).await.error().0, 422);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_asks_too_often_is_told_to_wait_and_another_one_is_not() {
    let scene = Scene::start(Script::new()).await;
    let begun = std::time::Instant::now();
    let mut stream = BufReader::new(TcpStream::connect(scene.client.at).await.unwrap());
    let head = scene.client.head("GET", "/v1/threads/x", &[], None);
    let asked = API_REQUESTS_BURST as usize * 4;
    let (mut let_in, mut sent_away) = (0, 0);
    for _ in 0..asked {
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = soon(client::read(&mut stream)).await.unwrap();
        match answer.status {
            404 => let_in += 1,
            429 => {
                assert_eq!(answer.error().1, "TOO_MANY_REQUESTS");
                assert_eq!(answer.header("retry-after"), Some("1"));
                sent_away += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let refilled = begun.elapsed().as_millis() as usize / 20 + 1;
    let burst = API_REQUESTS_BURST as usize;
    assert!((burst..=burst + refilled).contains(&let_in), "{let_in} of {asked}, {refilled} came in time");
    assert_eq!(let_in + sent_away, asked);
    assert_eq!(scene.client("api:read").get("/v1/threads").await.status, 200);
    assert_eq!(scene.client.get("/health").await.status, 200, "who needs no token is not counted");
    scene.end().await;
}

/// Connections have two ends in this process.
fn many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_connections_and_no_more_and_a_place_that_is_left_is_taken() {
    many_descriptors();
    let scene = Scene::start(Script::new()).await;
    let mut open = Vec::new();
    for _ in 0..API_CONNECTIONS_MAX {
        open.push(TcpStream::connect(scene.client.at).await.unwrap());
    }
    let mut refused = BufReader::new(TcpStream::connect(scene.client.at).await.unwrap());
    refused.write_all(scene.client.head("GET", "/health", &[], None).as_bytes()).await.unwrap();
    let answer = soon(client::read(&mut refused)).await.unwrap();
    assert_eq!(answer.error(), (503, "UNAVAILABLE".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    // The last one that was let in is served, and so is who comes when one has left.
    let last = open.pop().unwrap();
    drop(open);
    let mut last = BufReader::new(last);
    last.write_all(scene.client.head("GET", "/health", &[], None).as_bytes()).await.unwrap();
    assert_eq!(soon(client::read(&mut last)).await.unwrap().status, 200);
    loop {
        if scene.lakitu.runtime().wiring.nodes.inspect("/api").unwrap().gauges["connections"] < 10 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.client.get("/health").await.status, 200);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_leave_room_for_somebody_who_looks_after_it() {
    many_descriptors();
    let scene = Scene::start(Script::new().says("hello")).await;
    let thread = scene.thread("say hello").await;
    scene.ended(thread).await;
    let path = format!("/v1/threads/{thread}/events");
    let mut open = Vec::new();
    let mut client = scene.client("api:read");
    for stream in 0..API_STREAMS_MAX {
        if stream % (API_REQUESTS_BURST as usize - 10) == 0 {
            client = scene.client("api:read");
        }
        let mut events = client.events(&path, None).await.ok().unwrap();
        assert_eq!(events.durable().await.unwrap().id, Some(1));
        open.push(events);
    }
    let client = scene.client("api:read");
    assert_eq!(client.get(&path).await.error(), (429, "TOO_MANY_REQUESTS".to_owned()));
    assert_eq!(client.get("/v1/actors").await.status, 200);
    drop(open.pop());
    while client.events(&path, None).await.is_err() {
        tokio::task::yield_now().await;
    }
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_begins_a_request_has_to_end_it() {
    let scene = Scene::start(Script::new()).await;
    let connect = async || TcpStream::connect(scene.client.at).await.unwrap();
    let mut rest = Vec::new();
    let mut silent = connect().await;
    assert_eq!(soon(silent.read_to_end(&mut rest)).await.unwrap(), 0, "nothing was asked");
    let mut half = connect().await;
    half.write_all(b"GET /health HT").await.unwrap();
    soon(half.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    let mut slow = BufReader::new(connect().await);
    let head = scene.client.head("POST", "/v1/threads", &[("Content-Type", "application/json")], Some(100));
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(b"{\"prompt\":").await.unwrap();
    assert_eq!(soon(client::read(&mut slow)).await.unwrap().error(), (408, "TIMEOUT".to_owned()));
    scene.end().await;
}
