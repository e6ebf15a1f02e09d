//! Statistics, as they are shown.

use std::time::Duration;

use caching::{Outlook, Resize};
use contracts::memory as wire;
use rpc::time::{duration_to_proto, to_proto};

use crate::{answers::AnswersStats, engine::Stats};

/// Writes statistics; what concerns all tenants only for an administrator.
pub(crate) fn stats(stats: Stats, is_admin: bool) -> wire::GetStatsResponse {
    let named = |(name, value): (&'static str, _)| (name.to_owned(), value);
    let costs = stats.costs.into_iter().map(|(name, cost)| (name.to_owned(), cost));
    wire::GetStatsResponse {
        memories: stats.memories,
        categories: stats.categories.into_iter().collect(),
        dimensions: u32::try_from(stats.dimensions).unwrap_or(u32::MAX),
        embedder: stats.embedder,
        store_bytes: stats.store_bytes,
        cache_hits: stats.cache_hits,
        cache_misses: stats.cache_misses,
        generation: stats.generation,
        plans: stats.plans.into_iter().map(named).collect(),
        query_cache: is_admin.then(|| query_cache(stats.answers)),
        costs: costs.filter(|_| is_admin).collect(),
    }
}

fn query_cache(answers: AnswersStats) -> wire::QueryCacheStats {
    let AnswersStats { stats, outlook, ttls: (ttl, rare_ttl) } = answers;
    wire::QueryCacheStats {
        entries: stats.entries,
        capacity: stats.capacity,
        bytes: stats.bytes,
        hits: stats.hits,
        misses: stats.misses,
        evictions: stats.evictions,
        expirations: stats.expirations,
        ttl: Some(duration_to_proto(ttl)),
        rare_ttl: Some(duration_to_proto(rare_ttl)),
        resizes: stats.resizes,
        last_resize: outlook.last.map(resize),
        forecast: Some(forecast(outlook)),
    }
}

fn forecast(outlook: Outlook) -> wire::CacheForecast {
    let Outlook { forecast, lost, auto, .. } = outlook;
    let size = |point: &caching::Point| wire::CacheSizePoint { size: point.size, hit_ratio: point.hit_ratio };
    let ttl = |(ttl, hit_ratio): &(Duration, f64)| wire::CacheTtlPoint {
        ttl: Some(duration_to_proto(*ttl)),
        hit_ratio: *hit_ratio,
    };
    wire::CacheForecast {
        curve: forecast.curve.points.iter().map(size).collect(),
        hit_ratio_per_entry: forecast.per_entry,
        ttls: forecast.ttls.iter().map(ttl).collect(),
        sampling_rate: forecast.sampling,
        reads: forecast.curve.reads,
        lost,
        auto_resize: auto,
    }
}

fn resize(resize: Resize) -> wire::CacheResize {
    wire::CacheResize {
        time: Some(to_proto(resize.at)),
        previous_capacity: resize.from,
        capacity: resize.change.to,
        reason: resize.change.why.as_str().into(),
    }
}
