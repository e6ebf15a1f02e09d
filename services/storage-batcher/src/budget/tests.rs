//! What the budget promises, over arrivals by chance.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{Budget, Limits};

const START: u64 = 1_795_342_500;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn start() -> Duration {
    Duration::from_secs(START)
}

fn per_minute(documents: f64) -> Limits {
    Limits { per_minute: documents, per_day: 0.0 }
}

fn fresh(limits: Limits) -> Budget {
    Budget::new(limits, [], start())
}

#[test]
fn zero_is_no_limit_and_money_is_documents_by_their_price() {
    let budget = fresh(Limits::default());
    assert_eq!((budget.grant(1_000_000, MINUTE, start()), budget.standing(start())), (1_000_000, None));
    assert_eq!(budget.wait_for_all(u64::MAX / 2, start()), Duration::ZERO);
    let limits = Limits::new(20.0, 0.036, 0.18);
    assert!((limits.per_day - 20_000.0).abs() < 1e-6 && limits.per_minute == 20.0);
    assert_eq!(Limits::new(0.0, 1.0, 0.0), Limits::default(), "what costs nothing");
}

#[test]
fn a_minutes_documents_leave_at_once_and_then_in_portions_of_an_interval() {
    let mut budget = fresh(per_minute(20.0));
    assert_eq!(budget.grant(300, MINUTE, start()), 20);
    budget.spend(20, start());
    assert_eq!(budget.wait_for_some(280, MINUTE, start()), Duration::from_nanos(57_857_143_000));
    // Not one by one, as soon as there is room for one.
    assert_eq!(budget.grant(280, MINUTE, start() + MINUTE / 2), 0);
    assert_eq!(budget.grant(5, MINUTE, start() + MINUTE / 2), 5, "all that is due");
    assert_eq!(budget.grant(280, MINUTE, start() + MINUTE), 18);
    // 280 at 18.67 a minute.
    assert_eq!(budget.wait_for_all(280, start()), MINUTE * 15);
}

#[test]
fn what_is_on_its_way_holds_its_place_until_it_is_decided() {
    let mut budget = fresh(per_minute(20.0));
    budget.reserve(20);
    let later = start() + DAY;
    assert_eq!(budget.grant(10, MINUTE, later), 0, "it does not come back before it was sent");
    budget.release(20);
    assert_eq!(budget.grant(10, MINUTE, later), 10);
    budget.spend(15, later);
    assert_eq!(budget.grant(10, MINUTE, later), 0);
}

#[test]
fn what_must_be_sent_again_comes_before_anything_new() {
    let mut budget = fresh(per_minute(15.0));
    budget.spend(10, start());
    budget.claim(9);
    assert_eq!((budget.grant(1, MINUTE, start()), budget.standing(start()).unwrap().available), (0, 0));
    // 14 come back a minute: four for the claim, and one more.
    assert_eq!(budget.wait_at_once(9, start()), Duration::from_micros(17_142_858));
    assert_eq!(budget.wait_for_some(1, MINUTE, start()), Duration::from_micros(21_428_572));
    let later = start() + MINUTE / 3;
    budget.disclaim(9);
    budget.reserve(9);
    assert_eq!(budget.grant(1, MINUTE, later), 0);
    budget.release(9);
    assert_eq!(budget.grant(9, MINUTE, later), 9);
}

#[test]
fn an_overdraft_is_shown_and_paid_before_anything_else_leaves() {
    let mut budget = fresh(per_minute(15.0));
    assert_eq!(budget.spend(10, start()), 0);
    assert_eq!(budget.spend(20, start()), 15);
    let standing = budget.standing(start()).unwrap();
    assert_eq!((standing.available, standing.debt, standing.overdrawn), (0, 15, 15));
    // 14 come back a minute: 15 of debt, then one for the write.
    assert_eq!(budget.wait_at_once(1, start()), Duration::from_micros(68_571_429));
    let later = start() + MINUTE * 2;
    let standing = budget.standing(later).unwrap();
    assert_eq!((standing.available, standing.debt, standing.overdrawn), (13, 0, 15));
}

#[test]
fn a_batch_that_is_larger_than_ever_fits_leaves_when_nothing_is_missing() {
    let mut budget = fresh(per_minute(15.0));
    budget.spend(14, start());
    assert_eq!(budget.wait_at_once(500, start()), MINUTE);
    assert_eq!(budget.wait_at_once(500, start() + MINUTE), Duration::ZERO);
}

#[test]
fn the_smallest_limit_lets_a_document_and_its_ledger_document_through() {
    for limits in [per_minute(1.0), Limits { per_minute: 0.0, per_day: 0.001 }] {
        let budget = fresh(limits);
        assert_eq!(budget.grant(100, MINUTE, start()), 2);
    }
}

#[test]
fn a_restart_gives_no_fresh_budget_and_what_was_overdrawn_is_still_owed() {
    let limits = Limits { per_minute: 15.0, per_day: 2_400.0 };
    let mut budget = fresh(limits);
    budget.spend(40, start());
    let now = start() + Duration::from_secs(30);
    let again = Budget::new(limits, [(START / 60, 40)], now);
    assert_eq!(again.grant(1, MINUTE, now), 0);
    assert_eq!(again.standing(now).unwrap().debt, 25, "as if sent now, in the minute that is not over");
    // A day of minutes, each within the first limit, used up the second.
    let day = (0..1_440).map(|minute| (START / 60 + minute, 2));
    let now = start() + DAY;
    let again = Budget::new(limits, day, now);
    assert_eq!(again.grant(1, MINUTE, now), 0);
    assert!(again.wait_at_once(1, now) > MINUTE);
}

/// What a service would do: sends what the budget grants of what waits, and what is urgent at once; what is on its way takes a while.
#[derive(Clone, Debug)]
struct Arrival {
    after: u64,
    documents: u64,
    urgent: bool,
    flight: u64,
    restart: bool,
}

fn arrivals(step: u64, most: u64) -> impl Strategy<Value = Vec<Arrival>> {
    let arrival = (0..step, 1..most, prop::bool::weighted(0.1), 0..90_u64, prop::bool::weighted(0.1))
        .prop_map(|(after, documents, urgent, flight, restart)| Arrival {
            after,
            documents,
            urgent,
            flight,
            restart,
        });
    prop::collection::vec(arrival, 1..200)
}

/// Returns the documents that asked and those that did not, by when the sink had taken them.
fn simulate(limits: Limits, arrivals: &[Arrival]) -> Vec<(Duration, u64, bool)> {
    let mut now = start();
    let mut budget = fresh(limits);
    let (mut waiting, mut sent) = (0, Vec::new());
    let mut minutes: BTreeMap<u64, u64> = BTreeMap::new();
    let mut flights: Vec<(Duration, u64, bool)> = Vec::new();
    for arrival in arrivals {
        now += Duration::from_secs(arrival.after);
        flights.sort();
        while flights.first().is_some_and(|(end, ..)| *end <= now) {
            let (end, documents, urgent) = flights.remove(0);
            budget.release(documents);
            budget.spend(documents, end);
            *minutes.entry(end.as_secs() / 60).or_default() += documents;
            sent.push((end, documents, urgent));
        }
        if arrival.restart && flights.is_empty() {
            budget = Budget::new(limits, minutes.clone(), now);
        }
        if arrival.urgent {
            budget.reserve(arrival.documents);
            flights.push((now + Duration::from_secs(arrival.flight), arrival.documents, true));
        } else {
            waiting += arrival.documents;
        }
        let granted = budget.grant(waiting, MINUTE, now);
        if granted > 0 {
            waiting -= granted;
            budget.reserve(granted);
            flights.push((now + Duration::from_secs(arrival.flight), granted, false));
        }
    }
    sent
}

/// Returns the most documents that were taken within `window`.
fn most_within(sent: &[(Duration, u64, bool)], window: Duration) -> u64 {
    let within = |from: Duration| sent.iter().filter(move |(at, ..)| *at >= from && *at < from + window);
    sent.iter().map(|(from, ..)| within(*from).map(|(_, documents, _)| documents).sum()).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn no_fifteen_minutes_see_more_than_fifteen_minutes_documents(
        documents in 1..60_u64, arrivals in arrivals(90, 80),
    ) {
        let calm: Vec<_> = arrivals.into_iter().map(|arrival| Arrival { urgent: false, ..arrival }).collect();
        let sent = simulate(per_minute(documents as f64), &calm);
        prop_assert!(most_within(&sent, MINUTE * 15) <= documents * 15);
        prop_assert!(most_within(&sent, MINUTE) < (documents * 2).max(5));
    }

    #[test]
    fn no_day_sees_more_than_its_money(documents in 4..20_000_u64, arrivals in arrivals(20_000, 3_000)) {
        let calm: Vec<_> = arrivals.into_iter().map(|arrival| Arrival { urgent: false, ..arrival }).collect();
        let limits = Limits { per_minute: 0.0, per_day: documents as f64 };
        prop_assert!(most_within(&simulate(limits, &calm), DAY) <= documents);
    }

    /// Urgent documents come on top of nothing: whatever asked before keeps within what the urgent ones left, and only they exceed it.
    #[test]
    fn only_what_is_urgent_exceeds_the_budget(documents in 1..60_u64, arrivals in arrivals(90, 80)) {
        let sent = simulate(per_minute(documents as f64), &arrivals);
        for (from, ..) in &sent {
            let within = sent.iter().filter(|(at, ..)| at >= from && *at < *from + MINUTE * 15);
            let (mut all, mut urgent) = (0, 0);
            for (_, documents, is_urgent) in within {
                all += documents;
                urgent += if *is_urgent { *documents } else { 0 };
            }
            prop_assert!(all <= documents * 15 + urgent);
        }
    }

    /// Nothing is held back for good: what is granted in the long run is what comes back.
    #[test]
    fn what_waits_leaves_at_the_rate_that_comes_back(documents in 1..60_u64, waiting in 1..10_000_u64) {
        let mut budget = fresh(per_minute(documents as f64));
        let (mut now, mut left) = (start(), waiting);
        let told = budget.wait_for_all(waiting, now);
        while left > 0 {
            now += budget.wait_for_some(left, MINUTE, now);
            let granted = budget.grant(left, MINUTE, now);
            prop_assert!(granted > 0, "who waited as told is let through");
            budget.spend(granted, now);
            left -= granted;
        }
        // Portions are whole documents: the last may come an interval after what is told, and not before.
        prop_assert!(now - start() + Duration::from_millis(1) >= told);
        prop_assert!(now - start() <= told + MINUTE * 2, "{:?} {told:?}", now - start());
    }
}
