//! What becomes of dead letters: they are accepted again, or dropped.

use std::{collections::BTreeSet, sync::Arc};

use super::draft::{Before, Draft};
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
    let mut draft = Draft::new(Before { shared, drafts: &[] });
    let mut group = Group::default();
    let letters: Vec<_> = {
        let state = shared.state.lock();
        let asked = BTreeSet::from_iter(sequences);
        asked.into_iter().filter_map(|sequence| state.dead.get(tenant, sequence)).collect()
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
                accepted: micros(draft.now),
                samples: 0,
                buckets: 0,
                caller: Arc::clone(caller),
            };
            write = Some(draft.append(&mut group, record));
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
        state.take(draft.writes);
        shared.measure(&state);
    }
    shared.wake();
    Ok(redeemed)
}
