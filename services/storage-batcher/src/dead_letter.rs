//! Writes that the sink refused for good, kept with its reason until somebody sends them again or drops them.
//!
//! They count as writes and bytes of the journal: what was acknowledged is not dropped to make room, so many of them are told by the
//! journal's limit at last, and by the metric `athena_storage_dead_letters` long before.

use std::{borrow::Cow, collections::BTreeMap, ops::Bound, sync::Arc};

use crate::{
    change::Change,
    codec::{Corrupt, Reader, Record, Writer},
    document::{Key, Priority, micros},
    ledger::nobody,
    queue::{Body, Entry},
};

/// A write that the sink refused for good, folded of one or more.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The document.
    pub key: Key,
    /// What is done to it.
    body: Body,
    /// The places in the journal of the writes it was folded of, oldest first.
    pub records: Vec<u64>,
    /// The sink's reason.
    pub reason: String,
    /// When the first of its writes was accepted, in microseconds since the epoch on the agent clock.
    pub accepted: i64,
    /// When it was refused.
    pub refused: i64,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// Holds every dead letter. The same stand on disk.
#[derive(Debug, Default)]
pub struct DeadLetters {
    letters: BTreeMap<(Arc<str>, u64), Arc<Letter>>,
    bytes: u64,
}

impl Letter {
    /// Makes a letter of `entry`, refused at `now` for `reason`, and its bytes on disk.
    #[must_use]
    pub fn of(entry: &Entry, reason: &str, now: i64) -> (Self, Vec<u8>) {
        let accepted = micros(entry.since);
        let mut letter = Self {
            key: entry.key.clone(),
            body: Body::packed(&entry.change()),
            records: entry.records.to_vec(),
            reason: reason.to_owned(),
            accepted,
            refused: now,
            bytes: 0,
        };
        let bytes = letter.encode();
        letter.bytes = bytes.len() as u64;
        (letter, bytes)
    }

    /// Returns its place in the journal, by which it is named.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.records.first().copied().unwrap_or_default()
    }

    /// Returns what is done to its document.
    #[must_use]
    pub fn change(&self) -> Cow<'_, Change> {
        self.body.change()
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.text(&self.reason);
        writer.signed(self.refused);
        writer.number(self.records.len() as u64);
        self.records.iter().for_each(|record| writer.number(*record));
        let record = Record {
            key: self.key.clone(),
            change: self.change().into_owned(),
            priority: Priority::Normal,
            accepted: self.accepted,
            samples: 0,
            buckets: 0,
            caller: nobody(),
        };
        let mut bytes = writer.finish();
        let head = bytes.len() as u64;
        record.encode(&mut bytes);
        bytes.extend(head.to_le_bytes());
        bytes
    }

    /// Reads a letter back.
    ///
    /// # Errors
    /// [`Corrupt`] if the bytes are no letter.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let corrupt = Corrupt { at: bytes.len() };
        let (rest, head) = bytes.split_last_chunk::<8>().ok_or(corrupt)?;
        let head = usize::try_from(u64::from_le_bytes(*head)).map_err(|_| corrupt)?;
        let (head, record) = rest.split_at_checked(head).ok_or(corrupt)?;
        let mut reader = Reader::new(head)?;
        let (reason, refused) = (reader.text()?.to_owned(), reader.signed()?);
        let count = reader.number()?;
        let records = (0..count).map(|_| reader.number()).collect::<Result<_, _>>()?;
        reader.finish()?;
        let Record { key, change, accepted, .. } = Record::decode(record)?;
        let body = Body::packed(&change);
        Ok(Self { key, body, records, reason, accepted, refused, bytes: bytes.len() as u64 })
    }
}

impl DeadLetters {
    /// Adds a letter.
    pub fn add(&mut self, letter: Letter) {
        self.bytes += letter.bytes;
        self.letters.insert((Arc::clone(&letter.key.tenant), letter.sequence()), Arc::new(letter));
    }

    /// Takes the letter `sequence` of `tenant` out, if it is there.
    pub fn remove(&mut self, tenant: &Arc<str>, sequence: u64) {
        if let Some(letter) = self.letters.remove(&(Arc::clone(tenant), sequence)) {
            self.bytes = self.bytes.saturating_sub(letter.bytes);
        }
    }

    /// Returns the letter `sequence` of `tenant`, if it is there.
    #[must_use]
    pub fn get(&self, tenant: &Arc<str>, sequence: u64) -> Option<Arc<Letter>> {
        self.letters.get(&(Arc::clone(tenant), sequence)).cloned()
    }

    /// Returns the letter of `tenant` that the write `sequence` is in, if it is in one.
    #[must_use]
    pub fn holding(&self, tenant: &Arc<str>, sequence: u64) -> Option<Arc<Letter>> {
        self.of(tenant, 0).find(|letter| letter.records.binary_search(&sequence).is_ok()).cloned()
    }

    /// Returns up to `limit` letters of `tenant` of a greater sequence than `after`, and whether there are more.
    #[must_use]
    pub fn page(&self, tenant: &Arc<str>, after: u64, limit: usize) -> (Vec<Arc<Letter>>, bool) {
        let mut rest = self.of(tenant, after);
        let page = rest.by_ref().take(limit).cloned().collect();
        (page, rest.next().is_some())
    }

    /// Returns how many there are, of all tenants.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Returns their bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn of(&self, tenant: &Arc<str>, after: u64) -> impl Iterator<Item = &Arc<Letter>> {
        let from = Bound::Excluded((Arc::clone(tenant), after));
        let through = Bound::Included((Arc::clone(tenant), u64::MAX));
        self.letters.range((from, through)).map(|(_, letter)| letter)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{DeadLetters, Letter};
    use crate::{
        change::Change,
        document::{Fields, Key, Priority, Value},
        ledger::Weight,
        queue::{Accepted, Entry},
    };

    fn letter(tenant: &str, records: &[u64]) -> (Letter, Vec<u8>) {
        let mut entry = Entry::from(Accepted {
            sequence: 0,
            key: Key::new(tenant, "pools", "a"),
            change: Change::merge(Fields::from([("n".to_owned(), Value::Integer(7))])),
            priority: Priority::High,
            at: UNIX_EPOCH + Duration::from_secs(5),
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 0,
        });
        entry.records = records.into();
        Letter::of(&entry, "too large", 9)
    }

    #[test]
    fn a_letter_comes_back_from_its_bytes_and_no_part_of_them_is_one() {
        let (letter, bytes) = letter("t", &[3, 4, 1_000_000]);
        assert_eq!(Letter::decode(&bytes).as_ref(), Ok(&letter));
        assert_eq!((letter.sequence(), letter.accepted), (3, 5_000_000));
        for cut in 0..bytes.len() {
            assert!(Letter::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn letters_are_paged_by_sequence_and_each_tenant_sees_its_own() {
        let mut dead = DeadLetters::default();
        for (tenant, first) in [("b", 1), ("a", 2), ("b", 3), ("b", 5)] {
            dead.add(letter(tenant, &[first, first + 100]).0);
        }
        let tenant: Arc<str> = "b".into();
        let sequences =
            |page: &[Arc<Letter>]| page.iter().map(|letter| letter.sequence()).collect::<Vec<_>>();
        let (page, more) = dead.page(&tenant, 0, 2);
        assert_eq!((sequences(&page), more), (vec![1, 3], true));
        let (page, more) = dead.page(&tenant, 3, 2);
        assert_eq!((sequences(&page), more), (vec![5], false));
        assert!(dead.get(&tenant, 2).is_none() && dead.get(&tenant, 5).is_some());
        assert_eq!(dead.holding(&tenant, 103).map(|letter| letter.sequence()), Some(3));
        assert!(dead.holding(&tenant, 102).is_none());
        let each = dead.bytes() / 4;
        dead.remove(&tenant, 3);
        dead.remove(&tenant, 2);
        assert_eq!((dead.len(), dead.bytes()), (3, 3 * each));
    }
}
