//! Characters beside letters and digits that say something: "C" is not "C++", and "> 5" not "< 5".

use super::lexicon;

/// Characters that may come and go; a sign before a number is a part of it.
const PUNCTUATION: &str = ".,;:!?'\"-\u{2018}\u{2019}\u{201c}\u{201d}\u{2013}\u{2014}\u{2026}";
/// What is asked about as such where it stands alone ("[] or {}"); a lone slash or star only separates.
const OPERATORS: [&str; 9] = ["()", "(,)", "[]", "{}", "&&", "||", "**", "//", "~"];

/// An operator, a comparison or another symbol of a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    /// Its characters; for the sign of a currency without a number, the name of the unit.
    pub text: String,
    /// The stem of the word it goes with: the one it is attached to ("C++"), or the one a comparison or an arrow points at ("> 5").
    /// Empty for others, which may stand anywhere.
    pub word: String,
}

/// A word as its symbols see it.
pub(crate) struct Neighbour<'a> {
    /// Where it begins and ends in the text, in bytes.
    pub(crate) place: (usize, usize),
    /// Its stem.
    pub(crate) stem: &'a str,
}

/// Characters between two words, without a space in them.
struct Token<'a> {
    text: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
    /// Whether the word before stands directly before it, and the one after directly after.
    attached: (bool, bool),
    /// The text up to the word before, that included, and the one from the word after on.
    around: (&'a str, &'a str),
}

/// Returns all characters that say something, in their order: the strictest reading.
pub(crate) fn characters(raw: &str) -> impl Iterator<Item = char> {
    raw.chars().filter(|character| {
        !character.is_alphanumeric() && !character.is_whitespace() && !PUNCTUATION.contains(*character)
    })
}

/// Returns the symbols between `words`, sorted.
pub(crate) fn read(raw: &str, words: &[Neighbour<'_>]) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    for place in 0..=words.len() {
        let before = place.checked_sub(1).and_then(|before| words.get(before));
        let after = words.get(place);
        let (start, end) =
            (before.map_or(0, |word| word.place.1), after.map_or(raw.len(), |word| word.place.0));
        let between = &raw[start..end];
        symbols.extend(between.split_whitespace().filter_map(|text| {
            let token = Token {
                text,
                before: before.map(|word| word.stem),
                after: after.map(|word| word.stem),
                attached: (
                    before.is_some() && between.starts_with(text),
                    after.is_some() && between.ends_with(text),
                ),
                around: (&raw[..start], &raw[end..]),
            };
            token.symbol()
        }));
    }
    symbols.sort();
    symbols
}

impl Token<'_> {
    fn symbol(&self) -> Option<Symbol> {
        if let Some(unit) = currency(self.text.trim_matches(|edge| PUNCTUATION.contains(edge))) {
            // A number has it as its unit already.
            let counts = is_number(self.before) || self.attached.1 && is_number(self.after);
            return (!counts).then(|| Symbol { text: unit.to_owned(), word: String::new() });
        }
        let text = self.telling();
        let word = match self.attached {
            (true, false) => self.before,
            _ if text.contains(is_directed) => self.after,
            _ => None,
        };
        let word = word.unwrap_or_default().to_owned();
        (!text.is_empty()).then_some(Symbol { text, word })
    }

    /// Returns the characters that say something, as every text uses them.
    fn telling(&self) -> String {
        let (before, after) = self.attached;
        if !before && !after && OPERATORS.contains(&self.text) {
            return self.text.to_owned();
        }
        let mut characters = self.text.chars().peekable();
        let mut text = String::new();
        while let Some(character) = characters.next() {
            let tells = match character {
                '!' => characters.peek() == Some(&'='),
                // Alone it is "and".
                '&' => self.text.contains("&&"),
                // "#1" and "#topic" are a number and a topic; "C#" is neither.
                '#' => !after,
                '<' => !self.opens_tag(),
                '>' => !self.closes_tag(),
                _ => is_operator(character),
            };
            text.extend(tells.then_some(character));
        }
        text
    }

    /// Tells whether it begins a tag ("<div>", "Vec<T>"): a spelling of the name in it.
    fn opens_tag(&self) -> bool {
        let tag = self.around.1.split(char::is_whitespace).next().unwrap_or_default();
        self.attached.1
            && self.text.trim_end_matches('/').ends_with('<')
            && tag.starts_with(char::is_alphabetic)
            && tag.contains('>')
    }

    /// Tells whether it ends one.
    fn closes_tag(&self) -> bool {
        let tag = self.around.0.rsplit(char::is_whitespace).next().unwrap_or_default();
        self.attached.0 && self.text.trim_start_matches('/').starts_with('>') && tag.contains('<')
    }
}

fn is_number(word: Option<&str>) -> bool {
    word.is_some_and(|word| word.starts_with(|first: char| first.is_ascii_digit()))
}

/// Tells whether what stands before a comparison or an arrow could not stand after it.
fn is_directed(character: char) -> bool {
    matches!(character, '<' | '>' | '≤' | '≥' | '\u{2190}'..='\u{21ff}')
}

/// Tells whether a character is one of arithmetic, logic or comparison.
fn is_operator(character: char) -> bool {
    matches!(character, '+' | '=' | '^' | '±' | '×' | '÷' | '\u{2190}'..='\u{22ff}')
}

/// Returns the unit that the sign of a currency stands for.
pub(crate) fn currency(sign: &str) -> Option<&'static str> {
    let word = match sign {
        "$" => "dollar",
        "€" => "euro",
        "£" => "pound",
        "¥" => "yen",
        "₹" => "rupee",
        _ => return None,
    };
    lexicon::unit(word)
}
