//! Splits a text into the words it is found by.

use std::borrow::Cow;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

/// Changes whenever the words of some text do: an index made by other rules has to be made anew.
pub(crate) const VERSION: u32 = 1;
/// Longest word in bytes; what is longer is found by its beginning.
const LONGEST: usize = 128;
/// Words that say how a question is asked and not what about, sorted. They have long postings and bring little order: without them BM25
/// finds 58.1 instead of 53.2 % of the evidence of LoCoMo's dev five among the first ten. They are dropped from queries
/// only, and not from one that has nothing else.
const STOP_WORDS: [&str; 129] = [
    "a", "about", "above", "after", "again", "against", "all", "am", "an", "and", "any", "are", "as", "at",
    "be", "because", "been", "before", "being", "below", "between", "both", "but", "by", "can", "cant",
    "could", "did", "didnt", "do", "does", "doesnt", "doing", "dont", "down", "during", "each", "few", "for",
    "from", "further", "had", "has", "have", "having", "he", "her", "here", "hers", "him", "his", "how", "i",
    "id", "if", "ill", "im", "in", "into", "is", "isnt", "it", "its", "ive", "just", "me", "more", "most",
    "my", "no", "nor", "not", "now", "of", "off", "on", "once", "only", "or", "other", "our", "ours", "out",
    "over", "own", "same", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "through", "to", "too", "under", "until", "up",
    "very", "was", "wasnt", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "whose",
    "why", "will", "with", "wont", "would", "you", "your", "yours",
];

/// Calls `word` with every word by which `text` is found, in order, as often as it occurs.
///
/// Words are those of Unicode's text segmentation (UAX 29), without case, accents and compatibility forms (NFKD); those of
/// ASCII letters without their English endings (Snowball: BM25 finds 53.2 instead of 50.0 % of the evidence).
/// `pool_behavior`, `example.com` and `openPosition` are found as a whole and by their parts, `weth/usdc` are two words, a
/// number is one without its thousands separators. A script without spaces gives every character and every two neighbours. An
/// emoji is a word.
pub(crate) fn each(text: &str, mut word: impl FnMut(&str)) {
    let stemmer = Stemmer::create(Algorithm::English);
    spellings(text, &mut |spelling| word(&stem(&stemmer, spelling)));
}

/// Returns the different words by which `query` looks, sorted; stop words only if there is nothing else.
pub(crate) fn of_query(query: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let (mut telling, mut others) = (Vec::new(), Vec::new());
    spellings(query, &mut |spelling| {
        let words = if STOP_WORDS.binary_search(&spelling).is_ok() { &mut others } else { &mut telling };
        words.push(stem(&stemmer, spelling).into_owned());
    });
    let mut words = if telling.is_empty() { others } else { telling };
    words.sort_unstable();
    words.dedup();
    words
}

/// Calls `word` with every word of `text` as it is spelt, endings and all.
pub(crate) fn spellings(text: &str, word: &mut impl FnMut(&str)) {
    let text = folded(text);
    // Where a character that is a word ended, and where it began.
    let mut single: Option<(usize, usize)> = None;
    for (start, segment) in text.split_word_bound_indices() {
        let end = start + segment.len();
        let before = single.take();
        if segment.chars().any(char::is_alphanumeric) {
            if !segment.is_ascii() && segment.graphemes(true).count() == 1 {
                word(cut(&segment.to_lowercase()));
                if let Some((from, to)) = before
                    && to == start
                {
                    word(cut(&text[from..end].to_lowercase()));
                }
                single = Some((start, end));
            } else {
                whole(segment, word);
            }
        } else if let Some(emoji) = segment.chars().next().filter(is_emoji) {
            // Without what varies it: skin, gender, presentation.
            word(emoji.encode_utf8(&mut [0; 4]));
        }
    }
}

/// Hands out a segment, and its parts if it has several.
fn whole(segment: &str, word: &mut impl FnMut(&str)) {
    let segment = segment.trim_matches(|character: char| !character.is_alphanumeric());
    if segment.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return word(cut(segment));
    }
    if segment.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.')) {
        return word(cut(&segment.replace(',', "")));
    }
    let owner = ["'s", "’s", "'S", "’S"].iter().find_map(|ending| segment.strip_suffix(ending));
    let segment = owner.unwrap_or(segment).replace(is_apostrophe, "");
    word(cut(&segment.to_lowercase()));
    let mut parts = segment.split(|character: char| !character.is_alphanumeric()).flat_map(humps).peekable();
    let first = parts.next();
    if parts.peek().is_some() {
        let parts = first.into_iter().chain(parts).filter(|part| !part.is_empty());
        parts.for_each(|part| word(cut(&part.to_lowercase())));
    }
}

/// Splits `openPosition` and `HTTPServer` before the capital letters that begin a word; what has digits is an identifier, a hash or an address
/// and stays whole.
fn humps(part: &str) -> impl Iterator<Item = &str> {
    let letters: Vec<(usize, char)> = part.char_indices().collect();
    let is_plain = !part.bytes().any(|byte| byte.is_ascii_digit());
    let begins = move |index: usize| {
        let (before, here) = (letters[index - 1].1, letters[index].1);
        let is_lower_next = letters.get(index + 1).is_some_and(|(_, next)| next.is_lowercase());
        let is_hump =
            here.is_uppercase() && (before.is_lowercase() || before.is_uppercase() && is_lower_next);
        is_hump.then_some(letters[index].0)
    };
    let count = part.chars().count();
    let starts: Vec<usize> = if is_plain { (1..count).filter_map(begins).collect() } else { Vec::new() };
    let ends: Vec<usize> = starts.iter().copied().chain([part.len()]).collect();
    [0].into_iter().chain(starts).zip(ends).map(|(start, end)| &part[start..end])
}

/// Returns `text` without accents and compatibility forms. Case stays: it says where words begin.
fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let is_accent = |character: &char| ('\u{300}'..='\u{36f}').contains(character);
    Cow::Owned(text.nfkd().filter(|character| !is_accent(character)).nfc().collect())
}

fn stem<'a>(stemmer: &Stemmer, spelling: &'a str) -> Cow<'a, str> {
    if spelling.len() > 2 && spelling.bytes().all(|byte| byte.is_ascii_lowercase()) {
        stemmer.stem(spelling)
    } else {
        Cow::Borrowed(spelling)
    }
}

fn cut(word: &str) -> &str {
    &word[..word.floor_char_boundary(LONGEST)]
}

fn is_apostrophe(character: char) -> bool {
    matches!(character, '\'' | '’')
}

/// Emoji of the blocks that hold nearly all: Unicode's own list is data we do not carry.
fn is_emoji(character: &char) -> bool {
    matches!(character, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LONGEST, STOP_WORDS, each, of_query};

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn words_are_found_without_case_accents_and_endings() {
        assert_eq!(words("Melanie's CAFÉS were painted, painting…"), words("melanie cafe were paint paints"));
        assert_eq!(words("ﬁnance ＡＰＲ"), words("finance apr"));
        assert_eq!(words("don't Don’t"), ["dont", "dont"]);
        assert_eq!(words("ИЮЛЬ straße"), ["июль", "straße"]);
    }

    #[test]
    fn names_are_found_as_a_whole_and_in_part() {
        assert_eq!(words("weth/usdc WETH-USDC"), ["weth", "usdc", "weth", "usdc"]);
        assert_eq!(words("pool_behavior"), ["pool_behavior", "pool", "behavior"]);
        assert_eq!(words("openPosition"), ["openposit", "open", "posit"]);
        assert_eq!(words("HTTPServer"), ["httpserver", "http", "server"]);
        assert_eq!(words("docs.example.com"), ["docs.example.com", "doc", "exampl", "com"]);
        assert_eq!(words("__init__"), ["init"]);
    }

    #[test]
    fn identifiers_and_numbers_stay_whole() {
        assert_eq!(words("0xAbCdEF0123"), ["0xabcdef0123"]);
        assert_eq!(words("TVL 1,000,000 at 4.25% in 2023."), ["tvl", "1000000", "at", "4.25", "in", "2023"]);
        assert_eq!(words("v3 D8:6"), ["v3", "d8", "6"]);
    }

    #[test]
    fn scripts_without_spaces_give_characters_and_pairs() {
        assert_eq!(words("東京 都"), ["東", "京", "東京", "都"]);
        assert_eq!(words("ラーメン"), ["ラーメン"]);
        assert_eq!(words("שלום עולם"), ["שלום", "עולם"]);
        let thai = words("กาแฟ");
        assert!(thai.contains(&"ก".to_owned()) && thai.len() > 4, "{thai:?}");
    }

    #[test]
    fn an_emoji_is_a_word_whatever_its_skin() {
        assert_eq!(words("👍🏽 gas 🚀🚀"), ["👍", "gas", "🚀", "🚀"]);
        assert_eq!(words("👩‍👩‍👧"), ["👩"]);
    }

    #[test]
    fn a_long_word_is_found_by_its_beginning() {
        let long = "é".repeat(32 * 1024);
        let found = words(&long);
        assert!(found.len() == 1 && found[0].len() <= LONGEST, "{}", found[0].len());
        assert!(words(&"a.".repeat(32 * 1024)).iter().all(|word| word.len() <= LONGEST));
    }

    #[test]
    fn a_question_looks_by_what_it_is_about() {
        assert_eq!(of_query("When did Melanie go to the lake? What lake?"), ["go", "lake", "melani"]);
        assert_eq!(of_query("Who are you?"), ["are", "who", "you"]);
        assert!(of_query("  ?! ").is_empty());
        assert!(STOP_WORDS.is_sorted());
    }

    proptest! {
        #[test]
        fn words_of_any_text_are_short_and_not_empty(text in "\\PC{0,64}|[\\p{Thai}\\p{Han}\\p{Hebrew}\\p{Emoji}a-zA-Z0-9_.'’,]{0,64}") {
            for word in words(&text) {
                prop_assert!(!word.is_empty() && word.len() <= LONGEST, "{word:?}");
            }
        }
    }
}
