//! A copy of the store into a file of its own, and a store that begins with one.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use redb::{
    Database, Key, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, Value,
    WriteTransaction,
};

use super::{
    Store, erase, failed, load,
    tables::{
        ACCOUNTS, CHECKPOINTS, DAMAGED, FORGETTINGS, IDS, JOBS, META, OLD_SETS, RECORDS, REMOVED, SPACES,
        TRASH, VECTORS,
    },
    write::Refused,
};
use crate::error::Error;

/// Page cache of the copy while it is written.
const CACHE_BYTES: usize = 32 << 20;

/// A snapshot that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Bytes of its file.
    pub(crate) bytes: u64,
    /// Memories in it.
    pub(crate) memories: u64,
}

impl Store {
    /// Copies what is committed now into a new file at `to`, whose folder is made if missing. Blocks the thread; writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`] if there is a file, [`Error::Snapshot`] if it cannot be written, [`Error::Store`].
    pub(crate) fn snapshot(&self, to: &Path) -> Result<Snapshot, Error> {
        let part = with_end(to, "part");
        if to.exists() {
            return Err(Error::SnapshotExists);
        }
        // Whoever comes second finds this file there.
        let made = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create_new(&part));
        if let Err(error) = made {
            let exists = error.kind() == io::ErrorKind::AlreadyExists;
            return Err(if exists { Error::SnapshotExists } else { Error::Snapshot(error) });
        }
        let copied = self.journal.read(|read| copy_to(read, &part)).map_err(failed).and_then(|memories| {
            let finish = || {
                fs::rename(&part, to)?;
                sync_folder(to)?;
                Ok(Snapshot { bytes: fs::metadata(to)?.len(), memories })
            };
            finish().map_err(Error::Snapshot)
        });
        if copied.is_err() {
            // What is left of it is of no use, and would be in the way of the next.
            drop(fs::remove_file(&part));
        }
        copied
    }
}

/// Begins the store at `path` with a copy of the snapshot at `from`, if there is no store yet.
///
/// # Errors
/// Fails if the snapshot cannot be copied.
pub(super) fn restore(from: &Path, path: &Path) -> io::Result<()> {
    // What a process left that was killed while it restored.
    drop(fs::remove_file(with_end(path, "part")));
    if path.exists() {
        tracing::info!(snapshot = %from.display(), "the store is there already: the snapshot is not restored");
        return Ok(());
    }
    let part = with_end(path, "part");
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::copy(from, &part)?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, path)?;
    sync_folder(path)?;
    tracing::warn!(snapshot = %from.display(), "the store begins with a snapshot");
    Ok(())
}

/// Removes from the folder of snapshots what a process left that was killed while it took one, and nobody writes any more.
pub(crate) fn tidy(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let parts = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for part in parts.filter(|path| path.extension().is_some_and(|end| end == "part")) {
        if File::open(&part).is_ok_and(|file| file.try_lock().is_ok()) {
            drop(fs::remove_file(part));
        }
    }
}

/// Makes the name of a file in its folder last.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    name.into()
}

/// Copies the store into a new file; returns how many memories there are.
fn copy_to(read: &ReadTransaction, to: &Path) -> Result<u64, Refused> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(to)?;
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    copy(read, &write)?;
    // What was removed is not in this file.
    for name in [erase::LEFT, erase::ERASED] {
        write.open_table(META)?.remove(name)?;
    }
    let memories = write.open_table(RECORDS)?.len()?;
    write.commit()?;
    Ok(memories)
}

/// Copies the tables, without the rows of dropped spaces.
pub(super) fn copy(read: &ReadTransaction, write: &WriteTransaction) -> Result<(), Refused> {
    let rows = load::spaces(read)?;
    let spaces: HashSet<u32> = rows.iter().map(|(_, space)| space.number).collect();
    let mut sets: HashSet<u32> =
        rows.iter().flat_map(|(_, space)| [Some(space.vectors), space.coming]).flatten().collect();
    // A recall may be at one that nobody begins with any more.
    for entry in read.open_table(OLD_SETS)?.iter()? {
        sets.insert(entry?.0.value());
    }
    table(read, write, META, |_| true)?;
    table(read, write, SPACES, |_| true)?;
    table(read, write, DAMAGED, |_| true)?;
    table(read, write, IDS, |(space, _)| spaces.contains(&space))?;
    table(read, write, RECORDS, |(space, _)| spaces.contains(&space))?;
    table(read, write, VECTORS, |(set, _)| sets.contains(&set))?;
    table(read, write, JOBS, |space| spaces.contains(&space))?;
    table(read, write, OLD_SETS, |_| true)?;
    table(read, write, REMOVED, |(space, _)| spaces.contains(&space))?;
    table(read, write, CHECKPOINTS, |space| spaces.contains(&space))?;
    table(read, write, FORGETTINGS, |(space, _)| spaces.contains(&space))?;
    table(read, write, TRASH, |(space, _, _)| spaces.contains(&space))?;
    table(read, write, ACCOUNTS, |(space, _)| spaces.contains(&space))?;
    Ok(())
}

fn table<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
    wanted: impl for<'k> Fn(K::SelfType<'k>) -> bool,
) -> Result<(), Refused> {
    let mut to = write.open_table(definition)?;
    for row in read.open_table(definition)?.iter()? {
        let (key, value) = row?;
        if wanted(key.value()) {
            to.insert(key.value(), value.value())?;
        }
    }
    Ok(())
}
