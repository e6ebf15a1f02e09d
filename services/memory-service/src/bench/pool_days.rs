//! Recorded pools, day by day, as memories: one a pool and day.

use std::time::{Duration, SystemTime};

use jiff::civil::Date;

use crate::memory::{Memory, Place, Record};

/// Values of the made-up vectors: what is measured does not depend on them.
pub(super) const DIMENSIONS: usize = 256;

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
    /// A recall could not be run.
    #[error("a recall could not be run: {0}")]
    Run(String),
}

/// Reads a memory a line: the pool is what it is about, its protocol the category, its coins tags, its pool a thread of days.
/// How sure it is rises with the pool's size, so that conditions are related as they are in the world.
pub(super) fn read(file: &[u8]) -> Result<Vec<Record>, Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.headers()?.clone();
    let need = |names: &'static [&str], told| {
        header.iter().position(|name| names.contains(&name)).ok_or(Error::Column(told))
    };
    let day = need(&["timestamp", "dt", "snapshot_day"], "timestamp, dt, snapshot_day")?;
    let pool = need(&["pool", "pool_id_defillama"], "pool, pool_id_defillama")?;
    let protocol = need(&["protocol_slug", "project"], "protocol_slug, project")?;
    let (symbol, tvl) = (need(&["symbol"], "symbol")?, need(&["tvl_usd"], "tvl_usd")?);
    let mut records = Vec::new();
    for (number, row) in reader.records().enumerate() {
        let row = row?;
        let text = |at: usize| row.get(at).unwrap_or_default();
        let time = noon(text(day), number)?;
        records.push(memory(number, [text(pool), text(protocol), text(symbol), text(tvl)], time));
    }
    records.sort_by_key(|record| record.memory.time);
    Ok(records)
}

fn memory(number: usize, [pool, protocol, symbol, tvl]: [&str; 4], time: SystemTime) -> Record {
    let usd: f64 = tvl.parse().unwrap_or_default();
    let memory = Memory {
        id: number.to_string().into(),
        category: protocol.to_owned(),
        content: format!("{protocol} {symbol} holds {tvl} USD"),
        pools: vec![pool.to_owned()],
        tags: symbol.split('-').map(str::to_owned).collect(),
        agent: format!("watcher-{}", number % 5),
        place: Some(Place { thread: pool.to_owned(), position: number as u64 }),
        time,
        confidence: (usd.max(1.0).log10() / 9.0).clamp(0.0, 1.0),
        ..Memory::bare()
    };
    let value = |place: u64| {
        let mixed = ((number as u64) << 16 | place).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        f32::from(u16::try_from(mixed).unwrap_or_default()) / 32_768.0 - 1.0
    };
    Record::new(memory, (0..DIMENSIONS as u64).map(value).collect())
}

/// Spreads the pools of a day over its hours, as an agent that looks at them in turn would.
fn noon(day: &str, number: usize) -> Result<SystemTime, Error> {
    let wrong = || Error::Day(day.to_owned());
    let date: Date = day.get(..10).and_then(|day| day.parse().ok()).ok_or_else(wrong)?;
    let days = Date::constant(1970, 1, 1).until((jiff::Unit::Day, date)).map_err(|_| wrong())?.get_days();
    let days = u64::try_from(days).map_err(|_| wrong())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_hours(24 * days + number as u64 % 24))
}
