//! Those who wait until the sink has taken their writes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{document::Key, queue::Entry, sink::Verdict};

/// Says that the sink refused a write for good: it is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The document.
    pub key: Key,
    /// The sink's reason.
    pub reason: Arc<str>,
}

/// What came of writes somebody waits for: all are at the sink, or one of them is a dead letter.
pub type Outcome = Result<(), Rejected>;

/// Holds everyone who waits for writes.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: HashMap<u64, Ack>,
    /// Who waits for the write of a sequence.
    of: HashMap<u64, Vec<u64>>,
    next: u64,
}

#[derive(Debug)]
struct Ack {
    outstanding: usize,
    rejected: Option<Rejected>,
    done: oneshot::Sender<Outcome>,
}

impl Acks {
    /// Adds one who waits for the writes of `sequences`; with none he is told at once.
    pub(crate) fn add(&mut self, sequences: &BTreeSet<u64>, done: oneshot::Sender<Outcome>) {
        if sequences.is_empty() {
            // One who left does not need the answer.
            drop(done.send(Ok(())));
            return;
        }
        let id = self.next;
        self.next += 1;
        for sequence in sequences {
            let ids = self.of.entry(*sequence).or_default();
            // Who asks again and again while the sink is away leaves no trace of the times before.
            ids.retain(|id| {
                let waits = self.waiting.get(id).is_some_and(|ack| !ack.done.is_closed());
                if !waits {
                    self.waiting.remove(id);
                }
                waits
            });
            ids.push(id);
        }
        self.waiting.insert(id, Ack { outstanding: sequences.len(), rejected: None, done });
    }

    /// Counts a write whose fate is decided, and tells those who have nothing left to wait for.
    pub(crate) fn settle(&mut self, entry: &Entry, verdict: &Verdict) {
        if self.of.is_empty() {
            return;
        }
        for id in entry.records.iter().filter_map(|sequence| self.of.remove(sequence)).flatten() {
            let Some(ack) = self.waiting.get_mut(&id) else { continue };
            ack.outstanding = ack.outstanding.saturating_sub(1);
            if let Verdict::Refused(reason) = verdict {
                ack.rejected = Some(Rejected { key: entry.key.clone(), reason: reason.as_str().into() });
            }
            if ack.outstanding == 0
                && let Some(ack) = self.waiting.remove(&id)
            {
                drop(ack.done.send(ack.rejected.map_or(Ok(()), Err)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::UNIX_EPOCH};

    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::Acks;
    use crate::{
        change::Change,
        document::{Key, Priority},
        ledger::Weight,
        queue::{Accepted, Entry},
        sink::Verdict,
    };

    fn entry(records: &[u64]) -> Entry {
        let mut entry = Entry::from(Accepted {
            sequence: 0,
            key: Key::new("t", "c", "d"),
            change: Change::Delete,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 0,
        });
        entry.records = records.into();
        entry
    }

    #[test]
    fn one_is_told_when_the_last_of_his_writes_is_decided_and_of_a_refusal() {
        let mut acks = Acks::default();
        let (sender, mut both) = oneshot::channel();
        acks.add(&BTreeSet::from([1, 3]), sender);
        let (sender, mut one) = oneshot::channel();
        acks.add(&BTreeSet::from([3]), sender);
        acks.settle(&entry(&[1, 2]), &Verdict::Refused("bad".to_owned()));
        assert_eq!((both.try_recv(), one.try_recv()), (Err(TryRecvError::Empty), Err(TryRecvError::Empty)));
        acks.settle(&entry(&[3]), &Verdict::Accepted);
        assert_eq!(one.try_recv(), Ok(Ok(())));
        assert_eq!(&*both.try_recv().unwrap().unwrap_err().reason, "bad");
        assert!(acks.waiting.is_empty() && acks.of.is_empty());
    }

    #[test]
    fn who_asks_again_and_again_takes_the_room_of_one() {
        let mut acks = Acks::default();
        for _ in 0..100 {
            acks.add(&BTreeSet::from([1]), oneshot::channel().0);
        }
        assert_eq!((acks.waiting.len(), acks.of[&1].len()), (1, 1));
        let (sender, mut none) = oneshot::channel();
        acks.add(&BTreeSet::new(), sender);
        assert_eq!(none.try_recv(), Ok(Ok(())));
    }
}
