//! Decides what becomes of the memories of a request: each is stored, merged into one that says the same, or known as an echo.

use std::{collections::HashMap, sync::Arc};

use super::{merge::merge, near, saying::Saying};
use crate::memory::{Record, cosine};

/// What is done with a memory that says what another one says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// It is stored beside it, whatever it repeats.
    Keep,
    /// The two become one, and an echo is not stored.
    Merge,
}

/// How a request is settled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Manner {
    /// What the caller asked for; absent: [`Manner::otherwise`], but a memory that came with an id is kept.
    pub(crate) asked: Option<Duplicates>,
    /// What the settings say.
    pub(crate) otherwise: Duplicates,
    /// Likeness from which memories in nearly the same words are one, -1 to 1.
    pub(crate) threshold: f32,
    /// Most memories in nearly the same words that one is compared with, the last written first.
    pub(crate) most: usize,
}

/// A completed memory as it came.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The memory.
    pub(crate) record: Record,
    /// Whether its id came from the caller.
    pub(crate) is_named: bool,
}

/// What is known of a space about a memory that is given: live memories only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Whether there is a memory of its id.
    pub(crate) is_there: bool,
    /// The memory, of any category, that its agent recalled lately and that says the same of the same pools.
    pub(crate) repeats: Option<Arc<str>>,
    /// Memories that may say the same, the last written first.
    pub(crate) alike: Vec<Alike>,
}

/// A memory that may say the same.
#[derive(Clone, Debug)]
pub(crate) struct Alike {
    /// Its number.
    pub(crate) seq: u64,
    /// The memory.
    pub(crate) record: Record,
    /// Whether the agent that writes recalled it lately.
    pub(crate) is_heard: bool,
}

/// What became of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is stored under its id.
    Stored,
    /// It became a part of the memory of this id.
    Merged(Arc<str>),
    /// It says what the memory of this id said when it was recalled lately; nothing was stored.
    Echo(Arc<str>),
}

/// A put that is several memories in one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Join {
    /// Its place among the puts.
    pub(crate) at: usize,
    /// The number of the stored memory that it goes on from; absent where there was none.
    pub(crate) older: Option<u64>,
    /// The memories of the request that it is made of.
    pub(crate) parts: Vec<Record>,
}

/// What is to be written, and what became of each memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// The records to put.
    pub(crate) puts: Vec<Record>,
    /// Those of them that are several memories in one.
    pub(crate) joins: Vec<Join>,
    /// One for each memory, in their order.
    pub(crate) fates: Vec<Fate>,
    /// Memories of the request that a later one of their id replaced.
    pub(crate) replaced: u32,
}

/// A request while it is settled.
#[derive(Default)]
struct Request {
    settled: Settled,
    /// Where a put of an id is.
    ids: HashMap<Arc<str>, usize>,
    /// Where puts may be that say this.
    places: HashMap<Saying, Vec<usize>>,
}

enum Step {
    Store,
    /// Into the put of this place.
    Within(usize),
    /// Into a stored one.
    Into(Alike),
    Echo(Arc<str>),
}

/// Settles the memories of one request, in their order: a later one may become a part of an earlier one. Of each is told what is known.
pub(crate) fn settle(given: &[Given], mut known: Vec<Known>, manner: Manner) -> Settled {
    let mut request = Request::default();
    known.resize_with(given.len(), Known::default);
    for (Given { record, is_named }, known) in given.iter().zip(known) {
        let step = match manner.of(*is_named) {
            Duplicates::Merge if !known.is_there => request.step(record, known, manner),
            // Who names a memory that is there gets it.
            _ => Step::Store,
        };
        let fate = match step {
            Step::Echo(id) => Fate::Echo(id),
            Step::Store => {
                request.replace(&record.memory.id);
                request.put(record.clone());
                Fate::Stored
            }
            Step::Within(at) => request.merge_within(at, record),
            Step::Into(older) => request.merge_into(older, record),
        };
        request.settled.fates.push(fate);
    }
    request.settled
}

impl Manner {
    /// Returns what is done with a memory that was named or not.
    pub(crate) fn of(&self, is_named: bool) -> Duplicates {
        let otherwise = if is_named { Duplicates::Keep } else { self.otherwise };
        self.asked.unwrap_or(otherwise)
    }
}

impl Request {
    fn step(&self, record: &Record, known: Known, manner: Manner) -> Step {
        let is_one = |older: &Record| {
            let likeness = cosine(&older.embedding, &record.embedding);
            near::compare(&older.memory, &record.memory, likeness, manner.threshold).merges()
        };
        let puts = &self.settled.puts;
        let places = self.places.get(&record.saying).into_iter().flatten().rev();
        let mut within = places.copied().filter(|at| puts[*at].saying == record.saying).take(manner.most);
        if let Some(at) = within.find(|at| is_one(&puts[*at])) {
            let is_same = puts[at].memory.id == record.memory.id;
            return if is_same { Step::Store } else { Step::Within(at) };
        }
        // One that the request wrote again says something else now.
        let is_left = |id: &Arc<str>| !self.ids.contains_key(id);
        if let Some(id) = known.repeats.filter(is_left) {
            return Step::Echo(id);
        }
        let mut alike = known.alike.into_iter().filter(|alike| is_left(&alike.record.memory.id));
        match alike.find(|alike| is_one(&alike.record)) {
            Some(alike) if alike.is_heard => Step::Echo(Arc::clone(&alike.record.memory.id)),
            Some(alike) => Step::Into(alike),
            None => Step::Store,
        }
    }

    /// Lets go of what the request put under `id`: a merge that it replaced itself cannot be undone over it.
    fn replace(&mut self, id: &str) {
        if let Some(at) = self.ids.get(id) {
            self.settled.replaced += 1;
            self.settled.joins.retain(|join| join.at != *at);
        }
    }

    fn put(&mut self, record: Record) -> usize {
        let saying = record.saying;
        let Settled { puts, .. } = &mut self.settled;
        let at = *self.ids.entry(Arc::clone(&record.memory.id)).or_insert(puts.len());
        if at == puts.len() {
            puts.push(record);
        } else {
            puts[at] = record;
        }
        let places = self.places.entry(saying).or_default();
        if places.last() != Some(&at) {
            places.push(at);
        }
        at
    }

    fn merge_within(&mut self, at: usize, record: &Record) -> Fate {
        let older = self.settled.puts[at].clone();
        let fate = Fate::Merged(Arc::clone(&older.memory.id));
        let merged = merge(&older.memory, record);
        if merged != older {
            let joins = &mut self.settled.joins;
            match joins.iter_mut().find(|join| join.at == at) {
                Some(join) => join.parts.push(record.clone()),
                None => joins.push(Join { at, older: None, parts: vec![older, record.clone()] }),
            }
            self.put(merged);
        }
        fate
    }

    fn merge_into(&mut self, older: Alike, record: &Record) -> Fate {
        let Alike { seq, record: older, .. } = older;
        let fate = Fate::Merged(Arc::clone(&older.memory.id));
        let merged = merge(&older.memory, record);
        // A request that is made again changes nothing.
        if merged != older {
            let at = self.put(merged);
            self.settled.joins.push(Join { at, older: Some(seq), parts: vec![record.clone()] });
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Alike, Duplicates, Fate, Given, Known, Manner, Settled, settle};
    use crate::{
        hygiene::{form, near, saying::Saying},
        memory::{Memory, Record},
    };

    const MERGE: Manner = Manner { asked: None, otherwise: Duplicates::Merge, threshold: 0.9, most: 9 };

    /// Memories that are all alike, and ids that were recalled.
    #[derive(Default)]
    struct Space(Vec<Record>, Vec<&'static str>);

    impl Space {
        fn known(&self, given: &[Given]) -> Vec<Known> {
            given.iter().map(|given| self.about(&given.record.memory)).collect()
        }

        fn about(&self, memory: &Memory) -> Known {
            let is_heard = |record: &Record| self.1.contains(&&*record.memory.id);
            let said = |record: &&Record| {
                form::content(&record.memory.content) == form::content(&memory.content) && is_heard(record)
            };
            let alike = self.0.iter().enumerate().rev();
            let alike = alike.map(|(place, record)| (place as u64 + 1, record));
            let alike = alike.filter(|(_, record)| Saying::of(&record.memory) == Saying::of(memory));
            let of = |(seq, record): (u64, &Record)| Alike {
                seq,
                record: record.clone(),
                is_heard: is_heard(record),
            };
            Known {
                is_there: self.0.iter().any(|record| record.memory.id == memory.id),
                repeats: self.0.iter().find(said).map(|record| Arc::clone(&record.memory.id)),
                alike: alike.map(of).collect(),
            }
        }

        fn settle(&self, given: &[Given], manner: Manner) -> Settled {
            settle(given, self.known(given), manner)
        }
    }

    fn record(id: &str, content: &str) -> Record {
        let memory = Memory { id: id.into(), content: content.into(), ..Memory::bare() };
        Record::new(memory, vec![1.0])
    }

    fn given(id: &str, content: &str) -> Given {
        let record = record(id, content);
        Given { record, is_named: false }
    }

    fn named(id: &str, content: &str) -> Given {
        Given { is_named: true, ..given(id, content) }
    }

    fn space(recalled: Vec<&'static str>) -> Space {
        Space(vec![record("low", "gas is low"), record("apr", "the APR is 25")], recalled)
    }

    fn puts(settled: &Settled) -> Vec<(&str, &str)> {
        settled.puts.iter().map(|record| (&*record.memory.id, record.memory.content.as_str())).collect()
    }

    fn joins(settled: &Settled) -> Vec<(usize, Option<u64>, Vec<&str>)> {
        let joins = settled.joins.iter();
        let ids =
            joins.map(|join| (join.at, join.older, join.parts.iter().map(|part| &*part.memory.id).collect()));
        ids.collect()
    }

    #[test]
    fn what_says_the_same_becomes_one_and_what_does_not_is_stored() {
        let batch = [given("1", "Gas is LOW"), given("2", "the APR is 250"), given("3", "APR is 25.")];
        let settled = space(vec![]).settle(&batch, MERGE);
        assert_eq!(settled.fates, [Fate::Merged("low".into()), Fate::Stored, Fate::Merged("apr".into())]);
        assert_eq!(puts(&settled), [("low", "Gas is LOW"), ("2", "the APR is 250"), ("apr", "APR is 25.")]);
        assert_eq!(joins(&settled), [(0, Some(1), vec!["1"]), (2, Some(2), vec!["3"])]);
    }

    #[test]
    fn what_was_just_recalled_is_not_stored_back() {
        let batch = [given("1", "Gas is low"), given("2", "the gas is low."), given("3", "APR is 25")];
        let settled = space(vec!["low"]).settle(&batch, MERGE);
        let echo = Fate::Echo("low".into());
        assert_eq!(settled.fates, [echo.clone(), echo, Fate::Merged("apr".into())]);
    }

    #[test]
    fn memories_of_one_request_become_one_too() {
        let batch = [given("1", "fees rise"), given("2", "Fees  rise"), given("3", "the fees RISE")];
        let settled = Space::default().settle(&batch, MERGE);
        assert_eq!(settled.fates, [Fate::Stored, Fate::Merged("1".into()), Fate::Merged("1".into())]);
        assert_eq!(puts(&settled), [("1", "the fees RISE")]);
        assert_eq!(joins(&settled), [(0, None, vec!["1", "2", "3"])]);
    }

    #[test]
    fn a_memory_that_is_changed_twice_in_a_request_keeps_both_changes() {
        let tagged = |id: &str, content: &str, tag: &str| {
            let mut given = given(id, content);
            Arc::make_mut(&mut given.record.memory).tags.push(tag.into());
            given
        };
        let batch = [tagged("1", "gas is low.", "a"), tagged("2", "the gas is low", "b")];
        let settled = space(vec![]).settle(&batch, MERGE);
        assert_eq!(puts(&settled), [("low", "the gas is low")]);
        assert_eq!(settled.puts[0].memory.tags, ["a", "b"]);
        assert_eq!(joins(&settled), [(0, Some(1), vec!["1", "2"])]);
    }

    #[test]
    fn what_a_request_wrote_again_is_merged_with_no_more() {
        let mut batch =
            vec![named("low", "gas is high"), given("2", "gas is low"), given("3", "gas is HIGH")];
        let settled = space(vec![]).settle(&batch, MERGE);
        assert_eq!(settled.fates, [Fate::Stored, Fate::Stored, Fate::Merged("low".into())]);
        assert_eq!(
            (puts(&settled), settled.replaced),
            (vec![("low", "gas is HIGH"), ("2", "gas is low")], 0)
        );
        batch.push(named("low", "the last one"));
        let settled = space(vec![]).settle(&batch, MERGE);
        assert_eq!((puts(&settled)[0], settled.replaced), (("low", "the last one"), 1));
        let heard = space(vec!["low"]).settle(&batch[..2], MERGE);
        assert_eq!(heard.fates, [Fate::Stored, Fate::Stored], "nor is it repeated");
    }

    #[test]
    fn what_adds_nothing_writes_nothing() {
        let settled =
            space(vec![]).settle(&[given("1", "gas is low"), given("2", "new"), given("3", "new")], MERGE);
        assert_eq!(settled.fates, [Fate::Merged("low".into()), Fate::Stored, Fate::Merged("2".into())]);
        assert_eq!((puts(&settled), joins(&settled)), (vec![("2", "new")], vec![]));
    }

    #[test]
    fn who_names_a_memory_gets_it_unless_merging_is_asked_for() {
        let mine = [named("mine", "Gas is low")];
        assert_eq!(space(vec!["low"]).settle(&mine, MERGE).fates, [Fate::Stored]);
        let asked = |duplicates| Manner { asked: Some(duplicates), ..MERGE };
        let merged = space(vec![]).settle(&mine, asked(Duplicates::Merge));
        assert_eq!(merged.fates, [Fate::Merged("low".into())]);
        let kept = space(vec!["low"]).settle(&[given("1", "gas is low")], asked(Duplicates::Keep));
        assert_eq!(kept.fates, [Fate::Stored]);
        let there = space(vec!["low"]).settle(&[named("apr", "gas is low")], asked(Duplicates::Merge));
        assert_eq!(
            (there.fates.as_slice(), puts(&there)),
            (&[Fate::Stored][..], vec![("apr", "gas is low")])
        );
    }

    #[test]
    fn likeness_may_still_tell_two_apart() {
        let mut far = given("1", "the gas is low.");
        far.record.embedding = vec![-1.0];
        assert_eq!(space(vec![]).settle(&[far], MERGE).fates, [Fate::Stored]);
    }

    proptest! {
        /// Whatever comes: what is not stored is said by what is there or stored, and nothing is put twice.
        #[test]
        fn nothing_is_lost(texts in proptest::collection::vec("(the )?(gas|fees?) is (low|5|5.0)[.]?", 1..9), heard in any::<bool>()) {
            let batch: Vec<Given> =
                texts.iter().enumerate().map(|(number, text)| given(&number.to_string(), text)).collect();
            let space = Space(vec![record("old", "gas is low")], if heard { vec!["old"] } else { vec![] });
            let settled = space.settle(&batch, MERGE);
            for (given, fate) in batch.iter().zip(&settled.fates) {
                let id = match fate {
                    Fate::Stored => &given.record.memory.id,
                    Fate::Merged(id) | Fate::Echo(id) => id,
                };
                let mut all = settled.puts.iter().chain(&space.0);
                let kept = all.find(|record| record.memory.id == *id).unwrap();
                prop_assert!(near::compare(&kept.memory, &given.record.memory, 1.0, 0.9).merges());
            }
            let ids: std::collections::HashSet<_> = settled.puts.iter().map(|put| &put.memory.id).collect();
            prop_assert_eq!(ids.len(), settled.puts.len());
        }
    }
}
