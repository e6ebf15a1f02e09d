//! A group that grows until the disk is free for it.

use std::sync::Arc;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use redb::{ReadableTable as _, WriteTransaction};

use super::{Error, Group, LAST_SEQUENCE, META, Store, WAL};

/// A group that can be added to until it is taken, to be written.
#[derive(Debug, Default)]
pub struct Growing(Mutex<Stage>);

#[derive(Debug)]
enum Stage {
    Open(Group),
    Taken(Arc<Group>),
}

impl Default for Stage {
    fn default() -> Self {
        Self::Open(Group::default())
    }
}

impl Growing {
    /// Returns the group, to be added to, unless it was taken. Whoever takes it waits meanwhile.
    pub fn open(&self) -> Option<MappedMutexGuard<'_, Group>> {
        let open = MutexGuard::try_map(self.0.lock(), |stage| match stage {
            Stage::Open(group) => Some(group),
            Stage::Taken(_) => None,
        });
        open.ok()
    }

    /// Takes the group as it is now, if that was not done before.
    pub fn take(&self) -> Arc<Group> {
        let mut stage = self.0.lock();
        let group = match &mut *stage {
            Stage::Open(group) => Arc::new(std::mem::take(group)),
            Stage::Taken(group) => return Arc::clone(group),
        };
        *stage = Stage::Taken(Arc::clone(&group));
        group
    }
}

impl Store {
    /// Takes `growing`, which is to have about `bytes` then, when the disk is free for it and writes it durably; all or nothing. What it took it
    /// writes again if the journal runs it again. If it `follows` a sequence that is not on the disk it is not written; returns whether it was.
    ///
    /// # Errors
    /// [`Error`] if it could not be written; then nothing of it was.
    pub async fn append_growing(
        &self,
        growing: Arc<Growing>,
        bytes: u64,
        follows: Option<u64>,
    ) -> Result<bool, Error> {
        let write = move |transaction: &WriteTransaction| {
            let group = growing.take();
            if let Some(sequence) = follows
                && !is_given(transaction, sequence)?
            {
                return Ok(false);
            }
            group.write(transaction)?;
            Ok::<_, redb::Error>(true)
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.journal.commit_sized(bytes, write).await.map_err(Error::Journal)
    }
}

/// Returns whether a write with this sequence or a later one is or was in the journal.
fn is_given(transaction: &WriteTransaction, sequence: u64) -> Result<bool, redb::Error> {
    if transaction.open_table(WAL)?.last()?.is_some_and(|(last, _)| last.value() >= sequence) {
        return Ok(true);
    }
    Ok(transaction.open_table(META)?.get(LAST_SEQUENCE)?.is_some_and(|last| last.value() >= sequence))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        time::UNIX_EPOCH,
    };

    use futures::poll;
    use journal::Journal;
    use tempfile::TempDir;

    use super::{Growing, LAST_SEQUENCE, META, WAL};
    use crate::store::{
        Store,
        tests::{record, store},
    };

    async fn open(folder: &TempDir) -> (Journal, Store) {
        let (journal, store) = store(folder);
        store.recover(UNIX_EPOCH).await.unwrap();
        (journal, store)
    }

    fn of(sequence: u64) -> Arc<Growing> {
        let growing = Arc::<Growing>::default();
        add(&growing, sequence);
        growing
    }

    fn add(growing: &Growing, sequence: u64) {
        growing.open().unwrap().records.push(sequence, &record());
    }

    fn sequences(store: &Store) -> Vec<u64> {
        store.records(0, u64::MAX).unwrap().iter().map(|(sequence, ..)| *sequence).collect()
    }

    #[tokio::test]
    async fn what_comes_until_the_disk_is_free_is_written_together() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, store) = open(&folder).await;
        let ((begun, begins), (end, ended)) = (mpsc::channel(), mpsc::channel::<()>());
        let busy = move |_: &redb::WriteTransaction| {
            begun.send(()).unwrap();
            let _ = ended.recv();
            Ok::<_, redb::Error>(())
        };
        let mut busy = Box::pin(journal.commit(busy));
        assert!(poll!(&mut busy).is_pending());
        tokio::task::spawn_blocking(move || begins.recv()).await.unwrap().unwrap();
        let growing = of(1);
        let mut written = Box::pin(store.append_growing(Arc::clone(&growing), 0, None));
        assert!(poll!(&mut written).is_pending());
        add(&growing, 2);
        drop(end);
        assert!(written.await.unwrap() && growing.open().is_none());
        busy.await.unwrap();
        assert_eq!(sequences(&store), [1, 2]);
    }

    #[tokio::test]
    async fn what_follows_a_sequence_that_was_never_written_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, store) = open(&folder).await;
        assert!(!store.append_growing(of(2), 0, Some(1)).await.unwrap());
        assert!(store.append_growing(of(1), 0, None).await.unwrap());
        assert!(store.append_growing(of(2), 0, Some(1)).await.unwrap());
        assert!(!store.append_growing(of(4), 0, Some(3)).await.unwrap());
        assert_eq!(sequences(&store), [1, 2]);
        let settle = |transaction: &redb::WriteTransaction| {
            transaction.open_table(WAL)?.retain(|_, _| false)?;
            transaction.open_table(META)?.insert(LAST_SEQUENCE, 2)?;
            Ok::<_, redb::Error>(())
        };
        journal.commit(settle).await.unwrap();
        assert!(store.append_growing(of(3), 0, Some(2)).await.unwrap(), "it was written, and is settled");
        assert_eq!(sequences(&store), [3]);
    }
}
