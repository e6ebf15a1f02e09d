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

use super::reply::Reply;
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

/// The keys of one tenant that become known.
type Keyed = HashMap<Arc<str>, Known>;

/// What one commit accepts.
pub(super) struct Draft {
    /// What is written.
    pub(super) growing: Arc<Growing>,
    /// The newest sequence given.
    last: u64,
    /// The newest sequence of a draft before it that is not on disk yet.
    follows: Option<u64>,
    pub(super) writes: Vec<Accepted>,
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

/// What was accepted before a draft: what is in memory, and the drafts that are not yet. If one of those fails, what follows it fails too.
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
        let writes = drafts.flat_map(|draft| &draft.writes).filter(|write| write.key == *key);
        writes.fold(waiting, |document, write| write.change.apply(document, 0))
    }
}

impl Draft {
    /// Begins a draft of what comes next.
    pub(super) fn new(Before { shared, drafts }: Before<'_>) -> Self {
        let growing = Arc::<Growing>::default();
        let (store, group, last) = (shared.store.clone(), Arc::clone(&growing), drafts.last());
        let follows =
            last.and_then(|last| if last.writes.is_empty() { last.follows } else { Some(last.last) });
        let landed = async move { store.append_growing(group, follows).await };
        let state = shared.state.lock();
        Self {
            growing,
            last: last.map_or_else(|| state.queue.last(), |last| last.last),
            follows,
            writes: Vec::new(),
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

    /// Returns how many wait for it.
    pub(super) fn len(&self) -> usize {
        self.answers.len()
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

    /// Accepts `writes` but for those whose key is known; `answer` is told where all of them are, and `stored` what comes of them.
    ///
    /// # Errors
    /// [`Error`] with the answer if they are refused; what this draft knows of sizes is wrong then.
    pub(super) fn write(
        &mut self,
        before: Before<'_>,
        group: &mut Group,
        (tenant, writes): (Arc<str>, Vec<NewWrite>),
        (answer, stored): (Reply, Option<oneshot::Sender<Outcome>>),
    ) -> Result<(), (Error, Reply)> {
        let keys: Vec<_> = match stored {
            Some(_) => writes.iter().map(|write| write.key.clone()).collect(),
            None => Vec::new(),
        };
        match self.accept(before, group, &tenant, writes) {
            Ok(sequences) => {
                let writes = keys.into_iter().zip(sequences.iter().copied()).collect();
                let awaited = stored.map(|done| Awaited { writes, done });
                self.answers.push(Answer::Write { tenant, sequences, awaited, answer });
                Ok(())
            }
            Err(error) => Err((error, answer)),
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
        let mut newest = self.last;
        let mut fresh = SmallVec::<[_; 1]>::new();
        for (place, (write, sequence)) in writes.into_iter().zip(&sequences).enumerate() {
            // A second write with one key is that of the first.
            if *sequence > newest {
                newest = *sequence;
                fresh.push((place, write));
            }
        }
        self.sizes.check(&self.writes, &fresh, |key| before.bytes(key), |key| before.document(key))?;
        let (count, last, accepted) = (self.writes.len(), self.last, micros(self.now));
        for (_, write) in fresh {
            let NewWrite { key, change, priority, caller, .. } = write;
            self.append(group, Record { key, change, priority, accepted, samples: 0, buckets: 0, caller });
        }
        let appended = self.writes.iter().skip(count);
        let (appended, bytes) = (appended.len(), appended.map(|write| write.journal_bytes).sum());
        if let Err(error) = self.reserve(appended, bytes, &before.shared.options) {
            self.writes.truncate(count);
            group.records.truncate(count);
            self.last = last;
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
        // Before the lock: a large write takes its time.
        let prints: SmallVec<[_; 1]> = writes.iter().map(print).collect();
        let drafts = drafts.iter().chain([self]).filter_map(|draft| draft.keys.get(tenant));
        let drafts: SmallVec<[_; 2]> = drafts.collect();
        let mut keys: Keyed = HashMap::new();
        let mut sequences = Vec::with_capacity(writes.len());
        let mut last = self.last;
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

    /// Appends a record; returns its place.
    pub(super) fn append(&mut self, group: &mut Group, record: Record) -> u64 {
        self.last += 1;
        let bytes = group.records.push(self.last, &record);
        self.writes.push(Accepted::of(self.last, record, bytes as u64));
        self.last
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
        Pin::new(&mut self.landed).take_output().unwrap_or(Ok(false))
    }

    /// Takes it, which is on the disk, into memory, and tells all that wait for it.
    pub(super) fn show(self, shared: &Shared) {
        let (group, nobody) = (self.growing.take(), nobody());
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use clock::Clock;
    use journal::Journal;
    use telemetry::Telemetry;
    use tokio::sync::oneshot::{self, Receiver};

    use super::{Before, Draft};
    use crate::{
        Config,
        aggregate::rules::{Rule, Rules},
        batcher::Batcher,
        change::Change,
        document::{Fields, Key, Priority, Value},
        error::Error,
        shared::Shared,
        sink::embedded::Embedded,
        store::Store,
        write::{NewWrite, Receipt},
    };

    type Told = Receiver<Result<Receipt, Error>>;

    struct Bench {
        batcher: Batcher,
        drafts: Vec<Draft>,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("storage.redb");
            let journal = Journal::open(path, &journal::Options::default()).unwrap();
            let sink = Arc::new(Embedded::open(journal.clone()).await.unwrap());
            let rules = Rules::new([].into(), Rule::built_in(std::time::Duration::ZERO));
            let mut options = Config::defaults().options(rules);
            options.journal_max_writes = 3;
            let (store, telemetry) =
                (Store::new(journal, Instant::now()), Telemetry::silent("storage-batcher"));
            let batcher = Batcher::start(options, store, sink, telemetry, Clock::system()).await.unwrap();
            Self { batcher, drafts: Vec::new(), _folder: folder }
        }

        fn shared(&self) -> &Shared {
            &self.batcher.shared
        }

        /// Begins a draft that follows the others, with writes.
        fn draft(&mut self, writes: Vec<NewWrite>) -> Result<Told, Error> {
            let before = Before { shared: &self.batcher.shared, drafts: &self.drafts };
            let mut draft = Draft::new(before);
            let growing = Arc::clone(&draft.growing);
            let (answer, told) = oneshot::channel();
            let written = draft.write(
                before,
                &mut growing.open().unwrap(),
                ("t".into(), writes),
                (answer.into(), None),
            );
            written.map_err(|(error, _)| error)?;
            self.drafts.push(draft);
            Ok(told)
        }

        /// Sends a draft; returns whether it was written.
        async fn is_written(&mut self, number: usize) -> bool {
            let draft = &mut self.drafts[number];
            draft.send(&self.batcher.shared).await;
            draft.landed().await;
            draft.outcome().unwrap()
        }
    }

    fn write(id: &str, key: &str, change: Change) -> NewWrite {
        NewWrite {
            key: Key::new("t", "c", id),
            change,
            priority: Priority::Normal,
            idempotency_key: (!key.is_empty()).then(|| key.into()),
            caller: "".into(),
        }
    }

    fn named(id: &str, key: &str) -> NewWrite {
        write(id, key, Change::set(Fields::new()))
    }

    #[tokio::test]
    async fn a_draft_knows_the_keys_of_those_before_it_and_fails_with_them() {
        let mut bench = Bench::new().await;
        let first = bench.draft(vec![named("a", "k")]).unwrap();
        let second = bench.draft(vec![named("a", "k"), named("b", "")]).unwrap();
        let third = bench.draft(vec![named("a", "k")]).unwrap();
        let reused = bench.draft(vec![named("c", "k")]).unwrap_err();
        assert!(matches!(reused, Error::KeyReused { place: 0 }), "{reused}");
        // The first is not there yet.
        assert!(!bench.is_written(1).await && !bench.is_written(2).await);
        for draft in bench.drafts.drain(1..) {
            draft.fail(&bench.batcher.shared, &Error::NotReady);
        }
        for told in [second, third] {
            assert!(matches!(told.await.unwrap(), Err(Error::NotReady)));
        }
        assert!(bench.shared().store.records(0, u64::MAX).unwrap().is_empty());
        // And now it is.
        let again = bench.draft(vec![named("a", "k"), named("b", "")]).unwrap();
        assert!(bench.is_written(0).await && bench.is_written(1).await);
        for draft in std::mem::take(&mut bench.drafts) {
            draft.show(bench.shared());
        }
        let receipt = |sequences, pending_documents| Receipt { sequences, pending_documents };
        assert_eq!(first.await.unwrap().unwrap(), receipt(vec![1], 1));
        assert_eq!(again.await.unwrap().unwrap(), receipt(vec![1, 2], 2));
    }

    #[tokio::test]
    async fn what_is_drafted_before_counts_against_the_limits_of_the_journal_and_of_a_document() {
        let half = |name: &str| Fields::from([(name.to_owned(), Value::Text("x".repeat(600_000)))]);
        let mut bench = Bench::new().await;
        bench.draft(vec![write("a", "", Change::merge(half("one")))]).unwrap();
        bench.draft(vec![write("b", "", Change::merge(half("one")))]).unwrap();
        let large = bench.draft(vec![write("a", "", Change::merge(half("two")))]).unwrap_err();
        assert!(matches!(large, Error::TooLarge { place: 0 }), "{large}");
        let full = bench.draft(vec![named("c", ""), named("d", "")]).unwrap_err();
        assert!(matches!(full, Error::Full { setting: "journal_max_writes", most: 3 }), "{full}");
        bench.draft(vec![write("a", "", Change::merge(half("one")))]).unwrap();
    }
}
