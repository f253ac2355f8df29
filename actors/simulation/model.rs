//! The model of a simulated world: what it says follows from the seed, the thread and the turn.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::ports::{BoxFuture, DeltaSink, Gateway, ModelFailure};
use serde_json::{Value, json};

use super::World;
use super::dice::Dice;
use crate::gateway::failure::{cut, status};
use crate::gateway::validate::validate;

/// What the model calls, before anything goes wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) tool: &'static str,
    pub(crate) arguments: Value,
}

/// Lines of a thread's file, each of which is changed at most once.
pub(crate) fn slot(turn: u32, n: u64, done: bool) -> String {
    format!("slot {turn}-{n}: {}", if done { "done" } else { "empty" })
}

/// The model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) world: Arc<World>,
    pub(crate) seed: u64,
}

impl Model {
    /// What is called in this turn; nothing ends the run.
    pub(crate) fn calls(&self, thread: usize, turn: u32) -> Vec<Call> {
        let plan = &self.world.plan;
        if turn.is_multiple_of(plan.turns) {
            return Vec::new();
        }
        let mut dice = Dice::new(self.seed, 0x6d6f_6465_6c00 + ((thread as u64) << 20) + u64::from(turn));
        let file = format!("{thread}.txt");
        let mut calls: Vec<Call> = (0..dice.between(1, plan.calls_max))
            .map(|n| {
                let name = format!("{thread}/{turn}-{n}.txt");
                let (tool, arguments) = match dice.below(12) {
                    0..=2 => ("file_read", json!({"path": file, "offset": u64::from(turn) * 10 + n + 1, "limit": 2})),
                    3..=4 => ("file_write", json!({"path": name, "content": format!("written {name}\n")})),
                    5..=6 => (
                        "file_edit",
                        json!({"path": file, "old_string": slot(turn, n, false), "new_string": slot(turn, n, true)}),
                    ),
                    7..=9 => {
                        // Past two minutes it becomes a job.
                        let ms = dice.pick(&[0, 10, 1_000, 20_000, 150_000]);
                        ("bash", json!({"command": format!("effect {thread}.{turn}.{n} {ms}")}))
                    }
                    10 => (
                        "bash",
                        json!({"command": format!("effect {thread}.{turn}.{n} 5000"), "run_in_background": true}),
                    ),
                    _ => ("file_read", json!({"path": name})),
                };
                // Providers repeat their ids.
                let id = if dice.permille(100) { String::new() } else { format!("c{n}") };
                Call { id, tool, arguments }
            })
            .collect();
        if turn == 1 {
            // Only what was read is edited.
            calls.insert(0, Call { id: "c".into(), tool: "file_read", arguments: json!({"path": file}) });
        }
        if dice.permille(50) {
            calls.push(Call { id: "x".into(), tool: "no_such_tool", arguments: json!({}) });
        }
        calls
    }

    /// What is said in this turn.
    pub(crate) fn text(turn: u32) -> String {
        format!("turn {turn}")
    }

    /// The answer's stream, as a provider sends it.
    fn body(&self, thread: usize, turn: u32) -> String {
        let calls = self.calls(thread, turn);
        let event = |delta: Value, finish: Option<&str>| {
            let chunk = json!({"model": "sim", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
            format!("data: {chunk}\n\n")
        };
        let mut body = event(json!({"role": "assistant", "content": Self::text(turn)}), None);
        for (index, call) in calls.iter().enumerate() {
            let function = json!({"name": call.tool, "arguments": call.arguments.to_string()});
            body += &event(
                json!({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}),
                None,
            );
        }
        body += &event(json!({}), Some(if calls.is_empty() { "stop" } else { "tool_calls" }));
        body + "data: [DONE]\n\n"
    }

    async fn answer(world: Arc<World>, body: String, deltas: DeltaSink) -> Result<ModelAnswer, ModelFailure> {
        world.living().await;
        world.moment();
        world.living().await;
        let (fails, wait) = world.dice(|dice| (dice.permille(world.plan.model_fails), dice.ms(1, 3_000)));
        let trouble = if fails && !world.is_calm() { world.dice(|dice| dice.below(5)) } else { 5 };
        if trouble < 5 {
            world.note(format!("the model is in trouble {trouble}"));
        }
        tokio::time::sleep(wait).await;
        let end = match trouble {
            0 => return Err(status(500, None, b"no")),
            1 => return Err(status(429, Some(Duration::from_secs(2)), b"later")),
            2 => return std::future::pending().await,
            3 => usize::try_from(world.dice(|dice| dice.below(body.len() as u64))).unwrap(),
            // Whole, as it seems: only the terminal is missing.
            4 => body.len() - "data: [DONE]\n\n".len(),
            _ => body.len(),
        };
        let half = end / 2;
        let pieces =
            [Bytes::copy_from_slice(&body.as_bytes()[..half]), Bytes::copy_from_slice(&body.as_bytes()[half..end])];
        // Some bodies say that they were cut off, others just end.
        let broken = (trouble == 3 && end.is_multiple_of(2)).then(|| Err(cut("the connection broke")));
        let body = stream::iter(pieces.into_iter().map(Ok).chain(broken));
        crate::gateway::read(body, false, deltas).await
    }
}

impl Gateway for Model {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let world = self.world.clone();
        if let Err(error) = validate(&request.body_bytes()) {
            world.wrong(format!(
                "turn {} of {}: an invalid request: {error}",
                request.turn,
                world.name(request.thread)
            ));
        }
        world.note(format!("model {} turn {}", world.name(request.thread), request.turn));
        let Some(thread) = world.number(request.thread) else {
            world.wrong("the model is asked by nobody's thread");
            return Box::pin(std::future::pending());
        };
        Box::pin(Self::answer(world, self.body(thread, request.turn.0), deltas))
    }
}
