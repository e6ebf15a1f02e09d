//! Signed feature hashing of words and of their letters.

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    Embedder, Error, normalise,
    text::{Token, tokens},
};

/// Lengths of the letter sequences, in characters.
const LETTERS: std::ops::RangeInclusive<usize> = 3..=5;
/// Components that each feature goes to.
const PLACES: u64 = 4;
/// Bytes of text after which others get a turn.
const TURN: usize = 16 * 1024;
/// 2^64 divided by the golden ratio: steps of it are spread evenly (Knuth, volume 3, section 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Maps text to a vector by the words and spellings in it; no model, no download, no learning.
///
/// **What it can do.** Texts that share words, neighbouring words or parts of words come out similar: "Aerodrome pool
/// volume fell" and "volume of the aerodrome pools", plurals, typing errors, names. A number is a token of its own, so that
/// "4.25" meets "4.25" and nothing else. The same text gives the same vector, bit for bit, on every machine: only
/// additions, products and square roots are used, in a fixed order.
///
/// **What it cannot do.** It knows no meaning: synonyms ("yield", "return"), translations and paraphrases without a word in
/// common come out unrelated; "not safe" is close to "safe"; 4.25 is as far from 4.26 as from 9,000. With few components
/// unrelated features meet in one, and their signs cancel only on average: the noise in a similarity is about
/// `1 / sqrt(dimensions)`.
///
/// The features are the words (weight 1), pairs of neighbouring words (0.5) and sequences of 3 to 5 characters inside a word
/// with its borders marked (0.25: a word of six letters has about as much weight in its letters as in itself). A feature
/// that occurs n times counts √n. Each goes with signs to four components by a 64-bit hash (Weinberger et al., "Feature
/// hashing for large scale multitask learning", 2009; several components as in Kane and Nelson, "Sparser
/// Johnson-Lindenstrauss transforms", 2014, so that two texts of one word each do not look equal by one collision).
#[derive(Clone, Debug)]
pub struct Hashing {
    name: String,
    dimensions: usize,
}

/// The families of features. A family keeps its features apart from those of others that are spelt alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Word = 1,
    Pair = 2,
    Letters = 3,
    /// The whole text, where there is nothing else to go by.
    Whole = 4,
}

impl Hashing {
    /// Makes an embedder with vectors of `dimensions` components, at least 1. Between 256 and 1,024 suit single sentences
    /// and paragraphs.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        let dimensions = dimensions.max(1);
        Self { name: format!("hashing-{dimensions}"), dimensions }
    }

    /// Maps `text` to its vector. A text without letters and digits is one feature as a whole: it is similar to itself only.
    #[must_use]
    pub fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = self.sum(features(&tokens(text)));
        if !normalise(&mut vector) {
            vector = self.sum(vec![(hash(Family::Whole, &[text.trim()]), Family::Whole)]);
            normalise(&mut vector);
        }
        vector
    }

    /// Adds the features up; their order is fixed by their hashes.
    fn sum(&self, mut features: Vec<(u64, Family)>) -> Vec<f32> {
        features.sort_unstable();
        let mut vector = vec![0.0; self.dimensions];
        for same in features.chunk_by(|one, other| one == other) {
            let (hash, family) = same[0];
            // Counts are far below the 2^24 that f32 holds exactly.
            let weight = family.weight() * (same.len() as f32).sqrt();
            for place in 0..PLACES {
                let (component, sign) = self.place(mix(hash.wrapping_add(place.wrapping_mul(GOLDEN))));
                vector[component] += sign * weight;
            }
        }
        vector
    }

    /// Returns the component by the upper bits of the hash (a multiplication instead of a division) and the sign by its
    /// lowest bit.
    fn place(&self, hash: u64) -> (usize, f32) {
        let component = (u128::from(hash) * self.dimensions as u128) >> 64;
        (component as usize, if hash & 1 == 0 { 1.0 } else { -1.0 })
    }
}

impl Embedder for Hashing {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Never fails. Takes some 10 µs a sentence on the caller's thread, and lets others run after every 16 KiB.
    fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, Error>> {
        async move {
            let mut vectors = Vec::with_capacity(texts.len());
            let mut bytes = 0;
            for text in texts {
                vectors.push(self.vector(text));
                bytes += text.len();
                if bytes >= TURN {
                    bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok(vectors)
        }
        .boxed()
    }
}

impl Family {
    fn weight(self) -> f32 {
        match self {
            Self::Word | Self::Whole => 1.0,
            Self::Pair => 0.5,
            Self::Letters => 0.25,
        }
    }
}

fn features(tokens: &[Token]) -> Vec<(u64, Family)> {
    let mut features = Vec::with_capacity(tokens.len() * 20);
    for token in tokens {
        features.push((hash(Family::Word, &[token.as_str()]), Family::Word));
        if let Token::Word(word) = token {
            letters(word, &mut features);
        }
    }
    for pair in tokens.windows(2) {
        features.push((hash(Family::Pair, &[pair[0].as_str(), pair[1].as_str()]), Family::Pair));
    }
    features
}

/// Adds the sequences of letters in `word` with its borders marked, except the one that is the whole word.
fn letters(word: &str, features: &mut Vec<(u64, Family)>) {
    let marked = format!("<{word}>");
    let mut starts: Vec<usize> = marked.char_indices().map(|(start, _)| start).collect();
    starts.push(marked.len());
    let characters = starts.len() - 1;
    for length in LETTERS.filter(|length| *length < characters) {
        for first in 0..=characters - length {
            let part = &marked[starts[first]..starts[first + length]];
            features.push((hash(Family::Letters, &[part]), Family::Letters));
        }
    }
}

/// Hashes a feature: FNV-1a over its bytes.
fn hash(family: Family, parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    add(family as u8);
    for part in parts {
        part.bytes().for_each(&mut add);
        // No byte of UTF-8: ["ab", "c"] and ["a", "bc"] differ.
        add(0xff);
    }
    hash
}

/// Lets every bit depend on all of them: the finaliser of `MurmurHash3`.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn similarity(one: &str, other: &str) -> f32 {
        let embedder = Hashing::new(512);
        embedder.vector(one).iter().zip(embedder.vector(other)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn every_vector_has_length_one() {
        for dimensions in [1, 2, 16, 512] {
            let embedder = Hashing::new(dimensions);
            for text in [
                "",
                "  ",
                "!!!",
                "a",
                "42",
                "Gas prices rose on Base.",
                "池子 流动性",
                &"word ".repeat(5_000),
            ] {
                let vector = embedder.vector(text);
                let length: f32 = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
                assert_eq!(vector.len(), dimensions);
                assert!((length - 1.0).abs() < 1e-5, "{text:.20} {dimensions}: {length}");
            }
        }
    }

    #[test]
    fn a_vector_is_the_same_on_every_machine() {
        // Written down once; a change here makes every stored vector useless, so it needs a new name.
        let vector = Hashing::new(16).vector("Gas 4.25 gwei, gas rising");
        let bits: Vec<u32> = vector.iter().map(|component| component.to_bits()).collect();
        let expected = [
            3_179_689_521,
            1_048_794_452,
            3_190_810_603,
            3_185_909_020,
            1_050_804_738,
            3_200_809_336,
            1_034_027_523,
            3_196_733_513,
            1_050_027_302,
            1_024_884_362,
            1_041_505_306,
            3_204_572_389,
            1_047_458_029,
            1_050_349_327,
            1_030_036_764,
            1_045_259_105,
        ];
        assert_eq!(bits, expected);
    }

    #[test]
    fn unrelated_words_are_nearly_at_right_angles() {
        let words: Vec<String> = (0..200).map(|number| format!("{number}")).collect();
        let mut sum = 0.0;
        let mut largest: f32 = 0.0;
        for pair in words.windows(2) {
            let similarity = similarity(&pair[0], &pair[1]).abs();
            sum += similarity;
            largest = largest.max(similarity);
        }
        assert!(sum / 199.0 < 0.05 && largest <= 0.5, "mean {} largest {largest}", sum / 199.0);
    }

    #[test]
    fn case_and_punctuation_do_not_matter() {
        assert!(similarity("Gas prices, on BASE!", "gas prices on base") > 0.9999);
    }

    #[test]
    fn shared_words_and_spellings_bring_texts_together() {
        let related = similarity("aerodrome pool volume fell", "volume of the aerodrome pools");
        let unrelated = similarity("aerodrome pool volume fell", "the cat sat quietly");
        assert!(related > 0.35 && unrelated.abs() < 0.15, "{related} {unrelated}");
        let typing_error = similarity("liquidity", "liqudity");
        assert!(typing_error > 0.2, "{typing_error}");
    }

    #[test]
    fn synonyms_stay_apart() {
        assert!(similarity("yield", "return").abs() < 0.15);
    }

    #[test]
    fn order_of_words_matters_a_little() {
        let swapped = similarity("weth pays usdc", "usdc pays weth");
        assert!(swapped > 0.8 && swapped < 0.999, "{swapped}");
    }

    #[test]
    fn a_number_meets_only_itself() {
        assert!(similarity("4.25", "4.25") > 0.999);
        assert!(similarity("4.25", "4.26").abs() < 0.15);
        assert!(similarity("1000", "10000").abs() < 0.15);
    }

    #[test]
    fn texts_without_words_are_similar_to_themselves_only() {
        assert!(similarity("!!!", " !!! ") > 0.999);
        assert!(similarity("!!!", "...").abs() < 0.3);
    }

    #[test]
    fn repetition_counts_less_each_time() {
        let once = similarity("gas", "gas pool");
        let often = similarity("gas", "gas gas gas gas pool");
        assert!(often > once && often < 0.95, "{once} {often}");
    }
}
