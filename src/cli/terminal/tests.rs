//! A whole run in every mode, as it would be read.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use expect_test::{Expect, expect};
use lakitu_kernel::{ErrorCode, EventBody, Turn};
use proptest::prelude::*;
use serde_json::json;

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
    let mut clock = Duration::ZERO;
    for told in tale.told {
        match told {
            Told::Event(event) => {
                summary.event(&event);
                ui.event(&event);
            }
            Told::Live(event) => ui.live(&event),
            Told::Passed(time) => {
                let until = clock + time;
                while clock < until {
                    clock = until.min(clock + Duration::from_millis(100));
                    ui.tick_at(clock);
                }
            }
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
        let written: String = written.into_iter().map(|(_, text)| text).collect();
        return after_erasing(&written);
    }
    let of = |name| written.iter().filter(|(to, _)| *to == name).map(|(_, text)| text.as_str()).collect::<String>();
    format!("── out\n{}── err\n{}", of("out"), of("err"))
}

/// What is left of a terminal's lines. Erasing a line with text in it would show as a loss.
fn after_erasing(written: &str) -> String {
    let mut screen = String::new();
    for (index, rest) in written.split("\r\u{1b}[K").enumerate() {
        if index > 0 {
            screen.truncate(screen.rfind('\n').map_or(0, |at| at + 1));
        }
        screen.push_str(rest);
    }
    screen
}

fn check(shown: &str, expect: &Expect) {
    // The moving line apart, nothing that a terminal obeys may be left.
    assert!(shown.chars().all(|char| char == '\n' || !char.is_control()), "{shown:?}");
    expect.assert_eq(shown);
}

#[test]
fn on_a_terminal_texts_stream_between_the_tool_lines() {
    check(
        &shown(Output::Text, Loudness::Normal, TERMINAL, "completed"),
        &expect![[r#"
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
    "#]],
    );
}

#[test]
fn in_a_pipe_there_is_the_result_and_nothing_else() {
    check(
        &shown(Output::Text, Loudness::Normal, PIPES, "completed"),
        &expect![[r#"
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
    "#]],
    );
}

#[test]
fn without_an_answer_the_output_is_empty() {
    check(
        &shown(Output::Text, Loudness::Quiet, PIPES, "checkpointed"),
        &expect![[r"
        ── out
        ── err
        ■ checkpointed: no answer from the gateway
          GATEWAY_REFUSED: HTTP 401, the token was rejected; give a valid one
          to go on: lakitu resume thr_01JDDX58FG28T5CY4TQKFF04HM
    "]],
    );
    check(
        &shown(Output::Text, Loudness::Quiet, PIPES, "completed"),
        &expect![[r"
        ── out


        Done: the subtraction subtracts, and 2 tests pass.
        ── err
    "]],
    );
    check(
        &shown(Output::Text, Loudness::Quiet, TERMINAL, "failed"),
        &expect![[r#"
        ✗ failed
          STUCK: the same call gave the same result 5 times in a row
          to go on: lakitu continue thr_01JDDX58FG28T5CY4TQKFF04HM "…"
    "#]],
    );
}

#[test]
fn json_is_one_object_and_the_outputs_can_be_seen_too() {
    check(
        &shown(Output::Json, Loudness::Verbose, PIPES, "failed"),
        &expect![[r#"
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
    "#]],
    );
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
    check(
        out.lines().last().unwrap(),
        &expect![[
            r#"{"artifacts":[],"checkpoint":{"reason":"gateway"},"error":{"code":"GATEWAY_REFUSED","message":"HTTP 401, the token was rejected; give a valid one"},"status":"checkpointed","text":"\n\nDone: the subtraction subtracts, and 2 tests pass.\n","thread":"thr_01JDDX58FG28T5CY4TQKFF04HM","tool_calls":4,"turns":4,"type":"result","usage":{"cached_tokens":4000,"input_tokens":12000,"output_tokens":224}}"#
        ]],
    );
    check(
        err,
        &expect![[r"
        ■ checkpointed: no answer from the gateway
          GATEWAY_REFUSED: HTTP 401, the token was rejected; give a valid one
          to go on: lakitu resume thr_01JDDX58FG28T5CY4TQKFF04HM
    "]],
    );
}

fn view(width: usize, colour: bool) -> View {
    View::new(Look { streams: true, colour, width: Some(width), loudness: Loudness::Normal })
}

fn delta(index: u64, text: &str) -> LiveEvent {
    LiveEvent::TextDelta { turn: Turn(1), index, text: text.into() }
}

fn message(text: &str) -> Event {
    let mut tale = Tale::default();
    tale.turn().says(text, &[]);
    match tale.told.swap_remove(1) {
        Told::Event(event) => event,
        Told::Live(_) | Told::Passed(_) => unreachable!("the tale's second word is the message"),
    }
}

fn texts(pieces: Vec<Piece>) -> String {
    pieces.into_iter().map(|piece| piece.text).collect()
}

#[test]
fn the_moving_line_says_what_is_waited_for_and_gives_way_to_text() {
    let mut view = view(40, false);
    let moving = |view: &mut View, ms| {
        let (pieces, line) = view.tick(Duration::from_millis(ms));
        format!("{}{}", texts(pieces), line.unwrap_or_default())
    };
    assert_eq!(moving(&mut view, 0), "");
    view.live(&LiveEvent::TurnStarted { turn: Turn(1) });
    assert_eq!([100, 300, 12_000].map(|ms| moving(&mut view, ms)), ["", "⠸ thinking", "⠋ thinking 12 s"]);
    view.live(&delta(0, "I run"));
    // Text that stands in its line keeps it for a while; then the line is ended once.
    assert_eq!([12_500, 13_500, 13_600].map(|ms| moving(&mut view, ms)), ["", "\n⠴ thinking 13 s", "⠦ thinking 13 s"]);
    let mut tale = Tale::default();
    let long = "cargo test --workspace --all-features --no-fail-fast";
    tale.turn().says("I run", &[("a", "bash", json!({"command": long})), ("b", "bash\u{1b}[2J", json!({}))]);
    tale.result("a", 1, "", None);
    let mut events = tale.told.into_iter().filter_map(|told| match told {
        Told::Event(event) => Some(event),
        Told::Live(_) | Told::Passed(_) => None,
    });
    let shown: String = events.by_ref().take(4).map(|event| texts(view.event(&event))).collect();
    assert_eq!(shown, "");
    let line = moving(&mut view, 17_700);
    assert_eq!(line, "⠧ bash 4 s (+1): cargo test --workspac…");
    assert!(words::width(&line) < 40);
    events.for_each(|event| drop(view.event(&event)));
    assert_eq!(moving(&mut view, 90_700), "⠧ bash 1 m 13 s");
    let mut view = self::view(40, false);
    view.live(&LiveEvent::Retry { attempt: 1, after_ms: 2_500, reason: "x".into() });
    assert_eq!(
        [0, 2_000, 4_500].map(|ms| moving(&mut view, ms)),
        ["⠋ gateway: trying again in 3 s", "⠋ gateway: trying again in 1 s", "⠴ thinking 2 s"]
    );
}

#[test]
fn colours_are_ours_alone_and_only_where_asked_for() {
    let mut tale = Tale::default();
    tale.result("a", 3, "", Some((ErrorCode::CommandFailed, "\u{1b}[31mexit\u{1b}]0;x\u{7} code 1")));
    let Some(Told::Event(event)) = tale.told.pop() else { panic!("a result was told") };
    expect!["\u{1b}[31m✗\u{1b}[0m \u{1b}[1ma call\u{1b}[0m  \u{1b}[2m3 ms\u{1b}[0m\n\u{1b}[31m  COMMAND_FAILED: exit code 1\u{1b}[0m\n"]
        .assert_eq(&texts(view(60, true).event(&event)));
    assert_eq!(texts(view(60, false).event(&event)), "✗ a call  3 ms\n  COMMAND_FAILED: exit code 1\n");
}

#[test]
fn calls_of_before_are_named_but_not_shown() {
    let mut tale = Tale::default();
    let prompt = |text: &str| EventBody::Prompt { text: text.into() };
    tale.event(prompt("one")).turn().says("reading", &[("a", "file_read", json!({"path": "a.rs"}))]);
    tale.result("a", 3, "", None).event(prompt("typed here")).event(prompt("from elsewhere"));
    let mut view = view(60, false);
    let mut events = tale.told.iter().filter_map(|told| match told {
        Told::Event(event) => Some(event),
        Told::Live(_) | Told::Passed(_) => None,
    });
    events.by_ref().take(4).for_each(|event| view.recall(event));
    let shown: String = events.map(|event| texts(view.event(event))).collect();
    assert_eq!(shown, "✓ file_read  a.rs  3 ms\n› from elsewhere\n");
}

#[test]
fn a_settled_thread_shows_its_answer_once() {
    let mut settled = Summary::new(THREAD);
    (settled.end, settled.text) = (Some(End::Completed), "It was \u{1b}]0;x\u{7}done.".into());
    let (mut on_terminal, from) = ui(Output::Text, Loudness::Normal, TERMINAL);
    on_terminal.finish(&settled).unwrap();
    let shown: String = from.try_iter().map(|(_, text)| text).collect();
    assert!(shown.starts_with("It was done.\n\n✓ completed\n"), "{shown}");
    let (mut in_pipe, from) = ui(Output::Text, Loudness::Quiet, PIPES);
    in_pipe.finish(&settled).unwrap();
    // What a program reads is not ours to change.
    assert_eq!(from.try_iter().collect::<Vec<_>>(), [("out", "It was \u{1b}]0;x\u{7}done.\n".to_owned())]);
}

#[test]
fn nobody_reading_is_no_failure_and_a_full_disk_is_one() {
    struct Refuses(io::ErrorKind);
    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let finish = |kind| {
        let channels: (Box<dyn Write + Send>, Box<dyn Write + Send>) =
            (Box::new(Refuses(kind)), Box::new(Refuses(kind)));
        let mut ui = Ui::over(Output::StreamJson, Loudness::Verbose, PIPES, channels);
        ui.live(&delta(0, "x"));
        ui.finish(&Summary::new(THREAD)).map_err(|error| error.kind())
    };
    assert_eq!(finish(io::ErrorKind::BrokenPipe), Ok(()));
    assert_eq!(finish(io::ErrorKind::StorageFull), Err(io::ErrorKind::StorageFull));
}

proptest! {
    /// Whatever is lost on the way, and wherever a call broke off: in the end the whole text was shown, and once.
    #[test]
    fn a_text_is_shown_whole_and_once(
        pieces in prop::collection::vec("[a-z\u{e9}\u{1b}\\[\n ]{1,6}", 1..8),
        lost in prop::collection::vec(any::<bool>(), 8),
        cut in prop::option::of(0_usize..8),
    ) {
        let text = pieces.concat();
        let mut view = view(60, false);
        let mut shown = String::new();
        let mut index = 0;
        for piece in pieces.iter().take(cut.unwrap_or(0)) {
            view.live(&delta(index, piece));
            index += 1;
        }
        if cut.is_some() {
            view.live(&LiveEvent::Retry { attempt: 1, after_ms: 1, reason: "cut".into() });
        }
        for (piece, lost) in pieces.iter().zip(lost) {
            if !lost {
                shown += &texts(view.live(&delta(index, piece)));
            }
            index += 1;
        }
        shown += &texts(view.event(&message(&text)));
        let mut expected = String::new();
        escape::Filter::new().push(&text, &mut expected);
        // Empty lines at both ends are not shown, and of several only one.
        let words = |text: &str| text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(words(&shown), words(&expected));
    }
}
