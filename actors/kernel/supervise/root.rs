//! The root of a tree: a supervisor without a parent.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::address::MAILBOX_CAPACITY;
use super::nodes::Nodes;
use super::service::{Life, StartError};
use super::shell::ChildPlace;
use super::table::{Options, Table, Tree};
use super::wish::SupervisorRef;

/// Starts trees.
pub struct Root;

/// How a root ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// In order.
    Stopped,
    /// A child escalated, or the root itself failed: the process ends.
    Failed(String),
    /// It was still stopping at the deadline, and was killed.
    Overdue,
}

/// A running tree. Dropping it does not stop the tree.
pub struct RootHandle<Ctx: 'static> {
    reference: SupervisorRef<Ctx>,
    life: Arc<Life>,
    join: JoinHandle<()>,
    ended: Option<Ended>,
}

impl Root {
    /// Starts a table as the tree `/`. Answers when the root runs; see [`RootHandle::settled`] for its rows.
    ///
    /// # Errors
    /// `nodes` already has a root that runs.
    pub async fn start<Ctx: Send + Sync + 'static>(
        wiring: Arc<Ctx>,
        table: &'static Table<Ctx>,
        nodes: Nodes,
        options: Options,
    ) -> Result<RootHandle<Ctx>, StartError> {
        Self::start_tree(wiring, Tree::of("root", table), nodes, options).await
    }

    /// The same with a tree that is more than a table.
    ///
    /// # Errors
    /// `nodes` already has a root that runs.
    pub async fn start_tree<Ctx: Send + Sync + 'static>(
        wiring: Arc<Ctx>,
        tree: Tree<Ctx>,
        nodes: Nodes,
        options: Options,
    ) -> Result<RootHandle<Ctx>, StartError> {
        let cell = nodes.register(&"".into(), &"".into(), false);
        let permit = cell.vacancy.clone().try_acquire_owned().map_err(StartError::from)?;
        let life = Arc::new(Life::default());
        let reference = SupervisorRef::new("/", MAILBOX_CAPACITY);
        let place = ChildPlace { cell, nodes, options: Arc::new(options), parent: None, life: life.clone(), permit };
        let started = place.supervise(&wiring, &reference, tree).await?;
        Ok(RootHandle { reference, life, join: started.join, ended: None })
    }
}

impl<Ctx: Send + Sync + 'static> RootHandle<Ctx> {
    /// The root's own handle, to which children can be added.
    pub fn reference(&self) -> &SupervisorRef<Ctx> {
        &self.reference
    }

    /// Waits until every row's first start has ended, well or not.
    pub async fn settled(&self) {
        self.reference.settled().await;
    }

    /// Waits for the end. May be dropped and called again.
    pub async fn wait(&mut self) -> Ended {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let _ = (&mut self.join).await;
        self.over()
    }

    /// Stops the tree, rows in reverse order, each with its grace; what is left at `deadline` is killed.
    pub async fn stop(&mut self, deadline: Duration) -> Ended {
        self.life.stop();
        if let Ok(ended) = timeout(deadline, self.wait()).await {
            return ended;
        }
        self.life.kill();
        // A kill takes effect at the next await; the root itself never blocks.
        let _ = self.wait().await;
        self.ended = Some(Ended::Overdue);
        Ended::Overdue
    }

    fn over(&mut self) -> Ended {
        let ended = self.life.error().map_or(Ended::Stopped, Ended::Failed);
        self.ended = Some(ended.clone());
        ended
    }
}
