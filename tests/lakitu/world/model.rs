//! A model behind a socket that says what a test wants, and counts what comes: requests, and streams under way.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::response;

/// What is answered to one request.
#[derive(Debug, Clone)]
pub(super) enum Say {
    /// These calls, each a tool and its arguments.
    Calls(Vec<(&'static str, Value)>),
    /// The last word.
    Text(String),
    /// Pieces of text, for as long as somebody reads them.
    Endless,
    /// Nothing, for as long as the connection stands.
    Silence,
    /// 503, and to be asked again at once.
    Away,
}

impl Say {
    pub(super) fn call(tool: &'static str, arguments: Value) -> Self {
        Self::Calls(vec![(tool, arguments)])
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What the model says: to which request of all, whose body this is.
type Play = dyn Fn(usize, &Value) -> Say + Send + Sync;

/// The server. Its threads end with the test's process.
pub(super) struct Model {
    pub(super) url: String,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Requests that came whole: how many, and the last.
    asked: Mutex<(usize, Value)>,
    /// Requests, from the moment at which their connection came.
    came: AtomicUsize,
    /// Answers under way.
    open: AtomicUsize,
}

impl Model {
    /// Listens on a free port.
    pub(super) fn start(play: impl Fn(usize, &Value) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (kept, play): (Arc<Kept>, Arc<Play>) = (Arc::default(), Arc::new(play));
        let serving = kept.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, play) = (serving.clone(), play.clone());
                kept.came.fetch_add(1, Ordering::SeqCst);
                kept.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    // Who hangs up is not wrong.
                    let _ = serve(stream, &kept, &*play);
                    kept.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, kept }
    }

    /// Connections so far: each is a request.
    pub(super) fn came(&self) -> usize {
        self.kept.came.load(Ordering::SeqCst)
    }

    /// Requests that came whole.
    pub(super) fn asked(&self) -> usize {
        self.kept.asked.lock().unwrap().0
    }

    /// What the last request weighs, in bytes.
    pub(super) fn last_bytes(&self) -> u64 {
        self.kept.asked.lock().unwrap().1.to_string().len() as u64
    }

    /// Answers that are under way.
    pub(super) fn open(&self) -> usize {
        self.kept.open.load(Ordering::SeqCst)
    }

    /// What was asked last: the contents of its messages behind the system's, one a line.
    pub(super) fn last(&self) -> String {
        let (_, last) = &*self.kept.asked.lock().unwrap();
        let messages = last["messages"].as_array().expect("a request");
        let said = messages.iter().skip(1).map(|message| message["content"].as_str().unwrap_or_default().to_owned());
        said.collect::<Vec<_>>().join("\n")
    }
}

fn serve(mut stream: TcpStream, kept: &Kept, play: &Play) -> std::io::Result<()> {
    let body = body(&mut stream)?;
    let number = {
        let mut asked = kept.asked.lock().unwrap();
        *asked = (asked.0 + 1, body.clone());
        asked.0
    };
    match play(number, &body) {
        Say::Calls(calls) => {
            let call = |(index, (name, arguments)): (usize, &(&str, Value))| {
                let function = json!({ "name": name, "arguments": arguments.to_string() });
                json!({ "index": index, "id": format!("call_{number}_{index}"), "type": "function", "function": function })
            };
            let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
            whole(&mut stream, &json!({ "tool_calls": calls }), "tool_calls")
        }
        Say::Text(text) => whole(&mut stream, &json!({ "content": text }), "stop"),
        Say::Away => stream.write_all(response("503 Away\r\nretry-after: 0", "{}").as_bytes()),
        Say::Endless => {
            begin(&mut stream)?;
            loop {
                chunk(&mut stream, &piece(&json!({ "content": "and so on " }), None))?;
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        Say::Silence => {
            begin(&mut stream)?;
            let mut rest = [0; 64];
            while stream.read(&mut rest)? > 0 {}
            Ok(())
        }
    }
}

fn whole(stream: &mut TcpStream, delta: &Value, finish: &str) -> std::io::Result<()> {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 10, "completion_tokens": 5 } });
    let text = piece(delta, None) + &piece(&json!({}), Some(finish)) + &format!("data: {usage}\n\ndata: [DONE]\n\n");
    stream.write_all(response("200 OK\r\ncontent-type: text/event-stream", &text).as_bytes())
}

fn piece(delta: &Value, finish: Option<&str>) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }))
}

fn begin(stream: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())
}

fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

fn body(stream: &mut TcpStream) -> std::io::Result<Value> {
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let lines = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = lines.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let body = &bytes[head + 4..];
            if length.is_none_or(|length: usize| body.len() >= length) {
                return Ok(serde_json::from_slice(body).unwrap_or_default());
            }
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
