//! `storage.documents`: what a day of samples costs in documents, by five ways of writing them.
//!
//! Every pool of a file is sampled once a minute of the agent clock, and every sample is another one than that before. Each way is a batcher
//! of its own in this process, with its journal on disk and its own embedded store; what is counted is what its ledger says was sent. The
//! store is said to need ledger documents, as Firestore does.

mod pools;
mod sink;

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clock::{Clock, Hand};
use journal::Journal;
use serde_json::{Value as Json, json};
use telemetry::Telemetry;
use testkit::Round;

use self::{
    pools::{Pool, read},
    sink::Counted,
};
use super::Error;
use crate::{
    Config,
    aggregate::{
        figure::{Figure, Figures},
        rules::{Kept, PACK_BYTES, PACK_ENTITIES, Packing, Rule, Rules},
    },
    batcher::Batcher,
    buckets::{BucketKey, Readings},
    change::Change,
    document::{Fields, Key, Priority, Value, micros, stored_size},
    ledger::price,
    sink::{MAX_PAGE_BYTES, Range, Sink, embedded::Embedded},
    store::Store,
    write::{NewSample, NewWrite},
};

/// 2026-11-22T00:00:00Z.
const START: u64 = 1_795_305_600;
const MINUTE: Duration = Duration::from_secs(60);
const DAY_MINUTES: u64 = 24 * 60;
/// Minutes of the ways whose every minute is like the others; a day of them would be nine million documents.
const SHORT: u64 = 15;
/// Minutes of aggregation without packing: every window is like the others.
const WINDOWS: u64 = 120;
const TENANT: &str = "default";
const COLLECTION: &str = "pool_metrics";
/// Pools whose buckets are read in the end, at most.
const READ_POOLS: usize = 500;

/// A way of writing samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A document for each sample, one in a request.
    Naive,
    /// A document for each sample, hundreds in a request.
    Batched,
    /// A document for each pool, written over and over.
    Folded,
    /// A document for each bucket of a pool.
    Aggregated,
    /// Documents that many buckets share.
    Packed,
}

/// A batcher whose clock stands still until it is moved.
struct Bench {
    batcher: Batcher,
    sink: Arc<Counted>,
    clock: Clock,
    hand: Hand,
    rules: Arc<Rules>,
    price: f64,
}

/// Measures one round over the pools of a CSV file, found by its header. The value is documents a minute of `packed` over a day. Details: for each of `naive`,
/// `batched`, `folded`, `aggregated`, `packed` an object of `documents_per_minute`, `usd_per_day` (without a free tier), `documents`, `minutes` (of the
/// agent clock that were measured) and `requests`; `pools`, `largest_document_bytes` (of `packed`, by the rules of Firestore's limit),
/// `reads_per_bucket`, `wall_s` of the day.
///
/// # Errors
/// [`Error`] if the file has no pools, a batcher fails, or a bucket is not what was recorded.
pub async fn documents(folder: &Path, pools: &[u8]) -> Result<Round, Error> {
    measure(folder, &read(pools)?, Way::minutes).await
}

async fn measure(folder: &Path, pools: &[Pool], minutes: impl Fn(Way) -> u64) -> Result<Round, Error> {
    let mut details = serde_json::Map::new();
    let mut packed = 0.0;
    for way in [Way::Naive, Way::Batched, Way::Folded, Way::Aggregated, Way::Packed] {
        let begun = Instant::now();
        let mut bench = Bench::start(&folder.join(way.name()), way).await?;
        let minutes = minutes(way);
        for minute in 0..minutes {
            bench.sample(way, pools, minute).await?;
            bench.pass(MINUTE).await;
        }
        // The last window closes and leaves.
        for _ in 0..4 {
            bench.pass(MINUTE).await;
        }
        let (costs, _) = bench.batcher.costs(TENANT);
        if costs.total.waiting > 0 || costs.total.refused > 0 {
            return Err(Error::Story(format!("{}: samples are not at the sink", way.name())));
        }
        let documents = costs.total.written;
        packed = documents as f64 / minutes as f64;
        details.insert(
            way.name().to_owned(),
            json!({
                "documents_per_minute": packed,
                "usd_per_day": price(documents, bench.price) / minutes as f64 * DAY_MINUTES as f64,
                "documents": documents,
                "minutes": minutes,
                "requests": bench.sink.requests(),
            }),
        );
        if way == Way::Packed {
            details.extend(bench.look(pools, minutes).await?);
            details.insert("wall_s".to_owned(), json!(begun.elapsed().as_secs_f64()));
        }
        bench.batcher.drain(MINUTE).await;
    }
    details.insert("pools".to_owned(), json!(pools.len()));
    Ok(Round { value: packed, details: details.into() })
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Batched => "batched",
            Self::Folded => "folded",
            Self::Aggregated => "aggregated",
            Self::Packed => "packed",
        }
    }

    const fn minutes(self) -> u64 {
        match self {
            Self::Naive | Self::Batched | Self::Folded => SHORT,
            Self::Aggregated => WINDOWS,
            Self::Packed => DAY_MINUTES,
        }
    }

    /// Returns the rule of pool metrics: APR, TVL and volume, each with what is asked of it.
    fn rules(self, lateness: Duration) -> Rules {
        use Figure::{Avg, Count, Last, Max, Min, Sum, TimeWeightedMean};
        let figures = [
            ("apr", Figures::from([Min, Max, Avg, Count, TimeWeightedMean])),
            ("tvl", Figures::from([Min, Max, Last])),
            ("volume", Figures::from([Sum])),
        ];
        let named = figures.into_iter().map(|(name, figures)| (name.to_owned(), figures)).collect();
        let mut rule = Rule::built_in(lateness);
        rule.kept = Kept { named, others: Figures::new() };
        let packing = Packing { entities: PACK_ENTITIES, bytes: PACK_BYTES };
        rule.packing = (self == Self::Packed).then_some(packing);
        Rules::new(HashMap::from([(COLLECTION.into(), rule)]), Rule::built_in(lateness))
    }
}

impl Bench {
    async fn start(folder: &Path, way: Way) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)?;
        let config = Config::defaults();
        let mut options = config.options(way.rules(config.storage_bucket_lateness));
        if way == Way::Naive {
            options.limits.documents = 1;
        }
        let (rules, price) = (Arc::clone(&options.rules), options.price);
        let opening = Instant::now();
        let journal = Journal::open(folder.join("storage.redb"), &config.journal()).map_err(io)?;
        let sink = Arc::new(Counted::new(Embedded::open(journal.clone()).await.map_err(io)?));
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(START));
        let store = Store::new(journal, opening);
        let taken = Arc::clone(&sink) as Arc<dyn Sink>;
        let batcher =
            Batcher::start(options, store, taken, Telemetry::silent("storage-batcher"), clock.clone())
                .await
                .map_err(|error| Error::Story(error.to_string()))?;
        Ok(Self { batcher, sink, clock, hand, rules, price })
    }

    /// Records or writes one sample of every pool.
    async fn sample(&mut self, way: Way, pools: &[Pool], minute: u64) -> Result<(), Error> {
        let (tenant, collection): (Arc<str>, Arc<str>) = (TENANT.into(), COLLECTION.into());
        let now = self.clock.now();
        let failed = |error: crate::Error| Error::Story(error.to_string());
        if matches!(way, Way::Aggregated | Way::Packed) {
            let rule = self.rules.of(COLLECTION);
            let sample = |pool: &Pool| NewSample {
                bucket: BucketKey::holding(&tenant, &collection, &pool.id, micros(now), rule),
                time: micros(now),
                readings: pool.readings(minute),
            };
            let samples = pools.iter().map(sample).collect();
            self.batcher.record(Arc::clone(&tenant), samples).await.map_err(failed)?;
            return Ok(());
        }
        let write = |pool: &Pool| {
            let id = match way {
                Way::Folded => Arc::clone(&pool.id),
                _ => format!("{}_{minute}", pool.id).into(),
            };
            let key = Key { tenant: Arc::clone(&tenant), collection: Arc::clone(&collection), id };
            let change = Change::merge(fields(&pool.readings(minute), now));
            NewWrite { key, change, priority: Priority::Normal, idempotency_key: None, caller: "".into() }
        };
        self.batcher.write(Arc::clone(&tenant), pools.iter().map(write).collect()).await.map_err(failed)?;
        Ok(())
    }

    /// Lets time pass, and waits until everything that is then due is at the sink.
    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
        let now = self.clock.now();
        let is_at_rest = || {
            let shared = &self.batcher.shared;
            let (_, on_their_way) = shared.slots.count();
            let mut state = shared.state.lock();
            // A place is given back before what was sent is settled.
            on_their_way == 0
                && state.queue.overlays(TENANT, COLLECTION, "").all(|(_, overlay)| overlay.flight.is_none())
                && state.buckets.next_due().is_none_or(|due| due > now)
                && state.queue.due_len(now) == 0
        };
        while !is_at_rest() {
            // Real time: what is sent and closed has its own tasks.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Looks at what is stored: the largest document, and what it takes to read a bucket.
    async fn look(&self, pools: &[Pool], minutes: u64) -> Result<serde_json::Map<String, Json>, Error> {
        let mut largest = 0;
        let mut range = Range {
            tenant: TENANT.into(),
            collection: COLLECTION.into(),
            after: String::new(),
            before: None,
            limit: MAX_PAGE_BYTES,
            only: Vec::new(),
        };
        loop {
            let page = self.sink.list(&range).await.map_err(io)?;
            for (id, fields) in &page.documents {
                largest = largest.max(stored_size(&Key::new(TENANT, COLLECTION, id), fields));
            }
            match page.documents.last() {
                Some((last, _)) if page.more => range.after = last.to_string(),
                _ => break,
            }
        }
        let before = self.sink.reads();
        let mut buckets = 0;
        // A window in the middle.
        let window = self.rules.of(COLLECTION).window;
        let start = START.cast_signed() + minutes.cast_signed() * 30 / window * window;
        for pool in pools.iter().step_by(pools.len().div_ceil(READ_POOLS).max(1)) {
            let span = (Some(start), Some(start + window));
            let asked = self.batcher.buckets(&TENANT.into(), &COLLECTION.into(), &pool.id, span).await;
            let found = asked.map_err(|error| Error::Story(error.to_string()))?;
            let counts: Vec<_> = found
                .iter()
                .map(|(summary, _)| summary.aggregates.get("apr").and_then(|apr| apr.count))
                .collect();
            if counts != [Some(15)] {
                return Err(Error::Story(format!("the bucket of {} has {counts:?} samples", pool.id)));
            }
            buckets += 1;
        }
        let reads = (self.sink.reads() - before) as f64 / f64::from(buckets);
        Ok([
            ("largest_document_bytes".to_owned(), json!(largest)),
            ("reads_per_bucket".to_owned(), json!(reads)),
        ]
        .into_iter()
        .collect())
    }
}

fn fields(readings: &Readings, now: SystemTime) -> Fields {
    let mut fields: Fields =
        readings.iter().map(|(name, reading)| (name.clone(), Value::Double(*reading))).collect();
    fields.insert("time".to_owned(), Value::Moment(micros(now)));
    fields
}

fn io(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Io(std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::{Way, measure, read};

    #[tokio::test]
    async fn every_way_stores_every_sample_and_packing_takes_the_fewest_documents() {
        let folder = tempfile::tempdir().unwrap();
        let rows: String = (0..7).map(|pool| format!("2025-01-01,{pool},{pool}000,{pool},5\n")).collect();
        let pools = read(format!("dt,pool,tvl_usd,apy,volume_usd_1d\n{rows}").as_bytes()).unwrap();
        let round = measure(folder.path(), &pools, |_| 30).await.unwrap();
        let documents = |way: Way| round.details[way.name()]["documents"].as_u64().unwrap();
        let all = [Way::Naive, Way::Batched, Way::Folded, Way::Aggregated, Way::Packed];
        assert_eq!(all.map(documents), [210, 210, 210, 14, 2]);
        let requests = |way: Way| round.details[way.name()]["requests"].as_u64().unwrap();
        assert_eq!((requests(Way::Naive), requests(Way::Batched), requests(Way::Packed)), (210, 30, 2));
        assert_eq!((round.value, round.details["reads_per_bucket"].as_f64()), (2.0 / 30.0, Some(1.0)));
        let largest = round.details["largest_document_bytes"].as_u64().unwrap();
        assert!((1_000..5_000).contains(&largest), "{largest}");
    }
}
