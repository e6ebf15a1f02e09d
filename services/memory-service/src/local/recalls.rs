//! A recall until what it found is read.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use journal::Reason;

use super::Inner;
use crate::{
    backend::{CONTRADICTING, Question},
    error::Error,
    plan::{Unfit, Wish},
    recall::{self, Found, Halt, Means, Ran, contents::Contents},
    space::Space,
    stop::Stop,
    store::Stored,
    vector::source::Unread,
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
        let number = space.number();
        let contents = Stored { store: &self.store, site: space.site() };
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
                Ok(mut ran) => {
                    contradict(space, &contents, &mut ran.answer.found, *now)?;
                    return Ok(ran);
                }
                Err(Halt::Stopped) => return Err(Error::TimedOut),
                Err(Halt::Unfit(unfit)) => return Err(unfit.into()),
                Err(Halt::Failed(error)) => return Err(Error::Store(Reason::Store, error)),
                // What is written by now is none of this one's.
                Err(Halt::Overtaken { .. }) if space.is_over() => return Err(Error::Reembedded),
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

/// Tells of each memory that was found which others contradict it. Nothing that was written meanwhile is missed: an answer is served until
/// the next write alone.
fn contradict(
    space: &Space,
    contents: &impl Contents,
    found: &mut [Found],
    now: SystemTime,
) -> Result<(), Error> {
    let claims = found.iter_mut().filter(|found| found.memory.claim.is_some());
    let told: Vec<(&mut Found, Vec<u64>)> = {
        let index = space.index();
        let against = |found: &Found| {
            let claim = found.memory.claim.as_ref();
            claim.map(|claim| index.against(claim, now, CONTRADICTING)).unwrap_or_default()
        };
        claims.map(|found| (against(found), found)).map(|(seqs, found)| (found, seqs)).collect()
    };
    let named = ids(contents, told.iter().flat_map(|(_, seqs)| seqs).copied().collect())?;
    for (found, seqs) in told {
        found.against.extend(seqs.iter().filter_map(|seq| named.get(seq).cloned()));
    }
    Ok(())
}

/// Returns the ids of the memories of `seqs`, but of those that are gone or damaged; all are read at once.
fn ids(contents: &impl Contents, mut seqs: Vec<u64>) -> Result<HashMap<u64, Arc<str>>, Error> {
    while !seqs.is_empty() {
        match contents.memories(&seqs) {
            Ok(memories) => {
                let ids = memories.iter().map(|memory| Arc::clone(&memory.id));
                return Ok(seqs.iter().copied().zip(ids).collect());
            }
            Err(Unread::Gone(lost) | Unread::Damaged(lost)) => seqs.retain(|seq| *seq != lost),
            Err(Unread::Failed(error)) => return Err(Error::Store(Reason::Store, error)),
        }
    }
    Ok(HashMap::new())
}
