//! Questions by partition, and the nearest of them.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use super::decision::{Decision, Question, Verdict, dot};

/// Nearest questions that are judged where nothing else is said: a near one may be objected to while another is the right one.
pub const CANDIDATES: usize = 3;

/// Stored questions of every partition, each with a value that says where its answer is: the key of the exact cache.
///
/// A partition holds what has to be equal for an answer to be served at all (tenant, model, system prompt, tools, format, sampling
/// parameters, history); only within one are texts compared. Every lookup reads the vectors of its partition once, so partitions are
/// bounded, the oldest question giving way. A question whose answer the exact cache has dropped is dropped by [`Store::retain`], or by
/// [`Store::remove`] when it is found out.
#[derive(Debug)]
pub struct Store<P, V> {
    partitions: HashMap<P, VecDeque<Entry<V>>>,
    most_per_partition: usize,
    most: usize,
    len: usize,
    stored: u64,
}

/// A stored question.
#[derive(Clone, Debug)]
struct Entry<V> {
    question: Question,
    value: V,
    /// A number that grows: the smallest is the oldest.
    stored: u64,
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
    /// Makes an empty store of at most `most` questions, at most `most_per_partition` in one partition; each at least 1.
    #[must_use]
    pub fn new(most: usize, most_per_partition: usize) -> Self {
        let (most, most_per_partition) = (most.max(1), most_per_partition.max(1));
        Self { partitions: HashMap::new(), most_per_partition, most, len: 0, stored: 0 }
    }

    /// Stores a question and returns the values of those that gave way to it. A value stored again moves to the end.
    pub fn insert(&mut self, partition: P, question: Question, value: V) -> Vec<V> {
        let _ = self.remove(&partition, &value);
        self.stored += 1;
        let entries = self.partitions.entry(partition).or_default();
        entries.push_back(Entry { question, value, stored: self.stored });
        let mut gone = Vec::new();
        if entries.len() > self.most_per_partition {
            gone.extend(entries.pop_front().map(|entry| entry.value));
        } else {
            self.len += 1;
        }
        if self.len > self.most {
            gone.extend(self.drop_oldest());
        }
        gone
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

    /// Removes the question with this value; returns whether there was one.
    pub fn remove(&mut self, partition: &P, value: &V) -> bool {
        let Some(entries) = self.partitions.get_mut(partition) else { return false };
        let before = entries.len();
        entries.retain(|entry| entry.value != *value);
        let gone = before - entries.len();
        if entries.is_empty() {
            self.partitions.remove(partition);
        }
        self.len -= gone;
        gone > 0
    }

    /// Keeps the questions whose partition and value `keep` wants; returns how many were removed.
    pub fn retain(&mut self, mut keep: impl FnMut(&P, &V) -> bool) -> usize {
        let before = self.len;
        self.partitions.retain(|partition, entries| {
            entries.retain(|entry| keep(partition, &entry.value));
            !entries.is_empty()
        });
        self.len = self.partitions.values().map(VecDeque::len).sum();
        before - self.len
    }

    /// Changes how many questions are kept, at least 1, and returns the values of those that gave way.
    pub fn resize(&mut self, most: usize) -> Vec<V> {
        self.most = most.max(1);
        let excess = self.len.saturating_sub(self.most);
        (0..excess).filter_map(|_| self.drop_oldest()).collect()
    }

    /// Returns the number of questions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn drop_oldest(&mut self) -> Option<V> {
        let age = |entries: &VecDeque<Entry<V>>| entries.front().map_or(u64::MAX, |entry| entry.stored);
        let oldest = self.partitions.iter().min_by_key(|(_, entries)| age(entries));
        let partition = oldest.map(|(partition, _)| partition.clone())?;
        let entries = self.partitions.get_mut(&partition)?;
        let gone = entries.pop_front();
        if entries.is_empty() {
            self.partitions.remove(&partition);
        }
        self.len -= usize::from(gone.is_some());
        gone.map(|entry| entry.value)
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
    use super::{Decision, Lookup, Question, Store};

    fn question(text: &str, angle: f32) -> Question {
        Question::new(text, vec![angle.cos(), angle.sin()])
    }

    fn filled() -> Store<&'static str, u32> {
        let mut store = Store::new(10, 3);
        store.insert("a", question("how are pools made", 0.0), 1);
        store.insert("a", question("how are pools of 5 made", 0.05), 2);
        store.insert("b", question("how are pools made", 0.0), 3);
        store
    }

    #[test]
    fn the_best_of_the_nearest_is_served_with_its_verdict() {
        let decision = Decision::similar(0.9);
        let asked = question("how is a pool made", 0.06);
        let Lookup::Served(found) = filled().lookup(&"a", &asked, &decision, 2) else { panic!("not served") };
        assert_eq!((found.value, found.text.as_str()), (1, "how are pools made"));
        assert!(found.verdict.similarity > 0.99 && found.verdict.threshold == 0.9);
    }

    #[test]
    fn a_miss_names_the_nearest_question_and_why_it_is_none() {
        let decision = Decision::similar(0.9);
        let asked = question("how is a pool made", 0.06);
        let Lookup::Near(found) = filled().lookup(&"a", &asked, &decision, 1) else { panic!("served") };
        assert_eq!((found.value, found.verdict.objection.unwrap().guard), (2, "number"));
    }

    #[test]
    fn another_partition_is_never_looked_at() {
        let decision = Decision::similar(0.0);
        assert_eq!(filled().lookup(&"c", &question("how are pools made", 0.0), &decision, 9), Lookup::Empty);
    }

    #[test]
    fn the_oldest_give_way_within_a_partition_and_over_all() {
        let mut store = filled();
        assert!(store.insert("a", question("why", 1.0), 4).is_empty());
        assert_eq!(store.insert("a", question("where", 1.0), 5), [1]);
        assert_eq!(store.resize(2), [2, 3]);
        assert_eq!(store.insert("d", question("when", 1.0), 6), [4]);
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn what_is_removed_stored_again_or_not_retained_counts_once() {
        let mut store = filled();
        store.insert("a", question("how are pools made", 0.0), 1);
        assert_eq!(store.len(), 3);
        assert!(store.remove(&"a", &1) && !store.remove(&"a", &1) && !store.remove(&"c", &1));
        assert_eq!(store.retain(|partition, _| *partition == "a"), 1);
        assert_eq!((store.len(), store.is_empty()), (1, false));
    }
}
