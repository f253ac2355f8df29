//! A server on loopback that gives whatever answers a test wants, one a connection.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;

/// Gives these answers, each to one request, and ends. Returns its URL, and the requests once it ended.
pub(crate) fn answering(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 65536];
            while !is_whole(&request) {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "the request broke off");
                request.extend_from_slice(&piece[..read]);
            }
            requests.push(String::from_utf8_lossy(&request).into_owned());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        requests
    });
    (url, server)
}

/// A response that ends with its connection's next request.
pub(crate) fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

/// A port of loopback that is free, as `:PORT`, and stays so while nobody listens: the system gives none of these to
/// connections.
pub(crate) fn free_port() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests that run at the same time in other processes begin elsewhere.
    let from = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = from + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!(":{port}");
        }
    }
}
