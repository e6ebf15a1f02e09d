//! The bundled slice of real data: 47 recorded days of Base pools and Ethereum's daily gas prices.
//!
//! The pools are the days of July and August 2025 for which at least 100 Base pools were recorded; the other 15 days of those
//! months have 3 to 7 pools and are left out. The gas prices are the daily means of Ethereum (not Base) since June 2025, in wei. See
//! NOTICE for where both come from.

use std::io::{self, Read as _};

use flate2::read::GzDecoder;

/// Days that are history before the first replayed one.
pub const HISTORY_DAYS: usize = 7;

/// Fewest pools of a day worth replaying.
pub const LEAST_POOLS: usize = 100;

/// Days of July and August 2025 that were left out of the slice, because fewer than [`LEAST_POOLS`] pools were recorded.
pub const DAYS_LEFT_OUT: usize = 15;

const POOLS: &[u8] = include_bytes!("../data/base_pools_2025-07_2025-08.csv.gz");
const GAS: &[u8] = include_bytes!("../data/ethereum_gas_2025-06_2025-08.csv");

/// Returns the bundled pool days as CSV.
///
/// # Errors
///
/// Fails only if the file built into the program is damaged.
pub fn pools() -> io::Result<Vec<u8>> {
    let mut csv = Vec::new();
    GzDecoder::new(POOLS).read_to_end(&mut csv)?;
    Ok(csv)
}

/// Returns the bundled gas prices as CSV, in wei.
#[must_use]
pub fn gas() -> &'static [u8] {
    GAS
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_slice_holds_47_days_of_at_least_100_base_pools_in_at_most_512_kib() {
        assert!(super::POOLS.len() + super::GAS.len() <= 512 * 1024);
        let text = String::from_utf8(super::pools().unwrap()).unwrap();
        let mut days: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for line in text.lines().skip(1) {
            let mut fields = line.split(',');
            let (day, pool) = (fields.next().unwrap(), fields.next().unwrap());
            assert_eq!(fields.nth(1), Some("Base"), "{line}");
            days.entry(day).or_default().insert(pool);
        }
        assert_eq!(days.len(), 47);
        assert!(days.values().all(|pools| pools.len() >= super::LEAST_POOLS));
        assert_eq!(days.keys().next(), Some(&"2025-07-10"));
    }
}
