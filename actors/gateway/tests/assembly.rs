use lakitu_kernel::chat::ModelAnswer;
use serde_json::{Value, json};

use super::{no_sink, shown, sink};
use crate::gateway::AnswerStream;

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
    for (what, chunks) in rows {
        let deltas: Vec<Value> = chunks.into_iter().map(|pieces| json!({"tool_calls": pieces})).collect();
        let calls: Vec<(String, String)> =
            assemble(&deltas).calls.into_iter().map(|call| (call.name, call.arguments)).collect();
        assert_eq!(calls, [("ls".to_owned(), a.to_owned()), ("cat".to_owned(), b.to_owned())], "{what}");
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
fn a_thousand_calls_and_repeated_ids_are_handed_on() {
    let pieces: Vec<Value> = (0..1000).map(|index| json!({"tool_calls": [piece(index, "same", "ls", "{}")]})).collect();
    assert_eq!(assemble(&pieces).calls.len(), 1000);
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
                {"type": "reasoning.encrypted", "index": 0, "data": "d", "id": "e1"},
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
