//! The best of the candidates, proven: a scan leaves some in doubt, and full vectors settle them.

use std::{cmp::Ordering, sync::Arc};

use super::{
    pool::{Failed, Pool},
    scan::{Doubt, Ended, Known, Scan},
    source::{Unread, Vectors},
};
use crate::stop::{Stop, Stopped};

/// Full vectors that are read at a time once as many as are wanted have been.
const BATCH: usize = 64;

/// Which of two rows of equal totals comes first.
pub(crate) trait Order {
    /// Compares two rows: less comes first. Two rows are never equal.
    fn compare(&self, left: u32, right: u32) -> Ordering;
}

/// How many rows are wanted, and what that may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Most rows returned.
    pub(crate) limit: usize,
    /// Most full vectors read; at least as many as rows are returned.
    pub(crate) reads: usize,
}

/// The best rows, and how sure that is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Best {
    /// The best first; equal totals in their [`Order`]. As many as were wanted, if there are as many candidates.
    pub(crate) found: Vec<Found>,
    /// Candidates, every one of which was compared.
    pub(crate) compared: u64,
    /// Full vectors that were read.
    pub(crate) read: usize,
    /// What a row that is missing may total at most; nothing if none is missing: the answer is exact.
    pub(crate) missing: Option<f32>,
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) row: u32,
    /// Its score, from its full vector.
    pub(crate) score: f32,
    /// What it is ranked by.
    pub(crate) total: f32,
}

/// Why the best were not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfound {
    /// The deadline was over, or the caller gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The pool did not do it.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Full vectors could not be read.
    #[error(transparent)]
    Unread(#[from] Unread),
}

/// Finds the best of the candidates of `scan`. Blocks: the caller is off the async threads.
///
/// # Errors
/// [`Unfound`].
pub(crate) fn best<K: Known, V: Vectors>(
    scan: &Arc<Scan<K>>,
    wanted: Wanted,
    pool: &Pool,
    vectors: &V,
    order: &impl Order,
    stop: &Arc<Stop>,
) -> Result<Best, Unfound> {
    let (mut doubts, compared) = scan.doubts(pool, wanted.limit, stop)?;
    let reads = wanted.reads.max(wanted.limit);
    let beyond = promising_first(&mut doubts, reads, order);
    let mut best = Best { found: Vec::new(), compared, read: 0, missing: None };
    loop {
        let last = best.found.get(wanted.limit.wrapping_sub(1)).map(|last| last.total);
        // Of equal totals each may be the one that comes first.
        let still = |upper: f32| last.is_none_or(|last| upper >= last);
        let size = if best.read == 0 { wanted.limit } else { BATCH };
        let batch: Vec<_> = doubts[best.read..]
            .iter()
            .take(size)
            .take_while(|doubt| still(doubt.total.upper))
            .map(|doubt| doubt.row)
            .collect();
        if batch.is_empty() {
            best.missing = beyond.filter(|upper| best.read == doubts.len() && still(*upper));
            return Ok(best);
        }
        stop.check()?;
        let seqs: Vec<_> = batch.iter().map(|row| scan.rows.seq(*row)).collect();
        let mut add = |place: usize, vector: &[f32]| {
            let (row, score) = (batch[place], scan.rows.metric().score(&scan.query, vector));
            best.found.push(Found { row, score, total: scan.total(score, scan.known.of(row)) });
        };
        vectors.read(&seqs, &mut add)?;
        best.read += batch.len();
        best.found.sort_unstable_by(|left, right| {
            right.total.total_cmp(&left.total).then_with(|| order.compare(left.row, right.row))
        });
        best.found.truncate(wanted.limit);
    }
}

/// Orders the `most` most promising, cuts off the others, and returns what the most promising of those may reach.
fn promising_first(doubts: &mut Vec<Doubt>, most: usize, order: &impl Order) -> Option<f32> {
    let compare = |left: &Doubt, right: &Doubt| {
        let by_total = right.total.upper.total_cmp(&left.total.upper);
        by_total.then_with(|| order.compare(left.row, right.row))
    };
    let mut beyond = None;
    if doubts.len() > most {
        let (_, first, _) = doubts.select_nth_unstable_by(most, compare);
        beyond = Some(first.total.upper);
        doubts.truncate(most);
    }
    doubts.sort_unstable_by(compare);
    beyond
}

impl From<Ended> for Unfound {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Stopped(stopped) => Self::Stopped(stopped),
            Ended::Failed(failed) => Self::Failed(failed),
        }
    }
}
