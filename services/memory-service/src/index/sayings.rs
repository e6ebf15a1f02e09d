//! Which rows say what: by it a memory finds those that may say the same, without comparing any.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use super::column::Column;
use crate::hygiene::saying::Saying;

/// What each row says, and the rows that say it.
#[derive(Clone, Debug)]
pub(crate) struct Sayings {
    of: Column<Saying>,
    /// Words, scope and row of the live ones.
    rows: BTreeSet<(u64, u32, u32)>,
}

impl Default for Sayings {
    fn default() -> Self {
        Self { of: Column::new(Saying::default()), rows: BTreeSet::new() }
    }
}

impl Sayings {
    /// Takes note of what `row` says.
    pub(crate) fn insert(&mut self, row: u32, saying: Saying) {
        self.of.set(row, saying);
        self.rows.insert(key(saying, row));
    }

    /// Lets go of `row`, which is dead.
    pub(crate) fn remove(&mut self, row: u32) {
        self.rows.remove(&key(self.of.get(row), row));
    }

    /// Returns what each row says, dead ones included; shared.
    pub(crate) fn column(&self) -> &Column<Saying> {
        &self.of
    }

    /// Returns the live rows that say `saying`, the last written first.
    pub(crate) fn rows(&self, saying: Saying) -> impl Iterator<Item = u32> {
        let all = key(saying, 0)..=key(saying, u32::MAX);
        self.rows.range(all).rev().map(|(_, _, row)| *row)
    }

    /// Makes it of what each row says, for the rows that live.
    pub(crate) fn restored(of: Column<Saying>, live: &RoaringBitmap) -> Self {
        let rows = live.iter().map(|row| key(of.get(row), row)).collect();
        Self { of, rows }
    }

    /// Leaves only the rows in `live`.
    pub(crate) fn retain(&mut self, live: &RoaringBitmap) {
        self.rows.retain(|(_, _, row)| live.contains(*row));
    }

    /// Returns it without dead rows: the live ones are numbered anew, in their order.
    pub(crate) fn compacted(&self, live: &RoaringBitmap) -> Self {
        let mut of = Column::new(Saying::default());
        live.iter().zip(0..).for_each(|(row, place)| of.set(place, self.of.get(row)));
        let count = u32::try_from(live.len()).unwrap_or(u32::MAX);
        Self::restored(of, &(0..count).collect())
    }
}

fn key(Saying { words, scope }: Saying, row: u32) -> (u64, u32, u32) {
    (words, scope, row)
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::{Saying, Sayings};

    fn saying(words: u64, scope: u32) -> Saying {
        Saying { words, scope }
    }

    fn rows(sayings: &Sayings, saying: Saying) -> Vec<u32> {
        sayings.rows(saying).collect()
    }

    #[test]
    fn rows_are_found_by_what_they_say_the_last_first() {
        let mut sayings = Sayings::default();
        for (row, saying) in [(0, saying(1, 1)), (1, saying(1, 2)), (2, saying(1, 1)), (3, saying(2, 1))] {
            sayings.insert(row, saying);
        }
        assert_eq!(rows(&sayings, saying(1, 1)), [2, 0]);
        sayings.remove(2);
        assert_eq!((rows(&sayings, saying(1, 1)), rows(&sayings, saying(1, 2))), (vec![0], vec![1]));
        let live = RoaringBitmap::from_iter([1, 3]);
        let compacted = sayings.compacted(&live);
        assert_eq!((rows(&compacted, saying(1, 2)), rows(&compacted, saying(2, 1))), (vec![0], vec![1]));
        assert!(rows(&compacted, saying(1, 1)).is_empty());
        sayings.retain(&live);
        assert_eq!((rows(&sayings, saying(1, 1)), rows(&sayings, saying(2, 1))), (vec![], vec![3]));
    }
}
