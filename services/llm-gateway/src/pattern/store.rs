//! What patterns know, on disk: one redb database behind one writer.
//!
//! Rows are written some time after they changed, all that changed in one commit; only an outcome that is reported, and a word of an
//! administrator, are answered after the fsync. A process that is killed loses what it saw in the last second or so, which the next
//! observations mend.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use journal::{Failed, Journal};
use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    history::Subject,
    ledger::{Changes, Kept, Ledger},
};

/// Name of the database in the gateway's folder.
const FILE: &str = "patterns.redb";

type Table = TableDefinition<'static, (&'static [u8], &'static [u8]), &'static [u8]>;
// Keys are bytes and not text: redb panics on a text key that a disk fault turned into something else.
const SERIES: Table = TableDefinition::new("series");
const MATCHES: Table = TableDefinition::new("matches");
const TRACKS: Table = TableDefinition::new("tracks");

type Refused = Box<redb::Error>;
type Ledgers = Vec<(Arc<str>, Arc<Mutex<Ledger>>)>;

/// The database.
#[derive(Debug)]
pub struct Store {
    journal: Journal,
    kept: Mutex<Vec<(Arc<str>, Kept)>>,
    /// Held while rows are taken and written, so that an older row never follows a newer one.
    writing: tokio::sync::Mutex<()>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error("what patterns learned cannot be opened")]
    Open(#[source] journal::Error),
    /// It cannot be read.
    #[error("what patterns learned cannot be read")]
    Read(#[source] Failed<Refused>),
    /// It takes no writes.
    #[error("what patterns learned cannot be written")]
    Write(#[source] Failed<Refused>),
}

struct Row {
    table: Table,
    tenant: Arc<str>,
    key: Vec<u8>,
    /// `None` removes the row.
    value: Option<Vec<u8>>,
}

impl Store {
    /// Opens the database in `folder`, making both if missing, and reads what is there; blocks. A row that cannot be read is logged and
    /// left out.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::Read`].
    pub fn open(folder: &Path, options: &journal::Options) -> Result<Self, Error> {
        let journal = Journal::open(folder.join(FILE), options).map_err(Error::Open)?;
        let kept = journal.read(|read| load(read).map_err(Box::new)).map_err(Error::Read)?;
        Ok(Self {
            journal,
            kept: Mutex::new(kept.into_iter().collect()),
            writing: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn take_kept(&self) -> Vec<(Arc<str>, Kept)> {
        std::mem::take(&mut self.kept.lock())
    }

    /// Writes what changed in `ledgers` in one commit.
    pub(super) async fn write(&self, ledgers: Ledgers) -> Result<(), Error> {
        let _writing = self.writing.lock().await;
        let mut rows = Vec::new();
        let mut taken = Taken::default();
        for (tenant, ledger) in &ledgers {
            let mut locked = ledger.lock();
            let changes = locked.changes.as_mut().map(std::mem::take).unwrap_or_default();
            rows_of(&mut rows, tenant, &locked, &changes);
            taken.0.push((ledger, changes));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let bytes = rows.iter().map(|row| row.key.len() + row.value.as_ref().map_or(0, Vec::len)).sum();
        let write = move |write: &WriteTransaction| apply(write, &rows).map_err(Box::new);
        self.journal.commit_sized(bytes, write).await.map_err(Error::Write)?;
        taken.0.clear();
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.journal.close().await;
    }
}

/// What is being written. Until it is on disk it must be written again, also where nobody waits for that any more: a caller who
/// tells an outcome once more is told that it is kept.
#[derive(Default)]
struct Taken<'a>(Vec<(&'a Arc<Mutex<Ledger>>, Changes)>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (ledger, changes) in self.0.drain(..) {
            ledger.lock().changes.get_or_insert_default().extend(changes);
        }
    }
}

fn rows_of(rows: &mut Vec<Row>, tenant: &Arc<str>, ledger: &Ledger, changes: &Changes) {
    let mut row = |table, key, value| rows.push(Row { table, tenant: tenant.clone(), key, value });
    for subject in &changes.series {
        row(
            SERIES,
            subject_key(subject),
            ledger.history.series(subject).and_then(|series| encode(&(subject, series))),
        );
    }
    for id in &changes.matches {
        row(MATCHES, id.bytes().to_vec(), ledger.matches.get(id).and_then(|made| encode(&(id, made))));
    }
    for name in &changes.tracks {
        row(
            TRACKS,
            name.clone().into_bytes(),
            ledger.tracks.get(name).and_then(|track| encode(&(name, track))),
        );
    }
}

fn subject_key((kind, name, id): &Subject) -> Vec<u8> {
    let mut key = Vec::new();
    for text in [kind, name, id] {
        key.extend((text.len() as u64).to_be_bytes());
        key.extend(text.as_bytes());
    }
    key
}

/// What is kept are finite numbers and texts, which JSON takes; a number that is none would only cost its row.
fn encode(value: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok()
}

fn apply(write: &WriteTransaction, rows: &[Row]) -> Result<(), redb::Error> {
    for row in rows {
        let mut table = write.open_table(row.table)?;
        let key = (row.tenant.as_bytes(), row.key.as_slice());
        match &row.value {
            Some(value) => drop(table.insert(key, value.as_slice())?),
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

fn load(read: &ReadTransaction) -> Result<BTreeMap<Arc<str>, Kept>, redb::Error> {
    let mut kept: BTreeMap<Arc<str>, Kept> = BTreeMap::new();
    each(read, SERIES, |tenant, row| kept.entry(tenant).or_default().series.push(row))?;
    each(read, MATCHES, |tenant, row| kept.entry(tenant).or_default().matches.push(row))?;
    each(read, TRACKS, |tenant, (name, track)| {
        kept.entry(tenant).or_default().tracks.insert(name, track);
    })?;
    Ok(kept)
}

fn each<T: DeserializeOwned>(
    read: &ReadTransaction,
    table: Table,
    mut take: impl FnMut(Arc<str>, T),
) -> Result<(), redb::Error> {
    let rows = match read.open_table(table) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut corrupt = 0_u64;
    for row in rows.iter()? {
        let (key, value) = row?;
        match (std::str::from_utf8(key.value().0), serde_json::from_slice(value.value())) {
            (Ok(tenant), Ok(row)) => take(tenant.into(), row),
            _ => corrupt += 1,
        }
    }
    if corrupt > 0 {
        tracing::error!(corrupt, "rows of what patterns learned cannot be read and are left out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;
    use parking_lot::Mutex;

    use super::{super::Options, Ledger, Store};

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_written_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &journal::Options::default()).unwrap();
        let mut ledger = Ledger::new("t".into(), &Options::default(), true);
        // A row to be removed is one as well.
        ledger.changes.as_mut().unwrap().tracks.insert("p".into());
        let ledger = Arc::new(Mutex::new(ledger));
        let waiting = || ledger.lock().changes.as_ref().unwrap().tracks.len();
        let write = || store.write(vec![("t".into(), ledger.clone())]);
        assert!(write().now_or_never().is_none());
        assert_eq!(waiting(), 1);
        write().await.unwrap();
        assert_eq!(waiting(), 0);
    }
}
