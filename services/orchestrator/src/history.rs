//! What the agent knows of the days before: trailing means, first sightings, and whether anything moves at all.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    pool::{Gas, Moment, Pool, days_between},
    quality::{Kind, Warning},
};

/// Days a trailing mean looks back, the present day left out.
pub const WINDOW_DAYS: i64 = 30;
/// Days that must be known before a mean is stated.
pub const LEAST_DAYS: usize = 7;

/// The recorded past of one agent's readings.
#[derive(Clone, Debug, Default)]
pub struct History {
    pools: HashMap<String, Past>,
    gas: HashMap<String, BTreeMap<Date, Mean>>,
    last_day: Option<Date>,
    /// The first day of the present unbroken run of days.
    run_began: Option<Date>,
    last: Option<Last>,
}

/// What is known of one pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// Mean APR of the trailing 30 days in percent, the present day and readings of 0 left out; `None` with fewer than 7 days.
    pub mean_apr: Option<f64>,
    /// Days since the pool was first seen; `None` where the data cannot tell.
    pub age_days: Option<f64>,
}

/// One day's readings, as kept on disk for a live source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Day {
    pools: BTreeMap<String, Mean>,
    gas: BTreeMap<String, Mean>,
}

#[derive(Clone, Debug, Default)]
struct Past {
    days: BTreeMap<Date, Mean>,
    first_seen: Option<Date>,
    /// Whether the pool was already there when the record (or a part of it after a gap) began: its age is then unknown.
    born_unseen: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    count: u32,
}

#[derive(Clone, Debug)]
struct Last {
    values: HashMap<String, (Option<f64>, Option<f64>)>,
    changed: SystemTime,
    day: Date,
}

impl History {
    /// Takes a day's readings into the record.
    pub fn record<'a>(
        &mut self,
        moment: Moment,
        pools: impl IntoIterator<Item = &'a Pool> + Clone,
        gas: Option<&Gas>,
    ) {
        // A moment without pools says nothing of them: a pool seen first on the day after may have come on this one.
        let begins = pools.clone().into_iter().next().is_some() && {
            self.note_values(moment, pools.clone());
            self.open(moment.date)
        };
        for pool in pools {
            let past = self.pools.entry(pool.id.clone()).or_default();
            if past.first_seen.is_none() {
                past.first_seen = Some(moment.date);
                past.born_unseen = begins;
            }
            // A reading of exactly 0 is the source's way of saying nothing: it would drag every mean down.
            if let Some(apr) = pool.apr.filter(|apr| *apr != 0.0) {
                add(&mut past.days, moment.date, apr);
            }
        }
        if let Some(gas) = gas {
            self.record_gas(moment, gas);
        }
    }

    /// Takes a day's gas price into the record; a price of 0 says nothing.
    pub fn record_gas(&mut self, moment: Moment, gas: &Gas) {
        if gas.price > 0.0 {
            add(self.gas.entry(gas.chain.clone()).or_default(), moment.date, gas.price);
        }
    }

    /// Takes a day kept on disk into the record; days must come in their order.
    pub fn restore(&mut self, date: Date, day: Day) {
        let begins = !day.pools.is_empty() && self.open(date);
        for (id, mean) in day.pools {
            let past = self.pools.entry(id).or_default();
            if past.first_seen.is_none() {
                past.first_seen = Some(date);
                past.born_unseen = begins;
            }
            if mean.count > 0 {
                past.days.insert(date, mean);
            }
        }
        for (chain, mean) in day.gas {
            self.gas.entry(chain).or_default().insert(date, mean);
        }
    }

    /// Returns one day's readings, to be kept on disk.
    #[must_use]
    pub fn day(&self, date: Date) -> Day {
        let of = |days: &BTreeMap<Date, Mean>| days.get(&date).copied().unwrap_or_default();
        let seen = |past: &Past| past.days.contains_key(&date) || past.first_seen == Some(date);
        let pools = self.pools.iter().filter(|(_, past)| seen(past));
        Day {
            pools: pools.map(|(id, past)| (id.clone(), of(&past.days))).collect(),
            gas: self.gas.iter().map(|(chain, days)| (chain.clone(), of(days))).collect(),
        }
    }

    /// Returns what is known of a pool on `date`, from the days before it.
    #[must_use]
    pub fn pool(&self, id: &str, date: Date) -> Known {
        let Some(past) = self.pools.get(id) else {
            // Never seen before today: new, unless the record only begins or goes on after a gap.
            let age_days = (!self.begins_unseen(date)).then_some(0.0);
            return Known { mean_apr: None, age_days };
        };
        let age = past.first_seen.filter(|_| !past.born_unseen).map(|first| days_between(first, date) as f64);
        Known { mean_apr: trailing_mean(&past.days, date), age_days: age }
    }

    /// Returns the mean gas price of the trailing 30 days in gwei, the present day left out; `None` with fewer than 7 days.
    #[must_use]
    pub fn gas(&self, chain: &str, date: Date) -> Option<f64> {
        trailing_mean(self.gas.get(chain)?, date)
    }

    /// Says whether the readings are those of an earlier moment: in a replay, if every pool is as on the day before; live,
    /// if nothing has changed for `stale_after`.
    #[must_use]
    pub fn unchanged(&self, moment: Moment, pools: &[Pool], stale_after: Duration) -> Option<Warning> {
        let last = self.last.as_ref()?;
        let same = pools.iter().all(|pool| last.values.get(&pool.id) == Some(&(pool.apr, pool.tvl)));
        let unchanged_for = moment.time.duration_since(last.changed).unwrap_or_default();
        // A snapshot replayed in slices stays on its day: the same slice again is no repeated day.
        let too_soon = if moment.recorded { last.day == moment.date } else { unchanged_for < stale_after };
        if pools.len() < 2 || !same || too_soon {
            return None;
        }
        let message = if moment.recorded {
            "every pool is exactly as on the day before".to_owned()
        } else {
            format!("no pool has changed for {} min", unchanged_for.as_secs() / 60)
        };
        Some(Warning::new(Kind::Stale, "pools", pools.len(), pools.len(), message))
    }

    /// Forgets days that no mean will look at again on `date`. When a pool was first seen is kept.
    pub fn forget_before(&mut self, date: Date) {
        let kept = |day: &Date| days_between(*day, date) <= WINDOW_DAYS;
        self.pools.values_mut().for_each(|past| past.days.retain(|day, _| kept(day)));
        self.gas.values_mut().for_each(|days| days.retain(|day, _| kept(day)));
    }

    /// Takes `date` as a recorded day; returns whether what is first seen on it may be older.
    fn open(&mut self, date: Date) -> bool {
        let begins = self.begins_unseen(date);
        if begins {
            self.run_began = Some(date);
        }
        self.last_day = self.last_day.max(Some(date));
        begins
    }

    /// Whether what is first seen on `date` may be older: the record begins, or the day before was not recorded.
    fn begins_unseen(&self, date: Date) -> bool {
        self.run_began == Some(date) || self.last_day.is_none_or(|last| days_between(last, date) > 1)
    }

    fn note_values<'a>(&mut self, moment: Moment, pools: impl IntoIterator<Item = &'a Pool>) {
        let values: HashMap<_, _> =
            pools.into_iter().map(|pool| (pool.id.clone(), (pool.apr, pool.tvl))).collect();
        match &mut self.last {
            Some(last) if last.values == values => last.day = moment.date,
            last => *last = Some(Last { values, changed: moment.time, day: moment.date }),
        }
    }
}

fn add(days: &mut BTreeMap<Date, Mean>, date: Date, value: f64) {
    let mean = days.entry(date).or_default();
    mean.sum += value;
    mean.count += 1;
}

fn trailing_mean(days: &BTreeMap<Date, Mean>, date: Date) -> Option<f64> {
    let window: Vec<f64> = days
        .range(..date)
        .rev()
        .take_while(|(day, _)| days_between(**day, date) <= WINDOW_DAYS)
        .filter(|(_, mean)| mean.count > 0)
        .map(|(_, mean)| mean.sum / f64::from(mean.count))
        .collect();
    (window.len() >= LEAST_DAYS).then(|| window.iter().sum::<f64>() / window.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(id: &str, apr: f64) -> Pool {
        Pool { id: id.into(), apr: Some(apr), tvl: Some(1e6), ..Pool::default() }
    }

    fn day(day: i8) -> Moment {
        Moment::recorded(Date::constant(2025, 8, day))
    }

    #[test]
    fn a_mean_leaves_out_the_present_day_and_zeros_and_needs_seven_days() {
        let mut history = History::default();
        for (index, apr) in [10.0, 10.0, 0.0, 10.0, 20.0, 20.0, 20.0].into_iter().enumerate() {
            history.record(day(index as i8 + 1), &[pool("a", apr)], None);
        }
        assert_eq!(history.pool("a", day(8).date).mean_apr, None, "six days without the zero");
        history.record(day(8), &[pool("a", 15.0)], None);
        assert_eq!(history.pool("a", day(9).date).mean_apr, Some(15.0));
        history.record(day(9), &[pool("a", 9000.0)], None);
        assert_eq!(history.pool("a", day(9).date).mean_apr, Some(15.0), "the spike is not in its own mean");
    }

    #[test]
    fn days_older_than_thirty_leave_the_mean() {
        let mut history = History::default();
        for index in 1..=8 {
            history.record(day(index), &[pool("a", 1.0)], None);
        }
        assert_eq!(history.pool("a", Date::constant(2025, 8, 31)).mean_apr, Some(1.0));
        assert_eq!(history.pool("a", Date::constant(2025, 9, 1)).mean_apr, Some(1.0), "seven left");
        assert_eq!(history.pool("a", Date::constant(2025, 9, 2)).mean_apr, None);
    }

    #[test]
    fn the_age_of_a_pool_is_known_only_if_its_birth_was_seen() {
        let mut history = History::default();
        assert_eq!(history.pool("a", day(1).date).age_days, None, "nothing recorded yet");
        history.record(day(1), &[pool("a", 1.0)], None);
        assert_eq!(history.pool("late", day(1).date).age_days, None, "still the first day");
        assert_eq!(history.pool("b", day(2).date).age_days, Some(0.0));
        history.record(day(2), &[pool("a", 1.0), pool("b", 1.0)], None);
        assert_eq!(history.pool("b", day(2).date).age_days, Some(0.0));
        assert_eq!(history.pool("b", day(5).date).age_days, Some(3.0));
        assert_eq!(history.pool("a", day(5).date).age_days, None);
        assert_eq!(history.pool("c", day(5).date).age_days, None, "after a gap it may be older");
    }

    #[test]
    fn a_day_with_gas_and_no_pools_is_a_gap_for_pools() {
        let gas = Gas { chain: "Base".into(), price: 1.0 };
        let (mut live, mut restored) = (History::default(), History::default());
        for index in 1..=2 {
            live.record(day(index), &[pool("a", 1.0)][..usize::from(index == 1)], Some(&gas));
            restored.restore(day(index).date, live.day(day(index).date));
        }
        for history in [live, restored] {
            assert_eq!(history.pool("b", day(2).date).age_days, Some(0.0), "the day before was seen");
            assert_eq!(history.pool("b", day(3).date).age_days, None, "it may have come on day 2");
        }
    }

    #[test]
    fn a_day_that_repeats_the_one_before_is_stale() {
        let mut history = History::default();
        let pools = [pool("a", 1.0), pool("b", 2.0)];
        let hour = Duration::from_secs(3600);
        assert_eq!(history.unchanged(day(1), &pools, hour), None);
        history.record(day(1), &pools, None);
        assert_eq!(history.unchanged(day(1), &pools, hour), None, "a slice of the same day");
        assert_eq!(history.unchanged(day(2), &pools, hour).unwrap().kind, Kind::Stale);
        assert_eq!(history.unchanged(day(2), &[pool("a", 1.0), pool("b", 2.1)], hour), None);
    }

    #[test]
    fn a_live_source_is_stale_only_after_a_while() {
        let mut history = History::default();
        let pools = [pool("a", 1.0), pool("b", 2.0)];
        let start = day(1).time;
        let hour = Duration::from_secs(3600);
        history.record(Moment::live(start), &pools, None);
        history.record(Moment::live(start + hour / 2), &pools, None);
        assert_eq!(history.unchanged(Moment::live(start + hour * 59 / 60), &pools, hour), None);
        assert!(history.unchanged(Moment::live(start + hour), &pools, hour).is_some());
    }

    #[test]
    fn a_day_kept_on_disk_gives_the_same_answers() {
        let mut live = History::default();
        let mut restored = History::default();
        for index in 1..=9 {
            let gas = Gas { chain: "Base".into(), price: f64::from(index) };
            let mut pools = vec![pool("a", f64::from(index))];
            pools.extend((index > 3).then(|| pool("b", 0.0)));
            live.record(day(index), &pools, Some(&gas));
            restored.restore(day(index).date, live.day(day(index).date));
        }
        for id in ["a", "b", "c"] {
            assert_eq!(live.pool(id, day(10).date), restored.pool(id, day(10).date), "{id}");
        }
        assert_eq!(live.gas("Base", day(10).date), Some(5.0));
        assert_eq!(restored.gas("Base", day(10).date), Some(5.0));
    }
}
