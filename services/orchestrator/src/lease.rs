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

/// Every agent that has run a cycle here.
#[derive(Debug)]
pub(crate) struct Agents {
    slots: Mutex<HashMap<(Arc<str>, String), Slot>>,
    most: usize,
}

impl Agents {
    /// Makes room for `most` agents.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self { slots: Mutex::default(), most }
    }

    /// Takes the right to run a cycle of an agent.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if one is running, [`Error::TooManyAgents`] if there is no room for another agent.
    pub(crate) fn lease(&self, tenant: &Arc<str>, agent: &str) -> Result<Lease, Error> {
        let mut slots = self.slots.lock();
        let key = (Arc::clone(tenant), agent.to_owned());
        if slots.len() >= self.most && !slots.contains_key(&key) {
            return Err(Error::TooManyAgents(self.most));
        }
        let slot = slots.entry(key).or_default();
        Arc::clone(slot).try_lock_owned().map_err(|_| Error::Busy)
    }

    /// Waits until no cycle is running.
    pub(crate) async fn idle(&self) {
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        for slot in slots {
            drop(slot.lock().await);
        }
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
}
