//! A session token is kept fresh beside the calls that it is sent with. The wall clock is the test's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::super::session::made;
use super::*;

/// When the tests play, in seconds.
const NOW: u64 = 1_767_225_600;

/// A clock that is set.
struct Set(AtomicU64);

impl lakitu_kernel::clock::Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1000)
    }
}

/// A token that was made so long ago and holds for so long.
fn token(age: u64, life: u64) -> String {
    made(&json!({ "aud": "lakitu-gateway", "iat": NOW - age, "exp": NOW - age + life }))
}

fn fresh() -> String {
    token(0, 3600)
}

fn refreshed() -> Play {
    let body = json!({ "token": fresh(), "expires_at": NOW + 3600 }).to_string();
    Play::Keep(vec![response("200 OK", "", &body)])
}

fn whole() -> Play {
    Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))])
}

/// A mock, a client with this token in a file, and the clock.
struct Scene {
    mock: Mock,
    gateway: HttpGateway,
    clock: Arc<Set>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(token: &str, plays: Vec<Play>, refresh: Vec<Play>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, token).unwrap();
        let mock = Mock::start_with_refresh(plays, refresh).await;
        let clock = Arc::new(Set(NOW.into()));
        TokenFile::prepare(&path);
        let source = TokenSource::File(TokenFile::new(&path));
        let gateway = HttpGateway::new(&mock.base, source, clock.clone()).unwrap();
        Self { mock, gateway, clock, path, _folder: folder }
    }

    async fn ask(&self) -> Result<ModelAnswer, ModelFailure> {
        self.gateway.complete(request(), no_sink()).await
    }

    /// Asks, and waits for the end of the refresh beside it.
    async fn ask_and_refresh(&self) {
        let mut ended = self.gateway.upstream.session().ended();
        self.ask().await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), ended.changed()).await.unwrap().unwrap();
    }

    /// What came: the tokens of calls, and those of refreshes.
    fn tokens(&self) -> [Vec<String>; 2] {
        let (refreshes, calls): (Vec<_>, Vec<_>) = self.mock.seen().into_iter().partition(Seen::is_refresh);
        [calls, refreshes].map(|seen| {
            let token = |seen: &Seen| seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
            seen.iter().map(token).collect()
        })
    }

    fn file(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap().trim().to_owned()
    }
}

#[tokio::test]
async fn a_token_past_four_fifths_of_its_life_is_replaced_beside_the_call() {
    let old = token(2900, 3600);
    let scene = Scene::new(&old, vec![whole(), whole()], vec![refreshed()]).await;
    scene.ask_and_refresh().await;
    scene.ask().await.unwrap();
    assert_eq!(scene.tokens(), [vec![old.clone(), fresh()], vec![old]]);
    assert_eq!(scene.file(), fresh());
}

#[tokio::test]
async fn nothing_but_a_session_token_is_ever_posted_for_a_new_one() {
    let others = [
        "sk-or-v1-secret".to_owned(),
        made(&json!({ "aud": "lakitu-api", "iat": NOW - 9000, "exp": NOW - 1 })),
        made(&json!({ "aud": "someone", "exp": 1 })),
        token(100, 3600),
    ];
    for other in others {
        let scene = Scene::new(&other, vec![whole()], vec![refreshed()]).await;
        scene.ask().await.unwrap();
        assert_eq!(scene.tokens(), [vec![other.clone()], vec![]]);
        assert_eq!(scene.file(), other);
    }
}

/// F05: waited for, because the call would be refused.
#[tokio::test]
async fn a_token_that_has_ended_is_replaced_before_the_calls_and_once_for_all_of_them() {
    let old = token(4000, 3600);
    let scene = Scene::new(&old, vec![whole(); 8], vec![refreshed()]).await;
    let calls = (0..8).map(|_| scene.gateway.upstream.session().token());
    for sent in futures_util::future::join_all(calls).await {
        assert_eq!(sent.unwrap().unwrap().expose(), fresh());
    }
    scene.ask().await.unwrap();
    assert_eq!(scene.tokens(), [vec![fresh()], vec![old]]);
}

#[tokio::test]
async fn a_token_from_the_environment_is_replaced_in_memory() {
    let old = token(2900, 3600);
    let mock = Mock::start_with_refresh(vec![whole(), whole()], vec![refreshed()]).await;
    let source = TokenSource::Value(Secret::new(&old));
    let gateway = HttpGateway::new(&mock.base, source, Arc::new(Set(NOW.into()))).unwrap();
    let mut ended = gateway.upstream.session().ended();
    gateway.complete(request(), no_sink()).await.unwrap();
    ended.changed().await.unwrap();
    gateway.complete(request(), no_sink()).await.unwrap();
    assert_eq!(mock.seen().pop().unwrap().header("authorization"), Some(&*format!("Bearer {}", fresh())));
}

/// F15: what is under way is not touched by the token's end.
#[tokio::test]
async fn a_stream_outlives_the_token_that_it_was_asked_with() {
    let old = token(0, 3600);
    let play = Play::Dribble(endless(""), recorded().into_bytes(), Duration::from_micros(10));
    let scene = Scene::new(&old, vec![play, whole()], vec![refreshed()]).await;
    let clock = Arc::clone(&scene.clock);
    let ends = move |_| clock.0.store(NOW + 5000, Ordering::Relaxed);
    assert_eq!(scene.gateway.complete(request(), Arc::new(ends)).await.unwrap().calls.len(), 2);
    assert_eq!(scene.tokens(), [vec![old], vec![]]);
}

/// F16: the gateway's clock counts where the two are more than a minute apart.
#[tokio::test]
async fn the_gateways_clock_decides_when_the_token_ends() {
    let at = |ahead: i64| {
        let date = std::time::UNIX_EPOCH + Duration::from_secs(NOW.checked_add_signed(ahead).unwrap());
        format!("Date: {}\r\n", httpdate::fmt_http_date(date))
    };
    // The token has 600 s left by this clock, and is replaced 60 s before its end.
    for (ahead, refreshes) in [(-600, 0), (-60, 0), (-5, 0), (5, 0), (60, 0), (500, 0), (570, 1), (3600, 1)] {
        let old = made(&json!({ "aud": "lakitu-gateway", "exp": NOW + 600 }));
        let first = Play::Keep(vec![response("200 OK", &at(ahead), &(SAID.to_owned() + DONE))]);
        let scene = Scene::new(&old, vec![first, whole()], vec![refreshed()]).await;
        scene.ask().await.unwrap();
        if refreshes == 1 {
            scene.ask_and_refresh().await;
        } else {
            scene.ask().await.unwrap();
        }
        assert_eq!(scene.tokens()[1].len(), refreshes, "ahead by {ahead} s");
    }
    // By this clock it has ended, by the gateway's it has not: one refusal would be a loop.
    let refused = Play::Keep(vec![response("500 X", &at(-3000), "")]);
    let scene = Scene::new(&token(4000, 3600), vec![whole(); 3], vec![refused]).await;
    for _ in 0..3 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.tokens()[1].len(), 1);
}

/// F17: the old token goes on, and the gateway is not hammered.
#[tokio::test]
async fn a_refresh_that_fails_is_tried_once_in_half_a_minute_and_delays_no_call() {
    let bad = json!({ "token": token(3000, 3600) }).to_string();
    let foreign = json!({ "token": "sk-1" }).to_string();
    for play in [
        Play::Keep(vec![response("500 X", "", "")]),
        Play::Keep(vec![response("401 X", "", "")]),
        Play::Keep(vec![response("200 OK", "", "<html>")]),
        Play::Keep(vec![response("200 OK", "", &bad)]),
        Play::Keep(vec![response("200 OK", "", &foreign)]),
        Play::Keep(vec![response("302 X", "Location: http://127.0.0.1:9/\r\n", "")]),
        Play::Close(vec![]),
    ] {
        let old = token(2900, 3600);
        let scene = Scene::new(&old, vec![whole(); 4], vec![play, refreshed()]).await;
        scene.ask_and_refresh().await;
        scene.ask().await.unwrap();
        assert_eq!((scene.tokens()[1].len(), scene.file()), (1, old.clone()));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        scene.ask_and_refresh().await;
        assert_eq!((scene.tokens()[1].len(), scene.file()), (2, fresh()));
    }
    let scene = Scene::new(&token(2900, 3600), vec![whole(); 2], vec![Play::Stall(vec![])]).await;
    let begun = Instant::now();
    scene.ask().await.unwrap();
    scene.ask().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// F05, F16: the refusal itself tells that the token has ended by the gateway's clock.
#[tokio::test]
async fn a_token_that_the_gateway_says_has_ended_is_replaced_once_and_the_call_made_again_once() {
    let ahead = |by: u64| {
        let date = std::time::UNIX_EPOCH + Duration::from_secs(NOW + by);
        format!("Date: {}\r\n", httpdate::fmt_http_date(date))
    };
    let refused = |by: u64| Play::Keep(vec![response("401 X", &ahead(by), "")]);
    let old = token(0, 1000);
    let never = Play::Keep(vec![response("500 X", "", "")]);
    for (plays, refresh, sent, ok) in [
        (vec![refused(990), whole()], refreshed(), vec![old.clone(), fresh()], true),
        (vec![refused(990), refused(990), whole()], refreshed(), vec![old.clone(), fresh()], false),
        // F17: and where there is no new one, the old one is sent and then nothing more.
        (vec![refused(1100), refused(1100), whole()], never, vec![old.clone(), old.clone()], false),
    ] {
        let scene = Scene::new(&old, plays, vec![refresh]).await;
        let route = Route::new(Arc::new(scene.gateway.clone()), RetryPolicy::default(), Arc::new(System));
        let outcome = route.complete(request(), no_sink(), |_| {}).await;
        assert_eq!(outcome.is_ok(), ok, "{outcome:?}");
        assert!(outcome.err().is_none_or(|failure| failure.class == FailureClass::Credentials));
        let [calls, refreshes] = scene.tokens();
        // Before its end it is replaced beside the call, which may be faster.
        assert_eq!((calls.len(), &calls[0], refreshes), (2, &sent[0], vec![old.clone()]));
        assert!(calls[1] == sent[1] || calls[1] == old, "{calls:?}");
    }
}

/// F17: a session that could not be refreshed goes on when it can.
#[tokio::test]
async fn a_token_that_ended_while_there_was_no_refresh_is_replaced_when_there_is_one() {
    let old = token(4000, 3600);
    let down = Play::Keep(vec![response("503 X", "", "")]);
    let refused = Play::Keep(vec![response("401 X", "", "")]);
    let scene = Scene::new(&old, vec![refused.clone(), refused, whole()], vec![down, refreshed()]).await;
    let route = Route::new(Arc::new(scene.gateway.clone()), RetryPolicy::default(), Arc::new(System));
    let failure = route.complete(request(), no_sink(), |_| {}).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Credentials);
    assert_eq!(scene.tokens(), [vec![old.clone(), old.clone()], vec![old.clone()]]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert!(route.complete(request(), no_sink(), |_| {}).await.is_ok());
    assert_eq!(scene.tokens()[0].last(), Some(&fresh()));
}

#[tokio::test]
async fn a_gateway_without_a_refresh_is_not_asked_for_one_again() {
    for status in ["404 X", "405 X"] {
        let play = Play::Keep(vec![response(status, "", "")]);
        let scene = Scene::new(&token(2900, 3600), vec![whole(); 2], vec![play, refreshed()]).await;
        scene.ask_and_refresh().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        scene.ask().await.unwrap();
        assert_eq!(scene.tokens()[1].len(), 1);
    }
}

#[tokio::test]
async fn a_token_that_somebody_else_put_there_meanwhile_stays() {
    let body = json!({ "token": fresh() }).to_string().into_bytes();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    let play = Play::Dribble(head, body, Duration::from_millis(1));
    let scene = Scene::new(&token(2900, 3600), vec![whole()], vec![play]).await;
    let mut ended = scene.gateway.upstream.session().ended();
    scene.ask().await.unwrap();
    std::fs::write(&scene.path, "another").unwrap();
    ended.changed().await.unwrap();
    assert_eq!(scene.file(), "another");
}

#[tokio::test]
async fn where_commands_would_see_a_new_token_it_is_not_written_down() {
    let old = token(2900, 3600);
    let scene = Scene::new(&old, vec![whole(), whole()], vec![refreshed()]).await;
    std::fs::remove_dir(scene.path.with_file_name(".token.lakitu")).unwrap();
    let gateway =
        HttpGateway::new(&scene.mock.base, TokenSource::File(TokenFile::new(&scene.path)), scene.clock.clone());
    let scene = Scene { gateway: gateway.unwrap(), ..scene };
    scene.ask_and_refresh().await;
    scene.ask().await.unwrap();
    assert_eq!(scene.tokens(), [vec![old.clone(), fresh()], vec![old.clone()]]);
    assert_eq!(scene.file(), old);
}
