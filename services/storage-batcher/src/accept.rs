//! Accepting: one task gives sequences, writes what waits in one commit, and only then shows it to the rest of the service.
//!
//! Being the only one, it keeps memory in the order of the disk, and a caller that leaves does not leave the two apart.

mod letters;
mod reply;
mod samples;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

pub use self::letters::{Fate, Redeemed};
pub(crate) use self::reply::{Lane, Reply, Turn};
use crate::{
    acks::Outcome,
    buckets::{BucketKey, Open, Readings},
    codec::Record,
    document::{Key, micros},
    error::Error,
    keys::{self, Known},
    ledger::nobody,
    queue::Accepted,
    shared::{Held, Options, Shared},
    sizes::Sizes,
    store::Group,
    write::{NewSample, NewWrite, Receipt},
};

/// Most requests in one commit.
const MOST_COMMANDS: usize = 1_024;

/// What the accepting task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept writes of one tenant, all or none; `stored` is told what comes of them at the sink.
    Write { tenant: Arc<str>, writes: Vec<NewWrite>, stored: Option<oneshot::Sender<Outcome>>, answer: Reply },
    /// Do with dead letters of one tenant as `fate` says; answered with those that were there.
    Letters {
        tenant: Arc<str>,
        caller: Arc<str>,
        sequences: Vec<u64>,
        fate: Fate,
        answer: oneshot::Sender<Result<Vec<Redeemed>, Error>>,
    },
    /// Accept samples of one tenant, all or none; answered with its open buckets.
    Record { tenant: Arc<str>, samples: Vec<NewSample>, answer: oneshot::Sender<Result<u64, Error>> },
    /// Close the buckets whose time is over, and all of one tenant if it is named.
    Close { tenant: Option<Arc<str>>, answer: oneshot::Sender<Result<(), Error>> },
    /// Finish what was asked before and end.
    Stop,
}

/// The keys of one tenant that become known.
type Keyed = HashMap<Arc<str>, Known>;

/// What one commit is going to accept.
struct Draft {
    group: Group,
    /// The newest sequence given.
    last: u64,
    writes: Vec<Accepted>,
    /// The keys that this draft makes known.
    keys: HashMap<Arc<str>, Keyed>,
    samples: Vec<(BucketKey, i64, Readings, u64)>,
    reopened: BTreeMap<BucketKey, Open>,
    answers: Vec<Answer>,
    sizes: Sizes,
    /// Writes and bytes in the journal before, and with, this draft.
    held: Held,
    now: SystemTime,
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

impl Draft {
    fn new(shared: &Shared) -> Self {
        let state = shared.state.lock();
        Self {
            group: Group::default(),
            last: state.queue.last(),
            writes: Vec::new(),
            keys: HashMap::new(),
            samples: Vec::new(),
            reopened: BTreeMap::new(),
            answers: Vec::new(),
            sizes: Sizes::default(),
            held: state.held(),
            now: shared.clock.now(),
        }
    }

    /// Makes room for `writes` of `bytes`, unless the journal is full.
    fn reserve(&mut self, writes: usize, bytes: u64, options: &Options) -> Result<(), Error> {
        let (writes, bytes) = (self.held.writes + writes as u64, self.held.bytes + bytes);
        let (most_writes, most_bytes) = (options.journal_max_writes, options.journal_max_bytes);
        if bytes > most_bytes {
            return Err(Error::Full { setting: "journal_max_bytes", most: most_bytes });
        }
        if writes > most_writes {
            return Err(Error::Full { setting: "journal_max_writes", most: most_writes });
        }
        self.held = Held { writes, bytes };
        Ok(())
    }

    /// Accepts `writes` but for those whose key is known; returns the places of all.
    fn write(
        &mut self,
        shared: &Shared,
        tenant: &Arc<str>,
        writes: Vec<NewWrite>,
    ) -> Result<Vec<u64>, Error> {
        let (sequences, keys) = self.recognise(shared, tenant, &writes)?;
        let mut newest = self.last;
        let mut fresh = SmallVec::<[_; 1]>::new();
        for (place, (write, sequence)) in writes.into_iter().zip(&sequences).enumerate() {
            // A second write with one key is that of the first.
            if *sequence > newest {
                newest = *sequence;
                fresh.push((place, write));
            }
        }
        self.sizes.check(&self.writes, &fresh, |key| shared.state.lock().queue.overlay(key))?;
        let (before, last, accepted) = (self.writes.len(), self.last, micros(self.now));
        for (_, write) in fresh {
            let NewWrite { key, change, priority, caller, .. } = write;
            self.append(Record { key, change, priority, accepted, samples: 0, buckets: 0, caller });
        }
        let appended = self.writes.iter().skip(before);
        let (count, bytes) = (appended.len(), appended.map(|write| write.journal_bytes).sum());
        if let Err(error) = self.reserve(count, bytes, &shared.options) {
            self.writes.truncate(before);
            self.group.records.truncate(before);
            self.last = last;
            return Err(error);
        }
        if !keys.is_empty() {
            let mut known: Vec<_> = keys.values().cloned().collect();
            known.sort_by_key(|known| known.sequence);
            self.group.keys.extend(known);
            self.keys.entry(Arc::clone(tenant)).or_default().extend(keys);
        }
        Ok(sequences)
    }

    /// Returns the place that each of `writes` has or will have, and the keys that become known with them.
    fn recognise(
        &self,
        shared: &Shared,
        tenant: &Arc<str>,
        writes: &[NewWrite],
    ) -> Result<(Vec<u64>, Keyed), Error> {
        let print = |write: &NewWrite| {
            let key = write.idempotency_key.as_ref()?;
            Some((Arc::clone(key), keys::fingerprint(&write.key, &write.change)))
        };
        // Before the lock: a large write takes its time.
        let prints: SmallVec<[_; 1]> = writes.iter().map(print).collect();
        let state = shared.state.lock();
        let drafted = self.keys.get(tenant);
        let mut keys: Keyed = HashMap::new();
        let mut sequences = Vec::with_capacity(writes.len());
        let mut last = self.last;
        for (place, print) in prints.into_iter().enumerate() {
            let Some((key, fingerprint)) = print else {
                last += 1;
                sequences.push(last);
                continue;
            };
            let here = keys.get(&key).or_else(|| drafted.and_then(|drafted| drafted.get(&key)));
            match here.or_else(|| state.keys.get(tenant, &key, self.now)) {
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

    /// Appends a record; returns its place.
    fn append(&mut self, record: Record) -> u64 {
        self.last += 1;
        let bytes = self.group.records.push(self.last, &record);
        self.writes.push(Accepted::of(self.last, record, bytes as u64));
        self.last
    }

    async fn commit(mut self, shared: &Shared) {
        if self.answers.is_empty() {
            return;
        }
        self.group.forgotten = shared.state.lock().keys.take_forgotten();
        let group = Arc::new(self.group);
        if let Err(error) = shared.store.append(Arc::clone(&group)).await {
            let mut state = shared.state.lock();
            state.keys.give_back(&group.forgotten);
            state.places.give_back(&group.places);
            drop(state);
            let error = Error::from(error);
            for answer in self.answers {
                answer.fail(error.clone());
            }
            return;
        }
        {
            let nobody = nobody();
            let mut state = shared.state.lock();
            state.take(self.writes);
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
        }
        shared.wake();
        shared.ticks.notify_one();
    }
}

impl Answer {
    fn fail(self, error: Error) {
        match self {
            Self::Write { answer, .. } => answer.send(Err(error)),
            // A caller that left does not need the answer.
            Self::Record(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

/// Runs until it is told to stop or every sender of commands is gone; what was sent before is done.
pub(crate) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut waiting = Vec::new();
    let mut pruned = i64::MIN;
    while commands.recv_many(&mut waiting, MOST_COMMANDS).await > 0 {
        let mut draft = Draft::new(&shared);
        for command in waiting.drain(..) {
            match command {
                Command::Write { answer, .. } if answer.is_behind() => answer.send(Err(Error::Behind)),
                Command::Write { tenant, writes, stored, answer } => {
                    let keys: Vec<_> = match stored {
                        Some(_) => writes.iter().map(|write| write.key.clone()).collect(),
                        None => Vec::new(),
                    };
                    match draft.write(&shared, &tenant, writes) {
                        Ok(sequences) => {
                            let writes = keys.into_iter().zip(sequences.iter().copied()).collect();
                            let awaited = stored.map(|done| Awaited { writes, done });
                            draft.answers.push(Answer::Write { tenant, sequences, awaited, answer });
                        }
                        Err(error) => {
                            answer.send(Err(error));
                            // The refused writes are among the sizes already: a new draft does not know them.
                            std::mem::replace(&mut draft, Draft::new(&shared)).commit(&shared).await;
                            draft = Draft::new(&shared);
                        }
                    }
                }
                Command::Record { tenant, samples, answer } => match draft.record(&shared, samples).await {
                    Ok(()) => draft.answers.push(Answer::Record(tenant, answer)),
                    Err(error) => drop(answer.send(Err(error))),
                },
                Command::Close { tenant, answer } => {
                    // A bucket closes with every sample accepted before: they must be in memory first.
                    std::mem::replace(&mut draft, Draft::new(&shared)).commit(&shared).await;
                    let closed = samples::close(&shared, tenant.as_deref(), &mut pruned).await;
                    draft = Draft::new(&shared);
                    drop(answer.send(closed));
                }
                Command::Letters { tenant, caller, sequences, fate, answer } => {
                    std::mem::replace(&mut draft, Draft::new(&shared)).commit(&shared).await;
                    let redeemed = letters::redeem(&shared, (&tenant, &caller), sequences, fate).await;
                    draft = Draft::new(&shared);
                    drop(answer.send(redeemed));
                }
                // Whoever asks later is told that nobody is there.
                Command::Stop => return draft.commit(&shared).await,
            }
        }
        draft.commit(&shared).await;
    }
}
