//! The writing half: what becomes of what is handed in.

use std::sync::Arc;

use parking_lot::Mutex;
use telemetry::{KeyValue, names};

use super::{Engine, completes::Made};
use crate::{
    backend::{Backend, Joined, Merge},
    config::Config,
    error::Error,
    hygiene::{
        echo::{Echoes, Listener},
        settle::{Duplicates, Fate, Given, Join, Known, Manner, Settled, settle},
        turns::Turns,
    },
    memory::{Change, Draft, Record},
    shape::{Shape, SpaceKey},
    upkeep::forgettings::Cause,
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

impl Hygiene {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            manner: config.manner(),
            echoes: Mutex::new(Echoes::new(config.memory_echo_size, config.memory_echo_ttl)),
            turns: Arc::default(),
        }
    }
}

impl<B: Backend> Engine<B> {
    /// Stores `drafts` in one commit, but for what was said before, which becomes a part of what says it, and returns once it is on disk and
    /// found by every recall. What is done with duplicates is `asked`, or what the settings say. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Embedder`], [`Error::Store`], and [`Error::NotReady`] once the service stops; nothing was stored then.
    pub(crate) async fn remember(
        self: &Arc<Self>,
        key: SpaceKey,
        drafts: Vec<Draft>,
        asked: Option<Duplicates>,
    ) -> Result<Remembered, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let manner = Manner { asked, ..engine.hygiene.manner };
            let named: Vec<bool> = drafts.iter().map(|draft| draft.id.is_some()).collect();
            let (records, made) = engine.complete(&key, drafts, None).await?;
            if named.iter().all(|is_named| manner.of(*is_named) == Duplicates::Keep) {
                return engine.put_all(&key, records, made).await;
            }
            let given = records.into_iter().zip(named).map(|(record, is_named)| Given { record, is_named });
            engine.settle(&key, given.collect(), made, manner).await
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Stores `drafts` as they are, in one commit. The vectors that they bring are known to be of `shape`. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Reembedded`] if the space is of another shape by now, and those of [`Engine::remember`]; nothing was stored then.
    pub(crate) async fn import(
        self: &Arc<Self>,
        key: SpaceKey,
        drafts: Vec<Draft>,
        shape: Shape,
    ) -> Result<Remembered, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let (records, made) = engine.complete(&key, drafts, Some(shape)).await?;
            engine.put_all(&key, records, made).await
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Stores records as they are.
    async fn put_all(
        &self,
        key: &SpaceKey,
        mut records: Vec<Record>,
        mut made: Made,
    ) -> Result<Remembered, Error> {
        let ids: Vec<String> = records.iter().map(|record| record.memory.id.to_string()).collect();
        let fates = vec![Fate::Stored; ids.len()];
        let replaced = loop {
            match self.write(key, &made.shape, records.clone()).await {
                Err(Error::Reembedded) => self.make_anew(key, &mut made, records.iter_mut()).await?,
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
        let sayings = merging.map(|given| given.record.saying).collect();
        let _turn = self.hygiene.turns.take(key, sayings).await;
        let mut given = Arc::new(given);
        loop {
            let known = self.known(key, &given, manner).await?;
            let settled = settle(&given, known, manner);
            match self.put_settled(key, &made.shape, &given, settled).await {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                Err(Error::Reembedded) => {
                    let records = Arc::make_mut(&mut given).iter_mut().map(|given| &mut given.record);
                    self.make_anew(key, &mut made, records).await?;
                }
                Err(error) => return Err(error),
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
        if puts.is_empty() {
            return Ok(Some(done));
        }
        if joins.is_empty() {
            done.replaced += self.write(key, shape, puts).await?;
            return Ok(Some(done));
        }
        let said: Vec<(usize, u32)> = joins.iter().map(|join| (join.at, times(join))).collect();
        let gone_on = joins.iter().filter(|join| join.older.is_some()).count();
        let (at, window) = (self.clock.now(), self.policy.window);
        let merge = Merge { change: Arc::new(Change::Put(puts)), joins, at, window };
        let Some(merged) = self.store.merge(key, shape, merge).await? else { return Ok(None) };
        let gone_on = u32::try_from(gone_on).unwrap_or(u32::MAX);
        done.replaced += merged.done.touched.saturating_sub(gone_on);
        done.forgetting = Some(merged.number);
        self.take_over(&merged.done);
        self.note_merged(&merged, &said);
        Ok(Some(done))
    }

    /// Counts what was said again.
    fn note_merged(&self, merged: &Joined, said: &[(usize, u32)]) {
        let times: u32 = said.iter().map(|(_, times)| times).sum();
        self.forgotten.add(times.into(), &[KeyValue::new(names::CAUSE, Cause::Merged.as_str())]);
        if let Some(space) = &merged.done.space {
            let mut accounts = space.accounts();
            said.iter().for_each(|(at, times)| accounts.said(merged.first + *at as u64, *times));
        }
    }

    /// Returns what is known of the space of `key` about each memory that is given; nothing at all where nothing is.
    async fn known(
        &self,
        key: &SpaceKey,
        given: &Arc<Vec<Given>>,
        manner: Manner,
    ) -> Result<Vec<Known>, Error> {
        let Some(space) = self.store.find(key) else { return Ok(Vec::new()) };
        let now = self.clock.now();
        let heard = {
            let echoes = self.hygiene.echoes.lock();
            let of = |given: &Given| {
                let who = Listener { space: space.number(), agent: &given.record.memory.agent };
                echoes.heard(who, given.record.saying.words, now)
            };
            given.iter().map(of).collect()
        };
        self.store.alike(&space, given, heard, manner, now).await
    }
}

/// Returns how often more what a join made one was said.
fn times(join: &Join) -> u32 {
    let parts = u32::try_from(join.parts.len()).unwrap_or(u32::MAX);
    parts - u32::from(join.older.is_none() && parts > 0)
}
