//! Every word once, with a number.

use std::hash::{BuildHasher as _, RandomState};

/// A place of the table that holds no word.
const FREE: u32 = u32::MAX;

/// Words and their numbers, which count from 0: the spellings one after the other in one string, found through an open-addressing table. A
/// word costs its bytes and about 14 more; a `HashMap<String, u32>` would cost 60.
#[derive(Clone, Debug)]
pub(crate) struct Dictionary {
    spellings: String,
    /// Where each word ends in `spellings`.
    ends: Vec<usize>,
    /// Numbers at the places of their hashes; a power of two long, at most three quarters full.
    table: Vec<u32>,
    /// Keyed anew in each process, so that nobody can choose words that meet.
    state: RandomState,
}

impl Dictionary {
    /// Makes a dictionary without words, with room for so many.
    pub(crate) fn new(room: usize) -> Self {
        let table = vec![FREE; (room * 4 / 3 + 1).next_power_of_two().max(64)];
        Self { spellings: String::new(), ends: Vec::with_capacity(room), table, state: RandomState::new() }
    }

    /// Returns the number of words.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of `word`.
    pub(crate) fn find(&self, word: &str) -> Option<u32> {
        let number = self.table[self.place(word)];
        (number != FREE).then_some(number)
    }

    /// Returns the number of `word`, which gets the next if it is new. Only the first 2^32 - 1 words are taken in.
    pub(crate) fn number(&mut self, word: &str) -> Option<u32> {
        let place = self.place(word);
        if self.table[place] != FREE {
            return Some(self.table[place]);
        }
        let number = u32::try_from(self.ends.len()).ok().filter(|number| *number != FREE)?;
        self.spellings.push_str(word);
        self.ends.push(self.spellings.len());
        self.table[place] = number;
        if self.ends.len() * 4 > self.table.len() * 3 {
            self.grow();
        }
        Some(number)
    }

    /// Returns every word in the order of the numbers.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).map(|number| self.word(number))
    }

    /// Returns how many bytes it takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.spellings.capacity() + self.ends.capacity() * size_of::<usize>() + self.table.capacity() * 4
    }

    fn word(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.spellings[start..self.ends[number]]
    }

    /// Returns the place that holds `word`, or the free one where it would go.
    fn place(&self, word: &str) -> usize {
        let mask = self.table.len() - 1;
        let mut place = self.state.hash_one(word) as usize & mask;
        while self.table[place] != FREE && self.word(self.table[place] as usize) != word {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        self.table = vec![FREE; self.table.len() * 2];
        for number in 0..self.ends.len() {
            let mask = self.table.len() - 1;
            let mut place = self.state.hash_one(self.word(number)) as usize & mask;
            while self.table[place] != FREE {
                place = (place + 1) & mask;
            }
            self.table[place] = number as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::Dictionary;

    proptest! {
        #[test]
        fn a_word_keeps_its_number(words in proptest::collection::vec("[a-c]{0,5}", 0..400)) {
            let (mut dictionary, mut model) = (Dictionary::new(0), HashMap::new());
            for word in &words {
                let next = model.len() as u32;
                let number = *model.entry(word.clone()).or_insert(next);
                prop_assert_eq!(dictionary.number(word), Some(number));
            }
            prop_assert_eq!(dictionary.len(), model.len());
            for (number, word) in dictionary.words().enumerate() {
                prop_assert_eq!(model[word] as usize, number);
                prop_assert_eq!(dictionary.find(word), Some(number as u32));
            }
            prop_assert_eq!(dictionary.find("absent"), None);
        }
    }
}
