//! `gateway.bands`: what answers about close figures bring on recorded pools, and how often they would have been others.
//!
//! Every pool of every day is asked about as the gateway would: an answer within the tolerance of its figures is served, else a new one is
//! stored. Beside the gateway's own index run the shapes it was chosen over, on the same days ([`shape`]).
//!
//! An answer is *outside* if any value lies farther from what it is about than the tolerance; *wrong* if one made for the day's figures
//! would put the pool in another class: of the pattern templates, of a spike (above 3 times the pool's own mean), or of an
//! outlier among the day's pools (`builtin/statistics`: salience of one half). *Parted* are misses, and *changed*
//! hits by another answer, although the answer that the pool was given last is still close: what edges between bands do.

mod shape;

use std::collections::HashMap;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use self::shape::{Grid, LastSeen, Ours, Shape};
use super::pool_days::{self, Day, Error};
use crate::{
    observation::Observation,
    pattern::{Options, Patterns, Source},
    provider::statistics::Survey,
};

/// The tolerances measured, as shares.
const TOLERANCES: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
/// How old answers may be, in recorded days: from the day before, or as old as `llm_cache_ttl` lets them be in a replay of 5-minute cycles.
const AGES: [(&str, i32); 2] = [("day_over_day", 1), ("within_288_days", 288)];
/// Values that are not compared: none, and all but the two that every row has.
const FIELDS: [(&str, &[&str]); 2] =
    [("all_values", &[]), ("apr_and_tvl", &["apr_base", "apr_reward", "historical_apr"])];
/// The setting and the tolerance that make the benchmark's value.
const SHOWN: (&str, f64) = ("apr_and_tvl_day_over_day", 0.1);

/// An answer: what it is about, and how it rates that.
#[derive(Clone, Debug)]
struct About {
    seen: Observation,
    date: Date,
    class: Class,
}

/// What an answer says about a pool, in three words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    template: Option<String>,
    is_spike: bool,
    is_outlier: bool,
}

/// What was counted over all days.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    items: u32,
    hits: u32,
    parted: u32,
    changed: u32,
    outside: u32,
    wrong: u32,
    wrong_template: u32,
    wrong_spike: u32,
    wrong_outlier: u32,
    farthest: f64,
}

/// One setting, to be tried on all days.
#[derive(Clone, Copy, Debug)]
struct Trial<'a> {
    tolerance: f64,
    ignored: &'a [&'a str],
    most_days: i32,
}

/// Measures all tolerances; the value is the hit rate in percent at ±10 % of APR and TVL, with answers of the day before.
///
/// # Errors
///
/// Fails if the file is not one of recorded pools.
pub fn measure(file: &[u8]) -> Result<(f64, Value), Error> {
    let days = answers(&pool_days::read(file)?)?;
    let mut value = 0.0;
    let mut details = Map::new();
    for (fields, ignored) in FIELDS {
        for (age, most_days) in AGES {
            let setting = format!("{fields}_{age}");
            let mut rows = Map::new();
            for tolerance in TOLERANCES {
                let trial = Trial { tolerance, ignored, most_days };
                let ours = trial.run(&days, &mut Ours::new(&trial));
                if setting == SHOWN.0 && tolerance.total_cmp(&SHOWN.1).is_eq() {
                    value = share(ours.hits, ours.items);
                }
                let grid = |span: f64| trial.run(&days, &mut Grid::new(&trial, span)).told();
                let row = json!({
                    "ours": ours.told(),
                    "grid": grid(1.0 + tolerance),
                    "wide_grid": grid((1.0 + tolerance).powi(2)),
                    "last_seen": trial.run(&days, &mut LastSeen::new(&trial)).told(),
                });
                rows.insert(format!("{tolerance}"), row);
            }
            details.insert(setting, rows.into());
        }
    }
    details.insert("days".into(), days.len().into());
    Ok((value, details.into()))
}

/// Answers about every pool of every day, each made among the pools of its day.
fn answers(days: &[Day]) -> Result<Vec<Vec<About>>, Error> {
    // They look at the days before, so that every day must be shown in order.
    let (clock, telemetry) = (clock::Clock::system(), telemetry::Telemetry::silent("bench"));
    let patterns = Patterns::new(Source::new(None), Options::default(), None, clock, &telemetry)?;
    let tenant = "bench".into();
    let answer = |day: &Day| {
        let survey = Survey::of(&day.pools);
        let about = |seen: &Observation| {
            let answer = patterns.consult(&tenant, seen, true).answer;
            let value = |name| seen.values.get(name).copied();
            let class = Class {
                template: answer.map(|answer| answer.pattern),
                is_spike: value("apr")
                    .zip(value("historical_apr"))
                    .is_some_and(|(apr, mean)| apr > 3.0 * mean),
                is_outlier: survey.salience(seen) >= 0.5,
            };
            About { seen: seen.clone(), date: day.date, class }
        };
        day.pools.iter().map(about).collect()
    };
    Ok(days.iter().map(answer).collect())
}

impl Trial<'_> {
    fn run(&self, days: &[Vec<About>], shape: &mut impl Shape) -> Tally {
        let mut tally = Tally::default();
        let mut given: HashMap<String, About> = HashMap::new();
        for now in days.iter().flatten() {
            tally.items += 1;
            let is_close =
                |then: &&About| self.is_young(now, then) && self.farthest(now, then) <= self.tolerance;
            let last = given.get(&now.seen.id).filter(is_close);
            let answer = if let Some(then) = shape.find(now) {
                tally.hit(self, now, &then);
                tally.changed += u32::from(last.is_some_and(|last| last.date != then.date));
                then
            } else {
                tally.parted += u32::from(last.is_some());
                shape.store(now);
                now.clone()
            };
            given.insert(now.seen.id.clone(), answer);
        }
        tally
    }

    fn is_young(&self, now: &About, then: &About) -> bool {
        pool_days::days_between(then.date, now.date) <= self.most_days
    }

    /// Returns the largest relative distance between compared values; infinite where one is missing or zero. Not the code measured.
    fn farthest(&self, now: &About, then: &About) -> f64 {
        let compared = |about: &About| -> Vec<(String, f64)> {
            let values = about.seen.values.iter().filter(|(name, _)| !self.ignored.contains(&name.as_str()));
            values.map(|(name, value)| (name.clone(), *value)).collect()
        };
        let (now, then) = (compared(now), compared(then));
        if !now.iter().map(|(name, _)| name).eq(then.iter().map(|(name, _)| name)) {
            return f64::INFINITY;
        }
        let distances = now.iter().zip(&then).map(|((_, one), (_, two))| {
            if one.total_cmp(two).is_eq() { 0.0 } else { (one - two).abs() / one.abs().min(two.abs()) }
        });
        distances.fold(0.0, f64::max)
    }
}

impl Tally {
    fn hit(&mut self, trial: &Trial<'_>, now: &About, then: &About) {
        let farthest = trial.farthest(now, then);
        self.hits += 1;
        self.farthest = self.farthest.max(farthest);
        // The measure divides where the code multiplies: the last bit may differ.
        self.outside += u32::from(farthest > trial.tolerance * (1.0 + 1e-12));
        let (now, then) = (&now.class, &then.class);
        self.wrong += u32::from(now != then);
        self.wrong_template += u32::from(now.template != then.template);
        self.wrong_spike += u32::from(now.is_spike != then.is_spike);
        self.wrong_outlier += u32::from(now.is_outlier != then.is_outlier);
    }

    fn told(&self) -> Value {
        json!({
            "hit_percent": share(self.hits, self.items),
            "outside_percent": share(self.outside, self.hits),
            "farthest_percent": 100.0 * self.farthest,
            "parted_percent": share(self.parted, self.items),
            "changed_percent": share(self.changed, self.items),
            "wrong_percent": share(self.wrong, self.hits),
            "wrong_template_percent": share(self.wrong_template, self.hits),
            "wrong_spike_percent": share(self.wrong_spike, self.hits),
            "wrong_outlier_percent": share(self.wrong_outlier, self.hits),
            "hits": self.hits,
            "items": self.items,
        })
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * f64::from(part) / f64::from(whole) }
}

#[cfg(test)]
mod tests {
    use super::measure;

    /// Two pools: one whose APR creeps by 4 % a day, one whose APR jumps tenfold and back.
    fn recording() -> String {
        let mut csv = "timestamp,pool,protocol_slug,chain,symbol,tvl_usd,apy\n".to_owned();
        let mut creeping: f64 = 10.0;
        for day in 1..=20 {
            let jumping = if day % 2 == 0 { 25 } else { 250 };
            csv.push_str(&format!("2025-08-{day:02},creeps,x,Base,A-B,1000,{creeping}\n"));
            csv.push_str(&format!("2025-08-{day:02},jumps,x,Base,A-B,1000,{jumping}\n"));
            creeping *= 1.04;
        }
        csv
    }

    #[test]
    fn ours_serves_nothing_outside_while_last_seen_drifts() {
        let (value, details) = measure(recording().as_bytes()).unwrap();
        let row = &details["apr_and_tvl_day_over_day"]["0.1"];
        assert!((row["ours"]["hit_percent"].as_f64().unwrap() - value).abs() < 1e-12);
        assert_eq!(row["ours"]["outside_percent"], 0.0);
        assert_eq!(
            (&row["ours"]["parted_percent"], &row["ours"]["changed_percent"]),
            (&0.0.into(), &0.0.into())
        );
        assert!(row["last_seen"]["farthest_percent"].as_f64().unwrap() > 100.0, "{row}");
        // Of three days of a creeping pool two are served from the first; yesterday's 250 never is for 25.
        let old = &details["apr_and_tvl_within_288_days"]["0.1"]["ours"];
        assert_eq!((old["hits"].as_u64(), old["items"].as_u64()), (Some(13 + 18), Some(40)), "{old}");
    }
}
