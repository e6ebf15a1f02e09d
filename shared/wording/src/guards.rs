//! What no similarity may overrule: texts that differ in one of these never share an answer.

use super::{
    lexicon::{self, Classes},
    pairing::Pairing,
    symbol::Symbol,
    text::{Text, Word},
};

/// Most words of a text that is compared: the time goes with the product, and a long text is seldom asked twice in other words.
pub const MOST_WORDS: usize = 256;

/// Why two texts never share an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The guard: `length`, `number`, `unit`, `name`, `symbol`, `negation`, `order`, `time`, `quantifier`, `direction` or `antonym`.
    pub guard: &'static str,
    /// What stands in the first text; empty if it is the lack of the other.
    pub one: String,
    /// What stands in the second.
    pub other: String,
}

impl Objection {
    fn new(guard: &'static str, one: impl Into<String>, other: impl Into<String>) -> Self {
        Self { guard, one: one.into(), other: other.into() }
    }
}

/// Returns the objection of the first guard that has one.
///
/// - `length`: a text has more than [`MOST_WORDS`] words.
/// - `number`: the numbers differ, by value ("1k" is "1,000", "two" is "2"), or come in another order.
/// - `unit`: equal numbers have different units, or units were exchanged.
/// - `name`: an identifier, an address or a symbol ("0x42…", "v2", "pool B", "WETH") that the other text lacks; or a capitalised
///   name on each side that the other lacks. One more name on one side alone is left to the learned decision.
/// - `symbol`: an operator, a comparison or a currency that the other text lacks or has elsewhere ("C++", "> 5", "in €"); a currency may be
///   spelt out.
/// - `negation`: one text says "not" and the other does not ("or not" apart), and nothing else is said in other words.
/// - `order`: two words change places around a word like "to", "from" or "than", or around what is said of them ("owes").
/// - `time`, `quantifier`, `direction`, `antonym`: a word and one that excludes it, by small lists and opposite beginnings ("un-", "de-").
#[must_use]
pub fn objection(one: &Text, other: &Text) -> Option<Objection> {
    let longest = one.words.len().max(other.words.len());
    if longest > MOST_WORDS {
        return Some(Objection::new("length", format!("{longest} words"), ""));
    }
    object(&Pairing::new(one, other))
}

/// As [`objection`], with the texts aligned already; their lengths are not looked at.
pub fn object(pairing: &Pairing<'_>) -> Option<Objection> {
    numbers(pairing.one.text, pairing.other.text)
        .or_else(|| names(pairing))
        .or_else(|| symbols(pairing.one.text, pairing.other.text))
        .or_else(|| negation(pairing))
        .or_else(|| exclusive(pairing))
        .or_else(|| order(pairing))
        .or_else(|| exchanged(pairing.one.text, pairing.other.text))
}

fn numbers(one: &Text, other: &Text) -> Option<Objection> {
    let written = |text: &Text, place: usize| {
        text.numbers.get(place).map(|number| text.words[number.word].text.clone()).unwrap_or_default()
    };
    for place in 0..one.numbers.len().max(other.numbers.len()) {
        let (left, right) = (one.numbers.get(place), other.numbers.get(place));
        let guard = match (left, right) {
            (Some(left), Some(right)) if left.equals(right) => match (left.unit, right.unit) {
                (Some(left), Some(right)) if left != right => "unit",
                _ => continue,
            },
            _ => "number",
        };
        let evidence = |text: &Text, unit: Option<&str>| {
            format!("{} {}", written(text, place), unit.unwrap_or_default())
        };
        let left = evidence(one, left.and_then(|left| left.unit));
        let right = evidence(other, right.and_then(|right| right.unit));
        return Some(Objection::new(guard, left.trim(), right.trim()));
    }
    None
}

fn names(pairing: &Pairing<'_>) -> Option<Objection> {
    let one = pairing.one.names_missing_in(pairing.other.text);
    let other = pairing.other.names_missing_in(pairing.one.text);
    let strong = |words: &[&Word]| words.iter().any(|word| word.stands_for_itself());
    let objects = strong(&one) || strong(&other) || (!one.is_empty() && !other.is_empty());
    objects.then(|| Objection::new("name", spell(&one), spell(&other)))
}

fn spell(words: &[&Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn symbols(one: &Text, other: &Text) -> Option<Objection> {
    let (ones, others) = (symbols_missing_in(other, one), symbols_missing_in(one, other));
    (!ones.is_empty() || !others.is_empty()).then(|| Objection::new("symbol", ones, others))
}

/// Spells the symbols of `text` that `other` has fewer of.
fn symbols_missing_in(other: &Text, text: &Text) -> String {
    let mut left = other.symbols.clone();
    let missing = |symbol: &&Symbol| {
        let twin = left.iter().position(|own| own == *symbol).map(|place| left.swap_remove(place));
        twin.is_none() && !other.words.iter().any(|word| lexicon::unit(&word.text) == Some(&symbol.text))
    };
    let missing = text.symbols.iter().filter(missing);
    missing.map(|symbol| symbol.text.as_str()).collect::<Vec<_>>().join(" ")
}

/// Finds a negation on one side only where nothing else was said instead: "not safe" for "unsafe" is left to the decision.
fn negation(pairing: &Pairing<'_>) -> Option<Objection> {
    let (one, other) = (negations(pairing.one.text), negations(pairing.other.text));
    if one.is_empty() == other.is_empty() {
        return None;
    }
    let said = |words: &[&Word]| words.iter().any(|word| word.is_content());
    let rephrased = pairing.gaps.iter().any(|gap| {
        let (ones, others) = pairing.words(gap);
        said(&ones) && said(&others)
    });
    (!rephrased).then(|| Objection::new("negation", one.join(" "), other.join(" ")))
}

/// Returns the negations of a text, but not those that leave both open: "or not", "why not".
fn negations(text: &Text) -> Vec<&str> {
    let open = |place: usize| {
        let before = place.checked_sub(1).and_then(|before| text.words.get(before));
        before.is_some_and(|before| matches!(before.text.as_str(), "or" | "why"))
    };
    let negates = |(place, word): &(usize, &Word)| word.classes.has(Classes::NEGATION) && !open(*place);
    text.words.iter().enumerate().filter(negates).map(|(_, word)| word.text.as_str()).collect()
}

fn exclusive(pairing: &Pairing<'_>) -> Option<Objection> {
    pairing.gaps.iter().find_map(|gap| {
        let (ones, others) = pairing.all_words(gap);
        let said = ones.iter().chain(&others).filter(|word| word.is_content()).count();
        let meets = |one: &&Word, other: &&Word| {
            let own = usize::from(one.is_content()) + usize::from(other.is_content());
            // Grammar around new words is new as well: "to" and "from" say where only while all else stays.
            if own < 2 && said > own {
                return None;
            }
            let opposite = || lexicon::is_opposite(&one.stem, &other.stem).then_some("antonym");
            let guard = lexicon::excludes(&one.text, &other.text).or_else(opposite)?;
            Some(Objection::new(guard, one.text.as_str(), other.text.as_str()))
        };
        ones.iter().find_map(|one| others.iter().find_map(|other| meets(one, other)))
    })
}

/// Finds two words that both texts have once, in other order, each with another word of direction before it, or one less.
fn order(pairing: &Pairing<'_>) -> Option<Objection> {
    let (one, other) = (pairing.one.text, pairing.other.text);
    // A sentence that was turned round as a whole ("is owned by", "owns") says something new on both sides.
    let rephrased = [&pairing.one, &pairing.other].iter().all(|side| side.left().any(Word::is_content));
    if pairing.one.moved == 0 || rephrased {
        return None;
    }
    let shared: Vec<(usize, usize)> = one
        .words
        .iter()
        .enumerate()
        .filter_map(|(place, word)| {
            let mut twins = other.words.iter().enumerate().filter(|(_, twin)| twin.stem == word.stem);
            let (twin, _) = twins.next()?;
            let alone =
                twins.next().is_none() && one.words.iter().filter(|own| own.stem == word.stem).count() == 1;
            (alone && word.is_content()).then_some((place, twin))
        })
        .collect();
    let turned = |(left, right): &(usize, usize)| role(one, *left) != role(other, *right);
    let turned: Vec<_> = shared.into_iter().filter(turned).collect();
    turned.iter().enumerate().find_map(|(index, first)| {
        let crossed = turned[index + 1..].iter().find(|second| second.1 < first.1)?;
        let words = |text: &Text, left: usize, right: usize| {
            format!("{} {}", text.words[left].text, text.words[right].text)
        };
        Some(Objection::new("order", words(one, first.0, crossed.0), words(other, crossed.1, first.1)))
    })
}

/// Finds two words that change places around what is said of them, all else being equal: "does Alice owe Bob", "does Bob owe Alice". What
/// stands after a preposition takes its place with it.
fn exchanged(one: &Text, other: &Text) -> Option<Objection> {
    let content = |text: &Text| -> Vec<usize> {
        text.words.iter().enumerate().filter(|(_, word)| word.is_content()).map(|(place, _)| place).collect()
    };
    let (ones, others) = (content(one), content(other));
    if ones.len() != others.len() {
        return None;
    }
    let meets = |left: usize, right: usize| one.words[ones[left]].stem == other.words[others[right]].stem;
    let differ: Vec<usize> = (0..ones.len()).filter(|place| !meets(*place, *place)).collect();
    let [first, second] = differ[..] else { return None };
    let is_free = |text: &Text, places: &[usize]| {
        [first, second].iter().all(|place| before(text, places[*place], Classes::PREPOSITION).is_none())
    };
    let crossed = second - first > 1 && meets(first, second) && meets(second, first);
    let words = |text: &Text, places: &[usize]| {
        format!("{} {}", text.words[places[first]].text, text.words[places[second]].text)
    };
    let objects = crossed && is_free(one, &ones) && is_free(other, &others);
    objects.then(|| Objection::new("order", words(one, &ones), words(other, &others)))
}

/// Returns the word of direction that a word stands after.
fn role(text: &Text, place: usize) -> Option<&str> {
    before(text, place, Classes::DIRECTION)
}

/// Returns the word of this class that a word stands after, with only grammar between them.
fn before(text: &Text, place: usize, class: Classes) -> Option<&str> {
    let before = text.words[..place].iter().rev();
    let mut near = before.take_while(|word| !word.is_content());
    near.find(|word| word.classes.has(class)).map(|word| word.text.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MOST_WORDS, objection};
    use crate::Text;

    fn guard(one: &str, other: &str) -> Option<&'static str> {
        let (one, other) = (Text::new(one), Text::new(other));
        let found = objection(&one, &other).map(|objection| objection.guard);
        assert_eq!(
            found,
            objection(&other, &one).map(|objection| objection.guard),
            "asked the other way round"
        );
        found
    }

    #[test]
    fn each_guard_objects_to_what_it_reads() {
        for (one, other, name) in [
            ("is an APR of 25 normal", "is an APR of 250 normal", "number"),
            ("is an APR normal", "is an APR of 25 normal", "number"),
            ("did it go from 5 to 25", "did it go from 25 to 5", "number"),
            ("is 5 km far", "is 5 miles far", "unit"),
            ("how far in kilometers", "how far in miles", "unit"),
            ("APR of pool A on Base", "APR of pool B on Base", "name"),
            ("the APR of pool a", "the APR of pool b", "name"),
            ("what does max_fee do", "what does min_fee do", "name"),
            ("who owns 0xAbc1 now", "who owns 0xAbc2 now", "name"),
            ("how much WETH is there", "how much cbWETH is there", "name"),
            ("fees on Aerodrome today", "fees on Uniswap today", "name"),
            ("who writes C++ today", "who writes C today", "symbol"),
            ("who writes C++ today", "who writes C# today", "symbol"),
            ("what is ++ in Python", "what is ** in Python", "symbol"),
            ("what is [] in Python", "what is {} in Python", "symbol"),
            ("good if apr > 5", "good if apr < 5", "symbol"),
            ("good if apr >= 5", "good if apr > 5", "symbol"),
            ("true if x != 5", "true if x = 5", "symbol"),
            ("is gas > fees", "is fees > gas", "symbol"),
            ("how to bridge base -> ink", "how to bridge ink -> base", "symbol"),
            ("the price in $", "the price in €", "symbol"),
            ("the price in $", "the price", "symbol"),
            ("is $5 enough", "is €5 enough", "unit"),
            ("is $5 enough", "is 5€ enough", "unit"),
            ("is it safe", "is it not safe", "negation"),
            ("what rose today", "what rose yesterday", "time"),
            ("are all pools safe", "are no pools safe", "negation"),
            ("are most pools safe", "are few pools safe", "quantifier"),
            ("how to buy tokens", "how to sell tokens", "direction"),
            ("how to enable alerts", "how to disable alerts", "antonym"),
            ("convert euros to dollars", "convert dollars to euros", "order"),
            ("is cash better than credit for work", "is credit better than cash for work", "order"),
            ("does Alice owe Bob money", "does Bob owe Alice money", "order"),
            ("did Germany invade Poland first", "did Poland invade Germany first", "order"),
            ("do dogs chase cats", "do cats chase dogs", "order"),
            ("can i unstake early", "can i stake early", "antonym"),
            ("is the token inflationary", "is the token deflationary", "antonym"),
            ("what are centralized exchanges", "what are decentralized exchanges", "antonym"),
            ("is the stock overvalued", "is the stock undervalued", "antonym"),
            ("is it hardly risky", "is it very risky", "negation"),
            ("is it a custodial wallet", "is it a non-custodial wallet", "negation"),
            ("can any user mint", "can every user mint", "quantifier"),
            ("is it safe for adults", "is it safe for children", "antonym"),
            ("turn format on save on", "turn format on save off", "direction"),
        ] {
            assert_eq!(guard(one, other), Some(name), "{one} | {other}");
        }
    }

    #[test]
    fn no_guard_objects_to_the_same_in_other_words() {
        for (one, other) in [
            ("How do I learn Sanskrit?", "how can i learn sanskrit"),
            ("is 1,000 a lot", "is 1k a lot"),
            ("two pools", "2 pools"),
            ("Is it safe or not?", "Is it safe?"),
            ("flights from Paris to Rome", "flights to Rome from Paris"),
            ("the difference between A and B", "the difference between B and A"),
            ("in Python how do loops end", "how do loops end in Python"),
            ("to Rome by train from Paris", "from Paris by train to Rome"),
            ("which is better, Java or Rust", "which is better, Rust or Java"),
            ("what is the best design", "what's the best design"),
            ("news from San Francisco", "news from SF"),
            ("What Is The Best Way Home?", "What is the best way home?"),
            ("the price in $", "the price in dollars"),
            ("is $5 enough", "are 5 dollars enough"),
            ("what is `x` & <div>", "what is \"x\" and div?"),
            ("good if the apr > 5", "good if apr > 5"),
            ("#1 of the (best) pools*", "1 of the best pools"),
            ("who learns C++ & Rust", "who learns Rust and C++"),
            ("what does ++ do", "what is ++"),
        ] {
            assert_eq!(guard(one, other), None, "{one} | {other}");
        }
    }

    #[test]
    fn a_text_beyond_the_limit_never_matches() {
        let long = "word ".repeat(MOST_WORDS + 1);
        assert_eq!(guard(&long, &long), Some("length"));
    }

    proptest! {
        #[test]
        fn other_numbers_never_match(before in "[a-z ]{0,20}", one in 0_u64..1_000_000, other in 0_u64..1_000_000, after in "[ %a-z]{0,20}") {
            prop_assume!(one != other);
            let text = |number: u64| Text::new(&format!("{before} {number} {after}"));
            prop_assert!(objection(&text(one), &text(other)).is_some());
        }

        #[test]
        fn other_addresses_never_match(words in "[a-z ]{0,30}", one in "0x[0-9a-f]{8,40}", other in "0x[0-9a-f]{8,40}") {
            prop_assume!(one != other);
            let text = |address: &str| Text::new(&format!("the pool {address} {words}"));
            prop_assert!(objection(&text(&one), &text(&other)).is_some());
        }

        #[test]
        fn other_symbols_never_match(words in "[a-z ]{0,30}", one in "[A-Z]{2,8}", other in "[A-Z]{2,8}") {
            let text = |symbol: &str| Text::new(&format!("what happened to the token {symbol} in the last days {words}"));
            let spelt = |symbol: &str, own: &str| text(own).words.iter().any(|word| word.text == symbol.to_lowercase());
            prop_assume!(!spelt(&one, &other) || !spelt(&other, &one));
            prop_assert!(objection(&text(&one), &text(&other)).is_some());
        }

        #[test]
        fn other_operators_never_match(words in "[a-z ]{0,30}", one in "[+<>=^]{1,2}", other in "[+<>=^]{1,2}", glued in any::<bool>()) {
            prop_assume!(one != other);
            let text = |operator: &str| Text::new(&format!("x{}{operator} 5 {words}", if glued { "" } else { " " }));
            prop_assert!(objection(&text(&one), &text(&other)).is_some());
        }

        #[test]
        fn a_text_never_objects_to_itself(text in "\\PC{0,80}") {
            let text = Text::new(&text);
            prop_assert_eq!(objection(&text, &text), None);
        }
    }
}
