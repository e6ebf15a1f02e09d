//! Recorded pools, day by day, as observations in the shape in which the agent sends them.

use std::collections::{BTreeMap, HashMap};

use csv::StringRecord;
use jiff::civil::Date;

use crate::observation::Observation;

/// Days of a trailing mean, and fewest of them that make one: as the orchestrator has it.
const MEAN_DAYS: i32 = 30;
const FEWEST_DAYS: usize = 7;

/// Why a file is not one of recorded pools.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column is not there.
    #[error("the header names none of the columns {0}")]
    Column(&'static str),
    /// A line cannot be read.
    #[error("a line cannot be read")]
    Line(#[from] csv::Error),
    /// A day is none.
    #[error("{0:?} is no day")]
    Day(String),
    /// The gateway's own templates cannot be read.
    #[error(transparent)]
    Templates(#[from] crate::pattern::Error),
    /// Fewer than two days: nothing could be seen again.
    #[error("the file holds fewer than two days")]
    TooShort,
}

/// A recorded day and its pools.
#[derive(Clone, Debug)]
pub(super) struct Day {
    pub(super) date: Date,
    pub(super) pools: Vec<Observation>,
}

struct Columns {
    day: usize,
    pool: usize,
    symbol: usize,
    labels: Vec<(&'static str, usize)>,
    values: Vec<(&'static str, usize)>,
}

/// Reads days in order; of several rows of a pool on a day the last counts.
pub(super) fn read(file: &[u8]) -> Result<Vec<Day>, Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let columns = Columns::of(reader.headers()?)?;
    let mut days: BTreeMap<Date, BTreeMap<String, Observation>> = BTreeMap::new();
    for row in reader.records() {
        let row = row?;
        let day = row.get(columns.day).unwrap_or_default();
        let date =
            day.get(..10).and_then(|day| day.parse().ok()).ok_or_else(|| Error::Day(day.to_owned()))?;
        let seen = columns.observation(&row, date);
        days.entry(date).or_default().insert(seen.id.clone(), seen);
    }
    if days.len() < 2 {
        return Err(Error::TooShort);
    }
    let mut past: HashMap<String, Vec<(Date, f64)>> = HashMap::new();
    let day = |(date, pools): (Date, BTreeMap<String, Observation>)| {
        let mut pools: Vec<Observation> = pools.into_values().collect();
        pools.iter_mut().for_each(|pool| remember(past.entry(pool.id.clone()).or_default(), date, pool));
        Day { date, pools }
    };
    Ok(days.into_iter().map(day).collect())
}

/// Returns how many days lie between two.
pub(super) fn days_between(one: Date, two: Date) -> i32 {
    one.until((jiff::Unit::Day, two)).map_or(i32::MAX, |span| span.get_days())
}

/// Adds the trailing mean to a pool, without the present day and without readings of 0, and the present day to the past.
#[expect(clippy::cast_precision_loss, reason = "at most thirty")]
fn remember(past: &mut Vec<(Date, f64)>, date: Date, pool: &mut Observation) {
    past.retain(|(day, _)| days_between(*day, date) <= MEAN_DAYS);
    if past.len() >= FEWEST_DAYS {
        let mean = past.iter().map(|(_, apr)| apr).sum::<f64>() / past.len() as f64;
        pool.values.insert("historical_apr".into(), mean);
    }
    if let Some(apr) = pool.values.get("apr").filter(|apr| **apr != 0.0) {
        past.push((date, *apr));
    }
}

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, Error> {
        let find = |names: &[&str]| header.iter().position(|name| names.contains(&name));
        let need = |names: &[&str], told| find(names).ok_or(Error::Column(told));
        let protocol = need(&["protocol_slug", "project"], "protocol_slug, project")?;
        let mut values = vec![("apr", need(&["apy"], "apy")?), ("tvl", need(&["tvl_usd"], "tvl_usd")?)];
        values.extend(find(&["apy_base"]).map(|at| ("apr_base", at)));
        values.extend(find(&["apy_reward"]).map(|at| ("apr_reward", at)));
        Ok(Self {
            day: need(&["timestamp", "dt", "snapshot_day"], "timestamp, dt, snapshot_day")?,
            pool: need(&["pool", "pool_id_defillama"], "pool, pool_id_defillama")?,
            symbol: need(&["symbol"], "symbol")?,
            labels: vec![("chain", need(&["chain"], "chain")?), ("protocol", protocol)],
            values,
        })
    }

    fn observation(&self, row: &StringRecord, date: Date) -> Observation {
        let text = |at: usize| row.get(at).unwrap_or_default();
        let labels: BTreeMap<String, String> =
            self.labels.iter().map(|(name, at)| ((*name).to_owned(), text(*at).to_owned())).collect();
        let value = |(name, at): &(&str, usize)| {
            let value: f64 = text(*at).parse().ok()?;
            value.is_finite().then(|| ((*name).to_owned(), value))
        };
        Observation {
            id: text(self.pool).to_owned(),
            kind: "pool".into(),
            subject: format!(
                "{} ({})",
                text(self.symbol),
                labels.get("protocol").map(String::as_str).unwrap_or_default()
            ),
            values: self.values.iter().filter_map(value).collect(),
            labels,
            time: date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(Into::into),
        }
    }
}
