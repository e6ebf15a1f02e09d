//! What the monitor knows: series, traces, and how much came in.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use clock::Clock;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    config::Config,
    series::{self, point::Point, point::Source},
    slow::Operation,
    target::{self, Report},
    trace::{self, Filter, Listing, NewSpan, Trace, TraceId},
};

/// Takes telemetry in and answers questions about it; every answer is of one moment.
#[derive(Debug)]
pub struct Observer {
    clock: Clock,
    started: SystemTime,
    series: Mutex<series::Store>,
    traces: Mutex<trace::Store>,
    points: AtomicU64,
    logs: AtomicU64,
    arrivals: watch::Sender<u64>,
}

/// The six targets at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The targets.
    pub targets: Vec<Report>,
    /// The agent clock's now.
    pub now: SystemTime,
}

/// How much came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Intake {
    /// Series held.
    pub series: u64,
    /// Points taken in.
    pub points: u64,
    /// Points refused: beyond the cap on series, or of another kind than before.
    pub points_refused: u64,
    /// Spans taken in.
    pub spans: u64,
    /// Spans refused: their trace was full.
    pub spans_refused: u64,
    /// Log records accepted; they are counted and not kept.
    pub logs: u64,
}

/// What of an export was refused, and why the last of it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many points or spans.
    pub count: u64,
    /// Why.
    pub reason: String,
}

impl Observer {
    /// Returns an observer that knows nothing; the run begins now.
    #[must_use]
    pub fn new(config: &Config, clock: Clock) -> Self {
        let started = clock.now();
        let series =
            series::Limits { series: config.monitor_max_series, retention: config.monitor_retention };
        let traces = trace::Limits {
            traces: config.monitor_max_traces,
            spans: config.monitor_max_spans,
            spans_per_trace: config.monitor_max_trace_spans,
        };
        Self {
            series: Mutex::new(series::Store::new(series, started, clock.is_manual())),
            traces: Mutex::new(trace::Store::new(traces)),
            points: AtomicU64::new(0),
            logs: AtomicU64::new(0),
            arrivals: watch::Sender::new(0),
            clock,
            started,
        }
    }

    /// Takes in what one process measured.
    pub fn take_points(&self, source: Source, points: Vec<Point>) -> Refused {
        let (mut taken, mut refused) = (0, Refused::default());
        let mut store = self.series.lock();
        let arrival = store.arrive(source, self.clock.now());
        for point in points {
            match store.record(&arrival, point) {
                Ok(()) => taken += 1,
                Err(reason) => refused.add(1, &reason.to_string()),
            }
        }
        drop(store);
        self.points.fetch_add(taken, Ordering::Relaxed);
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
        refused
    }

    /// Takes in spans.
    pub fn take_spans(&self, spans: Vec<NewSpan>) -> Refused {
        let mut refused = Refused::default();
        let mut store = self.traces.lock();
        for span in spans {
            if let Err(reason) = store.insert(span) {
                refused.add(1, &reason.to_string());
            }
        }
        refused
    }

    /// Counts log records.
    pub fn take_logs(&self, records: u64) {
        self.logs.fetch_add(records, Ordering::Relaxed);
    }

    /// Judges the six targets, over `window` instead of each target's own if one is given.
    #[must_use]
    pub fn targets(&self, window: Option<Duration>) -> Assessment {
        let now = self.clock.now();
        let targets = target::judge(&self.series.lock(), self.started, now, window);
        Assessment { targets, now }
    }

    /// Lists traces, newest first.
    #[must_use]
    pub fn traces(&self, filter: &Filter) -> Listing {
        self.traces.lock().list(filter)
    }

    /// Returns one trace; `None` if it is not held.
    #[must_use]
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        self.traces.lock().get(id)
    }

    /// Lists slow operations of `service` (empty: all), slowest relative to their threshold first.
    #[must_use]
    pub fn slow(&self, service: &str, limit: usize) -> Vec<Operation> {
        self.traces.lock().slow(service, limit)
    }

    /// Returns how much came in.
    #[must_use]
    pub fn intake(&self) -> Intake {
        let (series, points_refused) = {
            let store = self.series.lock();
            (store.held() as u64, store.refused())
        };
        let (spans, spans_refused) = {
            let store = self.traces.lock();
            (store.taken(), store.refused())
        };
        let points = self.points.load(Ordering::Relaxed);
        Intake {
            series,
            points,
            points_refused,
            spans,
            spans_refused,
            logs: self.logs.load(Ordering::Relaxed),
        }
    }

    /// Returns a receiver that changes whenever points arrived.
    #[must_use]
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

impl Refused {
    /// Counts `count` more for `reason`.
    pub fn add(&mut self, count: u64, reason: &str) {
        if count > 0 {
            self.count += count;
            reason.clone_into(&mut self.reason);
        }
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.add(other.count, &other.reason);
    }
}
