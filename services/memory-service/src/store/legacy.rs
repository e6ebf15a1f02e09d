//! The first layout of the file, and the way from there: one table of memories by tenant and id, the vector at the end of the row.
//!
//! Its rows are moved, some in each commit, so that a migration that is broken off goes on where it stood.

use std::collections::BTreeMap;

use redb::{
    ReadableTable as _, ReadableTableMetadata as _, TableDefinition, TableHandle as _, WriteTransaction,
};

use super::{
    bytes::{Corrupt, Reader, checksum},
    record::{Row, first, second},
    tables::{DAMAGED, FORMAT, FORMAT_NAME, IDS, META, RECORDS, SpaceRow, VECTORS},
    write::{Refused, find, make, put},
};
use crate::{
    memory::Memory,
    shape::{Metric, Shape, SpaceKey},
};

const MEMORIES: TableDefinition<'_, (&[u8], &[u8]), &[u8]> = TableDefinition::new("memories");
const GENERATIONS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("generations");

/// A memory with its vector.
type Read = (Memory, Vec<f32>);

/// Rows that are moved in one commit.
const AT_ONCE: usize = 2_000;

/// Returns whether the file is of the first layout, or on the way from it.
pub(super) fn is_here(write: &WriteTransaction) -> Result<bool, Refused> {
    Ok(write.list_tables()?.any(|table| table.name() == MEMORIES.name()))
}

/// Moves some rows into the tables of the present layout; returns how many are left. With the last one the old tables go and
/// the layout is noted.
pub(super) fn migrate(write: &WriteTransaction) -> Result<u64, Refused> {
    let mut memories = write.open_table(MEMORIES)?;
    let shape = maker(write)?;
    let mut batch: BTreeMap<String, Vec<Read>> = BTreeMap::new();
    let mut damaged = write.open_table(DAMAGED)?;
    for entry in memories.extract_if(|_, _| true)?.take(AT_ONCE) {
        let (key, row) = entry?;
        let (tenant, id) = key.value();
        match shape.as_ref().ok_or(Corrupt::Dimensions).and_then(|shape| read(tenant, id, row.value(), shape))
        {
            Ok((tenant, record)) => batch.entry(tenant).or_default().push(record),
            Err(error) => {
                let id = String::from_utf8_lossy(id);
                tracing::warn!(%error, memory = %id, "a stored memory cannot be read and is left out of the migration");
                damaged.insert(key.value(), row.value())?;
            }
        }
    }
    if let Some(shape) = shape {
        carry_over(write, &shape)?;
        for (tenant, records) in batch {
            add(write, &SpaceKey::new(tenant, ""), &shape, &records)?;
        }
    }
    let left = memories.len()?;
    drop((memories, damaged));
    if left == 0 {
        write.delete_table(MEMORIES)?;
        write.delete_table(GENERATIONS)?;
        write.open_table(META)?.insert(FORMAT_NAME, FORMAT.to_string().as_str())?;
    }
    Ok(left)
}

/// Returns who made the vectors.
fn maker(write: &WriteTransaction) -> Result<Option<Shape>, Refused> {
    let meta = write.open_table(META)?;
    let embedder = meta.get("embedder")?.map(|value| value.value().to_owned());
    let dimensions = meta.get("dimensions")?.and_then(|value| value.value().parse().ok());
    let shape = embedder.zip(dimensions);
    Ok(shape.map(|(embedder, dimensions)| Shape { embedder, dimensions, metric: Metric::Cosine }))
}

/// Makes the spaces of tenants that are not there yet, with their generations.
fn carry_over(write: &WriteTransaction, shape: &Shape) -> Result<(), Refused> {
    for entry in write.open_table(GENERATIONS)?.iter()? {
        let (tenant, generation) = entry?;
        let Ok(tenant) = str::from_utf8(tenant.value()) else { continue };
        let key = SpaceKey::new(tenant, "");
        if find(write, &key)?.is_none() {
            let space = make(write, &key, shape, u32::MAX)?;
            put(write, &key, &SpaceRow { generation: generation.value(), ..space })?;
        }
    }
    Ok(())
}

fn add(write: &WriteTransaction, key: &SpaceKey, shape: &Shape, records: &[Read]) -> Result<(), Refused> {
    let mut space = match find(write, key)? {
        Some(space) => space,
        // A write made both, so only a damaged row of generations leads here.
        None => make(write, key, shape, u32::MAX)?,
    };
    let (mut ids, mut rows) = (write.open_table(IDS)?, write.open_table(RECORDS)?);
    let mut vectors = write.open_table(VECTORS)?;
    for (memory, vector) in records {
        let place = (space.number, space.next);
        space.next += 1;
        ids.insert((space.number, memory.id.as_bytes()), place.1)?;
        rows.insert(place, Row::memory(memory).under(place))?;
        let place = (space.vectors, place.1);
        vectors.insert(place, Row::vector(vector).under(place))?;
    }
    put(write, key, &space)
}

fn read(tenant: &[u8], id: &[u8], row: &[u8], shape: &Shape) -> Result<(String, Read), Corrupt> {
    let text = |bytes| str::from_utf8(bytes).map_err(|_| Corrupt::Text);
    let (tenant, id) = (text(tenant)?, text(id)?);
    Ok((tenant.to_owned(), decode(tenant, id, row, shape.dimensions)?))
}

/// Decodes a row of version 1, which ends with the metadata, or 2.
fn decode(tenant: &str, id: &str, bytes: &[u8], dimensions: usize) -> Result<Read, Corrupt> {
    let (version, rest) = bytes.split_first().ok_or(Corrupt::Length)?;
    if !(1..=2).contains(version) {
        return Err(Corrupt::Version);
    }
    let (sum, body) = rest.split_first_chunk().ok_or(Corrupt::Length)?;
    if u64::from_le_bytes(*sum) != checksum(&[tenant.as_bytes(), id.as_bytes(), body]) {
        return Err(Corrupt::Checksum);
    }
    let mut reader = Reader(body);
    let mut memory = Memory { id: id.into(), ..Memory::bare() };
    first(&mut reader, &mut memory)?;
    if *version > 1 {
        second(&mut reader, &mut memory)?;
    }
    let (values, rest) = reader.0.as_chunks::<4>();
    if !rest.is_empty() || values.len() != dimensions {
        return Err(Corrupt::Dimensions);
    }
    let embedding = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Ok((memory, embedding))
}
