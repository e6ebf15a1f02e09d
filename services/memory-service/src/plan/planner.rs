//! The planner of a service: what it learned, and what it chose.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Choice, Costs, Statistics, Unfit, Wish, Work, choose, feedback::Feedback};

/// Chooses plans, and learns from what became of them.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    costs: Costs,
    feedback: Feedback,
}

/// What became of a plan.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// What it was chosen from.
    pub(crate) statistics: &'a Statistics,
    /// Rows expected to pass the filter, not corrected.
    pub(crate) uncorrected: f64,
    /// Rows that did.
    pub(crate) candidates: u64,
    /// The work of its steps and what each took.
    pub(crate) took: &'a [(Vec<Work>, Duration)],
}

impl Planner {
    /// Makes a planner that begins with `costs`.
    pub(crate) fn new(costs: Costs) -> Self {
        Self { learned: Mutex::new(Learned { costs, feedback: Feedback::default() }) }
    }

    /// Chooses how to answer a query.
    ///
    /// # Errors
    /// [`Unfit`] if the strategy wished for cannot be taken.
    pub(crate) fn choose(&self, statistics: &Statistics, wish: Wish) -> Result<Choice, Unfit> {
        let kinds = statistics.conditions.iter().map(|condition| condition.kind);
        let (costs, correction) = {
            let learned = self.learned.lock();
            (learned.costs, learned.feedback.factor(kinds))
        };
        choose(statistics, &costs, correction, wish)
    }

    /// Learns from what became of a plan.
    #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
    pub(crate) fn learn(&self, run: &Run<'_>) {
        let mut learned = self.learned.lock();
        run.took.iter().for_each(|(work, duration)| learned.costs.learn(work, *duration));
        let conditions = &run.statistics.conditions;
        let all = (1 << conditions.len().min(15)) - 1;
        if !run.statistics.is_counted(all) {
            let kinds = conditions.iter().map(|condition| condition.kind);
            learned.feedback.learn(kinds, run.uncorrected, run.candidates as f64);
        }
    }

    /// Takes over costs that were measured apart.
    pub(crate) fn adopt(&self, costs: Costs) {
        self.learned.lock().costs = costs;
    }

    /// Returns what work costs as far as is known.
    pub(crate) fn costs(&self) -> Costs {
        self.learned.lock().costs
    }
}
