//! What a run came to: the result object, the exit code, and the lines of `stream-json`.

use std::time::Duration;

use lakitu_kernel::artifact::Saved;
use lakitu_kernel::chat::Usd;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{CheckpointReason, Resumed};
use lakitu_kernel::{ErrorCode, Event, EventBody, ThreadId, ToolError};
use serde_json::{Value, json};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Completed,
    /// It cannot go on by itself.
    Failed(ToolError),
    /// It goes on from here when asked to.
    Checkpointed(CheckpointReason, Option<ToolError>),
    /// Given up on request.
    Cancelled,
}

/// What a run came to so far: the fold of its events. The numbers are those of the thread's whole life, as its row has
/// them; so where a thread goes on, begin with its row's numbers and fold only the events behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The thread; none where it failed before there was one.
    pub thread: Option<ThreadId>,
    /// How it ended; nothing while it runs.
    pub end: Option<End>,
    /// What the assistant said last in this run.
    pub text: String,
    /// Answers of the model.
    pub turns: u32,
    /// Tool calls with a result.
    pub tool_calls: u64,
    /// What was saved for somebody, in the events that were taken in.
    pub artifacts: Vec<Saved>,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Of the tokens in, those from a cache.
    pub cached_tokens: u64,
    /// What that cost, where prices are known.
    pub cost: Option<Usd>,
    /// Whether a person's Ctrl-C (or SIGTERM) ended the run: the caller notes it, a cancelled thread does not know.
    pub interrupted: bool,
    began: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Summary {
    /// Of a thread of which nothing is known. The fields are public: a settled thread's summary is filled in from its
    /// row and its last message.
    pub fn new(thread: ThreadId) -> Self {
        Self { thread: Some(thread), ..Self::without_thread() }
    }

    /// Of a run that failed before there was a thread.
    pub fn failed(error: ToolError) -> Self {
        Self { end: Some(End::Failed(error)), ..Self::without_thread() }
    }

    fn without_thread() -> Self {
        Self {
            thread: None,
            end: None,
            text: String::new(),
            turns: 0,
            tool_calls: 0,
            artifacts: Vec::new(),
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: 0,
            cost: None,
            interrupted: false,
            began: None,
            last: None,
        }
    }

    /// Takes the journal's next event in.
    pub fn event(&mut self, event: &Event) {
        self.began.get_or_insert(event.at);
        self.last = Some(event.at);
        match &event.body {
            EventBody::ThreadResumed { why, .. } => {
                self.begin(event.at);
                match why {
                    // What was said before belongs to another prompt.
                    Resumed::Continue => self.text.clear(),
                    Resumed::Resume | Resumed::Boot => {}
                }
            }
            EventBody::Message { turn, text, .. } => {
                self.turns = self.turns.max(turn.0);
                self.text.clone_from(text);
            }
            EventBody::ToolResult { .. } => self.tool_calls += 1,
            EventBody::ArtifactSaved { artifact, .. } => self.artifacts.push(artifact.clone()),
            EventBody::Usage { input_tokens, output_tokens, cached_tokens, cost_usd, .. } => {
                self.input_tokens = self.input_tokens.saturating_add(*input_tokens);
                self.output_tokens = self.output_tokens.saturating_add(*output_tokens);
                self.cached_tokens = self.cached_tokens.saturating_add(*cached_tokens);
                self.cost = Usd::sum(self.cost, *cost_usd);
            }
            EventBody::ThreadCompleted {} => self.end = Some(End::Completed),
            EventBody::ThreadFailed { error } => self.end = Some(End::Failed(error.clone())),
            EventBody::ThreadCheckpointed { reason, error, goes_on: _ } => {
                self.end = Some(End::Checkpointed(*reason, error.clone()));
            }
            EventBody::ThreadCancelled {} => self.end = Some(End::Cancelled),
            // A prompt to a settled thread makes it run again.
            EventBody::Prompt { .. } if self.end.is_some() => {
                self.begin(event.at);
                self.text.clear();
            }
            EventBody::Prompt { .. }
            | EventBody::ThreadStarted { .. }
            | EventBody::ApprovalAsked { .. }
            | EventBody::ApprovalAnswered { .. }
            | EventBody::ToolIntent { .. }
            | EventBody::ToolPrepared { .. }
            | EventBody::ToolRestarted { .. }
            | EventBody::BeadChanged { .. }
            | EventBody::EditRecorded { .. }
            | EventBody::EditRestoring { .. }
            | EventBody::EditRestored { .. }
            | EventBody::Decision { .. }
            | EventBody::HistoryRepaired { .. }
            | EventBody::HistoryPruned { .. }
            | EventBody::ModelNudged { .. }
            | EventBody::Stalled { .. }
            | EventBody::CheckpointCreated { .. }
            | EventBody::CheckpointRestored { .. }
            | EventBody::ThreadForked { .. } => {}
        }
    }

    fn begin(&mut self, at: Timestamp) {
        self.end = None;
        self.began = Some(at);
    }

    /// How long the run took, as its events tell.
    pub fn took(&self) -> Option<Duration> {
        Some(self.last?.since(self.began?))
    }

    /// How it ended. A run whose journal could not say so failed: nobody is told that a finished run is running.
    pub fn ended(&self) -> End {
        let unsaid = || ToolError::new(ErrorCode::Internal, "the run ended and its journal does not say how");
        self.end.clone().unwrap_or_else(|| End::Failed(unsaid()))
    }

    /// The result object.
    pub fn json(&self) -> Value {
        let (status, checkpoint, error) = match self.ended() {
            End::Completed => ("completed", None, None),
            End::Failed(error) => ("failed", None, Some(error)),
            End::Checkpointed(reason, error) => ("checkpointed", Some(json!({ "reason": reason })), error),
            End::Cancelled => ("cancelled", None, None),
        };
        let mut object = json!({
            "thread": self.thread,
            "status": status,
            "text": self.text,
            "turns": self.turns,
            "tool_calls": self.tool_calls,
            "usage": {
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "cached_tokens": self.cached_tokens,
            },
            "artifacts": self.artifacts,
        });
        if let Some(cost) = self.cost {
            object["usage"]["cost_usd"] = json!(cost);
        }
        if let Some(checkpoint) = checkpoint {
            object["checkpoint"] = checkpoint;
        }
        if let Some(error) = error {
            object["error"] = json!({ "code": error.code, "message": error.message });
        }
        object
    }

    /// The process's exit code. 2, 70 and 75 are not a run's: they are decided where there is no run.
    pub fn exit_code(&self) -> u8 {
        match self.ended() {
            End::Completed => 0,
            End::Checkpointed(CheckpointReason::Gateway, _) => 4,
            End::Checkpointed(CheckpointReason::Interrupted, _) => 130,
            // The time was used up waiting for a gateway that did not answer: that is what has to be mended.
            End::Checkpointed(CheckpointReason::Timeout, Some(error)) if of_gateway(error.code) => 4,
            // The last two are not in the table; as with a limit, `lakitu resume` goes on.
            End::Checkpointed(
                CheckpointReason::Timeout
                | CheckpointReason::TurnLimit
                | CheckpointReason::TokenLimit
                | CheckpointReason::BudgetLimit
                | CheckpointReason::Manual
                | CheckpointReason::ErrorRecovery,
                _,
            ) => 3,
            // By the person at this terminal; or by somebody else (the API), and then it is as if it had failed.
            End::Cancelled if self.interrupted => 130,
            End::Failed(_) | End::Cancelled => 1,
        }
    }
}

fn of_gateway(code: ErrorCode) -> bool {
    code == ErrorCode::GatewayUnreachable || code == ErrorCode::GatewayRefused
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakitu_kernel::{Seq, Turn};

    fn of(bodies: Vec<EventBody>) -> Summary {
        let thread = ThreadId(1);
        let mut summary = Summary::new(thread);
        for (index, body) in (0_u64..).zip(bodies) {
            summary.event(&Event { seq: Seq(index + 1), thread, at: Timestamp(index * 500), body });
        }
        summary
    }

    fn says(turn: u32, text: &str) -> EventBody {
        EventBody::Message {
            role: "assistant".into(),
            turn: Turn(turn),
            text: text.into(),
            calls: vec![],
            opaque: None,
            cut: false,
            request: None,
        }
    }

    fn uses(turn: u32) -> EventBody {
        EventBody::Usage {
            turn: Turn(turn),
            model: "m".into(),
            input_tokens: 10,
            output_tokens: 2,
            cached_tokens: 4,
            cost_usd: Some(Usd(1_500_000)),
        }
    }

    fn stops(reason: CheckpointReason, code: Option<ErrorCode>) -> EventBody {
        EventBody::ThreadCheckpointed { reason, goes_on: false, error: code.map(|code| ToolError::new(code, "why")) }
    }

    #[test]
    fn every_end_has_its_exit_code() {
        use CheckpointReason as R;
        let failed = EventBody::ThreadFailed { error: ToolError::new(ErrorCode::Stuck, "why") };
        let rows = [
            (EventBody::ThreadCompleted {}, 0),
            (failed, 1),
            (stops(R::Gateway, Some(ErrorCode::GatewayRefused)), 4),
            (stops(R::Interrupted, None), 130),
            (stops(R::Timeout, None), 3),
            (stops(R::Timeout, Some(ErrorCode::GatewayUnreachable)), 4),
            (stops(R::TurnLimit, None), 3),
            (stops(R::TokenLimit, Some(ErrorCode::GatewayRejected)), 3),
            (stops(R::BudgetLimit, Some(ErrorCode::GatewayRefused)), 3),
            (stops(R::Manual, None), 3),
            (stops(R::ErrorRecovery, None), 3),
            (EventBody::ThreadCancelled {}, 1),
        ];
        for (body, code) in rows {
            assert_eq!(of(vec![body.clone()]).exit_code(), code, "{body:?}");
        }
        let by_hand = Summary { interrupted: true, ..of(vec![EventBody::ThreadCancelled {}]) };
        assert_eq!(by_hand.exit_code(), 130);
        assert_eq!(of(vec![]).exit_code(), 1);
    }

    #[test]
    fn the_result_is_what_the_events_came_to() {
        let result = |call: &str| EventBody::ToolResult {
            call_id: call.into(),
            ok: true,
            output: String::new(),
            error: None,
            files: vec![],
            images: vec![],
            duration_ms: 1,
        };
        let summary = of(vec![
            says(1, "looking"),
            uses(1),
            result("a"),
            result("b"),
            says(2, "done"),
            uses(2),
            EventBody::ThreadCompleted {},
        ]);
        assert_eq!(summary.took(), Some(Duration::from_secs(3)));
        assert_eq!(
            summary.json(),
            json!({
                "thread": "thr_00000000000000000000000001", "status": "completed", "text": "done", "turns": 2,
                "tool_calls": 2, "usage": {"input_tokens": 20, "output_tokens": 4, "cached_tokens": 8, "cost_usd": 0.003}, "artifacts": [],
            })
        );
        let stopped =
            of(vec![says(1, "on it"), stops(CheckpointReason::Gateway, Some(ErrorCode::GatewayRefused))]).json();
        assert_eq!(
            (&stopped["status"], &stopped["checkpoint"], &stopped["error"], &stopped["text"]),
            (
                &json!("checkpointed"),
                &json!({"reason": "gateway"}),
                &json!({"code": "GATEWAY_REFUSED", "message": "why"}),
                &json!("on it")
            )
        );
    }

    #[test]
    fn a_run_that_goes_on_begins_anew_but_counts_on() {
        let again = EventBody::ThreadResumed { why: Resumed::Continue, settings: None, prefix: None };
        let prompt = EventBody::Prompt { text: "more".into() };
        let running = of(vec![says(1, "one"), uses(1), EventBody::ThreadCompleted {}, prompt, again, uses(2)]);
        assert_eq!((running.end.clone(), running.text.as_str(), running.input_tokens), (None, "", 20));
        assert_eq!(running.took(), Some(Duration::from_millis(500)));
        // Nobody is told "running".
        assert_eq!(running.json()["status"], "failed");
        assert_eq!(running.json()["error"]["code"], "INTERNAL");
    }
}
