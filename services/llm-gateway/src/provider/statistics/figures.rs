//! Statistics of the numbers in a text.

use super::{OUTLIER_Z, Spread, figure};

/// Describes the numbers in `text`.
pub(super) fn describe(text: &str) -> String {
    let numbers = numbers(text);
    let Some(spread) = Spread::of(numbers.clone()) else {
        return "the message holds no numbers, and nothing else can be answered without a language model."
            .into();
    };
    let outliers: Vec<_> = numbers
        .iter()
        .filter(|value| spread.z(**value).abs() > OUTLIER_Z)
        .take(5)
        .map(|value| figure(*value))
        .collect();
    let outliers = if outliers.is_empty() { "none".into() } else { outliers.join(", ") };
    format!(
        "the question was not read. Numbers in the message: n = {}, min {}, quartiles {} and {}, median {}, mean {}, max {}, \
         robust standard deviation {}; outliers (beyond {OUTLIER_Z} of them): {outliers}.",
        spread.count(),
        figure(spread.quantile(0.0)),
        figure(spread.quantile(0.25)),
        figure(spread.quantile(0.75)),
        figure(spread.median()),
        figure(spread.mean()),
        figure(spread.quantile(1.0)),
        figure(spread.scale()),
    )
}

/// Finds the numbers of a text: digits with an optional sign, fraction, exponent and commas between thousands. Digits inside a
/// word (`v2`, an address) are no number.
fn numbers(text: &str) -> Vec<f64> {
    text.split(|c: char| c.is_whitespace() || "()[]{}:;=<>|\"'".contains(c)).filter_map(number).collect()
}

fn number(word: &str) -> Option<f64> {
    let word = word.trim_start_matches('$').trim_end_matches(['.', ',', '%', '!', '?', '$']);
    if !word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    word.replace(',', "").parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::{describe, numbers};

    #[test]
    fn numbers_are_found_and_words_are_not() {
        let found = numbers("apr=25.5%, tvl: $1,200,000 (was -3e2); v2, 0xAB, uniswap-v3, inf. +7!");
        assert_eq!(found, [25.5, 1_200_000.0, -300.0, 7.0]);
    }

    #[test]
    fn a_text_without_numbers_gets_no_invented_answer() {
        assert!(describe("what is love").contains("no numbers"));
    }

    #[test]
    fn outliers_are_named() {
        assert!(describe("1 2 3 2 1 2 3 900").contains("): 900."));
        assert!(describe("1 2 3").contains("): none."));
    }
}
