//! Whether two memories say the same.

use wording::{Classes, Form, MOST_WORDS, Pairing, Text, Word, object};

use super::form;
use crate::memory::Memory;

/// Words that may come and go: articles, the present tense of "to be", and what only shades a sentence. Nothing else may, not even a preposition.
const SLIGHT: [&str; 10] = ["a", "actually", "also", "an", "are", "is", "just", "really", "the", "very"];
/// What a phrase of time or place begins with, which may stand first or last.
const PHRASES: [&str; 4] = ["at", "during", "in", "on"];
/// Characters that may come and go; a sign before a number is a part of it.
const PUNCTUATION: &str = ".,;:!?'\"-\u{2018}\u{2019}\u{201c}\u{201d}\u{2013}\u{2014}\u{2026}";

/// What two memories are to each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sameness {
    /// Spellings of one content.
    Exact,
    /// The same in nearly the same words.
    Near,
    /// Alike, and nothing that can be named tells them apart but their words: for somebody to look at.
    Alike,
    /// Not the same, by the name of what tells them apart.
    Apart(&'static str),
}

impl Sameness {
    /// Returns true if the two may become one.
    pub(crate) fn merges(&self) -> bool {
        matches!(self, Self::Exact | Self::Near)
    }
}

/// Compares two memories whose vectors have this `likeness`, -1 to 1; below `threshold` only the same content is the same.
///
/// Apart are, by name: `scope` of another category, agent, pools or place in a thread; `claim` and `metadata` where both state a value
/// and not the same; `likeness`; the objections of [`wording::objection`] (`number`, `unit`, `name`, `negation`, ...).
pub(crate) fn compare(one: &Memory, other: &Memory, likeness: f32, threshold: f32) -> Sameness {
    if let Some(reason) = apart(one, other) {
        return Sameness::Apart(reason);
    }
    if form::content(&one.content) == form::content(&other.content) {
        return Sameness::Exact;
    }
    // A likeness that is no number is none.
    if likeness.is_nan() || likeness < threshold {
        return Sameness::Apart("likeness");
    }
    wordings(&one.content, &other.content)
}

/// Compares two texts by their words alone.
pub(crate) fn wordings(one: &str, other: &str) -> Sameness {
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
        && symbols(&one).eq(symbols(&other))
        && negations(&one) == negations(&other)
        && is_in_order(&telling(&one), &telling(&other));
    if is_near { Sameness::Near } else { Sameness::Alike }
}

/// Returns what of all but the wording tells two memories apart.
fn apart(one: &Memory, other: &Memory) -> Option<&'static str> {
    let scope = one.category == other.category
        && one.agent == other.agent
        && one.place == other.place
        && are_pools_the_same(one, other);
    if scope { conflict(one, other) } else { Some("scope") }
}

/// Returns true if `newer` says what `older` says, spelling apart, of the same pools; whatever its category, agent or place in a thread.
pub(crate) fn repeats(newer: &Memory, older: &Memory) -> bool {
    form::content(&newer.content) == form::content(&older.content)
        && are_pools_the_same(newer, older)
        && conflict(newer, older).is_none()
}

/// Returns of what two memories state different values.
fn conflict(one: &Memory, other: &Memory) -> Option<&'static str> {
    let claim = one.claim.as_ref().zip(other.claim.as_ref()).is_none_or(|(one, other)| one == other);
    let agrees =
        |(name, value): (&String, &String)| other.metadata.get(name).is_none_or(|other| other == value);
    match (claim, one.metadata.iter().all(agrees)) {
        (false, _) => Some("claim"),
        (_, false) => Some("metadata"),
        _ => None,
    }
}

fn are_pools_the_same(one: &Memory, other: &Memory) -> bool {
    let pools = |memory: &Memory| {
        let mut pools = memory.pools.clone();
        pools.sort_unstable();
        pools.dedup();
        pools
    };
    pools(one) == pools(other)
}

/// Returns the characters beside letters and digits that say something: "C" is not "C++", and "> 5" not "< 5".
fn symbols(text: &Text) -> impl Iterator<Item = char> {
    let says = |character: &char| {
        !character.is_alphanumeric() && !character.is_whitespace() && !PUNCTUATION.contains(*character)
    };
    text.as_str().chars().filter(says)
}

/// Returns the words that say something, in their order.
pub(super) fn telling(text: &Text) -> Vec<&Word> {
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
pub(super) fn bare(word: &Word) -> &str {
    let text = word.text.strip_suffix("'s").unwrap_or(&word.text);
    let short = text.strip_suffix("es").or_else(|| text.strip_suffix('s'));
    short.filter(|short| short.len() > 2).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Sameness, compare, wordings};
    use crate::memory::{Claim, Memory};

    fn about(content: &str, pool: &str) -> Memory {
        Memory { content: content.to_owned(), pools: vec![pool.to_owned()], ..Memory::bare() }
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
            assert_eq!(wordings(one, other), Sameness::Near, "{one} | {other}");
            assert_eq!(wordings(other, one), Sameness::Near, "{other} | {one}");
        }
    }

    #[test]
    fn what_means_something_else_never_merges() {
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
            assert!(!wordings(one, other).merges(), "{one} | {other}");
            assert!(!wordings(other, one).merges(), "{other} | {one}");
        }
    }

    #[test]
    fn what_a_memory_is_about_is_compared_before_its_words() {
        let (one, other) = (about("fees rise", "a"), about("Fees rise", "a"));
        assert_eq!(compare(&one, &other, 0.0, 0.9), Sameness::Exact, "whatever the likeness");
        assert_eq!(compare(&one, &about("fees rise", "b"), 1.0, 0.9), Sameness::Apart("scope"));
        assert_eq!(compare(&one, &about("the fees rise", "a"), 0.89, 0.9), Sameness::Apart("likeness"));
        assert_eq!(compare(&one, &about("the fees rise", "a"), f32::NAN, 0.9), Sameness::Apart("likeness"));
        assert_eq!(compare(&one, &about("the fees rise", "a"), 0.9, 0.9), Sameness::Near);
        let claims = |value: &str| {
            let claim = Claim { subject: "a".into(), field: "fees".into(), value: value.into() };
            Memory { claim: Some(claim), ..one.clone() }
        };
        assert_eq!(compare(&claims("1"), &claims("2"), 1.0, 0.9), Sameness::Apart("claim"));
        assert_eq!(compare(&claims("1"), &one, 1.0, 0.9), Sameness::Exact);
        let noted = |value: &str| Memory { metadata: [("apr".into(), value.into())].into(), ..one.clone() };
        assert_eq!(compare(&noted("25"), &noted("250"), 1.0, 0.9), Sameness::Apart("metadata"));
    }

    proptest! {
        #[test]
        fn another_figure_never_merges(
            before in "[a-z]{1,8}( [a-z]{1,8}){0,6}",
            after in "( [a-z]{1,8}){0,4}",
            one in 0_u64..1_000_000,
            other in 0_u64..1_000_000,
        ) {
            prop_assume!(one != other);
            let text = |figure: u64| about(&format!("{before} {figure}{after}"), "p");
            prop_assert!(!compare(&text(one), &text(other), 1.0, 0.0).merges());
        }

        #[test]
        fn another_address_or_pool_never_merges(
            words in "[a-z]{1,8}( [a-z]{1,8}){0,6}",
            one in "0x[0-9a-f]{4,40}",
            other in "0x[0-9a-f]{4,40}",
        ) {
            prop_assume!(one != other);
            let (left, right) = (format!("{words} {one}"), format!("{words} {other}"));
            prop_assert!(!wordings(&left, &right).merges());
            let (left, right) = (about(&words, &one), about(&words, &other));
            prop_assert!(!compare(&left, &right, 1.0, 0.0).merges());
        }

        #[test]
        fn another_word_never_merges(
            before in "[a-z]{3,8}( [a-z]{3,8}){0,4}",
            one in "[a-rt-z]{3,9}",
            other in "[a-rt-z]{3,9}",
        ) {
            let slight = |word: &String| super::SLIGHT.contains(&word.as_str());
            prop_assume!(one != other && !slight(&one) && !slight(&other));
            let (left, right) = (format!("{before} {one}"), format!("{before} {other}"));
            prop_assert!(!wordings(&left, &right).merges());
        }

        #[test]
        fn a_text_is_the_same_as_itself_in_other_case_and_spacing(text in "\\PC{1,60}") {
            let (one, other) = (about(&text, "p"), about(&format!(" {text}\t"), "p"));
            prop_assert_eq!(compare(&one, &other, 0.0, 1.0), Sameness::Exact);
        }

        #[test]
        fn it_does_not_matter_which_comes_first(one in "[aABt25 .]{0,30}", other in "[aABt25 .]{0,30}") {
            prop_assert_eq!(wordings(&one, &other).merges(), wordings(&other, &one).merges());
        }
    }
}
