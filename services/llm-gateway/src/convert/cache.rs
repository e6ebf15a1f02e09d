//! What an administrator sees of the cache.

use std::time::Duration;

use caching::{Outlook, Resize, Why};
use contracts::llm as wire;
use rpc::time::{duration_to_proto, to_proto};

use crate::{cache::Exact, meter::Totals, tenant::TenantUsage};

/// Writes what the cache holds and what the gateway did.
pub(crate) fn stats(
    cache: &Exact,
    totals: Totals,
    tenants: Vec<TenantUsage>,
    semantic: wire::SemanticStats,
) -> wire::GetStatsResponse {
    let (stats, outlook) = (cache.stats(), cache.outlook());
    wire::GetStatsResponse {
        entries: stats.entries,
        capacity: stats.capacity,
        ttl: Some(duration_to_proto(cache.ttl())),
        served: Some(served(totals)),
        hit_ratio: totals.hit_ratio(),
        evictions: stats.evictions,
        expirations: stats.expirations,
        refused: cache.refused(),
        cost_usd: totals.cost_usd,
        saved_usd: totals.saved_usd,
        bytes: stats.bytes,
        max_bytes: cache.max_bytes(),
        resizes: stats.resizes,
        last_resize: outlook.last.map(resize),
        forecast: Some(forecast(outlook)),
        tenants: tenants.into_iter().map(tenant).collect(),
        semantic: Some(semantic),
    }
}

fn tenant(usage: TenantUsage) -> wire::TenantUsage {
    wire::TenantUsage {
        tenant: usage.tenant.to_string(),
        calls: usage.calls,
        tokens: usage.tokens,
        usd_today: usage.usd_today,
        usd_per_day: usage.usd_per_day,
        refused: usage.refused,
        warned: usage.is_warned,
    }
}

/// Writes a size before and after.
pub(crate) fn resized(previous_capacity: u64, capacity: u64) -> wire::ResizeResponse {
    wire::ResizeResponse { previous_capacity, capacity }
}

fn served(totals: Totals) -> wire::ServedCounts {
    wire::ServedCounts {
        pattern: totals.pattern,
        exact: totals.exact,
        semantic: totals.semantic,
        coalesced: totals.coalesced,
        merged: totals.merged,
        upstream: totals.upstream,
        upstream_calls: totals.upstream_calls,
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
        hit_ratio_per_second_longer: forecast.per_second_longer,
        hit_ratio_per_second_shorter: forecast.per_second_shorter,
        sampling_rate: forecast.sampling,
        reads: forecast.curve.reads,
        lost,
        auto_resize: auto,
    }
}

fn resize(resize: Resize) -> wire::CacheResize {
    let predicted = match resize.change.why {
        Why::Asked => None,
        Why::Gain(before, after) | Why::Spare(before, after) => Some((before, after)),
    };
    wire::CacheResize {
        time: Some(to_proto(resize.at)),
        previous_capacity: resize.from,
        capacity: resize.change.to,
        reason: resize.change.why.as_str().into(),
        hit_ratio_before: predicted.map(|(before, _)| before),
        hit_ratio_after: predicted.map(|(_, after)| after),
    }
}
