//! A recall until what it found is read.

use std::{sync::Arc, time::Duration};

use journal::Reason;

use super::Inner;
use crate::{
    backend::Question,
    error::Error,
    plan::{Unfit, Wish},
    recall::{self, Halt, Means, Ran},
    space::Space,
    stop::Stop,
    store::Stored,
};

/// How often a recall whose memories are gone from the store waits for memory to hear of it, and how long each time.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(1);

impl From<Unfit> for Error {
    fn from(Unfit { strategy, why }: Unfit) -> Self {
        Self::Unfit { plan: strategy.as_str(), why }
    }
}

impl Inner {
    /// Runs a recall, and again where a write overtook it, or without a memory that is damaged or lost. Blocks the thread.
    pub(super) fn until_read(
        &self,
        space: &Space,
        question: &Question,
        stop: &Arc<Stop>,
    ) -> Result<Ran, Error> {
        let Question { query, wanted, now, plan } = question;
        let (number, dimensions) = (space.number(), space.shape().dimensions);
        let contents = Stored { store: &self.store, space: number, dimensions };
        let means = Means {
            planner: &self.planner,
            wish: Wish { threads: self.threads, strategy: *plan },
            batch: self.batch,
            reads: self.reads,
            half_life: self.half_life,
            pool: &self.pool,
            contents: &contents,
        };
        let mut tried = 0;
        loop {
            match recall::run(space, query, wanted.clone(), *now, &means, stop) {
                Ok(ran) => return Ok(ran),
                Err(Halt::Stopped) => return Err(Error::TimedOut),
                Err(Halt::Unfit(unfit)) => return Err(unfit.into()),
                Err(Halt::Failed(error)) => return Err(Error::Store(Reason::Store, error)),
                // The write is on disk, and memory has it in no time.
                Err(Halt::Overtaken { generation, .. }) if tried < TRIES => {
                    tried += u32::from(space.generation() == generation);
                    std::thread::sleep(PAUSE);
                }
                Err(Halt::Overtaken { seq, .. } | Halt::Damaged(seq)) => {
                    tracing::warn!(space = number, seq, "a stored memory cannot be read and is left out");
                    self.corrupt.add(1, &[]);
                    space.leave_out(seq);
                }
            }
        }
    }
}
