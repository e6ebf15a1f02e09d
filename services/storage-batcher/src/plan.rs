//! The dry run of a flush: the same folding, order and limits, without sending or changing anything.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use crate::{
    aggregate::pack,
    batcher::Batcher,
    codec::Record,
    document::{Key, Priority},
    ledger,
    queue::{Accepted, Entry, Limits, fits},
};

/// What a flush would send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The requests to the sink, in order.
    pub batches: Vec<PlannedBatch>,
    /// Documents in all.
    pub documents: u64,
    /// Ledger documents beside them.
    pub ledger_documents: u64,
    /// Writes and samples that wait, before folding.
    pub writes: u64,
    /// What all these documents would cost, in USD.
    pub cost_usd: f64,
    /// What one document per write would have cost, in USD.
    pub naive_cost_usd: f64,
    /// Documents among them that the write budget would hold back.
    pub held_documents: u64,
    /// When the last of those may leave, on the agent clock, if nothing new comes before; `None` if there are none.
    pub held_until: Option<SystemTime>,
}

/// One request to the sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedBatch {
    /// Documents by collection.
    pub documents: BTreeMap<Arc<str>, u64>,
    /// Bytes, by estimate.
    pub bytes: usize,
}

/// A document of the plan.
struct Planned {
    collection: Arc<str>,
    priority: Priority,
    /// Whether it is sent with a ledger document.
    once: bool,
    bytes: usize,
    writes: u64,
}

impl Plan {
    /// Adds the requests that bring `documents` of one priority to the sink.
    fn add(&mut self, documents: Vec<Planned>, limits: &Limits) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for document in documents {
            if !fits(limits, batch.len(), bytes, document.bytes) {
                self.send(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += document.bytes;
            batch.push(document);
        }
        self.send(batch);
    }

    /// Adds one request for those of `batch` that may come twice and one for those that must not.
    fn send(&mut self, batch: Vec<Planned>) {
        let (once, plain): (Vec<_>, Vec<_>) = batch.into_iter().partition(|document| document.once);
        self.ledger_documents += u64::from(!once.is_empty());
        for documents in [plain, once].into_iter().filter(|documents| !documents.is_empty()) {
            let mut request = PlannedBatch::default();
            for document in documents {
                *request.documents.entry(document.collection).or_default() += 1;
                request.bytes += document.bytes;
                self.documents += 1;
                self.writes += document.writes;
            }
            self.batches.push(request);
        }
    }
}

impl Batcher {
    /// Returns what a flush of `tenant` would send now. What is already on its way is not counted.
    #[must_use]
    pub fn plan(&self, tenant: &str, close_open_buckets: bool) -> Plan {
        let shared = &self.shared;
        let documents = self.planned(tenant, close_open_buckets);
        let limits = *shared.state.lock().queue.limits();
        let mut plan = Plan::default();
        let (high, normal): (Vec<_>, Vec<_>) =
            documents.into_iter().partition(|document| document.priority == Priority::High);
        (plan.held_documents, plan.held_until) = self.held_of(tenant, normal.len() as u64);
        plan.add(high, &limits);
        plan.add(normal, &limits);
        plan.cost_usd = ledger::price(plan.documents + plan.ledger_documents, shared.options.price);
        plan.naive_cost_usd = ledger::price(plan.writes, shared.options.price);
        plan
    }

    /// Returns how many of the `planned` documents of `tenant` with normal priority the budget would hold back, and until when. All tenants
    /// share it, in the order of their first writes; what is not ready yet comes last.
    fn held_of(&self, tenant: &str, planned: u64) -> (u64, Option<SystemTime>) {
        let (mut places, ready) = self.shared.state.lock().queue.places(tenant);
        let behind = planned.saturating_sub(places.len() as u64);
        places.extend(ready..ready + behind);
        let all = usize::try_from(ready + behind).unwrap_or(usize::MAX);
        let granted = self.shared.grant(all).now;
        let held = places.iter().filter(|place| **place >= granted).count() as u64;
        let last = places.last().filter(|_| held > 0);
        (held, last.map(|last| self.shared.all_by(last + 1)))
    }

    /// Returns the documents in the order they would be sent.
    fn planned(&self, tenant: &str, close_open_buckets: bool) -> Vec<Planned> {
        let (mut entries, due) = {
            let state = self.shared.state.lock();
            let mut due = state.buckets.due(self.now(), close_open_buckets.then_some(tenant));
            due.retain(|closed| *closed.key.tenant == *tenant);
            (state.queue.waiting(tenant), state.places.placed(due))
        };
        let waiting: BTreeMap<Key, usize> =
            entries.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
        for closing in pack::closings(due, &self.shared.options.rules) {
            let place = waiting.get(&closing.key).copied();
            let write = Accepted::of(0, Record::from(closing), 0);
            let apart = match place.and_then(|place| entries.get_mut(place)) {
                // A document that waits already takes it in.
                Some(entry) => Arc::make_mut(entry).fold(write).err().map(|apart| *apart),
                None => Some(write),
            };
            entries.extend(apart.map(|write| Arc::new(Entry::from(write))));
        }
        let planned = |entry: &Arc<Entry>| Planned {
            collection: Arc::clone(&entry.key.collection),
            priority: entry.priority,
            once: self.shared.is_once(entry),
            bytes: entry.bytes,
            writes: entry.weight.naive(),
        };
        entries.iter().map(planned).collect()
    }
}
