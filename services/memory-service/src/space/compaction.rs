//! Removes dead rows from an index that is written to and recalled from meanwhile.
//!
//! A copy is compacted; it shares with the index what is large. What happens to the index meanwhile is noted, and then happens to the copy,
//! until so little is missing that the copy can take the index's place while everyone waits.

use std::{mem, time::Instant};

use parking_lot::{Mutex, RwLock};

use crate::{index::Index, written::Written};

/// Events that everyone may wait for.
const FEW: usize = 32;
/// How often the copy catches up before everyone has to wait for more than that.
const ROUNDS: usize = 16;

/// What happens to an index.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The write that made that generation.
    Written(u64, Written),
    /// The memory of that number cannot be read any more.
    Lost(u64),
}

/// How dead rows are removed, and what is missing in the copy.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    turn: Mutex<()>,
    /// Nothing while there is no copy. Taken under the lock of the index, so that nothing is missed and nothing happens twice.
    missed: Mutex<Option<Vec<Event>>>,
}

impl Event {
    /// Lets it happen to `index`.
    pub(super) fn reach(&self, index: &mut Index) {
        match self {
            Self::Written(generation, written) => index.apply(written, *generation),
            Self::Lost(seq) => index.leave_out([*seq]),
        }
    }
}

impl Compaction {
    /// Returns whether dead rows are being removed.
    pub(super) fn is_under_way(&self) -> bool {
        self.turn.is_locked()
    }

    /// Notes what happened to the index, by whoever holds it for writing.
    pub(super) fn missed(&self, event: Event) {
        if let Some(missed) = &mut *self.missed.lock() {
            missed.push(event);
        }
    }

    /// Removes the dead rows of `index` once it is this one's turn, if `is_wanted` then.
    pub(super) fn run(&self, index: &RwLock<Index>, is_wanted: impl FnOnce(&Index) -> bool) {
        let _turn = self.turn.lock();
        let start = Instant::now();
        let mut copy = {
            let index = index.read();
            if !is_wanted(&index) {
                return;
            }
            *self.missed.lock() = Some(Vec::new());
            index.clone()
        };
        let copied = start.elapsed();
        copy.compact();
        for _ in 0..ROUNDS {
            let missed = self.missed.lock().as_mut().map(mem::take).unwrap_or_default();
            missed.iter().for_each(|event| event.reach(&mut copy));
            if missed.len() <= FEW {
                break;
            }
        }
        let (before, swapped) = {
            let mut index = index.write();
            let start = Instant::now();
            let missed = self.missed.lock().take().unwrap_or_default();
            missed.iter().for_each(|event| event.reach(&mut copy));
            (mem::replace(&mut *index, copy), start.elapsed())
        };
        let (memories, took) = (before.len(), start.elapsed());
        tracing::debug!(memories, ?took, ?copied, ?swapped, "dead rows are removed");
        // Much memory is given back here, and nobody waits for it.
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread,
        time::{Duration, UNIX_EPOCH},
    };

    use clock::Clock;
    use futures::FutureExt as _;
    use telemetry::Telemetry;

    use crate::{
        backend::Backend as _,
        config::Config,
        engine::Engine,
        held::Held,
        index::{
            Index,
            tests::{record, seqs},
        },
        memory::Change,
        memory::Draft,
        query::Filter,
        shape::SpaceKey,
        space::Space,
        vector::metric::Metric,
    };

    /// Fewer than compaction waits for on its own.
    const IDS: u64 = 300;

    #[test]
    fn what_is_written_and_lost_while_dead_rows_are_removed_is_seen_before_and_after() {
        let (space, over) = (Space::apart(Index::new(Metric::Cosine, 1, 0)), AtomicBool::new(false));
        let live = |space: &Space| seqs(&space.index(), &Filter::default(), UNIX_EPOCH);
        thread::scope(|scope| {
            let compactor = scope.spawn(|| {
                let mut runs = 0;
                while !over.load(Relaxed) {
                    space.compact(Index::has_dead);
                    runs += 1;
                }
                runs
            });
            let (mut held, mut expected) = (Held::default(), Vec::new());
            for generation in 1..=3_000_u64 {
                let id = (generation * 7 % IDS).to_string();
                let change = if generation.is_multiple_of(5) {
                    Change::Forget(vec![id])
                } else {
                    Change::Put(vec![record(&id, &[1.0])])
                };
                let written = held.write(change);
                expected.retain(|seq| written.removed.iter().all(|removed| removed.seq != *seq));
                if matches!(*written.change, Change::Put(_)) {
                    expected.push(written.first);
                }
                assert!(space.apply(generation, written).now_or_never().is_some());
                if generation.is_multiple_of(100) {
                    let lost = expected.remove(expected.len() / 2);
                    space.leave_out(lost);
                }
                assert_eq!((live(&space), space.memories()), (expected.clone(), expected.len() as u64));
            }
            over.store(true, Relaxed);
            assert!(compactor.join().unwrap() > 0);
            space.compact(Index::has_dead);
            assert!(live(&space) == expected && !space.index().has_dead());
        });
    }

    #[tokio::test]
    async fn a_store_that_is_written_to_removes_its_dead_rows_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { memory_dir: folder.path().join("store"), ..Config::defaults() };
        let engine =
            Engine::open(&config, Telemetry::silent("memory-service"), Clock::system()).await.unwrap();
        let key = SpaceKey::new("t", "");
        let draft = |id: u64| Draft {
            id: Some(id.to_string()),
            content: "it says so".to_owned(),
            ..Draft::default()
        };
        // One in ten is alive.
        for _ in 0..10 {
            engine.remember(key.clone(), (0..500).map(draft).collect(), None).await.unwrap();
        }
        let space = engine.store.find(&key).unwrap();
        let removed = async {
            while space.index().is_sparse() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), removed).await.unwrap();
        assert_eq!(space.memories(), 500);
    }
}
