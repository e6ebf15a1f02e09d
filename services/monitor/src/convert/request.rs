//! Requests of the monitor's contract, each bad field by its name.

use std::time::Duration;

use contracts::monitor as wire;
use rpc::{Check, Fault};

use crate::trace::{Filter, TraceId};

/// Most entries of a list when the caller names no number.
pub(crate) const DEFAULT_LIMIT: u32 = 100;

/// Most entries of a list.
pub(crate) const MAX_LIMIT: u32 = 1_000;

/// Longest name of a service or a span to filter by, in bytes: longer ones are cut when they come in.
const NAME_BYTES: usize = 1_024;

const INTERVAL: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);

/// How targets are watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Judged over this, instead of each target's own.
    pub(crate) window: Option<Duration>,
    /// Longest silence.
    pub(crate) interval: Duration,
}

pub(crate) fn window(request: &wire::GetTargetsRequest) -> Result<Option<Duration>, Fault> {
    let mut check = Check::default();
    let window = check.positive("window", request.window.as_ref());
    check.end(window)
}

pub(crate) fn watch(request: &wire::WatchTargetsRequest) -> Result<Watch, Fault> {
    let mut check = Check::default();
    let window = check.positive("window", request.window.as_ref());
    let interval = check.duration("interval", request.interval.as_ref());
    let fits = interval.is_none_or(|interval| (SHORTEST..=LONGEST).contains(&interval));
    check.require("interval", fits, "must be 1 s to 1 h");
    check.end(Watch { window, interval: interval.unwrap_or(INTERVAL) })
}

pub(crate) fn filter(request: wire::ListTracesRequest) -> Result<Filter, Fault> {
    let mut check = Check::default();
    check.text("service", &request.service, 0..=NAME_BYTES);
    check.text("root_name", &request.root_name, 0..=NAME_BYTES);
    let min_duration = check.duration("min_duration", request.min_duration.as_ref());
    let limit = check.limit("limit", request.limit, DEFAULT_LIMIT, MAX_LIMIT);
    check.end(Filter {
        limit,
        min_duration: min_duration.unwrap_or_default(),
        service: request.service,
        root_name: request.root_name,
        failed_only: request.failed_only,
    })
}

/// Reads whose slow operations are wanted (empty: everyone's), and how many.
pub(crate) fn slow(request: wire::ListSlowOperationsRequest) -> Result<(String, usize), Fault> {
    let mut check = Check::default();
    check.text("service", &request.service, 0..=NAME_BYTES);
    let limit = check.limit("limit", request.limit, DEFAULT_LIMIT, MAX_LIMIT);
    check.end((request.service, limit))
}

pub(crate) fn trace_id(text: &str) -> Result<TraceId, Fault> {
    TraceId::from_hex(text)
        .ok_or_else(|| Fault::invalid("trace_id", "must be 32 hexadecimal digits, not all zero"))
}
