//! Recalls of memories in memory, as the service makes them.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use embedding::Hashing;
use futures::FutureExt as _;

use super::Error;
use crate::{
    held::Held,
    index::Index,
    plan::{Planner, Strategy, Wish},
    query::Query,
    recall::{self, Halt, Means, Ran, calibration},
    record::{Change, Record},
    space::Space,
    stop::Stop,
    vector::{metric::Metric, pool::Pool},
};

/// Threads of a scan.
const THREADS: usize = 2;
/// Longest a recall may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Memories, and who recalls them.
pub(super) struct Asking {
    space: Space,
    held: Held,
    planner: Planner,
    pool: Pool,
    dimensions: usize,
}

impl Asking {
    /// Takes `records`, whose vectors have `dimensions` values, and calibrates.
    pub(super) fn new(metric: Metric, dimensions: usize, records: Vec<Record>) -> Result<Self, Error> {
        let (mut index, mut held) = (Index::new(metric, dimensions, 0), Held::default());
        index.apply(&held.write(Change::Put(records)), 1);
        let (pool, planner) = (Pool::new(THREADS, THREADS)?, Planner::default());
        calibration::measure(&planner, &pool, dimensions, THREADS);
        Ok(Self { space: Space::apart(index), held, planner, pool, dimensions })
    }

    /// Recalls by one plan, or by the cheapest.
    ///
    /// # Errors
    /// [`Error::Recall`].
    pub(super) fn run(&self, query: &Query, plan: Option<Strategy>) -> Result<Ran, Error> {
        self.try_run(query, plan)?.ok_or_else(|| Error::Recall("the plan cannot be taken".to_owned()))
    }

    /// Recalls by one plan; nothing where that cannot be taken.
    ///
    /// # Errors
    /// [`Error::Recall`].
    pub(super) fn try_run(&self, query: &Query, plan: Option<Strategy>) -> Result<Option<Ran>, Error> {
        let failed = |why: &str| Error::Recall(why.to_owned());
        // Embeds in no time, so that it is ready at once.
        let wanted = recall::wanted(query, &Hashing::new(self.dimensions)).now_or_never();
        let wanted = wanted.and_then(Result::ok).ok_or_else(|| failed("no embedding"))?;
        let means = Means {
            planner: &self.planner,
            wish: Wish { threads: THREADS, strategy: plan },
            batch: 4096,
            reads: 4096,
            half_life: Duration::from_hours(24 * 30),
            pool: &self.pool,
            contents: &self.held,
        };
        let stop = Arc::new(Stop::at(Instant::now() + TIMEOUT));
        match recall::run(&self.space, query, wanted, SystemTime::UNIX_EPOCH, &means, &stop) {
            Ok(ran) => Ok(Some(ran)),
            Err(Halt::Unfit(_)) => Ok(None),
            Err(halt) => Err(failed(&format!("{halt:?}"))),
        }
    }
}
