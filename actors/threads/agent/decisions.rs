//! The rows of decisions: one a turn with calls, told what came of it by its last result; and those that the model logs
//! itself.

use std::collections::BTreeSet;

use lakitu_kernel::event::Event;
use lakitu_kernel::{ErrorCode, Seq, ToolError};

use super::decision_log::{DECISION_LOG, LogArgs};
use super::state::{CallState, State};
use crate::store::{DecisionOutcome, DecisionRow, DecisionType, Op, RecordOutcome};

/// The decision of a turn: which tools to call.
pub(super) fn of_turn(before: &State, event: &Event, tools: &[String], reasoning: &str) -> Op {
    let row = blank(before, event, event.seq, DecisionType::ToolSelection, reasoning);
    Op::from(DecisionRow { selected_tools: Some(tools.to_vec()), ..row })
}

/// What a call's result adds: the decision that it logged, and the outcome of its turn's where it is the last of them.
pub(super) fn beside(before: &State, event: &Event, call: &CallState, error: Option<&ToolError>) -> Vec<Op> {
    let logged = (error.is_none() && call.call.tool == DECISION_LOG.name).then(|| logged(before, event, call));
    logged.flatten().into_iter().chain(outcome(before, event, call, error)).collect()
}

fn logged(before: &State, event: &Event, call: &CallState) -> Option<Op> {
    let args: LogArgs = serde_json::from_value(call.arguments.clone()).ok()?;
    let row = blank(before, event, call.intent, args.kind, &args.reasoning);
    let alternatives = args.alternatives.filter(|alternatives| !alternatives.is_empty());
    let (confidence, expected_outcome) = (args.confidence, args.expected_outcome);
    Some(Op::from(DecisionRow { expected_outcome, alternatives, confidence, ..row }))
}

fn blank(before: &State, event: &Event, seq: Seq, decision_type: DecisionType, reasoning: &str) -> DecisionRow {
    DecisionRow {
        thread_id: before.thread,
        seq,
        task: before.title.clone(),
        decision_type,
        selected_tools: None,
        reasoning: reasoning.to_owned(),
        expected_outcome: None,
        alternatives: None,
        confidence: None,
        metadata: None,
        timestamp: event.at,
        outcome: None,
        actual_result: None,
        outcome_notes: None,
        outcome_recorded_at: None,
    }
}

fn outcome(before: &State, event: &Event, last: &CallState, error: Option<&ToolError>) -> Option<Op> {
    let acting = before.acting().filter(|acting| acting.decision > Seq::ZERO)?;
    let others = || acting.calls.iter().filter(|call| call.call.call_id != last.call.call_id);
    if others().any(|call| call.result.is_none()) {
        return None;
    }
    let failed: Vec<ErrorCode> = others().filter_map(|call| call.failed).chain(error.map(|error| error.code)).collect();
    let calls = acting.calls.len();
    let given_up = |code: &ErrorCode| matches!(code, ErrorCode::Cancelled | ErrorCode::Interrupted);
    let outcome = match failed.len() {
        0 => DecisionOutcome::Success,
        some if some < calls => DecisionOutcome::PartialSuccess,
        _ if failed.iter().all(given_up) => DecisionOutcome::Abandoned,
        _ => DecisionOutcome::Failure,
    };
    let actual_result = (!failed.is_empty()).then(|| {
        let codes: BTreeSet<&str> = failed.iter().map(|code| code.as_str()).collect();
        let codes: Vec<&str> = codes.into_iter().collect();
        format!("{} of {calls} calls failed: {}", failed.len(), codes.join(", "))
    });
    let (thread, decision) = (before.thread, acting.decision);
    Some(Op::from(RecordOutcome { thread, decision, outcome, actual_result, at: event.at }))
}
