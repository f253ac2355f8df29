use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lakitu_actors::gateway::{Deadlines, Patience, RetryPolicy, Route};
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::{System, Timestamp};
use lakitu_kernel::ports::{DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ThreadId, Turn};

use super::mock::{Mock, Play, chunked, endless, response};
use super::upstream::endpoint;
use super::{Dialect, HttpGateway, TokenSource};
use crate::adapters::Secret;

const TOKEN: &str = "tok-123456";
const SAID: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
const STOPPED: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// The wall clock stands at the second of the dates below.
struct At;

impl lakitu_kernel::clock::Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000)
    }
}

fn gateway(base: &str) -> HttpGateway {
    HttpGateway::new(base, TokenSource::Value(Secret::new(TOKEN)), Arc::new(At)).unwrap()
}

fn request() -> ModelRequest {
    let body = ["{\"model\":\"m\",\"messages\":[", "{\"role\":\"user\",\"content\":\"ü\"}", "]}"];
    let body = body.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
    ModelRequest { thread: ThreadId(7), turn: Turn(3), model: "m".into(), body }
}

fn no_sink() -> DeltaSink {
    Arc::new(|_| {})
}

async fn ask(mock: &Mock) -> Result<ModelAnswer, ModelFailure> {
    gateway(&mock.base).complete(request(), no_sink()).await
}

async fn ask_for(play: Play) -> Result<ModelAnswer, ModelFailure> {
    ask(&Mock::start(vec![play]).await).await
}

#[tokio::test]
async fn a_request_carries_its_bytes_its_key_and_its_token() {
    let mock = Mock::start(vec![Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))])]).await;
    assert_eq!(ask(&mock).await.unwrap().text, "hi");
    let seen = mock.seen().remove(0);
    assert!(seen.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.body, request().body_bytes());
    assert_eq!(seen.header("content-length"), Some(&*request().body_bytes().len().to_string()));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("authorization"), Some("Bearer tok-123456"));
    assert_eq!(seen.header("idempotency-key"), Some(&*request().idempotency_key()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let whole = SAID.to_owned() + DONE;
    let plays = vec![
        Play::Keep(vec![chunked(&whole, 10).concat()]),
        Play::Keep(vec![response("200 OK", "", &whole)]),
        Play::Keep(vec![chunked(&whole, 999).concat()]),
    ];
    let mock = Mock::start(plays).await;
    let gateway = gateway(&mock.base);
    for _ in 0..3 {
        gateway.complete(request(), no_sink()).await.unwrap();
    }
    assert_eq!(mock.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn a_base_is_taken_with_and_without_v1_and_nothing_else() {
    for (base, expected) in [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h:1/", "http://h:1/v1/chat/completions"),
        (" https://h/v1\n", "https://h/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://h/a//", "https://h/a/v1/chat/completions"),
    ] {
        assert_eq!(endpoint(base, Dialect::OpenAi).unwrap().as_str(), expected);
    }
    for (base, expected) in [
        ("h:3000", "http://"),
        ("ftp://h", "http://"),
        ("", "is not one"),
        ("http://u:hush@h", "credentials"),
        ("http://h?key=hush", "query"),
        ("http://h#x", "query"),
    ] {
        let error = endpoint(base, Dialect::OpenAi).unwrap_err();
        assert!(error.code == ErrorCode::InvalidConfig && error.message.contains(expected), "{base}: {error}");
        assert!(!error.message.contains("hush"));
    }
}

#[tokio::test]
async fn every_status_is_sorted_and_its_body_quoted_shortly_and_harmlessly() {
    let retry = FailureClass::Retry { after: None };
    let long = "x".repeat(100_000);
    let rows = [
        (
            "500 X",
            "",
            "oops \u{1b}[2J",
            retry,
            ErrorCode::GatewayUnreachable,
            "HTTP 500, the gateway could not answer: oops [2J",
        ),
        ("502 X", "", &*long, retry, ErrorCode::GatewayUnreachable, "HTTP 502"),
        (
            "503 X",
            "",
            "<html>down</html>",
            FailureClass::Overloaded { after: None },
            ErrorCode::GatewayUnreachable,
            "down",
        ),
        ("504 X", "", "", retry, ErrorCode::GatewayUnreachable, "504"),
        ("529 X", "", "", FailureClass::Overloaded { after: None }, ErrorCode::GatewayUnreachable, "529"),
        ("408 X", "", "", retry, ErrorCode::GatewayUnreachable, "408"),
        (
            "400 X",
            "",
            "{\"error\":{\"message\":\"no tools\"}}",
            FailureClass::Fatal,
            ErrorCode::GatewayRejected,
            ": no tools",
        ),
        ("400 X", "", "maximum context length", FailureClass::TooLong, ErrorCode::GatewayRejected, "context"),
        ("413 X", "", "", FailureClass::TooLong, ErrorCode::GatewayRejected, "too large"),
        ("422 X", "", "", FailureClass::Fatal, ErrorCode::GatewayRejected, "422"),
        ("401 X", "", "bad key tok-123456", FailureClass::Credentials, ErrorCode::GatewayRefused, "bad key ***"),
        ("403 X", "", "", FailureClass::Refused, ErrorCode::GatewayRefused, "403"),
        ("404 X", "", "", FailureClass::Refused, ErrorCode::GatewayRejected, "check the gateway's URL"),
        ("405 X", "", "", FailureClass::Refused, ErrorCode::GatewayRejected, "check the gateway's URL"),
        (
            "307 X",
            "Location: http://127.0.0.1:9/\r\n",
            "",
            FailureClass::Refused,
            ErrorCode::GatewayRejected,
            "redirects",
        ),
        ("201 X", "", "", retry, ErrorCode::GatewayProtocol, "HTTP 201"),
        ("200 X", "", "", retry, ErrorCode::GatewayProtocol, "empty"),
        ("200 X", "Content-Type: text/html\r\n", "<p>Sign in", retry, ErrorCode::GatewayProtocol, "Sign in"),
        ("200 X", "", "{\"error\":{\"code\":429}}", retry, ErrorCode::GatewayUnreachable, "429"),
    ];
    for (status, headers, body, class, code, message) in rows {
        let failure = ask_for(Play::Keep(vec![response(status, headers, body)])).await.unwrap_err();
        assert_eq!((failure.class, failure.error.code), (class, code), "{status} {body:.40}");
        let said = &failure.error.message;
        assert!(said.contains(message) && said.len() < 2200 && !said.contains(TOKEN), "{status}: {said}");
    }
    let failure = ask_for(Play::Close(vec![b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()])).await.unwrap_err();
    assert_eq!(failure.error.code, ErrorCode::GatewayProtocol);
}

#[tokio::test]
async fn retry_after_is_understood_and_bounded() {
    let rows: &[(&str, Option<u64>)] = &[
        ("Retry-After: 7\r\n", Some(7000)),
        ("retry-after: 0\r\n", Some(0)),
        ("Retry-After: 1.5\r\n", Some(1500)),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: inf\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: 1000000000\r\n", Some(300_000)),
        ("Retry-After: 1e300\r\n", Some(300_000)),
        ("Retry-After: soon\r\nRetry-After: 5\r\n", Some(5000)),
        ("Retry-After: 4\r\nRetry-After: 5\r\n", Some(4000)),
        ("retry-after-ms: 20\r\nRetry-After: 5\r\n", Some(20)),
        ("Retry-After: Wed, 31 Dec 2025 23:59:00 GMT\r\n", Some(0)),
        ("Retry-After: Thu, 01 Jan 2026 00:00:09 GMT\r\n", Some(9000)),
        ("Date: Thu, 01 Jan 2026 00:00:06 GMT\r\nRetry-After: Thu, 01 Jan 2026 00:00:09 GMT\r\n", Some(3000)),
        ("Retry-After: Thu, 31 Dec 2099 00:00:00 GMT\r\n", Some(300_000)),
    ];
    for (headers, expected) in rows {
        let failure = ask_for(Play::Keep(vec![response("429 X", headers, "")])).await.unwrap_err();
        let after = expected.map(Duration::from_millis);
        assert_eq!(failure.class, FailureClass::Retry { after }, "{headers}");
    }
}

#[tokio::test]
async fn a_cut_is_a_failure_however_the_body_is_framed() {
    let whole = SAID.to_owned() + STOPPED;
    let done = whole.clone() + DONE;
    let cut_length = {
        let mut bytes = response("200 OK", "", &whole);
        bytes.truncate(bytes.len() - 1);
        bytes
    };
    let mut cut_chunks = chunked(&whole, 16);
    cut_chunks.pop();
    let rows = [
        (vec![endless(&done)], true),
        (vec![endless(&whole)], false),
        (vec![endless(&done[..done.len() - 4])], false),
        (vec![response("200 OK", "", &whole)], true),
        (vec![cut_length], false),
        (chunked(&whole, 16), true),
        (chunked(&done, 1), true),
        (cut_chunks, false),
        (vec![b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()], false),
        (vec![endless("")], false),
    ];
    for (at, (pieces, counts)) in rows.into_iter().enumerate() {
        let outcome = ask_for(Play::Close(pieces)).await;
        assert_eq!(outcome.is_ok(), counts, "row {at}: {outcome:?}");
        let class = outcome.err().map(|failure| failure.class);
        assert!(class.is_none_or(|class| class == FailureClass::Retry { after: None }));
    }
}

#[tokio::test]
async fn an_answer_that_is_complete_waits_for_nothing_more() {
    let begun = Instant::now();
    let mut pieces = chunked(&(SAID.to_owned() + DONE), 999);
    pieces.pop();
    assert!(ask_for(Play::Stall(pieces)).await.is_ok());
    assert!(ask_for(Play::Stall(vec![endless(&(SAID.to_owned() + DONE))])).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_does_not_connect_names_its_stage_and_never_the_token() {
    let refused = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", gone.local_addr().unwrap())
    };
    let mock = Mock::start(vec![Play::Refuse]).await;
    for (base, stage) in
        [(&*refused, "(connect)"), ("http://no-such-host.invalid", "(dns)"), (&*mock.base, "(request)")]
    {
        let failure = gateway(base).complete(request(), no_sink()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Retry { after: None });
        assert_eq!(failure.error.code, ErrorCode::GatewayUnreachable);
        let message = failure.error.message;
        assert!(message.contains(stage) && !message.contains(TOKEN), "{base}: {message}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to_without_it() {
    let mock = Mock::start(vec![Play::Close(vec![response("200 OK", "", SAID)])]).await;
    let https = mock.base.replace("http://", "https://");
    // Where the system has no certificates there is no client for https at all, which is as good here.
    if let Ok(gateway) = HttpGateway::new(&https, TokenSource::None, Arc::new(System)) {
        let call = gateway.complete(request(), no_sink());
        let outcome = tokio::time::timeout(Duration::from_millis(300), call).await;
        assert!(!matches!(outcome, Ok(Ok(_))));
    }
    assert!(mock.seen().is_empty());
}

#[tokio::test]
async fn a_stall_ends_by_its_deadline_and_comments_are_no_progress() {
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(20));
    let comments = vec![b": still here\n\n".to_vec(); 3];
    let rows = [
        (Play::Stall(Vec::new()), short, long, "no first byte"),
        (Play::Stall(vec![endless(SAID)]), long, short, "no more data"),
        (Play::Stall([vec![endless("")], comments].concat()), long, short, "no more data"),
    ];
    for (play, first_byte, idle, expected) in rows {
        let deadlines = Deadlines { first_byte, idle, total: long * 2 };
        let patience = Patience::Bounded { attempts_max: 1, total_max: long };
        let policy = RetryPolicy { deadlines, ..RetryPolicy::with(patience) };
        let mock = Mock::start(vec![play]).await;
        let route = Route::new(Arc::new(gateway(&mock.base)), policy, Arc::new(System));
        let begun = Instant::now();
        let failure = route.complete(request(), no_sink(), |_| {}).await.unwrap_err();
        assert!(failure.error.message.contains(expected), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_turn_gets_through_a_bad_gateway_with_one_key_and_one_body() {
    let whole = SAID.to_owned() + STOPPED + DONE;
    let plays = vec![
        Play::Refuse,
        Play::Keep(vec![response("503 X", "Retry-After: 0\r\n", "")]),
        Play::Close(vec![endless(SAID)]),
        Play::Keep(vec![response("200 OK", "", "<html>")]),
        Play::Keep(chunked(&whole, 3)),
    ];
    let mock = Mock::start(plays).await;
    let policy = RetryPolicy { backoff: Duration::from_millis(1), ..RetryPolicy::default() };
    let route = Route::new(Arc::new(gateway(&mock.base)), policy, Arc::new(System));
    let answer = route.complete(request(), no_sink(), |_| {}).await.unwrap();
    assert_eq!(answer.text, "hi");
    let seen = mock.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter()
            .all(|one| one.body == seen[0].body && one.header("idempotency-key") == seen[0].header("idempotency-key"))
    );
}

#[tokio::test]
async fn a_token_that_is_replaced_in_time_is_taken_for_the_second_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old").unwrap();
    let plays = vec![
        Play::Keep(vec![response("401 X", "", "")]),
        Play::Keep(vec![response("200 OK", "", &(SAID.to_owned() + DONE))]),
    ];
    let mock = Mock::start(plays).await;
    let upstream = HttpGateway::new(&mock.base, TokenSource::File(path.clone()), Arc::new(System)).unwrap();
    let route = Route::new(Arc::new(upstream), RetryPolicy::default(), Arc::new(System));
    let replace = |_| std::fs::write(&path, "new").unwrap();
    route.complete(request(), no_sink(), replace).await.unwrap();
    let tokens: Vec<_> = mock.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    assert_eq!(tokens, [Some("Bearer old".into()), Some("Bearer new".into())]);
}
