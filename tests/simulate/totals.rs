//! How often each thing happened: a simulation that never reaches something shows nothing about it.

/// How often the things happened that a run is for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) created: u64,
    pub(crate) replayed: u64,
    pub(crate) conflicts: u64,
    pub(crate) refused: u64,
    pub(crate) deleted: u64,
    pub(crate) expired: u64,
    pub(crate) failed: u64,
    pub(crate) adopted: u64,
    pub(crate) crashes: u64,
    pub(crate) reboots: u64,
    pub(crate) failed_commits: u64,
}

impl Totals {
    /// Sums up.
    pub(crate) fn add(&mut self, mut other: Totals) {
        for (mine, theirs) in self.all().into_iter().zip(other.all()) {
            *mine += *theirs;
        }
    }

    /// A simulation in which something never happens shows nothing about it.
    pub(crate) fn reached_everything(mut self) -> bool {
        self.all().into_iter().all(|count| *count > 100)
    }

    fn all(&mut self) -> [&mut u64; 11] {
        let Totals { created, replayed, conflicts, refused, deleted, expired, failed, adopted, .. } = self;
        let Totals { crashes, reboots, failed_commits, .. } = self;
        [created, replayed, conflicts, refused, deleted, expired, failed, adopted, crashes, reboots, failed_commits]
    }
}
