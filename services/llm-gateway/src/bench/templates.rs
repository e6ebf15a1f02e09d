//! Benchmark `gateway.templates`: how well the confidence of an APR spike is calibrated, on recorded pool days.
//!
//! The templates themselves run, day by day, with weights that know nothing at first. What they learned answers from the next month on, so that
//! every spike is scored by what was known before its month. Outcomes are computed here once more, apart from the templates' own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use clock::Clock;
use csv::StringRecord;
use jiff::civil::{Date, date};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use telemetry::Telemetry;

use crate::{
    observation::Observation,
    pattern::{self, Limits, Options, Patterns, Source},
};

/// The spike of the benchmark: no floors, no prior.
const TEMPLATE: &str = include_str!("templates.toml");
/// The seed's confidence, whatever the evidence.
const FIXED: f64 = 0.9;
/// A month is scored if this many outcomes are known before it begins.
const LEAST_OUTCOMES: usize = 30;
/// Days of the mean, fewest known, and days until the outcome at most.
const WINDOW: i32 = 30;
const LEAST_DAYS: usize = 7;
const OUTCOME_DAYS: i32 = 2;
const FACTOR: f64 = 3.0;
/// Resamples of the interval, and the seed of their draws.
const RESAMPLES: usize = 4_000;
const SEED: u64 = 4;
const EPOCH: Date = date(1970, 1, 1);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column is missing.
    #[error("the header names none of the columns {0}")]
    Column(&'static str),
    /// A line cannot be read.
    #[error("a line cannot be read")]
    Line(#[from] csv::Error),
    /// A day is none.
    #[error("{0:?} is no day")]
    Day(String),
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] pattern::Error),
    /// The template and the definition disagree about what a spike is.
    #[error("the template matched {matched} spikes, the definition {defined}")]
    Disagree {
        /// By the template.
        matched: u64,
        /// By the definition.
        defined: u64,
    },
    /// Too few spikes have an outcome.
    #[error("no month has {LEAST_OUTCOMES} known outcomes before it")]
    TooFew,
}

/// One pool's row of a day.
#[derive(Clone, Debug)]
struct Row {
    pool: String,
    apr: f64,
    tvl: Option<f64>,
}

/// A spike whose outcome is known.
#[derive(Clone, Debug)]
struct Scored {
    pool: usize,
    month: Month,
    confidence: f64,
    over: bool,
}

/// A spike whose outcome is awaited.
#[derive(Clone, Debug)]
struct Awaited {
    day: Date,
    threshold: f64,
    confidence: f64,
}

/// What the definition needs of one pool.
#[derive(Debug, Default)]
struct Known {
    days: VecDeque<(Date, f64)>,
    awaited: Option<Awaited>,
}

type Month = (i16, i8);
type Days = BTreeMap<Date, BTreeMap<String, Row>>;

/// Sums over spikes: of squared errors, of the fixed confidence's, of outcomes that came true, and of spikes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    squares: f64,
    fixed: f64,
    over: f64,
    count: f64,
}

/// Returns the Brier score of the learned confidence ÷ that of the fixed one, and every further quantity by its key.
///
/// # Errors
/// [`Error`] if the file has another shape or too few spikes.
pub fn measure(file: &[u8]) -> Result<(f64, Value), Error> {
    let days = read(file)?;
    let options = Options {
        history: Limits { subjects: 1 << 20, points: 40, bytes: 2 << 30 },
        matches: 1 << 20,
        publish_by_hand: true,
        ..Options::default()
    };
    let telemetry = Telemetry::silent("bench");
    let patterns = Patterns::new(Source::of(TEMPLATE), options, None, Clock::system(), &telemetry)?;
    let tenant: Arc<str> = "bench".into();
    let scored = replay(&patterns, &tenant, &days)?;
    patterns.publish(&tenant);
    let listed = patterns.list(&tenant);
    let weights = listed.first().and_then(|one| one.track.score.as_ref()).map(|score| *score.weights());
    let all = Sums::of(&scored);
    let details = json!({
        "brier": all.squares / all.count,
        "constant_ratio": all.constant() / all.fixed,
        "interval": interval(&scored, Sums::ratio),
        "matches": scored.len(),
        "interval_to_constant": interval(&scored, |sums| (sums.squares - sums.constant()) / sums.fixed),
        "came_true": all.over / all.count,
        "reliability": reliability(&scored),
        "months": months(&scored),
        "weights": weights,
    });
    Ok((all.ratio(), details))
}

/// Runs the templates over the days and returns every spike that is scored.
fn replay(patterns: &Patterns, tenant: &Arc<str>, days: &Days) -> Result<Vec<Scored>, Error> {
    let mut pools: BTreeMap<&str, (usize, Known)> = BTreeMap::new();
    let (mut scored, mut outcomes, mut begun) = (Vec::new(), 0, None);
    let (mut first, mut matched, mut defined) = (None, 0, 0);
    for (day, rows) in days {
        let month = (day.year(), day.month());
        if begun.replace(month) != Some(month) {
            patterns.publish(tenant);
            first = first.or_else(|| (outcomes >= LEAST_OUTCOMES).then_some(*day));
        }
        for row in rows.values() {
            let fresh = (pools.len(), Known::default());
            let (pool, known) = pools.entry(&row.pool).or_insert(fresh);
            if let Some((spike, over)) = known.outcome(*day, row.apr) {
                outcomes += 1;
                if first.is_some_and(|first| spike.day >= first) {
                    let month = (spike.day.year(), spike.day.month());
                    scored.push(Scored { pool: *pool, month, confidence: spike.confidence, over });
                }
            }
            let answer = patterns.consult(tenant, &observation(*day, row), true).answer;
            let threshold = known.threshold(*day).filter(|threshold| row.apr > *threshold);
            matched += u64::from(answer.is_some());
            defined += u64::from(threshold.is_some());
            known.awaited = answer.zip(threshold).map(|(answer, threshold)| Awaited {
                day: *day,
                threshold,
                confidence: answer.confidence,
            });
            known.days.push_back((*day, row.apr));
        }
    }
    match (matched == defined, scored.is_empty()) {
        (false, _) => Err(Error::Disagree { matched, defined }),
        (true, true) => Err(Error::TooFew),
        (true, false) => Ok(scored),
    }
}

impl Known {
    /// Returns the spike of the last recorded day, and whether it is over by now; `None` if there was none, or it is too long ago.
    fn outcome(&mut self, day: Date, apr: f64) -> Option<(Awaited, bool)> {
        let spike = self.awaited.take().filter(|spike| between(spike.day, day) <= OUTCOME_DAYS)?;
        let over = apr <= spike.threshold;
        Some((spike, over))
    }

    /// Returns above what a value of `day` is a spike; `None` if too few days are known.
    fn threshold(&mut self, day: Date) -> Option<f64> {
        self.days.retain(|(past, _)| between(*past, day) <= WINDOW);
        let sum: f64 = self.days.iter().map(|(_, apr)| apr).sum();
        (self.days.len() >= LEAST_DAYS).then(|| FACTOR * sum / self.days.len() as f64)
    }
}

impl Sums {
    fn of<'a>(scored: impl IntoIterator<Item = &'a Scored>) -> Self {
        let mut sums = Self::default();
        for one in scored {
            let over = f64::from(u8::from(one.over));
            sums.squares += (one.confidence - over).powi(2);
            sums.fixed += (FIXED - over).powi(2);
            sums.over += over;
            sums.count += 1.0;
        }
        sums
    }

    /// Returns the sum of squared errors of the best constant, the base rate of these very spikes.
    fn constant(&self) -> f64 {
        self.over * (1.0 - self.over / self.count)
    }

    fn ratio(&self) -> f64 {
        self.squares / self.fixed
    }
}

/// Returns the 95 % interval of a quantity by resampling whole pools: the spikes of one pool are no independent evidence (Efron
/// and Tibshirani, *An Introduction to the Bootstrap*, 1993, percentile interval).
fn interval(scored: &[Scored], quantity: impl Fn(&Sums) -> f64) -> [f64; 2] {
    let mut pools: BTreeMap<usize, Vec<&Scored>> = BTreeMap::new();
    scored.iter().for_each(|one| pools.entry(one.pool).or_default().push(one));
    let pools: Vec<Sums> = pools.into_values().map(Sums::of).collect();
    let mut random = StdRng::seed_from_u64(SEED);
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let draws = (0..pools.len()).map(|_| pools[random.random_range(0..pools.len())]);
            quantity(&draws.fold(Sums::default(), Sums::plus))
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    [drawn[RESAMPLES / 40], drawn[RESAMPLES - 1 - RESAMPLES / 40]]
}

impl Sums {
    fn plus(self, other: Self) -> Self {
        Self {
            squares: self.squares + other.squares,
            fixed: self.fixed + other.fixed,
            over: self.over + other.over,
            count: self.count + other.count,
        }
    }
}

/// Returns, for each tenth of the confidences, how many spikes had one, their mean, and the share that was over.
fn reliability(scored: &[Scored]) -> Vec<Value> {
    let tenth = |one: &Scored| (one.confidence * 10.0).min(9.0) as usize;
    (0..10)
        .filter_map(|place| {
            let within: Vec<&Scored> = scored.iter().filter(|one| tenth(one) == place).collect();
            let stated: f64 = within.iter().map(|one| one.confidence).sum();
            let sums = Sums::of(within);
            (sums.count > 0.0).then(|| {
                json!({
                    "from": place as f64 / 10.0,
                    "count": sums.count,
                    "stated": stated / sums.count,
                    "seen": sums.over / sums.count,
                })
            })
        })
        .collect()
}

fn months(scored: &[Scored]) -> Value {
    let mut months: BTreeMap<Month, Vec<&Scored>> = BTreeMap::new();
    scored.iter().for_each(|one| months.entry(one.month).or_default().push(one));
    let month = |((year, month), scored): (Month, Vec<&Scored>)| {
        let sums = Sums::of(scored);
        let figures = json!({
            "matches": sums.count,
            "ratio": sums.ratio(),
            "constant_ratio": sums.constant() / sums.fixed,
        });
        (format!("{year}-{month:02}"), figures)
    };
    months.into_iter().map(month).collect::<serde_json::Map<_, _>>().into()
}

fn observation(day: Date, row: &Row) -> Observation {
    let seconds = u64::try_from(between(EPOCH, day)).unwrap_or(0) * 86_400;
    let values = [("apr", Some(row.apr)), ("tvl", row.tvl)];
    Observation {
        id: row.pool.clone(),
        kind: "pool".into(),
        subject: row.pool.clone(),
        values: values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        time: Some(UNIX_EPOCH + Duration::from_secs(seconds)),
        ..Observation::default()
    }
}

fn between(one: Date, two: Date) -> i32 {
    one.until((jiff::Unit::Day, two)).map_or(i32::MAX, |span| span.get_days())
}

/// Reads the days in order, by the header; of several rows of a pool on a day the last counts.
fn read(file: &[u8]) -> Result<Days, Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers()?.clone();
    let find = |names: &[&str], told| {
        header.iter().position(|name| names.contains(&name)).ok_or(Error::Column(told))
    };
    let day = find(&["timestamp", "dt", "snapshot_day"], "timestamp, dt, snapshot_day")?;
    let pool = find(&["pool_id_defillama", "pool"], "pool_id_defillama, pool")?;
    let (apr, tvl) = (find(&["apy"], "apy")?, find(&["tvl_usd"], "tvl_usd")?);
    let number = |row: &StringRecord, at: usize| {
        row.get(at).and_then(|text| text.parse().ok()).filter(|value: &f64| value.is_finite())
    };
    let mut days = Days::new();
    for row in reader.records() {
        let row = row?;
        let text = row.get(day).unwrap_or_default();
        let date =
            text.get(..10).and_then(|day| day.parse().ok()).ok_or_else(|| Error::Day(text.to_owned()))?;
        // A day without an APR is not a recorded one.
        let (Some(pool), Some(apr)) = (row.get(pool), number(&row, apr)) else { continue };
        let row = Row { pool: pool.to_owned(), apr, tvl: number(&row, tvl) };
        days.entry(date).or_default().insert(row.pool.clone(), row);
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{Error, measure};

    /// Two kinds of pools, with spikes that end at once and spikes that last four days, every twentieth day.
    fn recording(days: i64) -> String {
        let mut text = String::from("timestamp,pool,tvl_usd,apy\n");
        for day in 0..days {
            let date = super::EPOCH.checked_add(jiff::Span::new().days(20_000 + day)).unwrap();
            for pool in 0..40 {
                let since = (day + pool) % 20;
                let is_high = since == 0 || (pool % 2 == 0 && since < 4);
                let apr = if is_high { 900.0 } else { 10.0 };
                writeln!(text, "{date},{pool},1000000,{apr}").unwrap();
            }
        }
        text
    }

    #[test]
    fn what_pools_did_before_is_learned_and_beats_every_constant() {
        let (value, details) = measure(recording(240).as_bytes()).unwrap();
        let figure = |key: &str| details[key].as_f64().unwrap();
        assert!(value < 0.6 * figure("constant_ratio"), "{} {}", value, details);
        let [low, high] = [0, 1].map(|place| details["interval"][place].as_f64().unwrap());
        assert!(low <= value && value <= high);
        assert!(figure("matches") > 100.0 && figure("brier") < 0.2);
    }

    #[test]
    fn a_file_of_another_shape_or_without_spikes_is_refused() {
        assert!(matches!(measure(b"a,b\n1,2\n"), Err(Error::Column(_))));
        assert!(matches!(measure(recording(9).as_bytes()), Err(Error::TooFew)));
        let wrong = b"timestamp,pool,tvl_usd,apy\nyesterday,a,1,1\n";
        assert!(matches!(measure(wrong), Err(Error::Day(_))));
    }
}
