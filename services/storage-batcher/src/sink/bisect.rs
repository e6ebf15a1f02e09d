//! Finds the writes for which a request is refused as a whole: it is halved until each of them is alone.
//!
//! A request of `n` writes with `p` guilty ones takes at most `1 + 2 · p · ⌈log₂ n⌉` requests, and every other write arrives once.

use std::ops::Range;

use super::{Unreachable, Verdict};

/// A request that is halved while parts of it are refused.
#[derive(Debug)]
pub struct Bisect {
    /// Parts that have to be sent, the first last.
    open: Vec<Range<usize>>,
    verdicts: Vec<Option<Verdict>>,
    /// Why a part was refused, first of all.
    reason: Option<String>,
}

impl Bisect {
    /// Starts with all of `writes` writes.
    #[must_use]
    pub fn new(writes: usize) -> Self {
        Self { open: std::iter::once(0..writes).collect(), verdicts: vec![None; writes], reason: None }
    }

    /// Returns the part to send next; its answer goes to one of the three below.
    pub fn next_part(&mut self) -> Option<Range<usize>> {
        self.open.pop()
    }

    /// Takes in what the sink said to each write of `part`.
    pub fn answered(&mut self, part: Range<usize>, told: Vec<Verdict>) {
        for (verdict, told) in self.verdicts.iter_mut().skip(part.start).zip(told) {
            *verdict = Some(told);
        }
    }

    /// Halves `part`, which was refused as a whole for `reason`; a single write is guilty.
    pub fn refused(&mut self, part: Range<usize>, reason: String) {
        self.reason.get_or_insert_with(|| reason.clone());
        if part.len() < 2 {
            self.answered(part, vec![Verdict::Refused(reason)]);
            return;
        }
        let middle = part.start + part.len() / 2;
        self.open.push(middle..part.end);
        self.open.push(part.start..middle);
    }

    /// Ends, since the sink went away; what was told before stands.
    ///
    /// # Errors
    /// `error` itself if nothing was told before.
    pub fn lost(&mut self, error: Unreachable) -> Result<(), Unreachable> {
        self.open.clear();
        if self.verdicts.iter().all(Option::is_none) {
            return Err(error);
        }
        for verdict in &mut self.verdicts {
            verdict.get_or_insert_with(|| error.verdict());
        }
        Ok(())
    }

    /// Returns the verdicts.
    ///
    /// # Errors
    /// [`Unreachable`] if every one of several writes was refused: many are not all bad at once, what is wrong is what their requests have
    /// in common.
    pub fn end(self) -> Result<Vec<Verdict>, Unreachable> {
        let verdicts: Vec<_> = self.verdicts.into_iter().flatten().collect();
        match self.reason {
            Some(reason) if verdicts.len() > 1 && verdicts.iter().all(Verdict::is_refused) => {
                Err(Unreachable { cause: super::Cause::Setup, ..Unreachable::refused(reason) })
            }
            _ => Ok(verdicts),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Bisect, Unreachable, Verdict};

    /// Runs against a sink that refuses every request with a guilty write; returns the verdicts and the requests.
    fn run(writes: usize, guilty: &BTreeSet<usize>) -> (Result<Vec<Verdict>, Unreachable>, usize) {
        let (mut bisect, mut arrived, mut requests) = (Bisect::new(writes), vec![0; writes], 0);
        while let Some(part) = bisect.next_part() {
            requests += 1;
            if guilty.range(part.clone()).next().is_some() {
                bisect.refused(part, "bad".to_owned());
            } else {
                part.clone().for_each(|write| arrived[write] += 1);
                bisect.answered(part.clone(), vec![Verdict::Accepted; part.len()]);
            }
        }
        for (write, times) in arrived.into_iter().enumerate() {
            assert_eq!(times, usize::from(!guilty.contains(&write)), "write {write}");
        }
        (bisect.end(), requests)
    }

    proptest! {
        #[test]
        fn exactly_the_guilty_are_refused_and_every_other_write_arrives_once(
            writes in 1_usize..600,
            guilty in prop::collection::btree_set(0_usize..600, 0..8),
        ) {
            let guilty: BTreeSet<_> = guilty.into_iter().filter(|write| *write < writes).collect();
            let (end, requests) = run(writes, &guilty);
            let depth = writes.next_power_of_two().ilog2() as usize;
            prop_assert!(requests <= 1 + 2 * guilty.len() * depth, "{requests}");
            if guilty.len() == writes && writes > 1 {
                prop_assert!(end.is_err());
            } else {
                let expected: Vec<_> = (0..writes)
                    .map(|write| match guilty.contains(&write) {
                        true => Verdict::Refused("bad".to_owned()),
                        false => Verdict::Accepted,
                    })
                    .collect();
                prop_assert_eq!(end, Ok(expected));
            }
        }
    }

    #[test]
    fn a_sink_that_goes_away_in_between_keeps_what_it_told() {
        let mut bisect = Bisect::new(4);
        let whole = bisect.next_part().unwrap();
        bisect.refused(whole, "bad".to_owned());
        let left = bisect.next_part().unwrap();
        assert_eq!(left, 0..2);
        bisect.answered(left, vec![Verdict::Accepted; 2]);
        let right = bisect.next_part().unwrap();
        assert_eq!(right, 2..4);
        let away = Unreachable::refused("gone");
        bisect.lost(away.clone()).unwrap();
        assert_eq!(bisect.next_part(), None);
        assert_eq!(
            bisect.end().unwrap(),
            [Verdict::Accepted, Verdict::Accepted, away.verdict(), away.verdict()]
        );
        let mut fresh = Bisect::new(2);
        assert_eq!(fresh.lost(away.clone()), Err(away));
    }
}
