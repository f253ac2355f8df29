//! A server on loopback that answers as badly as a test wants.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "what a test keeps for itself needs no owner")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is done with one request.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// These bytes, one piece after the other; then the connection is kept for the next request.
    Keep(Vec<Vec<u8>>),
    /// These bytes, then the connection is closed.
    Close(Vec<Vec<u8>>),
    /// These bytes, then nothing more; the connection stays open.
    Stall(Vec<Vec<u8>>),
    /// These bytes, then the connection is reset.
    Reset(Vec<Vec<u8>>),
    /// These bytes, then the others one by one, so far apart.
    Dribble(Vec<u8>, Vec<u8>, Duration),
    /// The connection is closed without reading the request.
    Refuse,
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Its first line and its header lines.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// Which connection it came over.
    pub(crate) connection: usize,
}

impl Seen {
    pub(super) fn is_refresh(&self) -> bool {
        self.head.starts_with("POST /v1/token/refresh ")
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The server; it ends with the test.
pub(crate) struct Mock {
    pub(crate) base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Mock {
    /// A server that plays these, one a request, and refuses what comes behind them.
    pub(crate) async fn start(plays: Vec<Play>) -> Self {
        Self::start_with_refresh(plays, Vec::new()).await
    }

    /// The same, with others for `/v1/token/refresh`, which is not there behind them.
    pub(super) async fn start_with_refresh(plays: Vec<Play>, refresh: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let queue = |plays| Arc::new(Mutex::new(VecDeque::from(plays)));
        let (seen, plays, refresh) = (Arc::new(Mutex::new(Vec::new())), queue(plays), queue(refresh));
        let to = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let queues = [Arc::clone(&plays), Arc::clone(&refresh)];
                open.spawn(serve(stream, connection, queues, Arc::clone(&to)));
            }
        });
        Self { base, seen, server }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

type Plays = Arc<Mutex<VecDeque<Play>>>;

async fn serve(mut stream: TcpStream, connection: usize, queues: [Plays; 2], to: Arc<Mutex<Vec<Seen>>>) {
    let [plays, refresh] = queues;
    loop {
        let mut next = plays.lock().unwrap().front().cloned().unwrap_or(Play::Refuse);
        if matches!(next, Play::Refuse) && refresh.lock().unwrap().is_empty() {
            plays.lock().unwrap().pop_front();
            return;
        }
        let Some(mut seen) = request(&mut stream).await else { return };
        if seen.is_refresh() {
            let play = refresh.lock().unwrap().pop_front();
            next = play.unwrap_or_else(|| Play::Keep(vec![response("404 X", "", "")]));
        } else {
            plays.lock().unwrap().pop_front();
        }
        seen.connection = connection;
        to.lock().unwrap().push(seen);
        let played = match &next {
            Play::Keep(pieces) | Play::Close(pieces) | Play::Stall(pieces) | Play::Reset(pieces) => {
                write(&mut stream, pieces).await
            }
            Play::Dribble(head, bytes, apart) => dribble(&mut stream, head, bytes, *apart).await,
            Play::Refuse => return,
        };
        if played.is_err() {
            return;
        }
        match next {
            Play::Keep(_) => {}
            Play::Stall(_) => std::future::pending().await,
            Play::Reset(_) => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Play::Close(_) | Play::Dribble(..) | Play::Refuse => return,
        }
    }
}

async fn write(stream: &mut TcpStream, pieces: &[Vec<u8>]) -> std::io::Result<()> {
    for piece in pieces {
        stream.write_all(piece).await?;
        stream.flush().await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn dribble(stream: &mut TcpStream, head: &[u8], bytes: &[u8], apart: Duration) -> std::io::Result<()> {
    stream.write_all(head).await?;
    let mut ticks = tokio::time::interval(apart);
    for byte in bytes {
        ticks.tick().await;
        stream.write_all(&[*byte]).await?;
    }
    Ok(())
}

async fn request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut seen = Seen { head: String::from_utf8_lossy(&bytes[..head]).into_owned(), ..Seen::default() };
    let length: usize = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = bytes.split_off(head);
    Some(seen)
}

/// A response whose length is known.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// The same in chunks of this size.
pub(crate) fn chunked(body: &str, size: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
    for chunk in body.as_bytes().chunks(size) {
        pieces.push([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

/// The same with no length at all: it ends when the connection does.
pub(crate) fn endless(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{body}").into_bytes()
}
