//! What memories that say the same have in common, as a number: by it they are found without comparing any.

use super::{form, near::gist};
use crate::memory::Memory;

/// What a memory says, and as what. Two that [`compare`](super::near::compare) takes for one have the same, others seldom do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Saying {
    /// A hash of its telling words in any order, and of the pools that it is about.
    pub(crate) words: u64,
    /// A hash of its category, its agent, and its place in a thread.
    pub(crate) scope: u32,
}

impl Saying {
    /// Returns that of `memory`.
    pub(crate) fn of(memory: &Memory) -> Self {
        let content = form::normal(&memory.content);
        // Nothing but the same content is the same as one that is too long.
        let words = gist(&content).unwrap_or_else(|| vec![content]);
        let mut pools: Vec<&str> = memory.pools.iter().map(String::as_str).collect();
        pools.sort_unstable();
        pools.dedup();
        let count = pools.len().to_string();
        let said = words.iter().map(String::as_str).chain([count.as_str()]).chain(pools);
        let [a, b, c, d, e, f, g, h, ..] = form::print(said);
        let (thread, position) = match &memory.place {
            Some(place) => (place.thread.as_str(), place.position.to_string()),
            None => ("", String::new()),
        };
        let [i, j, k, l, ..] = form::print([&*memory.category, &memory.agent, thread, &position]);
        Self { words: u64::from_le_bytes([a, b, c, d, e, f, g, h]), scope: u32::from_le_bytes([i, j, k, l]) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Saying;
    use crate::{
        hygiene::near::compare,
        memory::{Memory, Place},
    };

    fn said(content: &str) -> Memory {
        Memory { content: content.to_owned(), pools: vec!["p".into(), "q".into()], ..Memory::bare() }
    }

    fn of(content: &str) -> Saying {
        Saying::of(&said(content))
    }

    #[test]
    fn what_says_the_same_has_the_same() {
        for (one, other) in [
            ("Gas is low on sunday nights.", "on sunday nights the GAS is low"),
            ("The APR of the pool is 1,000", "APR of the pools is 1000.0"),
            ("pools with two tokens rise by 10k", "pools with 2 tokens rise by 10000"),
            ("zero\u{200b}width", "zerowidth"),
        ] {
            assert_eq!(of(one), of(other), "{one} | {other}");
        }
        let turned = Memory { pools: vec!["q".into(), "p".into(), "q".into()], ..said("gas is low") };
        assert_eq!(Saying::of(&turned), of("gas is low"));
    }

    #[test]
    fn what_says_something_else_or_of_something_else_has_not() {
        for (one, other) in
            [("APR 25", "APR 250"), ("the fees rise", "the fees fall"), ("it fell by -5", "it fell by 5")]
        {
            assert_ne!(of(one), of(other), "{one} | {other}");
        }
        let long = |end: &str| format!("{}{end}", "word ".repeat(300));
        assert_ne!(of(&long("a")), of(&long("b")));
        let one = of("gas is low");
        let alone = Saying::of(&Memory { pools: vec!["p".into()], ..said("gas is low") });
        assert!(alone.words != one.words && alone.scope == one.scope);
        let changes: [fn(&mut Memory); 3] = [
            |memory| memory.category = "other".into(),
            |memory| memory.agent = "scout".into(),
            |memory| memory.place = Some(Place { thread: "t".into(), position: 1 }),
        ];
        for change in changes {
            let mut memory = said("gas is low");
            change(&mut memory);
            let other = Saying::of(&memory);
            assert!(other.words == one.words && other.scope != one.scope);
        }
    }

    /// Texts of few words, so that two of them are often near: some that may come and go, plurals, phrases that may stand elsewhere.
    fn text() -> impl Strategy<Value = String> {
        let words =
            ["the", "Gas", "pool", "pools", "is", "low", "on", "sunday", "5", "5.0", "five", "5%", ","];
        proptest::collection::vec(proptest::sample::select(words.to_vec()), 1..7)
            .prop_map(|words| words.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_two_that_become_one_have_different_ones(one in text(), other in text()) {
            if compare(&said(&one), &said(&other), 1.0, 0.9).merges() {
                prop_assert_eq!(of(&one), of(&other), "{} | {}", one, other);
            }
        }

        #[test]
        fn any_text_in_another_spelling_has_the_same(text in "\\PC{1,60}") {
            prop_assert_eq!(of(&text), of(&format!(" {text}\t")));
        }
    }
}
