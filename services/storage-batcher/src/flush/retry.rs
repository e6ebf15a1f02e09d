//! How soon what the sink did not take is sent again, by why it did not.
//!
//! | cause | first pause | longest | halves the concurrency |
//! |---|---|---|---|
//! | away: UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, no answer, and INTERNAL or UNKNOWN for a whole request | `firestore_retry_backoff` | 30 s | yes |
//! | contention: ABORTED | `firestore_retry_backoff` | 5 s | yes |
//! | quota: RESOURCE_EXHAUSTED | 16 times as long | 60 s | yes |
//! | setup: PERMISSION_DENIED, UNAUTHENTICATED, NOT_FOUND, FAILED_PRECONDITION, what is wrong with every write | 16 times as long | 60 s | no |
//! | fault: INTERNAL, UNKNOWN, DATA_LOSS for one write of an answered request | `firestore_retry_backoff` | 30 s | no |
//!
//! A pause doubles with each try and is drawn from its upper half, so that those who failed together do not come back together. All but
//! the last come again for as long as it takes; a write with `firestore_fault_tries` faults is poison, as one with any other code is at once.

use std::time::Duration;

use crate::sink::{Cause, Verdict};

/// How much longer pauses are for causes that do not pass in a moment.
const SLOW: u32 = 16;

/// Returns how long to wait after try number `attempt` failed for `cause`; `roll` is from 0 to 1.
pub(super) fn pause(first: Duration, cause: Cause, attempt: u32, roll: f64) -> Duration {
    let (first, longest) = match cause {
        Cause::Away | Cause::Fault => (first, 30),
        Cause::Contention => (first, 5),
        Cause::Quota | Cause::Setup => (first * SLOW, 60),
    };
    let whole = first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    whole.min(Duration::from_secs(longest)).mul_f64(0.5 + roll.clamp(0.0, 1.0) / 2.0)
}

/// Returns the slowest of the causes for which some of `verdicts` are to be asked for again, with its reason.
pub(super) fn slowest(verdicts: &[Verdict]) -> Option<(Cause, &str)> {
    let put_off = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Retry(cause, reason) => Some((*cause, reason.as_str())),
        _ => None,
    });
    put_off.max_by_key(|(cause, _)| matches!(cause, Cause::Quota | Cause::Setup))
}

/// Counts a fault of one write in `faults`, and refuses it for good when there have been `most`.
pub(super) fn judge(verdict: Verdict, faults: &mut u32, most: u32) -> Verdict {
    let Verdict::Retry(Cause::Fault, reason) = verdict else { return verdict };
    *faults += 1;
    if *faults < most {
        return Verdict::Retry(Cause::Fault, reason);
    }
    Verdict::Refused(format!("{reason} ({faults} times)"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Cause, Verdict, judge, pause, slowest};

    const CAUSES: [(Cause, u64); 5] = [
        (Cause::Away, 30),
        (Cause::Contention, 5),
        (Cause::Quota, 60),
        (Cause::Setup, 60),
        (Cause::Fault, 30),
    ];

    proptest! {
        #[test]
        fn pauses_double_up_to_the_limit_of_their_cause_and_are_in_their_upper_half(
            which in 0..CAUSES.len(),
            attempt in 1_u32..1_000,
            roll in 0.0..1.0_f64,
            first in 1_u64..30_000,
        ) {
            let (cause, longest) = CAUSES[which];
            let first = Duration::from_millis(first);
            let of = |attempt, roll| pause(first, cause, attempt, roll);
            let whole = of(attempt, 1.0);
            prop_assert!(whole <= Duration::from_secs(longest));
            prop_assert!(of(attempt, roll) >= whole / 2 && of(attempt, roll) <= whole);
            let next = of(attempt + 1, 1.0);
            prop_assert!(next == whole * 2 || next == Duration::from_secs(longest) || attempt > 16);
        }
    }

    #[test]
    fn a_quota_and_what_somebody_must_set_right_begin_slowly() {
        let first = |cause| pause(Duration::from_millis(250), cause, 1, 1.0);
        assert_eq!(first(Cause::Contention), Duration::from_millis(250));
        assert_eq!([first(Cause::Quota), first(Cause::Setup)], [Duration::from_secs(4); 2]);
        let verdicts = [
            Verdict::Retry(Cause::Contention, "busy".to_owned()),
            Verdict::Retry(Cause::Quota, "quota".to_owned()),
            Verdict::Accepted,
        ];
        assert_eq!(slowest(&verdicts), Some((Cause::Quota, "quota")));
        assert_eq!(slowest(&verdicts[2..]), None);
    }

    #[test]
    fn only_faults_of_a_write_itself_make_it_poison_and_only_after_some() {
        let fault = || Verdict::Retry(Cause::Fault, "Internal: no".to_owned());
        let mut faults = 0;
        assert_eq!(judge(fault(), &mut faults, 3), fault());
        for cause in [Cause::Away, Cause::Contention, Cause::Quota, Cause::Setup] {
            let put_off = || Verdict::Retry(cause, String::new());
            assert_eq!((judge(put_off(), &mut faults, 1), faults), (put_off(), 1));
        }
        assert_eq!(judge(fault(), &mut faults, 3), fault());
        assert_eq!(judge(fault(), &mut faults, 3), Verdict::Refused("Internal: no (3 times)".to_owned()));
    }
}
