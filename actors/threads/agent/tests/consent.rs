//! Calls that wait for somebody's consent.

use super::*;

fn needs_consent(class: EffectClass, id: &str) -> Checked {
    Checked { needs_consent: Some("the rule `x`".into()), ..call(class, id, "{}") }
}

fn approve(call_id: &str, allow: bool) -> Msg {
    Msg::Approve { call_id: call_id.into(), allow }
}

#[test]
fn a_call_that_needs_consent_has_its_intent_once_it_is_given_and_what_is_behind_it_waits() {
    let mut drive = Drive::new(None);
    let calls = vec![
        call(EffectClass::Read, "a", "{}"),
        needs_consent(EffectClass::Read, "b"),
        needs_consent(EffectClass::Verifiable, "c"),
        call(EffectClass::Detached, "d", "{}"),
    ];
    drive.take(answer(1, "", calls));
    // What needs none runs; nothing else does, and nothing is prepared.
    assert_eq!(wanted(&drive.state).len(), 1);
    let read = drive.intents()[0];
    drive.take(done(read, "A"));
    assert_eq!((wanted(&drive.state), drive.state.is_waiting()), (vec![], true));
    drive.take(approve("d", true)).take(approve("x", false)).take(approve("b", true)).take(approve("b", false));
    let read = drive.intents()[0];
    assert!(matches!(wanted(&drive.state)[..], [Wanted::Tool { intent, .. }] if intent == read));
    drive.take(done(read, "B")).take(approve("c", true));
    let edit = drive.state.acting().unwrap().calls[2].intent;
    assert_eq!(wanted(&drive.state), [Wanted::Prepare { intent: edit, after: Seq::ZERO }]);
    assert!(!drive.state.is_waiting());
    drive.shows(&expect![[r#"
        3 message "" ["a", "b", "c", "d"]
        4 decision
        5 tool.intent a Read
        6 approval.asked b Read
        7 approval.asked c Verifiable
        8 tool.intent d Detached
        9 tool.result a "A"
        10 approval.answered b true
        11 tool.intent b Read
        12 tool.result b "B"
        13 approval.answered c true
        14 tool.intent c Verifiable
        wanted [Prepare { intent: Seq(14), after: Seq(0) }]"#]]);
}

#[test]
fn what_is_not_allowed_and_what_nobody_can_be_asked_about_is_refused_and_the_run_goes_on() {
    let mut drive = Drive::new(None);
    drive.take(answer(
        1,
        "",
        vec![needs_consent(EffectClass::Detached, "a"), needs_consent(EffectClass::Detached, "b")],
    ));
    drive.take(approve("a", false));
    assert!(drive.state.is_waiting());
    // The run goes on where nobody sits.
    drive.take(Msg::Resume { why: Resumed::Resume, change: None });
    assert_eq!(wanted(&drive.state), [Wanted::Model { turn: Turn(2), changes: 0 }]);
    drive.shows(&expect![[r#"
        3 message "" ["a", "b"]
        4 decision
        5 approval.asked a Detached
        6 approval.asked b Detached
        7 approval.answered a false
        8 tool.intent a Read
        9 tool.result a "PERMISSION_DENIED: the person who was asked does not allow this; nothing ran. Do without it, or say what it is needed for"
        10 thread.resumed
        11 tool.intent b Read
        12 tool.result b "PERMISSION_DENIED: this needs a person's consent (the rule `x`), and nobody can be asked in this run; nothing ran. Do without it, or say in your answer what is to be done by hand"
        wanted [Model { turn: Turn(2), changes: 0 }]"#]]);
}

#[test]
fn a_question_is_asked_again_of_whoever_is_there_and_a_stop_ends_it() {
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", vec![needs_consent(EffectClass::Detached, "a")]));
    let mut somebody = settings(None);
    somebody.asking.somebody = true;
    drive.take(Msg::Resume { why: Resumed::Boot, change: Some((somebody, None)) });
    assert!(drive.state.is_waiting());
    drive.take(Msg::Stop { how: Stop::Cancel, unknown: vec![Seq::ZERO] });
    assert!(!drive.state.is_waiting());
    drive.shows(&expect![[r#"
        3 message "" ["a"]
        4 decision
        5 approval.asked a Detached
        6 thread.resumed
        7 approval.asked a Detached
        8 tool.intent a Read
        9 tool.result a "CANCELLED: the run was stopped before this began; nothing of it ran"
        10 thread.cancelled
        wanted []"#]]);
}
