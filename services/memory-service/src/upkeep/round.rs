//! One round of upkeep, cut into steps small enough that nobody waits for one.

use super::{
    forgettings::Cause,
    prune::{Plan, Reason},
};

/// A step of a round; each is one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Removes what is kept of these forgettings for good.
    Purge(Vec<u64>),
    /// Forgets memories by their numbers; one that was written again since is left alone.
    Forget(Cause, Vec<u64>),
}

/// Returns the steps of a round: what is `due` is purged, what has `expired` goes, then what `plan` says, at most `most` memories
/// or forgettings at a time.
pub(crate) fn steps(due: &[u64], expired: &[u64], plan: &Plan, most: usize) -> Vec<Step> {
    let by = |reason| {
        plan.doomed.iter().filter(move |doomed| doomed.reason == reason).map(|doomed| doomed.row.seq)
    };
    let (quota, total): (Vec<u64>, Vec<u64>) = (by(Reason::Quota).collect(), by(Reason::Total).collect());
    let most = most.max(1);
    let mut steps: Vec<Step> = due.chunks(most).map(|numbers| Step::Purge(numbers.to_vec())).collect();
    for (cause, seqs) in [(Cause::Expired, expired), (Cause::Quota, &quota[..]), (Cause::Prune, &total[..])] {
        steps.extend(seqs.chunks(most).map(|seqs| Step::Forget(cause, seqs.to_vec())));
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Step, steps};
    use crate::upkeep::{
        forgettings::Cause,
        prune::{Doomed, Plan, Reason, Row},
        value::Reckoning,
    };

    fn doomed(seq: u64, reason: Reason) -> Doomed {
        let worth =
            Reckoning { now: UNIX_EPOCH, half_life: Duration::from_secs(1) }.worth_of(UNIX_EPOCH, 0.0, 0.0);
        Doomed { row: Row { seq, category: "c".into(), worth, pinned: false }, reason }
    }

    #[test]
    fn a_round_is_cut_into_small_steps_each_with_its_cause() {
        let doomed = vec![doomed(4, Reason::Quota), doomed(5, Reason::Total), doomed(6, Reason::Total)];
        let steps = steps(&[7, 8, 9], &[1, 2, 3], &Plan { doomed, over: 0 }, 2);
        let forget = |cause, seqs: &[u64]| Step::Forget(cause, seqs.to_vec());
        let expected = [
            Step::Purge(vec![7, 8]),
            Step::Purge(vec![9]),
            forget(Cause::Expired, &[1, 2]),
            forget(Cause::Expired, &[3]),
            forget(Cause::Quota, &[4]),
            forget(Cause::Prune, &[5, 6]),
        ];
        assert_eq!(steps, expected);
    }
}
