//! Numbers as values: "1,000", "1k" and "1000.0" are one, "2" and "two" too; their units beside them.

use super::{
    lexicon::{scale, spelt, unit},
    symbol::currency,
};

/// A number in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Which word of the text it is.
    pub word: usize,
    negative: bool,
    /// Its digits without zeros at either end; empty for 0.
    digits: String,
    /// The power of ten by which the digits, read as an integer, are multiplied.
    exponent: i32,
    /// Its unit in one word, where it is known.
    pub unit: Option<&'static str>,
}

impl Number {
    /// Reads the word at `place`, in lower case, as a number, perhaps with a unit at its end; `before` and `after` are the text around it.
    pub(crate) fn parse(place: usize, word: &str, before: &str, after: &str) -> Option<Self> {
        if let Some(value) = spelt(word) {
            return Some(Self::new(place, value, false));
        }
        let end = word
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != ',')
            .unwrap_or(word.len());
        let (value, suffix) = word.split_at(end);
        if value.is_empty()
            || value.matches('.').count() > 1
            || suffix.len() > 4
            || suffix.contains(|c: char| !c.is_ascii_lowercase())
        {
            return None;
        }
        let mut signs = before.chars().rev();
        let ahead = signs.next();
        let negative = ahead == Some('-') && signs.next().is_none_or(char::is_whitespace);
        let mut number = Self::new(place, value, negative);
        let behind = after.trim_start().chars().next();
        let sign = |sign: Option<char>| sign.and_then(|sign| currency(sign.encode_utf8(&mut [0; 4])));
        number.unit = sign(ahead).or_else(|| match behind {
            Some('%') => Some("percent"),
            behind => sign(behind),
        });
        if !suffix.is_empty() && !number.follow(suffix) {
            // "4th" and "4g": whatever it is, it belongs to the number.
            number.digits.push_str(suffix);
        }
        Some(number)
    }

    /// Takes the next word as a scale ("million") or a unit; returns false if it is neither.
    pub(crate) fn follow(&mut self, word: &str) -> bool {
        if let Some(zeros) = scale(word) {
            self.exponent += zeros;
            return true;
        }
        let unit = unit(word);
        self.unit = self.unit.or(unit);
        unit.is_some()
    }

    /// Tells whether both are the same value; says nothing about their units.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        (self.negative, &self.digits, self.exponent) == (other.negative, &other.digits, other.exponent)
    }

    /// Returns the value in one spelling: that of every equal number, and of no other.
    #[must_use]
    pub fn value(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}e{}", self.digits, self.exponent)
    }

    fn new(word: usize, value: &str, negative: bool) -> Self {
        let value = value.replace(',', "");
        let (whole, fraction) = value.split_once('.').unwrap_or((&value, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        // A word is far shorter than 2^31 letters.
        let exponent = (all.len() - digits.len()) as i32 - fraction.len() as i32;
        let digits = digits.trim_start_matches('0').to_owned();
        let zero = digits.is_empty();
        Self {
            word,
            negative: negative && !zero,
            digits,
            exponent: if zero { 0 } else { exponent },
            unit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Text;

    fn equal(one: &str, other: &str) -> bool {
        let (one, other) = (Text::new(one), Text::new(other));
        one.numbers.len() == other.numbers.len()
            && one.numbers.iter().zip(&other.numbers).all(|(a, b)| a.equals(b) && a.value() == b.value())
    }

    #[test]
    fn spellings_of_one_value_are_equal() {
        for (one, other) in [
            ("1,000", "1000.0"),
            ("1k", "1000"),
            ("2", "two"),
            ("1.5m", "1.5 million"),
            ("007", "7"),
            ("10 thousand", "10k"),
            ("0.50", "0.5"),
        ] {
            assert!(equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn other_values_are_not() {
        for (one, other) in [
            ("25", "250"),
            ("1.5", "15"),
            ("-5", "5"),
            ("10", "1"),
            ("5", "5th"),
            ("10 million", "10"),
            ("0.5", "0.05"),
        ] {
            assert!(!equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_unit_is_read_from_the_word_the_sign_or_the_next_word() {
        let unit = |text: &str| Text::new(text).numbers[0].unit;
        assert_eq!((unit("16GB"), unit("16 gigabytes")), (Some("gigabyte"), Some("gigabyte")));
        assert_eq!(
            (unit("5%"), unit("5 percent"), unit("$5")),
            (Some("percent"), Some("percent"), Some("dollar"))
        );
        assert_eq!((unit("5€"), unit("5 €"), unit("₹500")), (Some("euro"), Some("euro"), Some("rupee")));
        assert_eq!(unit("5 apples"), None);
    }
}
