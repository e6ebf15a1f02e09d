//! Questions by partition, and the nearest of them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
};

use super::decision::{Decision, Question, Verdict, dot};

/// Nearest questions that are judged where nothing else is said: a near one may be objected to while another is the right one.
pub const CANDIDATES: usize = 3;

/// How much a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most questions; at least 1.
    pub questions: usize,
    /// Most of them in one partition, all of which a lookup reads; at least 1.
    pub per_partition: usize,
    /// Most bytes of all of them, by estimate.
    pub bytes: usize,
}

/// Stored questions of every partition, each with a value that says where its answer is: the key of the exact cache.
///
/// A partition holds what has to be equal for an answer to be served at all (tenant, model, system prompt, tools, format, sampling
/// parameters, history); only within one are texts compared. The oldest question gives way, in a partition that is full and over all. A
/// question whose answer the exact cache has dropped is dropped by [`Store::retain`], or by [`Store::remove`] when it is found out; one
/// that is never found out gives way in its turn.
#[derive(Debug)]
pub struct Store<P, V> {
    limits: Limits,
    partitions: HashMap<P, VecDeque<Entry<V>>>,
    /// Where each question is, the oldest first.
    turns: BTreeMap<u64, P>,
    bytes: usize,
    stored: u64,
}

/// A stored question.
#[derive(Clone, Debug)]
struct Entry<V> {
    question: Question,
    value: V,
    /// A number that grows: the smallest is the oldest.
    turn: u64,
    bytes: usize,
}

/// A candidate and what was decided about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<V> {
    /// Where its answer is.
    pub value: V,
    /// The stored text.
    pub text: String,
    /// What was decided.
    pub verdict: Verdict,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<V> {
    /// The answer to this question may be served.
    Served(Candidate<V>),
    /// This is the nearest question, and its answer may not be served: the verdict says why.
    Near(Candidate<V>),
    /// The partition holds no question.
    Empty,
}

impl<P: Hash + Eq + Clone, V: Clone + PartialEq> Store<P, V> {
    /// Makes an empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, partitions: HashMap::new(), turns: BTreeMap::new(), bytes: 0, stored: 0 }
    }

    /// Stores a question, whose partition and value take this many `bytes`. A value stored again is the youngest then.
    pub fn insert(&mut self, partition: P, question: Question, value: V, bytes: usize) {
        self.remove(&partition, &value);
        let bytes = bytes + question.bytes();
        if bytes > self.limits.bytes {
            return;
        }
        // A partition is kept once, by whomever it was made.
        let partition = self.partitions.get_key_value(&partition).map_or(partition, |(held, _)| held.clone());
        let turn = self.stored;
        self.stored += 1;
        self.bytes += bytes;
        self.turns.insert(turn, partition.clone());
        let entries = self.partitions.entry(partition.clone()).or_default();
        entries.push_back(Entry { question, value, turn, bytes });
        if entries.len() > self.limits.per_partition.max(1) {
            self.drop_oldest_of(&partition);
        }
        while self.turns.len() > self.limits.questions.max(1) || self.bytes > self.limits.bytes {
            let Some((_, oldest)) = self.turns.first_key_value() else { break };
            self.drop_oldest_of(&oldest.clone());
        }
    }

    /// Judges the nearest `candidates` questions of the partition by similarity; serves the one that ranks best ([`Decision::rank`]) of those that
    /// may be served, else names the nearest. At least one candidate is judged.
    #[must_use]
    pub fn lookup(
        &self,
        partition: &P,
        asked: &Question,
        decision: &Decision,
        candidates: usize,
    ) -> Lookup<V> {
        let Some(entries) = self.partitions.get(partition) else { return Lookup::Empty };
        let mut nearest: Vec<(f32, &Entry<V>)> =
            entries.iter().map(|entry| (dot(&entry.question.vector, &asked.vector), entry)).collect();
        let wanted = candidates.clamp(1, nearest.len().max(1));
        if wanted < nearest.len() {
            nearest.select_nth_unstable_by(wanted - 1, |one, other| other.0.total_cmp(&one.0));
            nearest.truncate(wanted);
        }
        nearest.sort_by(|one, other| other.0.total_cmp(&one.0));
        let judged: Vec<(&Entry<V>, Verdict)> =
            nearest.into_iter().map(|(_, entry)| (entry, decision.judge(&entry.question, asked))).collect();
        let served = judged.iter().filter(|(_, verdict)| verdict.is_served());
        // Of equal rank the nearer question is served: it comes later in the reversed order.
        let best =
            served.rev().max_by(|one, other| decision.rank(&one.1).total_cmp(&decision.rank(&other.1)));
        match (best, judged.first()) {
            (Some(best), _) => Lookup::Served(candidate(best)),
            (None, Some(first)) => Lookup::Near(candidate(first)),
            (None, None) => Lookup::Empty,
        }
    }

    /// Removes the question with this value.
    pub fn remove(&mut self, partition: &P, value: &V) {
        let Some(entries) = self.partitions.get_mut(partition) else { return };
        let Some(place) = entries.iter().position(|entry| entry.value == *value) else { return };
        let gone = entries.remove(place);
        self.left(partition, gone);
    }

    /// Keeps the questions whose value `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        let Self { partitions, turns, bytes, .. } = self;
        partitions.retain(|_, entries| {
            entries.retain(|entry| {
                let stays = keep(&entry.value);
                if !stays {
                    turns.remove(&entry.turn);
                    *bytes -= entry.bytes;
                }
                stays
            });
            !entries.is_empty()
        });
    }

    /// Returns the number of questions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn drop_oldest_of(&mut self, partition: &P) {
        let gone = self.partitions.get_mut(partition).and_then(VecDeque::pop_front);
        self.left(partition, gone);
    }

    /// Takes note that an entry has left its partition.
    fn left(&mut self, partition: &P, gone: Option<Entry<V>>) {
        if let Some(Entry { turn, bytes, .. }) = gone {
            self.turns.remove(&turn);
            self.bytes -= bytes;
        }
        if self.partitions.get(partition).is_some_and(VecDeque::is_empty) {
            self.partitions.remove(partition);
        }
    }
}

fn candidate<V: Clone>((entry, verdict): &(&Entry<V>, Verdict)) -> Candidate<V> {
    Candidate {
        value: entry.value.clone(),
        text: entry.question.text.as_str().to_owned(),
        verdict: verdict.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, Limits, Lookup, Question, Store};

    const ROOMY: Limits = Limits { questions: 10, per_partition: 3, bytes: 1 << 20 };

    fn question(text: &str, angle: f32) -> Question {
        Question::new(text, vec![angle.cos(), angle.sin()])
    }

    fn filled(limits: Limits) -> Store<&'static str, u32> {
        let mut store = Store::new(limits);
        store.insert("a", question("how are pools made", 0.0), 1, 10);
        store.insert("a", question("how are pools of 5 made", 0.05), 2, 10);
        store.insert("b", question("how are pools made", 0.0), 3, 10);
        store
    }

    fn values(store: &Store<&'static str, u32>) -> Vec<u32> {
        let mut entries: Vec<_> = store.partitions.values().flatten().collect();
        entries.sort_by_key(|entry| entry.turn);
        assert_eq!(entries.iter().map(|entry| entry.bytes).sum::<usize>(), store.bytes);
        assert!(entries.iter().map(|entry| entry.turn).eq(store.turns.keys().copied()));
        entries.iter().map(|entry| entry.value).collect()
    }

    #[test]
    fn the_best_of_the_nearest_is_served_with_its_verdict() {
        let decision = Decision::similar(0.9);
        let asked = question("how is a pool made", 0.06);
        let Lookup::Served(found) = filled(ROOMY).lookup(&"a", &asked, &decision, 2) else {
            panic!("not served")
        };
        assert_eq!((found.value, found.text.as_str()), (1, "how are pools made"));
        assert!(found.verdict.similarity > 0.99 && found.verdict.threshold == 0.9);
    }

    #[test]
    fn a_miss_names_the_nearest_question_and_why_it_is_none() {
        let decision = Decision::similar(0.9);
        let asked = question("how is a pool made", 0.06);
        let Lookup::Near(found) = filled(ROOMY).lookup(&"a", &asked, &decision, 1) else { panic!("served") };
        assert_eq!((found.value, found.verdict.objection.unwrap().guard), (2, "number"));
    }

    #[test]
    fn another_partition_is_never_looked_at() {
        let decision = Decision::similar(0.0);
        assert_eq!(
            filled(ROOMY).lookup(&"c", &question("how are pools made", 0.0), &decision, 9),
            Lookup::Empty
        );
    }

    #[test]
    fn the_oldest_give_way_within_a_partition_and_over_all() {
        let mut store = filled(Limits { questions: 4, ..ROOMY });
        store.insert("a", question("why", 1.0), 4, 10);
        assert_eq!(values(&store), [1, 2, 3, 4]);
        store.insert("a", question("where", 1.0), 5, 10);
        assert_eq!(values(&store), [2, 3, 4, 5], "the partition is full");
        store.insert("c", question("when", 1.0), 6, 10);
        store.insert("c", question("who", 1.0), 7, 10);
        assert_eq!(values(&store), [4, 5, 6, 7], "the store is full, and a partition is gone");
    }

    #[test]
    fn bytes_are_bounded_and_what_never_fits_takes_nobodys_place() {
        let full = filled(ROOMY).bytes;
        let mut store = filled(Limits { bytes: full, ..ROOMY });
        store.insert("c", question("when", 1.0), 4, full);
        assert_eq!(values(&store), [1, 2, 3]);
        store.insert("c", question("when", 1.0), 4, 10);
        assert_eq!(values(&store), [2, 3, 4]);
    }

    #[test]
    fn what_is_removed_stored_again_or_not_retained_counts_once() {
        let mut store = filled(ROOMY);
        store.insert("a", question("how are pools made", 0.0), 1, 10);
        assert_eq!(values(&store), [2, 3, 1]);
        store.remove(&"a", &1);
        store.remove(&"a", &1);
        store.remove(&"c", &1);
        store.retain(|value| *value != 3);
        assert_eq!((values(&store), store.len(), store.is_empty()), (vec![2], 1, false));
    }
}
