//! What is sent to Anthropic, by the types of its SDK; and whether the mock in its place is one.

use std::sync::Arc;

use lakitu::adapters::{Dialect, HttpGateway, Secret, TokenSource, Upstream};
use lakitu_actors::gateway::anthropic::VERSION;
use lakitu_actors::tools::CATALOGUE;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest, SUFFIX, assistant, prefix, tool, user};
use lakitu_kernel::clock::System;
use lakitu_kernel::event::Call;
use lakitu_kernel::ports::Gateway;
use lakitu_kernel::{ThreadId, Turn};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::heard;
use crate::harness::soon;

/// Thinking, redacted thinking, text, two calls.
const STREAM: &str = include_str!("../../judges/messages.sse");

/// A request as it came, its head in small letters.
struct Asked {
    head: String,
    body: Vec<u8>,
}

/// Answers every request with the stream, and tells what was asked.
async fn mock(listener: TcpListener, asked: mpsc::Sender<Asked>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.spawn(answer(stream, asked.clone()));
    }
}

async fn answer(mut stream: TcpStream, asked: mpsc::Sender<Asked>) {
    let mut bytes = Vec::new();
    let head = loop {
        match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => assert!(stream.read_buf(&mut bytes).await.unwrap() > 0),
        }
    };
    let lines = String::from_utf8(bytes[..head].to_vec()).unwrap().to_ascii_lowercase();
    assert!(lines.starts_with("post /v1/messages http/1.1\r\n"), "{lines}");
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    while bytes.len() < head + length.parse::<usize>().unwrap() {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    asked.send(Asked { head: lines, body: bytes.split_off(head) }).await.unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close";
    let whole = format!("{head}\r\nContent-Length: {}\r\n\r\n{STREAM}", STREAM.len());
    stream.write_all(whole.as_bytes()).await.unwrap();
}

/// A conversation of three turns, each answered by the stream: what was sent for each, and the last answer.
async fn conversation(url: &str, asked: &mut mpsc::Receiver<Asked>) -> (Vec<Vec<u8>>, ModelAnswer) {
    let key = TokenSource::Value(Secret::new("sk-ant-key"));
    let gateway = HttpGateway::from(Upstream::new(url, Dialect::Anthropic, key, Arc::new(System)).unwrap());
    let mut body = vec![prefix("claude-sonnet-4-5", "You are a judge's witness.", CATALOGUE.0), user("look at ä.txt")];
    let (mut sent, mut last) = (Vec::new(), None);
    for turn in 1..=3 {
        let whole = [&body[..], &[SUFFIX.into()]].concat();
        let request =
            ModelRequest { thread: ThreadId(1), turn: Turn(turn), model: "claude-sonnet-4-5".into(), body: whole };
        let answer = soon(gateway.complete(request, Arc::new(|_| {}))).await.unwrap();
        let Asked { head, body: came } = soon(asked.recv()).await.unwrap();
        assert!(head.contains("\r\nx-api-key: sk-ant-key\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nanthropic-version: {VERSION}\r\n")), "{head}");
        sent.push(came);
        let call = |(at, call): (usize, &lakitu_kernel::chat::RawCall)| Call {
            call_id: format!("call_{turn}_{at}"),
            tool: call.name.clone(),
            arguments: call.arguments.clone(),
        };
        let calls: Vec<Call> = answer.calls.iter().enumerate().map(call).collect();
        body.push(assistant(&answer.text, &calls, answer.opaque.as_ref()));
        body.extend(calls.iter().map(|call| tool(&call.call_id, "a result\u{1b}")));
        if turn == 2 {
            body.push(user("and now?"));
        }
        last = Some(answer);
    }
    (sent, last.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_to_anthropic_is_of_its_types_and_its_sdk_reads_our_mock() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, mut asked) = mpsc::channel(8);
    let mut server = JoinSet::new();
    server.spawn(mock(listener, tell));
    let (sent, answer) = conversation(&url, &mut asked).await;
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = (1..)
        .zip(&sent)
        .map(|(turn, body)| {
            let path = folder.path().join(format!("{turn}.json"));
            std::fs::write(&path, body).unwrap();
            path
        })
        .collect();
    assert!(String::from_utf8_lossy(&sent[2]).contains("EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds/+="));
    let judged = tokio::task::spawn_blocking(move || {
        let said = heard("anthropic_types.py", |python| {
            python.arg(url).args(files);
        });
        serde_json::from_str::<Value>(&said).unwrap()
    });
    let judged = soon(judged).await.unwrap();
    drop(folder);
    let blocks = judged["content"].as_array().unwrap();
    let kinds: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(blocks[2]["text"], *answer.text);
    for (block, call) in blocks[3..].iter().zip(&answer.calls) {
        assert_eq!(block["name"], *call.name);
        assert_eq!(block["input"], serde_json::from_str::<Value>(&call.arguments).unwrap());
    }
}
