//! Small word lists of English: classes of grammar, units, and sets of words that exclude each other.
//!
//! Written by hand, after a look at which words differ in labelled pairs of questions. They are lists of English, not of those files, but not blind to them either.

use std::{collections::HashMap, sync::LazyLock};

/// The classes a word belongs to, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

impl Classes {
    /// Grammar and filler: no meaning of its own.
    pub const STOP: Self = Self(1);
    /// Words that ask.
    pub const ASKING: Self = Self(1 << 1);
    /// Negations.
    pub const NEGATION: Self = Self(1 << 2);
    /// Pronouns and possessives.
    pub const PRONOUN: Self = Self(1 << 3);
    /// Prepositions.
    pub const PREPOSITION: Self = Self(1 << 4);
    /// Conjunctions.
    pub const CONJUNCTION: Self = Self(1 << 5);
    /// Adverbs that shade a sentence.
    pub const ADVERB: Self = Self(1 << 6);
    /// Comparisons and ranks.
    pub const DEGREE: Self = Self(1 << 7);
    /// Words that can be left out without changing what is asked.
    pub const FILLER: Self = Self(1 << 8);
    /// Words that give what follows a side: "from", "to", "than".
    pub const DIRECTION: Self = Self(1 << 9);

    /// Tells whether any class of `other` is among them.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const CLASSES: [(Classes, &str); 10] = [
    (
        Classes::STOP,
        "a an the this that these those some any all every each no not none i me my mine we us our you your yours he him his \
         she her hers it its they them their one ones and or but nor so if then than as of at by for with about against \
         between into through during before after above below to from up down in out on off over under again further once \
         here there when where why how what which who whom whose is am are was were be been being have has had having do \
         does did doing can could should would will shall may might must isn't aren't don't doesn't didn't can't won't i'm \
         it's what's you're there's also just very really ever actually exactly too only own same such more most other \
         another",
    ),
    (Classes::ASKING, "what which who whom whose when where why how what's who's how's where's whats"),
    (
        Classes::NEGATION,
        "not no non never none nor without hardly scarcely barely cannot can't don't doesn't didn't isn't aren't won't wouldn't shouldn't couldn't \
         wasn't weren't hasn't haven't hadn't nobody nothing neither dont doesnt didnt cant wont isnt arent",
    ),
    (
        Classes::PRONOUN,
        "i me my mine we us our you your yours he him his she her hers it its they them their one someone people anyone \
         myself yourself oneself",
    ),
    (
        Classes::PREPOSITION,
        "of at by for with about against between into through during before after above below to from up down in out on \
         off over under without within than as like near",
    ),
    (Classes::CONJUNCTION, "and or but so if then because while whether"),
    (
        Classes::ADVERB,
        "really ever actually exactly too only just very also still now currently always already even so usually generally \
         truly possibly easily quickly fast today nowadays properly",
    ),
    (
        Classes::DEGREE,
        "best good better great worst bad most more least less main top biggest largest highest lowest first last new old \
         easiest fastest cheapest favourite favorite",
    ),
    (
        Classes::FILLER,
        "please any some kind sort thing things way ways possible someone something there like tell know",
    ),
    (
        Classes::DIRECTION,
        "from to into onto than over under before after above below by against toward towards",
    ),
];

/// Words that exclude each other, by the guard that reads them: the alternatives of a set are split by `|`, and the spellings
/// of one alternative by spaces. A word of one alternative on one side and of another on the other is a different question.
const EXCLUSIVE: [(&str, &str); 78] = [
    ("time", "today | yesterday | tomorrow tonight"),
    ("time", "monday | tuesday | wednesday | thursday | friday | saturday | sunday"),
    (
        "time",
        "january jan | february feb | march | april | may | june jun | july jul | august aug | september sep sept | october oct | november nov | december dec",
    ),
    ("time", "spring | summer | autumn fall | winter"),
    ("time", "hourly | daily | weekly | monthly | quarterly | yearly annually annual"),
    ("time", "morning | noon | afternoon | evening | night"),
    ("time", "last previous | next upcoming | this current"),
    ("time", "before | after"),
    ("time", "since | until till"),
    ("time", "past | future | present"),
    ("time", "century | decade | year | month | week | day | hour | minute | second | millisecond"),
    ("quantifier", "all every each entire | no none | most | few | half"),
    ("quantifier", "any | every each all"),
    ("quantifier", "most | least"),
    ("quantifier", "more | less fewer"),
    ("quantifier", "always | never | sometimes | rarely seldom"),
    ("quantifier", "max maximum | min minimum | average mean | median | total sum"),
    ("quantifier", "both | either | neither"),
    ("quantifier", "single | double | triple"),
    ("direction", "from | to"),
    ("direction", "in into inside | out outside"),
    ("direction", "on | off"),
    ("direction", "up upward upwards | down downward downwards"),
    ("direction", "left | right"),
    ("direction", "north northern | south southern | east eastern | west western"),
    ("direction", "above over | below under beneath"),
    ("direction", "buy buying purchase | sell selling"),
    ("direction", "import imports | export exports"),
    ("direction", "deposit deposits | withdraw withdrawal withdrawals"),
    ("direction", "borrow borrowing | lend lending"),
    ("direction", "send sending | receive receiving"),
    ("direction", "upload | download"),
    ("direction", "push | pull"),
    ("direction", "encode encoding | decode decoding"),
    ("direction", "encrypt encryption | decrypt decryption"),
    ("direction", "input inputs | output outputs"),
    ("direction", "long | short"),
    ("antonym", "best | worst"),
    ("antonym", "good | bad"),
    ("antonym", "better | worse"),
    ("antonym", "high higher highest | low lower lowest"),
    ("antonym", "big large biggest largest | small smallest"),
    (
        "antonym",
        "increase increases increased increasing raise grow rise rises rising | decrease decreases decreased decreasing reduce shrink lower fall falls falling drop drops",
    ),
    ("antonym", "gain gains gained | lose loses lost loss"),
    ("antonym", "profit profits | loss losses"),
    ("antonym", "win wins won | lose loses lost"),
    ("antonym", "advantages advantage pros benefits | disadvantages disadvantage cons drawbacks"),
    ("antonym", "positive | negative"),
    ("antonym", "legal | illegal"),
    ("antonym", "possible | impossible"),
    ("antonym", "safe | unsafe dangerous"),
    ("antonym", "healthy | unhealthy"),
    ("antonym", "true | false"),
    ("antonym", "same identical | different"),
    ("antonym", "old older oldest | new newer newest young younger youngest"),
    ("antonym", "start begin open | stop end close"),
    (
        "antonym",
        "enable enabled allow allowed permit activate | disable disabled deny forbid forbidden block deactivate",
    ),
    ("antonym", "add adding install append create | remove removing delete uninstall destroy"),
    ("antonym", "accept approve | reject decline"),
    ("antonym", "include including | exclude excluding"),
    ("antonym", "connect | disconnect"),
    ("antonym", "lock | unlock"),
    ("antonym", "love | hate"),
    ("antonym", "hot warm | cold cool"),
    ("antonym", "fast faster fastest | slow slower slowest"),
    ("antonym", "easy easier easiest | hard hardest difficult"),
    ("antonym", "rich | poor"),
    ("antonym", "strong | weak"),
    ("antonym", "early earlier | late later"),
    ("antonym", "first | last"),
    ("antonym", "top | bottom"),
    ("antonym", "public | private"),
    ("antonym", "internal | external"),
    ("antonym", "male males man men boy boys guy guys | female females woman women girl girls"),
    ("antonym", "adult adults | child children kid kids | baby babies infant infants"),
    ("antonym", "husband | wife"),
    ("antonym", "mother | father"),
    ("antonym", "introvert introverts | extrovert extroverts"),
];

/// Units that exclude each other, with their spellings; the first spelling names the unit.
const UNITS: &str = "kilometer kilometers kilometre kilometres km kms | mile miles mi | meter meters metre metres | foot feet ft | \
    inch inches | centimeter centimeters centimetre cm cms | millimeter millimeters mm | yard yards | kilogram kilograms kg kgs | \
    pound pounds lb lbs | ounce ounces oz | stone | gram grams | ton tons tonne tonnes | celsius | fahrenheit | kelvin | liter liters litre \
    litres | gallon gallons | millisecond milliseconds ms | second seconds sec secs | minute minutes min mins | hour hours hr hrs | \
    day days | week weeks | month months | year years | percent pct | dollar dollars usd | euro euros eur | gbp | rupee rupees rs inr | \
    yen jpy | bitcoin btc | gwei | wei | eth ether | byte bytes | kilobyte kilobytes kb | megabyte megabytes mb | gigabyte gigabytes gb | \
    terabyte terabytes tb | bit bits | hz | khz | mhz | ghz | watt watts | kilowatt kilowatts kw | volt volts | calorie calories | \
    joule joules | bps | lakh lakhs | crore crores";

const SPELT: [(&str, &str); 18] = [
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("fifteen", "15"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fifty", "50"),
    ("sixty", "60"),
    ("ninety", "90"),
];

static WORDS: LazyLock<HashMap<&str, Classes>> = LazyLock::new(|| {
    let mut words: HashMap<&str, Classes> = HashMap::new();
    for (class, list) in CLASSES {
        for word in list.split_whitespace() {
            words.entry(word).or_default().0 |= class.0;
        }
    }
    words
});

static ALTERNATIVES: LazyLock<HashMap<&str, Vec<Alternative>>> = LazyLock::new(|| {
    let sets = EXCLUSIVE.into_iter().chain([("unit", UNITS)]);
    let mut words: HashMap<&str, Vec<Alternative>> = HashMap::new();
    for (set, (guard, list)) in sets.enumerate() {
        for (number, spellings) in list.split('|').enumerate() {
            for word in spellings.split_whitespace() {
                words.entry(word).or_default().push(Alternative { set, number, guard });
            }
        }
    }
    words
});

static NAMED_UNITS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let name = |spellings: &'static str| {
        let name = spellings.split_whitespace().next().unwrap_or_default();
        spellings.split_whitespace().map(move |word| (word, name))
    };
    UNITS.split('|').flat_map(name).collect()
});

/// One way of saying something, in a set of which only one can be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alternative {
    set: usize,
    number: usize,
    /// The guard that reads the set.
    guard: &'static str,
}

/// Returns the classes of a word in lower case.
pub(crate) fn classes(word: &str) -> Classes {
    WORDS.get(word).copied().unwrap_or_default()
}

/// Beginnings of words that exclude each other before the same rest; an empty one is the rest alone.
const OPPOSITES: [(&str, &str); 15] = [
    ("", "un"),
    ("", "in"),
    ("", "im"),
    ("", "ir"),
    ("", "il"),
    ("", "dis"),
    ("", "de"),
    ("", "non"),
    ("in", "de"),
    ("in", "out"),
    ("over", "under"),
    ("pro", "anti"),
    ("up", "down"),
    ("micro", "macro"),
    ("hyper", "hypo"),
];

/// Tells whether two words have one rest of at least four letters behind opposite beginnings.
pub(crate) fn is_opposite(one: &str, other: &str) -> bool {
    let opposite = |one: &str, other: &str| {
        OPPOSITES.iter().any(|(begins, turned)| {
            let rest = one.strip_prefix(begins).filter(|rest| rest.chars().count() >= 4);
            rest.is_some_and(|rest| other.strip_prefix(turned) == Some(rest))
        })
    };
    opposite(one, other) || opposite(other, one)
}

/// Returns the guard that two words in lower case fall to, if each says what the other excludes.
pub(crate) fn excludes(one: &str, other: &str) -> Option<&'static str> {
    let (ones, others) = (ALTERNATIVES.get(one)?, ALTERNATIVES.get(other)?);
    // Spellings with two meanings ("lower") do not exclude themselves in another set.
    let meets =
        |one: &Alternative| others.iter().find(|other| other.set == one.set && other.number != one.number);
    let same = ones.iter().any(|one| others.contains(one));
    if same { None } else { ones.iter().find_map(meets).map(|alternative| alternative.guard) }
}

/// Returns the power of ten that a word after digits stands for.
pub(crate) fn scale(word: &str) -> Option<i32> {
    match word {
        "hundred" => Some(2),
        "thousand" | "k" => Some(3),
        "million" | "millions" | "m" | "mn" => Some(6),
        "billion" | "billions" | "b" | "bn" => Some(9),
        "trillion" => Some(12),
        _ => None,
    }
}

/// Returns the digits of a number that is spelt as a word; "one" is a pronoun more often than not.
pub(crate) fn spelt(word: &str) -> Option<&'static str> {
    SPELT.iter().find(|(name, _)| *name == word).map(|(_, digits)| *digits)
}

/// Returns the one name of a unit.
pub(crate) fn unit(word: &str) -> Option<&'static str> {
    NAMED_UNITS.get(word).copied()
}

#[cfg(test)]
mod tests {
    use super::{Classes, classes, excludes, unit};

    #[test]
    fn words_that_exclude_each_other_say_by_which_guard() {
        assert_eq!(excludes("buy", "sell"), Some("direction"));
        assert_eq!(excludes("km", "miles"), Some("unit"));
        assert_eq!(excludes("monday", "friday"), Some("time"));
        assert_eq!(excludes("all", "none"), Some("quantifier"));
        assert_eq!(excludes("enable", "disable"), Some("antonym"));
        for (one, other) in
            [("km", "kilometers"), ("buy", "purchase"), ("increase", "raise"), ("buy", "monday"), ("x", "y")]
        {
            assert_eq!(excludes(one, other), None, "{one} {other}");
        }
    }

    #[test]
    fn words_have_classes_and_units_one_name() {
        assert!(classes("not").has(Classes::NEGATION) && classes("not").has(Classes::STOP));
        assert!(!classes("pool").has(Classes::STOP));
        assert_eq!((unit("lbs"), unit("pool")), (Some("pound"), None));
    }
}
