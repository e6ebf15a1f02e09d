//! Which memories go where there are too many.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::value::Worth;

/// How many memories a space may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quotas {
    /// In all.
    pub(crate) total: u64,
    /// Of a category; one that is not named has no quota of its own.
    pub(crate) categories: BTreeMap<String, u64>,
}

/// A live memory as a prune sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Its number.
    pub(crate) seq: u64,
    /// Its category.
    pub(crate) category: Arc<str>,
    /// What it is worth.
    pub(crate) worth: Worth,
    /// Whether it stays, whatever it is worth.
    pub(crate) pinned: bool,
}

/// Why a memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its category has more than its quota.
    Quota,
    /// The space has more than it may.
    Total,
}

/// A memory that goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Doomed {
    /// The memory.
    pub(crate) row: Row,
    /// Why.
    pub(crate) reason: Reason,
}

/// What a prune does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// What goes: first over its category's quota, then over the total; worth least first.
    pub(crate) doomed: Vec<Doomed>,
    /// How many memories stay above a quota because they are pinned: the greatest such number.
    pub(crate) over: u64,
}

/// Plans a prune of `rows`, the live memories of a space: no more goes than has to, and of each category and in all what is worth least.
/// Of two of equal worth and time the one that was written first goes.
pub(crate) fn plan(mut rows: Vec<Row>, quotas: &Quotas) -> Plan {
    rows.sort_by(|one, other| one.worth.cmp(&other.worth).then(one.seq.cmp(&other.seq)));
    let mut plan = Plan::default();
    let mut counts: HashMap<Arc<str>, u64> = HashMap::new();
    for row in &rows {
        *counts.entry(Arc::clone(&row.category)).or_default() += 1;
    }
    let mut left = |row: &Row| {
        let quota = quotas.categories.get(&*row.category)?;
        let count = counts.get_mut(&row.category)?;
        (*count > *quota && !row.pinned).then(|| *count -= 1)
    };
    let (quota, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| left(row).is_some());
    let mut total = rest.len() as u64;
    let mut surplus = |row: &Row| {
        let goes = total > quotas.total && !row.pinned;
        total -= u64::from(goes);
        goes
    };
    let surplus: Vec<_> = rest.into_iter().filter(|row| surplus(row)).collect();
    let over = counts.iter().filter_map(|(category, count)| {
        let gone = surplus.iter().filter(|row| row.category == *category).count() as u64;
        quotas.categories.get(&**category).map(|quota| (count - gone).saturating_sub(*quota))
    });
    plan.over = over.chain([total.saturating_sub(quotas.total)]).max().unwrap_or_default();
    let because = |reason| move |row| Doomed { row, reason };
    plan.doomed = quota.into_iter().map(because(Reason::Quota)).collect();
    plan.doomed.extend(surplus.into_iter().map(because(Reason::Total)));
    plan
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::{collection::vec, prelude::*};

    use super::{Doomed, Quotas, Reason, Row, plan};
    use crate::upkeep::value::Reckoning;

    const DAY: Duration = Duration::from_hours(24);

    fn row(seq: u64, category: &str, day: u32, pinned: bool) -> Row {
        let reckoning = Reckoning { now: UNIX_EPOCH + DAY * 100, half_life: DAY };
        let worth = reckoning.worth_of(UNIX_EPOCH + DAY * day, 0.5, 0.5);
        Row { seq, category: category.into(), worth, pinned }
    }

    fn quotas(total: u64, categories: &[(&str, u64)]) -> Quotas {
        let categories = categories.iter().map(|(name, quota)| ((*name).to_owned(), *quota)).collect();
        Quotas { total, categories }
    }

    fn gone(doomed: &[Doomed]) -> Vec<(u64, Reason)> {
        doomed.iter().map(|doomed| (doomed.row.seq, doomed.reason)).collect()
    }

    #[test]
    fn what_is_worth_least_goes_category_by_category_and_then_in_all() {
        let rows = vec![
            row(1, "a", 90, false),
            row(2, "a", 10, false),
            row(3, "a", 50, false),
            row(4, "b", 1, false),
            row(5, "b", 99, false),
        ];
        let done = plan(rows.clone(), &quotas(3, &[("a", 2)]));
        assert_eq!(gone(&done.doomed), [(2, Reason::Quota), (4, Reason::Total)]);
        assert!(plan(rows, &quotas(5, &[])).doomed.is_empty());
    }

    #[test]
    fn what_is_pinned_stays_and_is_told() {
        let rows = vec![row(1, "a", 1, true), row(2, "a", 2, true), row(3, "b", 3, false)];
        let done = plan(rows, &quotas(1, &[("a", 1)]));
        assert_eq!((gone(&done.doomed), done.over), (vec![(3, Reason::Total)], 1));
    }

    proptest! {
        #[test]
        fn no_more_goes_than_has_to_and_nothing_that_is_pinned(
            given in vec((0_u8..3, 0_u32..50, proptest::bool::weighted(0.2)), 0..60),
            total in 0_u64..40,
            quota in 0_u64..20,
        ) {
            let name = |category: u8| ["a", "b", "c"][usize::from(category)];
            let rows: Vec<Row> = given.iter().enumerate()
                .map(|(seq, (category, day, pinned))| row(seq as u64, name(*category), *day, *pinned))
                .collect();
            let done = plan(rows.clone(), &quotas(total, &[("a", quota)]));
            let dead: BTreeMap<u64, Reason> = gone(&done.doomed).into_iter().collect();
            prop_assert_eq!(dead.len(), done.doomed.len(), "nothing goes twice");
            let live: Vec<&Row> = rows.iter().filter(|row| !dead.contains_key(&row.seq)).collect();
            let of_a = |rows: &[&Row]| rows.iter().filter(|row| &*row.category == "a").count() as u64;
            prop_assert!(done.doomed.iter().all(|doomed| !doomed.row.pinned));
            prop_assert!(done.over == 0 || live.iter().any(|row| row.pinned));
            prop_assert!(live.len() as u64 <= total + done.over);
            prop_assert!(of_a(&live) <= quota + done.over);
            for doomed in &done.doomed {
                let better = |row: &&&Row| {
                    (doomed.reason == Reason::Total || row.category == doomed.row.category) && !row.pinned
                };
                prop_assert!(live.iter().filter(better).all(|row| row.worth >= doomed.row.worth));
            }
            let by_quota = dead.values().filter(|reason| **reason == Reason::Quota).count() as u64;
            let all: Vec<&Row> = rows.iter().collect();
            prop_assert!(by_quota <= of_a(&all).saturating_sub(quota));
            prop_assert!(dead.len() as u64 <= by_quota + (rows.len() as u64 - by_quota).saturating_sub(total));
        }
    }
}
