//! Keeps calls from a server that fails, and lets one try whether it is well again.
//!
//! A state machine that is told the time: a [`Channel`](crate::Channel) has one for each address, and who calls others than gRPC servers may too.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::chance::Chance;

/// When a breaker opens, and for how long.
///
/// It follows linkerd's: a run of failures catches a server that is gone, a low share of successes over a window one that
/// fails in part. A failure is an answer UNAVAILABLE, INTERNAL, UNKNOWN or DATA_LOSS without details, or none at all until
/// the deadline while the server said nothing else either. Whatever else it answers counts as a success, as it lives: what
/// the caller did wrong, what was shed, and failures that say why (a disk that takes no writes must not shut out reads).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it. Default 5.
    pub failures: u32,
    /// Share of successes over `window`, in percent, below which it opens. Default 50.
    pub success_percent: u32,
    /// Calls in `window` without which the share says nothing. Default 20.
    pub least_calls: u32,
    /// Over which calls the share is taken. Default 10 s.
    pub window: Duration,
    /// How long it is open the first time; each opening without a success between doubles it. Default 1 s.
    pub open: Duration,
    /// Longest time it is open. Default 5 s.
    pub longest_open: Duration,
}

/// What a call said about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// It failed.
    Failure,
    /// Nothing: the caller left, or the connection broke.
    Unknown,
}

/// What a call is for its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// One of many.
    Ordinary,
    /// The one that tries whether the server is well again.
    Probe,
}

/// The breaker of one server.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: State,
    in_a_row: u32,
    openings: u32,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls go through.
    Closed,
    /// None does, until then.
    Open { until: Instant },
    /// A probe is on its way; nothing else goes through.
    HalfOpen,
}

impl Breaker {
    /// Makes one that is closed.
    #[must_use]
    pub fn new(options: BreakerOptions, now: Instant) -> Self {
        let window = Window::new(options.window, now);
        Self { options, state: State::Closed, in_a_row: 0, openings: 0, window }
    }

    /// Returns until when no call goes through; `None` if one does.
    #[must_use]
    pub fn blocked(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open { until } => (now < until).then_some(until),
            State::HalfOpen => Some(now + self.options.open),
        }
    }

    /// Lets a call through, or does not. Each pass must be given back with [`Breaker::end`].
    pub fn pass(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            State::Closed => Some(Pass::Ordinary),
            State::Open { until } if until <= now => {
                self.state = State::HalfOpen;
                Some(Pass::Probe)
            }
            State::Open { .. } | State::HalfOpen => None,
        }
    }

    /// Takes the outcome of a call; returns whether the breaker opened by it.
    pub fn end(&mut self, pass: Pass, outcome: Outcome, now: Instant, chance: &Chance) -> bool {
        match (self.state, pass, outcome) {
            (State::HalfOpen, Pass::Probe, Outcome::Success) => {
                (self.state, self.in_a_row, self.openings) = (State::Closed, 0, 0);
                self.window = Window::new(self.options.window, now);
                false
            }
            (State::HalfOpen, Pass::Probe, Outcome::Failure) => self.open(now, chance),
            // It did not find out: the next call is the probe.
            (State::HalfOpen, Pass::Probe, Outcome::Unknown) => {
                self.state = State::Open { until: now };
                false
            }
            (State::Closed, _, Outcome::Success | Outcome::Failure) => {
                let success = outcome == Outcome::Success;
                self.in_a_row = if success { 0 } else { self.in_a_row + 1 };
                self.window.count(success, now);
                !success && self.is_enough() && self.open(now, chance)
            }
            // Calls that began before it opened say nothing new.
            _ => false,
        }
    }

    fn is_enough(&self) -> bool {
        let (successes, calls) = self.window.sums();
        let low = calls >= self.options.least_calls
            && u64::from(successes) * 100 < u64::from(calls) * u64::from(self.options.success_percent);
        low || self.in_a_row >= self.options.failures
    }

    fn open(&mut self, now: Instant, chance: &Chance) -> bool {
        let doubled = self.options.open.saturating_mul(2_u32.saturating_pow(self.openings));
        let time = doubled.min(self.options.longest_open).mul_f64(chance.between(0.8, 1.2));
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open { until: now + time };
        true
    }
}

/// Successes and calls in slices of the time that has just passed.
#[derive(Debug)]
struct Window {
    slice: Duration,
    begun: Instant,
    /// The newest slice is the last one.
    counts: VecDeque<(u32, u32)>,
}

/// Slices of a window.
const SLICES: u32 = 10;

impl Window {
    fn new(length: Duration, now: Instant) -> Self {
        let slice = (length / SLICES).max(Duration::from_millis(1));
        Self { slice, begun: now, counts: VecDeque::from([(0, 0)]) }
    }

    fn count(&mut self, success: bool, now: Instant) {
        self.advance(now);
        if let Some((successes, calls)) = self.counts.back_mut() {
            *successes += u32::from(success);
            *calls += 1;
        }
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.begun);
        if passed >= self.slice * SLICES {
            (self.begun, self.counts) = (now, VecDeque::from([(0, 0)]));
            return;
        }
        while now.saturating_duration_since(self.begun) >= self.slice {
            self.begun += self.slice;
            self.counts.push_back((0, 0));
            if self.counts.len() > SLICES as usize {
                self.counts.pop_front();
            }
        }
    }

    fn sums(&self) -> (u32, u32) {
        self.counts.iter().fold((0, 0), |sums, slice| (sums.0 + slice.0, sums.1 + slice.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        breaker: Breaker,
        now: Instant,
        chance: Chance,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { breaker: Breaker::new(BreakerOptions::default(), now), now, chance: Chance::seeded(7) }
        }

        fn call(&mut self, outcome: Outcome) -> bool {
            let pass = self.breaker.pass(self.now).unwrap();
            self.breaker.end(pass, outcome, self.now, &self.chance)
        }

        fn wait(&mut self, seconds: f64) {
            self.now += Duration::from_secs_f64(seconds);
        }
    }

    #[test]
    fn a_run_of_failures_opens_it() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            assert!(!bench.call(Outcome::Failure));
        }
        assert!(!bench.call(Outcome::Success));
        for _ in 0..4 {
            assert!(!bench.call(Outcome::Failure));
        }
        assert!(bench.call(Outcome::Failure));
        assert_eq!(bench.breaker.pass(bench.now), None);
        assert!(bench.breaker.blocked(bench.now).is_some());
    }

    #[test]
    fn a_low_share_of_successes_opens_it_though_some_calls_succeed() {
        let mut bench = Bench::new();
        // Two of three fail: never five in a row.
        let opened = (0..30)
            .position(|call| bench.call(if call % 3 == 0 { Outcome::Success } else { Outcome::Failure }));
        assert_eq!(opened, Some(19), "with the twentieth call there are enough to judge by");
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let mut bench = Bench::new();
        for call in 0..60 {
            assert!(!bench.call(if call % 3 == 0 { Outcome::Success } else { Outcome::Failure }), "{call}");
            bench.wait(1.0);
        }
    }

    #[test]
    fn one_probe_decides_and_the_wait_doubles_up_to_its_limit() {
        let mut bench = Bench::new();
        while !bench.call(Outcome::Failure) {}
        for expected in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let wait = bench.breaker.blocked(bench.now).unwrap() - bench.now;
            assert!((0.79..=1.21).contains(&(wait.as_secs_f64() / expected)), "{wait:?} for {expected} s");
            bench.wait(wait.as_secs_f64());
            assert_eq!(bench.breaker.pass(bench.now), Some(Pass::Probe));
            assert_eq!(bench.breaker.pass(bench.now), None, "only one");
            assert!(bench.breaker.end(Pass::Probe, Outcome::Failure, bench.now, &bench.chance));
        }
        bench.wait(6.1);
        assert!(!bench.call(Outcome::Success));
        assert_eq!(bench.breaker.pass(bench.now), Some(Pass::Ordinary));
    }

    #[test]
    fn a_probe_without_an_outcome_is_followed_by_another() {
        let mut bench = Bench::new();
        while !bench.call(Outcome::Failure) {}
        bench.wait(2.0);
        assert!(!bench.call(Outcome::Unknown));
        assert_eq!(bench.breaker.pass(bench.now), Some(Pass::Probe));
    }

    #[test]
    fn calls_that_began_before_it_opened_do_not_close_it() {
        let mut bench = Bench::new();
        let early = bench.breaker.pass(bench.now).unwrap();
        while !bench.call(Outcome::Failure) {}
        bench.wait(2.0);
        assert_eq!(bench.breaker.pass(bench.now), Some(Pass::Probe));
        assert!(!bench.breaker.end(early, Outcome::Success, bench.now, &bench.chance));
        assert_eq!(bench.breaker.pass(bench.now), None);
    }
}
