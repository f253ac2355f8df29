//! `/gateway`: the way to the model. Parent `/`, permanent: it owns nothing but its counts, the
//! breaker and the names of unknown models, and begins again with none.
//!
//! Everything that gives answers is a [`lakitu_kernel::ports::Gateway`]: HTTP in the edges of the program, a script in
//! [`script`]. What all of them share is here, without I/O: how a stream becomes an answer ([`stream`]), what a refusal
//! means ([`failure`]), when a call is made again ([`call`]), when nobody calls ([`breaker`]).
//!
//! **Invariant:** the actor never makes a call. It hands out a [`Route`], and the call runs in the effect's own task: a
//! restart of this actor cuts no stream.
//!
//! **Convention:** an empty [`Delta`](lakitu_kernel::ports::Delta) is a sign of life. An upstream sends one for data
//! that shows nothing (the answer's head, a piece of a call's arguments), so that deadlines see it; nobody else does.

use std::sync::Arc;

use lakitu_kernel::clock::Randomness;
use lakitu_kernel::ports::Gateway;
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError};

pub mod anthropic;
pub mod breaker;
pub mod call;
pub mod failure;
pub mod script;
pub mod sse;
pub mod stream;
pub mod validate;

mod assembly;
mod attempt;
mod calls;
mod fallback;
#[cfg(test)]
mod tests;
mod wire;

pub use attempt::Deadlines;
pub use call::{Notice, Patience, Retry, RetryPolicy, Route};
pub use script::{ScriptError, ScriptGateway, Unplayed};
pub use stream::{AnswerStream, Progress, read};
pub use wire::usage_of;

/// Everything that `/gateway` can be told.
#[derive(Debug)]
pub enum GatewayMsg {
    /// Somebody wants to call the model.
    Open {
        /// Takes the way to it.
        reply: Reply<Route>,
    },
    /// A call is made again. Telemetry, from the route itself.
    Retried,
    /// A call was given up. Telemetry, from the route itself.
    Failed,
    /// Another model is asked. Telemetry, from the route itself.
    FellBack,
    /// The breaker moved. Telemetry, from the door itself.
    Breaker,
}

impl Message for GatewayMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "Open",
            Self::Retried => "Retried",
            Self::Failed => "Failed",
            Self::FellBack => "FellBack",
            Self::Breaker => "Breaker",
        }
    }
}

/// What `/gateway` is started from.
#[derive(Clone)]
pub struct GatewayArgs {
    /// Who answers.
    pub upstream: Arc<dyn Gateway>,
    /// What is done when it does not.
    pub policy: RetryPolicy,
    /// Models that are asked, in this order, when the wanted one cannot be had.
    pub fallback_models: Arc<[String]>,
    /// For the jitter between attempts.
    pub randomness: Arc<dyn Randomness>,
}

/// The actor.
pub struct GatewayActor {
    me: Me<GatewayMsg>,
    route: Route,
    /// As in [`Service::GAUGES`], but for the breaker, whose gauge is 0 while calls go out, 1 while none does, and 2 while
    /// a probe is under way.
    counts: [u64; 4],
}

impl GatewayActor {
    fn count(&mut self, index: usize) {
        self.counts[index] += 1;
        self.me.gauge(index, self.counts[index]);
    }
}

impl Service for GatewayActor {
    type Msg = GatewayMsg;
    type Args = GatewayArgs;
    const KIND: &'static str = "gateway";
    const GAUGES: &'static [&'static str] = &["opened", "retries", "failures", "fallbacks", "breaker"];

    async fn start(args: GatewayArgs, me: Me<GatewayMsg>) -> Result<Self, StartError> {
        let GatewayArgs { upstream, policy, fallback_models, randomness } = args;
        let route = Route::new(upstream, policy, randomness).falling_back_to(fallback_models);
        let route = route.counted_by(me.address().clone());
        Ok(Self { me, route, counts: [0; 4] })
    }

    async fn handle(&mut self, msg: GatewayMsg) -> Result<(), Crash> {
        match msg {
            GatewayMsg::Open { reply } => {
                self.count(0);
                reply.send(self.route.clone());
            }
            GatewayMsg::Retried => self.count(1),
            GatewayMsg::Failed => self.count(2),
            GatewayMsg::FellBack => self.count(3),
            GatewayMsg::Breaker => self.me.gauge(4, self.route.breaker()),
        }
        Ok(())
    }
}
