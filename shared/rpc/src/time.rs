//! Times and durations on the wire.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use crate::Fault;

/// Latest second a `google.protobuf.Timestamp` may carry: 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;
/// Earliest second it may carry: 0001-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_135_596_800;
/// Longest `google.protobuf.Duration` in seconds, about 10,000 years.
const LONGEST: u64 = 315_576_000_000;

/// Writes a time for the wire; nanoseconds are kept.
#[must_use]
pub fn to_proto(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// What a time on the wire must be, and what a duration must be.
pub(crate) const MUST: &str = "must be a time of the years 1 to 9999 with nanoseconds from 0 to 999999999";
pub(crate) const DURATION_MUST: &str = "must be a duration from 0 to 10000 years";

/// Reads a time from the wire.
///
/// # Errors
/// INVALID_ARGUMENT naming `field` if it is outside of the years 1 to 9999, or its nanoseconds are not 0 to 999,999,999.
pub fn from_proto(time: &Timestamp, field: &str) -> Result<SystemTime, Fault> {
    read(time).ok_or_else(|| Fault::invalid(field, MUST))
}

/// Reads a time; `None` if it is none.
pub(crate) fn read(time: &Timestamp) -> Option<SystemTime> {
    let fine =
        (FIRST_SECOND..=LAST_SECOND).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    fine.then(|| SystemTime::try_from(*time).ok()).flatten()
}

/// Writes a duration for the wire; more than 10,000 years become 10,000 years.
#[must_use]
pub fn duration_to_proto(duration: Duration) -> prost_types::Duration {
    let seconds = duration.as_secs().min(LONGEST);
    // Both fit: seconds are bounded above, a second has 10^9 nanoseconds.
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// Reads a duration from the wire.
///
/// # Errors
/// INVALID_ARGUMENT naming `field` if it is negative, over 10,000 years, or its nanoseconds are not 0 to 999,999,999.
pub fn duration_from_proto(duration: &prost_types::Duration, field: &str) -> Result<Duration, Fault> {
    read_duration(duration).ok_or_else(|| Fault::invalid(field, DURATION_MUST))
}

/// Reads a duration; `None` if it is none.
pub(crate) fn read_duration(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok().filter(|seconds| *seconds <= LONGEST)?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        for time in [UNIX_EPOCH + Duration::new(1_753_000_000, 123_456_789), UNIX_EPOCH - Duration::new(5, 1)]
        {
            assert_eq!(from_proto(&to_proto(time), "at").unwrap(), time);
        }
    }

    #[test]
    fn impossible_times_name_their_field() {
        for (seconds, nanos) in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
            let fault = from_proto(&Timestamp { seconds, nanos }, "filter.from").unwrap_err();
            assert_eq!(fault.violations()[0].field, "filter.from");
        }
    }

    #[test]
    fn durations_are_never_negative() {
        let long = Duration::new(90, 7);
        assert_eq!(duration_from_proto(&duration_to_proto(long), "ttl").unwrap(), long);
        assert!(duration_from_proto(&prost_types::Duration { seconds: -1, nanos: 0 }, "ttl").is_err());
        assert!(duration_from_proto(&prost_types::Duration { seconds: 0, nanos: -1 }, "ttl").is_err());
    }
}
