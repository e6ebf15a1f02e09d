//! The dry run of a flush: the same folding, order and limits, without sending or changing anything.

use std::{collections::BTreeMap, sync::Arc, time::UNIX_EPOCH};

use crate::{
    batcher::Batcher,
    buckets::Summary,
    change::Change,
    codec::Record,
    document::{Key, Priority},
    ledger,
    queue::{Entry, Limits, fits},
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
        let (high, normal) = documents.into_iter().partition(|document| document.priority == Priority::High);
        plan.add(high, &limits);
        plan.add(normal, &limits);
        plan.cost_usd = ledger::price(plan.documents + plan.ledger_documents, shared.options.price);
        plan.naive_cost_usd = ledger::price(plan.writes, shared.options.price);
        plan
    }

    /// Returns the documents in the order they would be sent.
    fn planned(&self, tenant: &str, close_open_buckets: bool) -> Vec<Planned> {
        let moment = self.now().checked_sub(self.shared.options.lateness).unwrap_or(UNIX_EPOCH);
        let state = self.shared.state.lock();
        let mut planned = Vec::new();
        let mut places: BTreeMap<Key, usize> = BTreeMap::new();
        for entry in state.queue.waiting(tenant) {
            places.insert(entry.key.clone(), planned.len());
            planned.push(Planned {
                collection: Arc::clone(&entry.key.collection),
                priority: entry.priority,
                once: self.shared.is_once(&entry),
                bytes: entry.bytes,
                writes: entry.weight.naive(),
            });
        }
        for (key, open) in state.buckets.due(moment, close_open_buckets.then_some(tenant)) {
            if *key.tenant != *tenant {
                continue;
            }
            let change = Change::set(Summary::of(&key, &open.samples).to_fields());
            let record = Record {
                key: key.document(),
                change,
                priority: Priority::Normal,
                accepted: 0,
                samples: open.fresh,
            };
            let entry = Entry::from(crate::accept::accepted(0, record, 0));
            match places.get(&entry.key).and_then(|place| planned.get_mut(*place)) {
                // The bucket's document already waits: the newer state replaces it.
                Some(waiting) => {
                    waiting.bytes = entry.bytes;
                    waiting.once = self.shared.is_once(&entry);
                    waiting.writes += open.fresh;
                }
                None => planned.push(Planned {
                    collection: Arc::clone(&entry.key.collection),
                    priority: Priority::Normal,
                    once: self.shared.is_once(&entry),
                    bytes: entry.bytes,
                    writes: open.fresh,
                }),
            }
        }
        planned
    }
}
