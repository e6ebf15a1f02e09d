//! Requests of the monitor's contract, each bad field by its name.

use std::time::Duration;

use contracts::monitor as wire;
use rpc::{Fault, time};

use crate::trace::{Filter, TraceId};

/// Most entries of a list when the caller names no number.
pub(crate) const DEFAULT_LIMIT: u32 = 100;

/// Most entries of a list.
pub(crate) const MAX_LIMIT: u32 = 1_000;

const INTERVAL: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);

pub(crate) fn window(window: Option<&prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    let Some(window) = window else { return Ok(None) };
    let window = time::duration_from_proto(window, "window")?;
    if window.is_zero() {
        return Err(Fault::invalid("window", "must be above zero"));
    }
    Ok(Some(window))
}

pub(crate) fn interval(interval: Option<&prost_types::Duration>) -> Result<Duration, Fault> {
    let Some(interval) = interval else { return Ok(INTERVAL) };
    let interval = time::duration_from_proto(interval, "interval")?;
    if (SHORTEST..=LONGEST).contains(&interval) {
        return Ok(interval);
    }
    Err(Fault::invalid("interval", "must be 1 s to 1 h"))
}

pub(crate) fn filter(request: wire::ListTracesRequest) -> Result<Filter, Fault> {
    let min_duration =
        request.min_duration.map(|shortest| time::duration_from_proto(&shortest, "min_duration"));
    Ok(Filter {
        limit: limit(request.limit)?,
        min_duration: min_duration.transpose()?.unwrap_or_default(),
        service: request.service,
        root_name: request.root_name,
        failed_only: request.failed_only,
    })
}

pub(crate) fn limit(limit: u32) -> Result<usize, Fault> {
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
    if limit > MAX_LIMIT {
        return Err(Fault::invalid("limit", "must be at most 1000"));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

pub(crate) fn trace_id(text: &str) -> Result<TraceId, Fault> {
    TraceId::from_hex(text)
        .ok_or_else(|| Fault::invalid("trace_id", "must be 32 hexadecimal digits, not all zero"))
}
