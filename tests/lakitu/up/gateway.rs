//! A gateway that is not there yet, or does not believe the token yet: the run waits, and goes on by itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::{Heard, Up, until_status};
use crate::harness::response;

const ANSWER: &str =
    "data: {\"choices\":[{\"delta\":{\"content\":\"Back.\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// A server that hangs up on everybody until it is told to come back, and then answers one request.
struct Mock {
    url: String,
    come_back: std::sync::mpsc::Sender<()>,
    server: JoinHandle<()>,
}

impl Mock {
    fn away() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (come_back, back) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                if back.try_recv().is_ok() {
                    return answer(stream);
                }
            }
        });
        Self { url, come_back, server }
    }
}

fn answer(mut stream: TcpStream) {
    let mut piece = [0; 65536];
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut piece).unwrap();
        request.extend_from_slice(&piece[..read]);
    }
    stream.write_all(response("200 OK\r\ncontent-type: text/event-stream", ANSWER).as_bytes()).unwrap();
    // Its body may still be coming, and a reset would take the answer along.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    while stream.read(&mut piece).is_ok_and(|read| read > 0) {}
}

#[test]
fn a_gateway_that_is_away_is_waited_for_beyond_all_patience() {
    let mock = Mock::away();
    // What would be used up at the first failure.
    let binary = super::binary().env("LAKITU__LIMITS__MODEL_ATTEMPTS", "1").env("LAKITU__LIMITS__MODEL_RETRY_MS", "0");
    let up = Up::with(&binary, &["--gateway", &mock.url]);
    let mut run = Heard::begin(&binary, &["run", "hello"]);
    for _ in 0..3 {
        run.until("retry");
    }
    mock.come_back.send(()).unwrap();
    // What the model says is heard while it says it.
    run.until("text.delta");
    let (exit, result) = run.end();
    assert_eq!((exit, result["text"].as_str()), (0, Some("Back.")), "{result}");
    mock.server.join().unwrap();
    up.stop();
}

#[test]
fn a_token_that_comes_later_is_waited_for() {
    let mock = Mock::away();
    mock.come_back.send(()).unwrap();
    let binary = super::binary();
    // Its directory is not there either: it is made, so that it is hidden when the token comes.
    let token = binary.home.path().join("secrets/token");
    let up = Up::with(&binary, &["--gateway", &mock.url, "--token-file", &token.display().to_string()]);
    let mut run = Heard::begin(&binary, &["run", "hello"]);
    run.until("retry");
    let id = run.thread();
    std::fs::write(&token, "a-token-that-came-later").unwrap();
    let (exit, result) = run.end();
    assert_eq!((exit, result["text"].as_str()), (0, Some("Back.")), "{result}");
    until_status(&binary, &id, "completed");
    mock.server.join().unwrap();
    up.stop();
}
