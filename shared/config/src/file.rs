//! Reads the file of settings: TOML, flat names, every value with its line.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use toml::de::{DeTable, DeValue};

use crate::{Fault, Faults, Origin, Problem};

/// A value in the file.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: String,
    /// The first line is 1.
    pub(crate) line: usize,
}

/// Reads all entries and all faults of a file; what is sound is returned although other lines are not.
pub(crate) fn parse(path: &Path, text: &str) -> (BTreeMap<String, Entry>, Faults) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults = Vec::new();
    let mut fault = |name: &str, offset: Option<usize>, problem: Problem| {
        let origin = Origin::File(path.to_owned(), offset.map(|offset| line_of(text, offset)));
        faults.push(Fault { name: name.to_owned(), value: None, origin, problem });
    };
    for error in &errors {
        fault("settings file", error.span().map(|span| span.start), Problem::Unreadable(reason(error)));
    }
    let mut entries = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let offset = key.span().start;
        match plain(value.get_ref()) {
            Some(text_of_value) => {
                let entry = Entry { value: text_of_value.into_owned(), line: line_of(text, offset) };
                entries.insert(key.get_ref().to_string(), entry);
            }
            // The recovering parser leaves holes where it reported an error: one fault for one mistake.
            None if errors.is_empty() => {
                let expected =
                    "one plain value or a list of them: setting names are flat, without sections".to_owned();
                fault(key.get_ref(), Some(offset), Problem::Must(expected));
            }
            None => {}
        }
    }
    (entries, Faults(faults))
}

/// Writes a value as a flag would give it; `None` for a table.
fn plain<'a>(value: &'a DeValue<'_>) -> Option<Cow<'a, str>> {
    match value {
        DeValue::String(text) => Some(Cow::Borrowed(text.as_ref())),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(Cow::Owned(number.to_string())),
            // Too large for any of our types: their own fault says what is expected.
            Err(_) => Some(Cow::Borrowed(number.as_str())),
        },
        DeValue::Float(number) => Some(Cow::Borrowed(number.as_str())),
        DeValue::Boolean(switch) => Some(Cow::Borrowed(if *switch { "true" } else { "false" })),
        DeValue::Datetime(moment) => Some(Cow::Owned(moment.to_string())),
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| plain(item.get_ref())).collect();
            Some(Cow::Owned(items?.join(",")))
        }
        DeValue::Table(_) => None,
    }
}

/// Says in which line, counted from 1, the TOML text of a file is malformed, and how.
#[must_use]
pub fn malformed(text: &str, error: &toml::de::Error) -> (usize, String) {
    (line_of(text, error.span().map_or(0, |span| span.start)), reason(error))
}

/// Returns the parser's message on one line.
fn reason(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(", ")
}

/// Returns the line, counted from 1, in which the byte at `offset` of a text lies.
#[must_use]
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_value_is_read_with_its_line() {
        let text = "# ours\na = 1_000\nb = \"text\"\nc = true\n\nd = 0.5\ne = [1, 2]\nf = 0x10\n";
        let (entries, faults) = parse(Path::new("x.toml"), text);
        assert!(faults.is_empty(), "{faults}");
        let found: Vec<_> =
            entries.iter().map(|(name, entry)| (name.as_str(), entry.value.as_str(), entry.line)).collect();
        let expected = [
            ("a", "1000", 2),
            ("b", "text", 3),
            ("c", "true", 4),
            ("d", "0.5", 6),
            ("e", "1,2", 7),
            ("f", "16", 8),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_section_is_refused_with_its_line() {
        let (entries, faults) = parse(Path::new("x.toml"), "a = 1\n[memory]\nb = 2\n");
        assert_eq!(entries.len(), 1);
        assert_eq!(faults.0.len(), 1);
        assert!(faults.to_string().starts_with("memory (x.toml:2): must be one plain value"), "{faults}");
    }

    #[test]
    fn broken_lines_are_all_reported() {
        let (_, faults) = parse(Path::new("x.toml"), "a = 1\nb = \nc = 2\na = 3\n");
        let lines: Vec<_> = faults.iter().map(|fault| fault.origin.to_string()).collect();
        assert!(lines.contains(&"x.toml:2".to_owned()) && lines.contains(&"x.toml:4".to_owned()), "{faults}");
    }
}
