//! A write as a transaction: the rows, the numbers, the generation.

use std::sync::Arc;

use redb::{ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};

use super::{
    bytes::Corrupt,
    erase,
    record::{self, Row},
    tables::{
        ACCOUNTS, CHECKPOINTS, DROPPED, FORGETTINGS, IDS, JOBS, META, NEXT_SPACE, RECORDS, REMOVED, SPACES,
        SpaceRow, TRASH, VECTORS,
    },
};
use crate::{
    memory::{Change, Record},
    shape::{Shape, SpaceKey},
    upkeep::forgettings,
    written::Removed,
};

/// Rows that one commit removes of a dropped space or set: a writer waits no longer than for these.
pub(super) const AT_ONCE: usize = 2_000;

/// Why the store refused a write.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The database failed.
    #[error(transparent)]
    Database(Box<redb::Error>),
    /// The space's own row cannot be read.
    #[error("the row of a namespace: {0}")]
    Corrupt(#[from] Corrupt),
    /// A vector has another length than those of its space.
    #[error("the vectors of the namespace have {0} values")]
    Dimensions(usize),
    /// The vectors that are put are of another shape than the space's.
    #[error("the vectors of the namespace are made by another by now")]
    Shape,
    /// There is no such space.
    #[error("there is no namespace of this name")]
    NoNamespace,
    /// The space was never re-embedded, or the re-embedding that is meant is over.
    #[error("there is no such re-embedding")]
    NoReembedding,
    /// The space is being re-embedded by another embedder.
    #[error("the namespace is being re-embedded by {0}")]
    Reembedding(String),
    /// The space is there, of another shape.
    #[error("the namespace is there, of another shape")]
    Exists(Box<Shape>),
    /// The tenant has as many spaces as it may.
    #[error("the tenant has as many namespaces as it may")]
    Full,
    /// What was forgotten cannot come back.
    #[error(transparent)]
    Forgetting(#[from] forgettings::Refused),
}

impl<E: Into<redb::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Committed {
    /// The number of the space; 0 where there is none.
    pub(crate) space: u32,
    /// What its vectors are, if it is there.
    pub(crate) shape: Option<Shape>,
    /// The number of the write; absent if it changed nothing.
    pub(crate) generation: Option<u64>,
    /// The number of the first record that was put; the others follow it.
    pub(crate) first: u64,
    /// Memories that were there before: replaced by a put, deleted by a forget.
    pub(crate) touched: u32,
    /// What they were, and what the write itself put and replaced again.
    pub(crate) removed: Vec<Removed>,
}

/// The rows of a record, encoded before the writer thread has it.
pub(super) type Rows = Vec<(Row, Row)>;

/// Encodes `records`.
pub(super) fn encoded<'r>(records: impl IntoIterator<Item = &'r Record>) -> Rows {
    let rows = |record: &Record| (Row::memory(&record.memory), Row::vector(&record.embedding));
    records.into_iter().map(rows).collect()
}

/// Returns the bytes of `rows`.
pub(super) fn size(rows: &[(Row, Row)]) -> usize {
    rows.iter().map(|(memory, vector)| memory.len() + vector.len()).sum()
}

type Numbered<'t, V> = Table<'t, (u32, u64), V>;

/// The tables of one space.
pub(super) struct Tables<'t> {
    pub(super) ids: Table<'t, (u32, &'static [u8]), u64>,
    pub(super) records: Numbered<'t, &'static [u8]>,
    pub(super) vectors: Numbered<'t, &'static [u8]>,
    removed: Numbered<'t, u64>,
    /// Where vectors lie, and where those of a re-embedding do.
    set: u32,
    coming: Option<u32>,
    /// Whether the space takes checkpoints or is re-embedded: who makes an index meanwhile has to be told what is gone.
    is_logged: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(write: &'t WriteTransaction, space: &SpaceRow) -> Result<Self, Refused> {
        let has_checkpoints = write.open_table(CHECKPOINTS)?.get(space.number)?.is_some();
        Ok(Self {
            set: space.vectors,
            coming: space.coming,
            is_logged: has_checkpoints || space.coming.is_some(),
            ids: write.open_table(IDS)?,
            records: write.open_table(RECORDS)?,
            vectors: write.open_table(VECTORS)?,
            removed: write.open_table(REMOVED)?,
        })
    }

    /// Puts records under the next numbers of `space`, and returns the numbers of those whose ids they took over.
    pub(super) fn put(
        &mut self,
        space: &mut SpaceRow,
        records: &[Record],
        rows: &mut Rows,
    ) -> Result<Vec<u64>, Refused> {
        let mut gone = Vec::new();
        for (record, (memory, vector)) in records.iter().zip(rows) {
            if record.embedding.len() != space.shape.dimensions {
                return Err(Refused::Dimensions(space.shape.dimensions));
            }
            let place = (space.number, space.next);
            space.next += 1;
            let id = (space.number, record.memory.id.as_bytes());
            gone.extend(self.ids.insert(id, place.1)?.map(|seq| seq.value()));
            self.records.insert(place, memory.under(place))?;
            let place = (self.set, place.1);
            self.vectors.insert(place, vector.under(place))?;
        }
        Ok(gone)
    }

    /// Removes a memory whose id leads nowhere any more, and returns what it was.
    pub(super) fn remove(&mut self, key: record::Key, generation: u64) -> Result<Removed, Refused> {
        let row = self.records.remove(key)?;
        let memory = row.and_then(|row| record::memory(key, row.value()).ok()).map(Arc::new);
        for set in [Some(self.set), self.coming].into_iter().flatten() {
            self.vectors.remove((set, key.1))?;
        }
        if self.is_logged {
            self.removed.insert(key, generation)?;
        }
        Ok(Removed { seq: key.1, memory })
    }
}

/// Writes `change`, whose vectors are of `shape`, to the space of `key`, which is made of it if it is missing; a tenant has at most `most`.
pub(super) fn apply(
    write: &WriteTransaction,
    key: &SpaceKey,
    shape: &Shape,
    most: u32,
    change: &Change,
    rows: &mut Rows,
) -> Result<Committed, Refused> {
    let stored = find(write, key)?;
    let mut space = match (stored, change) {
        (None, Change::Forget(_)) => return Ok(Committed::nothing(None)),
        (None, Change::Put(_)) => make(write, key, shape, most)?,
        (Some(space), Change::Put(_)) if space.shape != *shape => return Err(Refused::Shape),
        (Some(space), _) => space,
    };
    let mut done = Committed::nothing(Some(&space));
    done.first = space.next;
    let generation = space.generation + 1;
    let mut tables = Tables::open(write, &space)?;
    let mut gone = Vec::new();
    match change {
        Change::Put(records) => gone = tables.put(&mut space, records, rows)?,
        Change::Forget(ids) => {
            for id in ids {
                let before = tables.ids.remove((space.number, id.as_bytes()))?.map(|seq| seq.value());
                gone.extend(before);
            }
        }
    }
    for seq in gone {
        done.removed.push(tables.remove((space.number, seq), generation)?);
    }
    done.touched = u32::try_from(done.removed.len()).unwrap_or(u32::MAX);
    if done.touched > 0 {
        erase::leave(write)?;
    }
    if done.touched > 0 || matches!(change, Change::Put(_)) {
        done.end(write, key, &mut space)?;
    }
    Ok(done)
}

impl Committed {
    /// Gives the write its number, and writes the row of its space.
    pub(super) fn end(
        &mut self,
        write: &WriteTransaction,
        key: &SpaceKey,
        space: &mut SpaceRow,
    ) -> Result<(), Refused> {
        space.generation += 1;
        self.generation = Some(space.generation);
        put(write, key, space)
    }

    /// Begins with a write that changed nothing of `space` yet.
    pub(super) fn nothing(space: Option<&SpaceRow>) -> Self {
        let (number, shape) = (space.map_or(0, |space| space.number), space.map(|space| space.shape.clone()));
        Self { space: number, shape, generation: None, first: 0, touched: 0, removed: Vec::new() }
    }
}

/// Makes the space of `key`, or finds it of the same shape.
pub(super) fn create(
    write: &WriteTransaction,
    key: &SpaceKey,
    shape: &Shape,
    most: u32,
) -> Result<(SpaceRow, bool), Refused> {
    match find(write, key)? {
        Some(space) if space.shape == *shape => Ok((space, false)),
        Some(space) => Err(Refused::Exists(Box::new(space.shape))),
        None => Ok((make(write, key, shape, most)?, true)),
    }
}

/// Makes the space of `key` unreachable and returns its number; its rows and its sets of vectors go by and by, by [`sweep`].
pub(super) fn drop_space(write: &WriteTransaction, key: &SpaceKey) -> Result<Option<u32>, Refused> {
    let Some(space) = find(write, key)? else { return Ok(None) };
    write.open_table(SPACES)?.remove(bytes(key))?;
    write.open_table(CHECKPOINTS)?.remove(space.number)?;
    write.open_table(JOBS)?.remove(space.number)?;
    let mut dropped = write.open_table(DROPPED)?;
    for number in [Some(space.number), Some(space.vectors), space.coming].into_iter().flatten() {
        dropped.insert(number, ())?;
    }
    Ok(Some(space.number))
}

/// Removes some rows of the spaces and sets that were dropped; returns whether there are more.
pub(super) fn sweep(write: &WriteTransaction) -> Result<bool, Refused> {
    let mut dropped = write.open_table(DROPPED)?;
    let Some(space) = dropped.first()?.map(|(space, _)| space.value()) else { return Ok(false) };
    let (mut left, after) = (AT_ONCE, space.saturating_add(1));
    let mut ids = write.open_table(IDS)?;
    let ids = ids.extract_from_if((space, &[][..])..(after, &[][..]), |_, _| true)?;
    for row in ids.take(left) {
        row?;
        left -= 1;
    }
    for table in [RECORDS, VECTORS] {
        take(&mut write.open_table(table)?, space, &mut left)?;
    }
    take(&mut write.open_table(REMOVED)?, space, &mut left)?;
    take(&mut write.open_table(FORGETTINGS)?, space, &mut left)?;
    take(&mut write.open_table(ACCOUNTS)?, space, &mut left)?;
    let mut trash = write.open_table(TRASH)?;
    for row in trash.extract_from_if((space, 0, 0)..=(space, u64::MAX, u64::MAX), |_, _| true)?.take(left) {
        row?;
        left -= 1;
    }
    if left < AT_ONCE {
        erase::leave(write)?;
    }
    if left > 0 {
        dropped.remove(space)?;
    }
    Ok(!dropped.is_empty()?)
}

/// Removes up to `left` rows of `space`, or of a set of that number.
pub(super) fn take<V: redb::Value>(
    table: &mut Numbered<'_, V>,
    space: u32,
    left: &mut usize,
) -> Result<(), Refused> {
    for row in table.extract_from_if((space, 0)..=(space, u64::MAX), |_, _| true)?.take(*left) {
        row?;
        *left -= 1;
    }
    Ok(())
}

/// Returns the space of `key`.
pub(super) fn find(write: &WriteTransaction, key: &SpaceKey) -> Result<Option<SpaceRow>, Refused> {
    let spaces = write.open_table(SPACES)?;
    let row = spaces.get(bytes(key))?.map(|row| SpaceRow::decode(row.value()));
    Ok(row.transpose()?)
}

/// Writes the row of a space.
pub(super) fn put(write: &WriteTransaction, key: &SpaceKey, space: &SpaceRow) -> Result<(), Refused> {
    write.open_table(SPACES)?.insert(bytes(key), space.encode().as_slice())?;
    Ok(())
}

/// Makes a space with the next number.
pub(super) fn make(
    write: &WriteTransaction,
    key: &SpaceKey,
    shape: &Shape,
    most: u32,
) -> Result<SpaceRow, Refused> {
    let tenant = key.tenant.as_bytes();
    let spaces = write.open_table(SPACES)?;
    let mut count = 0;
    for entry in spaces.range((tenant, &[][..])..)? {
        if entry?.0.value().0 != tenant {
            break;
        }
        count += 1;
    }
    if count >= most {
        return Err(Refused::Full);
    }
    drop(spaces);
    let number = number(write)?;
    let space =
        SpaceRow { number, generation: 0, next: 1, shape: shape.clone(), vectors: number, coming: None };
    put(write, key, &space)?;
    Ok(space)
}

/// Returns a number that no space and no set of vectors ever had.
pub(super) fn number(write: &WriteTransaction) -> Result<u32, Refused> {
    let mut meta = write.open_table(META)?;
    let number = meta.get(NEXT_SPACE)?.and_then(|number| number.value().parse().ok()).unwrap_or(1);
    meta.insert(NEXT_SPACE, (number + 1).to_string().as_str())?;
    Ok(number)
}

fn bytes(key: &SpaceKey) -> (&[u8], &[u8]) {
    (key.tenant.as_bytes(), key.namespace.as_bytes())
}
