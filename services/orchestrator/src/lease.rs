//! One cycle of an agent at a time, and what the agent knows between two of them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::{
    error::Error,
    history::History,
    journal::{Journal, Progress},
    source::Sources,
};

/// What an agent knows between two cycles.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Where it stands.
    pub progress: Progress,
    /// Its recorded past.
    pub history: History,
}

/// The right to run a cycle of one agent, until dropped.
pub(crate) type Lease = OwnedMutexGuard<Option<Agent>>;

type Slot = Arc<tokio::sync::Mutex<Option<Agent>>>;

/// The agents that have run a cycle here, the last ones.
#[derive(Debug)]
pub(crate) struct Agents {
    seats: Mutex<Seats>,
    most: usize,
}

#[derive(Debug, Default)]
struct Seats {
    of: HashMap<(Arc<str>, String), Seat>,
    /// Leases asked for so far.
    leases: u64,
}

/// One agent's slot, and the number of the last lease asked for.
#[derive(Debug, Default)]
struct Seat {
    slot: Slot,
    used: u64,
}

impl Agents {
    /// Makes room for `most` agents.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self { seats: Mutex::default(), most }
    }

    /// Takes the right to run a cycle of an agent. If there is no room for it, the longest idle one is forgotten here: what it
    /// knows is in the journal.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if one is running, [`Error::TooManyAgents`] if as many agents as there is room for run one.
    pub(crate) fn lease(&self, tenant: &Arc<str>, agent: &str) -> Result<Lease, Error> {
        let mut seats = self.seats.lock();
        let key = (Arc::clone(tenant), agent.to_owned());
        if seats.of.len() >= self.most && !seats.of.contains_key(&key) && !seats.make_room() {
            return Err(Error::TooManyAgents(self.most));
        }
        seats.leases += 1;
        let used = seats.leases;
        let seat = seats.of.entry(key).or_default();
        seat.used = used;
        Arc::clone(&seat.slot).try_lock_owned().map_err(|_| Error::Busy)
    }

    /// Waits until no cycle is running.
    pub(crate) async fn idle(&self) {
        let slots: Vec<Slot> = self.seats.lock().of.values().map(|seat| Arc::clone(&seat.slot)).collect();
        for slot in slots {
            drop(slot.lock().await);
        }
    }
}

impl Seats {
    /// Forgets the agent that has been idle for longest; returns whether there was one.
    fn make_room(&mut self) -> bool {
        // A lease holds its slot, and none is taken while the seats are locked.
        let idle = self.of.iter().filter(|(_, seat)| Arc::strong_count(&seat.slot) == 1);
        let longest = idle.min_by_key(|(_, seat)| seat.used).map(|(key, _)| key.clone());
        longest.is_some_and(|key| self.of.remove(&key).is_some())
    }
}

/// Reads where an agent stands and what it knows, from the journal and, under replay, from the recording.
///
/// # Errors
///
/// [`Error::Journal`] if the journal cannot be read.
pub(crate) fn load(journal: &Journal, sources: &Sources, tenant: &str, agent: &str) -> Result<Agent, Error> {
    let progress = journal.progress(tenant, agent)?;
    let history = if sources.is_recorded() {
        sources.history(progress.cursor)
    } else {
        journal.history(tenant, agent)?
    };
    Ok(Agent { progress, history })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_runs_one_cycle_at_a_time_and_others_do_not_wait_for_it() {
        let agents = Agents::new(2);
        let tenant: Arc<str> = "t".into();
        let lease = agents.lease(&tenant, "a").unwrap();
        assert!(matches!(agents.lease(&tenant, "a"), Err(Error::Busy)));
        let _other = agents.lease(&"u".into(), "a").unwrap();
        assert!(matches!(agents.lease(&tenant, "b"), Err(Error::TooManyAgents(2))));
        drop(lease);
        assert!(agents.lease(&tenant, "a").is_ok());
    }

    #[test]
    fn the_longest_idle_agent_makes_room_for_another() {
        let agents = Agents::new(2);
        let tenant: Arc<str> = "t".into();
        let know = |agent| {
            let mut lease = agents.lease(&tenant, agent).unwrap();
            lease.replace(Agent { progress: Progress::default(), history: History::default() }).is_some()
        };
        assert!(!know("a") && !know("b") && know("a"));
        assert!(!know("c") && know("a"), "b was idle for longest");
        assert!(!know("b"), "it is read again from the journal");
    }
}
