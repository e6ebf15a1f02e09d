//! Looks at all memories of a space: what would go from it, and what is odd about it.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Weak},
};

use super::Engine;
use crate::{
    backend::{Backend, View},
    error::Error,
    known::Known,
    memory::cosine,
    shape::SpaceKey,
    upkeep::{
        Policy,
        audit::{Audit, Report, Scope},
        forgettings::Cause,
        prune::Reason,
        survey::{Survey, Surveyor},
    },
};

/// Tells a look whether anybody still waits for it.
pub(super) struct Leash(Weak<()>);

/// What would go from a space at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Surveyed {
    /// The number of the space.
    pub(super) space: u32,
    /// The last write that was seen.
    pub(super) generation: u64,
    /// What would go.
    pub(super) survey: Survey,
    /// The ids of the first ones, by why they would.
    pub(super) examples: BTreeMap<Cause, Vec<Arc<str>>>,
}

impl Leash {
    fn flow(&self) -> ControlFlow<()> {
        if self.0.strong_count() > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl<B: Backend> Engine<B> {
    /// Runs `look` over the space of `key` as it is now, off the async workers and one at a time; nothing if there is no such space. It is
    /// told to end when the caller has left.
    ///
    /// # Errors
    /// [`Error::Store`] if the space cannot be read.
    pub(super) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        key: &SpaceKey,
        look: impl FnOnce(&dyn View, &Leash) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let turn = Arc::clone(&self.looks).acquire_owned().await.map_err(|_| Error::NotReady)?;
        let waiting = Arc::new(());
        let leash = Leash(Arc::downgrade(&waiting));
        let look = move |view: &dyn View| {
            // The turn is over when the look is, not when its caller leaves.
            let _turn = turn;
            look(view, &leash)
        };
        let done = self.store.look(key, look).await;
        drop(waiting);
        done
    }

    /// Returns what would go from the space of `key` now, with up to `examples` ids of each cause; nothing from one that was never written to.
    ///
    /// # Errors
    /// [`Error::Store`] if the space cannot be read.
    pub(super) async fn survey(self: &Arc<Self>, key: &SpaceKey, examples: usize) -> Result<Surveyed, Error> {
        let (quotas, now, half_life) = (self.policy.quotas.clone(), self.clock.now(), self.half_life);
        let look = move |view: &dyn View, leash: &Leash| {
            let mut surveyor = Surveyor::new(now, half_life);
            view.each(0, &mut |seq, memory| {
                surveyor.see(seq, &memory);
                leash.flow()
            })?;
            let survey = surveyor.end(&quotas);
            let examples = named(view, &survey, examples)?;
            let (space, generation) = view.space();
            Ok(Surveyed { space, generation, survey, examples })
        };
        Ok(self.look(key, look).await?.unwrap_or_default())
    }

    /// Audits the space of `key`, with up to `examples` of each finding. Counts as no access.
    ///
    /// # Errors
    /// [`Error::Store`] if the space cannot be read.
    pub(crate) async fn audit(self: &Arc<Self>, key: &SpaceKey, examples: usize) -> Result<Report, Error> {
        let Policy { likeness, pairs, idle, .. } = self.policy;
        let scope = Scope { now: self.clock.now(), idle, threshold: likeness, pairs, examples };
        let space = self.space(key);
        let look = move |view: &dyn View, leash: &Leash| audit(view, leash, scope, &space);
        Ok(self.look(key, look).await?.unwrap_or_default())
    }
}

fn audit(view: &dyn View, leash: &Leash, scope: Scope, space: &Known) -> Result<Report, Error> {
    let mut audit = Audit::new(scope);
    view.each(0, &mut |seq, memory| {
        audit.see(seq, &memory, space.accounts().of(seq));
        leash.flow()
    })?;
    for (one, other) in audit.pairs() {
        if leash.flow().is_break() {
            break;
        }
        let memories = (view.memory(one)?, view.memory(other)?);
        let vectors = (view.vector(one)?, view.vector(other)?);
        if let ((Some(one), Some(other)), (Some(left), Some(right))) = (memories, vectors) {
            audit.compare(&one, &other, cosine(&left, &right));
        }
    }
    Ok(audit.end())
}

/// Returns the first ids of what would go.
fn named(view: &dyn View, survey: &Survey, most: usize) -> Result<BTreeMap<Cause, Vec<Arc<str>>>, Error> {
    let by = |reason| survey.plan.doomed.iter().filter(move |doomed| doomed.reason == reason);
    let seqs = |reason| by(reason).map(|doomed| doomed.row.seq).take(most).collect();
    let expired: Vec<u64> = survey.expired.iter().copied().take(most).collect();
    let causes =
        [(Cause::Expired, expired), (Cause::Quota, seqs(Reason::Quota)), (Cause::Prune, seqs(Reason::Total))];
    let mut named = BTreeMap::new();
    for (cause, seqs) in causes {
        let mut ids = Vec::new();
        for seq in seqs {
            ids.extend(view.memory(seq)?.map(|memory| memory.id));
        }
        named.insert(cause, ids);
    }
    Ok(named)
}
