//! Who shares a call with whom, and when it leaves.
//!
//! Callers of one lane (one tenant, model and question) share calls:
//!
//! 1. Who comes while nothing of its lane is under way leaves at once: a single caller never waits.
//! 2. Who comes meanwhile waits, at most `linger` from the first who waits, and leaves with all who came in the mean time.
//! 3. When those who wait fill a call, in items or in tokens, they leave at once.
//! 4. A lane is gone when nobody waits in it and nothing is under way. Nobody ever changes lanes.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;

/// How much of a call something fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Observations.
    pub items: usize,
    /// Tokens, by estimate.
    pub tokens: u64,
}

/// How much one call takes, and how long callers wait for company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most observations, at least 1.
    pub max_items: usize,
    /// Most tokens, asked and answered together, by estimate.
    pub max_tokens: u64,
    /// Longest time a caller waits for others while a call is under way; zero lets everyone leave alone.
    pub linger: Duration,
    /// Most observations asked about singly, after two calls about many.
    pub max_singles: usize,
}

/// The lanes of all tenants.
#[derive(Debug)]
pub struct Merger<K, P> {
    lanes: Arc<Mutex<Lanes<K, P>>>,
    limits: Limits,
}

/// Callers that leave together; dropping it says that their calls have ended.
#[derive(Debug)]
pub struct Departure<K: Hash + Eq, P> {
    /// What they bring, in the order in which they came.
    pub parts: Vec<P>,
    key: K,
    lanes: Arc<Mutex<Lanes<K, P>>>,
}

/// Everyone who waits or is under way, without a clock: the turn number stands for the time.
#[derive(Debug)]
struct Lanes<K, P> {
    lanes: HashMap<K, Lane<P>>,
    turns: u64,
}

#[derive(Debug)]
struct Lane<P> {
    waiting: Vec<P>,
    load: Load,
    /// The number under which those who wait will leave when their linger is over.
    turn: u64,
    under_way: usize,
}

/// What becomes of who comes.
#[derive(Debug, PartialEq, Eq)]
enum Step<P> {
    /// These leave now.
    Leave(Vec<P>),
    /// It is the first to wait: [`Lanes::due`] is to be asked when the linger is over.
    Linger(u64),
    /// It waits with others.
    Wait,
}

impl<K: Hash + Eq + Clone + Send + 'static, P: Send + 'static> Merger<K, P> {
    /// Makes a merger without lanes.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { lanes: Arc::new(Mutex::new(Lanes { lanes: HashMap::new(), turns: 0 })), limits }
    }

    /// Returns how much one call takes.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets `part` come to the lane of `key`. Where it is the one to wait for, the departure is returned: it has to be driven, and is
    /// `None` in the end if all have left before.
    pub fn come(
        &self,
        key: &K,
        part: P,
        load: Load,
    ) -> Option<impl Future<Output = Option<Departure<K, P>>> + Send + 'static> {
        let step = self.lanes.lock().come(key, part, load, self.limits);
        let (now, turn) = match step {
            Step::Wait => return None,
            Step::Leave(parts) => (Some(self.departure(key, parts)), 0),
            Step::Linger(turn) => (None, turn),
        };
        let (lanes, key, linger) = (self.lanes.clone(), key.clone(), self.limits.linger);
        Some(async move {
            if now.is_some() {
                return now;
            }
            tokio::time::sleep(linger).await;
            let parts = lanes.lock().due(&key, turn)?;
            Some(Departure { parts, key, lanes })
        })
    }

    /// Returns in how many lanes someone waits or is under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.lock().lanes.len()
    }

    /// Returns whether nobody waits and nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn departure(&self, key: &K, parts: Vec<P>) -> Departure<K, P> {
        Departure { parts, key: key.clone(), lanes: self.lanes.clone() }
    }
}

impl<K: Hash + Eq, P> Drop for Departure<K, P> {
    fn drop(&mut self) {
        self.lanes.lock().arrived(&self.key);
    }
}

impl<K: Hash + Eq + Clone, P> Lanes<K, P> {
    fn come(&mut self, key: &K, part: P, load: Load, limits: Limits) -> Step<P> {
        let lane = self.lanes.entry(key.clone()).or_insert_with(Lane::new);
        if limits.linger.is_zero() || lane.is_idle() {
            lane.under_way += 1;
            return Step::Leave(vec![part]);
        }
        lane.waiting.push(part);
        lane.load.items += load.items;
        lane.load.tokens += load.tokens;
        if lane.load.items >= limits.max_items || lane.load.tokens >= limits.max_tokens {
            return Step::Leave(lane.leave());
        }
        if lane.waiting.len() > 1 {
            return Step::Wait;
        }
        self.turns += 1;
        lane.turn = self.turns;
        Step::Linger(lane.turn)
    }
}

impl<K: Hash + Eq, P> Lanes<K, P> {
    /// Returns those whose linger is over, unless they left before it was.
    fn due(&mut self, key: &K, turn: u64) -> Option<Vec<P>> {
        let lane = self.lanes.get_mut(key)?;
        (lane.turn == turn && !lane.waiting.is_empty()).then(|| lane.leave())
    }

    /// Notes that what left together has ended.
    fn arrived(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.under_way = lane.under_way.saturating_sub(1);
        if lane.is_idle() {
            self.lanes.remove(key);
        }
    }
}

impl<P> Lane<P> {
    fn new() -> Self {
        Self { waiting: Vec::new(), load: Load::default(), turn: 0, under_way: 0 }
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }

    fn leave(&mut self) -> Vec<P> {
        self.under_way += 1;
        self.load = Load::default();
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{Limits, Load, Merger};

    const LIMITS: Limits =
        Limits { max_items: 10, max_tokens: 1_000, linger: Duration::from_millis(5), max_singles: 3 };

    fn load(items: usize) -> Load {
        Load { items, tokens: 10 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_caller_leaves_at_once_every_time() {
        let merger = Merger::new(LIMITS);
        let begun = Instant::now();
        for part in 0..5 {
            let departure = merger.come(&"lane", part, load(1)).unwrap().await.unwrap();
            assert_eq!(departure.parts, [part]);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(merger.is_empty(), "a lane goes with its last call");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_a_call_is_under_way_leaves_together_when_the_linger_is_over() {
        let merger = Merger::new(LIMITS);
        let first = merger.come(&"lane", 0, load(1)).unwrap().await.unwrap();
        let begun = Instant::now();
        let departure = merger.come(&"lane", 1, load(1)).unwrap();
        assert!(merger.come(&"lane", 2, load(1)).is_none());
        drop(first);
        assert!(merger.come(&"lane", 3, load(1)).is_none(), "the call has ended, but others wait");
        assert_eq!(departure.await.unwrap().parts, [1, 2, 3]);
        assert_eq!(begun.elapsed(), Duration::from_millis(5), "the linger is the first one's");
        assert!(merger.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_call_leaves_before_the_linger_is_over_and_its_timer_disturbs_no_later_one() {
        let merger = Merger::new(LIMITS);
        let _first = merger.come(&"lane", 0, load(1)).unwrap().await;
        let lingering = merger.come(&"lane", 1, load(6)).unwrap();
        let begun = Instant::now();
        let full = merger.come(&"lane", 2, load(6)).unwrap().await.unwrap();
        assert_eq!((full.parts.as_slice(), begun.elapsed()), ([1, 2].as_slice(), Duration::ZERO));
        tokio::time::advance(Duration::from_millis(3)).await;
        let next = merger.come(&"lane", 3, load(1)).unwrap();
        assert!(lingering.await.is_none(), "its callers have left");
        assert_eq!(next.await.unwrap().parts, [3]);
        let tokens = merger.come(&"lane", 4, Load { items: 1, tokens: 1_000 }).unwrap();
        assert_eq!(tokens.await.unwrap().parts, [4], "tokens fill a call as well");
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_do_not_meet_and_without_a_linger_nobody_does() {
        let merger = Merger::new(LIMITS);
        let _one = merger.come(&"one", 0, load(1)).unwrap().await;
        let two = merger.come(&"two", 1, load(1)).unwrap().await.unwrap();
        assert_eq!(two.parts, [1], "another lane is not waited for");
        let alone = Merger::new(Limits { linger: Duration::ZERO, ..LIMITS });
        let _first = alone.come(&"lane", 0, load(1)).unwrap().await;
        assert_eq!(alone.come(&"lane", 1, load(1)).unwrap().await.unwrap().parts, [1]);
    }

    proptest! {
        /// Whatever comes, lingers and ends in whatever order: everyone leaves once, only with its own tenant, in its own order.
        #[test]
        fn everyone_leaves_exactly_once_and_never_with_another_tenant(
            events in prop::collection::vec((0_usize..4, 1_usize..7, 0_u64..4), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let left: Vec<Vec<(usize, usize)>> = runtime.block_on(async {
                let merger = Merger::new(LIMITS);
                let mut tasks = tokio::task::JoinSet::new();
                for (number, (tenant, items, pause)) in events.iter().copied().enumerate() {
                    if let Some(departure) = merger.come(&tenant, (tenant, number), load(items)) {
                        tasks.spawn(async move {
                            let departure = departure.await?;
                            // Simulated time: the call itself takes a while.
                            tokio::time::sleep(Duration::from_millis(7)).await;
                            Some(departure.parts.clone())
                        });
                    }
                    // Simulated time: callers come as they like.
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                let left = tasks.join_all().await.into_iter().flatten().collect();
                assert!(merger.is_empty());
                left
            });
            let mut seen = BTreeMap::new();
            for together in left {
                prop_assert!(together.iter().all(|(tenant, _)| *tenant == together[0].0), "{:?}", together);
                prop_assert!(together.is_sorted_by_key(|(_, number)| *number));
                for (_, number) in together {
                    *seen.entry(number).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(seen.len(), events.len());
            prop_assert!(seen.values().all(|times| *times == 1));
        }
    }
}
