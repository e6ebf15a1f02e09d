//! The form in which two spellings of one content are equal, and its hash.

use unicode_normalization::UnicodeNormalization as _;

use crate::memory::Memory;

/// Characters without width that say nothing: soft hyphen, zero-width space, word joiner, byte order mark.
const INVISIBLE: [char; 4] = ['\u{ad}', '\u{200b}', '\u{2060}', '\u{feff}'];

/// The hash of a text or of a memory; two of one are taken for the same.
pub(crate) type Print = [u8; 16];

/// Returns `text` with one space between words, in lower case, canonically composed (NFC), without invisible characters.
///
/// A word of letters and digits keeps its case, as it may be an id that needs it; but not a hexadecimal one, whose case is
/// a checksum. Compatibility forms stay: 10² is not 102.
pub(crate) fn normal(text: &str) -> String {
    let seen: String = text.chars().filter(|character| !INVISIBLE.contains(character)).collect();
    let mut normal = String::with_capacity(seen.len());
    for word in seen.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        if is_id(word) {
            normal.extend(word.nfc());
        } else {
            normal.extend(word.to_lowercase().nfc());
        }
    }
    normal
}

/// Returns the print of a content, in any spelling of [`normal`].
pub(crate) fn content(text: &str) -> Print {
    print([normal(text).as_str()])
}

/// Returns the print that two memories share if they say the same of the same things: category, agent, pools in any order, thread
/// and position, and the content in any spelling of [`normal`]. The same words at another place of a thread are another turn.
pub(crate) fn memory(memory: &Memory) -> Print {
    let mut pools: Vec<&str> = memory.pools.iter().map(String::as_str).collect();
    pools.sort_unstable();
    pools.dedup();
    let count = pools.len().to_string();
    let (thread, position) = match &memory.place {
        Some(place) => (place.thread.as_str(), place.position.to_string()),
        None => ("", String::new()),
    };
    let content = normal(&memory.content);
    let said = [&memory.category, &memory.agent, thread, &position, &content, &count];
    print(said.into_iter().chain(pools))
}

/// Returns the hash of texts, told apart from every other list of texts.
pub(crate) fn print<'a>(texts: impl IntoIterator<Item = &'a str>) -> Print {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let mut print = Print::default();
    hasher.finalize_xof().fill(&mut print);
    print
}

fn is_id(word: &str) -> bool {
    let has = |kind: fn(&char) -> bool| word.chars().any(|character| kind(&character));
    let mixed = has(char::is_ascii_digit) && has(|character| character.is_uppercase());
    mixed && !is_hexadecimal(word)
}

fn is_hexadecimal(word: &str) -> bool {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let digits = digits.map(|digits| digits.trim_end_matches(|last: char| last.is_ascii_punctuation()));
    digits.is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{content, memory, normal};
    use crate::memory::{Memory, Place};

    fn says(content: &str, pools: &[&str]) -> Memory {
        let pools = pools.iter().map(|pool| (*pool).to_owned()).collect();
        Memory { content: content.to_owned(), pools, ..Memory::bare() }
    }

    #[test]
    fn spellings_of_one_content_are_equal() {
        for (one, other) in [
            ("Gas is  low\n", "gas is low"),
            ("caf\u{e9}", "Cafe\u{301}"),
            ("zero\u{200b}width", "zerowidth"),
            ("by 0xAbC1.", "by 0xabc1."),
        ] {
            assert_eq!(content(one), content(other), "{one} {other}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        for (one, other) in [
            ("APR 25", "APR 250"),
            ("10\u{b2}", "102"),
            ("signed by 9xQeWvG", "signed by 9XqEwVg"),
            ("gas is low", "gas is low."),
            ("a b", "ab"),
        ] {
            assert_ne!(content(one), content(other), "{one} {other}");
        }
    }

    #[test]
    fn a_memory_is_the_same_only_of_the_same_things() {
        let one = memory(&says("gas is low", &["a", "b"]));
        assert_eq!(one, memory(&says("Gas is low", &["b", "a", "b"])));
        assert_ne!(one, memory(&says("gas is low", &["a"])));
        assert_ne!(one, memory(&Memory { agent: "scout".into(), ..says("gas is low", &["a", "b"]) }));
        assert_ne!(one, memory(&Memory { category: "gas".into(), ..says("gas is low", &["a", "b"]) }));
        let turn = |position| {
            let place = Some(Place { thread: "talk".into(), position });
            memory(&Memory { place, ..says("yes", &[]) })
        };
        assert_eq!(turn(1), turn(1));
        assert_ne!(turn(1), turn(2));
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(text in "\\PC{0,60}") {
            let once = normal(&text);
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn another_figure_is_another_content(before in "[a-z ]{0,20}", one in any::<u64>(), other in any::<u64>()) {
            prop_assume!(one != other);
            prop_assert_ne!(content(&format!("{before} {one}")), content(&format!("{before} {other}")));
        }
    }
}
