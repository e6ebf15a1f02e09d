//! Whom to ask next: the state of one call on its way through upstreams. It is told the time, and asks nobody itself.
//!
//! 1. The upstreams of a model form the first stage, drawn from by weight; each fallback is a stage of its own, in order. A stage that
//!    is left is not come back to.
//! 2. Another upstream of the stage is asked at once. One that failed is asked again after a wait, at most `retries` times a stage, if its
//!    budget allows.
//! 3. Left out are those whose breaker is open, those that cannot help (a key refused, an answer that was none, a model they do not know),
//!    and those that asked for more time than the caller's deadline or [`LONGEST_WAIT`] leaves. One that throttles is not waited for longer than [`PATIENCE`] where a fallback stands by.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use super::backoff;
use crate::provider::{Failure, UNKNOWN_MODEL};

/// Longest wait for an upstream while a fallback stands by.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest wait for anybody, whatever the caller's deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Who could be asked, by place in the list of the model's choices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) stage: usize,
    pub(super) weight: u32,
}

/// How an upstream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It can be asked.
    Ready,
    /// It asked for time until then; it can be asked where nobody else can.
    Resting(Instant),
    /// It failed too often; nobody asks it.
    Open,
}

/// What a call does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this one.
    Ask(usize),
    /// Look again then.
    Wait(Instant),
    /// There is nobody left.
    GiveUp,
}

/// What a plan asks about the world.
pub(super) trait World {
    /// How the upstream of a candidate stands.
    fn standing(&self, place: usize) -> Standing;
    /// Takes a repetition out of its budget.
    fn may_repeat(&self, place: usize) -> bool;
    /// A number from 0 up to 1.
    fn chance(&self) -> f64;
}

/// One call's way.
#[derive(Debug)]
pub(super) struct Plan {
    ways: Vec<Way>,
    stage: usize,
    retries: u32,
    retries_left: u32,
}

#[derive(Debug)]
struct Way {
    candidate: Candidate,
    asked: u32,
    /// When it may be asked again.
    ready: Option<Instant>,
    is_out: bool,
}

impl Plan {
    pub(super) fn new(candidates: impl IntoIterator<Item = Candidate>, retries: u32) -> Self {
        let way = |candidate| Way { candidate, asked: 0, ready: None, is_out: false };
        Self { ways: candidates.into_iter().map(way).collect(), stage: 0, retries, retries_left: retries }
    }

    /// Returns what to do at `now`.
    pub(super) fn next(&mut self, now: Instant, deadline: Option<Instant>, world: &impl World) -> Step {
        loop {
            match self.here(now, deadline, world) {
                Step::GiveUp if self.has_later(world) => {
                    self.stage += 1;
                    self.retries_left = self.retries;
                }
                step => return step,
            }
        }
    }

    /// Returns whether a candidate that is asked now was never asked before.
    pub(super) fn is_first(&self, place: usize) -> bool {
        self.ways.get(place).is_some_and(|way| way.asked == 1)
    }

    /// Takes why a candidate did not answer.
    pub(super) fn failed(&mut self, place: usize, failure: &Failure, now: Instant, random: f64) {
        if is_the_requests(failure) {
            self.ways.iter_mut().for_each(|way| way.is_out = true);
        }
        let Some(way) = self.ways.get_mut(place) else { return };
        // A wait that no clock shows the end of is none.
        let wait = backoff::wait(way.asked.saturating_sub(1), failure, random);
        match wait.and_then(|wait| now.checked_add(wait)) {
            Some(ready) => way.ready = Some(ready),
            None => way.is_out = true,
        }
    }

    /// Returns whether a later stage has somebody to ask.
    fn has_later(&self, world: &impl World) -> bool {
        let mut later = self.ways.iter().enumerate().filter(|(_, way)| way.candidate.stage > self.stage);
        later.any(|(place, way)| !way.is_out && world.standing(place) != Standing::Open)
    }

    /// Looks at the present stage only.
    fn here(&mut self, now: Instant, deadline: Option<Instant>, world: &impl World) -> Step {
        loop {
            let mut open: Vec<(usize, Instant)> = Vec::new();
            for (place, way) in self.ways.iter().enumerate() {
                if way.candidate.stage == self.stage && !way.is_out {
                    open.extend(self.ready_at(place, way, now, world).map(|ready| (place, ready)));
                }
            }
            let ready: Vec<usize> =
                open.iter().filter(|(_, at)| *at <= now).map(|(place, _)| *place).collect();
            if let Some(place) = self.draw(&ready, world.chance()) {
                if self.take(place, world) {
                    return Step::Ask(place);
                }
                continue;
            }
            let Some(soonest) = open.into_iter().map(|(_, at)| at).min() else { return Step::GiveUp };
            let is_late =
                deadline.is_some_and(|deadline| soonest >= deadline) || soonest > now + LONGEST_WAIT;
            let is_long = soonest > now + PATIENCE && self.has_later(world);
            return if is_late || is_long { Step::GiveUp } else { Step::Wait(soonest) };
        }
    }

    /// Returns when one of this stage could be asked; `None` if not at all.
    fn ready_at(&self, place: usize, way: &Way, now: Instant, world: &impl World) -> Option<Instant> {
        if way.asked > 0 && self.retries_left == 0 {
            return None;
        }
        let own = way.ready.unwrap_or(now);
        match world.standing(place) {
            Standing::Ready => Some(own),
            Standing::Resting(until) if self.has_others(place, world) => Some(own.max(until)),
            Standing::Resting(_) => Some(own),
            Standing::Open => None,
        }
    }

    /// Returns whether somebody else can be asked who did not ask for time.
    fn has_others(&self, place: usize, world: &impl World) -> bool {
        let is_left = |way: &Way| match way.candidate.stage.cmp(&self.stage) {
            Ordering::Less => false,
            Ordering::Equal => way.asked == 0 || self.retries_left > 0,
            Ordering::Greater => true,
        };
        let mut others = self.ways.iter().enumerate().filter(|(other, _)| *other != place);
        others.any(|(other, way)| !way.is_out && is_left(way) && world.standing(other) == Standing::Ready)
    }

    fn draw(&self, ready: &[usize], chance: f64) -> Option<usize> {
        let weight = |place: &usize| f64::from(self.ways.get(*place).map_or(0, |way| way.candidate.weight));
        let mut left = chance * ready.iter().map(weight).sum::<f64>();
        let drawn = ready.iter().find(|place| {
            left -= weight(place);
            left < 0.0
        });
        drawn.or(ready.last()).copied()
    }

    /// Counts that a candidate is asked; returns false if it may not be asked again.
    fn take(&mut self, place: usize, world: &impl World) -> bool {
        let Some(way) = self.ways.get_mut(place) else { return false };
        if way.asked > 0 {
            if !world.may_repeat(place) {
                way.is_out = true;
                return false;
            }
            self.retries_left -= 1;
        }
        way.asked += 1;
        true
    }
}

/// Returns whether a failure would meet the request everywhere, or whoever asks leaves.
fn is_the_requests(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { status, .. } => *status != UNKNOWN_MODEL,
        Failure::Deadline => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    struct Fixed {
        standings: Vec<Standing>,
        budget: Cell<u32>,
        chance: f64,
    }

    impl Fixed {
        fn ready(count: usize) -> Self {
            Self { standings: vec![Standing::Ready; count], budget: Cell::new(100), chance: 0.0 }
        }
    }

    impl World for Fixed {
        fn standing(&self, place: usize) -> Standing {
            self.standings[place]
        }

        fn may_repeat(&self, _: usize) -> bool {
            let left = self.budget.get();
            self.budget.set(left.saturating_sub(1));
            left > 0
        }

        fn chance(&self) -> f64 {
            self.chance
        }
    }

    fn plan(stages: &[usize], retries: u32) -> Plan {
        Plan::new(stages.iter().map(|stage| Candidate { stage: *stage, weight: 1 }), retries)
    }

    /// Lets every attempt fail the same way, passing time as asked; returns who was asked, and how long it took.
    fn run(
        plan: &mut Plan,
        world: &Fixed,
        failure: &Failure,
        within: Option<Duration>,
    ) -> (Vec<usize>, Duration) {
        let begun = Instant::now();
        let (mut now, mut asked) = (begun, Vec::new());
        loop {
            match plan.next(now, within.map(|within| begun + within), world) {
                Step::Ask(place) => {
                    asked.push(place);
                    plan.failed(place, failure, now, 1.0);
                }
                Step::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
                Step::GiveUp => return (asked, now - begun),
            }
        }
    }

    #[test]
    fn one_upstream_is_asked_again_after_waits() {
        let (asked, took) = run(&mut plan(&[0], 2), &Fixed::ready(1), &Failure::Unreachable, None);
        assert_eq!((asked, took.as_millis()), (vec![0, 0, 0], 750));
    }

    #[test]
    fn who_wants_to_be_asked_again_at_no_time_at_all_is_not() {
        let never = Failure::Throttled { retry_after: Some(Duration::MAX) };
        assert_eq!(run(&mut plan(&[0, 1], 2), &Fixed::ready(2), &never, None).0, [0, 1]);
    }

    #[test]
    fn another_of_the_stage_is_asked_at_once_and_a_fallback_last() {
        let (asked, took) = run(&mut plan(&[0, 0, 1], 1), &Fixed::ready(3), &Failure::Unreachable, None);
        assert_eq!((&asked[..], took.as_millis()), (&[0, 1, 0, 2, 2][..], 500));
    }

    #[test]
    fn a_refused_request_is_asked_nowhere_else_and_an_unknown_model_is() {
        let refused = |status| Failure::Refused { status, field: None, too_long: false };
        assert_eq!(run(&mut plan(&[0, 1], 2), &Fixed::ready(2), &refused(400), None).0, [0]);
        assert_eq!(run(&mut plan(&[0, 1], 2), &Fixed::ready(2), &refused(404), None).0, [0, 1]);
        for elsewhere in
            [Failure::Malformed, Failure::Credentials, Failure::Unsupported { field: "x".into() }]
        {
            assert_eq!(run(&mut plan(&[0, 1], 2), &Fixed::ready(2), &elsewhere, None).0, [0, 1]);
        }
    }

    #[test]
    fn an_open_breaker_costs_no_attempt() {
        let mut world = Fixed::ready(2);
        world.standings[0] = Standing::Open;
        assert_eq!(run(&mut plan(&[0, 1], 0), &world, &Failure::Unreachable, None).0, [1]);
        world.standings[1] = Standing::Open;
        assert!(run(&mut plan(&[0, 1], 2), &world, &Failure::Unreachable, None).0.is_empty());
    }

    #[test]
    fn who_asks_for_time_gets_it_unless_a_fallback_stands_by() {
        let throttled = Failure::Throttled { retry_after: Some(Duration::from_secs(5)) };
        let (asked, took) = run(&mut plan(&[0], 1), &Fixed::ready(1), &throttled, None);
        assert_eq!((asked, took.as_secs()), (vec![0, 0], 5));
        let (asked, took) = run(&mut plan(&[0, 1], 0), &Fixed::ready(2), &throttled, None);
        assert_eq!((asked, took.as_secs()), (vec![0, 1], 0));
        let within = Some(Duration::from_secs(4));
        assert_eq!(
            run(&mut plan(&[0], 2), &Fixed::ready(1), &throttled, within).0,
            [0],
            "the deadline is sooner"
        );
    }

    #[test]
    fn one_that_rests_is_asked_only_where_nobody_else_is() {
        let mut world = Fixed::ready(2);
        world.standings[0] = Standing::Resting(Instant::now() + Duration::from_secs(60));
        assert_eq!(run(&mut plan(&[0, 0], 0), &world, &Failure::Malformed, Some(PATIENCE)).0, [1, 0]);
        assert_eq!(run(&mut plan(&[0], 0), &world, &Failure::Malformed, None).0, [0]);
    }

    #[test]
    fn an_empty_budget_ends_repetitions_and_leads_on() {
        let mut world = Fixed::ready(2);
        world.budget = Cell::new(0);
        assert_eq!(run(&mut plan(&[0, 1], 5), &world, &Failure::Unreachable, None).0, [0, 1]);
    }

    #[test]
    fn draws_follow_the_weights() {
        let mut world = Fixed::ready(2);
        let drawn = (0..100).map(|step| {
            world.chance = f64::from(step) / 100.0;
            let candidates = [3, 1].map(|weight| Candidate { stage: 0, weight });
            Plan::new(candidates, 0).next(Instant::now(), None, &world)
        });
        assert_eq!(drawn.filter(|step| *step == Step::Ask(0)).count(), 75);
    }

    proptest! {
        #[test]
        fn attempts_are_bounded_and_stages_are_never_come_back_to(
            mut stages in proptest::collection::vec(0_usize..3, 1..6),
            failures in proptest::collection::vec(0_u8..4, 64),
            retries in 0_u32..4,
            seconds in 1_u64..100,
        ) {
            stages.sort_unstable();
            let world = Fixed::ready(stages.len());
            let mut plan = plan(&stages, retries);
            let begun = Instant::now();
            let (mut now, mut asked, deadline) = (begun, Vec::new(), begun + Duration::from_secs(seconds));
            loop {
                match plan.next(now, Some(deadline), &world) {
                    Step::Ask(place) => {
                        let failure = match failures[asked.len()] {
                            0 => Failure::Unreachable,
                            1 => Failure::Malformed,
                            2 => Failure::Throttled { retry_after: Some(Duration::from_secs(3)) },
                            _ => Failure::Credentials,
                        };
                        asked.push(stages[place]);
                        plan.failed(place, &failure, now, 0.5);
                    }
                    Step::Wait(until) => now = until,
                    Step::GiveUp => break,
                }
            }
            prop_assert!(now < deadline);
            prop_assert!(asked.is_sorted());
            let most = stages.len() + 3 * retries as usize;
            prop_assert!(!asked.is_empty() && asked.len() <= most, "{} of {most}", asked.len());
        }
    }
}
