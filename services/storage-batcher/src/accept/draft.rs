//! What one commit accepts, from its first write until all of it is in memory.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    time::SystemTime,
};

use futures::{
    future::{BoxFuture, FutureExt as _, MaybeDone, maybe_done},
    poll,
};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{reply::Reply, sequenced::Sequenced};
use crate::{
    acks::Outcome,
    buckets::{BucketKey, Open, Readings},
    codec::Record,
    document::{Fields, Key, micros},
    error::Error,
    keys::{self, Known},
    ledger::nobody,
    queue::Accepted,
    shared::{Held, Options, Shared},
    sizes::Sizes,
    store::{self, Group, Growing},
    write::{NewWrite, Receipt},
};

/// Requests and bytes with which a commit is full.
const MOST_REQUESTS: usize = 1_024;
const MOST_BYTES: u64 = 4 << 20;

/// The keys of one tenant that become known.
type Keyed = HashMap<Arc<str>, Known>;

/// What one commit accepts.
pub(super) struct Draft {
    /// What is written.
    pub(super) growing: Arc<Growing>,
    sequenced: Sequenced,
    /// The newest sequence of the drafts before it, which were not on disk when this one began.
    follows: Option<u64>,
    /// The keys that this draft makes known.
    keys: HashMap<Arc<str>, Keyed>,
    pub(super) samples: Vec<(BucketKey, i64, Readings, u64)>,
    pub(super) reopened: BTreeMap<BucketKey, Open>,
    answers: Vec<Answer>,
    sizes: Sizes,
    /// Writes and bytes that are held without this draft.
    held: Held,
    /// Those of this draft.
    own: Held,
    pub(super) now: SystemTime,
    /// Whether it is on its way to the disk.
    is_sent: bool,
    landed: MaybeDone<BoxFuture<'static, Result<bool, store::Error>>>,
}

/// Writes somebody waits for.
struct Awaited {
    writes: Vec<(Key, u64)>,
    done: oneshot::Sender<Outcome>,
}

enum Answer {
    Write { tenant: Arc<str>, sequences: Vec<u64>, awaited: Option<Awaited>, answer: Reply },
    Record(Arc<str>, oneshot::Sender<Result<u64, Error>>),
}

/// What was accepted before a draft: what is in memory, and the drafts that are not yet. Those who do not make it take along what follows them.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) shared: &'a Shared,
    /// Oldest first.
    pub(super) drafts: &'a [Draft],
}

impl Before<'_> {
    /// Returns the bytes, by the quick estimate, of what is not at the sink of a document.
    fn bytes(&self, key: &Key) -> usize {
        let drafted = self.drafts.iter().rev().find_map(|draft| draft.sizes.bytes(key));
        drafted.unwrap_or_else(|| self.shared.look(|queue| queue.bytes(key)))
    }

    /// Returns what that makes of nothing.
    fn document(&self, key: &Key) -> Option<Fields> {
        let waiting = self.shared.look(|queue| queue.overlay(key)).apply(None, 0);
        let drafts = self.drafts.iter().filter(|draft| draft.sizes.bytes(key).is_some());
        let writes = drafts.flat_map(Draft::writes).filter(|write| write.key == *key);
        writes.fold(waiting, |document, write| write.change.apply(document, 0))
    }
}

impl Draft {
    /// Begins a draft of what comes next.
    pub(super) fn new(Before { shared, drafts }: Before<'_>) -> Self {
        let growing = Arc::<Growing>::default();
        let (store, group, last) = (shared.store.clone(), Arc::clone(&growing), drafts.last());
        let follows = last
            .and_then(|last| if last.writes().is_empty() { last.follows } else { Some(last.sequenced.last) });
        let landed = async move { store.append_growing(group, MOST_BYTES, follows).await };
        let state = shared.state.lock();
        Self {
            growing,
            sequenced: Sequenced::after(last.map_or_else(|| state.queue.last(), |last| last.sequenced.last)),
            follows,
            keys: HashMap::new(),
            samples: Vec::new(),
            reopened: BTreeMap::new(),
            answers: Vec::new(),
            sizes: Sizes::default(),
            held: drafts.iter().fold(state.held(), |held, draft| held + draft.own),
            own: Held::default(),
            now: shared.clock.now(),
            is_sent: false,
            landed: maybe_done(landed.boxed()),
        }
    }

    /// Returns what it writes.
    pub(super) fn writes(&self) -> &[Accepted] {
        &self.sequenced.writes
    }

    /// Returns whether somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Returns whether it holds as much as one commit shall.
    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= MOST_REQUESTS || self.own.bytes >= MOST_BYTES
    }

    /// Returns whether writes can be added still.
    pub(super) fn is_open(&self) -> bool {
        self.growing.open().is_some()
    }

    /// Returns whether it is on its way to the disk.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Makes room for `writes` of `bytes`, unless the journal is full.
    pub(super) fn reserve(&mut self, writes: usize, bytes: u64, options: &Options) -> Result<(), Error> {
        let own = self.own + Held { writes: writes as u64, bytes };
        let Held { writes, bytes } = self.held + own;
        let (most_writes, most_bytes) = (options.journal_max_writes, options.journal_max_bytes);
        if bytes > most_bytes {
            return Err(Error::Full { setting: "journal_max_bytes", most: most_bytes });
        }
        if writes > most_writes {
            return Err(Error::Full { setting: "journal_max_writes", most: most_writes });
        }
        self.own = own;
        Ok(())
    }

    /// Accepts `writes` but for those whose key is known, all or none; `answer` is told, and `stored` what comes of them at the sink.
    pub(super) fn write(
        &mut self,
        before: Before<'_>,
        group: &mut Group,
        (tenant, writes): (Arc<str>, Vec<NewWrite>),
        (answer, stored): (Reply, Option<oneshot::Sender<Outcome>>),
    ) {
        let keys: Vec<_> = match stored {
            Some(_) => writes.iter().map(|write| write.key.clone()).collect(),
            None => Vec::new(),
        };
        match self.accept(before, group, &tenant, writes) {
            Ok(sequences) => {
                let writes = keys.into_iter().zip(sequences.iter().copied()).collect();
                let awaited = stored.map(|done| Awaited { writes, done });
                self.answers.push(Answer::Write { tenant, sequences, awaited, answer });
            }
            Err(error) => answer.send(Err(error)),
        }
    }

    /// Returns the places of all.
    fn accept(
        &mut self,
        before: Before<'_>,
        group: &mut Group,
        tenant: &Arc<str>,
        writes: Vec<NewWrite>,
    ) -> Result<Vec<u64>, Error> {
        let (sequences, keys) = self.recognise(before, tenant, &writes)?;
        let mut newest = self.sequenced.last;
        let mut fresh = SmallVec::<[_; 1]>::new();
        for (place, (write, sequence)) in writes.into_iter().zip(&sequences).enumerate() {
            // A second write with one key is that of the first.
            if *sequence > newest {
                newest = *sequence;
                fresh.push((place, write));
            }
        }
        let sized = self.sizes.check(
            &self.sequenced.writes,
            &fresh,
            |key| before.bytes(key),
            |key| before.document(key),
        );
        if let Err(error) = sized {
            self.sizes.doubt(fresh.into_iter().map(|(_, write)| write.key));
            return Err(error);
        }
        let (count, last, accepted) = (self.writes().len(), self.sequenced.last, micros(self.now));
        for (_, write) in fresh {
            let NewWrite { key, change, priority, caller, .. } = write;
            self.sequenced
                .append(group, Record { key, change, priority, accepted, samples: 0, buckets: 0, caller });
        }
        let appended = self.writes().iter().skip(count);
        let (appended, bytes) = (appended.len(), appended.map(|write| write.journal_bytes).sum());
        if let Err(error) = self.reserve(appended, bytes, &before.shared.options) {
            let refused = self.sequenced.take_back(group, count, last);
            self.sizes.doubt(refused.into_iter().map(|write| write.key));
            return Err(error);
        }
        if !keys.is_empty() {
            let mut known: Vec<_> = keys.values().cloned().collect();
            known.sort_by_key(|known| known.sequence);
            group.keys.extend(known);
            self.keys.entry(Arc::clone(tenant)).or_default().extend(keys);
        }
        Ok(sequences)
    }

    /// Returns the place that each of `writes` has or will have, and the keys that become known with them.
    fn recognise(
        &self,
        Before { shared, drafts }: Before<'_>,
        tenant: &Arc<str>,
        writes: &[NewWrite],
    ) -> Result<(Vec<u64>, Keyed), Error> {
        let print = |write: &NewWrite| {
            let key = write.idempotency_key.as_ref()?;
            Some((Arc::clone(key), keys::fingerprint(&write.key, &write.change)))
        };
        // Before the state is locked: a large write takes its time.
        let prints: SmallVec<[_; 1]> = writes.iter().map(print).collect();
        let drafts = drafts.iter().chain([self]).filter_map(|draft| draft.keys.get(tenant));
        let drafts: SmallVec<[_; 2]> = drafts.collect();
        let mut keys: Keyed = HashMap::new();
        let mut sequences = Vec::with_capacity(writes.len());
        let mut last = self.sequenced.last;
        let state = shared.state.lock();
        for (place, print) in prints.into_iter().enumerate() {
            let Some((key, fingerprint)) = print else {
                last += 1;
                sequences.push(last);
                continue;
            };
            let drafted = drafts.iter().find_map(|drafted| drafted.get(&key));
            let known = keys.get(&key).or(drafted);
            match known.or_else(|| state.keys.get(tenant, &key, self.now)) {
                Some(known) if known.fingerprint == fingerprint => sequences.push(known.sequence),
                Some(_) => return Err(Error::KeyReused { place }),
                None => {
                    last += 1;
                    sequences.push(last);
                    let (tenant, accepted) = (Arc::clone(tenant), micros(self.now));
                    let known =
                        Known { tenant, key: Arc::clone(&key), sequence: last, fingerprint, accepted };
                    keys.insert(key, known);
                }
            }
        }
        Ok((sequences, keys))
    }

    /// Has `answer` told of samples that were recorded.
    pub(super) fn answer(&mut self, tenant: Arc<str>, answer: oneshot::Sender<Result<u64, Error>>) {
        self.answers.push(Answer::Record(tenant, answer));
    }

    /// Sends it on its way to the disk.
    pub(super) async fn send(&mut self, shared: &Shared) {
        if let Some(mut group) = self.growing.open() {
            group.forgotten = shared.state.lock().keys.take_forgotten();
        }
        self.is_sent = true;
        // It leaves now, not when somebody looks for it.
        let _ = poll!(&mut self.landed);
    }

    /// Waits until the disk is done with it.
    pub(super) async fn landed(&mut self) {
        (&mut self.landed).await;
    }

    /// Returns whether the disk, which is done with it, has it; it has not if this follows what failed.
    pub(super) fn outcome(&mut self) -> Result<bool, store::Error> {
        // It is asked once.
        Pin::new(&mut self.landed).take_output().unwrap_or(Ok(false))
    }

    /// Takes it, which is on the disk, into memory, and tells all that wait for it.
    pub(super) fn show(self, shared: &Shared) {
        let (group, nobody) = (self.growing.take(), nobody());
        let mut state = shared.state.lock();
        state.take(self.sequenced.writes);
        for known in &group.keys {
            state.keys.insert(known.clone(), self.now);
        }
        for (key, open) in self.reopened {
            state.buckets.reopen(&key, open);
        }
        for (key, time, readings, bytes) in self.samples {
            state.ledger.accept(key.row(), &nobody, 1);
            state.buckets.add(&key, time, readings, bytes);
        }
        for answer in self.answers {
            match answer {
                Answer::Write { tenant, sequences, awaited, answer } => {
                    if let Some(awaited) = awaited {
                        state.await_stored(awaited.writes, awaited.done);
                    }
                    let pending_documents = state.queue.documents(&tenant);
                    answer.send(Ok(Receipt { sequences, pending_documents }));
                }
                Answer::Record(tenant, answer) => drop(answer.send(Ok(state.buckets.count(&tenant)))),
            }
        }
        shared.measure(&state);
        drop(state);
        shared.wake();
        shared.ticks.notify_one();
    }

    /// Gives back what it was to write, and tells all that wait for it why it was not.
    pub(super) fn fail(self, shared: &Shared, error: &Error) {
        let group = self.growing.take();
        let mut state = shared.state.lock();
        state.keys.give_back(&group.forgotten);
        state.places.give_back(&group.places);
        drop(state);
        for answer in self.answers {
            match answer {
                Answer::Write { answer, .. } => answer.send(Err(error.clone())),
                // A caller that left does not need the answer.
                Answer::Record(_, answer) => drop(answer.send(Err(error.clone()))),
            }
        }
    }
}
