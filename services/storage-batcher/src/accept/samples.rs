//! Samples: how they come into buckets, and how buckets become writes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Draft, NewSample, micros};
use crate::{
    aggregate::{
        pack::{self, Closing},
        rules::{Rule, WINDOW_SECONDS},
        watermark::{MAX_AGE, MAX_AHEAD},
    },
    batcher::{Shared, State},
    buckets::{BucketKey, Open, encode_readings, encode_samples},
    codec::Record,
    document::Priority,
    error::Error,
};

impl Draft {
    /// Accepts `samples`, all or none.
    pub(super) async fn record(
        &mut self,
        shared: &Arc<Shared>,
        samples: Vec<NewSample>,
    ) -> Result<(), Error> {
        let encoded: Vec<_> = samples.iter().map(|sample| encode_readings(&sample.readings)).collect();
        let bytes = encoded.iter().map(|bytes| bytes.len() as u64).sum();
        self.reserve(encoded.len(), bytes, &shared.options)?;
        let reopened = self.load_closed(shared, &samples).await?;
        self.reopened.extend(reopened);
        self.settle(shared, &samples);
        for (sample, bytes) in samples.into_iter().zip(encoded) {
            let NewSample { bucket, time, readings } = sample;
            let row = (Arc::clone(&bucket.tenant), Arc::clone(&bucket.collection));
            self.group.deltas.accept(row, 1);
            self.samples.push((bucket.clone(), time, readings, bytes.len() as u64));
            self.group.samples.push((bucket, time, bytes));
        }
        Ok(())
    }

    /// Gives the entities of `samples` their places in shared documents, where their rule has such.
    fn settle(&mut self, shared: &Shared, samples: &[NewSample]) {
        let rules = &shared.options.rules;
        let mut state = shared.state.lock();
        let State { places, ledger, .. } = &mut *state;
        for NewSample { bucket, .. } in samples {
            let is_new = !ledger.knows(&bucket.tenant, &bucket.collection);
            places.settle(bucket, rules, is_new, next_start(rules.of(&bucket.collection), self.now));
        }
        self.group.places.extend(places.take_unsaved());
    }

    /// Reads what is kept of buckets that are not open: a late sample must find the others.
    async fn load_closed(
        &self,
        shared: &Arc<Shared>,
        samples: &[NewSample],
    ) -> Result<BTreeMap<BucketKey, Open>, Error> {
        let mut closed: Vec<BucketKey> = {
            let state = shared.state.lock();
            let known = |key: &BucketKey| state.buckets.is_open(key) || self.reopened.contains_key(key);
            samples
                .iter()
                .filter(|sample| !known(&sample.bucket))
                .map(|sample| sample.bucket.clone())
                .collect()
        };
        closed.sort();
        closed.dedup();
        if closed.is_empty() {
            return Ok(BTreeMap::new());
        }
        let store = shared.store.clone();
        let load = move || {
            let open = |key: BucketKey| {
                let samples = store.samples(&key)?;
                Ok((key, Open { samples, ..Open::default() }))
            };
            closed.into_iter().map(open).collect::<Result<BTreeMap<_, _>, crate::store::Error>>()
        };
        let loaded = shared.telemetry.spawn_blocking(load).await.map_err(|_| Error::NotReady)?;
        Ok(loaded?)
    }
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
        }
    }
}

/// Turns due buckets into writes of their documents.
pub(super) async fn close(shared: &Shared, tenant: Option<&str>, pruned: &mut i64) -> Result<(), Error> {
    let mut draft = Draft::new(shared);
    let closings = {
        let state = shared.state.lock();
        pack::closings(state.buckets.due(draft.now, tenant), &shared.options.rules, &state.places)
    };
    for closing in closings {
        let encoded = closing.buckets.iter().map(|(key, samples)| (key.clone(), encode_samples(samples)));
        draft.group.closed.extend(encoded);
        let record = Record { accepted: micros(draft.now), ..Record::from(closing) };
        draft.append(record.encode(), record);
    }
    let oldest = oldest_start(shared, draft.now);
    if oldest > *pruned {
        draft.group.prune_before = Some(oldest);
    }
    if draft.group.closed.is_empty() && draft.group.prune_before.is_none() {
        return Ok(());
    }
    let group = Arc::new(draft.group);
    shared.store.append(Arc::clone(&group)).await?;
    *pruned = oldest.max(*pruned);
    let mut state = shared.state.lock();
    for (key, _) in &group.closed {
        state.buckets.close(key);
    }
    for write in draft.writes {
        state.queue.push(write);
    }
    shared.measure(&state);
    drop(state);
    shared.wake();
    Ok(())
}

/// Returns the start of the oldest window that a sample accepted at `now` may lie in, on a quarter of an hour.
fn oldest_start(shared: &Shared, now: SystemTime) -> i64 {
    let oldest = micros(now.checked_sub(MAX_AGE).unwrap_or(UNIX_EPOCH)).div_euclid(1_000_000);
    oldest - oldest.rem_euclid(WINDOW_SECONDS) - shared.options.rules.longest_window()
}

/// Returns the start of the first window of `rule` that no sample accepted until `now` can lie in.
fn next_start(rule: &Rule, now: SystemTime) -> i64 {
    rule.start_of(micros(now + MAX_AHEAD)) + rule.window
}
