//! The tables of the store's file, and what a space's own row says.

use redb::TableDefinition;

use super::bytes::{Corrupt, Reader, checksum, write_count, write_text};
use crate::shape::{Metric, Shape};

/// The layout of the tables; written under [`FORMAT_NAME`]. A later one gets the next number and begins with a migration.
pub(super) const FORMAT: u32 = 3;
/// Where [`META`] has the layout.
pub(super) const FORMAT_NAME: &str = "format";
/// Where [`META`] has the number that the next space, or the next set of vectors, gets.
pub(super) const NEXT_SPACE: &str = "next_space";

// Names are bytes and not text: redb panics on a text key that a disk fault turned into something else.
/// The layout, and what there is once.
pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Tenant and namespace to a [`SpaceRow`].
pub(super) const SPACES: TableDefinition<'_, (&[u8], &[u8]), &[u8]> = TableDefinition::new("spaces");
/// Space and id to the number of the memory.
pub(super) const IDS: TableDefinition<'_, (u32, &[u8]), u64> = TableDefinition::new("ids");
/// Space and number to a memory.
pub(super) const RECORDS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("records");
/// Set and number of a memory to a vector.
pub(super) const VECTORS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("vectors");
/// Space and number of what was removed to the generation that did it: what a checkpoint of before has to leave out.
pub(super) const REMOVED: TableDefinition<'_, (u32, u64), u64> = TableDefinition::new("removed");
/// Space to the name of its checkpoint and the generation that it holds.
pub(super) const CHECKPOINTS: TableDefinition<'_, u32, (u128, u64)> = TableDefinition::new("checkpoints");
/// Spaces that were dropped and whose rows are still to be removed.
pub(super) const DROPPED: TableDefinition<'_, u32, ()> = TableDefinition::new("dropped");
/// Space and number of a forgetting to what is known of it.
pub(super) const FORGETTINGS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("forgettings");
/// Space, number of a forgetting and number of a memory that it took, to the memory's two rows and to where its id went on.
pub(super) const TRASH: TableDefinition<'_, (u32, u64, u64), Kept> = TableDefinition::new("trash");
/// Space and number of a memory to how often it was recalled and said, and the second since 1970 of the last recall.
pub(super) const ACCOUNTS: TableDefinition<'_, (u32, u64), (u32, u32, Option<u64>)> =
    TableDefinition::new("accounts");
/// Space to its re-embedding: the one that runs, or the last one.
pub(super) const JOBS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("jobs");
/// Sets that nobody reads any more and whose vectors are still to be removed, to their spaces.
pub(super) const OLD_SETS: TableDefinition<'_, u32, u32> = TableDefinition::new("old_sets");
/// Tenant and id to a row of an older layout that could not be read.
pub(super) const DAMAGED: TableDefinition<'_, (&[u8], &[u8]), &[u8]> = TableDefinition::new("damaged");

/// The rows of a memory and of its vector as they were, and the number under which its id went on.
pub(super) type Kept = (&'static [u8], &'static [u8], Option<u64>);

/// What the store knows of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpaceRow {
    /// Its number, which no other space ever had.
    pub(crate) number: u32,
    /// The number of its last write.
    pub(crate) generation: u64,
    /// The number that its next memory gets.
    pub(crate) next: u64,
    /// What its vectors are.
    pub(crate) shape: Shape,
    /// The set that its vectors lie in: its own number until it is re-embedded, then one that no other space or set ever had.
    pub(crate) vectors: u32,
    /// The set of the re-embedding that runs.
    pub(crate) coming: Option<u32>,
}

impl SpaceRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        write_count(&mut bytes, self.number as usize);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.next.to_le_bytes());
        write_count(&mut bytes, self.shape.dimensions);
        bytes.push(number(self.shape.metric));
        write_text(&mut bytes, &self.shape.embedder);
        write_count(&mut bytes, self.vectors as usize);
        bytes.push(self.coming.is_some().into());
        self.coming.into_iter().for_each(|set| write_count(&mut bytes, set as usize));
        let sum = checksum(&[&bytes[8..]]);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (sum, body) = bytes.split_first_chunk().ok_or(Corrupt::Length)?;
        if u64::from_le_bytes(*sum) != checksum(&[body]) {
            return Err(Corrupt::Checksum);
        }
        let mut reader = Reader(body);
        let (number, generation, next) = (reader.count()?, reader.long()?, reader.long()?);
        let dimensions = reader.count()? as usize;
        let [metric] = reader.array()?;
        let metric = numbered(metric).ok_or(Corrupt::Version)?;
        let embedder = reader.text()?;
        // Layout 2 had one set a space, and ended here.
        let (mut vectors, mut coming) = (number, None);
        if !reader.is_empty() {
            vectors = reader.count()?;
            coming = if reader.flag()? { Some(reader.count()?) } else { None };
        }
        reader.end()?;
        Ok(Self { number, generation, next, shape: Shape { embedder, dimensions, metric }, vectors, coming })
    }
}

/// Returns the number of `metric` on disk.
fn number(metric: Metric) -> u8 {
    match metric {
        Metric::Cosine => 0,
        Metric::Dot => 1,
        Metric::Euclidean => 2,
    }
}

/// Returns the metric of that number.
fn numbered(wanted: u8) -> Option<Metric> {
    [Metric::Cosine, Metric::Dot, Metric::Euclidean].into_iter().find(|metric| number(*metric) == wanted)
}

#[cfg(test)]
mod tests {
    use super::{SpaceRow, checksum};
    use crate::shape::{Metric, Shape};

    #[test]
    fn the_row_of_a_space_comes_back_and_a_changed_byte_is_noticed() {
        let shape = Shape { embedder: "hashing-3".into(), dimensions: 3, metric: Metric::Dot };
        let row = SpaceRow { number: 4, generation: 5, next: u64::MAX, shape, vectors: 6, coming: None };
        for row in [SpaceRow { coming: Some(7), ..row.clone() }, row] {
            let bytes = row.encode();
            assert_eq!(SpaceRow::decode(&bytes), Ok(row));
            for place in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[place] ^= 1;
                assert!(SpaceRow::decode(&changed).is_err(), "byte {place}");
            }
        }
    }

    #[test]
    fn a_row_of_layout_2_has_its_vectors_under_its_own_number() {
        // As the code of then wrote it. Frozen.
        let mut body = Vec::new();
        body.extend(4_u32.to_le_bytes());
        body.extend(5_u64.to_le_bytes());
        body.extend(6_u64.to_le_bytes());
        body.extend(16_u32.to_le_bytes());
        body.push(0);
        body.extend(10_u32.to_le_bytes());
        body.extend(b"hashing-16");
        let row = [&checksum(&[&body]).to_le_bytes()[..], &body].concat();
        let shape = Shape { embedder: "hashing-16".into(), dimensions: 16, metric: Metric::Cosine };
        let expected = SpaceRow { number: 4, generation: 5, next: 6, shape, vectors: 4, coming: None };
        assert_eq!(SpaceRow::decode(&row), Ok(expected));
    }
}
