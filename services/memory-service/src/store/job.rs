//! How a re-embedding lies on disk: eight bytes of checksum, which its key goes into, then its parts.

use super::bytes::{Corrupt, Reader, checksum, write_count, write_text, write_time};
use crate::upkeep::reembed::{Job, State};

/// Returns the row of the job of `space`.
pub(super) fn encode(space: u32, job: &Job) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    write_text(&mut bytes, &job.embedder);
    write_count(&mut bytes, job.dimensions);
    write_count(&mut bytes, job.set as usize);
    write_time(&mut bytes, job.began);
    bytes.extend_from_slice(&job.after.to_le_bytes());
    bytes.extend_from_slice(&job.done.to_le_bytes());
    match &job.state {
        State::Embedding(late) => {
            bytes.push(0);
            write_count(&mut bytes, *late as usize);
        }
        State::Ready(late) => {
            bytes.push(1);
            write_count(&mut bytes, *late as usize);
        }
        State::Waiting { failures, until, reason } => {
            bytes.push(2);
            write_count(&mut bytes, *failures as usize);
            write_time(&mut bytes, *until);
            write_text(&mut bytes, reason);
        }
        State::Changed => bytes.push(3),
        State::Cancelled => bytes.push(4),
    }
    let sum = sum(space, &bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads the row of the job of `space`.
///
/// # Errors
/// [`Corrupt`] says what is wrong with the row.
pub(super) fn decode(space: u32, bytes: &[u8]) -> Result<Job, Corrupt> {
    let (stored, body) = bytes.split_first_chunk().ok_or(Corrupt::Length)?;
    if u64::from_le_bytes(*stored) != sum(space, body) {
        return Err(Corrupt::Checksum);
    }
    let mut reader = Reader(body);
    let (embedder, dimensions, set) = (reader.text()?, reader.count()? as usize, reader.count()?);
    let (began, after, done) = (reader.time()?, reader.long()?, reader.long()?);
    let [state] = reader.array()?;
    let state = match state {
        0 => State::Embedding(reader.count()?),
        1 => State::Ready(reader.count()?),
        2 => State::Waiting { failures: reader.count()?, until: reader.time()?, reason: reader.text()? },
        3 => State::Changed,
        4 => State::Cancelled,
        _ => return Err(Corrupt::Version),
    };
    reader.end()?;
    Ok(Job { embedder, dimensions, set, began, after, done, state })
}

fn sum(space: u32, body: &[u8]) -> u64 {
    checksum(&[&space.to_le_bytes(), body])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{decode, encode};
    use crate::upkeep::reembed::{Job, State};

    #[test]
    fn a_job_comes_back_in_every_state_and_a_changed_byte_is_noticed() {
        let until = UNIX_EPOCH + Duration::from_millis(1500);
        let states = [
            State::Embedding(2),
            State::Ready(3),
            State::Waiting { failures: 4, until, reason: "away".into() },
            State::Changed,
            State::Cancelled,
        ];
        for state in states {
            let new = Job::new("hashing-32".into(), 32, 7, UNIX_EPOCH);
            let job = Job { after: u64::MAX, done: 9, state, ..new };
            let bytes = encode(3, &job);
            assert_eq!(decode(3, &bytes), Ok(job));
            assert!(decode(4, &bytes).is_err());
            for place in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[place] ^= 1;
                assert!(decode(3, &changed).is_err(), "byte {place}");
            }
        }
    }
}
