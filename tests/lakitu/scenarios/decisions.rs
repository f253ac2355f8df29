//! Decisions: a row for every turn with calls, told what came of it; and those that the model logs itself.

use expect_test::expect;
use lakitu_actors::store::statistics::{DecisionStats, ToolStats};
use lakitu_actors::store::{DecisionRow, DecisionType};
use serde_json::json;

use crate::harness::{Harness, Script};

fn told(row: &DecisionRow) -> String {
    let tools = row.selected_tools.as_deref().unwrap_or_default().join(" ");
    let (kind, outcome, result) = (row.decision_type, row.outcome, row.actual_result.as_deref().unwrap_or("-"));
    format!("{kind:?} [{tools}] {:?} {outcome:?} {result}\n", row.reasoning)
}

#[tokio::test(start_paused = true)]
async fn a_turn_with_calls_is_a_decision_that_is_told_what_came_of_it() {
    let read = |path: &str| ("file_read", json!({ "path": path }));
    let log = json!({
        "type": "task_breakdown",
        "reasoning": "One file at a time is easier to take back.",
        "alternatives": [{ "option": "all at once", "reason": "too much to read" }],
        "confidence": 0.75,
        "expected_outcome": "a is read",
    });
    let script = Script::new()
        .calls("decision_log", log.clone())
        .calls_all([read("a"), read("none")])
        .calls("file_read", json!({ "path": "none either" }))
        .calls("decision_log", json!({ "type": "verification", "reasoning": "x", "confidence": 2 }))
        .says("Done.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("a", "one\n");
    assert_eq!(lakitu.prompt("look").await, Ok("Done.".to_owned()));
    let thread = lakitu.thread();
    let (rows, calls) = lakitu.ask(move |reading| Ok((reading.decisions(thread)?, reading.executions(thread)?))).await;
    expect![[r#"
        ToolSelection [decision_log] "" Some(Success) -
        TaskBreakdown [] "One file at a time is easier to take back." None -
        ToolSelection [file_read file_read] "" Some(PartialSuccess) 1 of 2 calls failed: FILE_NOT_FOUND
        ToolSelection [file_read] "" Some(Failure) 1 of 1 calls failed: FILE_NOT_FOUND
        ToolSelection [decision_log] "" Some(Failure) 1 of 1 calls failed: INVALID_ARGUMENTS
    "#]]
    .assert_eq(&rows.iter().map(told).collect::<String>());
    let logged = rows.iter().find(|row| row.decision_type == DecisionType::TaskBreakdown).unwrap();
    assert_eq!(serde_json::to_value(&logged.alternatives).unwrap(), log["alternatives"]);
    assert_eq!((logged.confidence, logged.expected_outcome.as_deref()), (Some(0.75), Some("a is read")));
    assert_eq!(logged.task, "look");
    // Each call names its turn's decision.
    let turns: Vec<String> =
        rows.iter().filter(|row| row.selected_tools.is_some()).map(|row| row.seq.to_string()).collect();
    assert!(calls.iter().all(|call| call.decision_id.as_ref().is_some_and(|id| turns.contains(id))), "{calls:?}");

    let stats = DecisionStats::of(&rows);
    assert_eq!((stats.total, stats.by_outcome.pending), (5, 1), "{stats:?}");
    assert_eq!((stats.average_confidence, stats.success_rate), (Some(0.75), Some(0.25)));
    let tools = ToolStats::of(&calls);
    assert_eq!((tools.total_executions, tools.unique_tools), (5, 2), "{tools:?}");
    lakitu.end().await;
}
