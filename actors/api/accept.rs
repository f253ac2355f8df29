//! Connections: who is let in, how long a request's head may take, how all of them end.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lakitu_kernel::limits::API_CONNECTIONS_MAX;
use lakitu_kernel::supervise::{Me, boxed};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::ApiMsg;

/// Until a request's head is there.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// Without anything taken in by the other side. Nothing else would notice one that does not read.
const READER_DEADLINE_MS: u32 = 60_000;
/// Where no connection can be had (no descriptors are left), before the next one is tried.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that are told that there is no place for them; who comes when even these are so many is told nothing.
const TURNED_AWAY_MAX: usize = 64;
/// For how long such a one is heard out.
const TURNED_AWAY_DEADLINE: Duration = Duration::from_secs(1);
/// What it is told.
const NO_PLACE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 88\r\n\
     Retry-After: 1\r\nConnection: close\r\n\r\n\
     {\"error\":{\"code\":\"UNAVAILABLE\",\"message\":\"too many connections: try again in a moment\"}}";

/// The listener and its connections.
pub(super) struct Accepting {
    listener: TcpListener,
    router: Router,
    me: Me<ApiMsg>,
    closing: watch::Receiver<bool>,
    open: JoinSet<()>,
    refused: u64,
}

impl Accepting {
    pub(super) fn new(listener: TcpListener, router: Router, me: Me<ApiMsg>, closing: watch::Receiver<bool>) -> Self {
        Self { listener, router, me, closing, open: JoinSet::new(), refused: 0 }
    }

    /// Until the port is closed; then until requests under way have their answers.
    pub(super) async fn run(self) {
        let Self { listener, router, me, mut closing, mut open, mut refused } = self;
        let (told, mut turned_away) = (closing.clone(), JoinSet::new());
        loop {
            tokio::select! {
                biased;
                () = closed(&mut closing) => break,
                // First the places that became free, then who wants one.
                Some(_) = open.join_next() => me.gauge(0, open.len() as u64),
                Some(_) = turned_away.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if open.len() < API_CONNECTIONS_MAX => {
                        open.spawn(boxed(serve_connection(stream, router.clone(), told.clone(), HEAD_DEADLINE)));
                        me.gauge(0, open.len() as u64);
                    }
                    Ok((stream, _)) => {
                        if turned_away.len() < TURNED_AWAY_MAX {
                            turned_away.spawn(boxed(turn_away(stream)));
                        }
                        refused += 1;
                        me.gauge(1, refused);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be taken in");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
        // The port is free before the last answers are sent.
        drop(listener);
        while open.join_next().await.is_some() {}
    }
}

/// Says that there is no place. What the other side sends is read until it has heard that: closing over unread bytes
/// would take the answer back.
async fn turn_away(mut stream: TcpStream) {
    let told = async {
        stream.write_all(NO_PLACE.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(TURNED_AWAY_DEADLINE, told).await;
}

/// Waits until the port is closed. (What `wait_for` returns is a lock and must not meet an await.)
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Serves one connection until it ends, or until the answers under way when the port is closed. `head`: until the head of
/// a request is there; a connection that is kept for the next one waits no longer for it either.
pub async fn serve_connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<bool>, head: Duration) {
    // Each piece leaves at once. Neither of these can fail on a socket that was just taken in, and neither must.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, READER_DEADLINE_MS);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The other side went away or sent what is no HTTP: its own business.
        tracing::debug!(%error, "a connection broke");
    }
}
