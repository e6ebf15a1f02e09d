//! The spans of one trace, put together as they arrive.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::span::{Kind, Span, SpanId, TraceId};
use crate::slow;

/// One trace under assembly.
#[derive(Debug)]
pub(super) struct Assembly {
    spans: Vec<Arc<Span>>,
    places: HashMap<SpanId, usize>,
    /// How many spans wait for a parent that has not arrived.
    waiting: HashMap<SpanId, u32>,
    orphans: u32,
    failed: u32,
    root: Option<usize>,
    start: SystemTime,
    end: SystemTime,
    services: BTreeSet<Arc<str>>,
    slow: Vec<usize>,
}

/// One trace in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its id.
    pub id: TraceId,
    /// The root span; `None` while it has not arrived.
    pub root: Option<Arc<Span>>,
    /// When the first span began, wall time.
    pub start: SystemTime,
    /// From the first span's start to the last span's end.
    pub duration: Duration,
    /// Spans held.
    pub spans: u32,
    /// Spans whose parent is not held.
    pub orphans: u32,
    /// Spans that failed.
    pub failed: u32,
    /// The services that took part.
    pub services: Vec<Arc<str>>,
}

/// One trace with its spans: parents before children, siblings by start.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The trace in short.
    pub summary: Summary,
    /// Its spans.
    pub spans: Vec<Arc<Span>>,
}

impl Assembly {
    pub(super) fn new(start: SystemTime) -> Self {
        Self {
            spans: Vec::new(),
            places: HashMap::new(),
            waiting: HashMap::new(),
            orphans: 0,
            failed: 0,
            root: None,
            start,
            end: start,
            services: BTreeSet::new(),
            slow: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn holds(&self, id: SpanId) -> bool {
        self.places.contains_key(&id)
    }

    pub(super) fn insert(&mut self, span: Span) {
        let place = self.spans.len();
        self.places.insert(span.id, place);
        self.orphans -= self.waiting.remove(&span.id).unwrap_or(0);
        match span.parent {
            Some(parent) if !self.places.contains_key(&parent) => {
                *self.waiting.entry(parent).or_default() += 1;
                self.orphans += 1;
            }
            Some(_) => {}
            None => self.root = self.root.filter(|root| self.begins(*root) <= span.start).or(Some(place)),
        }
        self.failed += u32::from(span.failed);
        self.start = self.start.min(span.start);
        self.end = self.end.max(span.end());
        if !self.services.contains(&span.service) {
            self.services.insert(Arc::clone(&span.service));
        }
        if slow::threshold(&span).is_some_and(|threshold| span.duration > threshold) {
            self.slow.push(place);
        }
        self.spans.push(Arc::new(span));
    }

    pub(super) fn starts(&self) -> SystemTime {
        self.start
    }

    pub(super) fn duration(&self) -> Duration {
        self.end.duration_since(self.start).unwrap_or_default()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    pub(super) fn has_service(&self, service: &str) -> bool {
        self.services.contains(service)
    }

    pub(super) fn root(&self) -> Option<&Arc<Span>> {
        self.root.and_then(|root| self.spans.get(root))
    }

    pub(super) fn summary(&self, id: TraceId) -> Summary {
        Summary {
            id,
            root: self.root().cloned(),
            start: self.start,
            duration: self.duration(),
            spans: u32::try_from(self.spans.len()).unwrap_or(u32::MAX),
            orphans: self.orphans,
            failed: self.failed,
            services: self.services.iter().cloned().collect(),
        }
    }

    /// Returns the spans that passed their threshold. The calling side of a call stands for it only where the serving
    /// side is not held, so that a slow call is shown once.
    pub(super) fn slow(&self) -> impl Iterator<Item = &Arc<Span>> {
        let served: BTreeSet<SpanId> = if self.slow.is_empty() {
            BTreeSet::new()
        } else {
            let serving = self.spans.iter().filter(|span| span.kind == Kind::Server);
            serving.filter_map(|span| span.parent).collect()
        };
        let slow = self.slow.iter().filter_map(|place| self.spans.get(*place));
        slow.filter(move |span| span.kind != Kind::Client || !served.contains(&span.id))
    }

    /// Returns the spans in the order of their tree; orphans follow the roots, each with what hangs on it.
    pub(super) fn ordered(&self) -> Vec<Arc<Span>> {
        let mut by_start: Vec<usize> = (0..self.spans.len()).collect();
        by_start.sort_by_key(|place| (self.begins(*place), *place));
        let mut children: HashMap<SpanId, Vec<usize>> = HashMap::new();
        let (mut roots, mut orphans) = (Vec::new(), Vec::new());
        for place in &by_start {
            match self.spans.get(*place).map(|span| span.parent) {
                Some(None) => roots.push(*place),
                Some(Some(parent)) if !self.places.contains_key(&parent) => orphans.push(*place),
                Some(Some(parent)) => children.entry(parent).or_default().push(*place),
                None => {}
            }
        }
        let mut seen = vec![false; self.spans.len()];
        let mut ordered = Vec::with_capacity(self.spans.len());
        // Spans that are each other's ancestors hang on nothing: the last round picks them up.
        for top in roots.into_iter().chain(orphans).chain(by_start) {
            let mut open = vec![top];
            while let Some(place) = open.pop() {
                let (Some(span), Some(seen)) = (self.spans.get(place), seen.get_mut(place)) else { continue };
                if !std::mem::replace(seen, true) {
                    ordered.push(Arc::clone(span));
                    open.extend(children.get(&span.id).into_iter().flatten().rev());
                }
            }
        }
        ordered
    }

    fn begins(&self, place: usize) -> SystemTime {
        self.spans.get(place).map_or(self.start, |span| span.start)
    }
}
