//! How many batches may be on their way: one more for each round that went well, half after one that did not.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it.

/// A limit that follows what the sink bears.
#[derive(Debug)]
pub(crate) struct Aimd {
    limit: f64,
    most: usize,
    round: u64,
}

impl Aimd {
    /// Starts with the most that there may be.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { limit: most as f64, most, round: 0 }
    }

    /// Returns how many may be on their way, at least one.
    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Returns the round that what starts now belongs to; a halving ends it.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Takes in that the sink took a batch.
    pub(crate) fn took(&mut self) {
        self.limit = (self.limit + 1.0 / self.limit).min(self.most as f64);
    }

    /// Takes in that a batch of `round` was too much: all that started before the last halving count with it.
    pub(crate) fn overloaded(&mut self, round: u64) {
        if round == self.round {
            self.limit = (self.limit / 2.0).max(1.0);
            self.round += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Aimd;

    proptest! {
        #[test]
        fn the_limit_stays_within_one_and_the_most_and_never_grows_by_more_than_one_a_step(
            most in 1_usize..100,
            steps in prop::collection::vec((any::<bool>(), 0_u64..3), 0..200),
        ) {
            let mut aimd = Aimd::new(most);
            prop_assert_eq!(aimd.limit(), most);
            for (took, age) in steps {
                let before = aimd.limit();
                if took {
                    aimd.took();
                    prop_assert!(aimd.limit() >= before && aimd.limit() <= before + 1);
                } else {
                    let round = aimd.round();
                    aimd.overloaded(round.saturating_sub(age));
                    let stale = age > 0 && round > 0;
                    prop_assert_eq!(aimd.limit() == before && aimd.round() == round, stale);
                }
                prop_assert!((1..=most).contains(&aimd.limit()));
            }
        }
    }

    #[test]
    fn many_failures_of_one_round_halve_once_and_a_good_round_adds_one() {
        let mut aimd = Aimd::new(10);
        let round = aimd.round();
        (0..10).for_each(|_| aimd.overloaded(round));
        assert_eq!(aimd.limit(), 5);
        (0..6).for_each(|_| aimd.took());
        assert_eq!(aimd.limit(), 6);
        for _ in 0..10 {
            aimd.overloaded(aimd.round());
        }
        assert_eq!(aimd.limit(), 1, "never none");
    }
}
