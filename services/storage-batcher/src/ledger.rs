//! The cost ledger: what was accepted, what was sent for it, and what folding, aggregation and packing saved.
//!
//! A document that lands stands for `w` writes of callers and for `c` writes that closed `b` buckets of `s` samples. One document per write
//! would have sent `w + s`; aggregation saved `s - b` of them, packing `b - c` and folding `w + c - 1`. One that is not sent because the
//! sink holds it so already is saved too. What is not settled yet is waiting. Ledger documents, by which a request is known again, are
//! written and stand for nothing.
//!
//! The same is counted by caller: the one whose write was first pays for the document, and what the others folded into it is saved. Samples
//! count for nobody, as a bucket gathers those of several callers.
//!
//! On disk stands what is settled. What waits is counted from what waits, so that accepting a write costs the ledger no write of its own.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::codec::{Corrupt, Reader, Writer};

/// Minutes over which the rate of documents is taken.
const WINDOW_MINUTES: u64 = 15;

/// Minutes of which the documents sent are kept on disk: a day, and the one that is not over.
const KEPT_MINUTES: u64 = 24 * 60 + 1;

/// A tenant and a collection.
pub type Row = (Arc<str>, Arc<str>);

/// Counts of one collection of one tenant since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes and samples that were accepted and still wait.
    pub waiting: u64,
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

/// Counts of what was settled: all, or by one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deltas {
    /// Counts by tenant and collection.
    pub rows: BTreeMap<Row, Counts>,
    /// The same counts by tenant and caller.
    pub callers: BTreeMap<Row, Counts>,
    /// Documents sent, by minute since the epoch and tenant.
    pub sent: BTreeMap<(u64, Arc<str>), u64>,
}

/// Holds the counts of every tenant.
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
    /// Each caller, by name.
    pub callers: Vec<(Arc<str>, Counts)>,
    /// Documents sent per minute over the last 15; `None` before the first full minute.
    pub documents_per_minute: Option<f64>,
}

impl Counts {
    /// Returns the documents that one for each accepted write and sample would have been.
    #[must_use]
    pub fn naive(&self) -> u64 {
        self.waiting + self.settled
    }

    /// Adds `other` to these counts.
    pub fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
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
            // What was accepted stood here.
            self.settled,
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
        reader.number()?;
        Ok(Self {
            waiting: 0,
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

    /// Returns the counts of what was settled by so many `documents` of its own: one, or none if it was folded into another's.
    fn settled(&self, documents: u64) -> Counts {
        Counts {
            settled: self.naive(),
            saved_by_folding: (self.writes + self.closings).saturating_sub(documents),
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
    /// Counts a document that is at the sink after `sendings`, in `minute`, by whose writes it is made of.
    pub fn land(&mut self, row: Row, shares: &[(Arc<str>, Weight)], sendings: u64, minute: u64) {
        *self.sent.entry((minute, Arc::clone(&row.0))).or_default() += sendings;
        self.settle(&row, shares, &Counts { written: sendings, ..Counts::default() });
    }

    /// Counts a document of `caller` that was written beside others, in `minute`.
    pub fn ledger(&mut self, row: Row, caller: &Arc<str>, minute: u64) {
        *self.sent.entry((minute, Arc::clone(&row.0))).or_default() += 1;
        self.count(row, caller, &Counts { written: 1, ledgers: 1, ..Counts::default() });
    }

    /// Counts a document that was not sent, as the sink held it so already.
    pub fn leave(&mut self, row: &Row, shares: &[(Arc<str>, Weight)]) {
        self.settle(row, shares, &Counts { unchanged: 1, ..Counts::default() });
    }

    /// Counts a document that the sink refused for good.
    pub fn refuse(&mut self, row: &Row, shares: &[(Arc<str>, Weight)]) {
        for (place, (caller, weight)) in shares.iter().enumerate() {
            let refused = u64::from(place == 0);
            let counts = Counts { settled: weight.naive(), refused, ..Counts::default() };
            self.count(row.clone(), caller, &counts);
        }
    }

    /// Counts what one document stood for: the first to write it has `document`, the others saved theirs.
    fn settle(&mut self, row: &Row, shares: &[(Arc<str>, Weight)], document: &Counts) {
        for (place, (caller, weight)) in shares.iter().enumerate() {
            let is_first = place == 0;
            let mut counts = weight.settled(u64::from(is_first));
            if is_first {
                counts.add(document);
            }
            self.count(row.clone(), caller, &counts);
        }
    }

    fn count(&mut self, row: Row, caller: &Arc<str>, counts: &Counts) {
        self.callers.entry((Arc::clone(&row.0), Arc::clone(caller))).or_default().add(counts);
        self.rows.entry(row).or_default().add(counts);
    }
}

impl Ledger {
    /// Takes up the rows of a store made at `made`.
    #[must_use]
    pub fn new(made: SystemTime, totals: Deltas) -> Self {
        Self { made, totals }
    }

    /// Counts writes of `caller`, or samples, that were accepted, or found in the journal.
    pub fn accept(&mut self, row: Row, caller: &Arc<str>, count: u64) {
        self.totals.count(row, caller, &Counts { waiting: count, ..Counts::default() });
    }

    /// Adds what one commit settled.
    pub fn add(&mut self, settled: &Deltas) {
        let Deltas { rows, callers, sent } = &mut self.totals;
        for (totals, settled) in [(rows, &settled.rows), (callers, &settled.callers)] {
            for (row, counts) in settled {
                let total = totals.entry(row.clone()).or_default();
                total.add(counts);
                total.waiting = total.waiting.saturating_sub(counts.settled);
            }
        }
        for (slot, count) in &settled.sent {
            *sent.entry(slot.clone()).or_default() += count;
        }
        if let Some(((newest, _), _)) = sent.last_key_value() {
            *sent = sent.split_off(&(newest.saturating_sub(WINDOW_MINUTES), Arc::from("")));
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
        let callers = self.totals.callers.iter().filter(|((owner, _), _)| **owner == *tenant);
        costs.callers = callers.map(|((_, caller), counts)| (Arc::clone(caller), *counts)).collect();
        costs
    }

    /// Returns the documents of all tenants that were sent in each minute since the epoch, oldest first, as far as that is known: at the start,
    /// for a day.
    #[must_use]
    pub fn sent_by_minute(&self) -> BTreeMap<u64, u64> {
        let mut minutes = BTreeMap::new();
        for ((minute, _), sent) in &self.totals.sent {
            *minutes.entry(*minute).or_default() += sent;
        }
        minutes
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

/// Returns the name of no caller: a bucket gathers the samples of several.
pub(crate) fn nobody() -> Arc<str> {
    Arc::from("")
}

/// Returns the minute since the epoch in which `time` lies.
#[must_use]
pub fn minute(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60)
}

/// Returns the first minute whose documents a rate or the write budget at `minute` may still need.
#[must_use]
pub fn oldest_minute(minute: u64) -> u64 {
    minute.saturating_sub(KEPT_MINUTES)
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

    fn alone(weight: Weight) -> [(Arc<str>, Weight); 1] {
        [("".into(), weight)]
    }

    #[test]
    fn the_first_to_write_pays_for_the_document_and_the_others_saved_theirs() {
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let mut ledger = Ledger::new(UNIX_EPOCH, Deltas::default());
        ledger.accept(row("pools"), &one, 4);
        ledger.accept(row("pools"), &two, 2);
        let mut deltas = Deltas::default();
        let weight = |writes| Weight { writes, ..Weight::default() };
        deltas.land(row("pools"), &[(Arc::clone(&two), weight(1)), (Arc::clone(&one), weight(3))], 2, 0);
        deltas.leave(&row("pools"), &[(Arc::clone(&one), weight(1))]);
        deltas.ledger(row("pools"), &two, 0);
        ledger.add(&deltas);
        let costs = ledger.costs("default", UNIX_EPOCH);
        let told = |counts: &Counts| {
            (counts.naive(), counts.written, counts.saved_by_folding, counts.unchanged, counts.waiting)
        };
        let callers: Vec<_> = costs.callers.iter().map(|(name, counts)| (&**name, told(counts))).collect();
        assert_eq!(callers, [("one", (4, 0, 3, 1, 0)), ("two", (2, 3, 0, 0, 1))]);
        assert_eq!(told(&costs.total), (6, 3, 3, 1, 1));
        assert_eq!((costs.callers[1].1.ledgers, costs.collections.len()), (1, 1));
    }

    #[test]
    fn naive_is_written_and_saved_and_waiting() {
        let mut ledger = Ledger::new(UNIX_EPOCH, Deltas::default());
        ledger.accept(row("pools"), &"".into(), 3 + 30 + 5);
        let mut deltas = Deltas::default();
        let weight = Weight { writes: 3, closings: 2, buckets: 9, samples: 30 };
        deltas.land(row("pools"), &alone(weight), 1, 0);
        ledger.add(&deltas);
        let counts = ledger.costs("default", UNIX_EPOCH).total;
        assert_eq!((counts.saved_by_folding, counts.saved_by_aggregation), (4, 21));
        assert_eq!((counts.saved_by_packing, counts.waiting), (7, 5));
        let saved = counts.saved_by_folding + counts.saved_by_aggregation + counts.saved_by_packing;
        assert_eq!(counts.naive(), counts.written + saved + counts.waiting);
    }

    #[test]
    fn a_row_comes_back_from_disk() {
        let counts = Counts { settled: 900, unchanged: 1, saved_by_packing: 5, ..Counts::default() };
        assert_eq!(Counts::decode(&counts.encode()), Ok(counts));
        // As it was before ledger documents were counted, and while what was accepted was.
        let old = Counts { settled: 2, written: 1, ..Counts::default() };
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
                &alone(Weight { writes: 1, ..Weight::default() }),
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
        let mut ledger = Ledger::new(UNIX_EPOCH, Deltas::default());
        ledger.accept(row("pools"), &"".into(), 1);
        assert_eq!(ledger.costs("other", UNIX_EPOCH).total, Counts::default());
    }

    #[test]
    fn a_hundred_thousand_documents_cost_the_list_price() {
        assert!((price(100_000, 0.18) - 0.18).abs() < 1e-12);
    }
}
