//! What must hold of a thread that was killed: at once, and once it is through.

use std::collections::BTreeMap;

use lakitu_kernel::{ErrorCode, Event, EventBody};
use serde_json::Value;

use super::super::binary::Binary;
use super::super::journal::Journal;
use super::plan::{Call, Kind, Plan};

/// What was heard of a thread while it lived: acknowledged, so never to be lost.
#[derive(Default)]
pub(super) struct Heard(BTreeMap<u64, Value>);

impl Heard {
    /// Takes in what a process printed; what it has printed before is the same again.
    pub(super) fn take(&mut self, printed: &[Value]) {
        for event in printed {
            let Some(seq) = event["seq"].as_u64() else { continue };
            let before = self.0.insert(seq, event.clone());
            assert!(before.is_none_or(|before| before == *event), "event {seq} was heard twice, and not the same");
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Everything that was heard is in the journal, as it was heard.
    pub(super) fn assert_kept(&self, events: &[Event]) {
        for (seq, heard) in &self.0 {
            let at = usize::try_from(*seq).unwrap() - 1;
            let kept = events.get(at).map(|event| serde_json::to_value(event).unwrap());
            assert_eq!(kept.as_ref(), Some(heard), "event {seq} was acknowledged and is lost");
        }
    }
}

/// How many calls had begun, or might have, and have no result.
pub(super) fn under_way(events: &[Event]) -> usize {
    let count = |is: fn(&EventBody) -> bool| events.iter().filter(|event| is(&event.body)).count();
    count(|body| matches!(body, EventBody::ToolIntent { .. }))
        - count(|body| matches!(body, EventBody::ToolResult { .. }))
}

/// What became of a thread's calls.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ends {
    pub(super) calls: usize,
    pub(super) effects: usize,
    pub(super) doubled: usize,
    pub(super) lost: usize,
    /// Nobody knows whether they happened.
    pub(super) interrupted: usize,
    /// Reads that were killed twice, and not made a third time.
    pub(super) refused: usize,
}

/// Counts the effects, and compares them with what the journal says of each.
pub(super) fn judge(binary: &Binary, journal: &Journal, plan: &Plan) -> Ends {
    journal.assert_completed(plan.calls.len());
    let shared = binary.read("shared.txt");
    let (mut ends, mut wrong) = (Ends { calls: plan.calls.len(), ..Ends::default() }, Vec::new());
    for call in &plan.calls {
        let result = journal.result(&call.id()).unwrap();
        let happened = effects(binary, journal, &shared, call);
        let fits = match result.code {
            None => happened == Some(1) || happened.is_none(),
            Some(ErrorCode::Interrupted) => {
                ends.interrupted += 1;
                happened.is_none_or(|times| times <= 1)
            }
            Some(ErrorCode::CrashedTwice) => {
                ends.refused += 1;
                call.kind == Kind::Read
            }
            Some(_) => false,
        };
        ends.effects += happened.unwrap_or_default();
        ends.doubled += usize::from(happened.is_some_and(|times| times > 1));
        ends.lost += usize::from(happened == Some(0) && result.ok);
        if !fits {
            wrong.push(format!("{}, {:?}, happened {happened:?} times: {result:?}", call.id(), call.kind));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ends
}

/// How often a call's effect happened; none: it has none.
fn effects(binary: &Binary, journal: &Journal, shared: &str, call: &Call) -> Option<usize> {
    let name = call.name();
    match call.kind {
        Kind::Command | Kind::Job => Some(binary.marks(&name)),
        Kind::Edit => Some(call.edits_in(shared)),
        Kind::Shared => Some(usize::from(!shared.is_empty())),
        Kind::Write => {
            let stands = binary.read(&call.file()) == format!("{name}\n");
            // A second time would be another version of the file.
            Some(if stands { versions(journal, &call.file()) } else { 0 })
        }
        Kind::Checkpoint => {
            let made = |event: &&Event| matches!(&event.body, EventBody::CheckpointCreated { name: Some(made), .. } if *made == name);
            Some(journal.events.iter().filter(made).count())
        }
        Kind::Read | Kind::Wait => None,
    }
}

fn versions(journal: &Journal, path: &str) -> usize {
    let recorded = journal.events.iter().map(|event| match &event.body {
        EventBody::EditRecorded { files, .. } => files.iter().filter(|file| file.path == path).count(),
        _ => 0,
    });
    recorded.sum()
}
