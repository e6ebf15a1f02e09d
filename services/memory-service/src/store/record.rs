//! How a memory lies on disk.
//!
//! One version byte, eight bytes of checksum over the key and all that follows, then time, confidence, strings with
//! their lengths in front, what version 2 added, and the vector as little-endian `f32` to the end. Integers are little-endian; what may be
//! absent has a byte in front.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::memory::{Claim, Memory, Place, Record};

/// What is written. A later layout gets the next number and reads those before it too.
const VERSION: u8 = 2;
/// Ends with the metadata.
const FIRST: u8 = 1;
/// Version and checksum.
const HEADER: usize = 9;
/// Time and confidence.
const FIXED: usize = 8 + 4 + 8;

/// Why a stored row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    /// The row ends too early, or has bytes left over.
    #[error("the row has a wrong length")]
    Length,
    /// The row was written by a later version.
    #[error("the row has an unknown version")]
    Version,
    /// A byte of the row or of its key changed.
    #[error("the row does not match its checksum")]
    Checksum,
    /// A string is not UTF-8.
    #[error("the row holds a string that is not text")]
    Text,
    /// A time cannot be represented.
    #[error("the row holds a time that does not exist")]
    Time,
    /// The vector has another length than the store's.
    #[error("the row's vector has a wrong length")]
    Dimensions,
}

/// Encodes `record` of `tenant`.
pub(crate) fn encode(tenant: &str, record: &Record) -> Vec<u8> {
    let memory = &record.memory;
    let strings: usize =
        [&memory.category, &memory.content].into_iter().chain(&memory.pools).map(|s| s.len() + 4).sum();
    let mut bytes = Vec::with_capacity(HEADER + FIXED + strings + record.embedding.len() * 4 + 64);
    bytes.resize(HEADER, 0);
    write_time(&mut bytes, memory.time);
    bytes.extend_from_slice(&memory.confidence.to_le_bytes());
    write_text(&mut bytes, &memory.category);
    write_text(&mut bytes, &memory.content);
    write_texts(&mut bytes, &memory.pools);
    write_count(&mut bytes, memory.metadata.len());
    for (name, value) in &memory.metadata {
        write_text(&mut bytes, name);
        write_text(&mut bytes, value);
    }
    write_second(&mut bytes, memory);
    record.embedding.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    let sum = checksum(tenant, &memory.id, &bytes[HEADER..]);
    bytes[0] = VERSION;
    bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Decodes the row of `tenant` and `id`, whose vector has `dimensions` values.
///
/// # Errors
/// [`Corrupt`] says what is wrong with the row.
pub(crate) fn decode(tenant: &str, id: &str, bytes: &[u8], dimensions: usize) -> Result<Record, Corrupt> {
    let (version, rest) = bytes.split_first().ok_or(Corrupt::Length)?;
    if !(FIRST..=VERSION).contains(version) {
        return Err(Corrupt::Version);
    }
    let (sum, body) = rest.split_first_chunk().ok_or(Corrupt::Length)?;
    if u64::from_le_bytes(*sum) != checksum(tenant, id, body) {
        return Err(Corrupt::Checksum);
    }
    let mut reader = Reader(body);
    let time = reader.time()?;
    let confidence = reader.number()?;
    let (category, content) = (reader.text()?, reader.text()?);
    let pools = reader.texts()?;
    let metadata = (0..reader.count()?)
        .map(|_| Ok((reader.text()?, reader.text()?)))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let mut memory =
        Memory { id: id.into(), category, content, pools, time, confidence, metadata, ..Memory::bare() };
    if *version > FIRST {
        reader.second(&mut memory)?;
    }
    let (values, rest) = reader.0.as_chunks::<4>();
    if !rest.is_empty() || values.len() != dimensions {
        return Err(Corrupt::Dimensions);
    }
    let embedding = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Ok(Record { memory: Arc::new(memory), embedding })
}

/// Takes the parts of a row one after the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Corrupt::Length)?;
        self.0 = rest;
        Ok(*array)
    }

    fn count(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<f64, Corrupt> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    fn time(&mut self) -> Result<SystemTime, Corrupt> {
        join(i64::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, Corrupt> {
        Ok(self.array::<1>()? != [0])
    }

    fn texts(&mut self) -> Result<Vec<String>, Corrupt> {
        (0..self.count()?).map(|_| self.text()).collect()
    }

    /// Takes what version 2 added.
    fn second(&mut self, memory: &mut Memory) -> Result<(), Corrupt> {
        memory.agent = self.text()?;
        memory.tags = self.texts()?;
        if self.flag()? {
            let thread = self.text()?;
            memory.place = Some(Place { thread, position: u64::from_le_bytes(self.array()?) });
        }
        memory.importance = self.number()?;
        if self.flag()? {
            memory.expires = Some(self.time()?);
        }
        memory.pinned = self.flag()?;
        if self.flag()? {
            memory.claim = Some(Claim { subject: self.text()?, field: self.text()?, value: self.text()? });
        }
        memory.sources = self.texts()?;
        Ok(())
    }

    fn text(&mut self) -> Result<String, Corrupt> {
        let length = self.count()? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Corrupt::Length)?;
        self.0 = rest;
        Ok(str::from_utf8(text).map_err(|_| Corrupt::Text)?.to_owned())
    }
}

fn write_count(bytes: &mut Vec<u8>, count: usize) {
    // The contract's limits keep every length far below: a saturated one would fail to decode, not corrupt its neighbours.
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn write_texts(bytes: &mut Vec<u8>, texts: &[String]) {
    write_count(bytes, texts.len());
    texts.iter().for_each(|text| write_text(bytes, text));
}

fn write_time(bytes: &mut Vec<u8>, time: SystemTime) {
    let (seconds, nanos) = split(time);
    bytes.extend_from_slice(&seconds.to_le_bytes());
    bytes.extend_from_slice(&nanos.to_le_bytes());
}

/// Writes what version 2 added.
fn write_second(bytes: &mut Vec<u8>, memory: &Memory) {
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

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    write_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Returns whole seconds since 1970, rounded down, and the nanoseconds after them.
fn split(time: SystemTime) -> (i64, u32) {
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (whole(after), after.subsec_nanos()),
        Err(error) => match (whole(error.duration()), error.duration().subsec_nanos()) {
            (seconds, 0) => (-seconds, 0),
            (seconds, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
        },
    }
}

fn join(seconds: i64, nanos: u32) -> Result<SystemTime, Corrupt> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nanos.into()))).ok_or(Corrupt::Time)
}

/// Sums up a row and its key by xor, multiply and rotate over eight bytes at a time (the scheme of `FxHash`, with its constant): it
/// finds a byte that changed on a disk, not one that somebody forged, and runs at the speed of memory.
fn checksum(tenant: &str, id: &str, body: &[u8]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut sum = 0_u64;
    for part in [tenant.as_bytes(), id.as_bytes(), body] {
        let (words, rest) = part.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().copied().chain([last, (part.len() as u64).to_le_bytes()]);
        sum =
            words.fold(sum, |sum, word| (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR));
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::prelude::*;

    use super::{Corrupt, decode, encode};
    use crate::memory::{Claim, Memory, Place, Record};

    fn full() -> Record {
        let memory = Memory {
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
        };
        Record { memory: Arc::new(memory), embedding: vec![0.5, -1.5, f32::MIN_POSITIVE] }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(decode("t", "id", &encode("t", &full()), 3), Ok(full()));
    }

    #[test]
    fn a_row_of_the_first_version_is_read() {
        let mut first = full();
        let memory = Arc::get_mut(&mut first.memory).unwrap();
        let Memory { id, category, content, pools, time, confidence, metadata, .. } = memory.clone();
        *memory = Memory { id, category, content, pools, time, confidence, metadata, ..Memory::bare() };
        let mut bytes = encode("t", &first);
        // What the second version adds to a memory that states nothing of it.
        let (added, vector) = (4 + 4 + 1 + 8 + 1 + 1 + 1 + 4, 3 * 4);
        let end = bytes.len() - vector;
        bytes.drain(end - added..end);
        let sum = super::checksum("t", "id", &bytes[super::HEADER..]);
        bytes[0] = super::FIRST;
        bytes[1..super::HEADER].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode("t", "id", &bytes, 3), Ok(first));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = encode("t", &full());
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            assert!(decode("t", "id", &changed, 3).is_err(), "byte {place}");
        }
        assert_eq!(decode("t", "ie", &bytes, 3), Err(Corrupt::Checksum));
        assert_eq!(decode("u", "id", &bytes, 3), Err(Corrupt::Checksum));
    }

    #[test]
    fn a_row_that_ends_early_is_refused() {
        let bytes = encode("t", &full());
        for length in 0..bytes.len() {
            assert!(decode("t", "id", &bytes[..length], 3).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_vector_of_another_length_is_refused() {
        assert_eq!(decode("t", "id", &encode("t", &full()), 4), Err(Corrupt::Dimensions));
    }

    proptest! {
        #[test]
        fn whatever_is_read_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode("t", "id", &bytes, 3).is_err());
        }

        #[test]
        fn any_time_comes_back(seconds in -62_135_596_800_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
            let time = super::join(seconds, nanos).unwrap();
            prop_assert_eq!(super::split(time), (seconds, nanos));
        }
    }
}
