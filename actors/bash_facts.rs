//! What the store knows of a command that an earlier process started.

use lakitu_kernel::ToolError;

use crate::tools::Ask;
use crate::tools::bash::{BashTools, JobFacts};
use crate::wiring::Wiring;

/// The tools, and the facts of the command's `jobs` row.
pub(crate) async fn of(wiring: &Wiring, ask: &Ask) -> Result<(BashTools, JobFacts), ToolError> {
    let tools = crate::work::enter_bash(wiring).await?;
    let (thread, intent) = (ask.call.thread, ask.call.intent);
    let jobs = wiring.store.read(move |reading| reading.jobs(thread)).await.map_err(ToolError::from)?;
    let row = jobs.into_iter().find(|job| job.seq == intent);
    // Without a row it was not a command: the other shell tools need no facts.
    let facts = row.map_or(JobFacts { boot_id: String::new(), attempt: ask.call.start }, |row| JobFacts {
        boot_id: row.boot_id,
        attempt: row.attempt,
    });
    Ok((tools, facts))
}
