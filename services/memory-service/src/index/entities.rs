//! Finds the names of entities in a text.

use std::collections::{BTreeSet, HashMap};

use super::text::words::spellings;

/// Words of the longest name that is looked for in a text; longer names are found by no text.
const LONGEST: usize = 8;

/// The names of the entities that memories are about, by their words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entities {
    /// Names that differ only in case, accents or what stands between their words share an entry.
    names: HashMap<Box<str>, BTreeSet<Box<str>>>,
}

impl Entities {
    /// Adds a name; one that is there stays as it is.
    pub(crate) fn insert(&mut self, name: &str) {
        if let Some(key) = key(name) {
            self.names.entry(key).or_default().insert(name.into());
        }
    }

    /// Removes a name, which no memory carries any more.
    pub(crate) fn remove(&mut self, name: &str) {
        let Some(key) = key(name) else { return };
        if let Some(names) = self.names.get_mut(&key) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(&key);
            }
        }
    }

    /// Returns the names that occur in `text`, sorted: all of a name's words, next to each other and in its order, without regard to case,
    /// accents and what stands between them.
    pub(crate) fn named(&self, text: &str) -> BTreeSet<&str> {
        let words = words(text);
        let mut named = BTreeSet::new();
        let mut run = String::new();
        for start in 0..words.len() {
            run.clear();
            for word in words.iter().skip(start).take(LONGEST) {
                push(&mut run, word);
                named.extend(self.names.get(run.as_str()).into_iter().flatten().map(AsRef::as_ref));
            }
        }
        named
    }
}

/// Returns the words of a name as a key; nothing for a name that is not looked for.
fn key(name: &str) -> Option<Box<str>> {
    let words = words(name);
    if words.is_empty() || words.len() > LONGEST {
        return None;
    }
    let mut key = String::new();
    words.iter().for_each(|word| push(&mut key, word));
    Some(key.into())
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    spellings(text, &mut |word| words.push(word.to_owned()));
    words
}

fn push(run: &mut String, word: &str) {
    if !run.is_empty() {
        // No word holds a space.
        run.push(' ');
    }
    run.push_str(word);
}

#[cfg(test)]
mod tests {
    use super::Entities;

    fn entities(names: &[&str]) -> Entities {
        let mut entities = Entities::default();
        names.iter().for_each(|name| entities.insert(name));
        entities
    }

    fn named<'a>(entities: &'a Entities, text: &str) -> Vec<&'a str> {
        entities.named(text).into_iter().collect()
    }

    #[test]
    fn a_name_is_found_by_all_of_its_words_in_their_order() {
        let entities = entities(&["Melanie", "WETH/USDC", "usdc", "0xAbC1", "New York", "東京"]);
        assert_eq!(named(&entities, "When did melanie's dog sleep?"), ["Melanie"]);
        assert_eq!(named(&entities, "apr of weth-usdc"), ["WETH/USDC", "usdc"]);
        assert_eq!(named(&entities, "usdc weth"), ["usdc"]);
        assert_eq!(named(&entities, "at 0xABC1, in new\nyork"), ["0xAbC1", "New York"]);
        assert_eq!(named(&entities, "東京"), ["東京"]);
        assert!(named(&entities, "melanies new, old york").is_empty());
    }

    #[test]
    fn names_spelt_alike_are_told_apart_when_one_is_removed() {
        let mut entities = entities(&["weth/usdc", "WETH-USDC", "///", ""]);
        assert_eq!(named(&entities, "weth usdc"), ["WETH-USDC", "weth/usdc"]);
        entities.remove("weth/usdc");
        entities.remove("unknown");
        assert_eq!(named(&entities, "weth usdc"), ["WETH-USDC"]);
        entities.remove("WETH-USDC");
        assert!(named(&entities, "weth usdc").is_empty());
    }
}
