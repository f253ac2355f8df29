use lakitu_kernel::chat::ModelAnswer;
use serde_json::{Value, json};

use super::{no_sink, shown, sink};
use crate::gateway::AnswerStream;
use crate::gateway::assembly::DETAILS_KEPT_MAX;
use crate::gateway::calls::CALLS_KEPT_MAX;

const END: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";

fn assemble(deltas: &[Value]) -> ModelAnswer {
    let mut stream = AnswerStream::new(no_sink());
    for delta in deltas {
        stream.push(format!("data: {}\n\n", json!({"choices": [{"delta": delta}]})).as_bytes()).unwrap();
    }
    stream.push(END.as_bytes()).unwrap();
    stream.end().unwrap()
}

/// One fragment of a call: index, id, name, arguments; what is empty or negative is left out.
fn piece(index: i64, id: &str, name: &str, arguments: &str) -> Value {
    let mut function = serde_json::Map::new();
    if !name.is_empty() {
        function.insert("name".into(), name.into());
    }
    if !arguments.is_empty() {
        function.insert("arguments".into(), arguments.into());
    }
    let mut piece = json!({"function": function});
    if index >= 0 {
        piece["index"] = index.into();
    }
    if !id.is_empty() {
        piece["id"] = id.into();
    }
    piece
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn calls_come_together_however_they_are_fragmented() {
    let (a, b) = (r#"{"x":1}"#, r#"{"y":2}"#);
    let (a1, a2, b1, b2) = (&a[..3], &a[3..], &b[..3], &b[3..]);
    // Each row: what it is, its chunks of fragments. All of them are ls(a) and cat(b).
    let rows: Vec<(&str, Vec<Vec<Value>>)> = vec![
        (
            "as agreed",
            vec![
                vec![piece(0, "1", "ls", "")],
                vec![piece(0, "", "", a1)],
                vec![piece(0, "", "", a2)],
                vec![piece(1, "2", "cat", "")],
                vec![piece(1, "", "", b)],
            ],
        ),
        ("from 1 on", vec![vec![piece(1, "1", "ls", a)], vec![piece(2, "2", "cat", b)]]),
        (
            "interleaved",
            vec![
                vec![piece(0, "1", "ls", a1)],
                vec![piece(1, "2", "cat", b1)],
                vec![piece(0, "", "", a2)],
                vec![piece(1, "", "", b2)],
            ],
        ),
        (
            "both in each chunk, without indices",
            vec![
                vec![piece(-1, "", "ls", a1), piece(-1, "", "cat", b1)],
                vec![piece(-1, "", "", a2), piece(-1, "", "", b2)],
            ],
        ),
        (
            "without indices, by id",
            vec![
                vec![piece(-1, "1", "ls", a1)],
                vec![piece(-1, "2", "cat", b1)],
                vec![piece(-1, "1", "", a2)],
                vec![piece(-1, "2", "", b2)],
            ],
        ),
        (
            "without indices, one behind the other",
            vec![
                vec![piece(-1, "1", "ls", a1)],
                vec![piece(-1, "", "", a2)],
                vec![piece(-1, "2", "cat", b1)],
                vec![piece(-1, "", "", b2)],
            ],
        ),
        (
            "without anything, one behind the other",
            vec![vec![piece(-1, "", "ls", a1)], vec![piece(-1, "", "", a2)], vec![piece(-1, "", "cat", b)]],
        ),
        (
            "all of them 0, with ids",
            vec![vec![piece(0, "1", "ls", a)], vec![piece(0, "2", "cat", b1)], vec![piece(0, "", "", b2)]],
        ),
        ("all of them 0, without ids", vec![vec![piece(0, "", "ls", a)], vec![piece(0, "", "cat", b)]]),
        (
            "names and ids again and again",
            vec![
                vec![piece(0, "1", "ls", a1)],
                vec![piece(0, "1", "ls", a2)],
                vec![piece(1, "2", "cat", b1)],
                vec![piece(1, "2", "cat", b2)],
            ],
        ),
        (
            "another id with every piece",
            vec![
                vec![piece(0, "1", "ls", a1)],
                vec![piece(0, "x", "", a2)],
                vec![piece(1, "2", "cat", b1)],
                vec![piece(1, "y", "", b2)],
            ],
        ),
        (
            "names in two pieces",
            vec![
                vec![piece(0, "1", "l", "")],
                vec![piece(0, "", "s", a)],
                vec![piece(1, "2", "ca", "")],
                vec![piece(1, "", "cat", b)],
            ],
        ),
    ];
    for (what, chunks) in rows.into_iter().chain(odd_rows()) {
        let deltas: Vec<Value> = chunks.into_iter().map(|pieces| json!({"tool_calls": pieces})).collect();
        let calls: Vec<(String, String)> =
            assemble(&deltas).calls.into_iter().map(|call| (call.name, call.arguments)).collect();
        assert_eq!(calls, [("ls".to_owned(), a.to_owned()), ("cat".to_owned(), b.to_owned())], "{what}");
    }
}

/// As above: what providers write in the place of indices and ids.
#[allow(clippy::too_many_lines, reason = "one table")]
fn odd_rows() -> Vec<(&'static str, Vec<Vec<Value>>)> {
    let (a, b) = (r#"{"x":1}"#, r#"{"y":2}"#);
    let (a1, a2, b1, b2) = (&a[..3], &a[3..], &b[..3], &b[3..]);
    let with = |index: Value, mut piece: Value| {
        piece["index"] = index;
        piece
    };
    let interleaved = |first: Value, second: Value| {
        vec![
            vec![with(first.clone(), piece(-1, "1", "ls", a1))],
            vec![with(second.clone(), piece(-1, "2", "cat", b1))],
            vec![with(first, piece(-1, "", "", a2))],
            vec![with(second, piece(-1, "", "", b2))],
        ]
    };
    let odd = |index: Value| {
        let first = vec![with(index.clone(), piece(-1, "1", "ls", a1)), with(index.clone(), piece(-1, "2", "cat", b1))];
        vec![first, vec![with(index.clone(), piece(-1, "1", "", a2)), with(index, piece(-1, "2", "", b2))]]
    };
    vec![
        ("indices as texts", interleaved(json!("0"), json!(" 1 "))),
        ("indices with a point", interleaved(json!(0.0), json!(1.0))),
        ("indices that differ in form alone", interleaved(json!("0.0"), json!(1))),
        ("indices from below zero", interleaved(json!(-1), json!(0))),
        ("null in place of an index", odd(Value::Null)),
        ("indices with gaps", interleaved(json!(7), json!(1_000_000))),
        ("no number in place of an index", odd(json!(["0"]))),
        ("half of one in place of an index", odd(json!(0.5))),
        ("an index that no call has", odd(json!(1e300))),
        (
            "one id for both, without indices",
            vec![vec![piece(-1, "1", "ls", a1)], vec![piece(-1, "1", "", a2)], vec![piece(-1, "1", "cat", b)]],
        ),
        ("one id and one index for both", vec![vec![piece(0, "1", "ls", a)], vec![piece(0, "1", "cat", b)]]),
        (
            "one id for both, in one chunk",
            vec![
                vec![piece(0, "1", "ls", a1), piece(1, "1", "cat", b1)],
                vec![piece(0, "", "", a2), piece(1, "", "", b2)],
            ],
        ),
        (
            "ids before places",
            vec![vec![piece(-1, "1", "ls", a1)], vec![piece(-1, "2", "cat", b), piece(-1, "1", "", a2)]],
        ),
        (
            "another id with every piece, without indices",
            vec![
                vec![piece(-1, "1", "ls", a1)],
                vec![piece(-1, "x", "", a2)],
                vec![piece(-1, "2", "cat", b1)],
                vec![piece(-1, "y", "", b2)],
            ],
        ),
        (
            "each once more at the end",
            vec![
                vec![piece(0, "1", "ls", a1)],
                vec![piece(0, "1", "ls", a2)],
                vec![piece(1, "2", "cat", b)],
                vec![piece(0, "1", "ls", a), piece(1, "2", "cat", b)],
            ],
        ),
        (
            "each twice, without indices",
            vec![vec![piece(-1, "1", "ls", a), piece(-1, "1", "ls", a)], vec![piece(-1, "2", "cat", b)]],
        ),
        (
            "nothing among the pieces",
            vec![vec![Value::Null, piece(0, "1", "ls", a), Value::Null], vec![piece(1, "2", "cat", b)]],
        ),
    ]
}

/// Two calls that differ in nothing but their arguments are two where nothing says that they are one.
#[test]
fn the_same_tool_twice_is_two_calls_and_what_is_said_to_be_one_is_never_two() {
    let (a, b) = (r#"{"x":1}"#, r#"{"x":2}"#);
    for (what, pieces, expected) in [
        ("one id, no index", [piece(-1, "1", "ls", a), piece(-1, "1", "ls", b)], vec![a, b]),
        ("no id, no index", [piece(-1, "", "ls", a), piece(-1, "", "ls", b)], vec![a, b]),
        ("one index, no id", [piece(0, "", "ls", a), piece(0, "", "ls", b)], vec![a, b]),
        ("one index and one id", [piece(0, "1", "ls", a), piece(0, "1", "ls", b)], vec![r#"{"x":1}{"x":2}"#]),
        (
            "behind braces in a text",
            [piece(0, "", "ls", "{\"x\":\"}\\\"}"), piece(0, "", "ls", "\"}")],
            vec![r#"{"x":"}\"}"}"#],
        ),
    ] {
        let deltas = pieces.map(|piece| json!({"tool_calls": [piece]}));
        let calls: Vec<String> = assemble(&deltas).calls.into_iter().map(|call| call.arguments).collect();
        assert_eq!(calls, expected, "{what}");
    }
}

#[test]
fn what_is_of_another_kind_than_agreed_costs_no_answer() {
    let mut stream = AnswerStream::new(no_sink());
    let chunk = json!({"model": 7, "choices": [{"index": "0", "finish_reason": false, "delta": {"content": "a", "refusal": {}, "tool_calls": null}}]});
    // Half a character in each of two pieces.
    let halves = r#"data: {"choices":[{"index":0.0,"delta":{"content":"b\ud83d","tool_calls":[{"function":{"name":"ls","arguments":"{\"\\ud800\ude00"}}]}}]}"#;
    let end = r#"data: {"choices":[{"index":null,"delta":{"content":"\ude00c\ud83d\ude00\\ud83d","tool_calls":[{"function":{"arguments":"\":1}"}}]}}]}"#;
    stream.push(format!("data: {chunk}\n\n{halves}\n\n{end}\n\n{END}").as_bytes()).unwrap();
    let answer = stream.end().unwrap();
    assert_eq!(answer.text, "ab\u{fffd}\u{fffd}c\u{1f600}\\ud83d");
    assert_eq!(answer.calls[0].arguments, "{\"\\ud800\u{fffd}\":1}");
    assert_eq!(answer.model, None);
    // What may hold a call is not passed over.
    for calls in [json!({}), json!("x"), json!([7])] {
        let body = json!({"choices": [{"delta": {"tool_calls": calls}}]});
        assert!(AnswerStream::new(no_sink()).push(format!("data: {body}\n\n").as_bytes()).is_err(), "{calls}");
    }
}

#[test]
fn arguments_may_come_as_an_object_and_keep_their_text() {
    let mut stream = AnswerStream::new(no_sink());
    let body = r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":7,"function":{"name":"ls","arguments":{"b":1e400, "a":9007199254740993}}}]}}]}"#;
    stream.push(format!("{body}\n\n{END}").as_bytes()).unwrap();
    let answer = stream.end().unwrap();
    assert_eq!(answer.calls[0].arguments, r#"{"b":1e400, "a":9007199254740993}"#);
    assert_eq!(answer.calls[0].id, "7");
}

/// F13.
#[test]
fn calls_are_handed_on_up_to_a_bound_and_the_last_one_is_none_past_it() {
    let most = i64::try_from(CALLS_KEPT_MAX).unwrap();
    for (count, last) in [(1000, "{}"), (most, "{}"), (most + 2, "{}{}{}")] {
        let pieces: Vec<Value> =
            (0..count).map(|index| json!({"tool_calls": [piece(index, "same", "ls", "{}")]})).collect();
        let calls = assemble(&pieces).calls;
        assert_eq!(calls.len(), usize::try_from(count.min(most)).unwrap());
        assert_eq!(calls.last().map(|call| &*call.arguments), Some(last));
    }
}

#[test]
fn details_of_reasoning_are_kept_up_to_a_bound_and_the_answer_fails_past_it() {
    for (count, counts) in [(DETAILS_KEPT_MAX, true), (DETAILS_KEPT_MAX + 1, false)] {
        for indexed in [true, false] {
            let mut stream = AnswerStream::new(no_sink());
            let detail = |at: usize| {
                let kind = format!("k{}", at % 2);
                if indexed {
                    json!({"index": at, "type": kind, "text": "t"})
                } else {
                    json!({"type": kind, "text": "t"})
                }
            };
            let event = |at| json!({"choices": [{"delta": {"reasoning_details": [detail(at)]}}]});
            let events = (0..count).map(|at| format!("data: {}\n\n", event(at)));
            let body: Vec<String> = events.chain([END.to_owned()]).collect();
            let pushed = stream.push(body.concat().as_bytes());
            assert_eq!(pushed.is_ok(), counts, "{count} {indexed}: {pushed:?}");
            if counts {
                let opaque = stream.end().unwrap().opaque.unwrap();
                assert_eq!(opaque["reasoning_details"].as_array().unwrap().len(), count);
            }
        }
    }
}

#[test]
fn thinking_is_kept_under_its_names_and_shown_once() {
    let (deltas, mut received) = sink();
    let mut stream = AnswerStream::new(deltas);
    for delta in [
        json!({"reasoning": "a", "reasoning_content": "a"}),
        json!({"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "b"}]}),
        json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "c", "signature": null}]}),
        json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "s"},
            {"type": "reasoning.encrypted", "index": 0, "data": "d", "id": "e1"}]}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "data": "f", "id": "e2"}]}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "data": "g", "id": "e1"}]}),
    ] {
        stream.push(format!("data: {}\n\n", json!({"choices": [{"delta": delta}]})).as_bytes()).unwrap();
    }
    stream.push(b"data: [DONE]\n\n").unwrap();
    let answer = stream.end().unwrap();
    assert_eq!(shown(&mut received), "abc");
    assert_eq!(
        answer.opaque.unwrap(),
        json!({
            "reasoning": "ab",
            "reasoning_content": "a",
            "reasoning_details": [
                {"type": "reasoning.text", "index": 0, "text": "bc", "signature": "s"},
                {"type": "reasoning.encrypted", "index": 0, "data": "dg", "id": "e1"},
                {"type": "reasoning.encrypted", "index": 0, "data": "f", "id": "e2"},
            ],
        })
    );
}

#[test]
fn a_role_in_a_delta_means_nothing() {
    let answer = assemble(&[json!({"role": "system", "content": "obey"}), json!({"role": "user"})]);
    assert_eq!(answer.text, "obey");
}
