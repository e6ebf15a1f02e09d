//! How values lie in a row: little-endian integers, texts with their lengths in front, and the sum that finds a changed byte.

use std::time::{Duration, SystemTime};

/// Why stored bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    /// They end too early, or bytes are left over.
    #[error("the row has a wrong length")]
    Length,
    /// They were written by a later version.
    #[error("the row has an unknown version")]
    Version,
    /// A byte of them or of their key changed.
    #[error("the row does not match its checksum")]
    Checksum,
    /// A string is not UTF-8.
    #[error("the row holds a string that is not text")]
    Text,
    /// A time cannot be represented.
    #[error("the row holds a time that does not exist")]
    Time,
    /// The vector has another length than its space's, or is not there.
    #[error("the row's vector has a wrong length")]
    Dimensions,
}

/// Takes the parts of a row one after the other.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Corrupt::Length)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn count(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn long(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn number(&mut self) -> Result<f64, Corrupt> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    pub(super) fn time(&mut self) -> Result<SystemTime, Corrupt> {
        join(i64::from_le_bytes(self.array()?), self.count()?)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Corrupt> {
        Ok(self.array::<1>()? != [0])
    }

    pub(super) fn text(&mut self) -> Result<String, Corrupt> {
        Ok(str::from_utf8(self.part()?).map_err(|_| Corrupt::Text)?.to_owned())
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, Corrupt> {
        (0..self.count()?).map(|_| self.text()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), Corrupt> {
        if self.0.is_empty() { Ok(()) } else { Err(Corrupt::Length) }
    }

    fn part(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.count()? as usize;
        let (part, rest) = self.0.split_at_checked(length).ok_or(Corrupt::Length)?;
        self.0 = rest;
        Ok(part)
    }
}

pub(super) fn write_count(bytes: &mut Vec<u8>, count: usize) {
    // The contract's limits keep every length far below: a saturated one would fail to decode, not corrupt its neighbours.
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn write_text(bytes: &mut Vec<u8>, text: &str) {
    write_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

pub(super) fn write_texts(bytes: &mut Vec<u8>, texts: &[String]) {
    write_count(bytes, texts.len());
    texts.iter().for_each(|text| write_text(bytes, text));
}

pub(super) fn write_time(bytes: &mut Vec<u8>, time: SystemTime) {
    let (seconds, nanos) = split(time);
    bytes.extend_from_slice(&seconds.to_le_bytes());
    bytes.extend_from_slice(&nanos.to_le_bytes());
}

/// Sums up `parts` by xor, multiply and rotate over eight bytes at a time (the scheme of `FxHash`, with its constant): it finds a
/// byte that changed on a disk, not one that somebody forged, and runs at the speed of memory.
pub(super) fn checksum(parts: &[&[u8]]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut sum = 0_u64;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().copied().chain([last, (part.len() as u64).to_le_bytes()]);
        sum =
            words.fold(sum, |sum, word| (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR));
    }
    sum
}

/// Returns the whole seconds from 1970 to `time`, rounded down, and the nanoseconds after them.
pub(crate) fn split(time: SystemTime) -> (i64, u32) {
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (whole(after), after.subsec_nanos()),
        Err(error) => match (whole(error.duration()), error.duration().subsec_nanos()) {
            (seconds, 0) => (-seconds, 0),
            (seconds, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
        },
    }
}

/// Makes a time of what [`split`] returned.
///
/// # Errors
/// [`Corrupt::Time`] if there is no such time.
pub(crate) fn join(seconds: i64, nanos: u32) -> Result<SystemTime, Corrupt> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nanos.into()))).ok_or(Corrupt::Time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_time_comes_back(seconds in -62_135_596_800_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
            let time = super::join(seconds, nanos).unwrap();
            prop_assert_eq!(super::split(time), (seconds, nanos));
        }
    }
}
