use expect_test::expect;
use lakitu_kernel::ErrorCode;
use serde_json::{Value, json};

use super::request;
use super::translated;
use crate::gateway::anthropic::{MAX_TOKENS_DEFAULT, wants_stream};

/// A request that asks "hi", with these fields more.
fn asks(more: &Value) -> Value {
    let mut chat = json!({"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().unwrap() {
        chat[name] = value.clone();
    }
    chat
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object"}}})
}

#[test]
fn the_bytes_of_a_whole_request_are_frozen() {
    let chat = r#"{"model":"claude-sonnet-4-5","stream":true,"stream_options":{"include_usage":true},"tools":[{"type":"function","function":{"name":"bash","description":"Runs it.","parameters":{"type":"object","required":["command"],"properties":{"command":{"type":"string"}}}}}],"messages":[{"role":"system","content":"You \"are\"."},{"role":"user","content":"hi\n\u001b ☃"},{"role":"assistant","content":null,"reasoning":"hm","reasoning_details":[{"format":"anthropic-claude-v1","index":0,"signature":"sig","text":"hm","type":"reasoning.text"}],"tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"bash","arguments":"{\"command\": \"ls\"}"}},{"id":"toolu_2","type":"function","function":{"name":"bash","arguments":"{}"}}]},{"role":"tool","tool_call_id":"toolu_1","content":"a\tb"},{"role":"tool","tool_call_id":"toolu_2","content":""},{"role":"user","content":"and?"}]}"#;
    expect![[r#"{"model":"claude-sonnet-4-5","max_tokens":32000,"stream":true,"tools":[{"name":"bash","description":"Runs it.","input_schema":{"type":"object","required":["command"],"properties":{"command":{"type":"string"}}}}],"system":[{"type":"text","text":"You \"are\".","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"hi\n\u001b ☃","cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"sig"},{"type":"tool_use","id":"toolu_1","name":"bash","input":{"command": "ls"}},{"type":"tool_use","id":"toolu_2","name":"bash","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"a\tb"},{"type":"tool_result","tool_use_id":"toolu_2"},{"type":"text","text":"and?","cache_control":{"type":"ephemeral"}}]}]}"#]].assert_eq(&String::from_utf8(request(chat.as_bytes()).unwrap()).unwrap());
}

/// What is asked, where in the translation to look, and what stands there; null where nothing may.
fn check(rows: &[(Value, &str, Value)]) {
    for (more, path, expected) in rows {
        let body = translated(&asks(more));
        assert_eq!(body.pointer(path).unwrap_or(&Value::Null), expected, "{more} {path}: {body}");
    }
}

#[test]
fn each_option_has_its_translation() {
    check(&[
        (json!({}), "/max_tokens", json!(MAX_TOKENS_DEFAULT)),
        (json!({"max_tokens": 7}), "/max_tokens", json!(7)),
        (json!({"max_tokens": 7, "max_completion_tokens": 8}), "/max_tokens", json!(8)),
        (json!({"max_tokens": null}), "/max_tokens", json!(MAX_TOKENS_DEFAULT)),
        (json!({}), "/stream", json!(null)),
        (json!({"stream": true}), "/stream", json!(true)),
        (json!({"stop": "END"}), "/stop_sequences", json!(["END"])),
        (json!({"stop": ["a", "", "b"]}), "/stop_sequences", json!(["a", "b"])),
        (json!({"stop": []}), "/stop_sequences", json!(null)),
        (json!({"temperature": 1.7}), "/temperature", json!(1.0)),
        (json!({"temperature": 0.5, "top_p": 1}), "/temperature", json!(0.5)),
        (json!({"temperature": 0.5, "top_p": 1}), "/top_p", json!(null)),
        (json!({"top_p": 0.9}), "/top_p", json!(0.9)),
        (json!({"model": "claude-opus-4-7", "temperature": 0.5}), "/temperature", json!(null)),
        (json!({"user": "u1"}), "/metadata/user_id", json!("u1")),
        (json!({"user": ""}), "/metadata", json!(null)),
        (
            json!({"seed": 1, "frequency_penalty": 2, "n": 1, "logprobs": false, "what": {}}),
            "/model",
            json!("claude-sonnet-4-5"),
        ),
        (
            json!({"response_format": {"type": "text"}, "logit_bias": {}, "audio": null}),
            "/model",
            json!("claude-sonnet-4-5"),
        ),
    ]);
}

#[test]
fn functions_and_the_choice_among_them_are_translated() {
    let tools = json!([tool("ls")]);
    check(&[
        (json!({"tools": tools}), "/tools/0/name", json!("ls")),
        (json!({"tools": tools}), "/tools/0/input_schema", json!({"type": "object"})),
        (json!({"tools": tools}), "/tool_choice", json!(null)),
        (
            json!({"tools": [{"type": "function", "function": {"name": "ls"}}]}),
            "/tools/0",
            json!({"name": "ls", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}),
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "ls", "parameters": {}}}]}),
            "/tools/0/input_schema",
            json!({"type": "object"}),
        ),
        (json!({"tools": []}), "/tools", json!(null)),
        (json!({"tools": tools, "tool_choice": "auto"}), "/tool_choice", json!({"type": "auto"})),
        (json!({"tools": tools, "tool_choice": "none"}), "/tool_choice", json!({"type": "none"})),
        (
            json!({"tools": tools, "tool_choice": "none", "parallel_tool_calls": false}),
            "/tool_choice",
            json!({"type": "none"}),
        ),
        (json!({"tools": tools, "tool_choice": "required"}), "/tool_choice", json!({"type": "any"})),
        (
            json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "ls"}}}),
            "/tool_choice",
            json!({"type": "tool", "name": "ls"}),
        ),
        (
            json!({"tools": tools, "parallel_tool_calls": false}),
            "/tool_choice",
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        (json!({"tools": tools, "parallel_tool_calls": true}), "/tool_choice", json!(null)),
        (json!({"tool_choice": "auto", "parallel_tool_calls": false}), "/tool_choice", json!(null)),
    ]);
}

#[test]
fn images_are_translated() {
    let image = |url: &str| json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]});
    check(&[
        (
            image("data:image/png;base64,iVBO+/="),
            "/messages/0/content/0/source",
            json!({"type": "base64", "media_type": "image/png", "data": "iVBO+/="}),
        ),
        (image("data:image/png;charset=x;base64,iV"), "/messages/0/content/0/source/media_type", json!("image/png")),
        (
            image("https://example.com/a.png"),
            "/messages/0/content/0/source",
            json!({"type": "url", "url": "https://example.com/a.png"}),
        ),
    ]);
}

#[test]
fn thinking_fits_the_model_and_the_room() {
    let budget = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    let tools = json!([tool("ls")]);
    let under_way = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"}]);
    let mut signed = under_way.clone();
    signed[1]["reasoning_details"] =
        json!([{"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0}]);
    let rows = [
        (json!({}), json!(null)),
        (json!({"reasoning_effort": "high"}), budget(25_600)),
        (json!({"reasoning_effort": "medium", "max_tokens": 8000}), budget(4000)),
        (json!({"reasoning_effort": "low"}), budget(6400)),
        (json!({"reasoning_effort": "minimal", "max_tokens": 2000}), budget(1024)),
        (json!({"reasoning_effort": "high", "max_tokens": 1025}), budget(1024)),
        (json!({"reasoning_effort": "high", "max_tokens": 1024}), json!(null)),
        (json!({"reasoning_effort": "high", "max_tokens": u64::MAX}), budget(u64::MAX / 100)),
        (json!({"reasoning_effort": "none"}), json!(null)),
        (json!({"reasoning": {"max_tokens": 3000}}), budget(3000)),
        (json!({"reasoning": {"max_tokens": 5}}), budget(1024)),
        (json!({"reasoning": {"max_tokens": 90_000}}), budget(31_999)),
        (json!({"reasoning": {"effort": "xhigh"}}), budget(30_400)),
        (json!({"reasoning": {"enabled": true}}), budget(16_000)),
        (json!({"reasoning": {"enabled": false, "effort": "high"}}), json!(null)),
        (json!({"reasoning": {}}), json!(null)),
        (json!({"reasoning_effort": "high", "tools": tools, "tool_choice": "required"}), json!(null)),
        (json!({"reasoning_effort": "high", "tools": tools, "tool_choice": "auto"}), budget(25_600)),
        (json!({"reasoning_effort": "high", "messages": under_way}), json!(null)),
        (json!({"reasoning_effort": "high", "messages": signed}), budget(25_600)),
        (json!({"reasoning_effort": "high", "model": "claude-opus-4-6", "messages": under_way}), adaptive.clone()),
        (json!({"reasoning_effort": "high", "model": "claude-opus-5-5"}), adaptive.clone()),
        (json!({"reasoning": {"max_tokens": 3000}, "model": "claude-opus-5-5"}), adaptive),
        (json!({"thinking": {"type": "novel"}, "reasoning_effort": "high"}), json!({"type": "novel"})),
    ];
    for (more, expected) in rows {
        let body = translated(&asks(&more));
        assert_eq!(body.get("thinking").unwrap_or(&Value::Null), &expected, "{more}");
    }
    let body = translated(&asks(&json!({"reasoning_effort": "high", "temperature": 0.5, "top_p": 0.5})));
    assert_eq!((body.get("temperature"), body.get("top_p")), (None, None), "thinking excludes both");
    for (model, effort, expected) in
        [("claude-opus-4-6", "xhigh", "high"), ("claude-opus-5", "xhigh", "xhigh"), ("claude-opus-5", "minimal", "low")]
    {
        let body = translated(&asks(&json!({"model": model, "reasoning_effort": effort})));
        assert_eq!(body["output_config"], json!({"effort": expected}), "{model} {effort}");
    }
}

#[test]
fn what_cannot_be_translated_is_refused_by_name() {
    let message = |message: Value| json!({"messages": [message]});
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let call = |arguments: &str| {
        json!({"messages": [{"role": "user", "content": "u"}, {"role": "assistant",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "ls", "arguments": arguments}}]}]})
    };
    let rows = [
        (json!({"n": 2}), "`n`"),
        (json!({"logprobs": true}), "`logprobs`"),
        (json!({"top_logprobs": 3}), "`top_logprobs`"),
        (json!({"response_format": {"type": "json_object"}}), "`response_format`"),
        (json!({"functions": [{}]}), "`functions`"),
        (json!({"function_call": "none"}), "`function_call`"),
        (json!({"logit_bias": {"1": 2}}), "`logit_bias`"),
        (json!({"modalities": ["text", "audio"]}), "`modalities`"),
        (json!({"audio": {}}), "`audio`"),
        (json!({"web_search_options": {}}), "`web_search_options`"),
        (json!({"stop": "\n"}), "`stop`"),
        (json!({"stop": 7}), "`stop`"),
        (json!({"temperature": "hot"}), "`temperature`"),
        (json!({"max_tokens": -1}), "`max_tokens`"),
        (json!({"model": null}), "`model`"),
        (json!({"model": 7}), "`model`"),
        (json!({"messages": null}), "`messages`"),
        (json!({"messages": []}), "`messages`"),
        (message(json!({"role": "system", "content": "s"})), "`messages`"),
        (message(json!({"role": "oracle", "content": "s"})), "`messages[0].role`"),
        (message(json!({"content": "s"})), "`messages[0]`"),
        (message(json!({"role": "user", "content": 7})), "`messages[0].content`"),
        (message(json!({"role": "tool", "content": "s"})), "`messages[0].tool_call_id`"),
        (message(json!({"role": "assistant", "function_call": {}})), "`messages[0].function_call`"),
        (part(json!({"type": "input_audio"})), "`messages[0].content[0].type`"),
        (part(json!({"type": "image_url"})), "`messages[0].content[0].image_url`"),
        (
            part(json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})),
            "`messages[0].content[0].image_url`",
        ),
        (
            part(json!({"type": "image_url", "image_url": {"url": "data:image/png,raw"}})),
            "`messages[0].content[0].image_url`",
        ),
        (call("[]"), "`messages[1].tool_calls[0].function.arguments`"),
        (call("{\"a"), "`messages[1].tool_calls[0].function.arguments`"),
        (json!({"tools": [{"type": "custom"}]}), "`tools[0].type`"),
        (json!({"tools": [{"type": "function"}]}), "`tools[0].function`"),
        (json!({"tools": [{"function": {"name": "ls", "parameters": []}}]}), "`tools[0].function.parameters`"),
        (json!({"tools": [tool("ls")], "tool_choice": "perhaps"}), "`tool_choice`"),
    ];
    for (more, expected) in rows {
        let error = request(asks(&more).to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::GatewayRejected);
        assert!(error.message.starts_with(expected), "{more}: {error}");
    }
    for body in ["", "[]", "{", "\u{0}"] {
        assert_eq!(request(body.as_bytes()).unwrap_err().code, ErrorCode::GatewayRejected);
    }
}

#[test]
fn whether_a_stream_is_asked_for_is_read_from_the_body() {
    for (body, expected) in [
        (r#"{"stream":true,"x":[]}"#, true),
        (r#"{"stream":false}"#, false),
        ("{}", false),
        (r#"{"stream":null}"#, false),
        ("x", false),
    ] {
        assert_eq!(wants_stream(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn no_damage_to_a_request_makes_it_panic() {
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,iV"}}]);
    let chat = asks(&json!({
        "tools": [tool("ls")], "tool_choice": "auto", "parallel_tool_calls": false, "stop": ["a"], "temperature": 1.5,
        "reasoning": {"effort": "high", "max_tokens": 9}, "max_tokens": 5000, "user": "u",
        "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": image},
            {"role": "assistant", "content": null, "tool_calls":
                [{"id": "a", "type": "function", "function": {"name": "ls", "arguments": "{}"}}],
                "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s",
                    "format": "anthropic-claude-v1", "index": 0}]},
            {"role": "tool", "tool_call_id": "a", "content": "ok"},
        ],
    }))
    .to_string();
    assert!(request(chat.as_bytes()).is_ok());
    let mut passed = 0;
    for place in 0..chat.len() {
        for damage in [b'"', b'9', b'{', b'\\', b' ', 0xff] {
            let mut damaged = chat.clone().into_bytes();
            damaged[place] = damage;
            passed += usize::from(request(&damaged).is_ok());
        }
    }
    assert!(passed > 100, "{passed}");
}
