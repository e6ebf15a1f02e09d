//! Which memory of a thread comes before and after which.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound::{Excluded, Unbounded},
};

use roaring::RoaringBitmap;

use super::{
    column::Column,
    text::bytes::{put, put_part, take, take_part, take_u32},
};

/// A row that is none.
const NONE: u32 = u32::MAX;

/// All rows are scanned where at least one in so many is wanted with its neighbours.
const MANY: u64 = 4;

/// The threads of a space: rows by position, later written ones after earlier ones of the same position.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    members: HashMap<Box<str>, BTreeSet<(u64, u32)>>,
    links: Links,
}

/// The two rows before each row in its thread and the two after it, the nearer ones first; cloning shares the chunks.
#[derive(Clone, Debug)]
pub(crate) struct Links(Column<[[u32; 2]; 2]>);

/// What neighbours in a thread lend, by their distance: the share of their words, or of their vectors' likeness. From 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lending {
    /// Of the memory just before and the one just after.
    pub(crate) next: f32,
    /// Of those one further away.
    pub(crate) second: f32,
}

impl Threads {
    /// Makes a space without threads.
    pub(crate) fn new() -> Self {
        Self { members: HashMap::new(), links: Links(Column::new([[NONE; 2]; 2])) }
    }

    /// Puts `row` into `thread` at `position`.
    pub(crate) fn insert(&mut self, thread: &str, position: u64, row: u32) {
        if !self.members.contains_key(thread) {
            self.members.insert(thread.into(), BTreeSet::new());
        }
        let Some(members) = self.members.get_mut(thread) else { return };
        let (before, after) = around(members, (position, row));
        members.insert((position, row));
        self.links.join(before, Some(row));
        self.links.join(Some(row), after);
    }

    /// Takes `row` out of `thread`, where it was put at `position`; its neighbours become each other's.
    pub(crate) fn remove(&mut self, thread: &str, position: u64, row: u32) {
        let Some(members) = self.members.get_mut(thread) else { return };
        if members.remove(&(position, row)) {
            let (before, after) = around(members, (position, row));
            if members.is_empty() {
                self.members.remove(thread);
            }
            self.links.join(before, after);
            self.links.join(None, Some(row));
            self.links.join(Some(row), None);
        }
    }

    /// Returns the threads as bytes for [`Threads::from_bytes`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, self.members.len() as u64);
        for (thread, members) in &self.members {
            put_part(&mut bytes, thread.as_bytes());
            put(&mut bytes, members.len() as u64);
            for (position, row) in members {
                put(&mut bytes, *position);
                put(&mut bytes, (*row).into());
            }
        }
        bytes
    }

    /// Makes threads from bytes; nothing if they are not what [`Threads::to_bytes`] returned.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (bytes, mut threads) = (&mut bytes, Self::new());
        for _ in 0..take(bytes)? {
            let thread = str::from_utf8(take_part(bytes)?).ok()?;
            let mut members = Vec::new();
            for _ in 0..take(bytes)? {
                members.push((take(bytes)?, take_u32(bytes)?));
            }
            threads.link(&members);
            threads.members.insert(thread.into(), members.into_iter().collect());
        }
        bytes.is_empty().then_some(threads)
    }

    /// Makes the members of a thread, given in their order, neighbours.
    fn link(&mut self, members: &[(u64, u32)]) {
        for pair in members.windows(2) {
            self.links.join(Some(pair[0].1), Some(pair[1].1));
        }
    }

    /// Returns the threads of a space whose rows have other numbers: `place` tells the new one of each.
    pub(crate) fn renumbered(&self, place: impl Fn(u32) -> Option<u32>) -> Self {
        let mut renumbered = Self::new();
        for (thread, members) in &self.members {
            let members = members.iter().filter_map(|(position, row)| Some((*position, place(*row)?)));
            let members: Vec<_> = members.collect();
            if !members.is_empty() {
                renumbered.link(&members);
                renumbered.members.insert(thread.clone(), members.into_iter().collect());
            }
        }
        renumbered
    }

    /// Returns the neighbours as they are now, shared.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Returns the rows of `thread` in their order.
    #[cfg(test)]
    pub(crate) fn rows(&self, thread: &str) -> impl Iterator<Item = u32> {
        self.members.get(thread).into_iter().flatten().map(|(_, row)| *row)
    }
}

impl Links {
    /// Calls `neighbour` with each row that lends to `row` and with what it lends. Lending is mutual: it is to these rows that `row`
    /// lends as well.
    pub(crate) fn around(&self, row: u32, lending: Lending, mut neighbour: impl FnMut(u32, f32)) {
        if lending.is_nothing() {
            return;
        }
        for [next, second] in self.0.get(row) {
            if next != NONE {
                neighbour(next, lending.next);
            }
            if second != NONE && lending.second > 0.0 {
                neighbour(second, lending.second);
            }
        }
    }

    /// Returns `rows` and those that lend to one of them: what has to be known to score `rows`, of `count` rows in all.
    pub(crate) fn with_lenders(&self, rows: &RoaringBitmap, lending: Lending, count: u32) -> RoaringBitmap {
        let mut all = rows.clone();
        if rows.len() * MANY > count.into() {
            // Sooner scanned than picked.
            all.insert_range(0..count);
        } else {
            for row in rows {
                self.around(row, lending, |other, _| {
                    all.insert(other);
                });
            }
        }
        all
    }

    /// Returns true if no row has a neighbour.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Makes two rows each other's next, or one the end of its thread.
    fn join(&mut self, before: Option<u32>, after: Option<u32>) {
        self.set(before, 1, after);
        self.set(after, 0, before);
    }

    /// Sets what is next to `row` on a side, and so what is second to the one on its other side.
    fn set(&mut self, row: Option<u32>, side: usize, next: Option<u32>) {
        let Some(row) = row else { return };
        let mut sides = self.0.get(row);
        let second = next.map_or(NONE, |next| self.0.get(next)[side][0]);
        sides[side] = [next.unwrap_or(NONE), second];
        self.0.set(row, sides);
        let [other, _] = sides[1 - side];
        let mut sides = self.0.get(other);
        // Not so of a row that has left its thread: what was next to it has another neighbour by then.
        if other != NONE && sides[side][0] == row {
            sides[side][1] = next.unwrap_or(NONE);
            self.0.set(other, sides);
        }
    }
}

impl Default for Lending {
    /// A half and a quarter: leaving out one of LoCoMo's dev five at a time, three of five times the best of 0.3, 0.4, 0.5, 0.7 and about half
    /// of that.
    fn default() -> Self {
        Self { next: 0.5, second: 0.25 }
    }
}

impl Lending {
    /// Nothing.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) const NOTHING: Self = Self { next: 0.0, second: 0.0 };

    /// Returns true if nothing is lent.
    pub(crate) fn is_nothing(self) -> bool {
        self.next <= 0.0 && self.second <= 0.0
    }
}

/// Returns the rows before and after a place.
fn around(members: &BTreeSet<(u64, u32)>, place: (u64, u32)) -> (Option<u32>, Option<u32>) {
    let before = members.range(..place).next_back().map(|(_, row)| *row);
    let after = members.range((Excluded(place), Unbounded)).next().map(|(_, row)| *row);
    (before, after)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::{Lending, Links, Threads};

    fn around(links: &Links, row: u32) -> Vec<(u32, f32)> {
        let mut around = Vec::new();
        links.around(row, Lending::default(), |row, share| around.push((row, share)));
        around
    }

    #[test]
    fn neighbours_lend_by_position_and_not_by_the_order_of_writing() {
        let mut threads = Threads::new();
        for (position, row) in [(10, 0), (30, 1), (20, 2), (20, 3), (5, 4)] {
            threads.insert("talk", position, row);
        }
        threads.insert("another", 11, 5);
        assert_eq!(threads.rows("talk").collect::<Vec<_>>(), [4, 0, 2, 3, 1]);
        assert_eq!(around(threads.links(), 2), [(0, 0.5), (4, 0.25), (3, 0.5), (1, 0.25)]);
        assert!(around(threads.links(), 5).is_empty());
    }

    proptest! {
        #[test]
        fn links_follow_inserts_and_removals(steps in vec((0_u32..40, 0_u64..10, any::<bool>()), 0..80)) {
            let (mut threads, mut model) = (Threads::new(), BTreeSet::new());
            let mut positions = [None; 40];
            for (row, position, is_insert) in steps {
                if let Some(position) = positions[row as usize].take() {
                    model.remove(&(position, row));
                    threads.remove("t", position, row);
                }
                if is_insert {
                    positions[row as usize] = Some(position);
                    model.insert((position, row));
                    threads.insert("t", position, row);
                }
            }
            let order: Vec<u32> = model.iter().map(|(_, row)| *row).collect();
            for row in 0..40 {
                let expected: Vec<(u32, f32)> = match order.iter().position(|member| *member == row) {
                    None => Vec::new(),
                    Some(at) => {
                        let member = |at: Option<usize>, share| Some((*order.get(at?)?, share));
                        let places = [
                            member(at.checked_sub(1), 0.5), member(at.checked_sub(2), 0.25),
                            member(Some(at + 1), 0.5), member(Some(at + 2), 0.25),
                        ];
                        places.into_iter().flatten().collect()
                    }
                };
                prop_assert_eq!(around(threads.links(), row), expected);
            }
        }
    }
}
