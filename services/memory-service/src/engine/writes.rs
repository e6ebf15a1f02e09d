//! The writing half: what becomes of what is handed in.

use std::{sync::Arc, time::SystemTime};

use journal::Reason;
use parking_lot::Mutex;
use telemetry::{KeyValue, names};

use super::{Engine, completes::Made};
use crate::{
    config::Config,
    error::Error,
    hygiene::{
        echo::{Echoes, Listener},
        near,
        saying::Saying,
        settle::{Alike, Duplicates, Fate, Given, Join, Known, Manner, Settled, settle},
        turns::Turns,
    },
    memory::{Change, Draft, Record},
    recall::contents::Contents as _,
    space::{Shape, Space, SpaceKey},
    store::{Merge, Merged, Stored},
    upkeep::forgettings::Cause,
    vector::source::{Unread, Vectors as _},
};

/// How what is handed in is settled, and what that takes.
#[derive(Debug)]
pub(super) struct Hygiene {
    manner: Manner,
    /// What recalls returned lately.
    pub(super) echoes: Mutex<Echoes>,
    turns: Arc<Turns>,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The ids of the memories that say now what the drafts say, in the order of the drafts.
    pub(crate) ids: Vec<String>,
    /// What became of each draft.
    pub(crate) fates: Vec<Fate>,
    /// Memories that replaced an earlier one of their id.
    pub(crate) replaced: u32,
    /// The number by which a merge can be undone; absent if nothing was merged.
    pub(crate) forgetting: Option<u64>,
}

/// Which memories of a space have to be read to settle one: by their numbers.
#[derive(Clone, Debug, Default)]
struct Candidates {
    /// The one in these words that its agent recalled last.
    heard: Option<u64>,
    /// Those that may say the same; that one first.
    alike: Vec<u64>,
    /// Whether it has to be seen if there is one of its id.
    by_id: bool,
}

impl Hygiene {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            manner: config.manner(),
            echoes: Mutex::new(Echoes::new(config.memory_echo_size, config.memory_echo_ttl)),
            turns: Arc::default(),
        }
    }
}

impl Candidates {
    fn is_none(&self) -> bool {
        self.heard.is_none() && self.alike.is_empty() && !self.by_id
    }
}

impl Engine {
    /// Stores `drafts` in one commit, but for what was said before, which becomes a part of what says it, and returns once it is on disk and
    /// found by every recall. What is done with duplicates is `asked`, or what the settings say. The vectors that drafts bring are of `shape`;
    /// absent: of the space's. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Embedder`], [`Error::Reembedded`] if the space is not of `shape`, [`Error::Store`], and [`Error::NotReady`] once the service
    /// stops; nothing was stored then.
    pub(crate) async fn remember(
        self: &Arc<Self>,
        key: SpaceKey,
        drafts: Vec<Draft>,
        asked: Option<Duplicates>,
        shape: Option<Shape>,
    ) -> Result<Remembered, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let manner = Manner { asked, ..engine.hygiene.manner };
            let named: Vec<bool> = drafts.iter().map(|draft| draft.id.is_some()).collect();
            let (records, made) = engine.complete(&key, drafts, shape).await?;
            if named.iter().all(|is_named| manner.of(*is_named) == Duplicates::Keep) {
                return engine.put_all(&key, records, made).await;
            }
            let given = records.into_iter().zip(named).map(|(record, is_named)| Given {
                saying: Saying::of(&record.memory),
                record,
                is_named,
            });
            engine.settle(&key, given.collect(), made, manner).await
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Stores records as they are.
    async fn put_all(
        &self,
        key: &SpaceKey,
        records: Vec<Record>,
        mut made: Made,
    ) -> Result<Remembered, Error> {
        let ids: Vec<String> = records.iter().map(|record| record.memory.id.to_string()).collect();
        let fates = vec![Fate::Stored; ids.len()];
        let mut change = Arc::new(Change::Put(records));
        let replaced = loop {
            match self.write(key, &made.shape, &change).await {
                Err(Error::Reembedded) => {
                    if let Change::Put(records) = Arc::make_mut(&mut change) {
                        self.make_anew(key, &mut made, records.iter_mut()).await?;
                    }
                }
                replaced => break replaced?,
            }
        };
        Ok(Remembered { ids, fates, replaced, forgetting: None })
    }

    /// Settles what is given and stores what is left of it. Of two requests that say the same one waits until it can see what the other one
    /// wrote; a memory that was changed or forgotten between the look and the commit makes it look again.
    async fn settle(
        self: &Arc<Self>,
        key: &SpaceKey,
        given: Vec<Given>,
        mut made: Made,
        manner: Manner,
    ) -> Result<Remembered, Error> {
        let merging = given.iter().filter(|given| manner.of(given.is_named) == Duplicates::Merge);
        let sayings = merging.map(|given| given.saying).collect();
        let _turn = self.hygiene.turns.take(key, sayings).await;
        let mut given = Arc::new(given);
        loop {
            let known = self.known(key, &given, manner).await?;
            let settled = settle(&given, known, manner);
            match self.put_settled(key, &made.shape, &given, settled).await {
                Err(Error::Reembedded) => {
                    let records = Arc::make_mut(&mut given).iter_mut().map(|given| &mut given.record);
                    self.make_anew(key, &mut made, records).await?;
                }
                done => {
                    if let Some(done) = done? {
                        return Ok(done);
                    }
                }
            }
        }
    }

    /// Writes what was settled; nothing if a memory that was to be merged is another one meanwhile, which is seen then.
    async fn put_settled(
        &self,
        key: &SpaceKey,
        shape: &Shape,
        given: &[Given],
        settled: Settled,
    ) -> Result<Option<Remembered>, Error> {
        let Settled { puts, joins, fates, replaced } = settled;
        let ids = given.iter().zip(&fates).map(|(given, fate)| match fate {
            Fate::Stored => given.record.memory.id.to_string(),
            Fate::Merged(id) | Fate::Echo(id) => id.to_string(),
        });
        let mut done = Remembered { ids: ids.collect(), fates, replaced, forgetting: None };
        let change = Arc::new(Change::Put(puts));
        if matches!(&*change, Change::Put(puts) if puts.is_empty()) {
            return Ok(Some(done));
        }
        if joins.is_empty() {
            done.replaced += self.write(key, shape, &change).await?;
            return Ok(Some(done));
        }
        let said: Vec<(usize, u32)> = joins.iter().map(|join| (join.at, times(join))).collect();
        let gone_on = joins.iter().filter(|join| join.older.is_some()).count();
        let (at, window) = (self.clock.now(), self.policy.window);
        let merge = Merge { change: Arc::clone(&change), joins, at, window };
        let _gate = self.gate(key).await;
        match self.store.merge(key, shape, merge).await? {
            Merged::Moved(generation) => {
                if let Some(space) = self.spaces.get(key) {
                    space.reached(generation).await;
                }
                Ok(None)
            }
            Merged::Done(committed, number) => {
                let gone_on = u32::try_from(gone_on).unwrap_or(u32::MAX);
                done.replaced += committed.touched.saturating_sub(gone_on);
                done.forgetting = Some(number);
                let first = committed.first;
                self.take_over(key, committed, change).await;
                self.note_merged(key, first, &said);
                Ok(Some(done))
            }
        }
    }

    /// Counts what was said again.
    fn note_merged(&self, key: &SpaceKey, first: u64, said: &[(usize, u32)]) {
        let merged: u32 = said.iter().map(|(_, times)| times).sum();
        self.forgotten.add(merged.into(), &[KeyValue::new(names::CAUSE, Cause::Merged.as_str())]);
        if let Some(space) = self.spaces.get(key) {
            let mut accounts = space.accounts();
            said.iter().for_each(|(at, times)| accounts.said(first + *at as u64, *times));
        }
    }

    /// Returns what is known of the space of `key` about each memory that is given; nothing at all where nothing is.
    async fn known(
        self: &Arc<Self>,
        key: &SpaceKey,
        given: &Arc<Vec<Given>>,
        manner: Manner,
    ) -> Result<Vec<Known>, Error> {
        let Some(space) = self.spaces.get(key) else { return Ok(Vec::new()) };
        let candidates = self.candidates(&space, given, manner, self.clock.now());
        if candidates.iter().all(Candidates::is_none) {
            return Ok(Vec::new());
        }
        let (engine, given) = (Arc::clone(self), Arc::clone(given));
        let read = move || {
            let all = given.iter().zip(candidates);
            all.map(|(given, candidates)| engine.read(&space, given, candidates)).collect()
        };
        self.telemetry.spawn_blocking(read).await.map_err(Error::Task)?
    }

    /// Looks up which memories have to be read; reads none.
    fn candidates(&self, space: &Space, given: &[Given], manner: Manner, now: SystemTime) -> Vec<Candidates> {
        let (index, echoes) = (space.index(), self.hygiene.echoes.lock());
        let of = |Given { record, saying, is_named }: &Given| {
            if manner.of(*is_named) == Duplicates::Keep {
                return Candidates::default();
            }
            let who = Listener { space: space.number(), agent: &record.memory.agent };
            let heard = echoes.heard(who, saying.words, now).filter(|seq| index.holds(*seq, now));
            let others =
                index.saying(*saying, now, manner.most).into_iter().filter(|seq| heard != Some(*seq));
            Candidates { heard, alike: heard.into_iter().chain(others).collect(), by_id: *is_named }
        };
        given.iter().map(of).collect()
    }

    /// Reads what has to be known about a memory. Blocks the thread.
    fn read(&self, space: &Space, given: &Given, candidates: Candidates) -> Result<Known, Error> {
        let Candidates { heard, alike, by_id } = candidates;
        let (memory, site) = (&given.record.memory, space.site());
        let stored = Stored { store: &self.store, site };
        let mut known = Known::default();
        if by_id {
            // One that cannot be read is there: writing its id repairs it.
            known.is_there = !matches!(self.store.get(site, &memory.id), Ok(None));
        }
        if let Some(record) = heard.map(|seq| record(&stored, seq)).transpose()?.flatten() {
            let is_echo = near::repeats(memory, &record.memory);
            known.repeats = is_echo.then(|| Arc::clone(&record.memory.id));
        }
        for seq in alike {
            let is_heard = heard == Some(seq);
            known.alike.extend(record(&stored, seq)?.map(|record| Alike { seq, record, is_heard }));
        }
        Ok(known)
    }
}

/// Returns how often more what a join made one was said.
fn times(join: &Join) -> u32 {
    let parts = u32::try_from(join.parts.len()).unwrap_or(u32::MAX);
    parts - u32::from(join.older.is_none() && parts > 0)
}

/// Reads a memory; nothing if it is gone meanwhile, or damaged.
fn record(stored: &Stored<'_>, seq: u64) -> Result<Option<Record>, Error> {
    let mut embedding = Vec::new();
    let memories = stored.memories(&[seq]).and_then(|memories| {
        stored.read(&[seq], &mut |_, vector| embedding = vector.to_vec())?;
        Ok(memories)
    });
    match memories {
        Ok(memories) => Ok(memories.into_iter().next().map(|memory| Record { memory, embedding })),
        Err(Unread::Gone(_) | Unread::Damaged(_)) => Ok(None),
        Err(Unread::Failed(error)) => Err(Error::Store(Reason::Store, error)),
    }
}
