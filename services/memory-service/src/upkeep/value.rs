//! What a memory is worth.

use std::time::{Duration, SystemTime};

use crate::{
    memory::Memory,
    recall::fusion::{recency, stated},
};

/// How a memory's worth is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reckoning {
    /// The agent clock's now.
    pub(crate) now: SystemTime,
    /// Time in which a memory loses half of its recency.
    pub(crate) half_life: Duration,
}

/// The worth of a memory: greater is kept longer. Of equal worth the older one goes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Worth {
    /// Recency × importance × confidence, 0 to 1.
    pub(crate) value: f64,
    time: SystemTime,
}

impl Reckoning {
    /// Returns the worth of `memory`: the product of the parts that recall adds up, in which what is not stated counts one half.
    pub(crate) fn worth(self, memory: &Memory) -> Worth {
        self.worth_of(memory.time, memory.importance, memory.confidence)
    }

    /// Returns the worth of a memory that happened at `time`.
    pub(crate) fn worth_of(self, time: SystemTime, importance: f64, confidence: f64) -> Worth {
        let recency = f64::from(recency(time, self.now, self.half_life));
        Worth { value: recency * f64::from(stated(importance)) * f64::from(stated(confidence)), time }
    }
}

impl Eq for Worth {}

impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Worth {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // What is too old to have any recency left is told apart by its time.
        self.value.total_cmp(&other.value).then(self.time.cmp(&other.time))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::Reckoning;

    const DAY: Duration = Duration::from_hours(24);

    fn at(days: u32) -> Reckoning {
        Reckoning { now: UNIX_EPOCH + DAY * days, half_life: DAY * 30 }
    }

    #[test]
    fn older_less_sure_and_less_important_is_worth_less() {
        let worth = |day: u32, importance, confidence| {
            at(100).worth_of(UNIX_EPOCH + DAY * day, importance, confidence)
        };
        assert!(worth(90, 0.0, 0.0) > worth(60, 0.0, 0.0));
        assert!(worth(90, 0.9, 0.0) > worth(90, 0.0, 0.0) && worth(90, 0.0, 0.0) > worth(90, 0.1, 0.0));
        assert!(worth(90, 0.0, 0.9) > worth(90, 0.0, 0.0));
        assert!((worth(70, 0.8, 0.5).value - 0.5 * 0.8 * 0.5).abs() < 1e-6);
        let ancient = Reckoning { half_life: Duration::from_secs(1), ..at(100) };
        let (older, newer) =
            (ancient.worth_of(UNIX_EPOCH, 1.0, 1.0), ancient.worth_of(UNIX_EPOCH + DAY, 0.1, 0.1));
        assert!(older.value == newer.value && older < newer, "nothing is left of either but their times");
    }

    proptest! {
        /// Hence a plan that was shown is the plan that is carried out later.
        #[test]
        fn time_that_passes_changes_no_order(
            one in (0_u32..300, 1_u8..100, 1_u8..100),
            other in (0_u32..300, 1_u8..100, 1_u8..100),
            later in 0_u32..300,
        ) {
            let worth = |now: u32, (day, importance, confidence): (u32, u8, u8)| {
                at(now).worth_of(UNIX_EPOCH + DAY * day, f64::from(importance) / 100.0, f64::from(confidence) / 100.0)
            };
            let (early, late) = (worth(300, one), worth(300 + later, one));
            let (early_other, late_other) = (worth(300, other), worth(300 + later, other));
            prop_assume!((early.value / early_other.value - 1.0).abs() > 1e-5);
            prop_assert_eq!(early.cmp(&early_other), late.cmp(&late_other));
        }
    }
}
