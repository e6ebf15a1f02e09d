//! The watermark: how far event time is known to be complete.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How old a sample may be when it arrives.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// How far after the agent clock's now a sample's time may be.
pub const MAX_AHEAD: Duration = Duration::from_secs(15 * 60);

/// Says when a window is complete: when the agent clock is past its end by the lateness.
///
/// The agent clock is event time, so the watermark is a clock and needs no sample to move: a collection that nobody measures any more is
/// closed all the same. It is that of "bounded out-of-orderness" (Akidau et al., The Dataflow Model, VLDB 2015), with the clock in the
/// place of the newest sample.
#[derive(Clone, Copy, Debug)]
pub struct Watermark {
    now: SystemTime,
    lateness: Duration,
}

/// What a sample's time is to the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Too far ahead of the agent clock: refused.
    Early,
    /// Its window is open, or opens with it.
    InTime,
    /// Its window is closed: it opens again, with all its samples.
    Late,
    /// Its window's samples may be gone: refused.
    Over,
}

impl Watermark {
    /// Returns the watermark at `now` of a rule with this lateness.
    #[must_use]
    pub fn at(now: SystemTime, lateness: Duration) -> Self {
        Self { now, lateness }
    }

    /// Returns whether a window that ends at `end` is complete.
    #[must_use]
    pub fn is_past(&self, end: SystemTime) -> bool {
        reaches(end, self.lateness) <= self.now
    }

    /// Returns what a sample of `time`, whose window ends at `end`, is.
    #[must_use]
    pub fn arrival(&self, time: SystemTime, end: SystemTime) -> Arrival {
        if time > self.now + MAX_AHEAD {
            Arrival::Early
        } else if time < self.now.checked_sub(MAX_AGE).unwrap_or(UNIX_EPOCH) {
            Arrival::Over
        } else if self.is_past(end) {
            Arrival::Late
        } else {
            Arrival::InTime
        }
    }
}

/// Returns when the watermark of a rule with this lateness reaches `end`, on the agent clock.
#[must_use]
pub fn reaches(end: SystemTime, lateness: Duration) -> SystemTime {
    end + lateness
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Arrival, Watermark};

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_sample_is_early_in_time_late_or_over() {
        const DAY: u64 = 86_400;
        let watermark = Watermark::at(at(10 * DAY), Duration::from_secs(60));
        let arrival = |time: u64| watermark.arrival(at(time), at(time - time % 900 + 900));
        assert_eq!(arrival(10 * DAY + 901), Arrival::Early);
        assert_eq!(arrival(10 * DAY + 900), Arrival::InTime);
        // The window that ended just now waits for the lateness.
        assert_eq!(arrival(10 * DAY - 1), Arrival::InTime);
        assert_eq!(arrival(10 * DAY - 901), Arrival::Late);
        assert_eq!(arrival(9 * DAY), Arrival::Late);
        assert_eq!(arrival(9 * DAY - 1), Arrival::Over);
    }

    #[test]
    fn a_window_is_complete_when_its_lateness_is_over() {
        let end = at(900);
        let is_past = |second| Watermark::at(at(second), Duration::from_secs(60)).is_past(end);
        assert_eq!([is_past(959), is_past(960)], [false, true]);
    }
}
