//! A small HTTP client, so that what is sent is what a test says, and a cut is a cut.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::harness::soon;

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Lines, in small letters up to the colon.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} {:?}", self.text()))
    }

    /// Status and code of an error that is one.
    #[track_caller]
    pub(super) fn error(&self) -> (u16, String) {
        let json = self.json();
        assert!(json["error"]["message"].as_str().is_some_and(|text| text.len() > 5), "{json}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        (self.status, json["error"]["code"].as_str().unwrap().to_owned())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Whom to ask, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) at: SocketAddr,
    pub(super) token: Option<String>,
}

impl Client {
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = self.head(method, path, &[headers, &[("Connection", "close")]].concat(), Some(body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has heard enough may have answered already.
        let _ = stream.write_all(body).await;
        let mut stream = BufReader::new(stream);
        soon(read(&mut stream)).await.expect("an answer")
    }

    pub(super) fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: Option<usize>) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.at));
        }
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length.filter(|length| *length > 0 || method == "POST") {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head + "\r\n"
    }

    /// Opens a stream of events, or says why there is none.
    pub(super) async fn events(&self, path: &str, last: Option<u64>) -> Result<Events, Option<Answer>> {
        let Ok(mut stream) = TcpStream::connect(self.at).await else { return Err(None) };
        let last = last.map(|last| last.to_string());
        let headers: Vec<(&str, &str)> = last.iter().map(|last| ("Last-Event-ID", &**last)).collect();
        if stream.write_all(self.head("GET", path, &headers, None).as_bytes()).await.is_err() {
            return Err(None);
        }
        let mut stream = BufReader::new(stream);
        let Some((status, headers)) = soon(head(&mut stream)).await else { return Err(None) };
        if status == 200 {
            return Ok(Events { stream, text: String::new(), headers });
        }
        let body = rest(&mut stream, &headers).await.unwrap_or_default();
        Err(Some(Answer { status, headers, body }))
    }
}

type Headers = Vec<(String, String)>;

/// The stream that this connection was asked for.
pub(super) async fn stream(mut stream: BufReader<TcpStream>) -> Events {
    let (status, headers) = soon(head(&mut stream)).await.expect("an answer");
    assert_eq!(status, 200);
    Events { stream, text: String::new(), headers }
}

/// A whole answer; nothing where the connection ended before.
pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> Option<Answer> {
    let (status, headers) = head(stream).await?;
    let body = rest(stream, &headers).await?;
    Some(Answer { status, headers, body })
}

async fn head(stream: &mut BufReader<TcpStream>) -> Option<(u16, Headers)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Some((status, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn rest(stream: &mut BufReader<TcpStream>, headers: &Headers) -> Option<Vec<u8>> {
    let named = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if named("transfer-encoding") == Some("chunked") {
        while let Some(piece) = chunk(stream).await? {
            body.extend(piece);
        }
    } else {
        body.resize(named("content-length").map_or(0, |length| length.parse().unwrap()), 0);
        stream.read_exact(&mut body).await.ok()?;
    }
    Some(body)
}

/// A chunk; an empty one ends the body. Nothing where the connection ended before.
async fn chunk(stream: &mut BufReader<TcpStream>) -> Option<Option<Vec<u8>>> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let length = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut piece = vec![0; length + 2];
    stream.read_exact(&mut piece).await.ok()?;
    piece.truncate(length);
    Some(Some(piece).filter(|piece| !piece.is_empty()))
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) id: Option<u64>,
    pub(super) event: String,
    pub(super) data: Value,
}

/// An open stream.
pub(super) struct Events {
    stream: BufReader<TcpStream>,
    text: String,
    pub(super) headers: Headers,
}

impl Events {
    /// The next event; nothing: the stream has ended. Comments are passed over.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            let frame = self.frame().await?;
            if let Some(told) = told(&frame) {
                return Some(told);
            }
        }
    }

    /// The next frame as it came.
    pub(super) async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(frame);
            }
            let piece = soon(chunk(&mut self.stream)).await??;
            self.text.push_str(std::str::from_utf8(&piece).expect("whole characters in each piece"));
        }
    }

    /// The next durable event.
    pub(super) async fn durable(&mut self) -> Option<Told> {
        loop {
            let told = self.next().await?;
            if told.id.is_some() {
                return Some(told);
            }
        }
    }
}

fn told(frame: &str) -> Option<Told> {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let told = Told {
        id: field("id").map(|id| id.parse().unwrap()),
        event: field("event")?.to_owned(),
        data: serde_json::from_str(field("data")?).unwrap(),
    };
    // A table's change is of a commit, what a thread tells an event of its journal.
    if told.event != "change" {
        assert_eq!(told.data["type"], *told.event, "{frame}");
        assert_eq!(told.data["seq"].as_u64(), told.id, "{frame}");
    }
    Some(told)
}
