//! What two texts have in common and what not, in figures.

use std::collections::HashSet;

use wording::{Classes, Form, Pairing, Side, Text, Word};

/// The names of the features, in their order; a model names those it was fitted on and is refused if they are others.
pub const NAMES: [&str; 64] = [
    "similarity",
    "words_least",
    "words_most",
    "words_apart",
    "words_jaccard",
    "stems_jaccard",
    "content_jaccard",
    "content_common",
    "content_alone",
    "content_alone_least",
    "content_alone_most",
    "pairs_jaccard",
    "triples_jaccard",
    "fours_jaccard",
    "in_order",
    "out_of_order",
    "inflected",
    "gaps",
    "replaced",
    "inserted",
    "moved",
    "alone_least",
    "alone_most",
    "alone_first",
    "alone_last",
    "alone_content_first",
    "alone_content_last",
    "alone_letters_least",
    "alone_letters_most",
    "alone_longest",
    "alone_asking",
    "alone_negation",
    "alone_pronoun",
    "alone_preposition",
    "alone_conjunction",
    "alone_adverb",
    "alone_degree",
    "alone_filler",
    "alone_not_run_together",
    "capitals_least",
    "capitals_most",
    "names_common",
    "names_least",
    "names_most",
    "names_replaced",
    "numbers_alone",
    "numbers_common",
    "spelling",
    "prefix",
    "typing_errors",
    "content_replaced",
    "grammar_replaced",
    "inserted_content",
    "inserted_longest",
    "inserted_at_end",
    "asking_differs",
    "asking_lacks",
    "negations_differ",
    "negated",
    "sentences_most",
    "both_ask_why",
    "both_ask_what",
    "both_ask_how",
    "only_one_says_you",
];

/// The features of two texts, each as named in [`NAMES`].
pub type Features = [f32; NAMES.len()];

/// Most letters of a word that count when spellings are compared: the time goes with the product.
const MOST_LETTERS: usize = 40;

/// Measures an aligned pair whose embeddings have this similarity. Which text is which makes no difference but where words
/// can be aligned in several ways.
pub(super) fn measure(pairing: &Pairing<'_>, similarity: f32) -> Features {
    let mut features = Vec::with_capacity(NAMES.len());
    features.push(similarity);
    features.extend(overlap(pairing));
    features.extend(alone(pairing));
    features.extend(names(pairing));
    features.extend(replaced(pairing));
    features.extend(questions(pairing));
    let mut fixed = [0.0; NAMES.len()];
    for (place, feature) in fixed.iter_mut().zip(features) {
        *place = feature;
    }
    fixed
}

fn overlap(pairing: &Pairing<'_>) -> [f32; 20] {
    let (one, other) = (pairing.one.text, pairing.other.text);
    let (n, m) = (one.words.len(), other.words.len());
    let texts = |text: &'_ Text| text.words.iter().map(|word| word.text.clone()).collect::<HashSet<_>>();
    let (left, right) = (stems(one, |_| true), stems(other, |_| true));
    let (content_left, content_right) = (stems(one, Word::is_content), stems(other, Word::is_content));
    let common = content_left.intersection(&content_right).count();
    let (only_left, only_right) = (content_left.len() - common, content_right.len() - common);
    let paired: HashSet<_> = pairing.pairs.iter().map(|(place, _)| one.words[*place].stem.as_str()).collect();
    let inflected = pairing.pairs.iter().filter(|(i, j)| one.words[*i].text != other.words[*j].text).count();
    let (one_low, other_low) = (one.raw.to_lowercase(), other.raw.to_lowercase());
    let replaced = pairing.gaps.iter().filter(|gap| gap.is_replacement()).count();
    [
        count(n.min(m)),
        count(n.max(m)),
        count(n.abs_diff(m)),
        jaccard(&texts(one), &texts(other)),
        jaccard(&left, &right),
        jaccard(&content_left, &content_right),
        count(common),
        count(only_left + only_right),
        count(only_left.min(only_right)),
        count(only_left.max(only_right)),
        grams(&one_low, &other_low, 2),
        grams(&one_low, &other_low, 3),
        grams(&one_low, &other_low, 4),
        2.0 * count(pairing.pairs.len()) / count((n + m).max(1)),
        count(left.intersection(&right).count().saturating_sub(paired.len())),
        count(inflected),
        count(pairing.gaps.len()),
        count(replaced),
        count(pairing.gaps.len() - replaced),
        count(pairing.one.moved + pairing.other.moved),
    ]
}

fn alone(pairing: &Pairing<'_>) -> [f32; 18] {
    let (one, other) = (&pairing.one, &pairing.other);
    let (n, m) = (one.alone.len(), other.alone.len());
    let any = span(one, other, |_| true);
    let content = span(one, other, Word::is_content);
    let letters = |side: &Side<'_>| side.left().filter(|word| word.is_content()).map(length).sum::<usize>();
    let longest =
        one.left().chain(other.left()).filter(|word| word.is_content()).map(length).max().unwrap_or(0);
    let of = |class: Classes| {
        let count_of = |side: &Side<'_>| side.left().filter(|word| word.classes.has(class)).count();
        count(count_of(one).max(count_of(other)))
    };
    [
        count(n.min(m)),
        count(n.max(m)),
        any.0,
        any.1,
        content.0,
        content.1,
        count(letters(one).min(letters(other))),
        count(letters(one).max(letters(other))),
        count(longest),
        of(Classes::ASKING),
        of(Classes::NEGATION),
        of(Classes::PRONOUN),
        of(Classes::PREPOSITION),
        of(Classes::CONJUNCTION),
        of(Classes::ADVERB),
        of(Classes::DEGREE),
        of(Classes::FILLER),
        count(not_run_together(one, other.text) + not_run_together(other, one.text)),
    ]
}

fn names(pairing: &Pairing<'_>) -> [f32; 8] {
    let (one, other) = (&pairing.one, &pairing.other);
    let capitals = |side: &Side<'_>| side.left().filter(|word| word.is_named()).count();
    let (left, right) = (one.names_missing_in(other.text).len(), other.names_missing_in(one.text).len());
    let replaced = pairing.gaps.iter().map(|gap| pairing.words(gap));
    let replaced = replaced.filter(|(one, other)| has_name(one) && has_name(other)).count();
    let values = |text: &Text| {
        text.words
            .iter()
            .filter(|word| word.form == Form::Number)
            .map(|word| word.text.clone())
            .collect::<HashSet<_>>()
    };
    let (numbers_left, numbers_right) = (values(one.text), values(other.text));
    [
        count(capitals(one).min(capitals(other))),
        count(capitals(one).max(capitals(other))),
        count(stems(one.text, Word::is_named).intersection(&stems(other.text, Word::is_named)).count()),
        count(left.min(right)),
        count(left.max(right)),
        count(replaced),
        count(numbers_left.symmetric_difference(&numbers_right).count()),
        count(numbers_left.intersection(&numbers_right).count()),
    ]
}

fn replaced(pairing: &Pairing<'_>) -> [f32; 8] {
    let (mut spelling, mut prefix) = (1.0_f32, 0.0_f32);
    let [mut errors, mut content, mut grammar, mut inserted, mut longest, mut at_end] = [0_usize; 6];
    for gap in &pairing.gaps {
        let (ones, others) = pairing.words(gap);
        let (left, right) =
            (ones.iter().any(|word| word.is_content()), others.iter().any(|word| word.is_content()));
        if gap.is_replacement() {
            let (one, other) = (run_together(&ones), run_together(&others));
            let (shorter, longer) = (one.len().min(other.len()), one.len().max(other.len()));
            let distance = distance(&one, &other);
            let shared = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
            spelling = spelling.min(1.0 - count(distance) / count(longer.max(1)));
            prefix = prefix.max(count(shared) / count(longer.max(1)));
            errors += usize::from(distance <= 2 && shorter >= 5 || distance == 0);
            content += usize::from(left && right);
            grammar += usize::from(!left && !right);
        } else {
            let (side, places) =
                if gap.one.is_empty() { (&pairing.other, &gap.other) } else { (&pairing.one, &gap.one) };
            inserted += side.at(places).iter().filter(|word| word.is_content()).count();
            longest = longest.max(places.len());
            at_end += usize::from(
                (left || right) && places.last().is_some_and(|last| last + 1 == side.text.words.len()),
            );
        }
    }
    [
        spelling,
        prefix,
        count(errors),
        count(content),
        count(grammar),
        count(inserted),
        count(longest),
        count(at_end),
    ]
}

fn questions(pairing: &Pairing<'_>) -> [f32; 9] {
    let (one, other) = (pairing.one.text, pairing.other.text);
    let asking = |text: &Text| {
        let words = text.words.iter().filter(|word| word.classes.has(Classes::ASKING));
        words.map(|word| word.text.split('\'').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let (left, right) = (asking(one), asking(other));
    let both = |word: &str| {
        flag([&left, &right].iter().all(|asked| asked.first().is_some_and(|first| first == word)))
    };
    let sets: (HashSet<_>, HashSet<_>) = (left.iter().collect(), right.iter().collect());
    let negations =
        |text: &Text| text.words.iter().filter(|word| word.classes.has(Classes::NEGATION)).count();
    let says_you = |text: &Text| text.words.iter().any(|word| word.text == "you");
    [
        count(sets.0.symmetric_difference(&sets.1).count()),
        flag(left.is_empty() || right.is_empty()),
        count(negations(one).abs_diff(negations(other))),
        flag(negations(one) + negations(other) > 0),
        count(one.sentences.max(other.sentences)),
        both("why"),
        both("what"),
        both("how"),
        flag(says_you(one) != says_you(other)),
    ]
}

fn count(number: usize) -> f32 {
    // Words of a text: far below the 2^24 that f32 holds exactly.
    number as f32
}

fn flag(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}

fn stems(text: &Text, wanted: impl Fn(&Word) -> bool) -> HashSet<&str> {
    text.words.iter().filter(|word| wanted(word)).map(|word| word.stem.as_str()).collect()
}

fn has_name(words: &[&Word]) -> bool {
    words.iter().any(|word| word.is_named())
}

fn length(word: &Word) -> usize {
    word.text.chars().count()
}

fn run_together(words: &[&Word]) -> Vec<char> {
    words.iter().flat_map(|word| word.text.chars()).take(MOST_LETTERS).collect()
}

/// Counts the words of one side that are not in the other even where that is run together: "e-mail" is in "email".
fn not_run_together(side: &Side<'_>, other: &Text) -> usize {
    let joined: String = other.words.iter().map(|word| word.text.as_str()).collect();
    side.left().filter(|word| !joined.contains(&word.text)).count()
}

/// Returns where the first and the last wanted word left over stands, of 0 (first word) to 1 (last); (1, 0) if there is none.
fn span(one: &Side<'_>, other: &Side<'_>, wanted: impl Fn(&Word) -> bool) -> (f32, f32) {
    let mut span = (1.0_f32, 0.0_f32);
    for side in [one, other] {
        let last = count(side.text.words.len().saturating_sub(1).max(1));
        for place in side.alone.iter().filter(|place| wanted(&side.text.words[**place])) {
            let at = count(*place) / last;
            span = (span.0.min(at), span.1.max(at));
        }
    }
    span
}

/// Returns how many of all elements both sets have (Jaccard 1912); 1 if both are empty.
fn jaccard<T: Eq + std::hash::Hash>(one: &HashSet<T>, other: &HashSet<T>) -> f32 {
    let common = one.intersection(other).count();
    share(common, one.len() + other.len() - common)
}

/// Returns the same for runs of `length` letters.
fn grams(one: &str, other: &str, length: usize) -> f32 {
    let (one, other) = (runs(one, length), runs(other, length));
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < one.len() && j < other.len() {
        match one[i].cmp(&other[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, common) = (i + 1, j + 1, common + 1),
        }
    }
    share(common, one.len() + other.len() - common)
}

/// Returns the distinct runs of up to 4 letters, sorted; a letter has 21 bits, of which 16 tell those in use apart.
fn runs(text: &str, length: usize) -> Vec<u64> {
    let letters: Vec<u64> = text.chars().map(|letter| u64::from(u32::from(letter)) & 0xffff).collect();
    let mut runs: Vec<u64> =
        letters.windows(length).map(|run| run.iter().fold(0, |all, letter| all << 16 | letter)).collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

fn share(common: usize, all: usize) -> f32 {
    if all == 0 { 1.0 } else { count(common) / count(all) }
}

/// Returns how many letters must be put in, left out or replaced (Levenshtein 1965).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, left) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use wording::{Pairing, Text};

    use super::{Features, NAMES, distance, measure};

    fn features(one: &str, other: &str) -> Features {
        measure(&Pairing::new(&Text::new(one), &Text::new(other)), 0.5)
    }

    fn feature(one: &str, other: &str, name: &str) -> f32 {
        features(one, other)[NAMES.iter().position(|own| *own == name).unwrap()]
    }

    #[test]
    fn every_feature_has_the_place_of_its_name() {
        for (one, other, name, value) in [
            ("a", "a", "similarity", 0.5),
            ("how to learn", "how to learn it", "words_apart", 1.0),
            ("learn piano", "learn violin", "content_alone", 2.0),
            ("cats chase dogs", "dogs chase cats", "moved", 4.0),
            ("what is SAT", "what is the SAT", "inserted", 1.0),
            ("who is Bob", "who is Eve", "names_replaced", 1.0),
            ("the liquidity", "the liqudity", "typing_errors", 1.0),
            ("how is it", "why is it", "asking_differs", 2.0),
            ("it is", "it is not", "negations_differ", 1.0),
            ("why is it", "why was it", "both_ask_why", 1.0),
            ("do you eat", "do we eat", "only_one_says_you", 1.0),
        ] {
            assert_eq!(feature(one, other, name), value, "{name}: {one} | {other}");
        }
    }

    #[test]
    fn every_feature_of_any_pair_is_finite() {
        for one in ["", "…", "what", "池子 流动性", "a b c d", "Why? 5 km!"] {
            for other in ["", "x", "WHAT", "5", "ß…"] {
                assert!(features(one, other).iter().all(|feature| feature.is_finite()), "{one} | {other}");
            }
        }
    }

    #[test]
    fn equal_texts_have_nothing_left_over() {
        let same = "What is the best way to learn piano?";
        assert_eq!((feature(same, same, "gaps"), feature(same, same, "fours_jaccard")), (0.0, 1.0));
    }

    #[test]
    fn the_distance_counts_letters() {
        let letters = |word: &str| word.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
        assert_eq!(distance(&[], &letters("ab")), 2);
    }
}
