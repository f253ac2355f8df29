//! A model on loopback that answers at once, so that all the time there is is ours. It speaks `OpenAI`'s streaming
//! protocol: chunked server-sent events on connections that are kept.
//!
//! The position is the turn that the `Idempotency-Key` names: turns up to the last call `bash`, the one behind it ends
//! the run with a text.
#![allow(clippy::disallowed_types, reason = "threads of a bench share what they count; there is no owner to ask")]

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// Nobody waits longer for the next request on a connection.
const IDLE_MAX: Duration = Duration::from_mins(5);

/// One request as it came, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// The turn that it asks for.
    pub(crate) turn: u32,
    /// When its head was there.
    pub(crate) head_at: Instant,
    /// When its body was there.
    pub(crate) body_at: Instant,
    /// Right before the answer was sent, in one piece.
    pub(crate) answered_at: Instant,
    /// Its head and body.
    pub(crate) bytes: usize,
}

/// What is looked at before an answer.
type Look = Arc<dyn Fn(u32) + Send + Sync>;

/// What the model does.
#[derive(Clone)]
pub(crate) enum Play {
    /// So many turns with a call, then a text.
    Turns {
        /// How many.
        turns: u32,
        /// The command; a comment with the turn is added, because the same call over and over is being stuck.
        command: Cow<'static, str>,
        /// Called before each answer.
        look: Option<Look>,
    },
    /// The beginning of an answer, and then nothing.
    Hold,
}

/// The server. Its threads end with the process.
pub(crate) struct Model {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    play: Mutex<Play>,
    requests: Mutex<Vec<Request>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    /// Listens on a free port.
    pub(crate) fn start(play: Play) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("loopback")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared { play: Mutex::new(play), requests: Mutex::new(Vec::new()) });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("model".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A connection that breaks off is the client's to explain. Small stacks: there may be a thousand.
                let connection = std::thread::Builder::new().stack_size(256 * 1024);
                let _ = connection.spawn(move || serve(stream, &shared));
            }
        })?;
        Ok(Self { address, shared })
    }

    /// The base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins another play, and forgets the requests so far.
    pub(crate) fn play(&self, play: Play) {
        *lock(&self.shared.play) = play;
        lock(&self.shared.requests).clear();
    }

    /// The requests since then, in the order of their turns.
    ///
    /// # Errors
    /// They are not each turn once.
    pub(crate) fn requests(&self, turns: u32) -> Result<Vec<Request>> {
        let requests = std::mem::take(&mut *lock(&self.shared.requests));
        let told: Vec<u32> = requests.iter().map(|request| request.turn).collect();
        ensure!(
            told.iter().copied().eq(1..=turns + 1),
            "turns 1 to {} once each are expected, not {told:?}",
            turns + 1
        );
        Ok(requests)
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    let mut buffer = vec![0; 64 * 1024];
    while let Some((turn, head_at, bytes)) = receive(&mut stream, &mut buffer)? {
        let body_at = Instant::now();
        let play = lock(&shared.play).clone();
        let answer = match &play {
            Play::Hold => {
                stream.write_all(&held())?;
                while stream.read(&mut buffer)? > 0 {}
                return Ok(());
            }
            Play::Turns { turns, command, look } => {
                if let Some(look) = look {
                    look(turn);
                }
                answer(turn, (turn <= *turns && turn > 0).then(|| format!("{command} # {turn}")))
            }
        };
        // Before the write: it wakes the other side, which may run before this thread does again.
        let answered_at = Instant::now();
        if turn > 0 {
            lock(&shared.requests).push(Request { turn, head_at, body_at, answered_at, bytes });
        }
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// The next request: its turn, when its head was there, its bytes.
fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<(u32, Instant, usize)>> {
    let mut length = 0;
    let head = loop {
        if let Some(end) = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(length < buffer.len(), "a request's head is over {} bytes", buffer.len());
        match stream.read(&mut buffer[length..])? {
            0 if length == 0 => return Ok(None),
            0 => bail!("a request broke off"),
            read => length += read,
        }
    };
    let head_at = Instant::now();
    let text = String::from_utf8_lossy(&buffer[..head]);
    let header = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let body: usize = header("content-length").context("no Content-Length")?.parse()?;
    let key = header("idempotency-key").context("no Idempotency-Key")?;
    let turn = key.rsplit_once(':').context("an Idempotency-Key without a turn")?.1.parse()?;
    let mut left = (head + body).checked_sub(length).context("a request behind a request")?;
    while left > 0 {
        let room = left.min(buffer.len());
        match stream.read(&mut buffer[..room])? {
            0 => bail!("a request's body broke off"),
            read => left -= read,
        }
    }
    Ok(Some((turn, head_at, head + body)))
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The answer of one turn: a call of `bash` or, without a command, a text.
fn answer(turn: u32, command: Option<String>) -> Vec<u8> {
    let (delta, finish) = match command {
        Some(command) => {
            let arguments = json!({ "command": command }).to_string();
            let function = json!({ "name": "bash", "arguments": arguments });
            let call = json!({ "index": 0, "id": format!("call_{turn}"), "type": "function", "function": function });
            (json!({ "tool_calls": [call] }), "tool_calls")
        }
        None => (json!({ "content": "Done." }), "stop"),
    };
    let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010 });
    let mut bytes = HEAD.to_vec();
    event(&mut bytes, &chunk(&json!({ "role": "assistant", "content": null }), None, None));
    event(&mut bytes, &chunk(&delta, None, None));
    event(&mut bytes, &chunk(&json!({}), Some(finish), Some(&usage)));
    framed(&mut bytes, b"data: [DONE]\n\n");
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// The beginning of an answer.
fn held() -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    event(&mut bytes, &chunk(&json!({ "role": "assistant", "content": "Hm" }), None, None));
    bytes
}

fn chunk(delta: &Value, finish: Option<&str>, usage: Option<&Value>) -> Value {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    json!({
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 0, "model": "bench", "choices": [choice],
        "usage": usage,
    })
}

fn event(bytes: &mut Vec<u8>, chunk: &Value) {
    framed(bytes, format!("data: {chunk}\n\n").as_bytes());
}

fn framed(bytes: &mut Vec<u8>, piece: &[u8]) {
    bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
    bytes.extend(piece);
    bytes.extend(b"\r\n");
}
