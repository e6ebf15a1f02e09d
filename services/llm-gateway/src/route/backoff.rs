//! How long to wait before an upstream is asked again.

use std::time::Duration;

use crate::provider::Failure;

/// The first wait, before jitter; it doubles with every repetition.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait, before what the upstream asks for.
const LONGEST: Duration = Duration::from_secs(8);

/// Returns how long to wait before an upstream that failed is asked for the `repetitions` + 1st time again; `None` if asking it again
/// would not help. `random` is 0 to 1.
///
/// Between half and all of the step: equal jitter spreads callers without ever asking at once. The upstream's wish is a lower bound.
pub(super) fn wait(repetitions: u32, failure: &Failure, random: f64) -> Option<Duration> {
    let asked = match failure {
        Failure::Unreachable => None,
        Failure::Throttled { retry_after } => *retry_after,
        _ => return None,
    };
    let step = FIRST.saturating_mul(1_u32 << repetitions.min(10)).min(LONGEST);
    let jittered = step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
    Some(asked.map_or(jittered, |asked| asked.max(jittered)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;
    use crate::provider::Failure;

    #[test]
    fn waits_double_and_are_jittered_and_end() {
        let wait =
            |repetitions, random| wait(repetitions, &Failure::Unreachable, random).unwrap().as_millis();
        assert_eq!((wait(0, 0.0), wait(0, 1.0), wait(1, 1.0), wait(30, 1.0)), (125, 250, 500, 8_000));
    }

    #[test]
    fn the_upstreams_wish_is_a_lower_bound() {
        let throttled = Failure::Throttled { retry_after: Some(Duration::from_secs(20)) };
        assert_eq!(wait(0, &throttled, 0.5), Some(Duration::from_secs(20)));
    }

    #[test]
    fn what_will_fail_again_is_not_repeated() {
        for failure in [Failure::Credentials, Failure::Malformed, Failure::Deadline] {
            assert_eq!(wait(0, &failure, 0.5), None);
        }
    }
}
