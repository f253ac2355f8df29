//! What commands change in files: a manifest of each workspace, looked at before a command and after it.
//!
//! The first look of a runtime reads what there is; every later one asks for sizes, times and inodes alone, and reads what
//! differs. Bytes are kept on the disk, in a file of the runtime's, up to a budget: what a command overwrites is still there.
//! What there was before a command is noted (`note`), so that a later runtime can tell what it changed.
//!
//! Files, links and directories, by any name. Not looked at: `.git`, what ignore files leave out (`target/`,
//! `node_modules/`), the runtime's own data; pipes, sockets and devices. A workspace that is too large is not looked at at all, which is said once.
//!
//! Read `look` (what stands there), `compare` (what differs), `note` (what outlives a kill), then this.

mod compare;
mod hidden;
mod look;
mod note;
mod pack;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::config::Edits;
use lakitu_kernel::edit::Changes;
use lakitu_kernel::supervise::Guarded;
use tokio::sync::Mutex;

use self::compare::{Seen, told};
use self::look::Manifest;
pub use self::note::Command;

/// Workspaces that are known at a time; past it those that no command uses are forgotten.
const WORKSPACES_MAX: usize = 16;

/// The manifests of a runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Manifests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    data: PathBuf,
    limits: Edits,
    workspaces: Guarded<BTreeMap<PathBuf, Arc<Watched>>>,
    swept: Guarded<bool>,
}

/// A workspace in which commands run.
#[derive(Debug)]
struct Watched {
    /// Locked before a thread is taken that may block, so none ever waits for it there.
    manifest: Arc<Mutex<Manifest>>,
    commands: Guarded<Commands>,
}

/// Commands under way, by number, with what was seen of their changes by others' looks.
#[derive(Debug, Default)]
struct Commands {
    last: u64,
    running: BTreeMap<u64, Seen>,
}

/// A command between the look before it and the one after it. Dropped, it is forgotten.
#[derive(Debug)]
pub struct Before {
    watched: Arc<Watched>,
    number: u64,
    left_out: Option<String>,
}

impl Drop for Before {
    fn drop(&mut self) {
        self.watched.commands.with(|commands| commands.running.remove(&self.number));
    }
}

impl Manifests {
    /// None yet. `data`: the runtime's own directory, where bytes are kept and which is not looked at.
    pub fn new(data: PathBuf, limits: Edits) -> Self {
        Self(Arc::new(Shared { data, limits, workspaces: Guarded::default(), swept: Guarded::default() }))
    }

    /// Looks at a workspace before a command, and notes what it saw for whoever adopts that; none: it is not looked at.
    pub async fn before(&self, workspace: &Path, command: Command) -> Option<Before> {
        if !self.0.limits.commands {
            return None;
        }
        let watched = self.watched(workspace);
        let alone = watched.commands.with(|commands| commands.running.is_empty());
        let (seen, left_out) = self.look(&watched, workspace, (alone, Some(command))).await?;
        let number = watched.commands.with(|commands| {
            // What was changed while others' commands run is one of theirs: nobody knows better.
            if let Some(oldest) = commands.running.values_mut().next() {
                oldest.add(seen);
            }
            commands.last += 1;
            commands.running.insert(commands.last, Seen::default());
            commands.last
        });
        Some(Before { watched, number, left_out })
    }

    /// Looks at the workspace after the command: what it changed.
    pub async fn after(&self, mut before: Before, workspace: &Path) -> Changes {
        let watched = before.watched.clone();
        let left_out = before.left_out.take();
        let Some((seen, more)) = self.look(&watched, workspace, (false, None)).await else {
            return Changes { left_out, ..Changes::default() };
        };
        let mut all = watched.commands.with(|commands| commands.running.remove(&before.number)).unwrap_or_default();
        all.add(seen);
        let left_out = left_out.or(more);
        if all.is_empty() {
            return Changes { left_out, ..Changes::default() };
        }
        let limits = self.0.limits.clone();
        let manifest = watched.manifest.clone().lock_owned().await;
        let told = crate::blocking::spawn_blocking(move || told(all, &manifest.pack, &limits, left_out));
        told.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a command changed could not be told");
            Changes::default()
        })
    }

    /// Looks at the workspace after a command that has outlived the runtime that began it: what changed since it began. None:
    /// nobody noted what there was.
    pub async fn adopted(&self, workspace: &Path, command: Command) -> Option<Changes> {
        if !self.0.limits.commands {
            return Some(Changes::default());
        }
        let (shared, workspace) = (self.0.clone(), workspace.to_owned());
        let told = crate::blocking::spawn_blocking(move || {
            let mut manifest = Manifest::of(&shared.data, command)?;
            let looked = manifest.look(&workspace, &shared.data, (&shared.limits, false));
            let (seen, left_out) = looked.inspect_err(|error| tracing::debug!(%error, "no look")).ok()??;
            Some(told(seen, &manifest.pack, &shared.limits, left_out))
        });
        told.await.ok().flatten()
    }

    /// The results of a thread's commands up to this position are durable: what was noted for whoever adopts one goes.
    pub async fn settled(&self, last: Command) {
        let directory = look::directory(&self.0.data);
        let removed = crate::blocking::spawn_blocking(move || note::settled(&directory, last)).await;
        if let Ok(Err(error)) = removed {
            tracing::debug!(%error, thread = %last.0, "notes of its commands stay until the runtime ends");
        }
    }

    fn watched(&self, workspace: &Path) -> Arc<Watched> {
        self.0.workspaces.with(|workspaces| {
            if workspaces.len() >= WORKSPACES_MAX && !workspaces.contains_key(workspace) {
                workspaces.retain(|_, watched| Arc::strong_count(watched) > 1);
            }
            let new = || {
                let manifest = Arc::new(Mutex::new(Manifest::new(&self.0.data)));
                Arc::new(Watched { manifest, commands: Guarded::default() })
            };
            workspaces.entry(workspace.to_owned()).or_insert_with(new).clone()
        })
    }

    /// Brings the manifest up to date: what differs, and what could not be looked at. None: nothing is known.
    async fn look(
        &self,
        watched: &Watched,
        workspace: &Path,
        (alone, begins): (bool, Option<Command>),
    ) -> Option<(Seen, Option<String>)> {
        let (shared, workspace) = (self.0.clone(), workspace.to_owned());
        let mut manifest = watched.manifest.clone().lock_owned().await;
        let look = crate::blocking::spawn_blocking(move || {
            if !shared.swept.with(|swept| std::mem::replace(swept, true)) {
                note::sweep(&look::directory(&shared.data));
            }
            let looked = manifest.look(&workspace, &shared.data, (&shared.limits, alone));
            if let (Ok(Some(_)), Some(command)) = (&looked, begins)
                && let Err(error) = manifest.note(command)
            {
                tracing::warn!(%error, "what a command may change is not noted: if it outlives this runtime, nobody can tell");
            }
            looked
        });
        match look.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a workspace could not be looked at");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the look at a workspace failed");
                None
            }
        }
    }
}

/// How long a look may take.
fn span(limits: &Edits) -> Duration {
    Duration::from_millis(limits.look_ms)
}
