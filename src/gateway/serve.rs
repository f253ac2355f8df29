//! Connections: who is let in, how long a head may take, how all of them end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at once; one more waits to be let in.
const CONNECTIONS_MAX: usize = 4096;
/// Until a request's head is there; a connection that is kept for the next one waits no longer for it either.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Without anything taken in by the other side. Nothing else would notice one that does not read.
const READER_DEADLINE_MS: u32 = 60_000;
/// Where no connection can be had (no descriptors are left), before the next one is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop, and no longer than the grace behind that.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>, grace: Duration) {
    let (tell, stopping) = watch::channel(false);
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            // Never closed.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = open.join_next(), if !open.is_empty() => {}
            (place, accepted) = next => match accepted {
                Ok((stream, _)) => {
                    let connection = serve_connection(stream, router.clone(), stopping.clone());
                    open.spawn(async move {
                        let _place = place;
                        connection.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken in");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    tell.send_replace(true);
    let ended = timeout(grace, async { while open.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(open = open.len(), "connections are closed before their answers are whole");
    }
}

async fn serve_connection(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Each piece leaves at once. Neither of these can fail on a socket that was just taken in, and neither must.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, READER_DEADLINE_MS);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The other side went away or sent what is no HTTP: its own business.
        tracing::debug!(%error, "a connection broke");
    }
}
