//! The types a setting can have.

use std::{cmp::Ordering, fmt, net::IpAddr, path::PathBuf, time::Duration};

use crate::Kind;

/// A type that a setting can have.
pub trait Value: Sized {
    /// What its text looks like; shown in a fault and in the table of settings.
    const KIND: Kind;

    /// Reads a value from text without white space around it; `None` if the text is not of this kind.
    fn parse(text: &str) -> Option<Self>;

    /// Compares two values, for the range; `None` (the default) where an order means nothing, and then no range applies.
    fn order(&self, other: &Self) -> Option<Ordering> {
        let _ = other;
        None
    }

    /// Returns whether the value lies from `low` to `high`, both included.
    fn is_within(&self, low: &Self, high: &Self) -> bool {
        self.order(low) != Some(Ordering::Less) && self.order(high) != Some(Ordering::Greater)
    }
}

/// A number of bytes, written `64MiB`, `2GB` or plainly `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// A text that is never printed: passwords, keys, tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl ByteSize {
    /// Makes a size of `bytes`.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(out, "{}{name}", self.0 / unit),
            None => write!(out, "{}B", self.0),
        }
    }
}

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Give it to the one who needs it; never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

macro_rules! plain {
    ($($type:ty: $kind:ident),* $(,)?) => {$(
        impl Value for $type {
            const KIND: Kind = Kind::$kind;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn order(&self, other: &Self) -> Option<Ordering> {
                self.partial_cmp(other)
            }
        }
    )*};
}

plain!(bool: Switch, u16: Whole, u32: Whole, u64: Whole, usize: Whole, IpAddr: Address);

impl Value for f64 {
    const KIND: Kind = Kind::Number;

    /// Reads a finite number: an infinity or a NaN would pass every range.
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &Self| number.is_finite())
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        self.partial_cmp(other)
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for Secret {
    const KIND: Kind = Kind::Secret;

    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Path;

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }
}

impl Value for Duration {
    const KIND: Kind = Kind::Duration;

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let seconds = match unit {
            "ms" => number / 1e3,
            "" | "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86_400.0,
            _ => return None,
        };
        Self::try_from_secs_f64(seconds).ok()
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Value for ByteSize {
    const KIND: Kind = Kind::Size;

    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = match unit.trim() {
            "" | "B" => 1,
            "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor).map(Self)
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Value + 'static> Value for Option<T> {
    const KIND: Kind = Kind::Optional(&T::KIND);

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        self.as_ref()?.order(other.as_ref()?)
    }
}

impl<T: Value + 'static> Value for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::new());
        }
        text.split(',').map(|item| T::parse(item.trim())).collect()
    }

    /// Holds each item against the range, which is written as one item.
    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match (low.first(), high.first()) {
            (Some(low), Some(high)) => self.iter().all(|item| item.is_within(low, high)),
            _ => true,
        }
    }
}

/// Splits "1.5h" into its number and its unit; `None` unless the number is plain decimal.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_counts_seconds() {
        let cases = [
            ("250ms", 250),
            ("30s", 30_000),
            ("30", 30_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
            ("1.5s", 1_500),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(Duration::parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_malformed_duration_is_refused() {
        for text in
            ["", "s", "-1s", "5 weeks", "1h30m", "inf", "NaN", "1e3s", "1.2.3s", "99999999999999999999999d"]
        {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_has_a_binary_or_a_decimal_unit_or_counts_bytes() {
        let cases = [("64MiB", 64 << 20), ("2GB", 2_000_000_000), ("512KiB", 512 << 10), ("7", 7), ("7B", 7)];
        for (text, bytes) in cases {
            assert_eq!(ByteSize::parse(text).map(ByteSize::bytes), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "64mib", "99999999999GiB"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_prints_in_its_largest_whole_unit() {
        for text in ["64MiB", "1GiB", "1000B", "512KiB", "0B"] {
            assert_eq!(ByteSize::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{:?}", Some(secret)), "Some(***)");
    }

    #[test]
    fn empty_text_is_no_value_of_an_option_and_no_item_of_a_list() {
        assert_eq!(Option::<u64>::parse(""), Some(None));
        assert_eq!(Option::<u64>::parse("7"), Some(Some(7)));
        assert_eq!(Option::<u64>::parse("x"), None);
        assert_eq!(Vec::<u64>::parse(""), Some(vec![]));
        assert_eq!(Vec::<u64>::parse("1, 2,3"), Some(vec![1, 2, 3]));
        assert_eq!(Vec::<u64>::parse("1,,3"), None);
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        assert_eq!(f64::parse("0.25"), Some(0.25));
        for text in ["inf", "NaN", "-inf", "1e999"] {
            assert_eq!(f64::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_holds_for_each_item_and_for_the_value_of_an_option() {
        assert!(vec![1_u64, 5].is_within(&vec![1], &vec![5]));
        assert!(!vec![1_u64, 6].is_within(&vec![1], &vec![5]));
        assert!(!Some(9_u64).is_within(&Some(1), &Some(5)));
        assert!(None::<u64>.is_within(&Some(1), &Some(5)));
    }
}
