//! Lets clients in: ours only, and not too many.

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::ErrorCode;
use lakitu_kernel::supervise::{Me, boxed};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connection::{self, Counts};
use super::protocol::{RpcError, failure};
use super::socket::may_enter;
use super::{DebugMsg, Shared};

/// After a failed `accept` (no file descriptor is free, as a rule) it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The listener and its clients.
pub(super) struct Accepting {
    listener: UnixListener,
    shared: Arc<Shared>,
    me: Me<DebugMsg>,
    closing: watch::Receiver<bool>,
    clients: JoinSet<()>,
    counts: Arc<Counts>,
    refused: u64,
}

impl Accepting {
    pub(super) fn new(
        listener: UnixListener,
        shared: Arc<Shared>,
        me: Me<DebugMsg>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let counts = Arc::new(Counts::new(me.clone()));
        Self { listener, shared, me, closing, clients: JoinSet::new(), counts, refused: 0 }
    }

    /// Until the socket is closed; then until its clients have their last answers.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        loop {
            tokio::select! {
                biased;
                () = connection::closed(&mut closing) => break,
                // First the places that became free, then who wants one.
                Some(_) = self.clients.join_next() => self.show(),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    Err(error) => {
                        tracing::warn!(%error, "a client of the debug socket could not be taken");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
        while self.clients.join_next().await.is_some() {}
    }

    fn admit(&mut self, stream: UnixStream) {
        let max = self.shared.limits.clients;
        // Who cannot be named is a stranger.
        let peer = stream.peer_cred().map(|peer| peer.uid());
        if !peer.is_ok_and(|peer| may_enter(peer, rustix::process::geteuid().as_raw())) {
            self.refuse(&stream, ErrorCode::PermissionDenied, "this socket answers its own user only".to_owned());
        } else if self.clients.len() >= max {
            let message = format!("{max} clients are connected, and no more are taken: close one, then try again");
            self.refuse(&stream, ErrorCode::Unavailable, message);
        } else {
            self.clients.spawn(boxed(connection::serve(
                stream,
                self.shared.clone(),
                self.counts.clone(),
                self.closing.clone(),
            )));
            self.show();
        }
    }

    fn refuse(&mut self, stream: &UnixStream, code: ErrorCode, message: String) {
        let line = failure(&Value::Null, &RpcError::failed(code, message)) + "\n";
        // The queue of a new connection is empty: this fits or the client is gone.
        let _ = stream.try_write(line.as_bytes());
        self.refused += 1;
        self.me.gauge(1, self.refused);
    }

    fn show(&self) {
        self.me.gauge(0, self.clients.len() as u64);
    }
}
