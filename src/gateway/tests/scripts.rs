use lakitu_actors::gateway::AnswerStream;
use lakitu_kernel::chat::{Finish, ModelAnswer};

use super::*;

const SCRIPT: &str = r#"
turns:
  - thinking: Hm, hm.
    text: Looking ätt it.
    tool_calls:
      - { name: bash, arguments: { command: "ls ü" } }
      - { name: ls }
    usage: { input_tokens: 11, output_tokens: 5, cached_tokens: 3 }
  - fail: { status: 503, retry_after: 2, message: "not now" }
  - cut: { after_chunks: 1 }
  - expect: { last_user: { contains: there } }
    text: done
"#;

fn turn(number: usize, stream: bool, said: &str) -> Value {
    let mut messages = vec![json!({"role": "user", "content": said})];
    for _ in 1..number {
        messages.insert(0, json!({"role": "assistant", "content": "x"}));
    }
    json!({"model": "m", "stream": stream, "stream_options": {"include_usage": true}, "messages": messages})
}

async fn heard(response: Response) -> Result<ModelAnswer, String> {
    let mut stream = AnswerStream::new(Arc::new(|_| {}));
    let body = response.bytes().await.map_err(|error| format!("cut: {error}"))?;
    stream.push(&body).map_err(|failure| failure.to_string())?;
    stream.end().map_err(|failure| failure.to_string())
}

#[tokio::test]
async fn a_script_answers_as_a_provider_does_streamed_and_not() {
    let gateway = Gateway::start(&[("s", script(SCRIPT))]).await;
    for stream in [true, false] {
        let response = gateway.ask(&turn(1, stream, "hi")).await;
        let content = if stream { "text/event-stream" } else { "application/json" };
        assert_eq!(response.headers()["content-type"], content);
        let answer = heard(response).await.unwrap();
        let calls: Vec<_> = answer.calls.iter().map(|call| (&*call.name, &*call.arguments)).collect();
        assert_eq!((&*answer.text, answer.finish), ("Looking ätt it.", Finish::ToolCalls));
        assert_eq!(calls, [("bash", r#"{"command":"ls ü"}"#), ("ls", "{}")]);
        assert_eq!(answer.opaque, Some(json!({"reasoning_content": "Hm, hm."})));
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cached_tokens), (11, 5, 3));
        assert_eq!(answer.model.as_deref(), Some("m"));
    }
}

#[tokio::test]
async fn a_script_s_stream_is_what_openai_s_looks_like() {
    let gateway = Gateway::start(&[("s", script("turns: [{ text: hello }]"))]).await;
    let mut asked = turn(1, true, "hi");
    let told = gateway.ask(&asked).await.text().await.unwrap();
    let chunk = |line: &str| -> Value {
        let mut chunk: Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
        assert!(chunk["id"].as_str().unwrap().starts_with("chatcmpl-") && chunk["created"].is_u64());
        assert_eq!((&chunk["object"], &chunk["model"]), (&json!("chat.completion.chunk"), &json!("m")));
        json!([chunk["choices"].take(), chunk["usage"].take()])
    };
    let lines: Vec<&str> = told.split_terminator("\n\n").collect();
    let (last, chunks) = lines.split_last().unwrap();
    assert_eq!(*last, "data: [DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|line| chunk(line)).collect();
    let delta = |delta: Value| json!([[{"index": 0, "delta": delta, "finish_reason": null}], null]);
    assert_eq!(chunks[0], delta(json!({"role": "assistant", "content": ""})));
    assert_eq!(chunks[1], delta(json!({"content": "he"})));
    assert_eq!(chunks[chunks.len() - 2], json!([[{"index": 0, "delta": {}, "finish_reason": "stop"}], null]));
    assert!(chunks[chunks.len() - 1][1]["total_tokens"].is_u64());
    asked.as_object_mut().unwrap().remove("stream_options");
    assert!(!gateway.ask(&asked).await.text().await.unwrap().contains("usage"), "nobody asked for it");
}

#[tokio::test]
async fn failures_cuts_and_mismatches_are_played() {
    let gateway = Gateway::start(&[("s", script(SCRIPT))]).await;
    let failed = gateway.ask(&turn(2, true, "hi")).await;
    assert_eq!(failed.headers()["retry-after"], "2");
    let (status, _) = error(failed).await;
    assert_eq!(status, 503);
    let cut = gateway.ask(&turn(2, true, "there")).await;
    assert_eq!(cut.status().as_u16(), 200);
    assert!(heard(cut).await.unwrap_err().contains("cut"));
    assert_eq!(error(gateway.ask(&turn(2, true, "hi")).await).await, (400, json!("invalid_request")));
    assert_eq!(heard(gateway.ask(&turn(2, true, "there")).await).await.unwrap().text, "done");
    assert_eq!(error(gateway.ask(&turn(3, true, "there")).await).await.0, 400);
    // A key names the turn, whatever the request holds.
    let key = format!("{}:2", lakitu_kernel::ThreadId(7));
    let keyed = gateway.chat(turn(9, true, "there").to_string()).header("Idempotency-Key", key);
    assert_eq!(heard(keyed.send().await.unwrap()).await.unwrap().text, "done");
}
