//! The cost ledger: what was accepted, what was sent for it, and what folding and aggregation saved.
//!
//! A document that lands stands for `w` writes of callers and for `c` writes that closed `b` buckets of `s` samples. One document per write
//! would have sent `w + s`; aggregation saved `s - b` of them, packing `b - c` and folding `w + c - 1`. One that is not sent because the sink holds it so already is saved
//! too. What is not settled yet is waiting. Ledger documents, by which a request is known again, are written and stand for nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::codec::{Corrupt, Reader, Writer};

/// Minutes over which the rate of documents is taken.
const WINDOW_MINUTES: u64 = 15;

/// A tenant and a collection.
pub type Row = (Arc<str>, Arc<str>);

/// Counts of one collection of one tenant since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes and samples accepted.
    pub naive: u64,
    /// Writes and samples that have left the queue: at the sink, or refused by it.
    pub settled: u64,
    /// Documents sent, a repeated sending after a lost reply counted again.
    pub written: u64,
    /// Documents saved by folding.
    pub saved_by_folding: u64,
    /// Documents saved by aggregation.
    pub saved_by_aggregation: u64,
    /// Documents saved by packing.
    pub saved_by_packing: u64,
    /// Documents the sink refused for good.
    pub refused: u64,
    /// Documents written beside, to know a request again; they are among `written`.
    pub ledgers: u64,
    /// Documents saved as the sink held them so already.
    pub unchanged: u64,
}

/// What one document stood for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Writes of callers.
    pub writes: u64,
    /// Writes that closed buckets.
    pub closings: u64,
    /// Those buckets.
    pub buckets: u64,
    /// Samples in those buckets.
    pub samples: u64,
}

/// Changes to a ledger that belong to one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deltas {
    /// Added counts.
    pub rows: BTreeMap<Row, Counts>,
    /// Documents sent, by minute since the epoch and tenant.
    pub sent: BTreeMap<(u64, Arc<str>), u64>,
}

/// Holds the counts of every tenant. The same rows stand on disk.
#[derive(Clone, Debug)]
pub struct Ledger {
    made: SystemTime,
    totals: Deltas,
}

/// The ledger of one tenant, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    /// All collections together.
    pub total: Counts,
    /// Each collection, by name.
    pub collections: Vec<(Arc<str>, Counts)>,
    /// Documents sent per minute over the last 15; `None` before the first full minute.
    pub documents_per_minute: Option<f64>,
}

impl Counts {
    /// Returns the writes and samples that still wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.naive.saturating_sub(self.settled)
    }

    /// Adds `other` to these counts.
    pub fn add(&mut self, other: &Self) {
        self.naive += other.naive;
        self.settled += other.settled;
        self.written += other.written;
        self.saved_by_folding += other.saved_by_folding;
        self.saved_by_aggregation += other.saved_by_aggregation;
        self.saved_by_packing += other.saved_by_packing;
        self.refused += other.refused;
        self.ledgers += other.ledgers;
        self.unchanged += other.unchanged;
    }

    /// Returns the bytes of a row on disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for number in [
            self.naive,
            self.settled,
            self.written,
            self.saved_by_folding,
            self.saved_by_aggregation,
            self.refused,
            self.ledgers,
            self.unchanged,
            self.saved_by_packing,
        ] {
            writer.number(number);
        }
        writer.finish()
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes are no row.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes)?;
        Ok(Self {
            naive: reader.number()?,
            settled: reader.number()?,
            written: reader.number()?,
            saved_by_folding: reader.number()?,
            saved_by_aggregation: reader.number()?,
            refused: reader.number()?,
            ledgers: reader.number_if_any()?,
            unchanged: reader.number_if_any()?,
            saved_by_packing: reader.number_if_any()?,
        })
    }
}

impl Weight {
    /// Returns what one document per write would have sent.
    #[must_use]
    pub fn naive(&self) -> u64 {
        self.writes + self.samples
    }

    /// Returns the counts of a document that is settled and stood for this.
    fn settled(&self) -> Counts {
        Counts {
            settled: self.naive(),
            saved_by_folding: (self.writes + self.closings).saturating_sub(1),
            saved_by_aggregation: self.samples.saturating_sub(self.buckets),
            saved_by_packing: self.buckets.saturating_sub(self.closings),
            ..Counts::default()
        }
    }

    /// Adds `other` to this weight.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.closings += other.closings;
        self.buckets += other.buckets;
        self.samples += other.samples;
    }
}

impl Deltas {
    /// Counts writes or samples that were accepted.
    pub fn accept(&mut self, row: Row, count: u64) {
        self.rows.entry(row).or_default().naive += count;
    }

    /// Counts a document that is at the sink after `sendings`, in `minute`.
    pub fn land(&mut self, row: Row, weight: &Weight, sendings: u64, minute: u64) {
        *self.sent.entry((minute, Arc::clone(&row.0))).or_default() += sendings;
        self.rows.entry(row).or_default().add(&Counts { written: sendings, ..weight.settled() });
    }

    /// Counts a document written beside others, in `minute`.
    pub fn ledger(&mut self, row: Row, minute: u64) {
        *self.sent.entry((minute, Arc::clone(&row.0))).or_default() += 1;
        self.rows.entry(row).or_default().add(&Counts { written: 1, ledgers: 1, ..Counts::default() });
    }

    /// Counts a document that was not sent, as the sink held it so already.
    pub fn leave(&mut self, row: Row, weight: &Weight) {
        self.rows.entry(row).or_default().add(&Counts { unchanged: 1, ..weight.settled() });
    }

    /// Counts a document that the sink refused for good.
    pub fn refuse(&mut self, row: Row, weight: &Weight) {
        self.rows.entry(row).or_default().add(&Counts {
            settled: weight.naive(),
            refused: 1,
            ..Counts::default()
        });
    }
}

impl Ledger {
    /// Takes up the rows of a store made at `made`.
    #[must_use]
    pub fn new(made: SystemTime, totals: Deltas) -> Self {
        Self { made, totals }
    }

    /// Adds what one commit changed.
    pub fn add(&mut self, deltas: &Deltas) {
        for (row, counts) in &deltas.rows {
            self.totals.rows.entry(row.clone()).or_default().add(counts);
        }
        for (slot, sent) in &deltas.sent {
            *self.totals.sent.entry(slot.clone()).or_default() += sent;
        }
        if let Some(((newest, _), _)) = self.totals.sent.last_key_value() {
            let oldest = (newest.saturating_sub(WINDOW_MINUTES), Arc::from(""));
            self.totals.sent = self.totals.sent.split_off(&oldest);
        }
    }

    /// Returns whether anything was ever accepted for `collection` of `tenant`.
    #[must_use]
    pub fn knows(&self, tenant: &Arc<str>, collection: &Arc<str>) -> bool {
        self.totals.rows.contains_key(&(Arc::clone(tenant), Arc::clone(collection)))
    }

    /// Returns the ledger of `tenant` at `now`.
    #[must_use]
    pub fn costs(&self, tenant: &str, now: SystemTime) -> Costs {
        let mut costs =
            Costs { documents_per_minute: self.documents_per_minute(tenant, now), ..Costs::default() };
        for ((owner, collection), counts) in &self.totals.rows {
            if **owner == *tenant {
                costs.total.add(counts);
                costs.collections.push((Arc::clone(collection), *counts));
            }
        }
        costs
    }

    fn documents_per_minute(&self, tenant: &str, now: SystemTime) -> Option<f64> {
        let present = minute(now);
        let first = (present + 1).saturating_sub(WINDOW_MINUTES);
        let opened = (UNIX_EPOCH + Duration::from_secs(first * 60)).max(self.made);
        let elapsed =
            now.duration_since(opened).ok().filter(|elapsed| *elapsed >= Duration::from_secs(60))?;
        let sent: u64 = self
            .totals
            .sent
            .iter()
            .filter(|((slot, owner), _)| (first..=present).contains(slot) && **owner == *tenant)
            .map(|(_, sent)| sent)
            .sum();
        Some(sent as f64 * 60.0 / elapsed.as_secs_f64())
    }
}

/// Returns the minute since the epoch in which `time` lies.
#[must_use]
pub fn minute(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60)
}

/// Returns the first minute whose documents a rate at `minute` may still need.
#[must_use]
pub fn oldest_minute(minute: u64) -> u64 {
    minute.saturating_sub(WINDOW_MINUTES)
}

/// Returns the price of `documents` in USD.
#[must_use]
pub fn price(documents: u64, usd_per_100k: f64) -> f64 {
    documents as f64 / 100_000.0 * usd_per_100k
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{Counts, Deltas, Ledger, Row, Weight, minute, price};

    fn row(collection: &str) -> Row {
        (Arc::from("default"), Arc::from(collection))
    }

    #[test]
    fn naive_is_written_and_saved_and_waiting() {
        let mut deltas = Deltas::default();
        deltas.accept(row("pools"), 3 + 30 + 5);
        deltas.land(row("pools"), &Weight { writes: 3, closings: 2, buckets: 9, samples: 30 }, 1, 0);
        let counts = deltas.rows[&row("pools")];
        assert_eq!((counts.saved_by_folding, counts.saved_by_aggregation), (4, 21));
        assert_eq!((counts.saved_by_packing, counts.waiting()), (7, 5));
        let saved = counts.saved_by_folding + counts.saved_by_aggregation + counts.saved_by_packing;
        assert_eq!(counts.naive, counts.written + saved + counts.waiting());
    }

    #[test]
    fn a_row_comes_back_from_disk() {
        let counts = Counts { naive: 900, unchanged: 1, saved_by_packing: 5, ..Counts::default() };
        assert_eq!(Counts::decode(&counts.encode()), Ok(counts));
        // As it was before ledger documents were counted.
        let old = Counts { naive: 3, settled: 2, written: 1, ..Counts::default() };
        assert_eq!(Counts::decode(&[1, 3, 2, 1, 0, 0, 0]), Ok(old));
    }

    #[test]
    fn the_rate_is_absent_before_a_minute_and_then_counts_fifteen() {
        let made = UNIX_EPOCH + Duration::from_secs(600_000);
        let mut ledger = Ledger::new(made, Deltas::default());
        let mut send = |at: Duration, documents: u64| {
            let mut deltas = Deltas::default();
            deltas.land(
                row("pools"),
                &Weight { writes: 1, ..Weight::default() },
                documents,
                minute(made + at),
            );
            ledger.add(&deltas);
            ledger.costs("default", made + at).documents_per_minute
        };
        assert_eq!(send(Duration::from_secs(59), 30), None);
        assert_eq!(send(Duration::from_secs(120), 30), Some(30.0));
        // An hour later the first documents are out of the window: 14 full minutes and none of the present one.
        assert_eq!(send(Duration::from_secs(3600), 28), Some(2.0));
    }

    #[test]
    fn one_tenant_does_not_see_the_costs_of_another() {
        let mut deltas = Deltas::default();
        deltas.accept(row("pools"), 1);
        let ledger = Ledger::new(UNIX_EPOCH, deltas);
        assert_eq!(ledger.costs("other", UNIX_EPOCH).total, Counts::default());
    }

    #[test]
    fn a_hundred_thousand_documents_cost_the_list_price() {
        assert!((price(100_000, 0.18) - 0.18).abs() < 1e-12);
    }
}
