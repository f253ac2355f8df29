//! A run whose time is up: from its end on there is no request, no write and no process of it, whatever it was doing. What
//! it leaves is a checkpoint, and a resume that goes on with its whole history.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Model, Say, stays};
use crate::harness::{Binary, Ran, alive};
use crate::up::{Up, binary, until};

/// So much time has a run: long enough for a loaded machine to come to what it hangs in.
const TIME: &str = "6s";
/// How long it is looked at afterwards.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Deaf to everything that can be, and so is what it leaves in a session of its own: both write for ever.
const WRITES: &str = "trap '' TERM HUP INT QUIT; \
    (setsid sh -c 'trap \"\" TERM HUP INT QUIT; while :; do echo behind >> marks; sleep 0.01; done' >/dev/null 2>&1 &); \
    while :; do echo before >> marks; sleep 0.01; done";

/// What a run hangs in when its time is up.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hangs {
    Command,
    Job,
    Stream,
    Silence,
    Retries,
}

impl Hangs {
    const ALL: [Hangs; 5] = [Hangs::Command, Hangs::Job, Hangs::Stream, Hangs::Silence, Hangs::Retries];

    fn says(self, request: usize) -> Say {
        match (self, request) {
            (Hangs::Command, _) => Say::call("bash", json!({ "command": WRITES })),
            (Hangs::Stream, _) => Say::Endless,
            (Hangs::Silence, _) | (Hangs::Job, 2) => Say::Silence,
            (Hangs::Job, _) => Say::call("bash", json!({ "command": WRITES, "run_in_background": true })),
            (Hangs::Retries, _) => Say::Away,
        }
    }

    /// Whether it has a command that writes.
    fn writes(self) -> bool {
        matches!(self, Hangs::Command | Hangs::Job)
    }

    /// Where the gateway was what it waited for, that is told.
    fn exit(self) -> i32 {
        if self == Hangs::Retries { 4 } else { 3 }
    }

    fn model(self) -> Model {
        Model::start(move |request, body| {
            let messages = body["messages"].as_array().unwrap();
            let resumed = messages
                .iter()
                .any(|message| message["content"].as_str().is_some_and(|text| text.contains("the next step")));
            if resumed { Say::text("Gone on.") } else { self.says(request) }
        })
    }
}

/// A directory whose commands can be told from all others.
fn marked(hangs: Hangs, place: &str) -> (Binary, String) {
    let marker = format!("LAKITU_TEST_OF_TIMEOUTS_{}_{hangs:?}_{place}", std::process::id());
    // Its gateway is asked again and again.
    let patient =
        binary().env("LAKITU__LIMITS__MODEL_ATTEMPTS", "1000").env("LAKITU__LIMITS__MODEL_RETRY_MS", "600000");
    (patient.env("XDG_LAKITU_TEST", &marker), marker)
}

fn written(binary: &Binary) -> usize {
    binary.home.read("marks").len()
}

/// It is over, and stays so.
fn is_over(hangs: Hangs, binary: &Binary, model: &Model, ran: &Ran) {
    assert_eq!(ran.exit, hangs.exit(), "{hangs:?}: {ran:?}");
    assert_eq!(ran.object()["status"], "checkpointed", "{hangs:?}: {ran:?}");
    assert_eq!(written(binary) > 0, hangs.writes(), "{hangs:?}: it never came to what it should hang in: {ran:?}");
    stays(AFTERWARDS, || (model.came(), written(binary)));
    until("the model talks to nobody any more", || model.open() == 0);
}

/// There is a checkpoint, and with a next task that somebody gave the thread goes on from it.
fn goes_on(hangs: Hangs, binary: &Binary, model: &Model, more: &[&str]) {
    let rows = || -> Vec<Value> {
        let listed = binary.run(&["checkpoints", "ls", "--json"]).object();
        listed["items"].as_array().unwrap_or_else(|| panic!("{listed}")).clone()
    };
    let kept = rows();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((&kept["reason"], &kept["status"]), (&json!("timeout"), &json!("active")), "{hangs:?}: {kept}");
    assert_eq!(kept["nextTask"], "Go on with: do it", "{kept}");
    let made = binary.run(&["checkpoints", "create", "--next-task", "the next step"]);
    assert_eq!(made.exit, 0, "{made:?}");
    let resumed = binary.run(&[&["resume", "-q", "--timeout", "60s"], more].concat());
    assert_eq!((resumed.exit, resumed.out.as_str()), (0, "Gone on.\n"), "{hangs:?}: {resumed:?}");
    let asked = model.last();
    let (prompt, task) = (asked.find("do it").unwrap(), asked.find("the next step").unwrap());
    assert!(prompt < task, "{asked}");
    match hangs {
        Hangs::Command => {
            assert!(asked.contains("INTERRUPTED: the run was stopped and the command was killed"), "{asked}")
        }
        Hangs::Job => assert!(asked.contains("job_"), "{asked}"),
        Hangs::Stream | Hangs::Silence | Hangs::Retries => {}
    }
}

fn by_itself(hangs: Hangs) {
    let (binary, marker) = marked(hangs, "run");
    let model = hangs.model();
    let ran = binary.run(&["run", "do it", "--timeout", TIME, "--gateway", &model.url, "--output", "json"]);
    assert_eq!(alive(&marker), Vec::<String>::new(), "{hangs:?}");
    is_over(hangs, &binary, &model, &ran);
    goes_on(hangs, &binary, &model, &["--gateway", &model.url]);
}

fn under_up(hangs: Hangs) {
    let (binary, marker) = marked(hangs, "up");
    let model = hangs.model();
    let up = Up::with(&binary, &["--gateway", &model.url]);
    let ours = alive(&marker).len();
    let ran = binary.run(&["run", "do it", "--timeout", TIME, "--output", "json"]);
    // The runtime lives on, and nothing but it. What the kernel takes to bury what was killed is not counted.
    until("no process of the run is left", || alive(&marker).len() <= ours);
    is_over(hangs, &binary, &model, &ran);
    goes_on(hangs, &binary, &model, &[]);
    up.stop();
}

fn each(way: fn(Hangs)) {
    std::thread::scope(|scope| {
        for hangs in Hangs::ALL {
            scope.spawn(move || way(hangs));
        }
    });
}

#[test]
fn when_its_time_is_up_nothing_of_a_run_is_left() {
    each(by_itself);
}

#[test]
fn when_its_time_is_up_nothing_of_a_run_is_left_in_a_runtime_that_stays() {
    each(under_up);
}
