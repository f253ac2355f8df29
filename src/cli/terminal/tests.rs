//! A whole run in every mode, as it would be read.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use expect_test::{Expect, expect};

use super::made_up::{self, THREAD, Tale, Told};
use super::*;

/// Both channels, told apart only where one follows the other.
struct Sink {
    name: &'static str,
    to: Sender<(&'static str, String)>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).map_err(io::Error::other)?;
        self.to.send((self.name, text)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PIPES: Facts = Facts { stdout: false, stderr: false, colour: false, width: None };
const TERMINAL: Facts = Facts { stdout: true, stderr: true, colour: false, width: Some(60) };

fn ui(output: Output, loudness: Loudness, facts: Facts) -> (Ui, Receiver<(&'static str, String)>) {
    let (to, from) = channel();
    let sink = |name| -> Box<dyn Write + Send> { Box::new(Sink { name, to: to.clone() }) };
    (Ui::over(output, loudness, facts, (sink("out"), sink("err"))), from)
}

fn play(ui: &mut Ui, tale: Tale) -> Summary {
    let mut summary = Summary::new(THREAD);
    for told in tale.told {
        match told {
            Told::Event(event) => {
                summary.event(&event);
                ui.event(&event);
            }
            Told::Live(event) => ui.live(&event),
            Told::Passed(_) => {}
        }
    }
    ui.finish(&summary).unwrap();
    summary
}

/// Plays a run; `both` is what a terminal shows, otherwise the channels one after the other.
fn shown(output: Output, loudness: Loudness, facts: Facts, end: &str) -> String {
    let (mut ui, from) = ui(output, loudness, facts);
    let mut tale = made_up::run();
    tale.event(made_up::end(end));
    play(&mut ui, tale);
    let written: Vec<_> = from.try_iter().collect();
    if facts.stdout && facts.stderr {
        return written.into_iter().map(|(_, text)| text).collect();
    }
    let of = |name| written.iter().filter(|(to, _)| *to == name).map(|(_, text)| text.as_str()).collect::<String>();
    format!("── out\n{}── err\n{}", of("out"), of("err"))
}

fn check(shown: &str, expect: &Expect) {
    // Without the moving line nothing that a terminal obeys may be left.
    assert!(shown.chars().all(|char| char == '\n' || !char.is_control()), "{shown:?}");
    expect.assert_eq(shown);
}

#[test]
fn on_a_terminal_texts_stream_between_the_tool_lines() {
    check(&shown(Output::Text, Loudness::Normal, TERMINAL, "completed"), &expect![[r#"
        I'll look at the tests first.
        ✗ bash  cargo test --workspace --all-features 2>&1 |…  4.2 s
          COMMAND_FAILED: exit code 101
        ✓ file_read  …calculator/src/operations/subtraction.rs  3 ms

        The operator 
        gateway: HTTP 503, the gateway could not answer
          trying again in 2 s (attempt 2)

        The operator is wrong:

        ```rust
        a + b   // 足し算ではない
        ```
        It must be a minus.
        ✗ file_edit  …calculator/src/operations/subtraction.rs  5 ms
          EDIT_MISMATCH: old_string occurs 2 times, at lines 2 and…
        /tools/file restarted
        the runtime was restarted; going on from where it stopped
        bash: started again after a crash (start 2)
        history repaired: the provider's id "" was empty or taken
        › Also run …
        ✓ bash  sed -i 's/a + b/a - b/' subtraction.rs  1 m 12 s

        Done: the subtraction subtracts, and 2 tests pass.

        ✓ completed
          4 turns, 4 calls, 12,000 tokens in (4,000 cached),
          224 out, 1 m 12 s
          thr_01JDDX58FG28T5CY4TQKFF04HM
    "#]]);
}

#[test]
fn in_a_pipe_there_is_the_result_and_nothing_else() {
    check(&shown(Output::Text, Loudness::Normal, PIPES, "completed"), &expect![[r#"
        ── out


        Done: the subtraction subtracts, and 2 tests pass.
        ── err
        I'll look at the tests first.
        ✗ bash  cargo test --workspace --all-features 2>&1 | tail -40 …  4.2 s
          COMMAND_FAILED: exit code 101
        ✓ file_read  crates/calculator/src/operations/subtraction.rs  3 ms
        gateway: HTTP 503, the gateway could not answer, trying again in 2 s (attempt 2)

        The operator is wrong:

        ```rust
        a + b   // 足し算ではない
        ```
        It must be a minus.
        ✗ file_edit  crates/calculator/src/operations/subtraction.rs  5 ms
          EDIT_MISMATCH: old_string occurs 2 times, at lines 2 and 9; give more of the text around it so that it occurs once
        /tools/file restarted
        the runtime was restarted; going on from where it stopped
        bash: started again after a crash (start 2)
        history repaired: the provider's id "" was empty or taken
        › Also run …
        ✓ bash  sed -i 's/a + b/a - b/' subtraction.rs  1 m 12 s

        ✓ completed
          4 turns, 4 calls, 12,000 tokens in (4,000 cached), 224 out, 1 m 12 s
          thr_01JDDX58FG28T5CY4TQKFF04HM
    "#]]);
}

#[test]
fn without_an_answer_the_output_is_empty() {
    check(&shown(Output::Text, Loudness::Quiet, PIPES, "checkpointed"), &expect![[r#"
        ── out
        ── err
        ■ checkpointed: no answer from the gateway
          GATEWAY_REFUSED: HTTP 401, the token was rejected; give a valid one
          to go on: lakitu resume thr_01JDDX58FG28T5CY4TQKFF04HM
    "#]]);
    check(&shown(Output::Text, Loudness::Quiet, PIPES, "completed"), &expect![[r#"
        ── out


        Done: the subtraction subtracts, and 2 tests pass.
        ── err
    "#]]);
    check(&shown(Output::Text, Loudness::Quiet, TERMINAL, "failed"), &expect![[r#"
        ✗ failed
          STUCK: the same call gave the same result 5 times in a row
          to go on: lakitu continue thr_01JDDX58FG28T5CY4TQKFF04HM "…"
    "#]]);
}

#[test]
fn json_is_one_object_and_the_outputs_can_be_seen_too() {
    check(&shown(Output::Json, Loudness::Verbose, PIPES, "failed"), &expect![[r#"
        ── out
        {"artifacts":[],"error":{"code":"STUCK","message":"the same call gave the same result 5 times in a row"},"status":"failed","text":"\n\nDone: the subtraction subtracts, and 2 tests pass.\n","thread":"thr_01JDDX58FG28T5CY4TQKFF04HM","tool_calls":4,"turns":4,"usage":{"cached_tokens":4000,"input_tokens":12000,"output_tokens":224}}
        ── err
        I'll look at the tests first.
        ✗ bash  cargo test --workspace --all-features 2>&1 | tail -40 …  4.2 s
          COMMAND_FAILED: exit code 101
          │ running 2 tests
          │ test subtracts ... FAILED
          │ 
          │ 1 failed
        ✓ file_read  crates/calculator/src/operations/subtraction.rs  3 ms
          │ 1    pub fn sub(a: i32, b: i32) -> i32 {
          │ 2        a + b
          │ 3    }
        gateway: HTTP 503, the gateway could not answer, trying again in 2 s (attempt 2)

        The operator is wrong:

        ```rust
        a + b   // 足し算ではない
        ```
        It must be a minus.
        ✗ file_edit  crates/calculator/src/operations/subtraction.rs  5 ms
          EDIT_MISMATCH: old_string occurs 2 times, at lines 2 and 9; give more of the text around it so that it occurs once
        /tools/file restarted
        the runtime was restarted; going on from where it stopped
        bash: started again after a crash (start 2)
        history repaired: the provider's id "" was empty or taken
        › Also run …
        ✓ bash  sed -i 's/a + b/a - b/' subtraction.rs  1 m 12 s

        Done: the subtraction subtracts, and 2 tests pass.

        ✗ failed
          STUCK: the same call gave the same result 5 times in a row
          4 turns, 4 calls, 12,000 tokens in (4,000 cached), 224 out, 1 m 12 s
          thr_01JDDX58FG28T5CY4TQKFF04HM
          to go on: lakitu continue thr_01JDDX58FG28T5CY4TQKFF04HM "…"
    "#]]);
}

#[test]
fn the_stream_holds_every_event_and_ends_with_the_result() {
    let shown = shown(Output::StreamJson, Loudness::Normal, PIPES, "checkpointed");
    let (out, err) = shown.split_once("── err\n").unwrap();
    let lines: Vec<serde_json::Value> = out.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let told = made_up::run().told.iter().filter(|told| !matches!(told, Told::Passed(_))).count();
    assert_eq!(types.len(), told + 2);
    assert_eq!((types.first(), types.last()), (Some(&"prompt"), Some(&"result")));
    check(out.lines().last().unwrap(), &expect![[r#"{"artifacts":[],"checkpoint":{"reason":"gateway"},"error":{"code":"GATEWAY_REFUSED","message":"HTTP 401, the token was rejected; give a valid one"},"status":"checkpointed","text":"\n\nDone: the subtraction subtracts, and 2 tests pass.\n","thread":"thr_01JDDX58FG28T5CY4TQKFF04HM","tool_calls":4,"turns":4,"type":"result","usage":{"cached_tokens":4000,"input_tokens":12000,"output_tokens":224}}"#]]);
    check(err, &expect![[r#"
        ■ checkpointed: no answer from the gateway
          GATEWAY_REFUSED: HTTP 401, the token was rejected; give a valid one
          to go on: lakitu resume thr_01JDDX58FG28T5CY4TQKFF04HM
    "#]]);
}
