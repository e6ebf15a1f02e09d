//! Samples: how they come into buckets, and how buckets become writes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{draft::Draft, sequenced::Sequenced};
use crate::{
    aggregate::{
        pack::{self, Closing},
        places::Row,
        rules::{Rule, Rules, WINDOW_SECONDS},
        watermark::{MAX_AGE, MAX_AHEAD},
    },
    buckets::{BucketKey, Open, encode_readings, encode_samples},
    codec::Record,
    document::{Priority, micros},
    error::Error,
    ledger::nobody,
    shared::{Shared, State},
    store::Group,
    write::NewSample,
};

impl Draft {
    /// Accepts `samples`, all or none.
    pub(super) async fn record(&mut self, shared: &Shared, samples: Vec<NewSample>) -> Result<(), Error> {
        let encoded: Vec<_> = samples.iter().map(|sample| encode_readings(&sample.readings)).collect();
        let bytes = encoded.iter().map(|bytes| bytes.len() as u64).sum();
        self.reserve(encoded.len(), bytes, &shared.options)?;
        let closed = self.closed(shared, &samples);
        self.reopened.extend(load(shared, closed).await?);
        let growing = Arc::clone(&self.growing);
        // It is taken only once it is sent.
        let Some(mut group) = growing.open() else { return Err(Error::NotReady) };
        group.places.extend(self.settle(shared, &samples));
        for (sample, bytes) in samples.into_iter().zip(encoded) {
            let NewSample { bucket, time, readings } = sample;
            self.samples.push((bucket.clone(), time, readings, bytes.len() as u64));
            group.samples.push((bucket, time, bytes));
        }
        Ok(())
    }

    /// Gives the entities of `samples` their places in shared documents, where their rule has such; returns those that are not on disk.
    fn settle(&self, shared: &Shared, samples: &[NewSample]) -> Vec<Row> {
        let rules = &shared.options.rules;
        let mut state = shared.state.lock();
        let State { places, ledger, .. } = &mut *state;
        for NewSample { bucket, .. } in samples {
            let is_new = !ledger.knows(&bucket.tenant, &bucket.collection);
            places.settle(bucket, rules, is_new, next_start(rules.of(&bucket.collection), self.now));
        }
        places.take_unsaved()
    }

    /// Returns those buckets of `samples` that are not open.
    fn closed(&self, shared: &Shared, samples: &[NewSample]) -> Vec<BucketKey> {
        let state = shared.state.lock();
        let is_open = |key: &BucketKey| state.buckets.is_open(key) || self.reopened.contains_key(key);
        let buckets = samples.iter().map(|sample| &sample.bucket);
        let mut closed: Vec<_> = buckets.filter(|bucket| !is_open(bucket)).cloned().collect();
        drop(state);
        closed.sort();
        closed.dedup();
        closed
    }
}

/// Reads what is kept of buckets: a late sample must find the others.
async fn load(shared: &Shared, closed: Vec<BucketKey>) -> Result<BTreeMap<BucketKey, Open>, Error> {
    if closed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let store = shared.store.clone();
    let load = move || {
        let open = |key: BucketKey| {
            let samples = Arc::new(store.samples(&key)?);
            Ok((key, Open { samples, ..Open::default() }))
        };
        closed.into_iter().map(open).collect::<Result<BTreeMap<_, _>, crate::store::Error>>()
    };
    let loaded = shared.telemetry.spawn_blocking(load).await.map_err(|_| Error::NotReady)?;
    Ok(loaded?)
}

impl From<Closing> for Record {
    fn from(closing: Closing) -> Self {
        Self {
            key: closing.key,
            change: closing.change,
            priority: Priority::Normal,
            accepted: 0,
            samples: closing.samples,
            buckets: closing.buckets.len() as u64,
            caller: nobody(),
        }
    }
}

/// Turns due buckets into writes of their documents.
pub(super) async fn close(shared: &Shared, tenant: Option<&str>, pruned: &mut i64) -> Result<(), Error> {
    let (now, mut group) = (shared.clock.now(), Group::default());
    let (mut sequenced, due, oldest) = {
        let state = shared.state.lock();
        let due = state.buckets.due(now, tenant);
        let oldest = oldest_start(&shared.options.rules, now);
        // A window longer than those of now may be open for longer.
        let oldest = state.buckets.oldest().map_or(oldest, |start| start.min(oldest));
        (Sequenced::after(state.queue.last()), state.places.placed(due), oldest)
    };
    // Nobody waits for the state meanwhile.
    for closing in pack::closings(due, &shared.options.rules) {
        let encoded = closing.buckets.iter().map(|(key, samples)| (key.clone(), encode_samples(samples)));
        group.closed.extend(encoded);
        let record = Record { accepted: micros(now), ..Record::from(closing) };
        sequenced.append(&mut group, record);
    }
    if oldest > *pruned {
        group.prune_before = Some(oldest);
    }
    if group.closed.is_empty() && group.prune_before.is_none() {
        return Ok(());
    }
    let group = Arc::new(group);
    shared.store.append(Arc::clone(&group)).await?;
    *pruned = oldest.max(*pruned);
    let mut state = shared.state.lock();
    for (key, _) in &group.closed {
        state.buckets.close(key);
    }
    state.take(sequenced.writes);
    shared.measure(&state);
    drop(state);
    shared.wake();
    Ok(())
}

/// Returns the start of the oldest window that a sample accepted at `now` may lie in, on a quarter of an hour.
fn oldest_start(rules: &Rules, now: SystemTime) -> i64 {
    let oldest = micros(now.checked_sub(MAX_AGE).unwrap_or(UNIX_EPOCH)).div_euclid(1_000_000);
    oldest - oldest.rem_euclid(WINDOW_SECONDS) - rules.longest_window()
}

/// Returns the start of the first window of `rule` that no sample accepted until `now` can lie in.
fn next_start(rule: &Rule, now: SystemTime) -> i64 {
    rule.start_of(micros(now + MAX_AHEAD)) + rule.window
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        path::Path,
        sync::Arc,
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use clock::{Clock, Hand};
    use journal::Journal;
    use proptest::prelude::*;
    use telemetry::Telemetry;

    use crate::{
        Config,
        aggregate::{
            figure::{Figure, Figures},
            rules::{Kept, Packing, Rule, Rules},
        },
        batcher::Batcher,
        buckets::{BucketKey, Readings, Samples, Summary},
        document::micros,
        shared::Options,
        sink::embedded::Embedded,
        store::Store,
        write::NewSample,
    };

    const ENTITIES: [&str; 4] = ["a", "b_", "__c__", "b__1970-01-01T00:00Z"];
    const START: u64 = 1_795_342_500;
    const LATENESS: u64 = 2_400;

    /// What happens next.
    #[derive(Clone, Debug)]
    enum Step {
        /// A sample of an entity, so many seconds after now.
        Sample(usize, i64, f64),
        /// Time passes.
        Pass(u64),
        /// A flush that closes what is open.
        Close,
        /// The service starts again, with buckets packed by so many; 0 for none.
        Restart(u32),
    }

    /// A batcher, and every sample that it accepted.
    struct Story {
        folder: tempfile::TempDir,
        batcher: Batcher,
        clock: Clock,
        hand: Hand,
        rules: Arc<Rules>,
        accepted: BTreeMap<(usize, i64), Samples>,
    }

    fn rules(packed: u32) -> Rules {
        let mut rule = Rule::built_in(Duration::from_secs(LATENESS));
        let named = [("apr".to_owned(), Figures::from(Figure::ALL))].into();
        rule.kept = Kept { named, others: Figures::new() };
        rule.packing = (packed > 0).then_some(Packing { entities: packed, bytes: 100 * 1024 });
        Rules::new(HashMap::from([("c".into(), rule)]), Rule::built_in(Duration::ZERO))
    }

    pub(in crate::accept) async fn start(folder: &Path, options: Options, clock: Clock) -> Batcher {
        let journal = Journal::open(folder.join("storage.redb"), &journal::Options::default()).unwrap();
        let sink = Arc::new(Embedded::open(journal.clone()).await.unwrap());
        let (store, telemetry) = (Store::new(journal, Instant::now()), Telemetry::silent("storage-batcher"));
        Batcher::start(options, store, sink, telemetry, clock).await.unwrap()
    }

    impl Story {
        async fn begin() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(START));
            let batcher = start(folder.path(), Config::defaults().options(rules(2)), clock.clone()).await;
            let accepted = BTreeMap::new();
            Self { folder, batcher, clock, hand, rules: Arc::new(rules(2)), accepted }
        }

        async fn play(&mut self, step: Step) {
            match step {
                Step::Sample(entity, after, apr) => {
                    let time = micros(self.clock.now()) + after * 1_000_000;
                    let readings = Readings::from([("apr".to_owned(), apr)]);
                    let bucket = self.key(entity, self.rules.of("c").start_of(time));
                    self.accepted.entry((entity, bucket.start)).or_default().insert(time, readings.clone());
                    let sample = NewSample { bucket, time, readings };
                    self.batcher.record("t".into(), vec![sample]).await.unwrap();
                }
                Step::Pass(seconds) => self.hand.advance(Duration::from_secs(seconds)),
                Step::Close => drop(self.batcher.flush("t".into(), true).await.unwrap()),
                Step::Restart(packed) => {
                    // What is on its way or closing then goes on after the start.
                    self.batcher.drain(Duration::ZERO).await;
                    self.rules = Arc::new(rules(packed));
                    let options = Config::defaults().options(rules(packed));
                    self.batcher = start(self.folder.path(), options, self.clock.clone()).await;
                }
            }
        }

        fn key(&self, entity: usize, start: i64) -> BucketKey {
            let (tenant, collection, entity) = ("t".into(), "c".into(), ENTITIES[entity].into());
            BucketKey { start, length: self.rules.of("c").window, tenant, collection, entity }
        }

        /// Every bucket of every entity is what all its samples say, computed anew.
        async fn check(&self) {
            for (number, entity) in ENTITIES.iter().enumerate() {
                let found =
                    self.batcher.buckets(&"t".into(), &"c".into(), entity, (None, None)).await.unwrap();
                let found: Vec<_> = found.into_iter().map(|(summary, _)| summary).collect();
                let summary = |((_, start), samples): (&(usize, i64), &Samples)| {
                    Summary::of(&self.key(number, *start), samples, &self.rules.of("c").kept)
                };
                let of_entity = self.accepted.range((number, i64::MIN)..(number + 1, i64::MIN));
                assert_eq!(found, of_entity.map(summary).collect::<Vec<_>>(), "{entity}");
            }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..ENTITIES.len(), -7_200..900_i64, -1e3..1e3).prop_map(|(entity, after, apr)| Step::Sample(entity, after, apr)),
            4 => (0..ENTITIES.len(), -60..1_i64, -1e3..1e3).prop_map(|(entity, after, apr)| Step::Sample(entity, after, apr)),
            4 => (1..2_400_u64).prop_map(Step::Pass),
            1 => Just(Step::Close),
            1 => (0..4_u32).prop_map(Step::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn whatever_comes_late_twice_or_under_other_rules_each_bucket_is_what_its_samples_say(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let mut story = Story::begin().await;
                for step in steps {
                    story.play(step).await;
                    story.check().await;
                }
                story.batcher.flush("t".into(), true).await.unwrap();
                story.check().await;
                story.batcher.drain(Duration::ZERO).await;
            });
        }
    }

    #[tokio::test]
    async fn a_bucket_of_a_window_longer_than_those_of_now_keeps_its_samples_until_it_closes() {
        let mut story = Story::begin().await;
        let day =
            BucketKey { start: START.cast_signed() / 86_400 * 86_400, length: 86_400, ..story.key(0, 0) };
        let time = micros(story.clock.now());
        let readings = Readings::from([("apr".to_owned(), 1.0)]);
        let sample = NewSample { bucket: day.clone(), time, readings };
        story.batcher.record("t".into(), vec![sample]).await.unwrap();
        let end: SystemTime = day.end();
        // Others close and old samples are pruned meanwhile.
        story.hand.set(end + Duration::from_secs(LATENESS - 1));
        story.play(Step::Sample(1, -7_200, 1.0)).await;
        story.play(Step::Restart(0)).await;
        story.play(Step::Close).await;
        let found = story.batcher.buckets(&"t".into(), &"c".into(), ENTITIES[0], (None, None)).await.unwrap();
        assert_eq!((found.len(), found[0].0.length, found[0].0.samples), (1, 86_400, 1));
    }
}
