//! Replays recorded pools from CSV, day by day or in slices of one snapshot.
//!
//! Columns are found by their names, so every file of one of these shapes works: `timestamp`, `dt` or `snapshot_day`; `pool` or
//! `pool_id_defillama`; `protocol_slug` or `project`; `chain`, `symbol`, `tvl_usd`, `apy`, `apy_base`, `apy_reward`; and, where there is one,
//! `volume_usd_1d`. Yields are in percent, money is in USD.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    time::{Duration, SystemTime},
};

use csv::StringRecord;
use jiff::{Timestamp, civil::Date};

use super::{
    GasSource, Pools, Reading, Sources, csv_gas,
    recording::{Error, broken, day, number},
};
use crate::{
    pool::{Moment, Pool},
    quality::{Kind, Warning},
};

/// How long before the end of its day a row may have been read before it counts as stale.
const STALE_AFTER: Duration = Duration::from_secs(48 * 3600);

/// Recorded pools, and how they are stepped through.
#[derive(Debug)]
pub struct Replay {
    steps: Steps,
    left_out: Vec<Date>,
}

#[derive(Debug)]
enum Steps {
    /// Step k is the k-th day after the days that are only history.
    Days { days: Vec<(Moment, Vec<Pool>)>, history: usize },
    /// Step k is the k-th slice of one snapshot, wrapping around.
    Rows { moment: Moment, pools: Vec<Pool>, size: usize },
}

/// Positions of the columns.
struct Columns {
    day: usize,
    read: Option<usize>,
    pool: usize,
    protocol: usize,
    chain: usize,
    symbol: usize,
    tvl: usize,
    apr: usize,
    apr_base: Option<usize>,
    apr_reward: Option<usize>,
    volume: Option<usize>,
}

/// Makes sources that replay recorded days: the first `history_days` are only history, each later one drives a cycle. Days with
/// fewer than `min_pools` pools are left out ([`Replay::left_out`]); of several rows of a pool on a day the newest is taken. Empty `gas`: cycles do without gas.
///
/// # Errors
///
/// Fails if a file has not the shape described above, or no day would be replayed.
pub fn from_csv(pools: &[u8], gas: &[u8], history_days: usize, min_pools: usize) -> Result<Sources, Error> {
    let replay = Replay::by_days(pools, history_days, min_pools)?;
    Ok(Sources::new(Pools::Replay(replay.into()), recorded_gas(gas)?))
}

/// Makes sources that replay one snapshot in slices of `size` pools, in the order of the file, wrapping around. Of a file with
/// several days each pool's newest row is taken.
///
/// # Errors
///
/// Fails if the file has not the shape described above or holds no pool.
pub fn from_rows(pools: &[u8], gas: &[u8], size: usize) -> Result<Sources, Error> {
    let replay = Replay::by_rows(pools, size)?;
    Ok(Sources::new(Pools::Replay(replay.into()), recorded_gas(gas)?))
}

fn recorded_gas(gas: &[u8]) -> Result<GasSource, Error> {
    if gas.is_empty() {
        return Ok(GasSource::None);
    }
    Ok(GasSource::Replay(csv_gas::Recorded::from_csv(gas)?.into()))
}

impl Replay {
    /// Reads recorded days.
    ///
    /// # Errors
    ///
    /// Fails as [`from_csv`] does.
    pub fn by_days(csv: &[u8], history: usize, min_pools: usize) -> Result<Self, Error> {
        let mut by_day: BTreeMap<Date, Vec<Pool>> = BTreeMap::new();
        let mut places: HashMap<(Date, String), usize> = HashMap::new();
        for row in rows(csv)? {
            let (date, pool) = row?;
            let pools = by_day.entry(date).or_default();
            match places.entry((date, pool.id.clone())) {
                Entry::Vacant(place) => {
                    place.insert(pools.len());
                    pools.push(pool);
                }
                // A pool that was read several times counts once, with its newest row.
                Entry::Occupied(place) => {
                    if let Some(kept) = pools.get_mut(*place.get()).filter(|kept| kept.read <= pool.read) {
                        *kept = pool;
                    }
                }
            }
        }
        let (kept, left_out): (Vec<_>, Vec<_>) =
            by_day.into_iter().partition(|(_, pools)| pools.len() >= min_pools.max(1));
        let left_out = left_out.into_iter().map(|(date, _)| date).collect();
        let days: Vec<_> = kept.into_iter().map(|(date, pools)| (Moment::recorded(date), pools)).collect();
        if days.len() <= history {
            return Err(Error::TooShort { days: days.len(), min_pools, history });
        }
        Ok(Self { steps: Steps::Days { days, history }, left_out })
    }

    /// Reads one snapshot.
    ///
    /// # Errors
    ///
    /// Fails as [`from_rows`] does.
    pub fn by_rows(csv: &[u8], size: usize) -> Result<Self, Error> {
        let mut pools: Vec<(Date, Pool)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in rows(csv)? {
            let (date, pool) = row?;
            match places.get(&pool.id) {
                Some(place) if (pools[*place].0, pools[*place].1.read) <= (date, pool.read) => {
                    pools[*place] = (date, pool);
                }
                Some(_) => {}
                None => {
                    places.insert(pool.id.clone(), pools.len());
                    pools.push((date, pool));
                }
            }
        }
        let Some(newest) = pools.iter().map(|(date, _)| *date).max() else {
            return Err(Error::TooShort { days: 0, min_pools: 1, history: 0 });
        };
        let pools: Vec<Pool> = pools.into_iter().map(|(_, pool)| pool).collect();
        let size = size.clamp(1, pools.len());
        Ok(Self {
            steps: Steps::Rows { moment: Moment::recorded(newest), pools, size },
            left_out: Vec::new(),
        })
    }

    /// Returns the days that were left out because they hold too few pools.
    #[must_use]
    pub fn left_out(&self) -> &[Date] {
        &self.left_out
    }

    /// Returns how many steps there are; `None` if they never end.
    #[must_use]
    pub fn steps(&self) -> Option<u64> {
        match &self.steps {
            Steps::Days { days, history } => Some((days.len() - history) as u64),
            Steps::Rows { .. } => None,
        }
    }

    /// Returns when step `cursor` was recorded; `None` after the end.
    #[must_use]
    pub fn moment(&self, cursor: u64) -> Option<Moment> {
        match &self.steps {
            Steps::Days { days, history } => {
                days.get(usize::try_from(cursor).ok()?.checked_add(*history)?).map(|it| it.0)
            }
            Steps::Rows { moment, .. } => Some(*moment),
        }
    }

    /// Returns the pools of step `cursor`; `None` after the end.
    #[must_use]
    pub fn read(&self, cursor: u64) -> Option<Reading> {
        let moment = self.moment(cursor)?;
        let mut pools: Vec<Pool> = match &self.steps {
            Steps::Days { days, history } => {
                days.get(usize::try_from(cursor).ok()?.checked_add(*history)?)?.1.clone()
            }
            Steps::Rows { pools, size, .. } => {
                let start = (u128::from(cursor) * *size as u128 % pools.len() as u128) as usize;
                pools.iter().cycle().skip(start).take(*size).cloned().collect()
            }
        };
        let warnings = mark_stale(moment, &mut pools).into_iter().collect();
        Some(Reading { pools, warnings })
    }

    /// Returns the days before step `cursor`, oldest first; a snapshot has none.
    pub fn before(&self, cursor: u64) -> impl Iterator<Item = (Moment, &[Pool])> {
        let days: &[(Moment, Vec<Pool>)] = match &self.steps {
            Steps::Days { days, history } => {
                let end = usize::try_from(cursor).unwrap_or(usize::MAX).saturating_add(*history);
                &days[..end.min(days.len())]
            }
            Steps::Rows { .. } => &[],
        };
        days.iter().map(|(moment, pools)| (*moment, pools.as_slice()))
    }
}

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, Error> {
        let find =
            |names: &[&str]| names.iter().find_map(|name| header.iter().position(|it| it.trim() == *name));
        let need = |names: &[&str], all: &'static str| find(names).ok_or(Error::Column(all));
        Ok(Self {
            day: need(&["snapshot_day", "dt", "timestamp"], "snapshot_day, dt, timestamp")?,
            read: find(&["timestamp"]),
            pool: need(&["pool", "pool_id_defillama"], "pool, pool_id_defillama")?,
            protocol: need(&["protocol_slug", "project"], "protocol_slug, project")?,
            chain: need(&["chain"], "chain")?,
            symbol: need(&["symbol"], "symbol")?,
            tvl: need(&["tvl_usd"], "tvl_usd")?,
            apr: need(&["apy"], "apy")?,
            apr_base: find(&["apy_base"]),
            apr_reward: find(&["apy_reward"]),
            volume: find(&["volume_usd_1d"]),
        })
    }

    fn pool(&self, row: &StringRecord) -> Result<(Date, Pool), String> {
        let text = |index: usize| row.get(index).unwrap_or_default().trim();
        let number = |index: Option<usize>| index.and_then(|it| number(text(it)));
        let date = day(text(self.day)).ok_or_else(|| format!("{:?} is no date", text(self.day)))?;
        let id = text(self.pool);
        if id.is_empty() {
            return Err("the pool has no id".to_owned());
        }
        let pool = Pool {
            id: id.to_owned(),
            protocol: text(self.protocol).to_owned(),
            chain: text(self.chain).to_owned(),
            symbol: text(self.symbol).to_owned(),
            tvl: number(Some(self.tvl)),
            apr: number(Some(self.apr)),
            apr_base: number(self.apr_base),
            apr_reward: number(self.apr_reward),
            volume_24h: number(self.volume),
            read: self.read.and_then(|it| text(it).parse::<Timestamp>().ok()).map(SystemTime::from),
            stale: false,
        };
        Ok((date, pool))
    }
}

fn rows(csv: &[u8]) -> Result<impl Iterator<Item = Result<(Date, Pool), Error>>, Error> {
    let mut reader = csv::Reader::from_reader(csv);
    let columns = Columns::find(reader.headers().map_err(|error| broken(&error))?)?;
    Ok(reader.into_records().map(move |row| {
        let row = row.map_err(|error| broken(&error))?;
        let line = row.position().map_or(0, csv::Position::line);
        columns.pool(&row).map_err(|reason| Error::Line { line, reason })
    }))
}

/// Marks the rows that their source read long before their day, and says how many there are.
fn mark_stale(moment: Moment, pools: &mut [Pool]) -> Option<Warning> {
    let end = moment.time + Duration::from_secs(86_400);
    for pool in pools.iter_mut() {
        pool.stale = pool.read.is_some_and(|read| read + STALE_AFTER < end);
    }
    let affected = pools.iter().filter(|pool| pool.stale).count();
    let message =
        format!("{affected} of {} rows were read by their source more than a day before", pools.len());
    (affected > 0).then(|| Warning::new(Kind::Stale, "timestamp", affected, pools.len(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: &str = "timestamp,pool_id_defillama,protocol_slug,chain,symbol,tvl_usd,apy,apy_base,apy_reward\n\
        2025-07-08,p1,aero,Base,WETH-USDC,3709,104.149,22.2228,81.9265\n\
        2025-07-08,p2,aero,Base,A-B,100,0,,\n\
        2025-07-09,p1,aero,Base,WETH-USDC,3800,104,22,82\n\
        2025-07-10,p1,aero,Base,WETH-USDC,3900,nan,22,82\n\
        2025-07-10,p2,aero,Base,A-B,100,1,,\n";

    const SNAPSHOT: &str = "snapshot_day,timestamp,pool,protocol_slug,chain,symbol,tvl_usd,apy,apy_base,apy_reward\n\
        2025-09-26,2025-09-26T15:08:25.772Z,a,x,Base,A,7.17244e+08,0.01052,6e-05,0.01046\n\
        2025-09-26,2025-09-23T08:15:51.065Z,b,x,Base,B,4,2,2,\n\
        2025-09-26,2025-09-26T15:08:25.772Z,c,x,Base,C,4,2,2,\n";

    fn ids(reading: &Reading) -> Vec<&str> {
        reading.pools.iter().map(|pool| pool.id.as_str()).collect()
    }

    #[test]
    fn thin_days_are_left_out_and_history_is_not_replayed() {
        let replay = Replay::by_days(DAYS.as_bytes(), 1, 2).unwrap();
        assert_eq!(replay.left_out(), [Date::constant(2025, 7, 9)]);
        assert_eq!(replay.steps(), Some(1));
        assert_eq!(replay.moment(0).unwrap().date, Date::constant(2025, 7, 10));
        assert!(replay.moment(1).is_none() && replay.read(1).is_none());
        assert_eq!(replay.before(0).count(), 1);
    }

    #[test]
    fn values_are_read_by_the_header_and_a_nan_is_missing() {
        let replay = Replay::by_days(DAYS.as_bytes(), 0, 1).unwrap();
        let first = &replay.read(0).unwrap().pools[0];
        assert_eq!((first.tvl, first.apr, first.apr_reward), (Some(3709.0), Some(104.149), Some(81.9265)));
        assert_eq!(first.name(), "WETH-USDC (aero)");
        assert_eq!(replay.read(2).unwrap().pools[0].apr, None);
    }

    #[test]
    fn a_pool_counts_once_a_day_with_its_newest_row() {
        let csv = "dt,timestamp,pool,project,chain,symbol,tvl_usd,apy\n\
            2025-08-01,2025-08-01T12:00:00Z,a,x,Base,A,1,2.5\n\
            2025-08-01,2025-08-01T20:00:00Z,b,x,Base,B,1,1.0\n\
            2025-08-01,2025-08-01T18:00:00Z,a,x,Base,A,1,3.5\n\
            2025-08-01,2025-08-01T06:00:00Z,a,x,Base,A,1,1.5\n";
        let replay = Replay::by_days(csv.as_bytes(), 0, 1).unwrap();
        let pools = replay.read(0).unwrap().pools;
        let found: Vec<_> = pools.iter().map(|pool| (pool.id.as_str(), pool.apr)).collect();
        assert_eq!(found, [("a", Some(3.5)), ("b", Some(1.0))]);
    }

    #[test]
    fn slices_of_a_snapshot_wrap_around() {
        let replay = Replay::by_rows(SNAPSHOT.as_bytes(), 2).unwrap();
        assert_eq!(ids(&replay.read(0).unwrap()), ["a", "b"]);
        assert_eq!(ids(&replay.read(1).unwrap()), ["c", "a"]);
        assert_eq!(ids(&replay.read(2).unwrap()), ["b", "c"]);
        assert_eq!(replay.steps(), None);
    }

    #[test]
    fn each_pool_of_several_days_counts_once_with_its_newest_row() {
        let replay = Replay::by_rows(DAYS.as_bytes(), 9).unwrap();
        let reading = replay.read(0).unwrap();
        assert_eq!(ids(&reading), ["p1", "p2"]);
        assert_eq!(reading.pools[0].tvl, Some(3900.0));
    }

    #[test]
    fn rows_read_days_before_are_reported_stale() {
        let reading = Replay::by_rows(SNAPSHOT.as_bytes(), 3).unwrap().read(0).unwrap();
        assert_eq!(reading.warnings[0].kind, Kind::Stale);
        assert_eq!((reading.warnings[0].affected, reading.warnings[0].readings), (1, 3));
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_with_its_place() {
        let missing = Replay::by_days(b"timestamp,pool,chain\n", 0, 1).unwrap_err();
        assert_eq!(missing.to_string(), "the header names none of the columns protocol_slug, project");
        let bad = DAYS.replace("2025-07-09,p1", "someday,p1");
        let bad = Replay::by_days(bad.as_bytes(), 0, 1).unwrap_err();
        assert!(bad.to_string().starts_with("line 4 cannot be read"), "{bad}");
        assert!(matches!(Replay::by_days(DAYS.as_bytes(), 3, 1), Err(Error::TooShort { days: 3, .. })));
    }
}
