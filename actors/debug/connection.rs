//! One client: its lines are answered in order, by one task.
//!
//! Answers go through a short queue. A client that does not read fills it, then its own requests wait; at the write
//! deadline it is closed.

use std::io::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakitu_kernel::ErrorCode;
use lakitu_kernel::supervise::{Me, SupervisionEvents, boxed};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::lines::{self, Line};
use super::protocol::{self, INVALID_REQUEST, Nothing, RpcError, answer, failure, notification};
use super::{DebugMsg, Shared, methods, runs};
use crate::threads::follow::Following;

/// Lines that wait for a client to read.
const QUEUED_LINES: usize = 4;
/// What a client's line buffer keeps between lines, in bytes.
const KEPT_BYTES: usize = 64 * 1024;
/// How often it is looked whether a client that only listens is still there.
const GONE_CHECK: Duration = Duration::from_secs(1);

/// What the node shows of all clients.
pub(super) struct Counts {
    me: Me<DebugMsg>,
    requests: AtomicU64,
}

impl Counts {
    pub(super) fn new(me: Me<DebugMsg>) -> Self {
        Self { me, requests: AtomicU64::new(0) }
    }

    fn request(&self) {
        self.me.gauge(2, self.requests.fetch_add(1, Ordering::Relaxed) + 1);
    }
}

/// What a client is told without asking again.
enum Told {
    Nothing,
    Supervision(SupervisionEvents),
    Run(Box<Following>),
}

/// Why no more lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client sends nothing more; it may still listen.
    HalfClosed,
    /// The connection is over, once what is queued is sent.
    Over,
}

/// Waits until the socket is closed. (What `wait_for` returns is a lock and must not meet an await.)
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Serves a client until it goes, or until the socket is closed.
pub(super) async fn serve(
    stream: UnixStream,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    mut closing: watch::Receiver<bool>,
) {
    let (read, write) = stream.into_split();
    let (queue, queued) = mpsc::channel(QUEUED_LINES);
    let deadline = shared.limits.write_deadline;
    let mut client = Client { shared, counts, queue, watching: JoinSet::new(), draft: String::new() };
    let reading = async {
        if client.read(read, closing.clone()).await == End::HalfClosed && !client.watching.is_empty() {
            tokio::select! {
                _ = client.watching.join_next() => {}
                () = closed(&mut closing) => {}
            }
        }
        // With it goes the queue's last sender, and with that the writer, when everything is sent.
        drop(client);
    };
    let writing = write_queued(write, queued, deadline);
    tokio::pin!(writing);
    tokio::select! {
        () = &mut writing => {}
        () = reading => writing.await,
    }
}

struct Client {
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    queue: mpsc::Sender<String>,
    watching: JoinSet<()>,
    /// See [`protocol::ThreadsDraft`].
    draft: String,
}

impl Client {
    async fn read(&mut self, from: OwnedReadHalf, mut closing: watch::Receiver<bool>) -> End {
        let limits = self.shared.limits;
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        loop {
            line.clear();
            line.shrink_to(KEPT_BYTES);
            // A client may be silent for as long as it likes, but what it begins to say it finishes.
            tokio::select! {
                begun = from.fill_buf() => match begun {
                    Ok([]) => return End::HalfClosed,
                    Ok(_) => {}
                    Err(_) => return End::Over,
                },
                () = closed(&mut closing) => return End::Over,
            }
            let read = timeout(limits.line_deadline, lines::next(&mut from, &mut line, limits.line_bytes)).await;
            let error = match read {
                Ok(Ok(Line::Whole)) if self.take(&line).await => continue,
                Ok(Ok(Line::Last)) if self.take(&line).await => return End::HalfClosed,
                Ok(Ok(Line::Whole | Line::Last) | Err(_)) => return End::Over,
                Ok(Ok(Line::End)) => return End::HalfClosed,
                Ok(Ok(Line::TooLong)) => {
                    RpcError::new(INVALID_REQUEST, format!("a line has at most {} bytes", limits.line_bytes))
                }
                Err(_) => RpcError::failed(ErrorCode::Timeout, "the line did not end in time"),
            };
            self.send(failure(&Value::Null, &error)).await;
            return End::Over;
        }
    }

    /// Handles a line; false when the client is gone.
    async fn take(&mut self, line: &[u8]) -> bool {
        if line.trim_ascii().is_empty() {
            return true;
        }
        self.counts.request();
        let request = match protocol::request(line) {
            Ok(request) => request,
            Err((id, error)) => return self.send(failure(&id, &error)).await,
        };
        let outcome = self.ask(&request.method, request.params).await;
        let (outcome, told) = match outcome {
            Ok((result, told)) => (Ok(result), told),
            Err(error) => (Err(error), Told::Nothing),
        };
        if let Some(id) = request.id {
            for line in answer(&id, outcome) {
                if !self.send(line).await {
                    return false;
                }
            }
        }
        match told {
            Told::Nothing => {}
            Told::Supervision(events) => drop(self.watching.spawn(boxed(tell(events, self.queue.clone())))),
            Told::Run(run) => drop(self.watching.spawn(boxed(runs::tell(*run, self.queue.clone())))),
        }
        true
    }

    /// What is asked, and what is told from then on: it is listened to before the answer, so that nothing is missed.
    async fn ask(&mut self, method: &str, params: Value) -> std::result::Result<(Value, Told), RpcError> {
        while self.watching.try_join_next().is_some() {}
        let listens = !self.watching.is_empty();
        let again = || Err(RpcError::failed(ErrorCode::Conflict, "this connection watches already"));
        match method {
            "watch" if listens => again(),
            "watch" => {
                methods::params::<Nothing>(params)?;
                Ok((json!({ "watching": true }), Told::Supervision(self.shared.nodes.subscribe())))
            }
            method if runs::FOLLOWED.contains(&method) && listens => again(),
            method if runs::FOLLOWED.contains(&method) => {
                let draft = std::mem::take(&mut self.draft);
                let (began, run) = runs::begin(&self.shared, method, params, draft).await?;
                Ok((json!(began), run.map_or(Told::Nothing, |run| Told::Run(Box::new(run)))))
            }
            "threads.draft" => Ok((runs::draft(&mut self.draft, params)?, Told::Nothing)),
            method => Ok((methods::call(&self.shared, method, params).await?, Told::Nothing)),
        }
    }

    async fn send(&self, line: String) -> bool {
        self.queue.send(line).await.is_ok()
    }
}

/// Tells supervision events until the client is gone. While its queue is full they wait where they are kept anyway, and
/// what is lost there is counted.
async fn tell(mut events: SupervisionEvents, queue: mpsc::Sender<String>) {
    let mut known = 0;
    while let Some(event) = events.next().await {
        let dropped = events.missed() - known;
        known = events.missed();
        if dropped > 0 && queue.send(notification("supervision", &json!({ "dropped": dropped }))).await.is_err() {
            return;
        }
        if queue.send(notification("supervision", &event)).await.is_err() {
            return;
        }
    }
}

/// Sends what is queued, until nothing more can come or the client does not take it.
async fn write_queued(mut to: OwnedWriteHalf, mut queued: mpsc::Receiver<String>, deadline: Duration) {
    let mut look = interval(GONE_CHECK);
    loop {
        tokio::select! {
            line = queued.recv() => {
                let Some(mut line) = line else { return };
                line.push('\n');
                let sent = timeout(deadline, to.write_all(line.as_bytes())).await;
                if !sent.is_ok_and(|sent| sent.is_ok()) {
                    return;
                }
            }
            _ = look.tick() => {
                // A client that closed one direction looks to a reader like one that is gone.
                if !timeout(deadline, is_there(&to)).await.is_ok_and(|there| there.unwrap_or(false)) {
                    return;
                }
            }
        }
    }
}

async fn is_there(to: &OwnedWriteHalf) -> Result<bool> {
    Ok(!to.ready(Interest::WRITABLE).await?.is_write_closed())
}
