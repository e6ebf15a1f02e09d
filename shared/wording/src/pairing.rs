//! Which words two texts share, in which order, and what is left on either side.

use std::ops::Range;

use super::text::{Text, Word};

/// Two texts side by side.
#[derive(Debug)]
pub struct Pairing<'a> {
    /// The first.
    pub one: Side<'a>,
    /// The second.
    pub other: Side<'a>,
    /// Places of words that meet in order: equal, or of one stem.
    pub pairs: Vec<(usize, usize)>,
    /// Runs between pairs, with the words of each side that the other has nowhere.
    pub gaps: Vec<Gap>,
}

/// One of two texts.
#[derive(Debug)]
pub struct Side<'a> {
    /// The text.
    pub text: &'a Text,
    /// Places of words that the other text has nowhere.
    pub alone: Vec<usize>,
    /// How many words the other text has, but in another place.
    pub moved: usize,
}

/// The words between two pairs.
#[derive(Debug)]
pub struct Gap {
    /// Those of the one text that the other has nowhere.
    pub one: Vec<usize>,
    /// Those of the other; not both are empty.
    pub other: Vec<usize>,
    /// Where all of them are.
    all: (Range<usize>, Range<usize>),
}

/// What an equal word and one of equal stem are worth in an alignment: both far more than a pair less.
const EQUAL: u32 = 10;
const STEM: u32 = 9;

impl<'a> Pairing<'a> {
    /// Aligns two texts; takes time in the product of their lengths.
    pub fn new(one: &'a Text, other: &'a Text) -> Self {
        let pairs = align(&one.words, &other.words);
        let mut pairing = Self { one: Side::new(one), other: Side::new(other), pairs, gaps: Vec::new() };
        let (mut left, mut right) = (0, 0);
        let ends = [(one.words.len(), other.words.len())];
        let stops: Vec<_> = pairing.pairs.iter().copied().chain(ends).collect();
        for (end_left, end_right) in stops {
            let gap = Gap {
                one: pairing.one.part(left..end_left, other),
                other: pairing.other.part(right..end_right, one),
                all: (left..end_left, right..end_right),
            };
            if !gap.one.is_empty() || !gap.other.is_empty() {
                pairing.gaps.push(gap);
            }
            (left, right) = (end_left + 1, end_right + 1);
        }
        pairing
    }

    /// Returns the words left on each side of a gap.
    pub fn words(&self, gap: &Gap) -> (Vec<&'a Word>, Vec<&'a Word>) {
        (self.one.at(&gap.one), self.other.at(&gap.other))
    }

    /// Returns all words of a gap, those among them that the other text has in another place.
    pub fn all_words(&self, gap: &Gap) -> (Vec<&'a Word>, Vec<&'a Word>) {
        let (one, other) = &gap.all;
        (
            self.one.text.words[one.clone()].iter().collect(),
            self.other.text.words[other.clone()].iter().collect(),
        )
    }
}

impl Gap {
    /// Tells whether words stand in the place of others, and not between two pairs.
    #[must_use]
    pub fn is_replacement(&self) -> bool {
        !self.one.is_empty() && !self.other.is_empty()
    }
}

impl<'a> Side<'a> {
    fn new(text: &'a Text) -> Self {
        Self { text, alone: Vec::new(), moved: 0 }
    }

    fn part(&mut self, range: Range<usize>, other: &Text) -> Vec<usize> {
        let all = range.len();
        let alone: Vec<usize> = range.filter(|place| !other.has(&self.text.words[*place])).collect();
        self.moved += all - alone.len();
        self.alone.extend(&alone);
        alone
    }

    /// Returns the words at `places`.
    pub fn at(&self, places: &[usize]) -> Vec<&'a Word> {
        places.iter().map(|place| &self.text.words[*place]).collect()
    }

    /// Returns the words that the other text has nowhere.
    pub fn left(&self) -> impl Iterator<Item = &'a Word> {
        self.alone.iter().map(|place| &self.text.words[*place])
    }

    /// Returns the names that `other` does not know: neither as a word, nor as neighbouring words run together ("e-mail" is
    /// "email"), nor as the initials of neighbouring names.
    pub fn names_missing_in(&self, other: &Text) -> Vec<&'a Word> {
        let missing = |word: &&Word| word.is_named() && !other.has(word) && !is_spelt_out(word, &other.words);
        self.text.words.iter().filter(missing).collect()
    }
}

/// Tells whether two or more neighbours in `words` make up `word`, run together or, as names, by their first letters.
fn is_spelt_out(word: &Word, words: &[Word]) -> bool {
    let from = |start: usize| {
        let (mut rest, mut initials) = (Some(word.text.as_str()), Some(word.text.as_str()));
        words[start..].iter().enumerate().any(|(count, next)| {
            rest = rest.and_then(|rest| rest.strip_prefix(next.text.as_str()));
            let first = next.text.chars().next().filter(|_| next.is_named());
            initials = initials.zip(first).and_then(|(rest, first)| rest.strip_prefix(first));
            count > 0 && (rest == Some("") || initials == Some(""))
        })
    };
    (0..words.len()).any(from)
}

/// Finds the longest common subsequence by words, equal spelling before equal stem.
fn align(one: &[Word], other: &[Word]) -> Vec<(usize, usize)> {
    let worth = |i: usize, j: usize| {
        let (one, other) = (&one[i], &other[j]);
        if one.text == other.text {
            EQUAL
        } else if one.stem == other.stem {
            STEM
        } else {
            0
        }
    };
    let width = other.len() + 1;
    let mut best = vec![0_u32; (one.len() + 1) * width];
    for i in 0..one.len() {
        for j in 0..other.len() {
            let worth = worth(i, j);
            let paired = if worth > 0 { best[i * width + j] + worth } else { 0 };
            best[(i + 1) * width + j + 1] =
                paired.max(best[i * width + j + 1]).max(best[(i + 1) * width + j]);
        }
    }
    let (mut i, mut j) = (one.len(), other.len());
    let mut pairs = Vec::new();
    while i > 0 && j > 0 {
        let worth = worth(i - 1, j - 1);
        let here = best[i * width + j];
        if worth > 0 && here == best[(i - 1) * width + j - 1] + worth {
            pairs.push((i - 1, j - 1));
            (i, j) = (i - 1, j - 1);
        } else if here == best[(i - 1) * width + j] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    pairs.reverse();
    pairs
}

#[cfg(test)]
mod tests {
    use super::Pairing;
    use crate::Text;

    #[test]
    fn what_was_put_in_or_replaced_is_left_over() {
        let (one, other) = (Text::new("How do I sell my old car"), Text::new("How do I buy a car"));
        let pairing = Pairing::new(&one, &other);
        let left: Vec<_> = pairing.one.left().map(|word| word.text.as_str()).collect();
        let right: Vec<_> = pairing.other.left().map(|word| word.text.as_str()).collect();
        assert_eq!((left, right), (vec!["sell", "my", "old"], vec!["buy", "a"]));
        assert_eq!(pairing.gaps.len(), 1);
    }

    #[test]
    fn what_stands_elsewhere_is_moved() {
        let (one, other) = (Text::new("cats chase dogs"), Text::new("dogs chase cats"));
        let pairing = Pairing::new(&one, &other);
        assert_eq!((pairing.one.alone.len(), pairing.gaps.len(), pairing.pairs.len()), (0, 0, 1));
        assert_eq!((pairing.one.moved, pairing.other.moved), (2, 2));
    }
}
