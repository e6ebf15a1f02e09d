//! Finds memories by their words: BM25 over postings that are only appended to.
//!
//! A row is added once and never changed; a changed memory is a new row. Removing a row takes its words out of the statistics
//! at once, for which its text has to be told again, so that scores never depend on what was deleted; its postings stay until
//! [`Text::compacted`], and readers pass over them by the live rows they ask for.

pub(super) mod bytes;
mod dictionary;
mod list;
mod search;
pub(crate) mod words;

use roaring::RoaringBitmap;

pub(crate) use self::search::{Search, Telling};
use self::{
    bytes::{put, put_part, take, take_part, take_u32},
    dictionary::Dictionary,
    list::List,
};
use super::column::Column;

/// The words of all memories of a space.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    dictionary: Dictionary,
    /// By the numbers of the words.
    entries: Vec<Entry>,
    /// Words of each row, counted with repetitions; those of dead rows stay.
    lengths: Column<u32>,
    /// Live rows.
    live: u64,
    /// Words of all live rows.
    total: u64,
}

/// A word.
#[derive(Clone, Debug)]
struct Entry {
    /// Live rows it occurs in.
    live: u32,
    list: List,
}

/// Bytes that are no index, or one by other rules: it has to be made anew from the memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text index on disk is damaged or of another version")]
pub(crate) struct Unreadable;

impl Text {
    /// Makes an index without memories.
    pub(crate) fn new() -> Self {
        Self {
            dictionary: Dictionary::new(0),
            entries: Vec::new(),
            lengths: Column::new(0),
            live: 0,
            total: 0,
        }
    }

    /// Adds a memory in `row`, which has to be greater than every row before.
    pub(crate) fn insert(&mut self, row: u32, text: &str) {
        debug_assert!(row >= self.lengths.len(), "rows are appended");
        let mut numbers = Vec::new();
        words::each(text, |word| numbers.extend(self.dictionary.number(word)));
        self.count(row, numbers.len());
        numbers.sort_unstable();
        for same in numbers.chunk_by(|one, other| one == other) {
            let (number, frequency) = (same[0] as usize, same.len() as u32);
            if let Some(entry) = self.entries.get_mut(number) {
                entry.live += 1;
                entry.list.push(row, frequency);
            } else {
                // New words are numbered in the order they are met, and this loop goes by number.
                self.entries.push(Entry { live: 1, list: List::new(row, frequency) });
            }
        }
    }

    /// Takes `row` out of the statistics; `text` is what it was added with.
    pub(crate) fn remove(&mut self, row: u32, text: &str) {
        let mut numbers = Vec::new();
        words::each(text, |word| numbers.extend(self.dictionary.find(word)));
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let entry = &mut self.entries[number as usize];
            entry.live = entry.live.saturating_sub(1);
        }
        self.live = self.live.saturating_sub(1);
        self.total = self.total.saturating_sub(self.lengths.get(row).into());
    }

    /// Counts anew what only the rows in `live` have: the others are gone, and what they said is not known any more.
    pub(crate) fn recount(&mut self, live: &RoaringBitmap) {
        for entry in &mut self.entries {
            entry.live = 0;
            entry.list.each(|row, _| entry.live += u32::from(live.contains(row)));
        }
        self.live = live.len();
        self.total = live.iter().map(|row| u64::from(self.lengths.get(row))).sum();
    }

    /// Returns what is needed to score rows by the words of `query`, as they are now; later writes do not show in it.
    pub(crate) fn search(&self, query: &str) -> Search {
        let words = words::of_query(query);
        let entries = words.iter().filter_map(|word| self.entries.get(self.dictionary.find(word)? as usize));
        let present = entries.filter(|entry| entry.live > 0);
        let words = present.map(|entry| (entry.live, entry.list.clone()));
        Search::new(words, self.lengths.clone(), self.live, self.total)
    }

    /// Returns the index without dead rows: `place` tells the new row of each live one, in the same order, and nothing for a dead one.
    pub(crate) fn compacted(&self, place: impl Fn(u32) -> Option<u32>) -> Self {
        let mut compact = Self::new();
        for (word, entry) in self.dictionary.words().zip(&self.entries) {
            let mut list: Option<List> = None;
            entry.list.each(|row, frequency| match (place(row), &mut list) {
                (None, _) => {}
                (Some(row), Some(list)) => list.push(row, frequency),
                (Some(row), None) => list = Some(List::new(row, frequency)),
            });
            if let Some(list) = list
                && compact.dictionary.number(word).is_some()
            {
                compact.entries.push(Entry { live: list.len(), list });
            }
        }
        for row in 0..self.lengths.len() {
            if let Some(place) = place(row) {
                compact.count(place, self.lengths.get(row) as usize);
            }
        }
        compact
    }

    /// Returns how many bytes of memory it takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.entries.iter().map(|entry| entry.list.bytes()).sum::<usize>();
        let entries = self.entries.capacity() * size_of::<Entry>();
        self.dictionary.bytes() + lists + entries + self.lengths.bytes()
    }

    /// Returns the index as bytes for [`Text::from_bytes`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, words::VERSION.into());
        put(&mut bytes, self.live);
        put(&mut bytes, self.total);
        put(&mut bytes, self.lengths.len().into());
        (0..self.lengths.len()).for_each(|row| put(&mut bytes, self.lengths.get(row).into()));
        put(&mut bytes, self.entries.len() as u64);
        for (word, entry) in self.dictionary.words().zip(&self.entries) {
            put_part(&mut bytes, word.as_bytes());
            put(&mut bytes, entry.live.into());
            entry.list.write(&mut bytes);
        }
        bytes
    }

    /// Makes an index from bytes.
    ///
    /// # Errors
    /// [`Unreadable`] if they are not what [`Text::to_bytes`] of this version returned. A checksum is the caller's: not every change of
    /// a byte is seen.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        Self::read(bytes).ok_or(Unreadable)
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let mut text = Self::new();
        if take_u32(bytes)? != words::VERSION {
            return None;
        }
        (text.live, text.total) = (take(bytes)?, take(bytes)?);
        for row in 0..take_u32(bytes)? {
            text.lengths.set(row, take_u32(bytes)?);
        }
        let words = take_u32(bytes)?;
        // Room for no more than there can be, whatever is said.
        text.dictionary = Dictionary::new(bytes.len().min(words as usize));
        for number in 0..words {
            let word = str::from_utf8(take_part(bytes)?).ok()?;
            let (live, list) = (take_u32(bytes)?, List::read(bytes)?);
            let is_known = text.dictionary.number(word)? == number && list.last() < text.lengths.len();
            text.entries.push(is_known.then_some(Entry { live, list })?);
        }
        bytes.is_empty().then_some(text)
    }

    fn count(&mut self, row: u32, words: usize) {
        self.lengths.set(row, u32::try_from(words).unwrap_or(u32::MAX));
        self.live += 1;
        self.total += words as u64;
    }
}

#[cfg(test)]
mod tests;
