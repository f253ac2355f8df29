//! Giving something up: a thread's run with all its commands, its turn alone, or one job. Answered within a second,
//! whatever hangs.

use lakitu_kernel::limits::CANCEL_ANSWER_DEADLINE;
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::agent::Stop;
use super::{Threads, not_found};
use crate::deadlines;
use crate::effects::{Done, Key, Work};
use crate::store::JobState;
use crate::tools::bash::JobId;

/// What is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The run, every command and every job of the thread.
    Thread,
    /// The run and the commands that its calls wait for. Jobs in the background go on.
    Turn,
    /// One job. The run goes on.
    Job(JobId),
}

/// The same, in the words of those who ask and name no job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScopeName {
    /// The run, every command and every job of the thread.
    #[default]
    Thread,
    /// The run and the commands that its calls wait for. Jobs in the background go on.
    Turn,
}

impl Scope {
    /// What somebody means by these words: a job where one is named.
    pub fn meant(scope: Option<ScopeName>, job: Option<&str>) -> Result<Self, ToolError> {
        let Some(job) = job else {
            return Ok(match scope.unwrap_or_default() {
                ScopeName::Thread => Self::Thread,
                ScopeName::Turn => Self::Turn,
            });
        };
        let message = "`job` is a job's name, such as job_12";
        let named = serde_json::from_value(serde_json::Value::from(job));
        named.map(Self::Job).map_err(|_| ToolError::new(ErrorCode::InvalidArguments, message))
    }
}

/// What became of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    /// The event that says so; or the last one, where it is not written yet or there is none.
    pub seq: Seq,
    /// Whether it is done: written down, or the job's last process dead. Else it is on its way and cannot be lost but with
    /// the process.
    pub done: bool,
}

impl Threads {
    /// Gives something of a thread up, if it is under way.
    pub async fn cancel(&self, thread: ThreadId, scope: Scope) -> Result<Cancelled, ToolError> {
        let last = self.last_seq(thread).await?;
        match scope {
            Scope::Thread => self.stop_soon(thread, Stop::Cancel, last).await,
            Scope::Turn => self.stop_soon(thread, Stop::CancelTurn, last).await,
            Scope::Job(job) => {
                let intent = Seq(job.0);
                let read =
                    self.wiring.store.read(move |reading| Ok((reading.thread(thread)?, reading.job(thread, intent)?)));
                let (row, found) = read.await.map_err(ToolError::from)?;
                row.ok_or_else(|| not_found(thread))?;
                if found.is_none_or(|found| found.state == JobState::Ended) {
                    let message = format!("no {job} of this thread runs");
                    return Err(ToolError::new(ErrorCode::JobNotFound, message));
                }
                let done = self.wiring.bash_tools.end_job(thread, intent, limits::STOP_DEADLINE).await;
                Ok(Cancelled { seq: last, done })
            }
        }
    }

    /// Stops a run, and answers when that is durable or it takes too long. It is seen through in any case.
    async fn stop_soon(&self, thread: ThreadId, how: Stop, last: Seq) -> Result<Cancelled, ToolError> {
        let key = Key { thread, work: Work::Stop };
        // That of an earlier cancel.
        self.wiring.effects.acknowledge(&key);
        let (tell, told) = oneshot::channel();
        let threads = self.clone();
        // Where one is under way already, this one is it: nobody tells.
        self.wiring.begin(key, Some(deadlines::stop()), |_| async move {
            // Whoever asked may have stopped waiting.
            let _ = tell.send(threads.stop(thread, how).await);
            Done::Over
        });
        match timeout(CANCEL_ANSWER_DEADLINE, told).await {
            Ok(Ok(outcome)) => Ok(Cancelled { seq: outcome?, done: true }),
            Ok(Err(_)) | Err(_) => Ok(Cancelled { seq: last, done: false }),
        }
    }
}
