use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use clock::{Clock, Hand};
use proptest::{collection::vec, option, prelude::*};

use super::{Bands, Difference, Limits, MAX_ENTITY_BYTES, Near, Refusal, Tolerance, Tolerances};
use crate::{
    cache::{Exact, Key, Keys, Room, StoredAnalysis},
    observation::{Analysis, Observation},
    served::Control,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The two tiers as the gateway has them, and an upstream that says what it was asked about.
struct Tiers {
    keys: Keys,
    exact: Exact,
    bands: Bands,
    hand: Hand,
    calls: usize,
}

impl Tiers {
    fn new(most: usize) -> Self {
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let room = Room { max_bytes: 1 << 20, ..Room::fixed(1_000, HOUR) };
        let limits = Limits { entities: 1_000, answers: most, max_bytes: 1 << 20, ttl: HOUR };
        Self {
            keys: Keys::new([3; 32]),
            exact: Exact::new(room, clock.clone(), None),
            bands: Bands::new(limits, clock),
            hand,
            calls: 0,
        }
    }

    fn keys(&self, asked: &Asked) -> (Key, Key) {
        let (tenant, model): (Arc<str>, Arc<str>) = (asked.tenant.into(), asked.model.into());
        (
            self.keys.entity(&tenant, &model, asked.question, &asked.seen),
            self.keys.observation(&tenant, &model, asked.question, &asked.seen),
        )
    }

    fn find(&self, asked: &Asked, tolerances: &Tolerances) -> Result<Near, Refusal> {
        let read = |answer: &Key| self.exact.analysis(answer, Control::default());
        self.bands.find(&self.keys(asked).0, &asked.seen, tolerances, read)
    }

    fn store(&self, asked: &Asked) {
        let (entity, answer) = self.keys(asked);
        let analysis = Analysis { summary: told(&asked.seen), confidence: 0.5, salience: 0.5 };
        self.exact.store_analysis(
            &answer,
            StoredAnalysis { analysis, own_cost_usd: 0.0 },
            Control::default(),
        );
        self.bands.note(&entity, &asked.seen, &answer);
    }

    /// Answers as the gateway does: from a band, or from the upstream, whose answer is stored. Returns the words.
    fn answer(&mut self, asked: &Asked, tolerances: &Tolerances) -> String {
        match self.find(asked, tolerances) {
            Ok(near) => {
                assert_eq!(
                    near.found.entry.analysis.summary,
                    told(&near.anchor),
                    "the anchor is what the words are about"
                );
                near.found.entry.analysis.summary.clone()
            }
            Err(_) => {
                self.calls += 1;
                self.store(asked);
                told(&asked.seen)
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Asked {
    tenant: &'static str,
    model: &'static str,
    question: &'static str,
    seen: Observation,
}

fn told(seen: &Observation) -> String {
    format!("{} {:?}", seen.id, seen.values)
}

fn apr(apr: f64) -> Asked {
    let seen = Observation {
        id: "a".into(),
        kind: "pool".into(),
        subject: "WETH-USDC".into(),
        values: [("apr".to_owned(), apr)].into(),
        labels: [("chain".to_owned(), "Base".to_owned())].into(),
        time: None,
    };
    Asked { tenant: "t", model: "m", question: "q", seen }
}

fn all(relative: f64) -> Tolerances {
    within(Tolerance::new(relative, 0.0).unwrap())
}

fn within(others: Tolerance) -> Tolerances {
    Tolerances { others, ..Tolerances::default() }
}

#[test]
fn close_figures_of_an_entity_are_answered_and_say_what_the_answer_is_about() {
    let tiers = Tiers::new(4);
    tiers.store(&apr(25.0));
    tiers.hand.advance(HOUR / 2);
    let near = tiers.find(&apr(27.0), &all(0.1)).unwrap();
    assert_eq!((near.anchor.values["apr"], near.found.age), (25.0, HOUR / 2));
    let refusal = tiers.find(&apr(31.0), &all(0.1)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "`apr` is 31 and was 25: 24.0 % apart; allowed are 10.00 %, never a change of sign or tenfold"
    );
}

#[test]
fn whatever_else_differs_is_a_miss_that_names_it() {
    let tiers = Tiers::new(4);
    tiers.store(&apr(25.0));
    let refused = |change: fn(&mut Asked)| {
        let mut asked = apr(25.0);
        change(&mut asked);
        tiers.find(&asked, &all(1.0)).unwrap_err()
    };
    let apart = |difference: Difference| Refusal::Apart(difference);
    assert_eq!(refused(|asked| asked.tenant = "u"), Refusal::Unknown);
    assert_eq!(refused(|asked| asked.model = "n"), Refusal::Unknown);
    assert_eq!(refused(|asked| asked.question = "r"), Refusal::Unknown);
    assert_eq!(refused(|asked| asked.seen.kind = "gas".into()), Refusal::Unknown);
    assert_eq!(refused(|asked| asked.seen.id = "b".into()), Refusal::Unknown);
    assert_eq!(refused(|asked| asked.seen.subject = "WETH-USDT".into()), Refusal::Unknown);
    assert_eq!(
        refused(|asked| {
            asked.seen.values.insert("tvl".into(), 1.0);
        }),
        apart(Difference::Added("tvl".into()))
    );
    assert_eq!(refused(|asked| asked.seen.values.clear()), apart(Difference::Missing("apr".into())));
    assert_eq!(
        refused(|asked| {
            asked.seen.labels.insert("chain".into(), "Optimism".into());
        }),
        apart(Difference::Label("chain".into()))
    );
    assert_eq!(refused(|asked| asked.seen.labels.clear()), apart(Difference::Label("chain".into())));
}

#[test]
fn what_is_ignored_may_differ_and_be_missing() {
    let tiers = Tiers::new(4);
    tiers.store(&apr(25.0));
    let mut other = apr(26.0);
    other.seen.values.insert("age".into(), 3.0);
    other.seen.labels.insert("remembered".into(), "it fell".into());
    let ignored = ["age".to_owned(), "remembered".to_owned()].into();
    assert!(tiers.find(&other, &all(0.1)).is_err());
    assert!(tiers.find(&other, &Tolerances { ignored, ..all(0.1) }).is_ok());
}

#[test]
fn a_field_has_a_tolerance_of_its_own_and_one_in_its_unit_where_ratios_mean_nothing() {
    let days =
        Tolerances { fields: [("age".to_owned(), Tolerance::new(0.0, 5.0).unwrap())].into(), ..all(0.1) };
    let tiers = Tiers::new(1);
    let aged = |apr_now: f64, age: f64| {
        let mut asked = apr(apr_now);
        asked.seen.values.insert("age".into(), age);
        asked
    };
    tiers.store(&aged(25.0, 1.0));
    assert!(tiers.find(&aged(26.0, 6.0), &days).is_ok());
    assert!(tiers.find(&aged(26.0, 6.1), &days).is_err());
    assert!(tiers.find(&aged(28.0, 1.0), &days).is_err());
    assert!(tiers.find(&aged(26.0, 0.0), &days).is_ok(), "zero is within 5 days of 1");
    assert!(tiers.find(&aged(26.0, -1.0), &days).is_err(), "a change of sign never is");
}

#[test]
fn zero_is_only_close_to_what_an_absolute_tolerance_reaches() {
    let relative = Tolerance::new(1.0, 0.0).unwrap();
    assert!(relative.admits(0.0, -0.0) && !relative.admits(0.0, f64::MIN_POSITIVE));
    let absolute = Tolerance::new(0.0, 0.01).unwrap();
    assert!(absolute.admits(0.0, 0.01) && absolute.admits(-0.01, 0.0) && !absolute.admits(0.0, 0.011));
    assert!(Tolerance::new(1.0, 0.0).unwrap().admits(f64::MAX, f64::MAX / 2.0));
    assert!(!Tolerance::new(1.0, f64::MAX).unwrap().admits(f64::MAX, f64::MIN));
}

#[test]
fn figures_that_wander_about_an_edge_neither_cause_calls_nor_change_answers() {
    let mut tiers = Tiers::new(4);
    let first = tiers.answer(&apr(100.0), &all(0.1));
    let mut answers = Vec::new();
    for turn in 0..50 {
        let wandering = if turn % 2 == 0 { 110.5 } else { 109.5 };
        answers.push(tiers.answer(&apr(wandering), &all(0.1)));
    }
    assert_eq!(tiers.calls, 2, "one for the figures left, one for the figures reached");
    assert!(answers.iter().all(|answer| *answer == answers[0] && *answer != first));
    assert_eq!(tiers.answer(&apr(99.0), &all(0.1)), first, "back where the newer answer does not reach");
    assert_eq!(tiers.answer(&apr(105.0), &all(0.1)), first, "and the answer that served last stays");
    assert_eq!(tiers.calls, 2);
}

#[test]
fn an_answer_that_was_removed_or_is_too_old_is_not_served() {
    let tiers = Tiers::new(4);
    tiers.store(&apr(25.0));
    assert_eq!(tiers.exact.invalidate("t", ""), 1);
    assert_eq!(tiers.find(&apr(26.0), &all(0.1)).unwrap_err(), Refusal::Gone);
    tiers.store(&apr(25.0));
    assert!(tiers.find(&apr(26.0), &all(0.1)).is_ok());
    tiers.hand.advance(HOUR + Duration::from_secs(1));
    assert_eq!(tiers.find(&apr(26.0), &all(0.1)).unwrap_err(), Refusal::Unknown);
}

#[test]
fn invalidation_stays_within_the_tenant_and_the_model() {
    let tiers = Tiers::new(4);
    tiers.store(&apr(25.0));
    tiers.bands.invalidate("u", "");
    tiers.bands.invalidate("t", "n");
    assert!(tiers.find(&apr(25.0), &all(0.1)).is_ok());
    tiers.bands.invalidate("t", "m");
    assert_eq!(tiers.find(&apr(25.0), &all(0.1)).unwrap_err(), Refusal::Unknown);
}

#[test]
fn an_entity_keeps_few_answers_and_few_bytes() {
    let tiers = Tiers::new(2);
    for value in [1.0, 10.0, 100.0] {
        tiers.store(&apr(value));
    }
    assert!(tiers.find(&apr(1.0), &all(0.1)).is_err());
    assert!(tiers.find(&apr(10.0), &all(0.1)).is_ok() && tiers.find(&apr(100.0), &all(0.1)).is_ok());
    let large = |value: f64, bytes: usize| {
        let mut asked = apr(value);
        asked.seen.labels.insert("remembered".into(), "x".repeat(bytes));
        asked
    };
    let (one, two) = (large(1.0, MAX_ENTITY_BYTES / 4), large(10.0, MAX_ENTITY_BYTES / 4));
    tiers.store(&one);
    tiers.store(&two);
    assert!(tiers.find(&two, &all(0.1)).is_ok() && tiers.find(&one, &all(0.1)).is_err());
    let mut huge = large(1.0, MAX_ENTITY_BYTES);
    huge.seen.id = "huge".into();
    tiers.store(&huge);
    assert_eq!(tiers.find(&huge, &all(0.1)).unwrap_err(), Refusal::Unknown);
}

prop_compose! {
    /// Any tolerance that a caller may ask for, the largest of all among them.
    fn tolerance()(
        relative in prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0],
        absolute in prop_oneof![Just(0.0), Just(f64::MAX), 0.0..1e9],
    ) -> Tolerance {
        Tolerance::new(relative, absolute).unwrap()
    }
}

prop_compose! {
    fn tolerances()(others in tolerance(), apr in option::of(tolerance())) -> Tolerances {
        let fields = apr.map(|apr| ("apr".to_owned(), apr)).into_iter().collect();
        Tolerances { others, fields, ..Tolerances::default() }
    }
}

fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -1e3..1e3, prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL]
}

/// Someone who asks, by one letter for everything that must be equal.
fn who() -> impl Strategy<Value = Asked> {
    let name = || prop::sample::select(vec!["a", "b"]);
    (name(), name(), name(), name(), name(), name()).prop_map(
        |(tenant, model, question, id, kind, subject)| {
            let mut asked = Asked { tenant, model, question, ..apr(25.0) };
            (asked.seen.id, asked.seen.kind, asked.seen.subject) = (id.into(), kind.into(), subject.into());
            asked
        },
    )
}

proptest! {
    #[test]
    fn twenty_five_never_answers_two_hundred_and_fifty(
        tolerances in tolerances(),
        scale in prop_oneof![Just(1.0), 1e-3..1e3, -1e3..-1e-3],
        factor in 10.0..1e6,
        more in vec(0.0..300.0, 0..8),
    ) {
        let (low, high) = (25.0 * scale, 25.0 * scale * factor);
        for (stored, asked) in [(low, high), (high, low), (low, -low), (25.0, 250.0), (250.0, 25.0)] {
            let tiers = Tiers::new(4);
            tiers.store(&apr(stored));
            prop_assert!(tiers.find(&apr(asked), &tolerances).is_err());
            // Nor by way of other answers: what is served is always about figures less than tenfold away.
            more.iter().for_each(|value| tiers.store(&apr(*value)));
            if let Ok(near) = tiers.find(&apr(asked), &tolerances) {
                prop_assert_ne!(near.anchor.values["apr"], stored);
            }
        }
    }

    #[test]
    fn one_pool_or_tenant_never_answers_another(
        stored in vec(who(), 1..6),
        asked in who(),
        tolerances in tolerances(),
    ) {
        let tiers = Tiers::new(4);
        stored.iter().for_each(|one| tiers.store(one));
        let same = |one: &Asked| {
            (one.tenant, one.model, one.question) == (asked.tenant, asked.model, asked.question) && one.seen == asked.seen
        };
        match tiers.find(&asked, &tolerances) {
            Ok(near) => prop_assert!(near.anchor == asked.seen && stored.iter().any(same)),
            Err(refusal) => prop_assert!(refusal == Refusal::Unknown && !stored.iter().any(same)),
        }
    }

    #[test]
    fn what_is_served_is_about_figures_within_the_tolerance(
        relative in 0.0..=1.0,
        stored in vec(figure(), 1..8),
        asked in figure(),
    ) {
        let tiers = Tiers::new(8);
        stored.iter().for_each(|value| tiers.store(&apr(*value)));
        let close = |then: f64| (then - asked).abs() <= relative * then.abs().min(asked.abs());
        match tiers.find(&apr(asked), &all(relative)) {
            Ok(near) => prop_assert!(close(near.anchor.values["apr"])),
            Err(_) => prop_assert!(!stored.iter().any(|then| close(*then) && then * asked >= 0.0)),
        }
    }

    #[test]
    fn a_walk_never_drifts_from_what_the_answer_is_about(
        steps in vec(-0.2..0.2, 1..200),
        relative in 0.01..=1.0,
        most in 1_usize..6,
    ) {
        let mut tiers = Tiers::new(most);
        let tolerances = all(relative);
        let mut value: f64 = 100.0;
        for step in steps {
            value *= f64::exp(step);
            let near = tiers.find(&apr(value), &tolerances);
            if let Ok(near) = &near {
                let anchor = near.anchor.values["apr"];
                prop_assert!((value - anchor).abs() <= relative * anchor.abs().min(value));
                prop_assert_eq!(&near.found.entry.analysis.summary, &told(&near.anchor));
            }
            tiers.answer(&apr(value), &tolerances);
        }
    }

    #[test]
    fn a_tolerance_is_symmetric_and_a_larger_one_admits_no_less(
        one in figure(), two in figure(), tolerance in tolerance(), more in 0.0..=1.0_f64,
    ) {
        prop_assert_eq!(tolerance.admits(one, two), tolerance.admits(two, one));
        prop_assert!(tolerance.admits(one, one));
        let wider = Tolerance::new(tolerance.relative.max(more), tolerance.absolute).unwrap();
        prop_assert!(wider.admits(one, two) || !tolerance.admits(one, two));
        prop_assert!(!(tolerance.admits(one, two) && one * two < 0.0));
    }

    #[test]
    fn no_other_number_is_a_tolerance(number in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), -1e9..-1e-9]) {
        prop_assert_eq!(Tolerance::new(number, 0.0), None);
        prop_assert_eq!(Tolerance::new(0.0, number), None);
        prop_assert_eq!(Tolerance::new(1.0 + number.abs().min(1.0), 0.0), None);
    }
}
