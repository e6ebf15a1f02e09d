//! What becomes of dead letters: they are accepted again, or dropped.

use std::{collections::BTreeSet, sync::Arc};

use super::sequenced::Sequenced;
use crate::{
    codec::Record,
    document::{Priority, micros},
    error::Error,
    shared::Shared,
    store::Group,
};

/// What is to become of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are accepted again, as writes of now.
    Redrive,
    /// They are dropped for good.
    Discard,
}

/// A dead letter that is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// Its place as a dead letter.
    pub letter: u64,
    /// Its place as a write, if it is one again.
    pub write: Option<u64>,
}

/// Does with those letters of `tenant` that are there as `fate` says, in one commit. What is redriven is not held against the journal's
/// limits: it was there before. It is a write of `caller` then.
pub(super) async fn redeem(
    shared: &Shared,
    (tenant, caller): (&Arc<str>, &Arc<str>),
    sequences: Vec<u64>,
    fate: Fate,
) -> Result<Vec<Redeemed>, Error> {
    let (now, mut group) = (shared.clock.now(), Group::default());
    let (mut sequenced, letters): (_, Vec<_>) = {
        let state = shared.state.lock();
        let asked = BTreeSet::from_iter(sequences);
        let letters = asked.into_iter().filter_map(|sequence| state.dead.get(tenant, sequence)).collect();
        (Sequenced::after(state.queue.last()), letters)
    };
    let mut redeemed = Vec::with_capacity(letters.len());
    for letter in letters {
        group.letters.push(letter.sequence());
        let mut write = None;
        if fate == Fate::Redrive {
            let record = Record {
                key: letter.key.clone(),
                change: letter.change().into_owned(),
                priority: Priority::Normal,
                accepted: micros(now),
                samples: 0,
                buckets: 0,
                caller: Arc::clone(caller),
            };
            write = Some(sequenced.append(&mut group, record));
        }
        redeemed.push(Redeemed { letter: letter.sequence(), write });
    }
    if redeemed.is_empty() {
        return Ok(redeemed);
    }
    let group = Arc::new(group);
    shared.store.append(Arc::clone(&group)).await?;
    {
        let mut state = shared.state.lock();
        for sequence in &group.letters {
            state.dead.remove(tenant, *sequence);
        }
        state.take(sequenced.writes);
        shared.measure(&state);
    }
    shared.wake();
    Ok(redeemed)
}
