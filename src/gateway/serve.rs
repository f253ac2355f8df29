//! Connections: who is let in, how long a head may take, how all of them end.

use lakitu_kernel::supervise::boxed;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use lakitu_actors::api::serve_connection;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at once; one more waits to be let in.
const CONNECTIONS_MAX: usize = 4096;
/// Until a request's head is there.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
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
                    let connection = serve_connection(stream, router.clone(), stopping.clone(), HEAD_DEADLINE);
                    open.spawn(boxed(async move {
                        let _place = place;
                        connection.await;
                    }));
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
