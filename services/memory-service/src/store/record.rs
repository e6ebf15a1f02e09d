//! How a memory and its vector lie on disk, each in a row of its own.
//!
//! A memory: one version byte, eight bytes of checksum over what follows and the row's key, then the memory's parts in a fixed
//! order; what may be absent has a byte in front. A vector: eight bytes of checksum, then little-endian `f32`.

use std::collections::BTreeMap;

use super::bytes::{Corrupt, Reader, checksum, write_count, write_text, write_texts, write_time};
use crate::memory::{Claim, Memory, Place};

/// What is written. A later layout gets the next number and reads this one too; 1 and 2 are read by `legacy`.
const VERSION: u8 = 3;
/// Version and checksum.
const HEADER: usize = 9;
/// Bytes of a checksum.
const SUM: usize = 8;

/// The key of a row: the number of the space, and the memory's own in it.
pub(super) type Key = (u32, u64);

/// A row whose key is not known yet. What costs time is done before it is.
#[derive(Clone, Debug)]
pub(super) struct Row {
    bytes: Vec<u8>,
    /// Where the checksum lies.
    at: usize,
    /// The checksum of all that follows it.
    sum: u64,
}

impl Row {
    /// Encodes a memory.
    pub(super) fn memory(memory: &Memory) -> Self {
        let strings: usize =
            [&memory.category, &memory.content].into_iter().chain(&memory.pools).map(|s| s.len() + 4).sum();
        let mut bytes = Vec::with_capacity(HEADER + strings + memory.id.len() + 128);
        bytes.resize(HEADER, 0);
        bytes[0] = VERSION;
        write(&mut bytes, memory);
        Self::new(bytes, 1)
    }

    /// Encodes a vector.
    pub(super) fn vector(vector: &[f32]) -> Self {
        let mut bytes = Vec::with_capacity(SUM + vector.len() * 4);
        bytes.resize(SUM, 0);
        vector.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        Self::new(bytes, 0)
    }

    fn new(bytes: Vec<u8>, at: usize) -> Self {
        let sum = checksum(&[&bytes[at + SUM..]]);
        Self { bytes, at, sum }
    }

    /// Returns how many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the bytes of the row under `key`; another key may follow.
    pub(super) fn under(&mut self, key: Key) -> &[u8] {
        let sum = bound(self.sum, key);
        self.bytes[self.at..][..SUM].copy_from_slice(&sum.to_le_bytes());
        &self.bytes
    }
}

/// Decodes the memory of the row under `key`.
///
/// # Errors
/// [`Corrupt`] says what is wrong with the row.
pub(super) fn memory(key: Key, bytes: &[u8]) -> Result<Memory, Corrupt> {
    let (version, rest) = bytes.split_first().ok_or(Corrupt::Length)?;
    if *version != VERSION {
        return Err(Corrupt::Version);
    }
    read(checked(key, rest)?)
}

/// Decodes the vector of the row under `key` into `vector`, whose length it must have.
///
/// # Errors
/// [`Corrupt`] says what is wrong with the row.
pub(super) fn vector(key: Key, bytes: &[u8], vector: &mut [f32]) -> Result<(), Corrupt> {
    let (values, rest) = checked(key, bytes)?.as_chunks::<4>();
    if !rest.is_empty() || values.len() != vector.len() {
        return Err(Corrupt::Dimensions);
    }
    vector.iter_mut().zip(values).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
    Ok(())
}

/// Returns what follows the checksum, if it is as it was written.
fn checked(key: Key, bytes: &[u8]) -> Result<&[u8], Corrupt> {
    let (sum, body) = bytes.split_first_chunk().ok_or(Corrupt::Length)?;
    if u64::from_le_bytes(*sum) != bound(checksum(&[body]), key) {
        return Err(Corrupt::Checksum);
    }
    Ok(body)
}

/// Binds the checksum of a row to its key.
fn bound(sum: u64, (space, seq): Key) -> u64 {
    checksum(&[&sum.to_le_bytes(), &space.to_le_bytes(), &seq.to_le_bytes()])
}

fn write(bytes: &mut Vec<u8>, memory: &Memory) {
    write_text(bytes, &memory.id);
    write_time(bytes, memory.time);
    bytes.extend_from_slice(&memory.confidence.to_le_bytes());
    write_text(bytes, &memory.category);
    write_text(bytes, &memory.content);
    write_texts(bytes, &memory.pools);
    write_count(bytes, memory.metadata.len());
    for (name, value) in &memory.metadata {
        write_text(bytes, name);
        write_text(bytes, value);
    }
    write_text(bytes, &memory.agent);
    write_texts(bytes, &memory.tags);
    bytes.push(memory.place.is_some().into());
    if let Some(Place { thread, position }) = &memory.place {
        write_text(bytes, thread);
        bytes.extend_from_slice(&position.to_le_bytes());
    }
    bytes.extend_from_slice(&memory.importance.to_le_bytes());
    bytes.push(memory.expires.is_some().into());
    if let Some(expires) = memory.expires {
        write_time(bytes, expires);
    }
    bytes.push(memory.pinned.into());
    bytes.push(memory.claim.is_some().into());
    if let Some(Claim { subject, field, value }) = &memory.claim {
        [subject, field, value].into_iter().for_each(|text| write_text(bytes, text));
    }
    write_texts(bytes, &memory.sources);
}

fn read(body: &[u8]) -> Result<Memory, Corrupt> {
    let mut reader = Reader(body);
    let mut memory = Memory { id: reader.text()?.into(), ..Memory::bare() };
    first(&mut reader, &mut memory)?;
    second(&mut reader, &mut memory)?;
    reader.end()?;
    Ok(memory)
}

/// Takes what every version has.
pub(super) fn first(reader: &mut Reader<'_>, memory: &mut Memory) -> Result<(), Corrupt> {
    memory.time = reader.time()?;
    memory.confidence = reader.number()?;
    (memory.category, memory.content) = (reader.text()?, reader.text()?);
    memory.pools = reader.texts()?;
    let metadata = (0..reader.count()?).map(|_| Ok((reader.text()?, reader.text()?)));
    memory.metadata = metadata.collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(())
}

/// Takes what version 2 added.
pub(super) fn second(reader: &mut Reader<'_>, memory: &mut Memory) -> Result<(), Corrupt> {
    memory.agent = reader.text()?;
    memory.tags = reader.texts()?;
    if reader.flag()? {
        memory.place = Some(Place { thread: reader.text()?, position: reader.long()? });
    }
    memory.importance = reader.number()?;
    if reader.flag()? {
        memory.expires = Some(reader.time()?);
    }
    memory.pinned = reader.flag()?;
    if reader.flag()? {
        let (subject, field, value) = (reader.text()?, reader.text()?, reader.text()?);
        memory.claim = Some(Claim { subject, field, value });
    }
    memory.sources = reader.texts()?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::prelude::*;

    use super::{Corrupt, Row, memory, vector};
    use crate::memory::{Claim, Memory, Place};

    const KEY: (u32, u64) = (3, 7);
    const VECTOR: [f32; 3] = [0.5, -1.5, f32::MIN_POSITIVE];

    pub(crate) fn full() -> Memory {
        Memory {
            id: "id".into(),
            category: "gas_optimization".into(),
            content: "gas is low at 04:00 — ünïcode".into(),
            pools: vec!["weth/usdc".into(), String::new()],
            time: UNIX_EPOCH - Duration::from_millis(1500),
            confidence: 0.75,
            metadata: BTreeMap::from([("a".into(), "b".into()), (String::new(), "c".into())]),
            agent: "scout".into(),
            tags: vec!["gas".into(), "night".into()],
            place: Some(Place { thread: "log".into(), position: u64::MAX }),
            importance: 0.25,
            expires: Some(UNIX_EPOCH + Duration::from_millis(1500)),
            pinned: true,
            claim: Some(Claim { subject: "gas".into(), field: "hour".into(), value: "4".into() }),
            sources: vec!["etherscan".into()],
        }
    }

    fn read_vector(key: (u32, u64), bytes: &[u8]) -> Result<[f32; 3], Corrupt> {
        let mut values = [0.0; 3];
        vector(key, bytes, &mut values).map(|()| values)
    }

    #[test]
    fn a_memory_and_its_vector_come_back_as_they_were() {
        assert_eq!(memory(KEY, Row::memory(&full()).under(KEY)), Ok(full()));
        assert_eq!(read_vector(KEY, Row::vector(&VECTOR).under(KEY)), Ok(VECTOR));
        let bare = Memory { id: "b".into(), ..Memory::bare() };
        assert_eq!(memory(KEY, Row::memory(&bare).under(KEY)), Ok(bare));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (mut row, mut values) = (Row::memory(&full()), Row::vector(&VECTOR));
        let (row, values) = (row.under(KEY).to_vec(), values.under(KEY).to_vec());
        let spoil = |bytes: &[u8], place: usize| {
            let mut changed = bytes.to_vec();
            changed[place] ^= 0x10;
            changed
        };
        for place in 0..row.len() {
            assert!(memory(KEY, &spoil(&row, place)).is_err(), "byte {place}");
        }
        for place in 0..values.len() {
            assert!(read_vector(KEY, &spoil(&values, place)).is_err(), "byte {place}");
        }
        for other in [(3, 8), (4, 7)] {
            assert_eq!(memory(other, &row), Err(Corrupt::Checksum));
            assert_eq!(read_vector(other, &values), Err(Corrupt::Checksum));
        }
    }

    #[test]
    fn a_row_that_ends_early_is_refused() {
        let mut row = Row::memory(&full());
        let bytes = row.under(KEY);
        for length in 0..bytes.len() {
            assert!(memory(KEY, &bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_vector_of_another_length_is_refused() {
        let mut row = Row::vector(&VECTOR);
        assert_eq!(vector(KEY, row.under(KEY), &mut [0.0; 4]), Err(Corrupt::Dimensions));
    }

    proptest! {
        #[test]
        fn whatever_is_read_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(memory(KEY, &bytes).is_err());
            prop_assert!(read_vector(KEY, &bytes).is_err());
        }
    }
}
