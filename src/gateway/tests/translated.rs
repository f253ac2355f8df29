//! An upstream that speaks Anthropic Messages.

use lakitu_actors::gateway::AnswerStream;
use lakitu_kernel::chat::Finish;

use super::*;
use crate::adapters::http::mock::{Play, chunked, response};

const STREAM: &str = include_str!("../../../tests/judges/messages.sse");

fn anthropic(mock: &Mock) -> Way {
    let key = TokenSource::Value(Secret::new(KEY));
    Way::Http(Upstream::new(&mock.base, Dialect::Anthropic, key, Arc::new(System)).unwrap())
}

async fn over(play: Play) -> (Gateway, Mock) {
    let mock = Mock::start(vec![play]).await;
    (Gateway::start(&[("claude", anthropic(&mock))]).await, mock)
}

#[tokio::test]
async fn a_stream_is_translated_both_ways_and_ends_with_its_own_terminal_alone() {
    let (gateway, mock) = over(Play::Keep(chunked(STREAM, 37))).await;
    let mut asked = asking(true);
    asked["model"] = json!("claude/sonnet");
    asked["stream_options"] = json!({"include_usage": true});
    let response = gateway.ask(&asked).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let told = response.text().await.unwrap();
    assert!(told.ends_with("data: [DONE]\n\n"), "{told}");
    let mut stream = AnswerStream::new(Arc::new(|_| {}));
    stream.push(told.as_bytes()).unwrap();
    let answer = stream.end().unwrap();
    assert_eq!((&*answer.text, answer.finish, answer.calls.len()), ("Lööking at it.", Finish::ToolCalls, 2));
    assert_eq!(answer.usage.unwrap().input_tokens, 2125);
    let seen = mock.seen().remove(0);
    assert!(seen.head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (Some(KEY), None));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    let sent: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!((&sent["model"], &sent["stream"]), (&json!("sonnet"), &json!(true)));

    let cut = STREAM.split("event: message_stop").next().unwrap();
    let (gateway, _mock) = over(Play::Keep(chunked(cut, 37))).await;
    let told = gateway.ask(&asking(true)).await.text().await.unwrap();
    assert!(told.contains("ööking") && !told.contains("[DONE]"));
    let (_, error) = told.rsplit_once("data: ").unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["code"], "upstream_unreachable");
}

/// Models before Claude 4 can say less than is asked of the others.
#[tokio::test]
async fn a_model_that_can_say_less_is_asked_for_as_much_as_it_can_say() {
    let refusal = |limit: u64| {
        let message = format!(
            "max_tokens: 32000 > {limit}, which is the maximum allowed number of output tokens for claude-3-opus-20240229"
        );
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        Play::Keep(vec![response("400 X", "", &error.to_string())])
    };
    let whole = || Play::Keep(chunked(STREAM, 37));
    let mock =
        Mock::start(vec![refusal(4096), whole(), whole(), whole(), refusal(4096), refusal(1024), refusal(512)]).await;
    let gateway = Gateway::start(&[("claude", anthropic(&mock))]).await;
    let ask = |model: &str, own: Option<u64>| {
        let mut asked = asking(true);
        asked["model"] = json!(model);
        asked["max_tokens"] = json!(own);
        asked
    };
    // Once it is known, nothing is refused for it. Another model's is its own.
    for (model, own, status) in [("old", None, 200), ("old", None, 200), ("new", None, 200), ("old", Some(32_000), 400)]
    {
        let told = gateway.ask(&ask(model, own)).await;
        assert_eq!(told.status().as_u16(), status, "{model} {own:?}");
        told.bytes().await.unwrap();
    }
    // A provider that always wants less is asked twice and no more.
    let refused = gateway.ask(&ask("old", None)).await;
    assert_eq!(refused.status().as_u16(), 400);
    assert!(refused.text().await.unwrap().contains("> 512"));
    let sent: Vec<Value> = mock.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    let asked: Vec<u64> = sent.iter().map(|sent| sent["max_tokens"].as_u64().unwrap()).collect();
    assert_eq!(asked, [32_000, 4096, 4096, 32_000, 32_000, 4096, 1024]);
}

#[tokio::test]
async fn a_key_in_what_cannot_be_translated_is_not_told() {
    for stream in [true, false] {
        let body = format!("data: {KEY} is no event\n\n");
        let (gateway, _mock) = over(Play::Keep(chunked(&body, 37))).await;
        let told = gateway.ask(&asking(stream)).await.text().await.unwrap();
        assert!(told.contains("upstream_protocol") && !told.contains(KEY), "{told}");
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_and_an_error_are_translated() {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 3, "output_tokens": 1},
    });
    let (gateway, _mock) = over(Play::Keep(vec![response("200 OK", "", &message.to_string())])).await;
    let told: Value = serde_json::from_slice(&gateway.ask(&asking(false)).await.bytes().await.unwrap()).unwrap();
    assert_eq!((&told["object"], &told["choices"][0]["message"]["content"]), (&json!("chat.completion"), &json!("hi")));

    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": format!("{KEY} is busy")}});
    let (gateway, _mock) = over(Play::Keep(vec![response("529 X", "", &error.to_string())])).await;
    let told = gateway.ask(&asking(true)).await;
    assert_eq!(told.status().as_u16(), 529);
    let told: Value = serde_json::from_slice(&told.bytes().await.unwrap()).unwrap();
    assert_eq!(
        (&told["error"]["type"], &told["error"]["message"]),
        (&json!("overloaded_error"), &json!("*** is busy"))
    );

    let mut untranslatable = asking(true);
    untranslatable["messages"] = json!("none");
    let (gateway, mock) = over(Play::Refuse).await;
    assert_eq!(super::error(gateway.ask(&untranslatable).await).await.0, 400);
    assert!(mock.seen().is_empty());
}

#[tokio::test]
async fn its_models_are_listed_as_openai_s_are() {
    let list =
        json!({"data": [{"type": "model", "id": "sonnet", "created_at": "2025-01-01T00:00:00Z"}], "has_more": false});
    let (gateway, mock) = over(Play::Keep(vec![response("200 OK", "", &list.to_string())])).await;
    let asked = gateway.client.get(format!("{}/v1/models", gateway.url)).bearer_auth(gateway.token(|_| {}));
    let told: Value = serde_json::from_slice(&asked.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(told["data"], json!([{"id": "sonnet", "object": "model", "created": 0, "owned_by": "claude"}]));
    let seen = mock.seen().remove(0);
    assert!(seen.head.starts_with("GET /v1/models?limit=1000 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!((seen.header("x-api-key"), seen.header("anthropic-version")), (Some(KEY), Some("2023-06-01")));
}
