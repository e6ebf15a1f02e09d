//! Every trace held.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    assembly::{Assembly, Summary, Trace},
    span::{NewSpan, Span, TraceId},
};
use crate::slow::Operation;

/// Most different names, services and attribute keys shared between spans.
const SHARED_TEXTS: usize = 4_096;

/// Bounds of a store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most traces.
    pub traces: usize,
    /// Most spans of all traces.
    pub spans: usize,
    /// Most spans of one trace.
    pub spans_per_trace: usize,
}

/// Why a span was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its trace has as many spans as allowed.
    #[error("more spans in the trace than the monitor keeps")]
    TooManySpans,
}

/// Which traces are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only traces with a span of this service; empty: all.
    pub service: String,
    /// Only traces whose root has this name; empty: all.
    pub root_name: String,
    /// Only traces at least this long.
    pub min_duration: Duration,
    /// Only traces with a failed span.
    pub failed_only: bool,
    /// Most traces.
    pub limit: usize,
}

/// Traces, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The traces.
    pub traces: Vec<Summary>,
    /// Traces held.
    pub held: u64,
    /// Traces dropped to make room.
    pub dropped: u64,
}

/// Holds the traces.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    traces: HashMap<TraceId, Assembly>,
    /// Ids in the order in which they first arrived.
    arrived: VecDeque<TraceId>,
    spans: usize,
    taken: u64,
    refused: u64,
    dropped: u64,
    texts: HashSet<Arc<str>>,
}

impl Store {
    /// Returns an empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            arrived: VecDeque::new(),
            spans: 0,
            taken: 0,
            refused: 0,
            dropped: 0,
            texts: HashSet::new(),
        }
    }

    /// Takes in one span; one that is held already is left as it is.
    ///
    /// # Errors
    /// The span's trace is full.
    pub fn insert(&mut self, span: NewSpan) -> Result<(), Refusal> {
        let id = span.trace;
        if let Some(trace) = self.traces.get(&id) {
            if trace.holds(span.id) {
                return Ok(());
            }
            if trace.len() >= self.limits.spans_per_trace {
                self.refused += 1;
                return Err(Refusal::TooManySpans);
            }
        } else {
            self.arrived.push_back(id);
            self.traces.insert(id, Assembly::new(span.start));
        }
        let span = self.shared(span);
        if let Some(trace) = self.traces.get_mut(&id) {
            trace.insert(span);
        }
        self.spans += 1;
        self.taken += 1;
        self.make_room(id);
        Ok(())
    }

    /// Lists the traces `filter` accepts, newest first.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Listing {
        let mut found: Vec<(&TraceId, &Assembly)> =
            self.traces.iter().filter(|(_, trace)| filter.accepts(trace)).collect();
        found.sort_by(|one, two| (two.1.starts(), two.0).cmp(&(one.1.starts(), one.0)));
        let traces = found.into_iter().take(filter.limit).map(|(id, trace)| trace.summary(*id)).collect();
        Listing { traces, held: self.traces.len() as u64, dropped: self.dropped }
    }

    /// Returns one trace; `None` if it is not held.
    #[must_use]
    pub fn get(&self, id: TraceId) -> Option<Trace> {
        let trace = self.traces.get(&id)?;
        Some(Trace { summary: trace.summary(id), spans: trace.ordered() })
    }

    /// Lists the slow operations of the traces held, slowest relative to their threshold first.
    #[must_use]
    pub fn slow(&self, service: &str, limit: usize) -> Vec<Operation> {
        let mut found: Vec<Operation> = self
            .traces
            .iter()
            .flat_map(|(id, trace)| trace.slow().map(|span| (*id, span)))
            .filter(|(_, span)| service.is_empty() || &*span.service == service)
            .filter_map(|(id, span)| Operation::of(id, span))
            .collect();
        found.sort_by(Operation::slower_first);
        found.truncate(limit);
        found
    }

    /// Returns how many spans are held.
    #[must_use]
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// Returns how many spans were ever taken in.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns how many spans were refused because their trace was full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Drops the traces that arrived first until the bounds hold; never `current`, whose own bound is another.
    fn make_room(&mut self, current: TraceId) {
        while self.traces.len() > self.limits.traces || self.spans > self.limits.spans {
            let Some(first) = self.arrived.front().copied().filter(|first| *first != current) else { return };
            self.arrived.pop_front();
            if let Some(trace) = self.traces.remove(&first) {
                self.spans -= trace.len();
                self.dropped += 1;
            }
        }
    }

    fn shared(&mut self, span: NewSpan) -> Span {
        let mut attributes: Vec<(Arc<str>, Box<str>)> =
            span.attributes.into_iter().map(|(key, value)| (self.text(&key), value.into())).collect();
        attributes.sort_by(|one, two| one.0.cmp(&two.0));
        Span {
            id: span.id,
            parent: span.parent,
            name: self.text(&span.name),
            service: self.text(&span.service),
            kind: span.kind,
            start: span.start,
            duration: span.duration,
            failed: span.failed,
            status_message: span.status_message.into(),
            attributes: attributes.into(),
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        if self.texts.len() < SHARED_TEXTS {
            self.texts.insert(Arc::clone(&text));
        }
        text
    }
}

impl Filter {
    fn accepts(&self, trace: &Assembly) -> bool {
        (self.service.is_empty() || trace.has_service(&self.service))
            && (self.root_name.is_empty() || trace.root().is_some_and(|root| *root.name == *self.root_name))
            && trace.duration() >= self.min_duration
            && (!self.failed_only || trace.has_failed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Filter, Limits, Refusal, Store};
    use crate::trace::{Kind, NewSpan, SpanId, TraceId};

    const LIMITS: Limits = Limits { traces: 3, spans: 20, spans_per_trace: 10 };

    fn trace(id: u8) -> TraceId {
        TraceId::from_bytes(&[id; 16]).unwrap()
    }

    fn id(id: u8) -> SpanId {
        SpanId::from_bytes(&[id; 8]).unwrap()
    }

    /// A span of 10 ms that begins `start` ms after the epoch.
    fn span(of: u8, own: u8, parent: Option<u8>, start: u64) -> NewSpan {
        NewSpan {
            trace: trace(of),
            id: id(own),
            parent: parent.map(id),
            name: format!("span {own}"),
            service: format!("service-{own}"),
            kind: Kind::Internal,
            start: UNIX_EPOCH + Duration::from_millis(start),
            duration: Duration::from_millis(10),
            failed: false,
            status_message: String::new(),
            attributes: vec![("z".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
        }
    }

    fn all() -> Filter {
        Filter { limit: 100, ..Filter::default() }
    }

    #[test]
    fn spans_of_several_services_become_one_trace_in_any_order() {
        let mut store = Store::new(LIMITS);
        store.insert(span(1, 3, Some(2), 6)).unwrap();
        store.insert(span(1, 4, Some(1), 2)).unwrap();
        assert_eq!(store.get(trace(1)).unwrap().summary.orphans, 2);
        store.insert(span(1, 1, None, 0)).unwrap();
        store.insert(span(1, 2, Some(1), 5)).unwrap();
        let found = store.get(trace(1)).unwrap();
        let order: Vec<_> = found.spans.iter().map(|span| span.id).collect();
        assert_eq!(order, [id(1), id(4), id(2), id(3)]);
        assert_eq!((found.summary.spans, found.summary.orphans, found.summary.services.len()), (4, 0, 4));
        assert_eq!(found.summary.duration, Duration::from_millis(16));
        assert_eq!(&*found.summary.root.unwrap().name, "span 1");
        assert_eq!(&*found.spans[0].attributes[0].0, "a");
    }

    #[test]
    fn a_span_whose_parent_never_came_is_an_orphan() {
        let mut store = Store::new(LIMITS);
        store.insert(span(1, 1, None, 0)).unwrap();
        store.insert(span(1, 3, Some(9), 1)).unwrap();
        let found = store.get(trace(1)).unwrap();
        assert_eq!((found.summary.orphans, found.spans.len()), (1, 2));
    }

    #[test]
    fn a_repeated_export_changes_nothing() {
        let mut store = Store::new(LIMITS);
        for _ in 0..3 {
            store.insert(span(1, 1, Some(9), 0)).unwrap();
        }
        let found = store.get(trace(1)).unwrap().summary;
        assert_eq!((found.spans, found.orphans, store.spans()), (1, 1, 1));
    }

    #[test]
    fn spans_that_are_each_others_parents_are_all_returned() {
        let mut store = Store::new(LIMITS);
        store.insert(span(1, 1, Some(2), 0)).unwrap();
        store.insert(span(1, 2, Some(1), 1)).unwrap();
        assert_eq!(store.get(trace(1)).unwrap().spans.len(), 2);
    }

    #[test]
    fn the_first_arrived_trace_makes_room_and_is_counted() {
        let mut store = Store::new(LIMITS);
        for own in 1..=5 {
            store.insert(span(own, 1, None, 100 - u64::from(own))).unwrap();
        }
        let listing = store.list(&all());
        let ids: Vec<_> = listing.traces.iter().map(|summary| summary.id).collect();
        assert_eq!(ids, [trace(3), trace(4), trace(5)], "newest start first");
        assert_eq!((listing.held, listing.dropped), (3, 2));
        assert!(store.get(trace(1)).is_none());
    }

    #[test]
    fn spans_are_bounded_in_one_trace_and_in_all() {
        let mut store = Store::new(LIMITS);
        for own in 1..=10 {
            store.insert(span(1, own, None, 0)).unwrap();
        }
        assert_eq!(store.insert(span(1, 11, None, 0)), Err(Refusal::TooManySpans));
        for own in 1..=10 {
            store.insert(span(2, own, None, 0)).unwrap();
        }
        store.insert(span(3, 1, None, 0)).unwrap();
        assert_eq!((store.spans(), store.refused(), store.list(&all()).held), (11, 1, 2));
    }

    #[test]
    fn filters_keep_what_they_name() {
        let mut store = Store::new(LIMITS);
        store.insert(span(1, 1, None, 0)).unwrap();
        store.insert(NewSpan { failed: true, ..span(2, 2, None, 1) }).unwrap();
        store.insert(NewSpan { duration: Duration::from_secs(1), ..span(3, 3, None, 2) }).unwrap();
        let found = |filter: Filter| -> Vec<TraceId> {
            store.list(&filter).traces.iter().map(|summary| summary.id).collect()
        };
        assert_eq!(found(all()), [trace(3), trace(2), trace(1)]);
        assert_eq!(found(Filter { service: "service-1".to_owned(), ..all() }), [trace(1)]);
        assert_eq!(found(Filter { root_name: "span 2".to_owned(), ..all() }), [trace(2)]);
        assert_eq!(found(Filter { min_duration: Duration::from_secs(1), ..all() }), [trace(3)]);
        assert_eq!(found(Filter { failed_only: true, ..all() }), [trace(2)]);
        assert_eq!(found(Filter { limit: 1, ..all() }), [trace(3)]);
    }

    #[test]
    fn slow_operations_come_by_how_far_they_passed_their_threshold() {
        let call = |of, own, parent, kind, name: &str, ms| NewSpan {
            name: name.to_owned(),
            kind,
            duration: Duration::from_millis(ms),
            ..span(of, own, parent, 0)
        };
        let recall = "athena.memory.v1.MemoryService/Recall";
        let mut store = Store::new(LIMITS);
        store.insert(call(1, 1, None, Kind::Client, recall, 900)).unwrap();
        store.insert(call(1, 2, Some(1), Kind::Server, recall, 300)).unwrap();
        store
            .insert(call(2, 3, None, Kind::Server, "athena.llm.v1.LlmGatewayService/Analyze", 8_000))
            .unwrap();
        store.insert(call(2, 4, None, Kind::Server, recall, 99)).unwrap();
        store
            .insert(call(3, 5, None, Kind::Client, "athena.storage.v1.StorageBatcherService/Write", 500))
            .unwrap();
        let order: Vec<_> = store.slow("", 10).iter().map(|slow| slow.span.id).collect();
        assert_eq!(order, [id(3), id(2), id(5)]);
        assert_eq!(store.slow("service-2", 10).len(), 1);
        assert_eq!(store.slow("", 1).len(), 1);
    }
}
