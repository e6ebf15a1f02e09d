//! What a declaration says about one setting.

use std::fmt;

/// One declared setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Its name, the same in the file, in a flag and, in upper case after `ATHENA_`, in the environment.
    pub name: &'static str,
    /// Its documentation, as written, one line each.
    pub doc: &'static str,
    /// What its type accepts.
    pub kind: Kind,
    /// What its value counts.
    pub unit: &'static str,
    /// Its value where no source names it.
    pub default: &'static str,
    /// Smallest and largest allowed value.
    pub range: Option<(&'static str, &'static str)>,
    /// Its value in the profile `development`, if that has one.
    pub development: Option<&'static str>,
    /// Its value in the profile `production`, if that has one.
    pub production: Option<&'static str>,
}

/// What the text of a setting has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// Digits.
    Whole,
    /// Digits with or without a decimal point.
    Number,
    /// Any text.
    Text,
    /// Any text, never shown.
    Secret,
    /// A path of the file system.
    Path,
    /// An IPv4 or IPv6 address.
    Address,
    /// A number with `ms`, `s`, `m`, `h` or `d`; a plain number counts seconds.
    Duration,
    /// A number with `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`; a plain number counts bytes.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Nothing, or this.
    Optional(&'static Kind),
    /// Any number of these, with commas between.
    List(&'static Kind),
}

impl Setting {
    /// Makes a setting without a range and without a value of its own in either profile.
    #[must_use]
    pub const fn new(
        name: &'static str,
        doc: &'static str,
        kind: Kind,
        unit: &'static str,
        default: &'static str,
    ) -> Self {
        Self { name, doc, kind, unit, default, range: None, development: None, production: None }
    }

    /// Allows only the values from `low` to `high`, both included.
    #[must_use]
    pub const fn range(mut self, low: &'static str, high: &'static str) -> Self {
        self.range = Some((low, high));
        self
    }

    /// Gives it a value of its own in the profile `development`.
    #[must_use]
    pub const fn development(mut self, value: &'static str) -> Self {
        self.development = Some(value);
        self
    }

    /// Gives it a value of its own in the profile `production`.
    #[must_use]
    pub const fn production(mut self, value: &'static str) -> Self {
        self.production = Some(value);
        self
    }

    /// Returns the environment variable that stands for it: `ATHENA_` and its name in upper case.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", crate::sources::PREFIX, self.name.to_uppercase())
    }

    /// Says what a value of it has to be, with its range: "a whole number from 1 to 10".
    #[must_use]
    pub fn expected(&self) -> String {
        match self.range {
            Some((low, high)) => format!("{} from {low} to {high}", self.kind),
            None => self.kind.to_string(),
        }
    }
}

impl Kind {
    /// Returns whether values of this kind must not be shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        match self {
            Self::Secret => true,
            Self::Optional(inner) | Self::List(inner) => inner.is_secret(),
            _ => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => out.write_str("true or false"),
            Self::Whole => out.write_str("a whole number"),
            Self::Number => out.write_str("a number"),
            Self::Text => out.write_str("text"),
            Self::Secret => out.write_str("a secret text"),
            Self::Path => out.write_str("a path"),
            Self::Address => out.write_str("an IP address"),
            Self::Duration => out.write_str("a duration such as 250ms, 30s, 15m, 24h or 7d"),
            Self::Size => out.write_str("a size such as 512KiB, 64MiB or 1GiB"),
            Self::Choice(words) => write!(out, "one of {}", words.join(", ")),
            Self::Optional(inner) => write!(out, "empty or {inner}"),
            Self::List(inner) => write!(out, "a comma-separated list, each {inner}"),
        }
    }
}
