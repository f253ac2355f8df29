//! The file of a session's token, while a command looks for what is in it: by the real binary, beside a gateway that
//! refreshes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Binary, Fifo, Ran, Running, response};
use crate::up::until;

/// A session's token of which so many of its 3,600 seconds are over.
fn token(age: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let payload = json!({ "aud": "lakitu-gateway", "iat": now - age, "exp": now - age + 3600, "sub": "canary" });
    format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

/// A gateway whose model runs one command and is then through. A refresh is answered when the test gives the token.
struct Gateway {
    url: String,
    fresh: Sender<String>,
    /// The tokens that model calls came with.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn start(command: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ((fresh, given), seen) = (channel(), Arc::default());
        let (given, turns) = (Arc::new(Mutex::new(given)), [runs(command), says("Through.")]);
        let heard = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (given, heard, turns) = (Arc::clone(&given), Arc::clone(&heard), turns.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &given, &heard, &turns));
            }
        });
        Self { url, fresh, seen }
    }
}

fn answer(mut stream: TcpStream, given: &Mutex<Receiver<String>>, seen: &Mutex<Vec<String>>, turns: &[String]) {
    let (mut request, mut piece) = (Vec::new(), [0; 65536]);
    let head = loop {
        let read = stream.read(&mut piece).unwrap();
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            break head.to_owned();
        }
        assert!(read > 0, "{text:?}");
    };
    let answer = if head.starts_with("POST /v1/token/refresh") {
        let token = given.lock().unwrap().recv().unwrap();
        response("200 OK", &json!({ "token": token }).to_string())
    } else {
        let mut seen = seen.lock().unwrap();
        let bearer = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap();
        seen.push(bearer.to_owned());
        response("200 OK\r\ncontent-type: text/event-stream", &turns[seen.len() - 1])
    };
    stream.write_all(answer.as_bytes()).unwrap();
    // Its body may still be coming, and a reset would take the answer along.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    while stream.read(&mut piece).is_ok_and(|read| read > 0) {}
}

fn runs(command: &str) -> String {
    let arguments = json!({ "command": command }).to_string();
    let call = json!({ "index": 0, "id": "call_1", "function": { "name": "bash", "arguments": arguments } });
    stream(&json!({ "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }))
}

fn says(text: &str) -> String {
    stream(&json!({ "delta": { "content": text }, "finish_reason": "stop" }))
}

fn stream(choice: &Value) -> String {
    format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [choice] }))
}

/// A run whose command looks at these paths all the time, until the test lets it go, and then once more.
struct Scene {
    binary: Binary,
    gateway: Gateway,
    gate: Fifo,
    path: PathBuf,
    old: String,
}

impl Scene {
    fn new(path: &str, looks: &str) -> Self {
        let binary = Binary::new();
        let path = binary.home.path().join(path);
        let (gate, old) = (Fifo::new(&binary.workspace(), "gate"), token(3000));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &old).unwrap();
        let command = format!(
            "until test -e over; do cat {looks}; done 2>/dev/null & read -r _ <gate; touch over; wait; \
             cat {looks} 2>/dev/null; rm over; echo looked"
        );
        Self { gateway: Gateway::start(&command), binary, gate, path, old }
    }

    fn begin(&self) -> Running {
        let path = self.path.display().to_string();
        let run = ["run", "look", "--gateway", &self.gateway.url, "--token-file", &path, "--output", "stream-json"];
        self.binary.begin(&run)
    }

    fn refreshed(&self, token: &str) {
        self.gateway.fresh.send(token.to_owned()).unwrap();
        until("the token is replaced", || std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == token));
    }
}

/// The command saw nothing, whatever it looked at.
fn nothing_was_seen(ran: &Ran) {
    assert_eq!(ran.exit, 0, "{ran:?}");
    let result = ran.lines().into_iter().find(|line| line["type"] == "tool.result").unwrap();
    assert_eq!(result["output"], "looked\n[exit 0]", "{result}");
}

/// Whatever stands in the way of a token to be found.
const BESIDE: &str = "../token ../.token* ../.token.lakitu/* ../.token.lakitu/token ../.token.lakitu/next";

#[tokio::test]
async fn a_command_sees_no_token_before_while_and_after_it_is_refreshed() {
    let scene = Scene::new("token", BESIDE);
    let running = scene.begin();
    let door = scene.gate.reached().await;
    let fresh = token(0);
    scene.refreshed(&fresh);
    door.open();
    nothing_was_seen(&running.end());
    assert_eq!(*scene.gateway.seen.lock().unwrap(), [scene.old, fresh]);
}

#[tokio::test]
async fn a_command_sees_no_token_that_somebody_else_puts_into_a_directory_of_its_own() {
    let scene = Scene::new("secrets/token", "../secrets/* ../secrets/.token*");
    let running = scene.begin();
    let door = scene.gate.reached().await;
    let another = token(1);
    for name in [".token.new", ".token.tmp"] {
        let temporary = scene.path.with_file_name(name);
        std::fs::write(&temporary, &another).unwrap();
        std::fs::rename(&temporary, &scene.path).unwrap();
    }
    door.open();
    nothing_was_seen(&running.end());
    assert_eq!(*scene.gateway.seen.lock().unwrap(), [scene.old, another]);
}

/// The next start finds a link where the file was.
#[tokio::test]
async fn a_token_that_was_refreshed_stays_out_of_sight_in_the_next_run() {
    let mut scene = Scene::new("token", BESIDE);
    let running = scene.begin();
    let door = scene.gate.reached().await;
    let (second, third) = (token(2950), token(0));
    scene.refreshed(&second);
    door.open();
    nothing_was_seen(&running.end());
    assert!(scene.path.is_symlink());

    let command = format!("read -r _ <gate; cat {BESIDE} 2>/dev/null; echo looked");
    scene.gateway = Gateway::start(&command);
    let running = scene.begin();
    let door = scene.gate.reached().await;
    scene.refreshed(&third);
    door.open();
    nothing_was_seen(&running.end());
}

#[test]
fn who_shares_a_directory_with_the_token_is_told_what_that_means() {
    let told = |token: &str| {
        let binary = Binary::new().env("LAKITU__API__BIND", "127.0.0.1:0");
        let path = binary.home.path().join(token).display().to_string();
        let home = binary.home.path().join("artifacts").display().to_string();
        let workspace = binary.workspace().display().to_string();
        let flags = ["--gateway", "http://127.0.0.1:9", "--token-file", &path];
        let up = ["up", "--workspace", &workspace, "--artifacts", &home];
        let mut up = binary.begin(&[&up[..], &flags].concat());
        assert!(up.line().starts_with("lakitu ready"));
        up.signal(rustix::process::Signal::TERM);
        let (up, doctor) = (up.end(), binary.run(&[&["doctor", "--json"][..], &flags].concat()).object());
        let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "token file").unwrap();
        assert!(Path::new(&path).parent().unwrap().is_dir());
        (up.err.contains("a directory of its own"), check["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(told("token"), (true, "note".to_owned()));
    assert_eq!(told("secrets/token"), (false, "ok".to_owned()));
}
