//! Whether two memories say the same.

use wording::{Form, MOST_WORDS, Number, Text, bare, telling};

use super::form;
use crate::memory::Memory;

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

impl From<wording::Sameness> for Sameness {
    fn from(wordings: wording::Sameness) -> Self {
        match wordings {
            wording::Sameness::Near => Self::Near,
            wording::Sameness::Alike => Self::Alike,
            wording::Sameness::Apart(guard) => Self::Apart(guard),
        }
    }
}

/// Compares two memories whose vectors have this `likeness`, -1 to 1; below `threshold` only the same content is the same.
///
/// Apart are, by name: `scope` of another category, agent, pools or place in a thread; `claim` and `metadata` where both state a value
/// and not the same; `likeness`; what [`wording::compare`] objects to (`number`, `unit`, `name`, `negation`, ...).
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
    wording::compare(&one.content, &other.content).into()
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

/// Returns what a text has in common with every text that is near it: its telling words without endings and its numbers by value, sorted.
/// Nothing of a text that is too long to be near another.
pub(super) fn gist(text: &str) -> Option<Vec<String>> {
    let text = Text::new(text);
    if text.words.len() > MOST_WORDS {
        return None;
    }
    let others = telling(&text).into_iter().filter(|word| word.form != Form::Number);
    let others = others.map(|word| bare(word).to_owned());
    let mut gist: Vec<String> = text.numbers.iter().map(Number::value).chain(others).collect();
    gist.sort_unstable();
    Some(gist)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Sameness, compare};
    use crate::memory::{Claim, Memory};

    fn about(content: &str, pool: &str) -> Memory {
        Memory { content: content.to_owned(), pools: vec![pool.to_owned()], ..Memory::bare() }
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
            prop_assert!(!compare(&about(&left, "p"), &about(&right, "p"), 1.0, 0.0).merges());
            let (left, right) = (about(&words, &one), about(&words, &other));
            prop_assert!(!compare(&left, &right, 1.0, 0.0).merges());
        }

        #[test]
        fn a_text_is_the_same_as_itself_in_other_case_and_spacing(text in "\\PC{1,60}") {
            let (one, other) = (about(&text, "p"), about(&format!(" {text}\t"), "p"));
            prop_assert_eq!(compare(&one, &other, 0.0, 1.0), Sameness::Exact);
        }

    }
}
