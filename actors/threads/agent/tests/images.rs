//! Images in results and in the prompt.

use super::*;

fn shows(intent: Seq, image: Image) -> Msg {
    Msg::Result { intent, outcome: ToolOutcome::ok("an image").with_image(image), duration_ms: 1 }
}

#[test]
fn images_stand_behind_all_results_of_their_turn_in_call_order_and_before_what_was_said_meanwhile() {
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", ["a", "b", "c"].map(|id| call(EffectClass::Read, id, "{}")).to_vec()));
    let intents = drive.intents();
    drive.take(shows(intents[2], image(3, 9))).take(Msg::Prompt { text: "and?".into() });
    drive.take(done(intents[1], "text")).take(shows(intents[0], image(1, 9)));
    let wire = wire(&drive.state);
    let order = ["<b>\\nan image", "<b>\\ntext", "[lakitu] i1:", "<i1>", "[lakitu] i3:", "<i3>", "and?"];
    let order: Vec<_> = order.iter().map(|mark| wire.find(mark).unwrap_or_else(|| panic!("{mark}: {wire}"))).collect();
    assert!(order.is_sorted(), "{wire}");
    assert_eq!(wire.matches("\"role\":\"user\"").count(), 3, "one message for the images of a turn: {wire}");
    #[allow(clippy::wildcard_enum_match_arm, reason = "one of many kinds of events")]
    let journaled: Vec<_> = drive
        .journal
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolResult { images, .. } => Some(images.len()),
            _ => None,
        })
        .collect();
    assert_eq!(journaled, [1, 0, 1]);
}

#[test]
fn a_turn_shows_so_many_images_and_no_more_and_a_prompt_twice_as_many() {
    let mut drive = Drive::new(None);
    for turn in 1..=3 {
        let calls: Vec<_> = (0..=limits::TURN_IMAGES_MAX).map(|_| call(EffectClass::Read, "", "{}")).collect();
        drive.take(answer(turn, "", calls));
        for intent in drive.intents() {
            let outcome = drive.state.fitting(ToolOutcome::ok("").with_image(image(1, 1)));
            let refused = outcome.error.as_ref().is_some_and(|error| error.code == ErrorCode::FileTooLarge);
            assert_eq!(refused, drive.intents().len() == 1, "only the last of the turn");
            drive.take(Msg::Result { intent, outcome, duration_ms: 1 });
        }
        // Twice as many fit; those of a third turn take the place of all before them.
        let fit = [10, 20, 10][turn as usize - 1];
        assert_eq!(drive.state.history.images().count(), fit, "turn {turn}");
    }
    assert_eq!(notes(&request(&drive.state)), limits::PROMPT_IMAGES_MAX);
    drive.take(answer(4, "", vec![call(EffectClass::Read, "", "{}")]));
    let fits = |bytes| drive.state.fitting(ToolOutcome::ok("").with_image(image(1, bytes))).error.is_none();
    assert!(fits(limits::TURN_IMAGES_BYTES_MAX) && !fits(limits::TURN_IMAGES_BYTES_MAX + 1));
}

#[test]
fn a_request_that_is_refused_is_made_again_without_images_once() {
    let refused = |turn| Msg::NoAnswer {
        turn: Turn(turn),
        failure: ModelFailure {
            class: FailureClass::Fatal,
            error: ToolError::new(ErrorCode::GatewayRejected, "HTTP 400: Could not process image"),
        },
    };
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", vec![call(EffectClass::Read, "a", "{}")]));
    let intent = drive.intents()[0];
    drive.take(shows(intent, image(1, 9))).take(refused(2));
    assert_eq!(wanted(&drive.state), [Wanted::Model { turn: Turn(2), changes: 1 }]);
    assert!(wire(&drive.state).contains("refused the request with it"));
    drive.take(refused(2));
    let Some(End::Failed(error)) = drive.state.end() else { panic!("{:?}", drive.state.phase) };
    assert_eq!(error.code, ErrorCode::GatewayRejected);
}
