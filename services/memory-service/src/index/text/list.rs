//! In which rows a word occurs, and how often: compressed, appended to, shared with readers.

use std::sync::Arc;

use super::bytes::{put, put_part, take, take_part, take_u32};

/// Postings of a sealed block. Larger blocks cost less memory, smaller ones let a reader skip more of them.
const BLOCK: u32 = 256;

/// The postings of one word in the order of rows; cloning shares what is sealed.
#[derive(Clone, Debug)]
pub(crate) enum List {
    /// Of most words there is one: no allocation.
    One { row: u32, frequency: u32 },
    /// Several.
    Many(Box<Many>),
}

/// Sealed blocks, and the block that is being filled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Many {
    sealed: Vec<Arc<Block>>,
    open: Block,
    count: u32,
}

/// For each posting the distance to the row before, doubled, plus one if the word occurs there once; else its frequency follows.
#[derive(Clone, Debug, Default)]
struct Block {
    first: u32,
    last: u32,
    count: u32,
    bytes: Vec<u8>,
}

impl List {
    /// Makes the list of a word that occurs `frequency` times in `row`.
    pub(crate) fn new(row: u32, frequency: u32) -> Self {
        Self::One { row, frequency }
    }

    /// Adds a posting of a row after all that are there.
    pub(crate) fn push(&mut self, row: u32, frequency: u32) {
        if let Self::One { row, frequency } = *self {
            let mut many = Many::default();
            many.push(row, frequency);
            *self = Self::Many(Box::new(many));
        }
        if let Self::Many(many) = self {
            many.push(row, frequency);
        }
    }

    /// Returns the number of postings, those of dead rows among them.
    pub(crate) fn len(&self) -> u32 {
        match self {
            Self::One { .. } => 1,
            Self::Many(many) => many.count,
        }
    }

    /// Returns the row of the last posting.
    pub(crate) fn last(&self) -> u32 {
        match self {
            Self::One { row, .. } => *row,
            Self::Many(many) => many.blocks().last().map_or(0, |block| block.last),
        }
    }

    /// Calls `posting` with row and frequency, in the order of rows.
    pub(crate) fn each(&self, mut posting: impl FnMut(u32, u32)) {
        match self {
            Self::One { row, frequency } => posting(*row, *frequency),
            Self::Many(many) => many.blocks().for_each(|block| block.each(&mut posting)),
        }
    }

    /// Calls `posting` with the place among `rows`, which rise, of each that has one, and its frequency.
    pub(crate) fn find(&self, rows: &[u32], mut posting: impl FnMut(usize, u32)) {
        match self {
            Self::One { row, frequency } => {
                rows.binary_search(row).into_iter().for_each(|place| posting(place, *frequency));
            }
            Self::Many(many) => {
                let mut next = 0;
                for block in many.blocks() {
                    next += rows[next..].partition_point(|row| *row < block.first);
                    if rows.get(next).is_some_and(|row| *row <= block.last) {
                        block.find(rows, &mut next, &mut posting);
                    }
                }
            }
        }
    }

    /// Returns how many bytes it takes beside itself.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::One { .. } => 0,
            Self::Many(many) => {
                let blocks = many.blocks().map(|block| block.bytes.capacity() + size_of::<Block>() + 16);
                size_of::<Many>() + many.sealed.capacity() * 8 + blocks.sum::<usize>()
            }
        }
    }

    /// Appends the list to `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        put(bytes, self.len().into());
        match self {
            Self::One { row, frequency } => {
                put(bytes, (*row).into());
                put(bytes, (*frequency).into());
            }
            Self::Many(many) => many.blocks().for_each(|block| {
                put(bytes, block.count.into());
                put(bytes, block.first.into());
                put(bytes, (block.last - block.first).into());
                put_part(bytes, &block.bytes);
            }),
        }
    }

    /// Takes what [`List::write`] appended; nothing if that is not what `bytes` hold.
    pub(crate) fn read(bytes: &mut &[u8]) -> Option<Self> {
        let count = take_u32(bytes).filter(|count| *count > 0)?;
        if count == 1 {
            return Some(Self::One { row: take_u32(bytes)?, frequency: take_u32(bytes)? });
        }
        let mut many = Many { count, ..Many::default() };
        let (mut left, mut last) = (count, 0);
        while left > 0 {
            let block = Block::read(bytes).filter(|block| left == count || block.first > last)?;
            last = block.last;
            left = left.checked_sub(block.count)?;
            if left == 0 && block.count < BLOCK {
                many.open = block;
            } else {
                many.sealed.push(Arc::new(block));
            }
        }
        Some(Self::Many(Box::new(many)))
    }
}

impl Many {
    fn push(&mut self, row: u32, frequency: u32) {
        self.open.push(row, frequency);
        self.count += 1;
        if self.open.count == BLOCK {
            let mut block = std::mem::take(&mut self.open);
            block.bytes.shrink_to_fit();
            self.sealed.push(Arc::new(block));
        }
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        let open = (self.open.count > 0).then_some(&self.open);
        self.sealed.iter().map(AsRef::as_ref).chain(open)
    }
}

impl Block {
    fn push(&mut self, row: u32, frequency: u32) {
        if self.count == 0 {
            (self.first, self.last) = (row, row);
        }
        let distance = u64::from(row - self.last) << 1;
        if frequency == 1 {
            put(&mut self.bytes, distance | 1);
        } else {
            put(&mut self.bytes, distance);
            put(&mut self.bytes, frequency.into());
        }
        self.last = row;
        self.count += 1;
    }

    fn each(&self, posting: &mut impl FnMut(u32, u32)) {
        let (mut bytes, mut row) = (self.bytes.as_slice(), self.first);
        while let Some((distance, frequency)) = next(&mut bytes) {
            row += distance;
            posting(row, frequency);
        }
    }

    /// Finds those of `rows` from `next` on that the block covers.
    fn find(&self, rows: &[u32], next: &mut usize, posting: &mut impl FnMut(usize, u32)) {
        let (mut bytes, mut row) = (self.bytes.as_slice(), self.first);
        while let Some((distance, frequency)) = self::next(&mut bytes) {
            row += distance;
            while rows.get(*next).is_some_and(|wanted| *wanted < row) {
                *next += 1;
            }
            match rows.get(*next) {
                Some(wanted) if *wanted == row => posting(*next, frequency),
                Some(wanted) if *wanted <= self.last => {}
                _ => return,
            }
        }
    }

    /// Takes a block and looks at every posting, since nobody does so later.
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (count, first) = (take_u32(bytes)?, take_u32(bytes)?);
        let last = first.checked_add(take_u32(bytes)?)?;
        let part = take_part(bytes)?;
        let (mut rest, mut row, mut seen) = (part, first, 0);
        while !rest.is_empty() {
            let (distance, _) = next(&mut rest)?;
            row = row.checked_add(distance).filter(|_| (distance == 0) == (seen == 0))?;
            seen += 1;
        }
        let is_whole = row == last && seen == count && (1..=BLOCK).contains(&count);
        is_whole.then(|| Self { first, last, count, bytes: part.to_vec() })
    }
}

/// Takes a posting: the distance to the row before, and the frequency.
fn next(bytes: &mut &[u8]) -> Option<(u32, u32)> {
    let code = take(bytes)?;
    let frequency = if code & 1 == 1 { 1 } else { take_u32(bytes)? };
    Some(((code >> 1).try_into().ok()?, frequency))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{
        collection::{btree_map, btree_set},
        prelude::*,
    };

    use super::List;

    fn list(postings: &BTreeMap<u32, u32>) -> List {
        let mut postings = postings.iter();
        let (row, frequency) = postings.next().unwrap();
        let mut list = List::new(*row, *frequency);
        postings.for_each(|(row, frequency)| list.push(*row, *frequency));
        list
    }

    fn shown(list: &List) -> Vec<(u32, u32)> {
        let mut shown = Vec::new();
        list.each(|row, frequency| shown.push((row, frequency)));
        shown
    }

    proptest! {
        #[test]
        fn a_list_holds_what_was_pushed_also_from_bytes(
            postings in btree_map(0_u32..100_000, 1_u32..300, 1..1000),
            wanted in btree_set(0_u32..100_000, 0..20), few in 0_u32..100,
        ) {
            let list = list(&postings);
            let expected: Vec<_> = postings.clone().into_iter().collect();
            prop_assert_eq!(shown(&list), expected.clone());
            prop_assert_eq!(list.len() as usize, expected.len());
            let mut found = Vec::new();
            let known = postings.keys().copied().filter(|row| row % 100 < few);
            let rows: Vec<u32> = known.chain(wanted).collect::<BTreeSet<_>>().into_iter().collect();
            list.find(&rows, |place, frequency| found.push((rows[place], frequency)));
            let passing: Vec<_> = expected.iter().copied().filter(|(row, _)| rows.contains(row)).collect();
            prop_assert_eq!(found, passing);
            let mut bytes = Vec::new();
            list.write(&mut bytes);
            let mut rest = bytes.as_slice();
            let mut read = List::read(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            read.push(100_000, 2);
            let more: Vec<_> = expected.into_iter().chain([(100_000, 2)]).collect();
            prop_assert_eq!(shown(&read), more);
        }

        #[test]
        fn broken_bytes_are_no_list(postings in btree_map(0_u32..1000, 1_u32..3, 2..300), at: usize, value: u8) {
            let mut bytes = Vec::new();
            list(&postings).write(&mut bytes);
            prop_assert!(List::read(&mut &bytes[..bytes.len() - 1]).is_none());
            let at = at % bytes.len();
            bytes[at] = value;
            // Whatever it is taken for, its rows are in order and reading it does not fail.
            if let Some(list) = List::read(&mut bytes.as_slice()) {
                prop_assert!(shown(&list).windows(2).all(|pair| pair[0].0 < pair[1].0));
            }
        }
    }
}
