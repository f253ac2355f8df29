//! A model on loopback that answers at once, so that all the time there is is ours. It keeps connections, and sends each
//! answer in one piece.
#![allow(clippy::disallowed_types, reason = "threads of a bench share what they count; there is no owner to ask")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::dialect::{Answer, Asked, Dialect, ShellTool, held};
use super::ms;
use super::report::Samples;

/// Nobody waits longer for the next request on a connection.
const IDLE_MAX: Duration = Duration::from_mins(5);
/// What is written for the turn in the command of a [`Play::Session`].
const TURN: &str = "{turn}";

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
    /// So many turns with a call of `bash`, then a text, in Chat Completions. The turn is the one that the
    /// `Idempotency-Key` names: bodies are not looked into.
    Turns {
        /// How many.
        turns: u32,
        /// The command; a comment with the turn is added, because the same call over and over is being stuck.
        command: Cow<'static, str>,
        /// Called before each answer.
        look: Option<Look>,
    },
    /// The same for any agent: in the protocol that it speaks, with the tool that it offers for commands. The turn
    /// follows from the history in the request. What offers no tools is answered, and no turn.
    Session {
        /// How many.
        turns: u32,
        /// The command; the turn is written for `{turn}` in it.
        command: Cow<'static, str>,
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
    heard: Mutex<Heard>,
}

/// What came since the play began.
#[derive(Default)]
struct Heard {
    requests: Vec<Request>,
    aside: BTreeMap<String, usize>,
    problem: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    /// Listens on a free port.
    pub(crate) fn start(play: Play) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("loopback")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared { play: Mutex::new(play), heard: Mutex::default() });
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
        *lock(&self.shared.heard) = Heard::default();
    }

    /// The requests since then, in the order of their turns.
    ///
    /// # Errors
    /// They are not each turn once.
    pub(crate) fn requests(&self, turns: u32) -> Result<Vec<Request>> {
        let requests = std::mem::take(&mut lock(&self.shared.heard).requests);
        let told: Vec<u32> = requests.iter().map(|request| request.turn).collect();
        ensure!(
            told.iter().copied().eq(1..=turns + 1),
            "turns 1 to {} once each are expected, not {told:?}",
            turns + 1
        );
        Ok(requests)
    }

    /// What was asked beside the conversation since then, and how often.
    pub(crate) fn aside(&self) -> BTreeMap<String, usize> {
        lock(&self.shared.heard).aside.clone()
    }

    /// The first request since then that could not be understood.
    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.shared.heard).problem.clone()
    }
}

/// From the end of an answer to the head of the next request, of turns `from` to `to`.
pub(crate) fn own_times(requests: &[Request], from: u32, to: u32) -> Samples {
    let pairs = requests.iter().zip(requests.iter().skip(1));
    let within = pairs.filter(|(asked, _)| (from..=to).contains(&asked.turn));
    within.map(|(asked, next)| ms(next.head_at - asked.answered_at)).collect()
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    let (mut buffer, mut body) = (vec![0; 64 * 1024], Vec::new());
    while let Some(head) = receive(&mut stream, &mut buffer, &mut body)? {
        let body_at = Instant::now();
        let play = lock(&shared.play).clone();
        let (turn, answer) = match &play {
            Play::Hold => {
                stream.write_all(&held())?;
                while stream.read(&mut buffer)? > 0 {}
                return Ok(());
            }
            Play::Turns { turns, command, look } => {
                let turn = head.turn.context("no Idempotency-Key with a turn")?;
                if let Some(look) = look {
                    look(turn);
                }
                let call = || ShellTool::bash().call(turn, &format!("{command} # {turn}"));
                let answer = if (1..=*turns).contains(&turn) { call() } else { Answer::Text };
                (Some(turn).filter(|turn| *turn > 0), Dialect::Chat.answer(&answer))
            }
            Play::Session { turns, command } => {
                let (turn, answer) = in_session(&head, &body, *turns, command).unwrap_or_else(|error| {
                    lock(&shared.heard).problem.get_or_insert_with(|| format!("{error:#}"));
                    (None, whole("400 Bad Request", ""))
                });
                if turn.is_none() {
                    *lock(&shared.heard).aside.entry(format!("{} {}", head.method, head.path)).or_default() += 1;
                }
                (turn, answer)
            }
        };
        // Before the write: it wakes the other side, which may run before this thread does again.
        let answered_at = Instant::now();
        if let Some(turn) = turn {
            let request = Request { turn, head_at: head.at, body_at, answered_at, bytes: head.bytes + body.len() };
            lock(&shared.heard).requests.push(request);
        }
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// The turn that a request of any agent asks for, if it is one of the conversation, and the answer to it.
fn in_session(head: &Head, body: &[u8], turns: u32, command: &str) -> Result<(Option<u32>, Vec<u8>)> {
    let Some(dialect) = Dialect::at(&head.path).filter(|_| head.method == "POST") else {
        return Ok((None, aside(&head.path)));
    };
    Ok(match dialect.read(body)? {
        Asked::Turn { turn, tool } if turn <= turns => {
            let command = command.replace(TURN, &turn.to_string());
            (Some(turn), dialect.answer(&tool.call(turn, &command)))
        }
        Asked::Turn { turn, .. } => (Some(turn), dialect.answer(&Answer::Text)),
        Asked::Text => (None, dialect.answer(&Answer::Text)),
    })
}

/// What agents ask for beside a model's answers: which models there are, and how many tokens something has.
fn aside(path: &str) -> Vec<u8> {
    let path = path.split('?').next().unwrap_or_default();
    if path.ends_with("/models") {
        let model = json!({ "id": "bench", "object": "model", "created": 0, "owned_by": "bench" });
        whole("200 OK", &json!({ "object": "list", "data": [model] }).to_string())
    } else if path.ends_with("/count_tokens") {
        whole("200 OK", &json!({ "input_tokens": 1000 }).to_string())
    } else {
        whole("404 Not Found", "")
    }
}

fn whole(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The head of a request.
struct Head {
    method: String,
    path: String,
    /// The turn that its `Idempotency-Key` names.
    turn: Option<u32>,
    /// When it was there.
    at: Instant,
    bytes: usize,
}

/// The next request. Its body is left in `body`.
fn receive(stream: &mut TcpStream, buffer: &mut [u8], body: &mut Vec<u8>) -> Result<Option<Head>> {
    let mut length = 0;
    let bytes = loop {
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
    let at = Instant::now();
    let text = String::from_utf8_lossy(&buffer[..bytes]);
    let header = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    ensure!(header("transfer-encoding").is_none(), "a request's body without its length");
    let expected: usize = header("content-length").map_or(Ok(0), |length| length.parse())?;
    let mut words = text.split(' ').map(str::to_owned);
    let (method, path) = words.next().zip(words.next()).context("no request line")?;
    let turn = header("idempotency-key").and_then(|key| key.rsplit_once(':')?.1.parse().ok());
    let here = length - bytes;
    ensure!(here <= expected, "a request behind a request");
    body.clear();
    body.extend_from_slice(&buffer[bytes..length]);
    body.resize(expected, 0);
    stream.read_exact(&mut body[here..]).context("a request's body broke off")?;
    Ok(Some(Head { method, path, turn, at, bytes }))
}
