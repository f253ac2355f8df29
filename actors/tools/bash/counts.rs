//! How many keepers are attached and how many jobs they run: what operators see of this actor.

use std::sync::Arc;

use tokio::sync::watch;

/// What the gauges of `/tools/bash` show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs with a live process.
    pub jobs: usize,
    /// Keepers that this runtime is attached to.
    pub keepers: usize,
    /// Keepers that ended without being asked to, since the start of the runtime.
    pub keepers_lost: usize,
}

/// One connection's share of the counts, which ends with it.
#[derive(Debug)]
pub(super) struct Tally {
    all: Arc<watch::Sender<Counts>>,
    jobs: usize,
}

impl Tally {
    pub(super) fn new(all: Arc<watch::Sender<Counts>>) -> Self {
        all.send_modify(|all| all.keepers += 1);
        Self { all, jobs: 0 }
    }

    /// So many jobs run at this connection's keeper.
    pub(super) fn jobs(&mut self, jobs: usize) {
        if jobs != self.jobs {
            let before = std::mem::replace(&mut self.jobs, jobs);
            self.all.send_modify(|all| all.jobs = all.jobs + jobs - before);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.all.send_modify(|all| {
            all.jobs -= self.jobs;
            all.keepers -= 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ends_takes_its_jobs_out_of_the_counts() {
        let all = Arc::new(watch::Sender::new(Counts::default()));
        let mut one = Tally::new(all.clone());
        let mut two = Tally::new(all.clone());
        one.jobs(3);
        two.jobs(1);
        one.jobs(2);
        assert_eq!(*all.borrow(), Counts { jobs: 3, keepers: 2, keepers_lost: 0 });
        drop(one);
        assert_eq!(*all.borrow(), Counts { jobs: 1, keepers: 1, keepers_lost: 0 });
    }
}
