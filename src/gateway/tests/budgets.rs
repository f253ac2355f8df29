use super::*;
use crate::adapters::http::mock::{Play, chunked, response};
use crate::token::Budget;

const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";

fn says(usage: &str) -> Play {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n".to_owned() + usage;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    let mut pieces = chunked(&body, 50);
    pieces[0] = format!("{head}\r\n\r\n").into_bytes();
    Play::Keep(vec![pieces.concat()])
}

async fn spend(gateway: &Gateway, model: &str, budget: Budget) -> (u16, Value) {
    let mut body = asking(true);
    body["model"] = json!(model);
    let token = gateway.token(|claims| claims.budget = Some(budget));
    let request = gateway.client.post(format!("{}/v1/chat/completions", gateway.url)).bearer_auth(token);
    let response = request.body(body.to_string()).send().await.unwrap();
    if response.status().as_u16() == 200 {
        response.bytes().await.unwrap();
        return (200, Value::Null);
    }
    let retry = response.headers().get("x-should-retry").map(|value| value.to_str().unwrap().to_owned());
    let (status, code) = error(response).await;
    assert_eq!(retry.as_deref(), (code == "budget_exceeded").then_some("false"));
    (status, code)
}

#[tokio::test]
async fn a_session_is_answered_until_its_budget_is_used_up() {
    let rows = [
        (Budget { input_tokens: Some(100), ..Budget::default() }, "m", 2),
        (Budget { input_tokens: Some(120), ..Budget::default() }, "m", 2),
        (Budget { output_tokens: Some(8), ..Budget::default() }, "m", 2),
        // A call costs 60 · 1 $ + 7 · 10 $ for a million tokens.
        (Budget { usd: Some(0.000_25), ..Budget::default() }, "priced", 2),
        (Budget { input_tokens: Some(0), ..Budget::default() }, "m", 0),
    ];
    // Half of it written to a cache: 30 · 1 $ + 30 · 1.25 $ + 70 $.
    let written = USAGE.replace("\"completion", "\"prompt_tokens_details\":{\"cache_write_tokens\":30},\"completion");
    let rows = rows.map(|(budget, model, calls)| (budget, model, calls, USAGE));
    let usd = Budget { usd: Some(0.000_27), ..Budget::default() };
    let more = [(usd, "priced", 3, USAGE), (usd, "priced", 2, &*written)];
    for (budget, model, calls, usage) in rows.into_iter().chain(more) {
        let mock = Mock::start(vec![says(usage); 5]).await;
        let gateway = Gateway::start(&[("up", upstream(&mock))]).await;
        for _ in 0..calls {
            assert_eq!(spend(&gateway, model, budget).await, (200, Value::Null), "{budget:?}");
        }
        for _ in 0..2 {
            assert_eq!(spend(&gateway, model, budget).await, (429, json!("budget_exceeded")), "{budget:?}");
        }
        assert_eq!(mock.seen().len(), calls);
    }
}

#[tokio::test]
async fn an_answer_that_tells_no_usage_is_counted_by_its_size() {
    let mock = Mock::start(vec![says("data: [DONE]\n\n"); 5]).await;
    let gateway = Gateway::start(&[("up", upstream(&mock))]).await;
    let budget = Budget { output_tokens: Some(1), ..Budget::default() };
    assert_eq!(spend(&gateway, "m", budget).await.0, 200);
    assert_eq!(spend(&gateway, "m", budget).await, (429, json!("budget_exceeded")));
}

#[tokio::test]
async fn a_budget_in_dollars_needs_a_price_and_a_refused_call_costs_nothing() {
    let refused = Play::Keep(vec![response("503 X", "", "{\"error\":{\"message\":\"no\"}}")]);
    let mock = Mock::start(vec![refused, says(USAGE)]).await;
    let gateway = Gateway::start(&[("up", upstream(&mock))]).await;
    let budget = Budget { usd: Some(1.0), ..Budget::default() };
    assert_eq!(spend(&gateway, "m", budget).await, (403, json!("price_unknown")));
    let budget = Budget { input_tokens: Some(1), ..Budget::default() };
    let token = gateway.token(|claims| claims.budget = Some(budget));
    let request = gateway.client.post(format!("{}/v1/chat/completions", gateway.url)).bearer_auth(token);
    let response = request.body(asking(true).to_string()).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 503);
    assert_eq!(spend(&gateway, "m", budget).await.0, 200);
}

#[tokio::test]
async fn usage_is_asked_for_where_there_is_a_budget_and_told_to_who_asked_for_it() {
    let budget = Budget { input_tokens: Some(100), ..Budget::default() };
    for (budget, asks) in [(None, false), (Some(budget), false), (Some(budget), true)] {
        let mock = Mock::start(vec![says(USAGE)]).await;
        let gateway = Gateway::start(&[("up", upstream(&mock))]).await;
        let mut body = asking(true);
        if asks {
            body["stream_options"] = json!({"include_usage": true});
        }
        let token = gateway.token(|claims| claims.budget = budget);
        let request = gateway.client.post(format!("{}/v1/chat/completions", gateway.url)).bearer_auth(token);
        let told = request.body(body.to_string()).send().await.unwrap().text().await.unwrap();
        assert!(told.contains("\"hi\"") && told.ends_with("data: [DONE]\n\n"), "{told}");
        assert_eq!(told.contains("usage"), asks || budget.is_none(), "{told}");
        let sent: Value = serde_json::from_slice(&mock.seen().remove(0).body).unwrap();
        let expected = if budget.is_some() { json!({"include_usage": true}) } else { Value::Null };
        assert_eq!(sent["stream_options"], expected);
    }
}
