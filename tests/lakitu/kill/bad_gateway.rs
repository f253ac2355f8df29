//! A gateway that fails three times in ten, asked by a binary that is killed: every turn is paid once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lakitu_kernel::ErrorCode;
use serde_json::{Value, json};

use super::binary::Binary;
use super::dice::Dice;
use super::pool;

const TURNS: usize = 10;
const RUNS: u64 = 8;
/// Of ten requests.
const FAIL: u64 = 3;
const LIFE_MS_MAX: u64 = 400;

/// What was asked under each key.
#[derive(Default)]
struct Asked {
    bodies: BTreeMap<String, BTreeSet<Vec<u8>>>,
    requests: usize,
    failed: usize,
}

/// Answers every connection once, well or not. It lives as long as the process: tests have no other end for it.
fn serve(seed: u64) -> (String, Arc<Mutex<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Asked::default()));
    let (kept, dice) = (asked.clone(), Arc::new(Mutex::new(Dice::new(seed))));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (kept, dice) = (kept.clone(), dice.clone());
            // A client that was killed is no failure of the test.
            std::thread::spawn(move || drop(answer(stream, &kept, &dice)));
        }
    });
    (url, asked)
}

fn answer(mut stream: TcpStream, asked: &Mutex<Asked>, dice: &Mutex<Dice>) -> std::io::Result<()> {
    let (head, body) = request(&mut stream)?;
    let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap_or("none").trim().to_owned();
    let body_json: Value = serde_json::from_slice(&body).unwrap();
    let messages = body_json["messages"].as_array().unwrap();
    let turn = messages.iter().filter(|message| message["role"] == "assistant").count() + 1;
    let whole = events(turn);
    let (fails, kind, at) = {
        let mut dice = dice.lock().unwrap();
        (dice.below(10) < FAIL, dice.below(5), usize::try_from(dice.below(whole.len() as u64)).unwrap())
    };
    {
        let mut asked = asked.lock().unwrap();
        asked.requests += 1;
        asked.failed += usize::from(fails);
        asked.bodies.entry(key).or_default().insert(body);
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let error = "data: {\"error\":{\"code\":502,\"message\":\"gone\"}}\n\n";
    let sent = match (fails, kind) {
        (false, _) => format!("{head}{whole}"),
        (true, 0) => "HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        (true, 1) => "HTTP/1.1 429 X\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        (true, 2) => String::new(),
        (true, 3) => format!("{head}{}", &whole[..at]),
        (true, _) => format!("{head}{error}data: [DONE]\n\n"),
    };
    stream.write_all(sent.as_bytes())
}

fn request(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        if bytes.len() >= end + 4 + length.unwrap() {
            // The key is an id of upper case; only the names of headers are not told apart by it.
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            return Ok((head, bytes[end + 4..].to_vec()));
        }
    }
}

/// A turn's whole stream: one command each, then a last word.
fn events(turn: usize) -> String {
    let event = |delta: Value, finish: Option<&str>| {
        let chunk = json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
        format!("data: {chunk}\n\n")
    };
    let end = "data: [DONE]\n\n";
    if turn > TURNS {
        return event(json!({ "content": "That was it." }), Some("stop")) + end;
    }
    let arguments = json!({ "command": format!("echo x >> marks/{turn}") }).to_string();
    let (first, last) = arguments.split_at(arguments.len() / 2);
    let piece = |piece: &str| json!({ "tool_calls": [{ "index": 0, "function": { "arguments": piece } }] });
    let name = json!({ "tool_calls": [{ "index": 0, "id": format!("call_{turn}"), "function": { "name": "bash" } }] });
    event(json!({ "content": format!("Turn {turn}. ") }), None)
        + &event(name, None)
        + &event(piece(first), None)
        + &event(piece(last), None)
        + &event(json!({}), Some("tool_calls"))
        + end
}

#[test]
fn every_turn_is_asked_under_one_key_with_one_body_through_failures_and_kills() {
    let seeds: Vec<u64> = (1..=RUNS).collect();
    let figures = Mutex::new([0; 4]);
    pool::each(&seeds, |seed| format!("seed {seed}"), |seed| killed_until_through(*seed, &figures));
    let [keys, requests, failed, kills] = figures.into_inner().unwrap();
    println!("{keys} turns: {keys} keys, {requests} requests, {failed} of them failed, {kills} kills");
}

fn killed_until_through(seed: u64, figures: &Mutex<[usize; 4]>) {
    let (url, asked) = serve(seed);
    let mut binary = Binary::new(&json!({ "turns": [] }));
    binary.asks(&url);
    binary.set("LAKITU__KEEPER__LEASE_MS", 20_000);
    let mut dice = Dice::new(seed + 1000);
    let (mut args, mut kills) = (["run", "go"].as_slice(), 0);
    loop {
        let mut process = binary.start(args);
        // The first few are killed; then it may come to its end.
        let life = if kills < 6 { Duration::from_millis(dice.below(LIFE_MS_MAX)) } else { super::binary::PATIENCE };
        let ended = if process.hear_until(Instant::now() + life) { process.kill() } else { process.end() };
        match ended.code() {
            None => {
                kills += 1;
                args = &["resume"];
            }
            Some(2) => args = &["run", "go"],
            code => {
                assert_eq!(code, Some(0), "{ended:?}");
                break;
            }
        }
    }
    let journal = binary.journal().unwrap();
    journal.assert_completed(TURNS);
    let unknown = journal.with_code(ErrorCode::Interrupted);
    let marks: Vec<usize> = (1..=TURNS).map(|turn| binary.marks(&turn.to_string())).collect();
    assert!(marks.iter().all(|marks| *marks <= 1), "a call ran twice: {marks:?}");
    assert!(marks.iter().filter(|marks| **marks == 0).count() <= unknown, "a call was lost: {marks:?}");
    let asked = asked.lock().unwrap();
    let id = journal.row.id.to_string();
    let (own, others): (Vec<_>, Vec<_>) = asked.bodies.iter().partition(|(key, _)| key.starts_with(&id));
    let expected: BTreeSet<String> = (1..=TURNS + 1).map(|turn| format!("{id}:{turn}")).collect();
    assert_eq!(own.iter().map(|(key, _)| (*key).clone()).collect::<BTreeSet<_>>(), expected);
    assert!(own.iter().all(|(_, bodies)| bodies.len() == 1), "a key with two bodies");
    // Of a thread that was killed before anything of it was durable, its first request may have left.
    assert!(others.iter().all(|(key, _)| key.ends_with(":1")), "{:?}", asked.bodies.keys());
    let mut figures = figures.lock().unwrap();
    for (sum, more) in figures.iter_mut().zip([TURNS + 1, asked.requests, asked.failed, kills]) {
        *sum += more;
    }
}
