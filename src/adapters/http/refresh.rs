//! The token of a session: kept fresh beside the calls that it is sent with.
//!
//! **Invariant:** only a token that says that it is for a Lakitu gateway is posted, and only to the origin that every call
//! goes to. Any other is sent as it is found.
//! **Invariant:** a call waits for a new token only where the old one has ended, and not for long. A stream under way is
//! never touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use lakitu_kernel::clock::Clock;
use lakitu_kernel::supervise::{Guarded, boxed};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::secret::{Secret, TOKEN_BYTES_MAX, TokenSource};
use super::error;
use super::session::Life;

/// How long a new token is waited for where the old one has ended.
const REFRESH_DEADLINE: Duration = Duration::from_secs(10);
/// A refresh that failed is not tried again before this.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Clocks may differ by so much, in seconds, before the gateway's counts.
const CLOCKS_DIFFER_S: i64 = 60;

/// The token, and what keeps it fresh.
pub(super) struct Session {
    shared: Arc<Shared>,
    /// The refresh under way; it ends with the client.
    tasks: Guarded<JoinSet<()>>,
}

struct Shared {
    client: Client,
    endpoint: Url,
    source: TokenSource,
    clock: Arc<dyn Clock>,
    /// By how many seconds the gateway's clock is ahead, where that is too much to overlook.
    ahead_s: AtomicI64,
    state: Guarded<State>,
    /// Counts refreshes that ended, well or not.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// What the source holds, and the token that came in its place and could not be written there.
    newer: Option<(Secret, Secret)>,
    under_way: bool,
    tried: Option<Instant>,
    /// The gateway has no refresh.
    off: bool,
}

impl Session {
    pub(super) fn new(client: Client, endpoint: Url, source: TokenSource, clock: Arc<dyn Clock>) -> Self {
        let (ahead_s, state, ended) = (AtomicI64::new(0), Guarded::default(), watch::Sender::new(0));
        let shared = Arc::new(Shared { client, endpoint, source, clock, ahead_s, state, ended });
        Self { shared, tasks: Guarded::default() }
    }

    /// The token to send now. The error says what is wrong with its file, never what stands in it.
    pub(super) async fn token(&self) -> Result<Option<Secret>, String> {
        let token = self.shared.read()?;
        let Some((token, life)) = token.as_ref().and_then(|token| Some((token, Life::of(token)?))) else {
            return Ok(token);
        };
        let now = self.shared.now_s();
        if now >= life.refresh_at() {
            let mut ended = self.shared.ended.subscribe();
            if self.begin(token) && now >= life.exp {
                let _ = timeout(REFRESH_DEADLINE, ended.changed()).await;
                return self.shared.read();
            }
        }
        Ok(Some(token.clone()))
    }

    /// Learns how far the gateway's clock is from this one.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        self.shared.learn(headers);
    }

    /// Begins a refresh, unless one is under way or was tried too recently. Tells whether one is under way.
    fn begin(&self, token: &Secret) -> bool {
        let now = Instant::now();
        let begins = self.shared.state.with(|state| {
            if state.under_way {
                return None;
            }
            let early = state.tried.is_some_and(|tried| now.duration_since(tried) < AGAIN_AFTER);
            if state.off || early {
                return Some(false);
            }
            (state.under_way, state.tried) = (true, Some(now));
            Some(true)
        });
        if begins == Some(true) {
            let under_way = UnderWay(Arc::clone(&self.shared));
            let token = token.clone();
            self.tasks.with(|tasks| {
                while tasks.try_join_next().is_some() {}
                tasks.spawn(boxed(async move { under_way.0.refresh(&token).await }));
            });
        }
        begins != Some(false)
    }

    #[cfg(test)]
    pub(super) fn ended(&self) -> watch::Receiver<u64> {
        self.shared.ended.subscribe()
    }
}

/// A refresh; whatever becomes of it, its end is told.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state.with(|state| state.under_way = false);
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

/// What a gateway answers.
#[derive(Deserialize)]
struct Fresh {
    token: String,
}

impl Shared {
    fn read(&self) -> Result<Option<Secret>, String> {
        let found = self.source.read()?;
        let newer = self.state.with(|state| state.newer.clone());
        Ok(match (found, newer) {
            (Some(found), Some((old, new))) if found == old => Some(new),
            (found, _) => found,
        })
    }

    fn now_s(&self) -> u64 {
        let now = self.clock.now().0 / 1000;
        now.saturating_add_signed(self.ahead_s.load(Ordering::Relaxed))
    }

    fn learn(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let Some(theirs) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else { return };
        let ours = i64::try_from(self.clock.now().0 / 1000).unwrap_or(i64::MAX);
        let ahead = i64::try_from(theirs.as_secs()).unwrap_or(i64::MAX).saturating_sub(ours);
        let ahead = if ahead.abs() > CLOCKS_DIFFER_S { ahead } else { 0 };
        if self.ahead_s.swap(ahead, Ordering::Relaxed) == 0 && ahead != 0 {
            tracing::warn!(ahead_s = ahead, "the gateway's clock is another one; its own decides when the token ends");
        }
    }

    async fn refresh(&self, old: &Secret) {
        // The text is ours or the client's, and the client's holds no header.
        if let Err(why) = self.ask(old).await {
            tracing::warn!("the session token is not refreshed: {}", old.redact(&why));
        }
    }

    async fn ask(&self, old: &Secret) -> Result<(), String> {
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", old.expose())).map_err(|error| error.to_string())?;
        bearer.set_sensitive(true);
        let request = self.client.post(self.endpoint.clone()).header(AUTHORIZATION, bearer).header(CONTENT_LENGTH, 0);
        let answer = async {
            let response = request.send().await.map_err(|error| error::text(&error))?;
            self.learn(response.headers());
            match response.status() {
                StatusCode::OK => body(response).await,
                status @ (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                    self.state.with(|state| state.off = true);
                    Err(format!("HTTP {}, the gateway has no refresh", status.as_u16()))
                }
                status => Err(format!("HTTP {}", status.as_u16())),
            }
        };
        let body = timeout(REFRESH_DEADLINE, answer).await.map_err(|_| "no answer in time".to_owned())??;
        let fresh: Fresh = serde_json::from_slice(&body).map_err(|_| "the answer is not one".to_owned())?;
        let new = Secret::new(&fresh.token);
        let later = Life::of(&new).zip(Life::of(old)).is_some_and(|(new, old)| new.exp > old.exp);
        if !later
            || fresh.token.len() as u64 > TOKEN_BYTES_MAX
            || !new.expose().bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("what came is not a session token that ends later".to_owned());
        }
        self.keep(old, new).await
    }

    /// Puts the new token where the old one was found; where that cannot be written, it is kept here. One that somebody
    /// else put there meanwhile stays.
    async fn keep(&self, old: &Secret, new: Secret) -> Result<(), String> {
        let Some(found) = self.source.read()? else { return Ok(()) };
        let kept = self.state.with(|state| {
            let known = state.newer.as_ref().is_some_and(|(from, to)| *from == found && to == old);
            let ours = found == *old || known;
            if ours {
                state.newer = Some((found.clone(), new.clone()));
            }
            ours
        });
        if !kept {
            return Ok(());
        }
        let TokenSource::File(file) = self.source.clone() else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || file.replace(&found, &new)).await;
        let written = written.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("the token file cannot be written, the new token is kept in memory: {error}"))
    }
}

/// A bounded body.
async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| error::text(&error))? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > 2 * TOKEN_BYTES_MAX {
            return Err("the answer is too long".to_owned());
        }
    }
    Ok(body)
}
