//! Whether two texts say the same in nearly the same words.

use super::{
    guards::{MOST_WORDS, object},
    lexicon::Classes,
    pairing::Pairing,
    symbol,
    text::{Form, Text, Word},
};

/// Words that may come and go: articles, the present tense of "to be", and what only shades a sentence. Nothing else may, not even a preposition.
const SLIGHT: [&str; 10] = ["a", "actually", "also", "an", "are", "is", "just", "really", "the", "very"];
/// What a phrase of time or place begins with, which may stand first or last.
const PHRASES: [&str; 4] = ["at", "during", "in", "on"];

/// What two texts are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// The same in nearly the same words: only case, spacing, punctuation, articles, plurals, spellings of one number or the place of a
    /// phrase tell them apart.
    Near,
    /// Nothing that can be named tells them apart but their words.
    Alike,
    /// Not the same, by the name of the guard that objects, as [`Objection::guard`](crate::Objection::guard).
    Apart(&'static str),
}

/// Compares two texts by their words alone; which is which makes no difference to whether they are near.
#[must_use]
pub fn compare(one: &str, other: &str) -> Sameness {
    let (one, other) = (Text::new(one), Text::new(other));
    if one.words.len().max(other.words.len()) > MOST_WORDS {
        return Sameness::Apart("length");
    }
    if let Some(objection) = object(&Pairing::new(&one, &other)) {
        return Sameness::Apart(objection.guard);
    }
    let units =
        one.numbers.iter().map(|number| number.unit).eq(other.numbers.iter().map(|number| number.unit));
    let negations =
        |text: &Text| text.words.iter().filter(|word| word.classes.has(Classes::NEGATION)).count();
    let is_near = units
        && symbol::characters(&one.raw).eq(symbol::characters(&other.raw))
        && negations(&one) == negations(&other)
        && is_in_order(&telling(&one), &telling(&other));
    if is_near { Sameness::Near } else { Sameness::Alike }
}

/// Returns the words that say something, in their order: without articles, the present tense of "to be" and what only shades a sentence.
#[must_use]
pub fn telling(text: &Text) -> Vec<&Word> {
    let is_slight = |word: &&Word| SLIGHT.binary_search(&word.text.as_str()).is_err();
    text.words.iter().filter(is_slight).collect()
}

/// Returns true if the words are the same in the same order, but for a phrase such as "on sunday nights" that stands first in one and last in
/// the other.
fn is_in_order(one: &[&Word], other: &[&Word]) -> bool {
    let same = |one: &[&Word], other: &[&Word]| one.iter().zip(other).all(|(one, other)| is_same(one, other));
    let is_phrase = |words: &[&Word]| PHRASES.contains(&words[0].text.as_str());
    let turned = |at: usize| {
        let ((first, last), (begin, end)) = (one.split_at(at), other.split_at(other.len() - at));
        same(first, end) && same(last, begin) && (is_phrase(first) || is_phrase(last))
    };
    one.len() == other.len() && (same(one, other) || (1..one.len()).any(turned))
}

/// Returns true if two words are one, or one in singular and plural. Numbers are: their values were compared in their order.
fn is_same(one: &Word, other: &Word) -> bool {
    let numbers = one.form == Form::Number && other.form == Form::Number;
    numbers || one.text == other.text || bare(one) == bare(other)
}

/// Returns a word without its plural or possessive ending.
#[must_use]
pub fn bare(word: &Word) -> &str {
    let text = word.text.strip_suffix("'s").unwrap_or(&word.text);
    let short = text.strip_suffix("es").or_else(|| text.strip_suffix('s'));
    short.filter(|short| short.len() > 2).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Sameness, compare};

    fn near(one: &str, other: &str) -> bool {
        compare(one, other) == Sameness::Near
    }

    #[test]
    fn the_same_in_nearly_the_same_words_is_near() {
        for (one, other) in [
            ("Gas is low on sunday nights.", "gas is low on Sunday nights"),
            ("The APR of the pool is 1,000", "APR of the pool is 1000.0"),
            ("gas is low on sunday nights", "on sunday nights gas is low"),
            ("the user prefers dark mode", "User prefers the dark mode!"),
            ("pools with two tokens rise", "pools with 2 tokens rise"),
            ("Fees fall in august, really", "fees fall in August"),
        ] {
            assert_eq!(compare(one, other), Sameness::Near, "{one} | {other}");
            assert_eq!(compare(other, one), Sameness::Near, "{other} | {one}");
        }
    }

    #[test]
    fn what_means_something_else_is_never_near() {
        for (one, other) in [
            ("APR 25", "APR 250"),
            ("the APR is 25%", "the APR is 25"),
            ("the APR is 5 percent", "the APR is 5 dollars"),
            ("fees of pool A rise", "fees of pool B rise"),
            ("held by 0xAbc1", "held by 0xAbc2"),
            ("the pool is safe", "the pool is not safe"),
            ("gas is low on weekdays", "gas is low on weekends"),
            ("fees rise on mondays", "fees fall on mondays"),
            ("the fees are low", "the fees are lower"),
            ("team red beats team blue", "team blue beats team red"),
            ("swap the dollars to euros", "swap the euros to dollars"),
            ("moved from aerodrome to uniswap", "moved to uniswap from aerodrome"),
            ("gas was low", "gas is low"),
            ("pools above 5 rise", "pools below 5 rise"),
            ("all pools are safe", "some pools are safe"),
            ("gas is low", "gas is low except in december"),
            ("it rose by 5 and fell by 7", "it rose by 7 and fell by 5"),
            ("good if apr > 5", "good if apr < 5"),
            ("written in C++", "written in C"),
            ("the \u{1f525} pool", "the pool"),
            ("it moved by -5", "it moved by 5"),
            ("2 pools and tokens", "pools and two tokens"),
            ("fees of aerodrome exceed costs", "fees exceed costs of aerodrome"),
            ("volume in base beats volume", "volume beats volume in base"),
        ] {
            assert!(!near(one, other), "{one} | {other}");
            assert!(!near(other, one), "{other} | {one}");
        }
    }

    #[test]
    fn what_only_its_words_tell_apart_is_alike_and_what_a_guard_does_is_not() {
        assert_eq!(compare("fees rise in winter", "fees climb in winter"), Sameness::Alike);
        assert_eq!(compare("the \u{1f525} pool", "the pool"), Sameness::Alike);
        assert_eq!(compare("written in C++", "written in C"), Sameness::Apart("symbol"));
        assert_eq!(compare("APR 25", "APR 250"), Sameness::Apart("number"));
    }

    proptest! {
        #[test]
        fn another_word_is_never_near(
            before in "[a-z]{3,8}( [a-z]{3,8}){0,4}",
            one in "[a-rt-z]{3,9}",
            other in "[a-rt-z]{3,9}",
        ) {
            let slight = |word: &String| super::SLIGHT.contains(&word.as_str());
            prop_assume!(one != other && !slight(&one) && !slight(&other));
            let (left, right) = (format!("{before} {one}"), format!("{before} {other}"));
            prop_assert!(!near(&left, &right));
        }

        #[test]
        fn it_does_not_matter_which_comes_first(one in "[aABt25 .]{0,30}", other in "[aABt25 .]{0,30}") {
            prop_assert_eq!(near(&one, &other), near(&other, &one));
        }
    }
}
