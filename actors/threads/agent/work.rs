//! The work that the state wants: started here where it is missing, and taken in where it is done.

use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::chat::{self, ModelRequest, SUFFIX};
use lakitu_kernel::image::ImageRef;
use lakitu_kernel::planted::{Planted, planted};
use lakitu_kernel::supervise::Status;
use lakitu_kernel::tool::{EffectClass, ToolCall, ToolOutcome};
use lakitu_kernel::{ErrorCode, LiveEvent, Seq, ToolError, Turn};

use super::commit::files_of;
use super::{Agent, AgentMsg, CallState, Msg, Wanted, wanted};
use crate::deadlines;
use crate::effects::{Done, Key, Prepared, Work};
use crate::tools::{Ask, Place, Settled};
use crate::work::{Asked, ToolWork};

impl Agent {
    /// Outcomes of this thread come here from now on; those that are there already come at once.
    pub(super) fn hear(&self) {
        let address = self.me.address().clone();
        let notify = move |key, done| drop(address.send(AgentMsg::Effect(key, done)));
        self.wiring.effects.subscribe(self.state.thread, Arc::new(notify));
    }

    /// Starts what is wanted and missing, takes in what is done.
    pub(super) fn align(&mut self) {
        // Each round takes in at least one outcome, and a turn has a bounded number of them.
        while let Some((key, done)) = self.align_once() {
            self.take_in(key, done);
        }
    }

    fn align_once(&mut self) -> Option<(Key, Done)> {
        let thread = self.state.thread;
        for work in wanted(&self.state) {
            let key = Key { thread, work: self.work_for(work)? };
            match self.wiring.effects.outcome(&key) {
                Some(Status::Done(done)) => return Some((key, done)),
                Some(Status::Running) => {}
                None if self.stopping.is_some() => {}
                None => self.start(key, work),
            }
        }
        None
    }

    /// What has to be done for it: a call that an earlier process left is looked at first.
    pub(super) fn work_for(&self, work: Wanted) -> Option<Work> {
        Some(match work {
            Wanted::Model { turn, changes } => Work::Model { turn, changes },
            Wanted::Prepare { intent, .. } => Work::Prepare(intent),
            Wanted::PutBack(began) => Work::PutBack(began),
            Wanted::Tool { intent, start, .. } => {
                let call = self.state.call(intent)?;
                let here = Work::Tool(intent, start);
                let known = || self.wiring.effects.outcome(&Key { thread: self.state.thread, work: here }).is_some();
                if call.decided > self.booted_at || known() { here } else { Work::Examine(intent) }
            }
        })
    }

    pub(super) fn start(&mut self, key: Key, work: Wanted) {
        if let Wanted::Prepare { intent, .. } | Wanted::Tool { intent, .. } = work
            && self.ask(intent).is_none()
        {
            let error =
                ToolError::new(ErrorCode::UnknownTool, "this version of the runtime has no such tool; nothing ran");
            return self.take(Msg::Result { intent, outcome: error.into(), duration_ms: 0 });
        }
        match (key.work, work) {
            (Work::Model { turn, .. }, _) => self.ask_model(key, turn),
            (Work::Prepare(intent), Wanted::Prepare { after, .. }) if after <= self.durable => {
                if let Some(ask) = self.ask(intent) {
                    let within = Some(deadlines::prepare());
                    self.wiring
                        .begin(key, within, |lease| crate::work::prepare(self.wiring.clone(), ask.leased(lease)));
                }
            }
            (Work::PutBack(began), _) if began <= self.durable => self.put_back(key, began),
            // What an earlier process left is durable; a redo record of this one may not be yet.
            (Work::Examine(intent), Wanted::Tool { after, .. }) if after <= self.durable => self.examine(key, intent),
            (Work::Tool(intent, start), Wanted::Tool { after, .. })
                if after <= self.durable || planted(Planted::EffectBeforeIntent) =>
            {
                let Some(ask) = self.ask(intent) else { return };
                let prepared = self.redos.get(&intent).cloned();
                let files = self.state.call(intent).and_then(|call| call.prepared.clone()).unwrap_or_default();
                let locks = prepared.as_ref().map(|prepared| prepared.locks.clone());
                let redo = prepared.map(|prepared| prepared.redo);
                let again = start > 1;
                self.wiring.begin(key, Some(deadlines::call(&self.wiring, &ask.call)), |lease| {
                    let tool = ToolWork { ask: ask.leased(lease), files, redo, again };
                    crate::work::run(self.wiring.clone(), tool)
                });
                if let Some(locks) = locks {
                    self.wiring.effects.hold(&key, Box::new(locks));
                }
            }
            (
                Work::Tool(..)
                | Work::PutBack(_)
                | Work::Prepare(_)
                | Work::Examine(_)
                | Work::EndJobs
                | Work::Stop
                | Work::Bury,
                _,
            ) => {}
        }
    }

    fn ask_model(&self, key: Key, turn: Turn) {
        let Some(settings) = self.state.settings.clone() else { return };
        let mut body = vec![self.prefix.clone()];
        body.extend(self.state.history.body(|image| self.shown(image)));
        body.push(Bytes::from_static(SUFFIX));
        let request = ModelRequest { thread: self.state.thread, turn, model: settings.model.clone(), body };
        let Some(place) = self.place() else { return };
        let asked = Asked {
            request,
            rests_on: self.state.seq,
            place,
            known: self.state.known.clone(),
            mode: settings.mode,
            asking: settings.asking,
        };
        self.wiring.hub.troubled(self.state.thread, None);
        self.wiring.hub.live(self.state.thread, LiveEvent::TurnStarted { turn });
        let within = deadlines::model(self.wiring.retry);
        self.wiring.begin(key, within, |lease| crate::work::ask_model(self.wiring.clone(), asked, lease));
    }

    /// What became of a call that an earlier process left? A read is run again without a look.
    fn examine(&mut self, key: Key, intent: Seq) {
        let Some((ask, call)) = self.ask(intent).zip(self.state.call(intent)) else { return };
        if call.effect == EffectClass::Read {
            let began = self.begun.contains(&intent);
            self.take(Msg::Restart { intent, began });
            return;
        }
        let files = call.prepared.clone().unwrap_or_default();
        // Decided there, prepared here: its locks are held, and go with its result. Kept any longer, the calls behind it
        // would wait for them.
        let (redo, locks) = self.redos.remove(&intent).map(|prepared| (prepared.redo, prepared.locks)).unzip();
        self.wiring.begin(key, Some(deadlines::call(&self.wiring, &ask.call)), |lease| {
            let tool = ToolWork { ask: ask.leased(lease), files, redo, again: true };
            crate::work::examine(self.wiring.clone(), tool)
        });
        if let Some(locks) = locks {
            self.wiring.effects.hold(&key, Box::new(locks));
        }
    }

    fn ask(&self, intent: Seq) -> Option<Ask> {
        let call: &CallState = self.state.call(intent)?;
        let tool = self.wiring.catalogue.get(&call.call.tool)?.name;
        Some(Ask {
            call: ToolCall {
                thread: self.state.thread,
                intent,
                call_id: call.call.call_id.clone(),
                tool,
                arguments: call.arguments.clone(),
                start: call.start,
            },
            place: self.place()?,
            known: self.state.known.clone(),
            lease: None,
        })
    }

    /// Where the thread works.
    pub(super) fn place(&self) -> Option<Arc<Place>> {
        let settings = self.state.settings.as_ref()?;
        Some(Arc::new(Place { workspace: settings.workspace.clone(), artifacts: settings.artifacts.clone() }))
    }

    pub(super) fn effect_ended(&mut self, key: Key, done: Done) {
        if self.wants(key) {
            self.take_in(key, done);
        }
        self.let_go_of_the_past();
    }

    /// The question to the model that this state asks, or would ask.
    pub(super) fn asking(&self) -> Work {
        Work::Model { turn: self.state.turn(), changes: self.state.changes() }
    }

    fn wants(&self, key: Key) -> bool {
        wanted(&self.state).into_iter().any(|work| self.work_for(work) == Some(key.work))
    }

    /// An outcome becomes events. It stays in the registry until they are durable.
    fn take_in(&mut self, key: Key, done: Done) {
        let before = self.state.seq;
        if let (Work::Model { turn, .. }, Done::Late(within)) = (key.work, &done) {
            // Nothing of it is kept: its key is free, and the model is asked as at any beginning.
            self.wiring.effects.acknowledge(&key);
            return self.late_model(turn, *within);
        }
        match (key.work, done) {
            (Work::Model { turn, .. }, Done::Answer(answer, first)) => self.answered(turn, &answer, first),
            (Work::Model { turn, .. }, Done::NoAnswer(failure)) => self.take(Msg::NoAnswer { turn, failure }),
            (Work::Prepare(intent), Done::Prepared(outcome)) => {
                let outcome = outcome.map(|prepared| self.keep(intent, prepared));
                self.take(Msg::Prepared { intent, outcome });
            }
            (Work::Tool(intent, _), Done::Tool(outcome, duration_ms)) => {
                self.redos.remove(&intent);
                let outcome = self.show(outcome);
                self.take(Msg::Result { intent, outcome, duration_ms });
            }
            (Work::Examine(intent), Done::Examined(Settled::Outcome(outcome))) => {
                let outcome = self.show(outcome);
                self.take(Msg::Result { intent, outcome, duration_ms: 0 });
            }
            (Work::Examine(intent), Done::Examined(Settled::NeverBegan)) => {
                self.take(Msg::Restart { intent, began: false })
            }
            (Work::PutBack(began), done) => self.put_back_ended(began, done),
            (work, Done::Late(within)) => self.late_call(work, within),
            // The effect's own code failed. What is left of it is found out in the way of its class.
            (Work::Tool(intent, _), Done::Panicked(_)) => self.again(intent),
            (work, _) => tracing::error!(?work, "an effect ended with another's outcome"),
        }
        if self.state.seq == before {
            self.wiring.effects.acknowledge(&key);
        } else {
            self.taken.insert(self.state.seq, key);
        }
    }

    /// A call whose task ended without an outcome, while this process lived on.
    fn again(&mut self, intent: Seq) {
        let Some(call) = self.state.call(intent) else { return };
        // Its locks go with it: whoever settles it takes them anew.
        self.redos.remove(&intent);
        if call.effect == EffectClass::Read {
            self.take(Msg::Restart { intent, began: true });
        } else {
            // As if an earlier process had left it.
            self.booted_at = self.booted_at.max(call.decided);
            self.wiring.hub.may_have_begun(self.state.thread, call.decided);
        }
    }

    /// Lets go of outcomes that the journal has already, or has no place for: those that were there when an incarnation
    /// ended between a commit and its notice of it, and those of effects that were given up and ended later. Else their
    /// path locks would be held for ever.
    pub(super) fn let_go_of_the_past(&mut self) {
        // What is decided and not durable may be decided again, out of the same outcome.
        if self.durable != self.state.seq {
            return;
        }
        for key in self.wiring.effects.keys_of(&self.state.thread) {
            if !self.is_past(key.work) {
                continue;
            }
            if let Some(Status::Done(done)) = self.wiring.effects.outcome(&key) {
                self.keep_redo(key.work, done);
                self.wiring.effects.acknowledge(&key);
            }
        }
    }

    fn is_past(&self, work: Work) -> bool {
        let call_is = |intent, past: &dyn Fn(&CallState) -> bool| {
            self.state.call(intent).is_none_or(|call| call.result.is_some() || past(call))
        };
        match work {
            Work::Model { turn, changes } => {
                turn <= self.state.answered || (turn == self.state.turn() && changes < self.state.changes())
            }
            Work::Prepare(intent) => call_is(intent, &|call| call.prepared.is_some()),
            Work::Tool(intent, start) => call_is(intent, &|call| start < call.start),
            Work::Examine(intent) => call_is(intent, &|call| call.decided > self.booted_at),
            Work::PutBack(began) => self.state.restoring.as_ref().is_none_or(|restoring| restoring.began != began),
            Work::EndJobs | Work::Stop | Work::Bury => true,
        }
    }

    /// A redo record that the journal has and whose call has not ended: its bytes and its locks are needed still.
    fn keep_redo(&mut self, work: Work, done: Done) {
        let (call, prepared) = match (work, done) {
            (Work::Model { turn, .. }, Done::Answer(_, Some(prepared))) if turn == self.state.answered => {
                (self.state.acting().and_then(|acting| acting.calls.first()), prepared)
            }
            (Work::Prepare(intent), Done::Prepared(Ok(prepared))) => (self.state.call(intent), prepared),
            (_, _) => return,
        };
        if let Some(call) = call.filter(|call| call.prepared.is_some() && call.result.is_none()) {
            self.redos.entry(call.intent).or_insert(prepared);
        }
    }

    fn answered(&mut self, turn: Turn, answer: &super::Answer, first: Option<Prepared>) {
        let blobs: Vec<_> = first.iter().flat_map(|prepared| files_of(&prepared.redo)).collect();
        self.blobs.extend(blobs);
        self.take(Msg::Answer { turn, answer: Box::new(answer.clone()) });
        let intent = self.state.acting().and_then(|acting| acting.calls.first()).map(|call| call.intent);
        if let Some((intent, prepared)) = intent.zip(first) {
            self.redos.insert(intent, prepared);
        }
    }

    /// Keeps what a call shows: in the step of its result, and for the requests to come.
    fn show(&mut self, outcome: ToolOutcome) -> ToolOutcome {
        let mut outcome = self.state.fitting(outcome);
        self.blobs.extend(std::mem::take(&mut outcome.changes.blobs).into_iter().map(super::commit::blob));
        let saved = outcome.artifact.iter().map(|artifact| super::commit::blob(artifact.1.clone()));
        self.blobs.extend(saved);
        for image in &outcome.images {
            self.blobs.push(super::commit::blob(image.bytes.clone()));
            self.images.insert(image.about.hash, chat::image_part(image.about.media_type, &image.bytes));
        }
        outcome
    }

    /// An image as it stands on the wire.
    fn shown(&self, image: &ImageRef) -> Bytes {
        // Each one in the state was kept when it was shown, or loaded with the state.
        self.images.get(&image.hash).cloned().unwrap_or_else(|| {
            tracing::error!(image = %image.hash, "an image of the prompt is not at hand");
            chat::text_part("[lakitu] The image is missing.")
        })
    }

    fn keep(&mut self, intent: Seq, prepared: Prepared) -> Vec<lakitu_kernel::event::PreparedFile> {
        self.blobs.extend(files_of(&prepared.redo));
        let files = prepared.redo.files.iter().map(|file| file.file.clone()).collect();
        self.redos.insert(intent, prepared);
        files
    }
}
