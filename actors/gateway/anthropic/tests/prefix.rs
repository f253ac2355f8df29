//! Random conversations: each request begins with the one before, and is one that Anthropic takes.

use lakitu_kernel::chat;
use lakitu_kernel::event::Call;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::request;
use crate::gateway::validate::validate;

/// What a user or the model does next in a conversation.
#[derive(Debug, Clone)]
enum Step {
    User(String),
    Said(String, Option<Value>),
    Calls(String, Vec<(String, String)>, Option<Value>),
}

fn step() -> impl Strategy<Value = Step> {
    let text = || prop_oneof![Just(String::new()), Just(" \n".to_owned()), "[a-zä☃\"\\\\\n ]{0,12}"];
    let detail = prop_oneof![
        text().prop_map(|text| json!({"type": "reasoning.text", "text": text, "signature": "s", "format": "anthropic-claude-v1", "index": 0})),
        text().prop_map(|data| json!({"type": "reasoning.encrypted", "data": data, "format": "anthropic-claude-v1", "index": 1})),
        text().prop_map(|text| json!({"type": "reasoning.text", "text": text, "format": "other"})),
    ];
    let opaque = || {
        prop::option::of(prop::collection::vec(detail.clone(), 0..3).prop_map(|all| json!({"reasoning_details": all})))
    };
    let call = (text(), text()).prop_map(|(key, result)| (json!({key: 1}).to_string(), result));
    prop_oneof![
        text().prop_map(Step::User),
        (text(), opaque()).prop_map(|(text, opaque)| Step::Said(text, opaque)),
        (text(), prop::collection::vec(call, 1..5), opaque())
            .prop_map(|(text, calls, opaque)| Step::Calls(text, calls, opaque)),
    ]
}

/// The wire's bytes of a history, and the lengths at which a request may end.
fn wire(steps: &[Step]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = chat::prefix("claude-sonnet-4-5", "You are.", []).to_vec();
    let mut ends = Vec::new();
    let mut asked = false;
    for (at, step) in steps.iter().enumerate() {
        // A model speaks when it is asked.
        if !asked && !matches!(step, Step::User(_)) {
            bytes.extend_from_slice(&chat::user("go on"));
            ends.push(bytes.len());
        }
        asked = match step {
            Step::User(text) => {
                bytes.extend_from_slice(&chat::user(text));
                true
            }
            Step::Said(text, opaque) => {
                bytes.extend_from_slice(&chat::assistant(text, &[], opaque.as_ref()));
                false
            }
            Step::Calls(text, calls, opaque) => {
                let id = |index: usize| format!("call_{at}_{index}");
                let made: Vec<Call> = calls
                    .iter()
                    .enumerate()
                    .map(|(index, (arguments, _))| Call {
                        call_id: id(index),
                        tool: "ls".into(),
                        arguments: arguments.clone(),
                    })
                    .collect();
                bytes.extend_from_slice(&chat::assistant(text, &made, opaque.as_ref()));
                for (index, (_, result)) in calls.iter().enumerate() {
                    bytes.extend_from_slice(&chat::tool(&id(index), result));
                }
                true
            }
        };
        if asked {
            ends.push(bytes.len());
        }
    }
    (bytes, ends)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_longer_conversation_begins_with_its_beginning(steps in prop::collection::vec(step(), 1..12)) {
        const SYSTEM: &str = r#""system":"#;
        let (bytes, ends) = wire(&steps);
        let mut before: Option<String> = None;
        for end in ends {
            let chat = [&bytes[..end], chat::SUFFIX].concat();
            prop_assert_eq!(validate(&chat), Ok(()));
            let body = String::from_utf8(request(&chat).unwrap()).unwrap();
            let whole: Value = serde_json::from_str(&body).unwrap();
            legal(&whole);
            // The bytes themselves, from the system on, without marks and without the brackets that close the end.
            let body = body.replace(r#","cache_control":{"type":"ephemeral"}"#, "");
            let body = body[body.find(SYSTEM).unwrap()..].strip_suffix("]}]}").unwrap().to_owned();
            if let Some(before) = before.replace(body.clone()) {
                prop_assert!(body.starts_with(&before), "{}\n{}", before, body);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&bytes);
    }
}

/// What Anthropic demands of a conversation.
fn legal(body: &Value) {
    let mut open: Vec<Value> = Vec::new();
    for (at, turn) in body["messages"].as_array().unwrap().iter().enumerate() {
        assert_eq!(turn["role"], if at % 2 == 0 { "user" } else { "assistant" }, "{body}");
        let blocks = turn["content"].as_array().unwrap();
        let mut results: Vec<Value> = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            match block["type"].as_str().unwrap() {
                "text" => assert!(!block["text"].as_str().unwrap().trim().is_empty(), "{body}"),
                "tool_result" => {
                    assert_eq!(results.len(), at, "results come first: {body}");
                    results.push(block["tool_use_id"].clone());
                }
                _ => {}
            }
        }
        assert_eq!(results, open, "{body}");
        open = blocks.iter().filter(|block| block["type"] == "tool_use").map(|block| block["id"].clone()).collect();
        let last = blocks.last().unwrap();
        assert!(!last["type"].as_str().unwrap().ends_with("thinking"), "{body}");
    }
    assert!(open.is_empty(), "{body}");
}
