use std::time::Instant;

use lakitu_actors::gateway::Deadlines;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::adapters::http::mock::{Play, chunked, response};

const ODD: &str = ": OPENROUTER PROCESSING\r\n\r\n: \u{fc}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"gr\u{fc}\u{df}\"}}],\"x\":1e400}\n\nevent: y\ndata: not json at all\r\n\r\nid: 3\ndata: [DONE]\n\ndata: behind\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn events(body: &str, size: usize) -> Vec<Vec<u8>> {
    let mut pieces = chunked(body, size);
    pieces[0] = HEAD.as_bytes().to_vec();
    pieces
}

async fn over(play: Play) -> (Gateway, Mock) {
    let mock = Mock::start(vec![play]).await;
    (Gateway::start(&[("up", upstream(&mock))]).await, mock)
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_however_it_is_cut() {
    for size in [1, 2, 3, 7, 1000] {
        let (gateway, mock) = over(Play::Keep(events(ODD, size))).await;
        let key = "thr_x:1";
        let response = gateway.chat(asking(true).to_string()).header("Idempotency-Key", key).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.bytes().await.unwrap(), ODD.as_bytes(), "{size}");
        let seen = mock.seen().remove(0);
        assert_eq!(seen.body, asking(true).to_string().as_bytes());
        assert_eq!(seen.header("idempotency-key"), Some(key));
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")));
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_passes_with_its_content_type() {
    let body = "{\"choices\" : [], \"n\":1.50}";
    let (gateway, _mock) =
        over(Play::Keep(vec![response("200 OK", "Content-Type: application/json; x=y\r\n", body)])).await;
    let told = gateway.ask(&asking(false)).await;
    assert_eq!(told.headers()["content-type"], "application/json; x=y");
    assert_eq!(told.text().await.unwrap(), body);
}

#[tokio::test]
async fn a_piece_is_passed_on_before_the_next_one_comes() {
    let (gateway, _mock) = over(Play::Stall(events("data: 1\n\n", 99)[..2].to_vec())).await;
    let mut response = gateway.ask(&asking(true)).await;
    let piece = timeout(Duration::from_secs(5), response.chunk()).await.unwrap().unwrap();
    assert_eq!(piece.unwrap(), "data: 1\n\n");
}

#[tokio::test]
async fn an_asker_that_goes_away_ends_the_call_upstream() {
    // Both while the head is waited for and in the middle of the body.
    for head in ["", HEAD] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let way = Way::Http(Upstream::new(&base, Dialect::OpenAi, TokenSource::None, Arc::new(System)).unwrap());
        let gateway = Gateway::start(&[("up", way)]).await;
        let mut asker = TcpStream::connect(gateway.url.strip_prefix("http://").unwrap()).await.unwrap();
        let (token, body) = (gateway.token(|_| {}), asking(true).to_string());
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        asker.write_all(request.as_bytes()).await.unwrap();
        let (mut provider, _) = listener.accept().await.unwrap();
        let mut read = [0; 4096];
        assert!(provider.read(&mut read).await.unwrap() > 0);
        provider.write_all(head.as_bytes()).await.unwrap();
        if !head.is_empty() {
            assert!(asker.read(&mut read).await.unwrap() > 0);
        }
        drop(asker);
        let gone = Instant::now();
        let closed = async { while provider.read(&mut read).await.is_ok_and(|count| count > 0) {} };
        timeout(Duration::from_secs(1), closed)
            .await
            .unwrap_or_else(|_| panic!("still open after {:?}", gone.elapsed()));
    }
}

#[tokio::test]
async fn an_error_is_relayed_with_its_status_and_wish_and_without_the_key() {
    let quoted = format!("{{\"error\":{{\"message\":\"bad key {KEY}\",\"type\":\"t\",\"code\":7}}}}");
    let (gateway, _mock) = over(Play::Keep(vec![response("429 X", "Retry-After: 7\r\n", &quoted)])).await;
    let told = gateway.ask(&asking(true)).await;
    assert_eq!((told.status().as_u16(), &told.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(told.text().await.unwrap(), quoted.replace(KEY, "***"));
    let rows = [
        ("402 X", "nope", 402, "nope"),
        ("529 X", "", 529, "upstream_status"),
        ("302 X", "elsewhere", 502, "upstream_protocol"),
        ("204 X", "", 502, "upstream_protocol"),
    ];
    for (status, body, code, part) in rows {
        let (gateway, _mock) = over(Play::Close(vec![response(status, "Location: http://x/\r\n", body)])).await;
        let told = gateway.ask(&asking(true)).await;
        assert_eq!(told.status().as_u16(), code, "{status}");
        assert!(told.headers().get("location").is_none());
        assert!(told.text().await.unwrap().contains(part), "{status}");
    }
}

#[tokio::test]
async fn a_refused_key_of_the_gateway_is_not_the_asker_s_token() {
    for (status, body, said) in [
        ("401 X", format!("{{\"error\":{{\"message\":\"bad key {KEY}\"}}}}"), ": bad key ***"),
        ("403 X", "nope".to_owned(), ": nope"),
        ("403 X", String::new(), ""),
    ] {
        let (gateway, _mock) = over(Play::Close(vec![response(status, "", &body)])).await;
        let told = gateway.ask(&asking(true)).await;
        assert_eq!((told.status().as_u16(), &told.headers()["x-should-retry"]), (502, &"false".parse().unwrap()));
        assert!(told.headers().get("www-authenticate").is_none());
        let told: Value = serde_json::from_slice(&told.bytes().await.unwrap()).unwrap();
        assert_eq!(told["error"]["code"], "upstream_refused");
        let message = told["error"]["message"].as_str().unwrap();
        let expected = format!("the upstream `up` refused the gateway's key for it (HTTP {}){said}", &status[..3]);
        assert_eq!(message, expected);
    }
}

const CALL: &str = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"bash\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n";

#[tokio::test]
async fn a_body_that_only_its_connection_ends_is_whole_with_its_terminal_alone() {
    let head = |content: &str| format!("HTTP/1.1 200 OK\r\n{content}\r\n");
    for content in ["Content-Type: text/event-stream\r\n", "content-type: Text/Event-Stream; charset=utf-8\r\n", ""] {
        for (tail, error) in [("", "data: "), ("data: [DON", "\n\ndata: "), ("\n: [DONE]\r", "\n\ndata: ")] {
            let begun = CALL.to_owned() + tail;
            let (gateway, _mock) = over(Play::Close(vec![(head(content) + &begun).into_bytes()])).await;
            let told = gateway.ask(&asking(true)).await.text().await.unwrap();
            let error =
                told.strip_prefix(&begun).and_then(|told| told.strip_prefix(error)).unwrap_or_else(|| panic!("{told}"));
            let error: Value = serde_json::from_str(error).unwrap();
            assert_eq!(error["error"]["code"], "upstream_unreachable");
            assert!(error["error"]["message"].as_str().unwrap().contains("cut off"), "{error}");
        }
        for done in ["data: [DONE]\n\n", "data:[DONE]"] {
            let whole = CALL.to_owned() + done;
            let (gateway, _mock) = over(Play::Close(vec![(head(content) + &whole).into_bytes()])).await;
            assert_eq!(gateway.ask(&asking(true)).await.text().await.unwrap(), whole);
        }
    }
    // What is called JSON and is none can only be broken off; what is JSON tells its end itself.
    let json = "Content-Type: application/json\r\n";
    let (gateway, _mock) = over(Play::Close(vec![(head(json) + CALL).into_bytes()])).await;
    assert!(gateway.ask(&asking(true)).await.bytes().await.is_err());
    let (gateway, _mock) = over(Play::Close(vec![(head(json) + " {}").into_bytes()])).await;
    assert_eq!(gateway.ask(&asking(true)).await.text().await.unwrap(), " {}");
}

#[tokio::test]
async fn a_key_that_an_answer_quotes_is_broken_off_before_it() {
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let body = format!("{begun}data: {{\"key\":\"{KEY}\"}}\n\ndata: [DONE]\n\n");
    for size in [1, 5, 17, 1000] {
        let (gateway, _mock) = over(Play::Keep(events(&body, size))).await;
        let told = gateway.ask(&asking(true)).await.text().await.unwrap();
        assert!(!told.contains("sk-u") && !told.contains("[DONE]"), "{size}: {told}");
        let (before, error) = told.rsplit_once("data: ").unwrap();
        assert!(before.starts_with(begun) || size == 1000, "{size}: {told}");
        let error: Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["code"], "upstream_quotes_key");
    }
    let whole = format!("{{\"choices\":[],\"key\":\"{KEY}\"}}");
    let (gateway, _mock) =
        over(Play::Keep(vec![response("200 OK", "Content-Type: application/json\r\n", &whole)])).await;
    assert_eq!(error(gateway.ask(&asking(false)).await).await, (502, json!("upstream_quotes_key")));
    let content = format!("Content-Type: application/json; {KEY}\r\n");
    let (gateway, _mock) = over(Play::Keep(vec![response("200 OK", &content, "{\"a\":\"sk-upstream-hush-\"}")])).await;
    let told = gateway.ask(&asking(false)).await;
    assert_eq!(told.headers()["content-type"], "application/json");
    assert_eq!(told.text().await.unwrap(), "{\"a\":\"sk-upstream-hush-\"}");
    // The end may be the beginning of the key, and is passed on when it is none.
    let (gateway, _mock) = over(Play::Keep(vec![response("200 OK", "", "{} sk-up")])).await;
    assert_eq!(gateway.ask(&asking(false)).await.text().await.unwrap(), "{} sk-up");
}

#[tokio::test]
async fn a_provider_that_fails_is_told_apart_from_one_that_is_late() {
    let short = Duration::from_millis(80);
    let deadlines = Deadlines { first_byte: short, idle: short, total: Duration::from_secs(20) };
    let plays = [
        (Play::Refuse, 502, "upstream_unreachable"),
        (Play::Stall(vec![]), 504, "upstream_timeout"),
        (Play::Close(vec![b"SSH-2.0\r\n".to_vec()]), 502, "upstream_unreachable"),
    ];
    for (play, status, code) in plays {
        let mock = Mock::start(vec![play]).await;
        let gateway =
            Gateway::start_with(Settings { deadlines, ..settings(&[("up", upstream(&mock))], Some(keys())) }).await;
        assert_eq!(error(gateway.ask(&asking(true)).await).await, (status, json!(code)));
    }
    // Behind the head a stream ends with an error in it, and without its terminal.
    let begun = "data: 1\n\ndata: ha";
    for play in [Play::Stall(events(begun, 99)[..2].to_vec()), Play::Close(events(begun, 99)[..2].to_vec())] {
        let code = if matches!(play, Play::Stall(_)) { "upstream_timeout" } else { "upstream_unreachable" };
        let mock = Mock::start(vec![play]).await;
        let gateway =
            Gateway::start_with(Settings { deadlines, ..settings(&[("up", upstream(&mock))], Some(keys())) }).await;
        let told = gateway.ask(&asking(true)).await.text().await.unwrap();
        let error = told.strip_prefix(begun).and_then(|told| told.strip_prefix("\n\ndata: ")).unwrap();
        let error: Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert!(!told.contains("[DONE]"));
    }
    // One in one piece is broken off.
    let cut = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{".to_vec();
    let (gateway, _mock) = over(Play::Close(vec![cut])).await;
    assert!(gateway.ask(&asking(false)).await.bytes().await.is_err());
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_the_one_form() {
    let (gateway, mock) = over(Play::Refuse).await;
    let url = |path: &str| format!("{}{path}", gateway.url);
    let large = vec![b' '; 32 * 1024 * 1024 + 1];
    let rows = [
        (gateway.chat("{"), 400, "invalid_request"),
        (gateway.chat("{}"), 400, "invalid_request"),
        (gateway.chat(large), 413, "request_too_large"),
        (gateway.client.get(url("/v1/nothing")), 404, "not_found"),
        (gateway.client.get(url("/v1/chat/completions")), 405, "method_not_allowed"),
        (gateway.client.put(url("/health")), 405, "method_not_allowed"),
    ];
    for (request, status, code) in rows {
        // A body that is not read to its end may break the sending of it.
        match request.send().await {
            Ok(response) => assert_eq!(error(response).await, (status, json!(code))),
            Err(error) => assert!(status == 413, "{error}"),
        }
    }
    let health: Value =
        serde_json::from_slice(&gateway.client.get(url("/health")).send().await.unwrap().bytes().await.unwrap())
            .unwrap();
    assert_eq!(health["status"], "ok");
    assert!(mock.seen().is_empty());
}

#[tokio::test]
async fn a_model_finds_its_provider_and_loses_its_prefix_alone() {
    let said = || Play::Keep(vec![response("200 OK", "", "{}")]);
    let (first, second) = (Mock::start(vec![said(), said(), said()]).await, Mock::start(vec![said(), said()]).await);
    let gateway = Gateway::start(&[("b", upstream(&second)), ("a", upstream(&first))]).await;
    for model in ["b/m", "m", "c/m", "b/c/m", "a/b/m"] {
        gateway.chat(format!("{{ \"x\":1.0,\"model\" : \"{model}\" }}")).send().await.unwrap();
    }
    let models = |mock: &Mock| -> Vec<String> {
        mock.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect()
    };
    let body = |model: &str| format!("{{ \"x\":1.0,\"model\" : \"{model}\" }}");
    assert_eq!(models(&first), [body("m"), body("c/m"), body("b/m")]);
    assert_eq!(models(&second), [body("m"), body("c/m")]);
}

#[tokio::test]
async fn models_are_gathered_and_named_after_their_providers() {
    let list = "{\"data\":[{\"id\":\"m1\",\"created\":5,\"x\":1},{\"id\":\"m2\",\"created_at\":\"2026\"},{\"no\":1}]}";
    let listing = || Play::Keep(vec![response("200 OK", "", list)]);
    let mock = Mock::start(vec![listing(), listing()]).await;
    let dead = Mock::start(vec![Play::Refuse; 99]).await;
    let get = async |ways: &[(&str, Way)]| {
        let gateway = Gateway::start(ways).await;
        let request = gateway.client.get(format!("{}/v1/models", gateway.url)).bearer_auth(gateway.token(|_| {}));
        request.send().await.unwrap()
    };
    let one: Value = serde_json::from_slice(&get(&[("up", upstream(&mock))]).await.bytes().await.unwrap()).unwrap();
    let model = |id: &str, created: u64, owner: &str| json!({"id": id, "object": "model", "created": created, "owned_by": owner});
    assert_eq!(one, json!({"object": "list", "data": [model("m1", 5, "up"), model("m2", 0, "up")]}));
    assert!(mock.seen()[0].head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", mock.seen()[0].head);
    assert_eq!(mock.seen()[0].header("authorization"), Some(&*format!("Bearer {KEY}")));
    let ways = [("up", upstream(&mock)), ("dead", upstream(&dead)), ("s", script("turns: [{ text: x }]"))];
    let many: Value = serde_json::from_slice(&get(&ways).await.bytes().await.unwrap()).unwrap();
    let ids: Vec<&str> = many["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["s/script", "up/m1", "up/m2"]);
    let unreachable = error(get(&[("dead", upstream(&dead))]).await).await;
    assert_eq!(unreachable, (502, json!("upstream_unreachable")));
    let quoted = format!("{{\"data\":[{{\"id\":\"{KEY}\"}}]}}");
    for (play, code) in [
        (response("401 X", "", "{\"error\":{\"message\":\"no\"}}"), "upstream_refused"),
        (response("500 X", "", "oh"), "upstream_protocol"),
        (response("200 OK", "", "{\"data\":3}"), "upstream_protocol"),
        (response("200 OK", "", &quoted), "upstream_protocol"),
    ] {
        let mock = Mock::start(vec![Play::Keep(vec![play])]).await;
        assert_eq!(error(get(&[("a", upstream(&mock)), ("dead", upstream(&dead))]).await).await, (502, json!(code)));
    }
}

#[tokio::test]
async fn models_that_do_not_come_in_time_are_late() {
    let mock = Mock::start(vec![Play::Stall(vec![])]).await;
    let deadlines = Deadlines { total: Duration::from_millis(80), ..Deadlines::default() };
    let gateway =
        Gateway::start_with(Settings { deadlines, ..settings(&[("up", upstream(&mock))], Some(keys())) }).await;
    let request = gateway.client.get(format!("{}/v1/models", gateway.url)).bearer_auth(gateway.token(|_| {}));
    assert_eq!(error(request.send().await.unwrap()).await, (504, json!("upstream_timeout")));
}

#[tokio::test]
async fn one_call_too_many_is_sent_away_and_a_place_is_free_when_an_answer_ends() {
    let plays = vec![Play::Stall(vec![HEAD.into()]), Play::Keep(vec![response("200 OK", "", "{}")])];
    let mock = Mock::start(plays).await;
    let settings = Settings { calls_max: 1, ..settings(&[("up", upstream(&mock))], Some(keys())) };
    let gateway = Gateway::start_with(settings).await;
    let first = gateway.ask(&asking(true)).await;
    let busy = gateway.ask(&asking(true)).await;
    assert_eq!(busy.headers()["retry-after"], "1");
    assert_eq!(error(busy).await, (429, json!("too_many_requests")));
    drop(first);
    let free = async { while gateway.ask(&asking(true)).await.status().as_u16() != 200 {} };
    timeout(Duration::from_secs(5), free).await.unwrap();
}

#[tokio::test]
async fn requests_that_are_too_large_together_are_sent_away_and_room_is_free_when_one_was_sent() {
    let plays = vec![Play::Stall(vec![]), Play::Keep(vec![response("200 OK", "", "{}")])];
    let mock = Mock::start(plays).await;
    let asked = asking(false).to_string();
    let settings = Settings { bodies_bytes_max: asked.len(), ..settings(&[("up", upstream(&mock))], Some(keys())) };
    let gateway = Gateway::start_with(settings).await;
    let too_much = gateway.chat(asked.clone() + " ").send().await.unwrap();
    assert_eq!(too_much.headers()["retry-after"], "1");
    assert_eq!(error(too_much).await, (503, json!("requests_too_large_together")));
    let first = gateway.chat(asked.clone()).send();
    let second = async {
        while mock.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        error(gateway.chat("{}").send().await.unwrap()).await
    };
    tokio::select! {
        _ = first => panic!("the provider says nothing"),
        second = second => assert_eq!(second, (503, json!("requests_too_large_together"))),
    }
    // The first asker is gone.
    let free = async { while gateway.chat(asked.clone()).send().await.unwrap().status().as_u16() != 200 {} };
    timeout(Duration::from_secs(5), free).await.unwrap();
}

#[tokio::test]
async fn an_orderly_stop_lets_an_answer_end_and_takes_none_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let way = Way::Http(Upstream::new(&base, Dialect::OpenAi, TokenSource::None, Arc::new(System)).unwrap());
    let mut gateway = Gateway::start(&[("up", way)]).await;
    let asked = asking(true);
    let (response, mut provider) = tokio::join!(gateway.ask(&asked), async {
        let (mut provider, _) = listener.accept().await.unwrap();
        provider.write_all(HEAD.as_bytes()).await.unwrap();
        provider
    });
    gateway.stop.take().unwrap().send(()).unwrap();
    let refused = async { while TcpStream::connect(gateway.url.strip_prefix("http://").unwrap()).await.is_ok() {} };
    timeout(Duration::from_secs(5), refused).await.unwrap();
    provider.write_all(b"2\r\nab\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(response.bytes().await.unwrap(), "ab");
    timeout(Duration::from_secs(5), &mut gateway.ended).await.unwrap().unwrap();
}
