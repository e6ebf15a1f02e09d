//! Shares one deadline out over the stages of a cycle.
//!
//! Each stage has a share of what is left and a floor. A stage that ends early leaves its time to the later ones; a stage that
//! would eat into the floors of the later ones is cut. When not even a stage's own floor is left, it is skipped: storing what is
//! already known is worth more than asking another question.

use std::time::Duration;

use crate::cycle::record::Stage;

/// What each stage may take: its share of the whole, in percent, and its floor in milliseconds.
const SHARES: [(Stage, u32, u64); 6] = [
    (Stage::Observe, 20, 300),
    (Stage::Recall, 15, 100),
    (Stage::Analyse, 45, 300),
    (Stage::Decide, 1, 10),
    (Stage::Store, 12, 200),
    (Stage::Learn, 7, 100),
];

/// The most of a deadline that floors may take; a shorter deadline shrinks them all.
const FLOORS_AT_MOST: u32 = 2;

/// One cycle's deadline and how it is shared out. Times are measured from the cycle's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    deadline: Duration,
}

impl Budget {
    /// Shares out `deadline`.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self { deadline }
    }

    /// Returns the whole deadline.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns how long `stage` may take if it begins at `at`; `None` if too little is left for it.
    #[must_use]
    pub fn allowance(&self, stage: Stage, at: Duration) -> Option<Duration> {
        let left = self.deadline.saturating_sub(at);
        let later: Duration = SHARES.iter().filter(|it| it.0 > stage).map(|it| self.floor(it.2)).sum();
        let own = SHARES.iter().find(|it| it.0 == stage)?;
        let spare = left.saturating_sub(later);
        let floor = self.floor(own.2);
        if spare < floor {
            return None;
        }
        let shares: u32 = SHARES.iter().filter(|it| it.0 >= stage).map(|it| it.1).sum();
        let share = left * own.1 / shares;
        Some(share.max(floor).min(spare))
    }

    fn floor(&self, millis: u64) -> Duration {
        let whole: u64 = SHARES.iter().map(|it| it.2).sum();
        let room = self.deadline / FLOORS_AT_MOST;
        let floor = Duration::from_millis(millis);
        if Duration::from_millis(whole) <= room {
            return floor;
        }
        room.mul_f64(millis as f64 / whole as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fresh_cycle_gives_every_stage_its_share() {
        let budget = Budget::new(SECOND * 30);
        assert_eq!(budget.allowance(Stage::Observe, Duration::ZERO), Some(SECOND * 6));
        assert_eq!(budget.allowance(Stage::Recall, SECOND * 6), Some(Duration::from_millis(4500)));
        let last = budget.allowance(Stage::Learn, SECOND * 28).unwrap();
        assert_eq!(last, SECOND * 2, "the last stage may take all that is left");
    }

    #[test]
    fn time_saved_by_one_stage_goes_to_the_later_ones() {
        let budget = Budget::new(SECOND * 30);
        let early = budget.allowance(Stage::Analyse, SECOND).unwrap();
        let late = budget.allowance(Stage::Analyse, SECOND * 12).unwrap();
        assert!(early > late, "{early:?} {late:?}");
    }

    #[test]
    fn a_late_stage_is_skipped_so_that_storing_is_not() {
        let budget = Budget::new(SECOND * 30);
        let late = Duration::from_millis(29_600);
        assert_eq!(budget.allowance(Stage::Recall, late), None);
        assert!(budget.allowance(Stage::Store, late).is_some());
        assert_eq!(budget.allowance(Stage::Store, SECOND * 31), None);
    }

    proptest! {
        #[test]
        fn stages_in_a_row_never_pass_the_deadline(
            deadline in 1_u64..120_000,
            used in prop::collection::vec(0.0_f64..=1.0, 6),
        ) {
            let budget = Budget::new(Duration::from_millis(deadline));
            let mut at = Duration::ZERO;
            for ((stage, ..), used) in SHARES.into_iter().zip(used) {
                if let Some(allowance) = budget.allowance(stage, at) {
                    at += allowance.mul_f64(used);
                }
            }
            prop_assert!(at <= budget.deadline());
        }

        #[test]
        fn a_stage_that_takes_all_it_may_leaves_room_for_storing(deadline in 100_u64..120_000) {
            let budget = Budget::new(Duration::from_millis(deadline));
            let mut at = Duration::ZERO;
            for (stage, ..) in SHARES {
                let allowance = budget.allowance(stage, at);
                prop_assert!(allowance.is_some(), "{stage:?}");
                at += allowance.unwrap();
            }
        }
    }
}
