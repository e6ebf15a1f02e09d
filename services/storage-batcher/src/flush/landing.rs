//! What is written down of a batch leaves memory too, and who waits for it is told.

use std::{sync::Arc, time::SystemTime};

use crate::{
    dead_letter::Letter, document::micros, ledger::Deltas, queue::Entry, shared::Shared, sink::Verdict,
};

impl Shared {
    /// Forgets the documents that are `done`, of which the journal knows it; `request` is what was sent, if it has not been counted.
    pub(super) fn land(
        &self,
        request: &[Arc<Entry>],
        done: &[(&Arc<Entry>, &Verdict)],
        deltas: &Deltas,
        now: SystemTime,
    ) {
        self.note(done);
        let mut state = self.state.lock();
        state.waiters.count_request(request);
        state.ledger.add(deltas);
        state.queue.land(done.iter().map(|(entry, _)| *entry));
        for (entry, verdict) in done {
            if let Verdict::Refused(reason) = verdict {
                state.dead.add(Letter::of(entry, reason, micros(now)).0);
            }
            state.waiters.settle(entry, verdict);
            state.acks.settle(entry, verdict);
        }
        self.measure(&state);
        drop(state);
        self.wake();
        self.landed.notify_waiters();
    }

    /// Remembers what the sink holds now, and tells which documents were refused.
    fn note(&self, done: &[(&Arc<Entry>, &Verdict)]) {
        if let Some(reads) = &self.reads {
            reads.landed(done.iter().map(|(entry, _)| &entry.key));
        }
        for (entry, verdict) in done {
            if let Some(last) = &self.last_written {
                last.note(entry, verdict);
            }
            if let Verdict::Refused(reason) = verdict {
                let (collection, document) = (&*entry.key.collection, &*entry.key.id);
                tracing::error!(
                    collection,
                    document,
                    reason,
                    "document refused for good; it is a dead letter"
                );
                self.meters.refused.add(1, &[]);
            }
        }
    }
}
