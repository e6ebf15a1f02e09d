//! The forgetting half: what goes, what comes back, and what is gone for good.

use std::{ops::Range, sync::Arc};

use telemetry::{KeyValue, names};

use super::{Engine, surveys::Surveyed};
use crate::{
    backend::{Backend, Forget, Which},
    error::Error,
    shape::SpaceKey,
    upkeep::{
        forgettings::{Cause, Forgetting},
        prune::{Plan, Reason},
        round::{Step, steps},
    },
};

/// What goes from a space, or went, for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Going {
    /// Why.
    pub(crate) cause: Cause,
    /// How many memories.
    pub(crate) memories: u64,
    /// The ids of the first of them.
    pub(crate) examples: Vec<Arc<str>>,
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// The last write before it.
    pub(crate) generation: u64,
    /// Live memories before it.
    pub(crate) memories: u64,
    /// What goes, by cause.
    pub(crate) going: Vec<Going>,
    /// How many memories stay above a quota because they are pinned: the greatest such number.
    pub(crate) over: u64,
    /// Memories that went.
    pub(crate) forgotten: u64,
    /// The numbers of the forgettings.
    pub(crate) forgettings: Vec<u64>,
}

impl<B: Backend> Engine<B> {
    /// Forgets the memories of `ids` (each once) and returns how many there were, once they are gone from disk, from memory and from the
    /// query cache, and the number of the forgetting. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Store`], and [`Error::NotReady`] once the service stops; nothing was forgotten then.
    pub(crate) async fn forget(
        self: &Arc<Self>,
        key: SpaceKey,
        ids: Vec<String>,
    ) -> Result<(u32, Option<u64>), Error> {
        self.go(key, Cause::Named, Which::Ids(ids)).await
    }

    /// Forgets memories; as [`Engine::forget`].
    async fn go(
        self: &Arc<Self>,
        key: SpaceKey,
        cause: Cause,
        which: Which,
    ) -> Result<(u32, Option<u64>), Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let forget = Forget { which, cause, at: engine.clock.now(), window: engine.policy.window };
            let (done, number) = engine.store.forget(&key, forget).await?;
            engine.forgotten.add(done.touched.into(), &[KeyValue::new(names::CAUSE, cause.as_str())]);
            engine.take_over(&done);
            Ok((done.touched, number))
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Brings back what the forgetting of `number` took from the space of `key`; returns how many memories came back and how many stay
    /// forgotten. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::NoForgetting`], [`Error::Over`], [`Error::Undone`], and those of a write; nothing came back then.
    pub(crate) async fn undo(self: &Arc<Self>, key: SpaceKey, number: u64) -> Result<(u64, u64), Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let restored = engine.store.undo(&key, number, engine.clock.now()).await?;
            engine.take_over(&restored.done);
            Ok((restored.back, restored.stayed))
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Removes for good what the forgetting of `number` took from the space of `key`, or what any did; returns how many memories.
    ///
    /// # Errors
    /// [`Error::NoForgetting`] if there is none of that number, and those of a write; what was removed before stays so.
    pub(crate) async fn purge(self: &Arc<Self>, key: &SpaceKey, number: Option<u64>) -> Result<u64, Error> {
        let Some(space) = self.store.find(key) else {
            return number.map_or(Ok(0), |_| Err(Error::NoForgetting));
        };
        let numbers = match number {
            Some(number) => {
                let found = self.listed(key, number..number.saturating_add(1), 1).await?;
                found.first().map(|entry| vec![entry.number]).ok_or(Error::NoForgetting)?
            }
            None => self.store.due(&space, None, self.policy.listed).await?.purge,
        };
        let purged = self.purge_all(space.number(), &numbers).await?;
        if purged > 0 {
            let engine = Arc::clone(self);
            // Behind the caller's back: it rewrites the whole file.
            self.telemetry.spawn(async move {
                if let Err(error) = engine.store.erase(engine.clock.now(), true).await {
                    tracing::warn!(%error, "what was purged is still in the file: upkeep tries again");
                }
            });
        }
        Ok(purged)
    }

    /// Removes for good what the forgettings of `numbers` took, some in each commit.
    async fn purge_all(&self, space: u32, mut numbers: &[u64]) -> Result<u64, Error> {
        let (mut removed, batch) = (0, self.policy.batch);
        while !numbers.is_empty() {
            let some = numbers[..numbers.len().min(batch)].to_vec();
            let done = self.store.purge(space, some, batch).await?;
            removed += done.removed as u64;
            numbers = &numbers[done.ended..];
        }
        Ok(removed)
    }

    /// Returns at most `most` forgettings of the space of `key` whose numbers lie in `numbers`, the last first.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) async fn listed(
        self: &Arc<Self>,
        key: &SpaceKey,
        numbers: Range<u64>,
        most: usize,
    ) -> Result<Vec<Forgetting>, Error> {
        let Some(space) = self.store.find(key) else { return Ok(Vec::new()) };
        self.store.forgettings(space.number(), numbers, most).await
    }

    /// Forgets what has expired in the space of `key` and what is over a quota, as the space is at one moment; or only says what that is.
    /// A memory that is written again meanwhile stays. A caller that leaves ends it after a commit.
    ///
    /// # Errors
    /// [`Error::Moved`] if the last write is not `expected`, and those of a write; what went before stays forgotten.
    pub(crate) async fn prune(
        self: &Arc<Self>,
        key: &SpaceKey,
        expected: Option<u64>,
        examples: usize,
        is_dry: bool,
    ) -> Result<Pruned, Error> {
        let found = self.survey(key, examples).await?;
        if let Some(expected) = expected.filter(|expected| *expected != found.generation) {
            return Err(Error::Moved { expected, now: found.generation });
        }
        let mut pruned = Pruned {
            generation: found.generation,
            memories: found.survey.memories,
            going: going(&found),
            over: found.survey.plan.over,
            ..Pruned::default()
        };
        if !is_dry {
            let steps = steps(&[], &found.survey.expired, &found.survey.plan, self.policy.batch);
            self.take(key, found.space, steps, &mut pruned).await?;
        }
        Ok(pruned)
    }

    /// Takes the steps of a round, one after the other.
    pub(super) async fn take(
        self: &Arc<Self>,
        key: &SpaceKey,
        space: u32,
        steps: Vec<Step>,
        pruned: &mut Pruned,
    ) -> Result<(), Error> {
        for step in steps {
            match step {
                Step::Purge(numbers) => {
                    self.purge_all(space, &numbers).await?;
                }
                Step::Forget(cause, seqs) => {
                    let (forgotten, number) = self.go(key.clone(), cause, Which::Seqs(space, seqs)).await?;
                    pruned.forgotten += u64::from(forgotten);
                    pruned.forgettings.extend(number);
                }
            }
        }
        Ok(())
    }
}

/// Returns what goes, by cause.
fn going(found: &Surveyed) -> Vec<Going> {
    let Plan { doomed, .. } = &found.survey.plan;
    let by = |reason| doomed.iter().filter(|doomed| doomed.reason == reason).count();
    let counts = [
        (Cause::Expired, found.survey.expired.len()),
        (Cause::Quota, by(Reason::Quota)),
        (Cause::Prune, by(Reason::Total)),
    ];
    let some = counts.into_iter().filter(|(_, count)| *count > 0);
    let going = some.map(|(cause, count)| {
        let examples = found.examples.get(&cause).cloned().unwrap_or_default();
        Going { cause, memories: count as u64, examples }
    });
    going.collect()
}
