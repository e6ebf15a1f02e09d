//! What was wrong with the settings, all of it at once.

use std::fmt;

use crate::Origin;

/// One thing that is wrong with the settings given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, flag or file it is about.
    pub name: String,
    /// The value given; `None` for a secret, for an unknown name (it may be a secret too) and where there is none.
    pub value: Option<String>,
    /// Where it was given.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong in a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value is not of the setting's type or lies outside its range; it must be this.
    Must(String),
    /// No setting has this name; the one nearest to it, if any is near.
    Unknown(Option<String>),
    /// The source could not be read, for this reason.
    Unreadable(String),
}

/// Everything that is wrong with the settings given, one [`Fault`] a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at the faults one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Adds the faults of `others` that are not here yet.
    pub fn merge(&mut self, others: Self) {
        for fault in others.0 {
            if !self.0.contains(&fault) {
                self.0.push(fault);
            }
        }
    }

    /// Returns `value` if nothing is wrong.
    ///
    /// # Errors
    /// These faults, if there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        if let Some(value) = &self.value {
            write!(out, " = {value:?}")?;
        }
        write!(out, " ({}): {}", self.origin, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Must(expected) => write!(out, "must be {expected}"),
            Self::Unknown(Some(nearest)) => write!(out, "no such setting, did you mean {nearest}?"),
            Self::Unknown(None) => out.write_str("no such setting"),
            Self::Unreadable(reason) => out.write_str(reason),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Returns the name nearest to `wrong`, if it is near enough to be meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let limit = (wrong.chars().count() / 3).max(1);
    names
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// Counts the letters to insert, delete or replace to make one word of the other (Levenshtein 1966).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letter_edits() {
        for (one, other, edits) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(one, other), edits, "{one} {other}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["memory_cache_size", "memory_cache_ttl", "llm_cache_size"];
        assert_eq!(nearest("memory_cache_siz", names.into_iter()).as_deref(), Some("memory_cache_size"));
        assert_eq!(nearest("weather", names.into_iter()), None);
    }

    #[test]
    fn merging_keeps_one_of_equal_faults() {
        let fault = Fault {
            name: "a".to_owned(),
            value: None,
            origin: Origin::Arguments,
            problem: Problem::Unknown(None),
        };
        let mut faults = Faults(vec![fault.clone()]);
        faults.merge(Faults(vec![fault]));
        assert_eq!(faults.to_string(), "a (command line): no such setting");
    }
}
