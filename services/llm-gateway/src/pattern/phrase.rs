//! The text of an answer, with places for values: `The APR is {apr} %, against {apr_mean_30d} %.`

use std::collections::BTreeMap;

/// The place that takes the observation's subject.
const SUBJECT: &str = "subject";

/// An answer with its places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phrase(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(String),
}

impl Phrase {
    /// Reads a text; `{{` and `}}` stand for the brackets themselves.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(place) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(place);
            plain.push_str(before);
            if let Some(after) = after.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = after.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else {
                let named = after.strip_prefix('{').and_then(|after| after.split_once('}'));
                let (name, after) = named.ok_or("the answer has a bracket without its other half")?;
                if name.is_empty() || name.contains('{') {
                    return Err("the answer has a place without a name".into());
                }
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Value(name.to_owned()));
                rest = after;
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }

    /// Returns the names of the values it shows.
    pub(super) fn reads(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(name) if name != SUBJECT => Some(name.as_str()),
            _ => None,
        })
    }

    /// Returns the answer; a value that is not known shows as `?`.
    pub(super) fn fill(&self, subject: &str, values: &BTreeMap<String, f64>) -> String {
        self.0.iter().fold(String::new(), |filled, piece| match piece {
            Piece::Text(text) => filled + text,
            Piece::Value(name) if name == SUBJECT => filled + subject,
            Piece::Value(name) => {
                filled + &values.get(name).map_or_else(|| "?".into(), |value| shown(*value))
            }
        })
    }
}

/// Writes a figure for people: three digits that count, whole from 100 on, with commas from 1,000 on.
fn shown(value: f64) -> String {
    let size = value.abs();
    if size >= 1e15 {
        return format!("{value:.3e}");
    }
    if size >= 99.95 {
        return grouped(value.round());
    }
    if size < 5e-5 {
        return if size == 0.0 { "0".into() } else { format!("{value:.2e}") };
    }
    let places = if size >= 9.995 {
        1
    } else if size >= 0.9995 {
        2
    } else {
        4
    };
    let text = format!("{value:.places$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Phrase, shown};

    #[test]
    fn figures_are_written_as_people_read_them() {
        let figures = [
            (0.0, "0"),
            (0.00001, "1.00e-5"),
            (0.01234, "0.0123"),
            (0.5, "0.5"),
            (3.24159, "3.24"),
            (9.996, "10"),
            (31.0, "31"),
            (31.26, "31.3"),
            (99.96, "100"),
            (815.4, "815"),
            (1_234_567.8, "1,234,568"),
            (-12_000.0, "-12,000"),
            (1e18, "1.000e18"),
        ];
        for (value, text) in figures {
            assert_eq!(shown(value), text, "{value}");
        }
    }

    #[test]
    fn places_take_values_and_the_subject() {
        let phrase = Phrase::parse("{subject}: {apr} % {{not {x}}}").unwrap();
        assert_eq!(phrase.reads().collect::<Vec<_>>(), ["apr", "x"]);
        assert_eq!(phrase.fill("A/B", &[("apr".to_owned(), 31.0)].into()), "A/B: 31 % {not ?}");
    }

    #[test]
    fn a_torn_bracket_is_refused() {
        for text in ["{apr", "apr}", "{}", "{a{b}"] {
            assert!(Phrase::parse(text).is_err(), "{text}");
        }
        assert!(Phrase::parse("plain").unwrap().reads().next().is_none());
    }
}
