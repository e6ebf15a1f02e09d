//! Decides what becomes of the memories of a request: each is stored, merged into one that says the same, or known as an echo.

use std::{collections::HashMap, sync::Arc};

use super::{
    form::{self, Print},
    merge::merge,
    near,
};
use crate::memory::{Memory, Record};

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
}

/// A completed memory, and whether its id came from the caller.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The memory.
    pub(crate) record: Record,
    /// Whether the caller named it.
    pub(crate) is_named: bool,
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

/// What is to be written, and what became of each memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// The records to put.
    pub(crate) puts: Vec<Record>,
    /// One for each memory, in their order.
    pub(crate) fates: Vec<Fate>,
}

/// What is known of a space while a request is settled: live memories only.
pub(crate) trait Known {
    /// Returns the memory with this print of [`form::memory`].
    fn same(&self, print: &Print) -> Option<Arc<Memory>>;

    /// Returns a few memories of the same category and agent whose vectors are like that of `record` the most, with their likeness.
    fn nearest(&self, record: &Record) -> Vec<(Arc<Memory>, f32)>;

    /// Returns the memory that the agent of `memory` recalled lately and whose content this is.
    fn repeated(&self, memory: &Memory) -> Option<Arc<str>>;

    /// Returns whether the agent of `memory` recalled that of `id` lately.
    fn is_recalled(&self, memory: &Memory, id: &str) -> bool;
}

/// Settles the memories of one request, in their order: a later one may become a part of an earlier one.
pub(crate) fn settle(given: Vec<Given>, manner: Manner, known: &impl Known) -> Settled {
    let mut settled = Settled::default();
    // Where in `puts` a print is, and an id.
    let mut prints: HashMap<Print, usize> = HashMap::new();
    let mut ids: HashMap<Arc<str>, usize> = HashMap::new();
    for Given { record, is_named } in given {
        let print = form::memory(&record.memory);
        let step = match manner.of(is_named) {
            Duplicates::Keep => Step::Store,
            Duplicates::Merge => match prints.get(&print) {
                Some(at) => step_within(&settled.puts, *at, &record),
                None => step(&record, &print, manner.threshold, known),
            },
        };
        let fate = match step {
            Step::Echo(id) => Fate::Echo(id),
            Step::Store => {
                put(&mut settled.puts, &mut ids, record, &mut prints, print);
                Fate::Stored
            }
            Step::Merge(older) => {
                // An earlier memory of the request may have changed it.
                let older = ids.get(&older.id).map_or(older, |at| Arc::clone(&settled.puts[*at].memory));
                let id = Arc::clone(&older.id);
                put(&mut settled.puts, &mut ids, merge(&older, &record), &mut prints, print);
                if id == record.memory.id { Fate::Stored } else { Fate::Merged(id) }
            }
        };
        settled.fates.push(fate);
    }
    settled
}

enum Step {
    Store,
    Merge(Arc<Memory>),
    Echo(Arc<str>),
}

impl Manner {
    fn of(self, is_named: bool) -> Duplicates {
        let otherwise = if is_named { Duplicates::Keep } else { self.otherwise };
        self.asked.unwrap_or(otherwise)
    }
}

fn step(record: &Record, print: &Print, threshold: f32, known: &impl Known) -> Step {
    let memory = &*record.memory;
    if let Some(id) = known.repeated(memory).filter(|id| *id != memory.id) {
        return Step::Echo(id);
    }
    let same = known.same(print).filter(|older| near::apart(older, memory).is_none());
    let near = || {
        let nearest = known.nearest(record).into_iter();
        let mut merges =
            nearest.filter(|(older, likeness)| near::compare(older, memory, *likeness, threshold).merges());
        merges.next().map(|(older, _)| older)
    };
    match same.or_else(near) {
        Some(older) if older.id != memory.id && known.is_recalled(memory, &older.id) => {
            Step::Echo(Arc::clone(&older.id))
        }
        Some(older) => Step::Merge(older),
        None => Step::Store,
    }
}

fn step_within(puts: &[Record], at: usize, record: &Record) -> Step {
    let older = &puts[at].memory;
    let merges = near::apart(older, &record.memory).is_none();
    if merges { Step::Merge(Arc::clone(older)) } else { Step::Store }
}

fn put(
    puts: &mut Vec<Record>,
    ids: &mut HashMap<Arc<str>, usize>,
    record: Record,
    prints: &mut HashMap<Print, usize>,
    print: Print,
) {
    let at = *ids.entry(Arc::clone(&record.memory.id)).or_insert(puts.len());
    if at == puts.len() {
        puts.push(record);
    } else {
        // What it said before it says no more.
        prints.remove(&form::memory(&puts[at].memory));
        puts[at] = record;
    }
    prints.insert(print, at);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Duplicates, Fate, Given, Known, Manner, Settled, settle};
    use crate::{
        hygiene::form::{self, Print},
        memory::{Memory, Record},
    };

    const MERGE: Manner = Manner { asked: None, otherwise: Duplicates::Merge, threshold: 0.9 };

    /// Memories that are all alike, and ids that were recalled.
    #[derive(Default)]
    struct Space(Vec<Arc<Memory>>, Vec<&'static str>);

    impl Known for Space {
        fn same(&self, print: &Print) -> Option<Arc<Memory>> {
            self.0.iter().find(|memory| form::memory(memory) == *print).cloned()
        }

        fn nearest(&self, _: &Record) -> Vec<(Arc<Memory>, f32)> {
            self.0.iter().map(|memory| (Arc::clone(memory), 0.95)).collect()
        }

        fn repeated(&self, memory: &Memory) -> Option<Arc<str>> {
            let said = form::content(&memory.content);
            let known = self.0.iter().find(|known| form::content(&known.content) == said)?;
            self.1.contains(&&*known.id).then(|| Arc::clone(&known.id))
        }

        fn is_recalled(&self, _: &Memory, id: &str) -> bool {
            self.1.contains(&id)
        }
    }

    fn record(id: &str, content: &str) -> Record {
        let memory = Memory { id: id.into(), content: content.into(), ..Memory::bare() };
        Record { memory: Arc::new(memory), embedding: vec![1.0] }
    }

    fn given(id: &str, content: &str) -> Given {
        Given { record: record(id, content), is_named: false }
    }

    fn space(recalled: Vec<&'static str>) -> Space {
        let memories = [record("low", "gas is low"), record("apr", "the APR is 25")];
        Space(memories.map(|record| record.memory).into(), recalled)
    }

    fn puts(settled: &Settled) -> Vec<(&str, &str)> {
        settled.puts.iter().map(|record| (&*record.memory.id, record.memory.content.as_str())).collect()
    }

    #[test]
    fn what_says_the_same_becomes_one_and_what_does_not_is_stored() {
        let batch = vec![given("1", "Gas is LOW"), given("2", "the APR is 250"), given("3", "APR is 25.")];
        let settled = settle(batch, MERGE, &space(vec![]));
        assert_eq!(settled.fates, [Fate::Merged("low".into()), Fate::Stored, Fate::Merged("apr".into())]);
        assert_eq!(puts(&settled), [("low", "Gas is LOW"), ("2", "the APR is 250"), ("apr", "APR is 25.")]);
    }

    #[test]
    fn what_was_just_recalled_is_not_stored_back() {
        let batch =
            vec![given("1", "Gas is low"), given("2", "the gas is low."), given("3", "the APR is 25")];
        let settled = settle(batch, MERGE, &space(vec!["low"]));
        let echo = Fate::Echo("low".into());
        assert_eq!(settled.fates, [echo.clone(), echo, Fate::Merged("apr".into())]);
    }

    #[test]
    fn memories_of_one_request_become_one_too() {
        let batch = vec![given("1", "fees rise"), given("2", "Fees  rise"), given("3", "fees RISE")];
        let settled = settle(batch, MERGE, &Space::default());
        assert_eq!(settled.fates, [Fate::Stored, Fate::Merged("1".into()), Fate::Merged("1".into())]);
        assert_eq!(puts(&settled), [("1", "fees RISE")]);
    }

    #[test]
    fn a_memory_that_is_changed_twice_in_a_request_keeps_both_changes() {
        let tagged = |id: &str, content: &str, tag: &str| {
            let mut given = given(id, content);
            Arc::make_mut(&mut given.record.memory).tags.push(tag.into());
            given
        };
        let batch = vec![tagged("1", "gas is low.", "a"), tagged("2", "the gas is low", "b")];
        let settled = settle(batch, MERGE, &space(vec![]));
        assert_eq!(puts(&settled), [("low", "the gas is low")]);
        assert_eq!(settled.puts[0].memory.tags, ["a", "b"]);
    }

    #[test]
    fn who_names_a_memory_gets_it_unless_merging_is_asked_for() {
        let named = || vec![Given { is_named: true, ..given("mine", "gas is low") }];
        assert_eq!(settle(named(), MERGE, &space(vec!["low"])).fates, [Fate::Stored]);
        let asked = |duplicates| Manner { asked: Some(duplicates), ..MERGE };
        let merged = settle(named(), asked(Duplicates::Merge), &space(vec![]));
        assert_eq!(merged.fates, [Fate::Merged("low".into())]);
        let kept = settle(vec![given("1", "gas is low")], asked(Duplicates::Keep), &space(vec!["low"]));
        assert_eq!(kept.fates, [Fate::Stored]);
        let again = vec![Given { is_named: true, ..given("low", "gas is low") }];
        let again = settle(again, asked(Duplicates::Merge), &space(vec!["low"]));
        assert_eq!(
            (again.fates.as_slice(), puts(&again)),
            (&[Fate::Stored][..], vec![("low", "gas is low")])
        );
    }
}
