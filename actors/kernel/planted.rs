//! Planted bugs: a checker that was never seen to fail proves nothing. With the feature `planted-bugs`, and only in a
//! debug build, `LAKITU_PLANTED=<name>` makes a process do what this runtime promises never to do, and a test asserts
//! that some layer of the tests finds it.
//!
//! Without the feature [`planted`] is a constant.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("planted bugs are for tests alone: no build that is optimised may have them");

/// Every bug that is planted in the actors. The keeper has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A call begins before its intent is durable.
    EffectBeforeIntent,
    /// Events are told before their commit.
    AcknowledgementBeforeCommit,
    /// A command whose result is missing is run again.
    RerunOfDetached,
    /// A stream that ends without its terminal is an answer.
    AcceptedCutStream,
    /// Of the results of a batch the second is not told to the model.
    ForgottenSecondResult,
    /// A step is taken from whoever sends it, whatever was stored meanwhile.
    NoGenerationCheck,
    /// What fell is started again at once.
    RestartWithoutBackoff,
    /// A commit is not flushed.
    SkippedFsync,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 8] = [
        Planted::EffectBeforeIntent,
        Planted::AcknowledgementBeforeCommit,
        Planted::RerunOfDetached,
        Planted::AcceptedCutStream,
        Planted::ForgottenSecondResult,
        Planted::NoGenerationCheck,
        Planted::RestartWithoutBackoff,
        Planted::SkippedFsync,
    ];

    /// The name by which `LAKITU_PLANTED` asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Planted::EffectBeforeIntent => "effect_before_intent",
            Planted::AcknowledgementBeforeCommit => "acknowledgement_before_commit",
            Planted::RerunOfDetached => "rerun_of_detached",
            Planted::AcceptedCutStream => "accepted_cut_stream",
            Planted::ForgottenSecondResult => "forgotten_second_result",
            Planted::NoGenerationCheck => "no_generation_check",
            Planted::RestartWithoutBackoff => "restart_without_backoff",
            Planted::SkippedFsync => "skipped_fsync",
        }
    }
}

/// Whether this process has that bug.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn planted(_: Planted) -> bool {
    false
}

/// Whether this process has that bug.
#[cfg(feature = "planted-bugs")]
pub fn planted(bug: Planted) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("LAKITU_PLANTED").ok()).as_deref() == Some(bug.name())
}
