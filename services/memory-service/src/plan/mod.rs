//! Which way a recall goes: a choice made from statistics, before anything is looked at.
//!
//! The planner is pure. It sees [`Statistics`] and [`Costs`] and says of every [`Strategy`] what it would cost or why it
//! cannot be taken; the cheapest is taken. All find the same memories in the same order, so a wrong estimate costs time only.
//! What a recall then took and found corrects costs and estimates ([`Planner::learn`]).

mod choose;
mod costs;
mod feedback;
mod planner;
mod statistics;

pub(crate) use self::{
    choose::{Choice, Plan, Rejected, Unfit, Wish, choose, comparing},
    costs::{Cost, Costs, Work, joined},
    planner::{Planner, Run},
    statistics::{Condition, Kind, Sample, Seen, Statistics},
};

/// A way to answer a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Strategy {
    /// A count says that nothing passes: nothing is looked at.
    Empty,
    /// The rows of the rarest condition are walked, and the others asked row by row.
    Direct,
    /// Six hours after six hours, the newest first.
    Time,
    /// One partition a pool that the query names.
    Pools,
    /// The bitmaps of all conditions are joined, and what is left is scanned.
    Filtered,
    /// Every row is scanned.
    Full,
    /// What holds a word of the query comes first, and its scores are the threshold for the rest.
    Text,
}

impl Strategy {
    /// Every strategy; of two that cost the same the earlier is taken.
    pub(crate) const ALL: [Self; 7] =
        [Self::Empty, Self::Direct, Self::Full, Self::Filtered, Self::Time, Self::Pools, Self::Text];

    /// Returns its name in the contract.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Direct => "direct",
            Self::Time => "time_partitioned",
            Self::Pools => "pool_partitioned",
            Self::Filtered => "filtered_scan",
            Self::Full => "full_scan",
            Self::Text => "text_first",
        }
    }

    /// Returns the strategy of a name in the contract.
    #[must_use]
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy;

    #[test]
    fn every_strategy_is_found_by_its_name() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::of(strategy.as_str()), Some(strategy));
        }
        assert_eq!(Strategy::of("best"), None);
    }
}
