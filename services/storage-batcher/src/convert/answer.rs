//! What callers are told.

use std::sync::Arc;

use contracts::storage as wire;

use super::value::{fields_to_wire, timestamp};
use crate::{
    aggregate::figure::Aggregate,
    buckets::Summary,
    change::Change,
    dead_letter::Letter,
    document::micros,
    ledger::{Costs, Counts, price},
    plan::{Plan, PlannedBatch},
    read::{Listed, Seen},
    status::{Recovery, Status},
    waiters::Report,
};

/// Most paths of a dead letter that are told.
const MAX_PATHS: usize = 100;

/// Returns a document.
pub(crate) fn document(collection: &str, seen: Seen) -> wire::Document {
    wire::Document {
        collection: collection.to_owned(),
        document_id: seen.id.to_string(),
        fields: fields_to_wire(seen.fields),
        pending: seen.pending,
    }
}

/// Returns a page of documents.
pub(crate) fn listed(collection: &str, listed: Listed) -> wire::ListResponse {
    wire::ListResponse {
        documents: listed.documents.into_iter().map(|seen| document(collection, seen)).collect(),
        next_page_token: listed.next.map_or_else(String::new, |id| id.to_string()),
    }
}

/// Returns what a flush did.
pub(crate) fn flushed(report: Report) -> wire::FlushResponse {
    let refused = report.refused.into_iter().map(|(key, reason)| wire::RefusedDocument {
        collection: key.collection.to_string(),
        document_id: key.id.to_string(),
        reason,
    });
    wire::FlushResponse {
        documents: report.documents,
        batches: report.batches,
        folded_writes: report.folded_writes,
        refused: refused.collect(),
    }
}

/// Returns what a flush would do.
pub(crate) fn planned(plan: Plan) -> wire::PlanFlushResponse {
    let batch = |batch: PlannedBatch| wire::PlannedBatch {
        documents: batch.documents.into_iter().map(|(name, count)| (name.to_string(), count)).collect(),
        bytes: batch.bytes as u64,
    };
    wire::PlanFlushResponse {
        batches: plan.batches.into_iter().map(batch).collect(),
        documents: plan.documents,
        writes: plan.writes,
        cost_usd: plan.cost_usd,
        naive_cost_usd: plan.naive_cost_usd,
        ledger_documents: plan.ledger_documents,
        held_documents: plan.held_documents,
        held_until: plan.held_until.map(|until| timestamp(micros(until))),
    }
}

/// Returns one bucket.
pub(crate) fn bucket((summary, open): (Summary, bool)) -> wire::Bucket {
    let aggregate = |one: Aggregate| wire::Aggregate {
        min: one.min,
        max: one.max,
        avg: one.avg,
        last: one.last,
        sum: one.sum,
        count: one.count,
        time_weighted_mean: one.time_weighted_mean,
    };
    wire::Bucket {
        entity: summary.entity.to_string(),
        start_time: Some(prost_types::Timestamp { seconds: summary.start, nanos: 0 }),
        length: Some(prost_types::Duration { seconds: summary.length, nanos: 0 }),
        aggregates: summary.aggregates.into_iter().map(|(name, one)| (name, aggregate(one))).collect(),
        open,
    }
}

/// Returns the ledger, priced in USD for 100,000 documents.
pub(crate) fn costs((costs, usd_per_100k): (Costs, f64)) -> wire::GetCostsResponse {
    let total = costs.total;
    let cost = |documents| price(documents, usd_per_100k);
    let saved = |counts: &Counts| wire::SavedCosts {
        folding_usd: cost(counts.saved_by_folding),
        aggregation_usd: cost(counts.saved_by_aggregation),
        packing_usd: cost(counts.saved_by_packing),
        unchanged_usd: cost(counts.unchanged),
    };
    let collection = |(name, counts): (Arc<str>, Counts)| wire::CollectionCosts {
        collection: name.to_string(),
        naive_documents: counts.naive(),
        written_documents: counts.written,
        cost_usd: cost(counts.written),
        saved: Some(saved(&counts)),
        waiting: counts.waiting,
    };
    let caller = |(name, counts): (Arc<str>, Counts)| wire::CallerCosts {
        caller: name.to_string(),
        naive_documents: counts.naive(),
        written_documents: counts.written,
        cost_usd: cost(counts.written),
        saved: Some(saved(&counts)),
        waiting: counts.waiting,
    };
    wire::GetCostsResponse {
        naive_documents: total.naive(),
        written_documents: total.written,
        saved_by_folding: total.saved_by_folding,
        saved_by_aggregation: total.saved_by_aggregation,
        waiting: total.waiting,
        cost_usd: cost(total.written),
        naive_cost_usd: cost(total.naive()),
        ledger_documents: total.ledgers,
        saved_as_unchanged: total.unchanged,
        saved_by_packing: total.saved_by_packing,
        documents_per_minute: costs.documents_per_minute,
        saved: Some(saved(&total)),
        collections: costs.collections.into_iter().map(collection).collect(),
        callers: costs.callers.into_iter().map(caller).collect(),
    }
}

/// Returns how the service is.
pub(crate) fn status(status: Status) -> wire::GetStatusResponse {
    let journal = wire::JournalStatus {
        writes: status.writes,
        bytes: status.bytes,
        max_writes: status.max_writes,
        max_bytes: status.max_bytes,
        dead_letters: status.dead_letters,
        dead_letter_bytes: status.dead_letter_bytes,
        refusing: status.refusing.map_or_else(String::new, |reason| reason.word().to_owned()),
    };
    let held = status.held;
    let budget = status.budget.map(|standing| wire::WriteBudget {
        documents_per_minute: standing.limits.per_minute,
        documents_per_day: standing.limits.per_day,
        available_documents: standing.available,
        overdrawn_documents: standing.debt,
        overdrawn_in_all: standing.overdrawn,
        held_documents: held.documents,
        held_until: held.until.map(|until| timestamp(micros(until))),
    });
    let cache = status.cache.map(|(stats, limits)| wire::ReadCacheStatus {
        entries: stats.entries,
        bytes: stats.bytes,
        max_entries: limits.entries,
        max_bytes: limits.bytes,
        ttl: Some(rpc::time::duration_to_proto(limits.ttl)),
        hits: stats.hits,
        misses: stats.misses,
        saved_documents: stats.saved,
        saved_usd: price(stats.saved, status.read_price),
    });
    let flush = wire::FlushStatus {
        sink: status.sink.to_owned(),
        documents: status.documents,
        concurrency: status.concurrency,
        batches: status.batches,
        ramp_documents_per_second: status.ramp,
    };
    wire::GetStatusResponse {
        journal: Some(journal),
        recovery: Some(recovery(status.recovery)),
        flush: Some(flush),
        budget,
        cache,
    }
}

fn recovery(found: Recovery) -> wire::RecoveryReport {
    wire::RecoveryReport {
        writes: found.writes,
        bytes: found.bytes,
        documents: found.documents,
        resumed: found.resumed,
        open_buckets: found.open_buckets,
        samples: found.samples,
        dead_letters: found.dead_letters,
        damaged: found.damaged.found,
        damaged_bytes: found.damaged.bytes,
        damaged_in_all: found.damaged.in_all,
        oldest_write: found.oldest.map(timestamp),
        took: Some(rpc::time::duration_to_proto(found.took)),
    }
}

/// Returns a page of dead letters.
pub(crate) fn letters(letters: &[Arc<Letter>], more: bool) -> wire::ListDeadLettersResponse {
    let last = letters.last().filter(|_| more).map(|letter| letter.sequence());
    wire::ListDeadLettersResponse {
        letters: letters.iter().map(|one| letter(one)).collect(),
        next_after_sequence: last.unwrap_or_default(),
    }
}

fn letter(letter: &Letter) -> wire::DeadLetter {
    let change = letter.change();
    let mode = match &*change {
        Change::Replace(_) => wire::WriteMode::Set,
        Change::Patch(_) => wire::WriteMode::Merge,
        Change::Delete => wire::WriteMode::Delete,
    };
    wire::DeadLetter {
        sequence: letter.sequence(),
        collection: letter.key.collection.to_string(),
        document_id: letter.key.id.to_string(),
        mode: mode.into(),
        field_paths: change.paths(MAX_PATHS),
        writes: letter.records.len() as u64,
        bytes: letter.bytes,
        reason: letter.reason.clone(),
        accept_time: Some(timestamp(letter.accepted)),
        refuse_time: Some(timestamp(letter.refused)),
    }
}
