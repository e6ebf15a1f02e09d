//! Finds the best of many whose scores are known up to an error, by asking for as few exact scores as prove the order.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// A row, and between which values its score lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// The row.
    pub(crate) row: u32,
    /// No more than its score.
    pub(crate) lower: f64,
    /// No less than its score.
    pub(crate) upper: f64,
}

/// The best rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    /// Rows with their exact scores, the best first.
    pub(crate) best: Vec<(u32, f64)>,
    /// Exact scores that were asked for.
    pub(crate) asked: usize,
    /// By how much a row that is left out may be better than the last of `best`; 0 if none is: the order is proven.
    pub(crate) gap: f64,
}

/// A score with the order of numbers, which never are NaN here.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score(f64);

/// Drops the rows of which `limit` others are surely better, and returns the rest, the greatest upper bound first. `bounds` is told what `limit`
/// rows surely reach, and need not work out those of a row that does not.
pub(crate) fn shortlist(
    rows: impl Iterator<Item = u32>,
    limit: usize,
    bounds: impl Fn(u32, f64) -> Option<Bounds>,
) -> Vec<Bounds> {
    let mut lowest: BinaryHeap<Reverse<Score>> = BinaryHeap::with_capacity(limit + 1);
    let mut kept: Vec<Bounds> = Vec::new();
    let mut least = f64::NEG_INFINITY;
    for row in rows {
        let Some(row) = bounds(row, least).filter(|row| row.upper >= least) else { continue };
        kept.push(row);
        lowest.push(Reverse(Score(row.lower)));
        if lowest.len() > limit {
            lowest.pop();
        }
        if let Some(Reverse(Score(lower))) = lowest.peek()
            && lowest.len() >= limit
        {
            least = *lower;
        }
        // What was kept early and has been overtaken since.
        if kept.len() > 4 * limit + 1024 && kept.len().is_power_of_two() {
            kept.retain(|row| row.upper >= least);
        }
    }
    kept.retain(|row| row.upper >= least);
    kept.sort_by(|one, other| other.upper.total_cmp(&one.upper).then(one.row.cmp(&other.row)));
    kept
}

/// Returns the best `limit` of a [`shortlist`]: asks `exact` for scores, the most promising first, until no other row can be among the best, or `most`
/// were asked for. `between` orders rows of equal scores.
///
/// # Errors
/// The first error of `exact`.
pub(crate) fn settle<E>(
    shortlist: &[Bounds],
    limit: usize,
    most: usize,
    mut exact: impl FnMut(u32) -> Result<f64, E>,
    between: impl Fn(u32, u32) -> Ordering,
) -> Result<Settled, E> {
    let mut best: Vec<(u32, f64)> = Vec::new();
    let (mut asked, mut gap) = (0, 0.0);
    for row in shortlist {
        let last = (best.len() >= limit).then(|| best.last().map_or(f64::INFINITY, |(_, score)| *score));
        // As good as the last is not good enough to stop: `between` may prefer it.
        if last.is_some_and(|last| last > row.upper) {
            break;
        }
        if let Some(last) = last
            && asked >= most
        {
            gap = row.upper - last;
            break;
        }
        let score = exact(row.row)?;
        asked += 1;
        let is_before = |(other, better): &(u32, f64)| {
            better.total_cmp(&score).then_with(|| between(row.row, *other)).is_gt()
        };
        let place = best.partition_point(is_before);
        best.insert(place, (row.row, score));
        best.truncate(limit);
    }
    Ok(Settled { best, asked, gap })
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use proptest::{collection::vec, prelude::*};

    use super::{Bounds, settle, shortlist};

    proptest! {
        #[test]
        fn the_best_are_those_of_all_exact_scores(
            rows in vec((0_u8..20, 0_u8..4, 0_u8..4), 0..200),
            limit in 1_usize..12,
        ) {
            let scores: BTreeMap<u32, f64> = rows.iter().zip(0..).map(|(row, at)| (at, f64::from(row.0))).collect();
            let bounds = |row: u32, least: f64| {
                let (score, below, above) = rows[row as usize];
                let (score, below, above) = (f64::from(score), f64::from(below), f64::from(above));
                let bounds = Bounds { row, lower: score - below, upper: score + above };
                Some(bounds).filter(|bounds| row.is_multiple_of(2) || bounds.upper >= least)
            };
            let list = shortlist((0..).take(rows.len()), limit, bounds);
            let exact = |row: u32| Ok::<_, Infallible>(scores[&row]);
            let settled = settle(&list, limit, usize::MAX, exact, |one, other| other.cmp(&one)).unwrap();
            let mut expected: Vec<(u32, f64)> = scores.clone().into_iter().collect();
            expected.sort_by(|one, other| other.1.total_cmp(&one.1).then(other.0.cmp(&one.0)));
            expected.truncate(limit);
            prop_assert_eq!(&settled.best, &expected);
            prop_assert_eq!(settled.gap, 0.0);
            prop_assert!(settled.asked <= list.len());

            // With fewer questions the gap covers whatever was missed.
            let hasty = settle(&list, limit, limit, exact, |one, other| other.cmp(&one)).unwrap();
            prop_assert_eq!(hasty.best.len(), expected.len());
            if let (Some(found), Some(best)) = (hasty.best.last(), expected.first()) {
                let missed = expected.iter().any(|row| !hasty.best.contains(row));
                prop_assert!(!missed || hasty.gap > 0.0 || found.1 == best.1 || hasty.best.iter().map(|row| row.1).eq(expected.iter().map(|row| row.1)));
                for (row, score) in &expected {
                    prop_assert!(hasty.best.iter().any(|found| found.0 == *row) || *score <= found.1 + hasty.gap);
                }
            }
        }
    }

    #[test]
    fn what_is_known_exactly_needs_no_more_than_the_best() {
        let bounds = |row, _| Some(Bounds { row, lower: f64::from(row), upper: f64::from(row) });
        let list = shortlist(0..1000, 10, bounds);
        assert_eq!(list.len(), 10);
        assert_eq!(list[0].row, 999);
    }

    #[test]
    fn a_failed_score_fails_the_whole() {
        let list = [Bounds { row: 0, lower: 0.0, upper: 1.0 }];
        assert_eq!(settle(&list, 1, 9, |_| Err("gone"), |one, other| one.cmp(&other)), Err("gone"));
    }
}
