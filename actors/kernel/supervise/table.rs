//! Supervision as data: what a supervisor's children are.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::decide::{Exhausted, Intensity, Pace, Policy, Restart};
use super::service::{Service, StartError};
use super::shell::{ChildPlace, Started};

/// A start under way.
pub type Starting = Pin<Box<dyn Future<Output = Result<Started, StartError>> + Send>>;

/// Starts a child: [`child`], or a closure that ends in [`ChildPlace::spawn`] or [`ChildPlace::supervise`]. A function,
/// because each start rebuilds its arguments.
pub type StartFn<Ctx> = fn(&Arc<Ctx>, ChildPlace) -> Starting;

/// One row of a table.
pub struct ChildSpec<Ctx> {
    /// The last part of its path.
    pub id: &'static str,
    /// How it starts.
    pub start: StartFn<Ctx>,
    /// Which ends are followed by a restart.
    pub restart: Restart,
    /// How often that may happen.
    pub intensity: Intensity,
    /// What follows when it happens more often. A row with `Fail` or `Escalate` is a core service: the watchdog looks at it.
    pub exhausted: Exhausted,
    /// How long an orderly stop may take before it is killed.
    pub grace: Duration,
    /// How long a start may take before it counts as failed.
    pub start_deadline: Duration,
}

/// A supervisor's fixed children. Start order is dependency order; stop order is the reverse.
///
/// One-for-one: rows know each other only by stable addresses, so one row's death takes no other along.
pub struct Table<Ctx: 'static> {
    /// The rows.
    pub children: &'static [ChildSpec<Ctx>],
}

/// How a dynamic child starts. Called again for each restart.
pub type Start<Ctx> = Arc<dyn Fn(&Arc<Ctx>, ChildPlace) -> Starting + Send + Sync>;

/// A child that is added while its supervisor runs. (A table's rows become the same thing.)
pub struct DynamicChild<Ctx> {
    /// The last part of its path: not empty, no `/`.
    pub id: String,
    /// Its node's `kind` until its service says it.
    pub kind: &'static str,
    /// Which ends are followed by a restart.
    pub restart: Restart,
    /// How often that may happen.
    pub intensity: Intensity,
    /// What follows when it happens more often.
    pub exhausted: Exhausted,
    /// How long an orderly stop may take before it is killed.
    pub grace: Duration,
    /// How long a start may take before it counts as failed.
    pub start_deadline: Duration,
    /// How it starts.
    pub start: Start<Ctx>,
}

impl<Ctx> Clone for DynamicChild<Ctx> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), start: self.start.clone(), ..*self }
    }
}

impl<Ctx> DynamicChild<Ctx> {
    pub(super) fn policy(&self) -> Policy {
        Policy { restart: self.restart, intensity: self.intensity, exhausted: self.exhausted }
    }

    pub(super) fn is_core(&self) -> bool {
        match self.exhausted {
            Exhausted::Fail(_) | Exhausted::Escalate => true,
            Exhausted::Quarantine(_) | Exhausted::Settle => false,
        }
    }
}

impl<Ctx: 'static> ChildSpec<Ctx> {
    pub(super) fn child(&self) -> DynamicChild<Ctx> {
        let start = self.start;
        DynamicChild {
            id: self.id.to_owned(),
            kind: "",
            restart: self.restart,
            intensity: self.intensity,
            exhausted: self.exhausted,
            grace: self.grace,
            start_deadline: self.start_deadline,
            start: Arc::new(start),
        }
    }
}

/// What a wiring knows about the service `S`: made anew for each start.
pub trait Wire<S: Service> {
    /// Its arguments, made of other services' addresses.
    fn args(&self) -> S::Args;
    /// Its own stable address.
    fn address(&self) -> Address<S::Msg>;
}

/// Starts the service `S` with what the wiring says about it: `start: child::<Store, _>`.
pub fn child<S: Service, Ctx: Wire<S>>(wiring: &Arc<Ctx>, place: ChildPlace) -> Starting {
    place.spawn::<S>(wiring.address(), wiring.args())
}

/// A child that its supervisor has forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its id.
    pub id: String,
    /// How it ended.
    pub end: End,
}

/// See [`Settled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It announced that it is done.
    Done,
    /// A temporary child failed: it is not restarted.
    Failed(String),
    /// It failed too often; its last failure.
    CrashLoop(String),
}

/// Called by the supervisor, in its own handler: hand it on, never wait.
pub type OnSettled = Arc<dyn Fn(Settled) + Send + Sync>;

/// What one supervisor looks after.
pub struct Tree<Ctx: 'static> {
    /// `kind` of its node.
    pub kind: &'static str,
    /// Fixed children.
    pub table: Option<&'static Table<Ctx>>,
    /// Children that are there from the start but not known when the program was written. Asked again whenever the
    /// supervisor itself starts again, because its children died with it.
    pub first: Option<First<Ctx>>,
    /// Told of children that are forgotten: ended normally, or past their window with [`Exhausted::Settle`].
    pub on_settled: Option<OnSettled>,
    /// Whether it is done when its last child was forgotten.
    pub ends_when_empty: bool,
}

/// See [`Tree::first`].
pub type First<Ctx> = Arc<dyn Fn(&Arc<Ctx>) -> Vec<DynamicChild<Ctx>> + Send + Sync>;

impl<Ctx> Tree<Ctx> {
    /// Nothing yet.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, table: None, first: None, on_settled: None, ends_when_empty: false }
    }

    /// With the rows of a table.
    pub fn of(kind: &'static str, table: &'static Table<Ctx>) -> Self {
        Self { table: Some(table), ..Self::new(kind) }
    }

    /// With these children from each start on.
    #[must_use]
    pub fn first(mut self, first: impl Fn(&Arc<Ctx>) -> Vec<DynamicChild<Ctx>> + Send + Sync + 'static) -> Self {
        self.first = Some(Arc::new(first));
        self
    }

    /// Tells this of forgotten children.
    #[must_use]
    pub fn on_settled(mut self, told: impl Fn(Settled) + Send + Sync + 'static) -> Self {
        self.on_settled = Some(Arc::new(told));
        self
    }

    /// Ends normally when its last child was forgotten.
    #[must_use]
    pub fn ends_when_empty(mut self) -> Self {
        self.ends_when_empty = true;
        self
    }
}

/// What all supervisors of one tree share.
#[derive(Clone)]
pub struct Options {
    /// A handler that takes longer is killed, its actor restarted. Default: 5 s.
    pub handler: Duration,
    /// Delays around restarts.
    pub pace: Pace,
    /// 64 random bits, for jitter.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        // Without entropy there is no jitter: nothing else rests on it.
        let random = || getrandom::u64().unwrap_or(0);
        Self { handler: Duration::from_secs(5), pace: Pace::default(), random: Arc::new(random) }
    }
}
