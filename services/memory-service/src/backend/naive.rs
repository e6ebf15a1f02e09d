//! A backend that looks at every memory: what the contract means, in the plainest words.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    ops::{ControlFlow, Deref, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::{
    Backend, CONTRADICTING, Census, Done, Due, Forget, Found, Joined, Merge, Purged, Question, Restored,
    View, Which,
};
use crate::{
    error::Error,
    explain::Node,
    hygiene::{
        claims::Claims,
        near,
        settle::{self, Alike, Duplicates, Given, Manner},
    },
    index::Fresh,
    known::{Known, Total},
    memory::{Memory, Record},
    plan::{Plan, Rejected, Strategy},
    query::{Query, Ranking},
    recall::{self, Answer, Ran},
    shape::{Metric, Shape, SpaceKey},
    stop::Stop,
    upkeep::forgettings::{Cause, Forgetting, Kept, Refused, State, restore, surplus},
};

/// Most namespaces of a tenant.
pub(super) const NAMESPACES: usize = 9;

/// Memories in memory. What is dropped without [`Naive::again`] is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    spaces: Arc<Mutex<BTreeMap<SpaceKey, Arc<Place>>>>,
    total: Total,
    closed: Arc<AtomicBool>,
}

/// A space.
#[derive(Debug)]
pub(crate) struct Place {
    known: Arc<Known>,
    inner: Mutex<Inner>,
}

/// What is in a space.
#[derive(Debug, Default)]
struct Inner {
    last: u64,
    records: BTreeMap<u64, Record>,
    log: BTreeMap<u64, Forgetting>,
    /// What forgettings took, by their numbers and those of the memories, and where their ids went on.
    trash: BTreeMap<(u64, u64), (Record, Option<u64>)>,
}

impl Deref for Place {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl Inner {
    /// Puts a record and returns whether it replaces one.
    fn put(&mut self, record: Record) -> bool {
        let before = self.seq(&record.memory.id).and_then(|seq| self.records.remove(&seq));
        self.last += 1;
        self.records.insert(self.last, record);
        before.is_some()
    }

    fn seq(&self, id: &str) -> Option<u64> {
        self.records.iter().find(|(_, record)| *record.memory.id == *id).map(|(seq, _)| *seq)
    }
}

impl Place {
    /// Ends a write that touched so many memories, if it did anything.
    fn done(&self, inner: &Inner, touched: usize, is_change: bool) -> Done {
        let generation = is_change.then(|| self.generation() + 1);
        self.holds(inner.records.len() as u64);
        generation.into_iter().for_each(|generation| self.reached(generation));
        Done { space: Some(Arc::clone(&self.known)), generation, touched: u32::try_from(touched).unwrap() }
    }
}

impl Naive {
    /// Opens what was written once more, as after a restart.
    pub(crate) fn again(&self) -> Self {
        Self { closed: Arc::default(), ..self.clone() }
    }

    fn check(&self) -> Result<(), Error> {
        if self.closed.load(SeqCst) { Err(Error::NotReady) } else { Ok(()) }
    }

    fn of_number(&self, number: u32) -> Option<Arc<Place>> {
        self.spaces.lock().values().find(|space| space.number() == number).cloned()
    }

    fn make(&self, key: &SpaceKey, shape: &Shape) -> Result<(Arc<Place>, bool), Error> {
        self.check()?;
        let mut spaces = self.spaces.lock();
        if let Some(space) = spaces.get(key) {
            return Ok((Arc::clone(space), false));
        }
        if spaces.keys().filter(|other| other.tenant == key.tenant).count() == NAMESPACES {
            return Err(Error::Namespaces);
        }
        let number = 1 + spaces.values().map(|space| space.number()).max().unwrap_or_default();
        let known = Arc::new(Known::new(number, shape.clone(), 0, self.total.clone()));
        let space = Arc::new(Place { known, inner: Mutex::default() });
        spaces.insert(key.clone(), Arc::clone(&space));
        Ok((space, true))
    }

    fn of_shape(&self, key: &SpaceKey, shape: &Shape) -> Result<Arc<Place>, Error> {
        let (space, _) = self.make(key, shape)?;
        if space.shape() == shape { Ok(space) } else { Err(Error::Reembedded) }
    }
}

impl Backend for Naive {
    type Space = Place;

    fn find(&self, key: &SpaceKey) -> Option<Arc<Place>> {
        self.spaces.lock().get(key).cloned()
    }

    fn bare(&self, shape: Shape) -> Arc<Place> {
        let known = Arc::new(Known::new(0, shape, 0, Total::default()));
        Arc::new(Place { known, inner: Mutex::default() })
    }

    fn all(&self) -> Vec<(SpaceKey, Arc<Place>)> {
        self.spaces.lock().iter().map(|(key, space)| (key.clone(), Arc::clone(space))).collect()
    }

    fn memories(&self) -> u64 {
        self.total.get()
    }

    fn is_open(&self) -> bool {
        self.check().is_ok()
    }

    async fn create(&self, key: &SpaceKey, shape: &Shape) -> Result<bool, Error> {
        let (space, made) = self.make(key, shape)?;
        if space.shape() == shape { Ok(made) } else { Err(Error::Exists(space.shape().to_string())) }
    }

    async fn drop_space(&self, key: &SpaceKey) -> Result<Option<(u32, u64)>, Error> {
        self.check()?;
        let Some(space) = self.spaces.lock().remove(key) else { return Ok(None) };
        let dropped = (space.number(), space.memories());
        space.ended();
        Ok(Some(dropped))
    }

    async fn put(&self, key: &SpaceKey, shape: &Shape, records: Vec<Record>) -> Result<Done, Error> {
        let space = self.of_shape(key, shape)?;
        let dimensions = space.shape().dimensions;
        if records.iter().any(|record| record.embedding.len() != dimensions) {
            return Err(Error::Dimensions(dimensions));
        }
        let mut inner = space.inner.lock();
        let replaced = records.into_iter().filter(|record| inner.put(record.clone())).count();
        Ok(space.done(&inner, replaced, true))
    }

    async fn merge(&self, key: &SpaceKey, shape: &Shape, merge: Merge) -> Result<Option<Joined>, Error> {
        let space = self.of_shape(key, shape)?;
        let mut inner = space.inner.lock();
        if merge.joins.iter().filter_map(|join| join.older).any(|seq| !inner.records.contains_key(&seq)) {
            return Ok(None);
        }
        let number = 1 + inner.log.keys().next_back().copied().unwrap_or_default();
        let parts: usize = merge.joins.iter().map(|join| join.parts.len()).sum();
        let (first, mut memories) = (inner.last + parts as u64 + 1, 0);
        for join in &merge.joins {
            let onward = Some(first + join.at as u64);
            let older = join.older.and_then(|seq| Some((seq, inner.records.get(&seq)?.clone())));
            let mut kept: Vec<(u64, Record)> = older.into_iter().collect();
            for part in &join.parts {
                inner.last += 1;
                kept.push((inner.last, part.clone()));
            }
            memories += kept.len() as u64;
            if !merge.window.is_zero() {
                inner.trash.extend(kept.into_iter().map(|(seq, record)| ((number, seq), (record, onward))));
            }
        }
        let entry = Forgetting::new(number, Cause::Merged, memories, merge.at, merge.window);
        inner.log.insert(number, entry);
        let replaced = merge.puts().iter().filter(|record| inner.put((*record).clone())).count();
        Ok(Some(Joined { done: space.done(&inner, replaced, true), first, number }))
    }

    async fn alike(
        &self,
        space: &Arc<Place>,
        given: &Arc<Vec<Given>>,
        heard: Vec<Option<u64>>,
        manner: Manner,
        now: SystemTime,
    ) -> Result<Vec<settle::Known>, Error> {
        let inner = space.inner.lock();
        let is_live = |record: &&Record| record.memory.expires.is_none_or(|at| now < at);
        let known = |(given, heard): (&Given, Option<u64>)| {
            if manner.of(given.is_named) == Duplicates::Keep {
                return settle::Known::default();
            }
            let said = heard.and_then(|seq| inner.records.get(&seq)).filter(is_live);
            let heard = heard.filter(|_| said.is_some());
            let repeats = said.filter(|said| near::repeats(&given.record.memory, &said.memory));
            let same = inner.records.iter().rev().filter(|(seq, record)| {
                heard != Some(**seq) && is_live(record) && record.saying == given.record.saying
            });
            let first = heard.zip(said).into_iter();
            let alike = first.chain(same.take(manner.most).map(|(seq, record)| (*seq, record)));
            settle::Known {
                is_there: given.is_named && inner.seq(&given.record.memory.id).is_some(),
                repeats: repeats.map(|said| Arc::clone(&said.memory.id)),
                alike: alike
                    .map(|(seq, record)| Alike { seq, record: record.clone(), is_heard: heard == Some(seq) })
                    .collect(),
            }
        };
        Ok(given.iter().zip(heard).map(known).collect())
    }

    async fn forget(&self, key: &SpaceKey, forget: Forget) -> Result<(Done, Option<u64>), Error> {
        self.check()?;
        let nothing = Done { space: None, generation: None, touched: 0 };
        let Some(space) = self.find(key) else { return Ok((nothing, None)) };
        let mut inner = space.inner.lock();
        let seqs: Vec<u64> = match forget.which {
            Which::Ids(ids) => ids.iter().filter_map(|id| inner.seq(id)).collect(),
            Which::Seqs(number, seqs) if number == space.number() => seqs,
            Which::Seqs(..) => Vec::new(),
        };
        let number = 1 + inner.log.keys().next_back().copied().unwrap_or_default();
        let mut gone = 0;
        for seq in seqs {
            if let Some(record) = inner.records.remove(&seq) {
                gone += 1;
                if forget.window > Duration::ZERO {
                    inner.trash.insert((number, seq), (record, None));
                }
            }
        }
        if gone > 0 {
            let entry = Forgetting::new(number, forget.cause, gone, forget.at, forget.window);
            inner.log.insert(number, entry);
        }
        Ok((space.done(&inner, usize::try_from(gone).unwrap(), gone > 0), (gone > 0).then_some(number)))
    }

    async fn undo(&self, key: &SpaceKey, number: u64, now: SystemTime) -> Result<Restored, Error> {
        self.check()?;
        let space = self.find(key).ok_or(Error::NoForgetting)?;
        let mut inner = space.inner.lock();
        let entry = inner.log.get(&number).cloned().ok_or(Refused::Unknown)?;
        entry.undoable(now)?;
        let of = |(of, _): &(u64, u64)| *of == number;
        let (took, left) = std::mem::take(&mut inner.trash).into_iter().partition(|(place, _)| of(place));
        inner.trash = left;
        let took: BTreeMap<(u64, u64), (Record, Option<u64>)> = took;
        let kept = took.into_values().map(|(record, onward)| Kept { record, onward }).collect();
        let (records, stayed) = restore(entry.cause, kept, |id| inner.seq(id));
        let back = records.len();
        for record in records {
            inner.put(record);
        }
        inner.log.insert(number, Forgetting { state: State::Undone, ..entry });
        Ok(Restored { done: space.done(&inner, 0, back > 0), back: back as u64, stayed })
    }

    async fn purge(&self, space: u32, numbers: Vec<u64>, most: usize) -> Result<Purged, Error> {
        self.check()?;
        let Some(space) = self.of_number(space) else { return Ok(Purged::default()) };
        let mut inner = space.inner.lock();
        let mut done = Purged::default();
        for number in numbers {
            if let Some(entry) = inner.log.get_mut(&number).filter(|entry| entry.state == State::Undoable) {
                entry.state = State::Purged;
            }
            while let Some(place) = inner.trash.keys().find(|(of, _)| *of == number).copied() {
                if done.removed == most {
                    return Ok(done);
                }
                inner.trash.remove(&place);
                done.removed += 1;
            }
            done.ended += 1;
        }
        Ok(done)
    }

    async fn unlist(&self, space: u32, numbers: Vec<u64>) -> Result<(), Error> {
        self.check()?;
        let space = self.of_number(space);
        space
            .into_iter()
            .for_each(|space| space.inner.lock().log.retain(|number, _| !numbers.contains(number)));
        Ok(())
    }

    async fn forgettings(
        &self,
        space: u32,
        numbers: Range<u64>,
        most: usize,
    ) -> Result<Vec<Forgetting>, Error> {
        let Some(space) = self.of_number(space) else { return Ok(Vec::new()) };
        let inner = space.inner.lock();
        Ok(inner.log.range(numbers).rev().take(most).map(|(_, entry)| entry.clone()).collect())
    }

    async fn due(&self, space: &Arc<Place>, now: Option<SystemTime>, listed: usize) -> Result<Due, Error> {
        let inner = space.inner.lock();
        let is_kept = |number: u64| inner.trash.keys().any(|(of, _)| *of == number);
        let is_open = |entry: &Forgetting| now.is_some_and(|now| entry.undoable(now).is_ok());
        let over = inner.log.values().filter(|entry| is_kept(entry.number) && !is_open(entry));
        let mut expired: Vec<(SystemTime, u64)> = inner
            .records
            .iter()
            .filter_map(|(seq, record)| Some((record.memory.expires?, *seq)))
            .filter(|(at, _)| now.is_some_and(|now| *at <= now))
            .collect();
        expired.sort_unstable();
        Ok(Due {
            purge: over.map(|entry| entry.number).collect(),
            unlist: surplus(inner.log.values(), listed),
            expired: expired.into_iter().map(|(_, seq)| seq).collect(),
        })
    }

    async fn get(&self, space: &Arc<Place>, id: String) -> Result<Option<(u64, Found)>, Error> {
        let inner = space.inner.lock();
        let found = inner.seq(&id).and_then(|seq| Some((seq, inner.records.get(&seq)?)));
        Ok(found.map(|(seq, record)| (seq, (Arc::clone(&record.memory), record.embedding.clone()))))
    }

    async fn recall(&self, space: &Arc<Place>, asked: Question, stop: &Arc<Stop>) -> Result<Ran, Error> {
        stop.check().map_err(|_| Error::TimedOut)?;
        let Question { query, wanted, now, plan } = asked;
        let (plan, rejected) = self.plan(space, query.clone(), now, plan).await?;
        let score = |record: &Record| match (query.ranking, wanted.vector()) {
            (Ranking::Newest, _) | (Ranking::Vector, None) => Ok(0.0),
            (Ranking::Vector, Some(vector)) => Ok(likeness(space.shape().metric, vector, &record.embedding)),
            _ => Err(Error::Ranking),
        };
        let inner = space.inner.lock();
        let passing = inner.records.iter().filter(|(_, record)| query.filter.passes(&record.memory, now));
        let mut scored = Vec::new();
        for (seq, record) in passing {
            scored.push((score(record)?, record.memory.time, *seq, record));
        }
        scored.sort_by(|one, other| {
            other
                .0
                .total_cmp(&one.0)
                .then_with(|| (Reverse(one.1), Reverse(one.2)).cmp(&(Reverse(other.1), Reverse(other.2))))
        });
        let candidates = scored.len() as u64;
        let mut claims = Claims::default();
        let live: BTreeMap<u64, Arc<str>> = inner
            .records
            .iter()
            .filter(|(_, record)| record.memory.expires.is_none_or(|at| now < at))
            .map(|(seq, record)| (*seq, Arc::clone(&record.memory.id)))
            .collect();
        for (seq, record) in &inner.records {
            record.memory.claim.iter().for_each(|claim| claims.insert(*seq, claim));
        }
        let against = |memory: &Memory| -> Vec<Arc<str>> {
            let seqs = memory
                .claim
                .iter()
                .flat_map(|claim| claims.against(claim, CONTRADICTING, |seq| live.contains_key(&seq)));
            seqs.filter_map(|seq| live.get(&seq).cloned()).collect()
        };
        let found = scored.into_iter().take(query.limit).map(|(score, _, seq, record)| recall::Found {
            seq,
            saying: record.saying,
            against: against(&record.memory),
            memory: Arc::clone(&record.memory),
            score,
            parts: None,
            embedding: query.include_embedding.then(|| record.embedding.clone()),
        });
        let generation = space.generation();
        let answer =
            Answer { found: found.collect(), candidates, error: 0.0, fresh: Fresh::default(), generation };
        Ok(Ran { answer, plan, rejected })
    }

    async fn plan(
        &self,
        _: &Arc<Place>,
        _: Query,
        _: SystemTime,
        plan: Option<Strategy>,
    ) -> Result<(Plan, Vec<Rejected>), Error> {
        let strategy = Strategy::Full;
        if let Some(other) = plan.filter(|plan| *plan != strategy) {
            return Err(Error::Unfit { plan: other.as_str(), why: "every memory is looked at".to_owned() });
        }
        let root = Node::new(strategy.as_str(), "every memory", 0.0, None);
        Ok((Plan { strategy, root, cost: Duration::ZERO, threads: 1 }, Vec::new()))
    }

    async fn look<T: Send + 'static>(
        &self,
        key: &SpaceKey,
        look: impl FnOnce(&dyn View) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        self.find(key).map(|space| look(&*space)).transpose()
    }

    fn census(&self, space: &Place) -> Census {
        let mut categories = BTreeMap::new();
        for record in space.inner.lock().records.values() {
            *categories.entry(record.memory.category.clone()).or_default() += 1;
        }
        Census { categories, ..Census::default() }
    }

    async fn erase(&self, _: SystemTime, _: bool) -> Result<bool, Error> {
        // What is removed from memory is gone.
        Ok(false)
    }

    async fn close(&self) {
        self.closed.store(true, SeqCst);
    }
}

impl View for Place {
    fn space(&self) -> (u32, u64) {
        (self.number(), self.generation())
    }

    fn shape(&self) -> &Shape {
        self.known.shape()
    }

    fn each(&self, after: u64, each: &mut dyn FnMut(u64, Memory) -> ControlFlow<()>) -> Result<(), Error> {
        // Not under the lock: whoever is handed a memory may ask for others.
        let records = self.inner.lock().records.clone();
        for (seq, record) in records.range(after + 1..) {
            if each(*seq, (*record.memory).clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn memory(&self, seq: u64) -> Result<Option<Memory>, Error> {
        Ok(self.inner.lock().records.get(&seq).map(|record| (*record.memory).clone()))
    }

    fn vector(&self, seq: u64) -> Result<Option<Vec<f32>>, Error> {
        Ok(self.inner.lock().records.get(&seq).map(|record| record.embedding.clone()))
    }
}

/// How alike two vectors are, rounded as scores are.
fn likeness(metric: Metric, one: &[f32], other: &[f32]) -> f64 {
    let pairs = || one.iter().zip(other).map(|(one, other)| (f64::from(*one), f64::from(*other)));
    let product: f64 = pairs().map(|(one, other)| one * other).sum();
    let square = |of: &[f32]| of.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    let score = match metric {
        Metric::Dot => product,
        Metric::Euclidean => -pairs().map(|(one, other)| (one - other).powi(2)).sum::<f64>().sqrt(),
        Metric::Cosine if square(one) * square(other) > 0.0 => product / (square(one) * square(other)).sqrt(),
        Metric::Cosine => 0.0,
    };
    f64::from(score as f32) + 0.0
}
