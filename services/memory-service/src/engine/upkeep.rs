//! Upkeep: rounds in the background, each of small commits, so that writers and recalls go on in between.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Engine, Pruned};
use crate::{
    backend::Backend,
    error::Error,
    shape::SpaceKey,
    upkeep::{prune::Plan, round::steps},
};

/// When the first round comes, if not sooner: a start has other things to do.
const FIRST: Duration = Duration::from_secs(60);

/// What upkeep knows of spaces from the round before, by their numbers: the write after which nothing had to go though a quota is passed, as only
/// pins are left.
type Settled = HashMap<u32, u64>;

impl<B: Backend> Engine<B> {
    /// Keeps every space for ever, in the interval of the settings. Whoever stops it lets a commit that is on its way finish.
    pub(crate) async fn keep_up(self: &Arc<Self>) -> std::convert::Infallible {
        let mut settled = Settled::new();
        self.clock.sleep(FIRST.min(self.policy.every)).await;
        loop {
            settled = self.round(&settled).await;
            self.clock.sleep(self.policy.every).await;
        }
    }

    /// Keeps every space once. What is known of one that failed is learned anew.
    async fn round(self: &Arc<Self>, before: &Settled) -> Settled {
        let mut then = Settled::new();
        for (key, space) in self.store.all() {
            let number = space.number();
            match self.keep(&key, &space, before.get(&number).copied()).await {
                Ok(settled) => then.extend(settled.map(|generation| (number, generation))),
                Err(Error::NotReady) => break,
                Err(error) => {
                    let (tenant, namespace) = (&*key.tenant, &*key.namespace);
                    tracing::warn!(%error, tenant, namespace, "upkeep of a namespace failed: the next round tries again");
                }
            }
        }
        if let Err(error) = self.store.erase(self.clock.now(), false).await {
            tracing::warn!(%error, "what was removed for good is still in the file: the next round tries again");
        }
        then
    }

    /// Keeps one space: what can be undone no longer is removed, then what has expired goes, then what is over a quota. Numbers of another space
    /// that took its name meanwhile are none of this one, and nothing goes by them.
    async fn keep(
        self: &Arc<Self>,
        key: &SpaceKey,
        space: &Arc<B::Space>,
        mut settled: Option<u64>,
    ) -> Result<Option<u64>, Error> {
        let number = space.number();
        let due = self.store.due(space, Some(self.clock.now()), self.policy.listed).await?;
        let mut plan = Plan::default();
        if settled != Some(space.generation()) && self.is_over(space) {
            let found = self.survey(key, 0).await?;
            settled = found.survey.plan.doomed.is_empty().then_some(found.generation);
            plan = found.survey.plan;
        }
        let mut done = Pruned::default();
        self.take(key, number, steps(&due.purge, &due.expired, &plan, self.policy.batch), &mut done).await?;
        for numbers in due.unlist.chunks(self.policy.batch) {
            self.store.unlist(number, numbers.to_vec()).await?;
        }
        if done.forgotten > 0 {
            let (tenant, namespace, forgotten) = (&*key.tenant, &*key.namespace, done.forgotten);
            tracing::info!(tenant, namespace, forgotten, "memories were forgotten by upkeep");
        }
        Ok(settled)
    }

    /// Returns whether a space has more memories than a quota says; those that have expired and are still there count.
    fn is_over(&self, space: &B::Space) -> bool {
        let quotas = &self.policy.quotas;
        let is_over = |(category, count): (&String, &u64)| {
            quotas.categories.get(category).is_some_and(|quota| count > quota)
        };
        space.memories() > quotas.total
            || !quotas.categories.is_empty() && self.store.census(space).categories.iter().any(is_over)
    }
}
