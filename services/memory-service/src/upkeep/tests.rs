//! The rooms of upkeep together, over a store that keeps everything in maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{collection::vec, prelude::*};

use super::{
    forgettings::{Cause, Forgetting, Kept, State, restore, surplus},
    prune::{Plan, Quotas, Row, plan},
    round::{Step, steps},
    value::Reckoning,
};
use crate::memory::{Memory, Record};

const WINDOW: Duration = Duration::from_secs(20);
const QUOTAS: u64 = 6;

struct Space {
    now: SystemTime,
    next: u64,
    memories: BTreeMap<u64, Record>,
    kept: BTreeMap<u64, Vec<Kept>>,
    log: BTreeMap<u64, Forgetting>,
    last: u64,
}

impl Space {
    fn new() -> Self {
        let (memories, kept, log) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { now: UNIX_EPOCH, next: 1, memories, kept, log, last: 0 }
    }

    fn leads(&self, id: &str) -> Option<u64> {
        self.memories.iter().find(|(_, record)| *record.memory.id == *id).map(|(seq, _)| *seq)
    }

    fn write(&mut self, record: Record) {
        if let Some(seq) = self.leads(&record.memory.id) {
            self.memories.remove(&seq);
        }
        self.memories.insert(self.next, record);
        self.next += 1;
    }

    fn remember(&mut self, id: u8, importance: u8, life: Option<u8>, pinned: bool) {
        let expires = life.map(|life| self.now + Duration::from_secs(life.into()));
        let (id, importance) = (id.to_string().into(), f64::from(importance) / 255.0);
        let memory = Memory { id, importance, expires, pinned, time: self.now, ..Memory::bare() };
        self.write(Record::new(memory, Vec::new()));
    }

    fn forget(&mut self, cause: Cause, seqs: &[u64]) {
        let gone: Vec<Record> = seqs.iter().filter_map(|seq| self.memories.remove(seq)).collect();
        if !gone.is_empty() {
            self.last += 1;
            let entry = Forgetting::new(self.last, cause, gone.len() as u64, self.now, WINDOW);
            self.log.insert(self.last, entry);
            let kept = gone.into_iter().map(|record| Kept { record, onward: None });
            self.kept.insert(self.last, kept.collect());
        }
    }

    fn plan(&self) -> Plan {
        let reckoning = Reckoning { now: self.now, half_life: Duration::from_secs(50) };
        let row = |(seq, record): (&u64, &Record)| {
            let memory = &record.memory;
            let (category, worth) = (memory.category.as_str().into(), reckoning.worth(memory));
            Row { seq: *seq, category, worth, pinned: memory.pinned }
        };
        let rows = self.memories.iter().filter(|(_, record)| !self.is_over(record)).map(row).collect();
        plan(rows, &Quotas { total: QUOTAS, categories: BTreeMap::new() })
    }

    fn is_over(&self, record: &Record) -> bool {
        record.memory.expires.is_some_and(|at| at <= self.now)
    }

    fn upkeep(&mut self) {
        let over = self.memories.iter().filter(|(_, record)| self.is_over(record));
        let over: Vec<u64> = over.map(|(seq, _)| *seq).collect();
        let due = self.kept.keys().copied().filter(|number| self.log[number].undoable(self.now).is_err());
        let due: Vec<u64> = due.collect();
        for step in steps(&due, &over, &self.plan(), 2) {
            match step {
                Step::Purge(numbers) => {
                    for number in numbers {
                        self.kept.remove(&number);
                        self.end(number, State::Purged);
                    }
                }
                Step::Forget(cause, seqs) => self.forget(cause, &seqs),
            }
        }
    }

    fn end(&mut self, number: u64, state: State) {
        self.log.get_mut(&number).unwrap().state = state;
        for gone in surplus(self.log.values(), 3) {
            self.log.remove(&gone);
        }
    }

    /// Returns the ids that came back, if it can be undone.
    fn undo(&mut self, number: u64) -> Option<Vec<Arc<str>>> {
        let entry = self.log.get(&number).filter(|entry| entry.undoable(self.now).is_ok());
        let cause = entry?.cause;
        let kept = self.kept.remove(&number).unwrap();
        let (back, _) = restore(cause, kept, |id| self.leads(id));
        let ids = back.iter().map(|record| Arc::clone(&record.memory.id)).collect();
        back.into_iter().for_each(|record| self.write(record));
        self.end(number, State::Undone);
        Some(ids)
    }
}

#[derive(Clone, Debug)]
enum Event {
    Remember(u8, u8, Option<u8>, bool),
    Forget(u8),
    Undo(u64),
    Wait(u8),
    Upkeep,
}

fn event() -> impl Strategy<Value = Event> {
    let life = proptest::option::weighted(0.3, 1_u8..60);
    prop_oneof![
        5 => (0_u8..15, any::<u8>(), life, proptest::bool::weighted(0.1))
            .prop_map(|(id, importance, life, pinned)| Event::Remember(id, importance, life, pinned)),
        1 => (0_u8..15).prop_map(Event::Forget),
        2 => (1_u64..12).prop_map(Event::Undo),
        2 => (1_u8..15).prop_map(Event::Wait),
        2 => Just(Event::Upkeep),
    ]
}

proptest! {
    #[test]
    fn what_goes_can_come_back_for_a_while_and_is_gone_then(events in vec(event(), 0..120)) {
        let mut space = Space::new();
        for event in events {
            match event {
                Event::Remember(id, importance, life, pinned) => space.remember(id, importance, life, pinned),
                Event::Forget(id) => {
                    let seqs: Vec<u64> = space.leads(&id.to_string()).into_iter().collect();
                    space.forget(Cause::Named, &seqs);
                }
                Event::Undo(number) => {
                    let before: BTreeSet<u64> = space.memories.keys().copied().collect();
                    let back = space.undo(number).unwrap_or_default();
                    prop_assert!(before.iter().all(|seq| space.memories.contains_key(seq)), "nothing is overwritten");
                    prop_assert!(back.iter().all(|id| space.leads(id).is_some()));
                    prop_assert_eq!(space.memories.len(), before.len() + back.len());
                }
                Event::Wait(seconds) => space.now += Duration::from_secs(seconds.into()),
                Event::Upkeep => {
                    let (shown, now) = (space.plan(), space.now);
                    let doomed: BTreeSet<u64> = shown.doomed.iter().map(|doomed| doomed.row.seq).collect();
                    let before = space.memories.clone();
                    space.upkeep();
                    for (seq, record) in before {
                        let over = record.memory.expires.is_some_and(|at| at <= now);
                        prop_assert_eq!(space.memories.contains_key(&seq), !over && !doomed.contains(&seq));
                        prop_assert!(over || !record.memory.pinned || space.memories.contains_key(&seq));
                    }
                    prop_assert!(space.memories.len() as u64 <= QUOTAS + shown.over);
                    let undoable = |number: &u64| space.log[number].undoable(now).is_ok();
                    prop_assert!(space.kept.keys().all(undoable), "no bytes stay that cannot come back");
                }
            }
            prop_assert!(space.log.len() <= space.kept.len() + 3);
        }
    }
}
