//! What rows say all together: how decisions turned out, how tools did.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tables::{DecisionOutcome, DecisionRow, DecisionType, ExecutionRow};

/// How many decisions had which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// As expected.
    pub success: u64,
    /// In part.
    pub partial_success: u64,
    /// Not.
    pub failure: u64,
    /// Given up.
    pub abandoned: u64,
    /// Not known yet.
    pub pending: u64,
}

/// How decisions turned out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStats {
    /// All.
    pub total: u64,
    /// Those of each type that there are any of.
    pub by_type: BTreeMap<DecisionType, u64>,
    /// Those of each outcome.
    pub by_outcome: Outcomes,
    /// Of those that tell one; none where none does.
    pub average_confidence: Option<f64>,
    /// Successes among those whose outcome is known, 0 to 1; none where none is.
    pub success_rate: Option<f64>,
}

impl DecisionStats {
    /// Of these rows.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a DecisionRow>) -> Self {
        let mut stats = Self::default();
        let (mut confidence, mut confident) = (0.0, 0);
        for row in rows {
            stats.total += 1;
            *stats.by_type.entry(row.decision_type).or_default() += 1;
            let outcomes = &mut stats.by_outcome;
            *match row.outcome {
                Some(DecisionOutcome::Success) => &mut outcomes.success,
                Some(DecisionOutcome::PartialSuccess) => &mut outcomes.partial_success,
                Some(DecisionOutcome::Failure) => &mut outcomes.failure,
                Some(DecisionOutcome::Abandoned) => &mut outcomes.abandoned,
                None => &mut outcomes.pending,
            } += 1;
            if let Some(own) = row.confidence {
                confidence += own;
                confident += 1;
            }
        }
        stats.average_confidence = share(confidence, confident);
        stats.success_rate = share(as_f64(stats.by_outcome.success), stats.total - stats.by_outcome.pending);
        stats
    }
}

/// How one tool did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolUse {
    /// Which.
    pub name: String,
    /// Its calls.
    pub count: u64,
    /// Those that did what was asked, 0 to 1.
    pub success_rate: f64,
    /// From start to end, in milliseconds.
    pub average_duration_ms: f64,
}

/// How tools did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolStats {
    /// All calls.
    pub total_executions: u64,
    /// Different tools.
    pub unique_tools: u64,
    /// Each tool that was called: the one with the most calls first, then by name.
    pub tools: Vec<ToolUse>,
}

impl ToolStats {
    /// Of these rows.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a ExecutionRow>) -> Self {
        #[derive(Default)]
        struct Sum {
            count: u64,
            successes: u64,
            duration_ms: u64,
        }
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for row in rows {
            let sum = sums.entry(&row.tool_name).or_default();
            sum.count += 1;
            sum.successes += u64::from(row.success);
            sum.duration_ms = sum.duration_ms.saturating_add(row.duration_ms);
        }
        let used = |(name, sum): (&str, Sum)| {
            Some(ToolUse {
                name: name.to_owned(),
                count: sum.count,
                success_rate: share(as_f64(sum.successes), sum.count)?,
                average_duration_ms: share(as_f64(sum.duration_ms), sum.count)?,
            })
        };
        let mut tools: Vec<ToolUse> = sums.into_iter().filter_map(used).collect();
        tools.sort_by_key(|tool| std::cmp::Reverse(tool.count));
        let total_executions = tools.iter().map(|tool| tool.count).sum();
        Self { total_executions, unique_tools: tools.len() as u64, tools }
    }
}

/// A part of the whole; none where there is no whole.
fn share(part: f64, of: u64) -> Option<f64> {
    (of > 0).then(|| part / as_f64(of))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and an average is not exact behind that")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::clock::Timestamp;
    use lakitu_kernel::{Seq, ThreadId};
    use serde_json::{Value, json};

    use super::*;

    fn decision(outcome: Option<&str>, confidence: Option<f64>) -> DecisionRow {
        let mut row = json!({
            "threadId": ThreadId(1), "seq": Seq(1), "task": "t", "decisionType": "tool_selection",
            "reasoning": "r", "timestamp": Timestamp(1),
        });
        row["outcome"] = json!(outcome);
        row["confidence"] = json!(confidence);
        serde_json::from_value(row).unwrap()
    }

    fn execution(tool: &str, success: bool, duration_ms: u64) -> ExecutionRow {
        serde_json::from_value(json!({
            "threadId": ThreadId(1), "seq": Seq(1), "toolName": tool, "input": Value::Null,
            "success": success, "durationMs": duration_ms, "timestamp": Timestamp(1),
        }))
        .unwrap()
    }

    #[test]
    fn of_no_rows_there_is_no_average_and_no_rate() {
        let stats = DecisionStats::of([]);
        assert_eq!((stats.total, stats.average_confidence, stats.success_rate), (0, None, None));
        assert_eq!(ToolStats::of([]), ToolStats::default());
        let pending = DecisionStats::of(&[decision(None, None)]);
        assert_eq!((pending.by_outcome.pending, pending.success_rate), (1, None), "nothing is known of it yet");
    }

    #[test]
    fn decisions_are_counted_and_only_known_outcomes_make_the_rate() {
        let rows = [
            decision(Some("success"), Some(0.5)),
            decision(Some("partial_success"), None),
            decision(Some("failure"), Some(1.0)),
            decision(Some("abandoned"), None),
            decision(None, None),
        ];
        let stats = DecisionStats::of(&rows);
        assert_eq!(stats.by_type, BTreeMap::from([(DecisionType::ToolSelection, 5)]));
        let Outcomes { success, partial_success, failure, abandoned, pending } = stats.by_outcome;
        assert_eq!([success, partial_success, failure, abandoned, pending], [1; 5]);
        assert_eq!((stats.average_confidence, stats.success_rate), (Some(0.75), Some(0.25)));
    }

    #[test]
    fn tools_are_told_by_how_often_they_were_called() {
        let rows = [execution("ls", true, 1), execution("bash", true, 10), execution("bash", false, 20)];
        let stats = ToolStats::of(&rows);
        assert_eq!((stats.total_executions, stats.unique_tools), (3, 2));
        let told = serde_json::to_value(&stats.tools).unwrap();
        let bash = json!({ "name": "bash", "count": 2, "successRate": 0.5, "averageDurationMs": 15.0 });
        let ls = json!({ "name": "ls", "count": 1, "successRate": 1.0, "averageDurationMs": 1.0 });
        assert_eq!(told, json!([bash, ls]));
    }
}
