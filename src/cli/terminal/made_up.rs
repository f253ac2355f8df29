//! A run as it could have been: everything that a person may come to see, once.

use std::time::Duration;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{Call, CheckpointReason, Resumed};
use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{ErrorCode, Event, EventBody, LiveEvent, Seq, ThreadId, ToolError, Turn};
use serde_json::{Value, json};

/// What is told, and how long nothing is.
pub(super) enum Told {
    /// An event of the journal.
    Event(Event),
    /// A live event.
    Live(LiveEvent),
    /// Time goes by.
    Passed(Duration),
}

/// The thread.
pub(super) const THREAD: ThreadId = ThreadId(0x0193_5bd2_a1f0_1234_5678_9abc_def0_1234);

#[derive(Default)]
pub(super) struct Tale {
    pub(super) told: Vec<Told>,
    seq: u64,
    ms: u64,
    index: u64,
    turn: u32,
}

impl Tale {
    pub(super) fn event(&mut self, body: EventBody) -> &mut Self {
        self.seq += 1;
        let (seq, at) = (Seq(self.seq), Timestamp(1_767_225_600_000 + self.ms));
        self.told.push(Told::Event(Event { seq, thread: THREAD, at, body }));
        self
    }

    pub(super) fn live(&mut self, event: LiveEvent) -> &mut Self {
        self.told.push(Told::Live(event));
        self
    }

    pub(super) fn passed(&mut self, ms: u64) -> &mut Self {
        self.ms += ms;
        self.told.push(Told::Passed(Duration::from_millis(ms)));
        self
    }

    pub(super) fn turn(&mut self) -> &mut Self {
        (self.turn, self.index) = (self.turn + 1, 0);
        self.live(LiveEvent::TurnStarted { turn: Turn(self.turn) })
    }

    pub(super) fn delta(&mut self, text: &str) -> &mut Self {
        self.index += 1;
        self.live(LiveEvent::TextDelta { turn: Turn(self.turn), index: self.index - 1, text: text.into() })
    }

    pub(super) fn lose(&mut self) -> &mut Self {
        self.index += 1;
        self.live(LiveEvent::Gap { dropped: 1 })
    }

    pub(super) fn says(&mut self, text: &str, calls: &[(&str, &str, Value)]) -> &mut Self {
        let turn = Turn(self.turn);
        let wire = |(id, tool, arguments): &(&str, &str, Value)| Call {
            call_id: (*id).into(),
            tool: (*tool).into(),
            arguments: arguments.to_string(),
        };
        let calls_wire = calls.iter().map(wire).collect();
        self.event(EventBody::Message {
            role: "assistant".into(),
            turn,
            text: text.into(),
            calls: calls_wire,
            opaque: None,
            cut: false,
            request: None,
        });
        let (input_tokens, output_tokens, cached_tokens) = (1_200 * u64::from(turn.0), 56, 1_000);
        self.event(EventBody::Usage {
            turn,
            model: "m".into(),
            input_tokens,
            output_tokens,
            cached_tokens,
            cost_usd: None,
        });
        for (id, tool, arguments) in calls {
            let (call_id, tool, arguments) = ((*id).into(), (*tool).into(), arguments.clone());
            self.event(EventBody::ToolIntent { call_id, tool, arguments, effect: EffectClass::Read });
        }
        self
    }

    pub(super) fn result(
        &mut self,
        id: &str,
        duration_ms: u64,
        output: &str,
        error: Option<(ErrorCode, &str)>,
    ) -> &mut Self {
        let error = error.map(|(code, message)| ToolError::new(code, message));
        let said = error.as_ref().map(|error| format!("{error}\n")).unwrap_or_default();
        let (call_id, ok, output) = (id.into(), error.is_none(), said + output);
        self.event(EventBody::ToolResult { call_id, ok, output, error, files: vec![], images: vec![], duration_ms })
    }
}

/// The run, up to its end. Its last text is its answer.
pub(super) fn run() -> Tale {
    let mut tale = Tale::default();
    tale.event(EventBody::Prompt { text: "Make the tests pass.".into() });
    tale.turn().passed(1_300).delta("I'll look at ").passed(100).delta("the tests ").passed(100).delta("first.");
    tale.passed(2_500).says(
        "I'll look at the tests first.",
        &[
            ("c1", "bash", json!({"command": "cargo test --workspace --all-features 2>&1 | tail -40\necho done"})),
            ("c2", "file_read", json!({"path": "crates/calculator/src/operations/subtraction.rs"})),
        ],
    );
    tale.passed(4_200).result(
        "c1",
        4_200,
        "running 2 tests\n\u{1b}[31mtest subtracts ... FAILED\u{1b}[0m\n\u{1b}]0;owned\u{7}\n1 failed",
        Some((ErrorCode::CommandFailed, "exit code 101")),
    );
    tale.result("c2", 3, "1\tpub fn sub(a: i32, b: i32) -> i32 {\n2\t    a + b\n3\t}\n", None);
    tale.turn().passed(400).delta("The operator ").passed(100).live(LiveEvent::Retry {
        attempt: 1,
        after_ms: 2_000,
        reason: "GATEWAY_UNREACHABLE: HTTP 503, the gateway could not answer".into(),
    });
    tale.passed(2_100).delta("The operator is ").lose().delta("It must be").passed(600).says(
        "The operator is wrong:\n\n```rust\na + b   // 足し算ではない\n```\nIt must be a minus.\n",
        &[("c3", "file_edit", json!({"path": "crates/calculator/src/operations/subtraction.rs", "old_string": "+"}))],
    );
    tale.passed(5).result(
        "c3",
        5,
        "",
        Some((
            ErrorCode::EditMismatch,
            "old_string occurs 2 times, at lines 2 and 9; give more of the text around it so that it occurs once",
        )),
    );
    tale.live(LiveEvent::ActorRestarted { path: "/tools/file".into() });
    tale.turn().passed(300).says("", &[("c4", "bash", json!({"command": "sed -i 's/a + b/a - b/' subtraction.rs"}))]);
    tale.event(EventBody::ThreadResumed { why: Resumed::Boot, settings: None, prefix: None });
    tale.event(EventBody::ToolRestarted { call_id: "c4".into(), start: 2, began: false });
    tale.event(EventBody::HistoryRepaired {
        call_id: None,
        reason: "the provider's id \"\" was empty or taken".into(),
    });
    tale.event(EventBody::Prompt { text: "Also run\nclippy".into() });
    tale.passed(72_000).result("c4", 72_000, "", None);
    tale.turn().passed(300).delta("\n\nDone: the subtraction ").passed(100).delta("subtracts, and 2 tests pass.\n");
    tale.passed(100).says("\n\nDone: the subtraction subtracts, and 2 tests pass.\n", &[]);
    tale
}

/// The ends that a run can come to, by name.
pub(super) fn end(name: &str) -> EventBody {
    match name {
        "failed" => EventBody::ThreadFailed {
            error: ToolError::new(ErrorCode::Stuck, "the same call gave the same result 5 times in a row"),
        },
        "checkpointed" => EventBody::ThreadCheckpointed {
            goes_on: false,
            reason: CheckpointReason::Gateway,
            error: Some(ToolError::new(
                ErrorCode::GatewayRefused,
                "HTTP 401, the token was rejected; give a valid one",
            )),
        },
        "cancelled" => EventBody::ThreadCancelled {},
        _ => EventBody::ThreadCompleted {},
    }
}
