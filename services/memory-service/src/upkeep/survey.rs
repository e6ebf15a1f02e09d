//! What would go from a space, as it is at one moment.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    prune::{Plan, Quotas, Row, plan},
    value::Reckoning,
};
use crate::memory::Memory;

/// What has expired, and what is over a quota.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Survey {
    /// Live memories.
    pub(crate) memories: u64,
    /// Numbers of those that have expired, in their order.
    pub(crate) expired: Vec<u64>,
    /// What a prune does about the others.
    pub(crate) plan: Plan,
}

/// A survey on its way.
#[derive(Debug)]
pub(crate) struct Surveyor {
    reckoning: Reckoning,
    expired: Vec<u64>,
    rows: Vec<Row>,
    /// Each category once.
    categories: HashSet<Arc<str>>,
}

impl Surveyor {
    /// Begins a survey at `now`; a memory loses half of its recency in `half_life`.
    pub(crate) fn new(now: SystemTime, half_life: Duration) -> Self {
        let reckoning = Reckoning { now, half_life };
        Self { reckoning, expired: Vec::new(), rows: Vec::new(), categories: HashSet::new() }
    }

    /// Takes note of the memory of number `seq`.
    pub(crate) fn see(&mut self, seq: u64, memory: &Memory) {
        if memory.expires.is_some_and(|at| at <= self.reckoning.now) {
            self.expired.push(seq);
            return;
        }
        let category = match self.categories.get(memory.category.as_str()) {
            Some(category) => Arc::clone(category),
            None => {
                let category: Arc<str> = memory.category.as_str().into();
                self.categories.insert(Arc::clone(&category));
                category
            }
        };
        let worth = self.reckoning.worth(memory);
        self.rows.push(Row { seq, category, worth, pinned: memory.pinned });
    }

    /// Ends the survey.
    pub(crate) fn end(self, quotas: &Quotas) -> Survey {
        let memories = self.rows.len() as u64;
        Survey { memories, expired: self.expired, plan: plan(self.rows, quotas) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    use super::Surveyor;
    use crate::{memory::Memory, upkeep::prune::Quotas};

    #[test]
    fn what_has_expired_counts_for_no_quota() {
        let mut surveyor = Surveyor::new(UNIX_EPOCH + Duration::from_secs(5), Duration::from_secs(1));
        let memory = |category: &str, expires: Option<u64>| Memory {
            category: category.into(),
            expires: expires.map(|at| UNIX_EPOCH + Duration::from_secs(at)),
            ..Memory::bare()
        };
        for (seq, category, expires) in [(1, "a", None), (2, "a", Some(5)), (4, "a", Some(6)), (9, "b", None)]
        {
            surveyor.see(seq, &memory(category, expires));
        }
        let quotas = Quotas { total: u64::MAX, categories: BTreeMap::from([("a".to_owned(), 1)]) };
        let survey = surveyor.end(&quotas);
        let doomed: Vec<u64> = survey.plan.doomed.iter().map(|doomed| doomed.row.seq).collect();
        assert_eq!((survey.memories, survey.expired, doomed), (3, vec![2], vec![1]));
    }
}
