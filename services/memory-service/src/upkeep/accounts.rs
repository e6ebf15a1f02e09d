//! How often memories were recalled and said, and when last.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use crate::{
    record::Change,
    written::{Removed, Written},
};

/// What is counted of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Recalls that returned it. Explanations, audits and gets are none.
    pub(crate) recalls: u32,
    /// The last of them.
    pub(crate) recalled: Option<SystemTime>,
    /// How often it was said: 1, and 1 more for each memory that was merged into it.
    pub(crate) said: u32,
}

/// The accounts of a space, by the numbers of its memories; a memory that was never recalled and said once has none.
///
/// Kept in memory and saved now and then: a crash costs the counts since the last save, never a memory.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    accounts: HashMap<u64, Account>,
    changed: HashSet<u64>,
}

impl Default for Account {
    fn default() -> Self {
        Self { recalls: 0, recalled: None, said: 1 }
    }
}

impl Accounts {
    /// Takes what was saved.
    pub(crate) fn new(accounts: impl IntoIterator<Item = (u64, Account)>) -> Self {
        Self { accounts: accounts.into_iter().collect(), changed: HashSet::new() }
    }

    /// Returns the account of a memory.
    pub(crate) fn of(&self, seq: u64) -> Account {
        self.accounts.get(&seq).copied().unwrap_or_default()
    }

    /// Counts a recall at `now` that returned the memories of `seqs`, whether the query cache answered it or not.
    pub(crate) fn recalled(&mut self, seqs: impl IntoIterator<Item = u64>, now: SystemTime) {
        for seq in seqs {
            let account = self.change(seq);
            account.recalls = account.recalls.saturating_add(1);
            account.recalled = account.recalled.max(Some(now));
        }
    }

    /// Counts that the memory under `seq` was said `times` more.
    pub(crate) fn said(&mut self, seq: u64, times: u32) {
        let account = self.change(seq);
        account.said = account.said.saturating_add(times);
    }

    /// Follows a write: the account of a memory that was written again moves along, that of one that went is closed.
    pub(crate) fn follow(&mut self, written: &Written) {
        let has = |removed: &&Removed| self.accounts.contains_key(&removed.seq);
        let gone: Vec<&Removed> = written.removed.iter().filter(has).collect();
        if gone.is_empty() {
            return;
        }
        let puts = match &*written.change {
            Change::Put(records) => records.as_slice(),
            Change::Forget(_) => &[],
        };
        // Of an id that a write puts twice the last stays.
        let ids = puts.iter().map(|record| &*record.memory.id).zip(written.first..);
        let ids: HashMap<&str, u64> = ids.collect();
        for Removed { seq, memory } in gone {
            let to = memory.as_ref().and_then(|memory| ids.get(&*memory.id));
            match to {
                Some(to) => self.moved(*seq, *to),
                None => self.removed(*seq),
            }
        }
    }

    fn moved(&mut self, from: u64, to: u64) {
        let account = self.of(from);
        self.removed(from);
        if account != Account::default() {
            *self.change(to) = account;
        }
    }

    /// Closes the account of a memory that went.
    pub(crate) fn removed(&mut self, seq: u64) {
        if self.accounts.remove(&seq).is_some() {
            self.changed.insert(seq);
        }
    }

    /// Returns up to `most` accounts that changed since they were saved; absent ones are to be removed. They count as saved. Those of memories
    /// that are not there, as `is_there` tells, are closed: a recall may count one that just went.
    pub(crate) fn take_changed(
        &mut self,
        most: usize,
        is_there: impl Fn(u64) -> bool,
    ) -> Vec<(u64, Option<Account>)> {
        let seqs: Vec<u64> = self.changed.iter().copied().take(most).collect();
        for seq in &seqs {
            self.changed.remove(seq);
            if !is_there(*seq) {
                self.accounts.remove(seq);
            }
        }
        seqs.into_iter().map(|seq| (seq, self.accounts.get(&seq).copied())).collect()
    }

    /// Takes back what could not be saved.
    pub(crate) fn not_saved(&mut self, accounts: &[(u64, Option<Account>)]) {
        self.changed.extend(accounts.iter().map(|(seq, _)| *seq));
    }

    fn change(&mut self, seq: u64) -> &mut Account {
        self.changed.insert(seq);
        self.accounts.entry(seq).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{Account, Accounts};
    use crate::{
        index::tests::record,
        record::Change,
        written::{Removed, Written},
    };

    fn gone(seq: u64, id: &str) -> Removed {
        Removed { seq, memory: Some(record(id, &[]).memory) }
    }

    fn put(ids: &[&str], first: u64, removed: Vec<Removed>) -> Written {
        let change = Arc::new(Change::Put(ids.iter().map(|id| record(id, &[])).collect()));
        Written { change, first, removed }
    }

    #[test]
    fn recalls_are_counted_and_go_with_a_memory_that_is_written_again() {
        let (first, later) = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(5));
        let mut accounts = Accounts::default();
        accounts.recalled([1, 2], later);
        accounts.recalled([1], first);
        assert_eq!(accounts.of(1), Account { recalls: 2, recalled: Some(later), said: 1 });
        accounts.follow(&put(&["b", "a", "a"], 6, vec![gone(1, "a"), gone(7, "a"), gone(30, "b")]));
        accounts.said(8, 1);
        assert_eq!(accounts.of(8), Account { recalls: 2, recalled: Some(later), said: 2 });
        assert_eq!(accounts.of(1), Account::default());
        let unread = Removed { seq: 8, memory: None };
        accounts.follow(&Written {
            change: Arc::new(Change::Forget(vec!["b".into()])),
            first: 9,
            removed: vec![unread, gone(2, "b")],
        });
        assert!(accounts.accounts.is_empty(), "nothing to tell needs no room");
    }

    #[test]
    fn what_changed_is_saved_once_and_again_if_that_failed() {
        let mut accounts = Accounts::new([(1, Account { said: 3, ..Account::default() })]);
        let all = |accounts: &mut Accounts, most| accounts.take_changed(most, |_| true);
        assert!(all(&mut accounts, 9).is_empty());
        accounts.recalled([2], UNIX_EPOCH);
        accounts.removed(1);
        accounts.removed(5);
        let mut changed = all(&mut accounts, 9);
        changed.sort_by_key(|(seq, _)| *seq);
        assert_eq!(changed, [(1, None), (2, Some(accounts.of(2)))]);
        assert!(all(&mut accounts, 9).is_empty());
        accounts.not_saved(&changed);
        assert_eq!((all(&mut accounts, 1).len(), all(&mut accounts, 9).len()), (1, 1));
    }

    #[test]
    fn a_recall_of_a_memory_that_just_went_leaves_no_account() {
        let mut accounts = Accounts::default();
        accounts.recalled([1, 2], UNIX_EPOCH);
        let mut changed = accounts.take_changed(9, |seq| seq == 2);
        changed.sort_by_key(|(seq, _)| *seq);
        assert_eq!(changed, [(1, None), (2, Some(accounts.of(2)))]);
        assert_eq!(accounts.accounts.len(), 1);
    }
}
