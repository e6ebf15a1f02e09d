//! The pools of a CSV file.

use std::{collections::BTreeMap, sync::Arc};

use super::Error;
use crate::buckets::Readings;

/// A pool, as it was on its newest day of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pool {
    /// Its name.
    pub(super) id: Arc<str>,
    apr: f64,
    tvl: f64,
    volume: Option<f64>,
}

impl Pool {
    /// Returns a sample of the `minute`-th minute: near what the file says, and another one than that before.
    pub(super) fn readings(&self, minute: u64) -> Readings {
        let wave = 1.0 + (minute as f64 + self.tvl.abs() % 7.0).sin() / 1_000.0;
        let mut readings = Readings::from([
            ("apr".to_owned(), (self.apr + 1e-3) * wave),
            ("tvl".to_owned(), (self.tvl + 1.0) * wave),
        ]);
        if let Some(volume) = self.volume {
            readings.insert("volume".to_owned(), volume / 1_440.0 * wave);
        }
        readings
    }
}

/// Reads each pool's newest row. Columns are found by their names: `pool` or `pool_id_defillama`; `timestamp`, `dt` or `snapshot_day`; `tvl_usd`,
/// `apy`, and, where there is one, `volume_usd_1d`.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Pool>, Error> {
    let wrong = |error: csv::Error| Error::Data(error.to_string());
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(wrong)?.clone();
    let find =
        |names: &[&str]| names.iter().find_map(|name| header.iter().position(|column| column == *name));
    let must = |names: &[&str]| {
        find(names)
            .ok_or_else(|| Error::Data(format!("the header names none of the columns {}", names.join(", "))))
    };
    let (id, day) = (must(&["pool", "pool_id_defillama"])?, must(&["timestamp", "dt", "snapshot_day"])?);
    let (apr, tvl, volume) = (must(&["apy"])?, must(&["tvl_usd"])?, find(&["volume_usd_1d"]));
    let mut newest: BTreeMap<Arc<str>, (String, Pool)> = BTreeMap::new();
    for row in reader.records() {
        let row = row.map_err(wrong)?;
        let text = |place: usize| row.get(place).unwrap_or_default();
        // What is not known is sampled as 0: the number of documents does not depend on it.
        let number =
            |place: usize| text(place).parse::<f64>().ok().filter(|number| number.is_finite()).unwrap_or(0.0);
        let pool =
            Pool { id: text(id).into(), apr: number(apr), tvl: number(tvl), volume: volume.map(number) };
        let day = text(day).to_owned();
        match newest.get(&pool.id) {
            Some((known, _)) if *known >= day => {}
            _ => drop(newest.insert(Arc::clone(&pool.id), (day, pool))),
        }
    }
    newest.retain(|id, _| !id.is_empty());
    if newest.is_empty() {
        return Err(Error::Data("the file holds no pool".to_owned()));
    }
    Ok(newest.into_values().map(|(_, pool)| pool).collect())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_newest_row_of_each_pool_counts_and_no_sample_is_like_the_one_before() {
        let text =
            "dt,pool,tvl_usd,apy\n2025-01-02,a,5,1\n2025-01-01,a,7,2\n2025-01-01,b,7,\n2025-01-01,,7,2\n";
        let pools = read(text.as_bytes()).unwrap();
        assert_eq!(
            pools.iter().map(|pool| (&*pool.id, pool.tvl)).collect::<Vec<_>>(),
            [("a", 5.0), ("b", 7.0)]
        );
        for pool in &pools {
            for minute in 0..100 {
                let (one, next) = (pool.readings(minute), pool.readings(minute + 1));
                assert!(one.iter().all(|(name, reading)| next[name] != *reading));
            }
        }
    }

    #[test]
    fn a_file_without_pools_is_refused_by_what_it_lacks() {
        let error = read(b"dt,tvl_usd,apy\n").unwrap_err().to_string();
        assert!(error.contains("pool, pool_id_defillama"), "{error}");
        assert!(read(b"dt,pool,tvl_usd,apy\n").is_err());
    }
}
