//! A text taken apart once: words with their stems and forms, and the numbers in them.

use super::{
    lexicon::{self, Classes},
    number::Number,
    symbol::{self, Neighbour, Symbol},
};

/// A text as the guards and the features read it.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text as it came.
    pub raw: String,
    /// Its words, in their order.
    pub words: Vec<Word>,
    /// Its numbers, in their order.
    pub numbers: Vec<Number>,
    /// Its operators, comparisons and other symbols, sorted.
    pub symbols: Vec<Symbol>,
    /// Its sentences: runs of words between `.`, `?` and `!`.
    pub sentences: usize,
}

/// A run of letters and digits, with points and commas between digits, apostrophes between letters and underscores between either.
#[derive(Clone, Debug)]
pub struct Word {
    /// In lower case, with straight apostrophes.
    pub text: String,
    /// Without its ending: "pools" and "pool" share one.
    pub stem: String,
    /// What its spelling says.
    pub form: Form,
    /// What it is in English.
    pub classes: Classes,
}

/// What the spelling of a word says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Plain,
    /// Capitalised where no sentence begins: a name, most likely.
    Name,
    /// Several capitals ("WETH", "cbBTC"): a name that stands for itself.
    Symbol,
    /// Letters with digits or underscores ("M750n", "0x4200…", "v2", "max_fee"), or one letter that is no word ("pool B"): an identifier.
    Code,
    /// A number, or one with its unit ("16GB").
    Number,
}

impl Text {
    /// Takes `raw` apart.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        let mut spans = spans(raw);
        let shouted = is_shouted(&spans);
        let titled = is_titled(&spans);
        let mut words: Vec<Word> = Vec::with_capacity(spans.len());
        let mut numbers: Vec<Number> = Vec::new();
        for span in &mut spans {
            let text = span.text.to_lowercase().replace('’', "'");
            let number = Number::parse(words.len(), &text, span.before, span.after);
            let form = match &number {
                Some(_) => Form::Number,
                None => span.form(shouted, titled, raw),
            };
            if let Some(last) = numbers.last_mut().filter(|last| last.word + 1 == words.len()) {
                last.follow(&text);
            }
            numbers.extend(number);
            let stem = match form {
                Form::Symbol | Form::Code => bare(span.text, &text),
                _ => stem(&text),
            };
            words.push(Word { stem, classes: lexicon::classes(&text), text, form });
        }
        let neighbours: Vec<_> = spans.iter().zip(&words).map(|(span, word)| span.neighbour(word)).collect();
        let symbols = symbol::read(raw, &neighbours);
        Self { raw: raw.to_owned(), words, numbers, symbols, sentences: sentences(raw) }
    }

    /// Returns the text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Tells whether the text has the word in one of its forms; an identifier or a symbol has one form.
    pub fn has(&self, word: &Word) -> bool {
        let same = |own: &Word| {
            let inflected = own.stem == word.stem && own.stands_for_itself() == word.stands_for_itself();
            inflected || own.text == word.text || own.bare() == word.bare()
        };
        self.words.iter().any(same)
    }
}

impl Word {
    /// Tells whether the word carries meaning of its own: it is neither grammar nor filler.
    pub fn is_content(&self) -> bool {
        !self.classes.has(Classes::STOP)
    }

    /// Tells whether its spelling makes it a name.
    pub fn is_named(&self) -> bool {
        self.form == Form::Name || self.stands_for_itself()
    }

    /// Tells whether it is an identifier or a symbol, which another letter makes another.
    pub fn stands_for_itself(&self) -> bool {
        matches!(self.form, Form::Symbol | Form::Code)
    }

    /// Returns the word as it is compared with a symbol: without a possessive ending.
    fn bare(&self) -> &str {
        if self.stands_for_itself() { &self.stem } else { self.text.strip_suffix("'s").unwrap_or(&self.text) }
    }
}

/// A word in its place.
struct Span<'a> {
    text: &'a str,
    start: usize,
    before: &'a str,
    after: &'a str,
}

impl Span<'_> {
    fn neighbour<'w>(&self, word: &'w Word) -> Neighbour<'w> {
        Neighbour { place: (self.start, self.start + self.text.len()), stem: &word.stem }
    }

    /// Tells whether a letter is part of a group like "e.g." or "U.S.".
    fn is_abbreviation(&self, raw: &str) -> bool {
        let lettered =
            |text: &str| text.strip_prefix('.').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
        let mut before = raw[..self.start].chars().rev();
        lettered(&raw[self.start + self.text.len()..])
            || before.next() == Some('.') && before.next().is_some_and(char::is_alphabetic)
    }

    fn form(&self, shouted: bool, titled: bool, raw: &str) -> Form {
        let letters = self.text.chars().filter(|letter| letter.is_alphabetic()).count();
        let digits = self.text.chars().any(|letter| letter.is_ascii_digit());
        let capitals = self.text.chars().filter(|letter| letter.is_uppercase()).count();
        let begins = begins_sentence(&raw[..self.start]);
        if digits || self.text.contains('_') {
            return Form::Code;
        }
        if letters == 1 && self.text.is_ascii() {
            if self.is_abbreviation(raw) {
                return Form::Plain;
            }
            let article =
                matches!(self.text, "a" | "i" | "I") || (self.text == "A" && (begins || titled || shouted));
            return if article { Form::Plain } else { Form::Code };
        }
        match capitals {
            0 => Form::Plain,
            _ if shouted => Form::Plain,
            many if many >= 2 => Form::Symbol,
            _ if titled || begins || self.text.starts_with("I'") || self.text.starts_with("I’") => {
                Form::Plain
            }
            _ => Form::Name,
        }
    }
}

fn spans(raw: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let mut start = None;
    let mut previous = ' ';
    let mut characters = raw.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map_or(' ', |(_, next)| *next);
        let inside = match character {
            '.' | ',' => previous.is_ascii_digit() && next.is_ascii_digit(),
            '\'' | '’' => previous.is_alphabetic() && next.is_alphabetic(),
            '_' => previous.is_alphanumeric() && next.is_alphanumeric(),
            _ => character.is_alphanumeric(),
        };
        if inside {
            start.get_or_insert(at);
        } else if let Some(start) = start.take() {
            spans.push(span(raw, start, at));
        }
        previous = character;
    }
    spans.extend(start.map(|start| span(raw, start, raw.len())));
    spans
}

fn span(raw: &str, start: usize, end: usize) -> Span<'_> {
    Span { text: &raw[start..end], start, before: &raw[..start], after: &raw[end..] }
}

/// Tells whether whatever follows `before` begins a sentence.
fn begins_sentence(before: &str) -> bool {
    let before =
        before.trim_end_matches(|character: char| character.is_whitespace() || "\"'(“‘[".contains(character));
    before.chars().next_back().is_none_or(|last| ".?!:".contains(last))
}

/// Tells whether nearly every word has capitals only, so that they say nothing.
fn is_shouted(spans: &[Span<'_>]) -> bool {
    let letters = spans.iter().flat_map(|span| span.text.chars()).filter(|letter| letter.is_alphabetic());
    let (capitals, all) = letters
        .fold((0, 0), |(capitals, all), letter| (capitals + usize::from(letter.is_uppercase()), all + 1));
    spans.len() > 2 && capitals * 10 > all * 8
}

/// Tells whether the words are capitalised as in a title, grammar included: a sentence full of names leaves its articles small.
fn is_titled(spans: &[Span<'_>]) -> bool {
    let small = spans.iter().skip(1).filter(|span| span.text.starts_with(char::is_lowercase)).count();
    spans.len() > 3 && small * 4 < spans.len()
}

fn sentences(raw: &str) -> usize {
    raw.split(['.', '?', '!']).filter(|part| part.chars().any(char::is_alphanumeric)).count()
}

/// Endings and what replaces them; the first that fits and leaves three letters is taken off.
const ENDINGS: [(&str, &str); 9] = [
    ("ies", "y"),
    ("sses", "ss"),
    ("ing", ""),
    ("ed", ""),
    ("ly", ""),
    ("es", ""),
    ("s", ""),
    ("er", ""),
    ("ment", ""),
];

/// Takes a possessive or a small plural ending off a symbol ("LLMs"), and nothing else.
fn bare(written: &str, text: &str) -> String {
    let text = text.strip_suffix("'s").unwrap_or(text);
    let singular =
        written.strip_suffix('s').filter(|rest| !rest.contains(|letter: char| !letter.is_ascii_uppercase()));
    singular.map_or_else(|| text.to_owned(), str::to_lowercase)
}

/// Takes the commonest endings of English off: coarse, so that forms of one word meet; different words seldom do.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let fits = |(ending, _): &&(&str, &str)| {
        word.len() >= ending.len() + 3 && word.ends_with(ending) && !(*ending == "s" && word.ends_with("ss"))
    };
    let mut stem = match ENDINGS.iter().find(fits) {
        Some((ending, replacement)) => format!("{}{replacement}", &word[..word.len() - ending.len()]),
        None => word.to_owned(),
    };
    if stem.len() > 3 && stem.ends_with('e') {
        stem.pop();
    }
    let mut letters = stem.chars().rev();
    if stem.len() > 3
        && letters.next().is_some_and(|last| last.is_alphabetic() && letters.next() == Some(last))
    {
        stem.pop();
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::{Form, Text};

    fn forms(text: &str) -> Vec<(String, Form)> {
        Text::new(text).words.into_iter().map(|word| (word.text, word.form)).collect()
    }

    #[test]
    fn spelling_tells_names_codes_and_numbers_from_words() {
        let found =
            forms("What is WETH's APR in pool B of Aerodrome v2, 1,000.5 or 16GB at 0xAb12 by max_fee?");
        let named = |form| {
            found.iter().filter(|(_, own)| *own == form).map(|(text, _)| text.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(named(Form::Symbol), ["weth's", "apr"]);
        assert_eq!(named(Form::Code), ["b", "v2", "0xab12", "max_fee"]);
        assert_eq!(named(Form::Name), ["aerodrome"]);
        assert_eq!(named(Form::Number), ["1,000.5", "16gb"]);
    }

    #[test]
    fn capitals_say_nothing_where_every_word_has_them() {
        for text in ["WHAT IS THE BEST WAY", "What Is The Best Way To Learn", "Why? How? Where?"] {
            assert!(forms(text).iter().all(|(_, form)| *form == Form::Plain), "{text}");
        }
    }

    #[test]
    fn forms_of_a_word_share_a_stem() {
        for (one, other) in [
            ("pools", "pool"),
            ("studies", "study"),
            ("running", "run"),
            ("India's", "india"),
            ("learned", "learn"),
        ] {
            assert_eq!(Text::new(one).words[0].stem, Text::new(other).words[0].stem, "{one} {other}");
        }
    }

    #[test]
    fn any_text_is_taken_apart() {
        for text in ["", " ", "…", "池子 流动性 APR", "ß'ß", "1.", ".5", "a’b’", "é", "İstanbul ſ", "ee's"]
        {
            let _ = Text::new(text);
        }
    }
}
