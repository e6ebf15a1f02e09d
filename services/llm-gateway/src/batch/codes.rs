//! Short codes that tell the entries of one call apart: drawn anew for each call, so that nobody can guess or reuse one.

use rand::{Rng, seq::index};

/// Digits and letters without those that look alike; a code starts with a letter, lest it be read as a number.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstvwxyz0123456789";
/// How many of them are letters.
const LETTERS: usize = 22;
/// How many codes there are.
pub(super) const CODES: usize = LETTERS * ALPHABET.len() * ALPHABET.len();

/// Draws `count` different codes of three characters, at most [`CODES`].
#[must_use]
pub(super) fn draw(count: usize, random: &mut impl Rng) -> Vec<String> {
    index::sample(random, CODES, count.min(CODES)).into_iter().map(code).collect()
}

fn code(number: usize) -> String {
    let (rest, last) = (number / ALPHABET.len(), number % ALPHABET.len());
    let places = [rest / ALPHABET.len(), rest % ALPHABET.len(), last];
    places.iter().filter_map(|place| ALPHABET.get(*place)).map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::{CODES, code, draw};

    #[test]
    fn every_code_is_another_one_and_none_reads_as_a_number() {
        let all: BTreeSet<String> = (0..CODES).map(code).collect();
        assert_eq!(all.len(), CODES);
        assert!(
            all.iter().all(|code| code.len() == 3 && code.starts_with(|first: char| first.is_alphabetic()))
        );
    }

    #[test]
    fn a_draw_repeats_nothing_and_depends_on_its_seed() {
        let drawn = |seed| draw(2_000, &mut StdRng::seed_from_u64(seed));
        assert_eq!(drawn(1).iter().collect::<BTreeSet<_>>().len(), 2_000);
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
